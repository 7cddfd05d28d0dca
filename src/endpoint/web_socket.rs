//! From the bytes of a WebSocket to messages.

use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use super::channel_log::Place;
use crate::connection::{ConnectionId, State};
use crate::fault::Fault;
use crate::guard;
use crate::limits::Limits;
use crate::phoenix::{HeartbeatRef, Serializer, Undecodable};
use crate::ws::{self, Control, Data, Input, Message, OpCode};

/// A message of a WebSocket without Phoenix on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainMessage<'m> {
    /// A text message.
    Text(&'m str),
    /// A binary message.
    Binary(&'m [u8]),
}

/// The handler of a plain WebSocket: messages in, messages out (RFC 6455, without channels).
pub trait PlainSocket: Send + Sync + 'static {
    /// A client's message has come; `send` queues messages to that client. A panic closes the WebSocket with code 1011,
    /// behind the messages that were queued.
    fn handle(&self, message: PlainMessage<'_>, send: &mut dyn FnMut(PlainMessage<'_>));
}

impl Endpoint {
    pub(super) fn read_web_socket(&mut self, id: ConnectionId, bytes: &mut [u8], now: Instant) {
        let idle_timeout = self.config.limits.idle_timeout;
        let Some(connection) = self.connection(id) else { return };
        let State::WebSocket(web_socket) = &mut connection.state else { return };
        let mut decoder = std::mem::take(&mut web_socket.decoder);
        if !web_socket.closing {
            self.deadlines.set(id.slot, now, idle_timeout);
        }
        let limits = Arc::clone(&self.config.limits);
        let mut input = Input::new(bytes);
        loop {
            match decoder.decode(&mut input, &limits) {
                Ok(Some(message)) => self.handle_message(id, message, &limits, now),
                Ok(None) => break,
                Err(error) => {
                    self.fail_frame(id.slot, error, now);
                    return;
                }
            }
            if !self.connection(id).is_some_and(|connection| matches!(connection.state, State::WebSocket(_)))
            {
                return;
            }
        }
        if let Some(State::WebSocket(web_socket)) =
            self.connection(id).map(|connection| &mut connection.state)
        {
            web_socket.decoder = decoder;
        }
    }

    /// The bytes can't be followed any more. A peer that was being closed already gets no second close frame.
    fn fail_frame(&mut self, slot: u32, error: ws::ProtocolError, now: Instant) {
        self.fail(slot, Fault::Frame(error), now);
        let state = self.by_slot(slot).map(|connection| &connection.state);
        if matches!(state, Some(State::WebSocket(_))) {
            self.finish(slot, now);
        }
    }

    fn handle_message(&mut self, id: ConnectionId, message: Message<'_>, limits: &Limits, now: Instant) {
        let Some(connection) = self.connection(id) else { return };
        let State::WebSocket(web_socket) = &connection.state else { return };
        let (closing, plain, serializer) =
            (web_socket.closing, web_socket.plain, web_socket.socket.serializer);
        if closing && !matches!(message, Message::Close(_)) {
            return;
        }
        let mut scratch = String::new();
        let decoded = match message {
            Message::Close(frame) => {
                return self.closed_by_client(id.slot, frame.map(|frame| frame.code), now);
            }
            Message::Ping(payload) => return self.pong(id.slot, payload, now),
            Message::Pong(payload) => return self.handle_pong(id.slot, payload),
            Message::Text(text) if plain => return self.handle_plain(id.slot, PlainMessage::Text(text), now),
            Message::Binary(bytes) if plain => {
                return self.handle_plain(id.slot, PlainMessage::Binary(bytes), now);
            }
            Message::Text(text) => match serializer.heartbeat_ref(text, limits) {
                Some(reference) => return self.answer_heartbeat(id.slot, serializer, reference, now),
                None => serializer.decode_text(text, limits),
            },
            Message::Binary(bytes) => serializer.decode_binary(bytes, &mut scratch, limits),
        };
        self.stats.messages_in += 1;
        match decoded {
            Ok(message) => self.dispatch(id, &message, now),
            Err(Undecodable::Refused(refused)) => self.refuse_message(id.slot, &refused, now),
            Err(Undecodable::Unreadable(error)) => self.fail(id.slot, Fault::Message(error), now),
        }
    }

    /// Answers a heartbeat that was known by its bytes.
    fn answer_heartbeat(
        &mut self,
        slot: u32,
        serializer: Serializer,
        reference: HeartbeatRef<'_>,
        now: Instant,
    ) {
        self.stats.messages_in += 1;
        self.stats.heartbeats += 1;
        self.stats.messages_out += 1;
        let len = serializer.heartbeat_reply_len(reference);
        let header = ws::header(OpCode::Data(Data::Text), len);
        let header = header.as_slice();
        self.queue_frame(slot, header.len() + len, |out| {
            out.extend_from_slice(header);
            serializer.encode_heartbeat_reply(out, reference);
        });
        self.check_outbox(slot, now);
    }

    fn pong(&mut self, slot: u32, payload: &[u8], now: Instant) {
        let waiting_max = self.config.limits.pongs_waiting_max;
        let mut frame = Vec::with_capacity(2 + payload.len());
        ws::write_frame(&mut frame, OpCode::Control(Control::Pong), payload);
        let Some(connection) = self.by_slot(slot) else { return };
        let State::WebSocket(web_socket) = &mut connection.state else { return };
        // RFC 6455 section 5.5.3: a pong may answer the most recent ping alone. The last pong may be partly sent,
        // though, or whole while what is behind it waits.
        if usize::from(web_socket.pongs_waiting) >= waiting_max && connection.outbox.replace_pong(&frame) {
            self.stats.pongs_coalesced += 1;
            return;
        }
        web_socket.pongs_waiting = web_socket.pongs_waiting.saturating_add(1);
        self.mark_topics(slot);
        if let Some(connection) = self.by_slot(slot) {
            connection.outbox.push_pong(frame.into_boxed_slice());
        }
        self.queue(slot);
        self.check_outbox(slot, now);
    }

    fn handle_plain(&mut self, slot: u32, message: PlainMessage<'_>, now: Instant) {
        self.stats.messages_in += 1;
        let Some((path, handler)) = self.config.plain.clone() else { return };
        let mut send = |answer: PlainMessage<'_>| {
            let mut frame = Vec::new();
            match answer {
                PlainMessage::Text(text) => {
                    ws::write_frame(&mut frame, OpCode::Data(Data::Text), text.as_bytes());
                }
                PlainMessage::Binary(bytes) => ws::write_frame(&mut frame, OpCode::Data(Data::Binary), bytes),
            }
            self.queue_bytes(slot, frame.into_boxed_slice().into());
        };
        if let Err(panicked) = guard::call(|| handler.handle(message, &mut send)) {
            let place = Place { code: "PlainSocket::handle", topic: &path, event: None, identity: None };
            self.note_crash(&place, &panicked.to_string(), now);
            return self.fail(slot, Fault::Crashed, now);
        }
        self.check_outbox(slot, now);
    }
}
