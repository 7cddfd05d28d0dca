//! POSTs of long-poll: from the bytes of a body to messages.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use super::http::Next;
use crate::connection::{BodyOf, ConnectionId, State};
use crate::http::{self, Request};
use crate::longpoll::{self, Batch, Line, LineError, Status, TooManyLines};
use crate::phoenix::Undecodable;

impl Endpoint {
    /// The head of a POST has come: its body is read next.
    pub(super) fn begin_post(
        &mut self,
        id: ConnectionId,
        request: &Request<'_>,
        session: ConnectionId,
        now: Instant,
    ) -> Next {
        self.stats.posts += 1;
        let batch = Batch::of(request.headers.get("content-type"));
        // This request's body is read, so it does not end the connection.
        let keep_alive = request.keep_alive && !self.draining;
        self.begin_body(id, request, BodyOf::Poll { session, batch }, keep_alive, now)
    }

    /// Refuses a body, or what is in it; the session lives.
    pub(super) fn refuse_post(&mut self, id: ConnectionId, status: http::Status, reason: &str) {
        self.stats.http_refused += 1;
        let mut bytes = Vec::new();
        longpoll::write_status(&mut bytes, status, status.code(), Some(reason), false);
        self.queue_bytes(id.slot, bytes.into_boxed_slice().into());
    }

    /// The body of a POST is whole. Each of its messages is handled by itself, as if it had come alone: one that can't be
    /// read costs neither those around it nor the session, and the answer says which it was.
    pub(super) fn handle_post(
        &mut self,
        id: ConnectionId,
        session: ConnectionId,
        batch: Batch,
        bytes: &[u8],
        now: Instant,
    ) -> Next {
        let Ok(lines) = batch.messages(bytes, self.config.limits.poll_messages_max) else {
            self.refuse_post(id, TooManyLines::STATUS, TooManyLines::REASON);
            return Next::Close;
        };
        let mut refused = None;
        let mut count = Lines::default();
        for (number, line) in lines {
            count.all += 1;
            match self.handle_line(session, line, now) {
                Handled::Done => {}
                Handled::Refused(reason) => {
                    self.stats.lines_refused += 1;
                    count.refused += 1;
                    refused.get_or_insert((number, reason));
                }
                Handled::SessionGone => {
                    refused = None;
                    count.gone = true;
                    break;
                }
            }
        }
        let Some(State::Http(http)) = self.connection(id).map(|connection| &connection.state) else {
            return Next::Close;
        };
        let keep_alive = http.keep_alive;
        match refused {
            Some((number, reason)) => {
                let reason = count.describe(batch, number, &reason);
                let mut answer = Vec::new();
                let status = http::Status::BadRequest;
                longpoll::write_status(&mut answer, status, status.code(), Some(&reason), keep_alive);
                self.queue_bytes(id.slot, answer.into_boxed_slice().into());
            }
            None => {
                let status = if count.gone { Status::Gone } else { Status::Ok };
                self.answer_status(id, status, None, keep_alive);
            }
        }
        Next::after(keep_alive)
    }

    /// Handles one message of a session.
    fn handle_line(&mut self, id: ConnectionId, line: Result<Line<'_>, LineError>, now: Instant) -> Handled {
        let Some(session) = self.session_mut(id) else { return Handled::SessionGone };
        let serializer = session.socket.serializer;
        self.stats.messages_in += 1;
        let limits = Arc::clone(&self.config.limits);
        let line = match line {
            Ok(line) => line,
            Err(error) => return Handled::Refused(error.reason().into()),
        };
        let mut scratch = String::new();
        let decoded = match &line {
            _ if line.len() > limits.message_bytes_max => {
                return Handled::Refused("the message is too long (limit message_bytes_max)".into());
            }
            Line::Text(text) => serializer.decode_text(text, &limits),
            Line::Binary(data) => serializer.decode_binary(data, &mut scratch, &limits),
        };
        match (decoded, &line) {
            (Ok(message), _) => {
                self.dispatch(id, &message, now);
                Handled::Done
            }
            (Err(Undecodable::Refused(refused)), _) => {
                self.refuse_message(id.slot, &refused, now);
                Handled::Done
            }
            (Err(Undecodable::Unreadable(error)), Line::Text(_)) => Handled::Refused(error.reason().into()),
            // It may have been meant as JSON: what begins otherwise than a message does is base64 by accident.
            (Err(Undecodable::Unreadable(error)), Line::Binary(_)) => Handled::Refused(
                format!("read as base64, since it begins with neither [ nor {{: {}", error.reason()).into(),
            ),
        }
    }
}

/// What has become of a message of a POST.
enum Handled {
    Done,
    /// It is none, for this reason.
    Refused(Cow<'static, str>),
    /// There is no session any more.
    SessionGone,
}

/// How many messages a POST had.
#[derive(Default)]
struct Lines {
    all: usize,
    refused: usize,
    gone: bool,
}

impl Lines {
    /// What is wrong with a body whose first line that is no message has this number, and what has become of the rest.
    fn describe(&self, batch: Batch, number: usize, reason: &str) -> String {
        let mut text = match batch {
            Batch::Single => reason.to_owned(),
            Batch::Lines => format!("line {number}: {reason}"),
        };
        if self.refused > 1 {
            text.push_str(&format!("; {} lines were refused", self.refused));
        }
        match self.all - self.refused {
            0 => {}
            1 => text.push_str("; the other one was handled"),
            others => text.push_str(&format!("; the other {others} were handled")),
        }
        text
    }
}
