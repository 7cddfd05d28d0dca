//! A broadcast, encoded at most once for each wire form and shared by all shards.

use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::time::Instant;

use crate::channel::{PayloadBuf, SocketKey};
use crate::phoenix::{Kind, Serializer, write_json_string};
use crate::ws::{self, Control, Data, OpCode};

/// The bytes in which a subscriber gets a broadcast: a serializer inside a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum WireForm {
    WebSocketV1 = 0,
    WebSocketV2 = 1,
    LongPollV1 = 2,
    LongPollV2 = 3,
}

impl WireForm {
    pub(crate) const ALL: [Self; 4] =
        [Self::WebSocketV1, Self::WebSocketV2, Self::LongPollV1, Self::LongPollV2];

    pub(crate) const fn web_socket(serializer: Serializer) -> Self {
        match serializer {
            Serializer::V1 => Self::WebSocketV1,
            Serializer::V2 => Self::WebSocketV2,
        }
    }

    pub(crate) const fn long_poll(serializer: Serializer) -> Self {
        match serializer {
            Serializer::V1 => Self::LongPollV1,
            Serializer::V2 => Self::LongPollV2,
        }
    }

    const fn is_web_socket(self) -> bool {
        matches!(self, Self::WebSocketV1 | Self::WebSocketV2)
    }

    const fn serializer(self) -> Serializer {
        match self {
            Self::WebSocketV1 | Self::LongPollV1 => Serializer::V1,
            Self::WebSocketV2 | Self::LongPollV2 => Serializer::V2,
        }
    }

    /// The header of the WebSocket frame around an encoded message; `None` if it does not travel in one.
    pub(crate) fn frame_header(self, kind: Kind, len: usize) -> Option<ws::Header> {
        self.is_web_socket().then(|| ws::header(opcode(kind), len))
    }

    /// An encoded message in this form: a whole frame, or an element of an answer's array.
    pub(crate) fn wrap(self, kind: Kind, message: &[u8]) -> Box<[u8]> {
        match self {
            Self::WebSocketV1 | Self::WebSocketV2 => frame(kind, message),
            Self::LongPollV1 | Self::LongPollV2 => element(kind, message),
        }
    }
}

/// An event on its way to the subscribers of a topic.
///
/// A broadcast carries no refs, so its bytes are the same for every subscriber of one wire form. Each form is
/// made when the first shard with such a subscriber asks for it.
pub(crate) struct PreparedBroadcast {
    pub(crate) topic: Box<str>,
    pub(crate) event: Box<str>,
    pub(crate) payload: PayloadBuf,
    /// The socket that is left out (`broadcast_from`).
    pub(crate) from: Option<SocketKey>,
    /// The broadcast's place in the order of this node.
    pub(crate) sequence: u64,
    /// Whether it is counted who has received it, and what the ping behind it holds.
    pub(crate) receipt: Option<NonZeroU64>,
    /// When it was published, if whoever did so has looked at the clock.
    pub(crate) published: Option<Instant>,
    forms: [OnceLock<Option<Box<[u8]>>>; WireForm::ALL.len()],
}

impl PreparedBroadcast {
    pub(crate) fn new(
        sequence: u64,
        topic: &str,
        event: &str,
        payload: PayloadBuf,
        from: Option<SocketKey>,
    ) -> Self {
        let (topic, event, forms) = (topic.into(), event.into(), Default::default());
        Self { topic, event, payload, from, sequence, receipt: None, published: None, forms }
    }

    /// The same with what only some are asked for.
    pub(crate) fn with(self, receipt: Option<NonZeroU64>, published: Option<Instant>) -> Self {
        Self { receipt, published, ..self }
    }

    /// The bytes in this form, or `None` where the form can't carry the payload (bytes for V1).
    pub(crate) fn frame(&self, form: WireForm) -> Option<&[u8]> {
        self.forms[form as usize].get_or_init(|| self.encode(form)).as_deref()
    }

    fn encode(&self, form: WireForm) -> Option<Box<[u8]>> {
        let mut text = Vec::with_capacity(self.payload.len() + self.topic.len() + self.event.len() + 32);
        let payload = self.payload.as_payload();
        let kind = form.serializer().encode_broadcast(&mut text, &self.topic, &self.event, payload).ok()?;
        let frame = form.wrap(kind, &text);
        Some(match self.receipt {
            Some(receipt) if form.is_web_socket() => with_ping(&frame, receipt),
            _ => frame,
        })
    }

    /// What the broadcast counts against a mailbox's limit of bytes.
    pub(crate) fn cost(&self) -> usize {
        self.payload.len() + self.topic.len() + self.event.len() + size_of::<Self>()
    }
}

/// An encoded message as a whole WebSocket frame.
fn frame(kind: Kind, message: &[u8]) -> Box<[u8]> {
    let header = ws::header(opcode(kind), message.len());
    let mut bytes = Vec::with_capacity(header.as_slice().len() + message.len());
    bytes.extend_from_slice(header.as_slice());
    bytes.extend_from_slice(message);
    bytes.into_boxed_slice()
}

const fn opcode(kind: Kind) -> OpCode {
    match kind {
        Kind::Text => OpCode::Data(Data::Text),
        Kind::Binary => OpCode::Data(Data::Binary),
    }
}

/// A frame with a ping right behind it (RFC 6455 section 5.5.2): a client answers it when it has read the frame.
fn with_ping(frame: &[u8], receipt: NonZeroU64) -> Box<[u8]> {
    let mut bytes = frame.to_vec();
    ws::write_frame(&mut bytes, OpCode::Control(Control::Ping), &receipt.get().to_be_bytes());
    bytes.into_boxed_slice()
}

/// An encoded message as a JSON string with a comma before it.
fn element(kind: Kind, message: &[u8]) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(message.len() + message.len() / 8 + 8);
    bytes.push(b',');
    match (kind, std::str::from_utf8(message)) {
        (Kind::Text, Ok(text)) => write_json_string(&mut bytes, text),
        // A JSON string has no room for raw bytes: each becomes the character of its number.
        _ => {
            let text: String = message.iter().map(|byte| char::from(*byte)).collect();
            write_json_string(&mut bytes, &text);
        }
    }
    bytes.into_boxed_slice()
}
