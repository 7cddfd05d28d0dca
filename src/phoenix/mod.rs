//! The messages of Phoenix Channels: text or binary of one WebSocket message <-> [`Message`].
//!
//! ```text
//!           text, bytes                       Message                       text, bytes
//!  client ──────────────► Serializer::decode_* ──────► …  Serializer::encode_* ──────► client
//! ```
//!
//! There are two serializers, which the client chooses with the `vsn` parameter of its address: objects
//! ([`Serializer::V1`], `Phoenix.Socket.V1.JSONSerializer`) and arrays with binary forms
//! ([`Serializer::V2`], `Phoenix.Socket.V2.JSONSerializer`). Payloads are checked to be JSON but never parsed
//! into a tree: they stay the text that the client sent, and a broadcast passes that text on.
//!
//! Everything here is a function of its arguments. What a peer sends is answered with an [`Undecodable`], which says
//! whether there is a message that a reply could refer to, never with a panic; and no memory is reserved on the word
//! of a peer.
//!
//! ```
//! use hailer::limits::Limits;
//! use hailer::phoenix::{Kind, Payload, Serializer, events};
//!
//! let serializer = Serializer::from_vsn(Some("2.0.0")).unwrap();
//! let message = serializer
//!     .decode_text(r#"[null,"5","phoenix","heartbeat",{}]"#, &Limits::default())
//!     .unwrap();
//! assert_eq!(message.event, events::HEARTBEAT);
//!
//! let mut out = Vec::new();
//! let kind =
//!     serializer.encode_reply(&mut out, None, message.message_ref, &message.topic, "ok", Payload::empty());
//! assert_eq!(kind, Ok(Kind::Text));
//! assert_eq!(out, br#"[null,"5","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
//! ```

mod decode;
mod encode;
mod error;
mod heartbeat;
mod json;
mod message;
mod reference;
#[cfg(test)]
mod tests;
mod user_broadcast;

pub use encode::EncodeError;
pub use error::{DecodeError, MessageError, Refused, Undecodable};
pub use heartbeat::HeartbeatRef;
pub use json::write_json_string;
#[cfg(feature = "api")]
pub(crate) use json::{has_lone_surrogate, is_deeper_than, parse_string};
pub use message::{Message, Payload, PayloadError, TopicField};
pub use reference::{Ref, RefBuf};
pub use user_broadcast::{UserBroadcast, UserBroadcastBuf};

/// The topic of the messages that the socket itself answers (the heartbeat).
pub const TOPIC: &str = "phoenix";

/// The event names that belong to the protocol.
pub mod events {
    /// A client joins a topic.
    pub const JOIN: &str = "phx_join";
    /// A client leaves a topic.
    pub const LEAVE: &str = "phx_leave";
    /// The server answers a client's message.
    pub const REPLY: &str = "phx_reply";
    /// A channel has crashed; the client joins it again.
    pub const ERROR: &str = "phx_error";
    /// A channel has ended; the client forgets it.
    pub const CLOSE: &str = "phx_close";
    /// A client shows that it is there, on the topic [`TOPIC`](super::TOPIC).
    pub const HEARTBEAT: &str = "heartbeat";
    /// A user's message for all subscribers of a topic, in the dialect of Supabase's clients.
    pub const BROADCAST: &str = "broadcast";

    /// Whether an event belongs to the protocol or to the server, so that nobody else may send it.
    #[must_use]
    pub fn is_reserved(event: &str) -> bool {
        event.starts_with("phx_") || matches!(event, "disconnect" | "presence_state" | "presence_diff")
    }
}

/// How messages are written: the client's choice, made once for each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Serializer {
    /// A JSON object with the keys `topic`, `event`, `payload` and `ref`. The opcode of a frame is ignored.
    V1,
    /// A JSON array `[join_ref, ref, topic, event, payload]`, or a binary form if the payload is bytes.
    V2,
}

/// The kind of frame that an encoded message must travel in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A text frame: the bytes are UTF-8.
    Text,
    /// A binary frame.
    Binary,
}

impl Serializer {
    /// The serializer that a client asks for with the query parameter `vsn`; `None` must be refused.
    ///
    /// As in `Phoenix.Socket`, a missing parameter is `1.0.0`, and the rest is Elixir's `Version`: 1.0.x and
    /// 2.0.x are known, numbers have no leading zeros, and build metadata (`2.0.0+x`) is allowed and
    /// ignored. A pre-release is no release and is refused.
    #[must_use]
    pub fn from_vsn(vsn: Option<&str>) -> Option<Self> {
        let Some(vsn) = vsn else { return Some(Self::V1) };
        let release = match vsn.split_once('+') {
            Some((release, build)) if build.split('.').all(is_build_identifier) => release,
            Some(_) => return None,
            None => vsn,
        };
        let (serializer, patch) = match release.as_bytes() {
            [b'1', b'.', b'0', b'.', patch @ ..] => (Self::V1, patch),
            [b'2', b'.', b'0', b'.', patch @ ..] => (Self::V2, patch),
            _ => return None,
        };
        let is_number = match patch {
            [] | [b'0', _, ..] => false,
            digits => digits.iter().all(u8::is_ascii_digit),
        };
        is_number.then_some(serializer)
    }
}

/// Whether `part` may stand between the dots of a version's build metadata.
fn is_build_identifier(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
