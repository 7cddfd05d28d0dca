//! POSTs of long-poll: from the bytes of a body to messages.

use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use super::http::{Next, text};
use crate::connection::{BodyOf, ConnectionId, State};
use crate::fault::Fault;
use crate::http::{self, Request};
use crate::longpoll::{self, Batch, Line, Status};

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
        let batch = Batch::of(request.headers.get("content-type").map(text));
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

    /// The body of a POST is whole.
    pub(super) fn handle_post(
        &mut self,
        id: ConnectionId,
        session_id: ConnectionId,
        batch: Batch,
        bytes: &[u8],
        now: Instant,
    ) -> Next {
        let lines_max = self.config.limits.poll_messages_max;
        let messages = match batch.messages(bytes, lines_max) {
            Ok(messages) => messages,
            Err(error) => {
                self.refuse_post(id, error.status(), error.reason());
                return Next::Close;
            }
        };
        let mut answer = Status::Ok;
        let mut reason = None;
        for message in messages {
            let Some(session) = self.session_mut(session_id) else {
                answer = Status::Gone;
                break;
            };
            let serializer = session.socket.serializer;
            self.stats.messages_in += 1;
            let limits = Arc::clone(&self.config.limits);
            let too_long = |len: usize| len > limits.message_bytes_max;
            let decoded = match &message {
                Line::Text(text) if too_long(text.len()) => {
                    Err(Fault::Frame(crate::ws::ProtocolError::MessageTooLong))
                }
                Line::Binary(data) if too_long(data.len()) => {
                    Err(Fault::Frame(crate::ws::ProtocolError::MessageTooLong))
                }
                Line::Text(text) => serializer.decode_text(text, &limits).map_err(Fault::Message),
                Line::Binary(data) => serializer.decode_binary(data, &limits).map_err(Fault::Message),
            };
            match decoded {
                Ok(message) => self.dispatch(session_id, &message, now),
                Err(fault) => {
                    reason = Some(fault.reason());
                    answer = Status::RequestTimeout;
                    self.fail(session_id.slot, fault, now);
                    break;
                }
            }
        }
        let Some(State::Http(http)) = self.connection(id).map(|connection| &connection.state) else {
            return Next::Close;
        };
        let keep_alive = http.keep_alive;
        self.answer_status(id, answer, reason, keep_alive);
        Next::after(keep_alive)
    }
}
