//! Requests that are answered outside the loop: they leave it whole, with a ticket, and the answer comes back with the
//! ticket.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Instant;

use super::Endpoint;
use super::http::Next;
use crate::connection::{Body, BodyOf, Calling, ConnectionId, State};
use crate::http::{Method, Request, Response, Status, path};
use crate::service::{ServiceReply, ServiceRequest};

/// Names the request that an answer is for.
#[derive(Debug)]
pub struct CallTicket {
    id: ConnectionId,
    serial: u32,
    bytes: usize,
}

impl CallTicket {
    /// The connection that the request came by.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.id
    }
}

/// The requests that are outside.
#[derive(Default)]
pub(super) struct Calls {
    queue: VecDeque<(CallTicket, ServiceRequest)>,
    /// Answers that have not come yet.
    out: usize,
    /// Bytes of all bodies, from their first byte to the answer.
    bytes: usize,
    serial: u32,
}

/// Why a body is not read on.
type Refused = (Status, &'static str);

impl Endpoint {
    /// A request for the service. To be called until `None` after each batch of events; each ticket has to be given
    /// back to [`handle_reply`](Self::handle_reply), sooner or later.
    pub fn poll_call(&mut self) -> Option<(CallTicket, ServiceRequest)> {
        self.calls.queue.pop_front()
    }

    /// The answer to a request. Its client may have gone meanwhile; then nothing happens.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is good once")]
    pub fn handle_reply(&mut self, ticket: CallTicket, reply: &ServiceReply, now: Instant) {
        let CallTicket { id, serial, bytes } = ticket;
        self.calls.out -= 1;
        self.release(bytes);
        self.answer_call(id, Some(serial), reply, now);
        self.run_work(now);
        self.check_invariants();
    }

    /// The head of a request for the service has come: its body, if it has one, is read next.
    pub(super) fn begin_call(
        &mut self,
        id: ConnectionId,
        request: &Request<'_>,
        keep_alive: bool,
        now: Instant,
    ) -> Next {
        let peer = self.connection(id).map_or(IpAddr::from([0; 4]), |connection| connection.peer_address());
        let headers = request.headers.iter();
        let whole = ServiceRequest {
            method: request.method,
            path: path::canonical(request.path).into_owned(),
            query: request.query.to_owned(),
            headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
            body: Vec::new(),
            peer,
            local: None,
        };
        self.begin_body(id, request, BodyOf::Call(Box::new(whole)), keep_alive, now)
    }

    /// Counts the bytes by which a body has grown, if they are a request's for the service.
    pub(super) fn hold(&mut self, body: &Body, before: usize) -> Result<(), Refused> {
        let grown = body.call_bytes().saturating_sub(before);
        if grown > 0 && self.calls.bytes + grown > self.config.limits.request_bytes_held_max {
            self.stats.calls_refused += 1;
            return Err((Status::ServiceUnavailable, "too much waits (request_bytes_held_max)"));
        }
        self.calls.bytes += grown;
        Ok(())
    }

    /// The bytes of a body are not held any more.
    pub(super) fn release(&mut self, bytes: usize) {
        self.calls.bytes = self.calls.bytes.saturating_sub(bytes);
    }

    /// Refuses a request before the service has seen it.
    pub(super) fn refuse_call(&mut self, id: ConnectionId, status: Status, reason: &str) {
        self.stats.http_refused += 1;
        let text = format!("{reason}\n");
        let response = Response::text(status, &text);
        let response =
            if status == Status::ServiceUnavailable { response.header("retry-after", "1") } else { response };
        self.respond(id, &response, false, false);
    }

    /// Has the service answer a request that is whole.
    pub(super) fn call_service(&mut self, id: ConnectionId, request: ServiceRequest, now: Instant) -> Next {
        let limits = &self.config.limits;
        let request_timeout = limits.request_timeout;
        let bytes = request.body.len();
        if self.calls.out >= limits.requests_waiting_max {
            self.stats.calls_refused += 1;
            self.release(bytes);
            self.refuse_call(id, Status::ServiceUnavailable, "too many wait (requests_waiting_max)");
            return Next::Close;
        }
        self.calls.serial = self.calls.serial.wrapping_add(1);
        let serial = self.calls.serial;
        let head_only = request.method == Method::Head;
        let Some(State::Http(http)) = self.connection(id).map(|connection| &mut connection.state) else {
            self.release(bytes);
            return Next::Close;
        };
        http.calling = Some(Calling { serial, head_only });
        self.deadlines.set(id.slot, now, request_timeout);
        self.stats.calls += 1;
        self.calls.out += 1;
        self.calls.queue.push_back((CallTicket { id, serial, bytes }, request));
        Next::Parked
    }

    /// Nobody has answered in time.
    pub(super) fn expire_call(&mut self, id: ConnectionId, now: Instant) {
        self.stats.calls_timed_out += 1;
        let reply = ServiceReply::new(Status::ServiceUnavailable)
            .header("retry-after", "1")
            .body("text/plain; charset=utf-8", b"no answer in time (request_timeout)\n".as_slice());
        self.answer_call(id, None, &reply, now);
    }

    /// Answers a request that waits for the service. `serial` tells it from a later one of its connection.
    fn answer_call(&mut self, id: ConnectionId, serial: Option<u32>, reply: &ServiceReply, now: Instant) {
        let draining = self.draining;
        let Some(State::Http(http)) = self.connection(id).map(|connection| &mut connection.state) else {
            return;
        };
        let is_same = |calling: &mut Calling| serial.is_none_or(|serial| calling.serial == serial);
        let Some(Calling { head_only, .. }) = http.calling.take_if(is_same) else { return };
        http.keep_alive &= !draining;
        let keep_alive = http.keep_alive;
        let mut response = Response::new(reply.status);
        for (name, value) in &reply.headers {
            response = response.header(name, value);
        }
        self.respond(id, &response.with_body(&reply.body), keep_alive, head_only);
        self.after_poll(id, now);
    }
}
