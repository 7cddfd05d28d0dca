//! How channels, WebSockets and connections end.

use std::sync::Arc;
use std::time::Instant;

use tracing::debug;

use super::Endpoint;
use super::apply::Joined;
use crate::channel::Ended;
use crate::connection::{Bytes, Connection, ConnectionId, Entry, State};
use crate::fault::Fault;
use crate::hub::{Position, StreamKey, TopicId};
use crate::socket::{Join, Socket};
use crate::ws::{self, CloseCode, Control, OpCode};

/// What becomes of the broadcasts that a subscriber has not got when its subscription ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// They are sent before what follows.
    Keep,
    /// Only a frame that is partly sent is completed.
    Partial,
}

impl Endpoint {
    /// Ends the subscription of a joined channel and takes the channel out of the socket.
    pub(super) fn remove_join(&mut self, slot: u32, topic: TopicId, rest: Rest) -> Option<(Join, Joined)> {
        let connection = self.connections.get_mut(slot as usize)?;
        let socket = connection.socket_mut()?;
        let key = StreamKey { topic, form: socket.form };
        let join = socket.joins.remove(topic)?;
        let id = ConnectionId { slot, generation: connection.generation };
        let joined = self.joined(id, join.topic, join.serial);
        match rest {
            Rest::Keep => self.materialise(slot, key, join.index),
            Rest::Partial => self.complete_frame(slot, key, join.index),
        }
        if let Some(connection) = self.by_slot(slot) {
            connection.outbox.unmark(topic);
        }
        self.unsubscribe(key, join.index);
        Some((join, joined))
    }

    pub(super) fn unsubscribe(&mut self, key: StreamKey, index: u32) {
        if let Some(moved) = self.hub.unsubscribe(key, index)
            && let Some(socket) = self.by_slot(moved).and_then(|connection| connection.socket_mut())
            && let Some(join) = socket.joins.by_topic_mut(key.topic)
        {
            join.index = index;
        }
    }

    /// Copies what the outbox names of a topic's log, and what is behind it, into the outbox: the cursor that
    /// named it is about to go.
    fn materialise(&mut self, slot: u32, key: StreamKey, index: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let Some(stream) = self.hub.stream_ref(key) else { return };
        let mut cursor = stream.cursor(index);
        let goes_on = stream.log.frame_end(cursor) > cursor;
        let blocked = connection.blocked;
        let copy = |from: Position, to: Position| {
            let bytes: Vec<u8> = stream.log.pieces(from, to).flatten().copied().collect();
            let bytes = bytes.into_boxed_slice();
            Entry::Frame(if blocked { Bytes::Owned(bytes) } else { Bytes::Copied(bytes) })
        };
        connection.outbox.rewrite(|entry, out| match entry {
            Entry::Until { topic, position } if topic == key.topic => {
                if position > cursor {
                    out.push(copy(cursor, position));
                    cursor = position;
                }
            }
            Entry::Skip { topic, position } if topic == key.topic => cursor = cursor.max(position),
            // The topic's id may soon be that of another.
            Entry::Frame(Bytes::Gap(gap)) if gap.topic == key.topic => {
                out.push(Entry::Frame(Bytes::Owned(gap.frame)));
            }
            other => out.push(other),
        });
        let end = stream.log.end();
        if cursor < end {
            connection.outbox.push(copy(cursor, end));
        }
        if goes_on {
            connection.outbox.go_on();
        }
        if cursor < end {
            self.queue(slot);
        }
    }

    /// Keeps the rest of a frame that is partly sent.
    fn complete_frame(&mut self, slot: u32, key: StreamKey, index: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let Some(stream) = self.hub.stream_ref(key) else { return };
        let cursor = stream.cursor(index);
        let end = stream.log.frame_end(cursor);
        if end > cursor {
            let rest: Vec<u8> = stream.log.pieces(cursor, end).flatten().copied().collect();
            connection.outbox.put_rest(rest.into_boxed_slice());
        }
    }

    /// Ends all channels of a socket whose connection is ending.
    pub(super) fn leave_all(&mut self, slot: u32, rest: Rest, now: Instant) {
        if rest == Rest::Partial
            && let Some(connection) = self.by_slot(slot)
        {
            connection.outbox.keep_partial();
            let id = ConnectionId { slot, generation: connection.generation };
            self.direct.discard(id);
        }
        let socket = self.connections.get(slot as usize).and_then(|connection| connection.socket());
        self.users.remove(slot, socket.and_then(|socket| socket.identity.as_deref()), &self.connections);
        self.lose_receipts(slot);
        loop {
            let socket = self.by_slot(slot).and_then(|connection| connection.socket());
            let Some(topic) = socket.and_then(|socket| socket.joins.last_topic()) else { return };
            let Some((join, joined)) = self.remove_join(slot, topic, rest) else { return };
            self.terminate(&joined, join.assigns, Ended::Disconnected, now);
        }
    }

    /// Ends a WebSocket because of a fault, with a close frame that says which.
    pub(super) fn fail(&mut self, slot: u32, fault: Fault, now: Instant) {
        let Some(connection) = self.by_slot(slot) else { return };
        match &mut connection.state {
            State::WebSocket(web_socket) if !web_socket.closing => web_socket.closing = true,
            // It has ended already, and waits for its client to hear the rest.
            State::Session(session) if session.closing && fault != Fault::Shutdown => return,
            State::Session(_) => return self.fail_session(slot, fault, now),
            _ => return,
        }
        debug!(slot, ?fault, "closing a WebSocket");
        fault.count(&mut self.stats);
        let rest = self.rest_after(slot, fault);
        self.leave_all(slot, rest, now);
        self.queue_close(slot, fault.close_code(), fault.reason());
        if matches!(fault, Fault::Frame(_) | Fault::Message(_)) {
            self.finish(slot, now);
        } else {
            self.deadlines.set(slot, now, self.config.limits.close_timeout);
        }
    }

    /// What a client that is closed because of `fault` still gets. Whatever it is becomes a copy of its own,
    /// and there may be as many such clients as connections.
    fn rest_after(&self, slot: u32, fault: Fault) -> Rest {
        let Some(connection) = self.connections.get(slot as usize) else { return Rest::Partial };
        let keep = match fault {
            Fault::SlowReader | Fault::Stalled | Fault::OutboxFull => false,
            Fault::Shutdown => self.waiting_bytes(connection) <= self.config.limits.outbox_bytes_max,
            // Nothing leaves after the decision that a client may be here no longer.
            Fault::TokenExpired | Fault::KeyRemoved | Fault::OtherUser | Fault::Denied => false,
            Fault::Frame(_)
            | Fault::Message(_)
            | Fault::Idle
            | Fault::Crashed
            | Fault::Disconnected
            | Fault::StayAway => !connection.blocked,
        };
        if keep { Rest::Keep } else { Rest::Partial }
    }

    /// Bytes that a connection has still to be sent.
    pub(super) fn waiting_bytes(&self, connection: &Connection) -> usize {
        let behind = connection.socket().into_iter().flat_map(|socket| {
            socket.joins.iter().filter_map(|join| {
                let stream = self.hub.stream_ref(StreamKey { topic: join.topic, form: socket.form })?;
                usize::try_from(stream.log.end() - stream.cursor(join.index)).ok()
            })
        });
        connection.outbox.held() + behind.sum::<usize>()
    }

    /// The client has sent a close frame.
    pub(super) fn closed_by_client(&mut self, slot: u32, code: Option<CloseCode>, now: Instant) {
        let Some(connection) = self.by_slot(slot) else { return };
        let blocked = connection.blocked;
        let State::WebSocket(web_socket) = &mut connection.state else { return };
        if !std::mem::replace(&mut web_socket.closing, true) {
            self.stats.closed_by_client += 1;
            self.leave_all(slot, if blocked { Rest::Partial } else { Rest::Keep }, now);
            let mut frame = Vec::new();
            match code {
                // RFC 6455 section 5.5.1: the answer usually echoes the status code.
                Some(code) => ws::write_close(&mut frame, code, ""),
                None => ws::write_frame(&mut frame, OpCode::Control(Control::Close), &[]),
            }
            self.queue_bytes(slot, frame.into_boxed_slice().into());
        }
        self.finish(slot, now);
    }

    fn queue_close(&mut self, slot: u32, code: CloseCode, reason: &str) {
        let mut frame = Vec::new();
        ws::write_close(&mut frame, code, reason);
        self.queue_bytes(slot, frame.into_boxed_slice().into());
    }

    /// Writes what is left, then ends the connection.
    pub(super) fn finish(&mut self, slot: u32, now: Instant) {
        let close_timeout = self.config.limits.close_timeout;
        let Some(connection) = self.by_slot(slot) else { return };
        let state = std::mem::replace(&mut connection.state, State::Finishing { answered: None });
        let id = ConnectionId { slot, generation: connection.generation };
        match state {
            State::WebSocket(_) => self.stats.web_sockets -= 1,
            State::Http(http) => {
                self.release(http.body.as_ref().map_or(0, |body| body.call_bytes()));
                if let Some(connection) = self.by_slot(slot) {
                    connection.state = State::Finishing { answered: http.answered };
                }
                self.unpark(id, http.parked, now);
            }
            State::Finishing { answered } | State::Lingering { answered } => {
                if let Some(connection) = self.by_slot(slot) {
                    connection.state = State::Finishing { answered };
                }
            }
            State::Session(_) | State::HandingOver(_) => {}
        }
        self.deadlines.set(slot, now, close_timeout);
        self.queue(slot);
    }

    /// Forgets a connection; its socket is closed as soon as the caller polls.
    pub(super) fn free(&mut self, slot: u32, now: Instant) {
        self.lose_receipts(slot);
        let Some(connection) = self.connections.remove(slot as usize) else { return };
        let id = ConnectionId { slot, generation: connection.generation };
        self.deadlines.unset(slot);
        self.stalls.remove(&slot);
        // A session has no socket that could be closed.
        if !matches!(connection.state, State::Session(_)) {
            self.closed.push_back(id);
        }
        let whole = connection.outbox.is_empty() && !connection.reset;
        match connection.state {
            State::WebSocket(web_socket) => {
                self.stats.web_sockets -= 1;
                self.end_socket(id, web_socket.socket, now);
            }
            State::Session(session) => {
                self.forget_session_peer(session.peer);
                self.end_socket(id, session.socket, now);
            }
            State::Http(http) => {
                self.release(http.body.as_ref().map_or(0, |body| body.call_bytes()));
                self.unpark(id, http.parked, now);
                self.settle_answered(http.answered, id, whole);
            }
            State::Finishing { answered } | State::Lingering { answered } => {
                self.settle_answered(answered, id, whole);
            }
            State::HandingOver(_) => {}
        }
        self.shrink();
    }

    /// Ends the channels of a socket whose connection is gone.
    fn end_socket(&mut self, id: ConnectionId, socket: Socket, now: Instant) {
        let form = socket.form;
        self.users.remove(id.slot, socket.identity.as_deref(), &self.connections);
        for join in socket.joins {
            let identity = socket.identity.clone();
            let joined = Joined { identity, ..self.joined(id, join.topic, join.serial) };
            self.unsubscribe(StreamKey { topic: join.topic, form }, join.index);
            self.terminate(&joined, join.assigns, Ended::Disconnected, now);
        }
    }

    /// Ends all connections, once the broadcasts under way are written: until then their bytes are shared,
    /// and a client that is closed gets a copy of its own.
    pub(super) fn drain_when_walked(&mut self, now: Instant) {
        let Some(last) = self.drain_after else { return };
        if self.taken < last || !self.hub.is_clean() {
            return;
        }
        self.drain_after = None;
        let is_session = |connection: &Connection| matches!(connection.state, State::Session(_));
        // Sessions first: that answers the polls which wait for them.
        for sessions in [true, false] {
            let slots = self.connections.iter().filter(|(_, connection)| is_session(connection) == sessions);
            let slots: Vec<usize> = slots.map(|(slot, _)| slot).collect();
            slots.into_iter().for_each(|slot| self.drain_connection(slot, now));
        }
    }

    fn drain_connection(&mut self, slot: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let Ok(slot) = u32::try_from(slot) else { return };
        match &connection.state {
            State::WebSocket(_) | State::Session(_) => self.fail(slot, Fault::Shutdown, now),
            State::HandingOver(_) => self.free(slot, now),
            // What it asks for may be done already: the answer, which ends the connection, says so.
            State::Http(http) if http.calling.is_some() => {}
            State::Http(_) if connection.outbox.is_empty() => self.free(slot, now),
            State::Http(_) => self.finish(slot, now),
            State::Finishing { .. } | State::Lingering { .. } => {}
        }
    }

    /// What a callback needs to know of a join, independent of where the join is now.
    pub(super) fn joined(&self, id: ConnectionId, topic: TopicId, serial: u32) -> Joined {
        let topic = self.hub.topic(topic);
        let route = self.config.router.route(topic.route);
        let (topic, channel) = (topic.name.clone(), Arc::clone(&*route.channel));
        Joined { id, serial, topic, channel, identity: self.identity(id).cloned() }
    }
}
