//! What the server sends, as text or bytes.

use std::borrow::Cow;
use std::fmt;

use super::decode::{PUSH, USER_BROADCAST_PUSH};
use super::json::write_json_string;
use super::{Kind, Message, Payload, Ref, Serializer, TopicField, UserBroadcast, events};

/// The first byte of a binary message: a reply.
const REPLY: u8 = 1;
/// The first byte of a binary message: a broadcast.
const BROADCAST: u8 = 2;
/// The first byte of a binary message: a broadcast from a user, as Supabase's clients read it.
const USER_BROADCAST: u8 = 4;

/// Why a message can't be encoded. Always the application's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncodeError {
    /// V1 has no form for a payload of bytes.
    BinaryInV1,
    /// In a binary message no field but the payload may have more than 255 bytes.
    FieldTooLong,
    /// In a binary message the topic must be a string.
    TopicNotAString,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BinaryInV1 => "a client of vsn 1.0.0 cannot receive a binary payload",
            Self::FieldTooLong => {
                "a ref, topic, event or status of a binary message is longer than 255 bytes"
            }
            Self::TopicNotAString => "the topic of a binary message is not a string",
        })
    }
}

impl std::error::Error for EncodeError {}

/// Every encoder appends one message to `out` and says which kind of frame it must travel in. After an error
/// `out` is as it was.
impl Serializer {
    /// Encodes a push from the server to one client. It has no ref.
    ///
    /// # Errors
    /// The payload is binary, and V1 or a field beyond 255 bytes can't be combined with that.
    pub fn encode_push(
        self,
        out: &mut Vec<u8>,
        join_ref: Option<Ref<'_>>,
        topic: &str,
        event: &str,
        payload: Payload<'_>,
    ) -> Result<Kind, EncodeError> {
        match payload {
            Payload::Json(json) => {
                let text = Text { join_ref, message_ref: None, topic: &topic.into(), event };
                Ok(self.write_text(out, &text, json.get().len(), |out| {
                    out.extend_from_slice(json.get().as_bytes());
                }))
            }
            Payload::Binary(data) => self.write_binary(out, PUSH, &[&bare(join_ref), topic, event], data),
            Payload::UserBroadcast(broadcast) => self.write_user_broadcast(out, topic, broadcast),
        }
    }

    /// Encodes a broadcast. It has no refs at all, so it is the same for every subscriber.
    ///
    /// # Errors
    /// As [`encode_push`](Self::encode_push).
    pub fn encode_broadcast(
        self,
        out: &mut Vec<u8>,
        topic: &str,
        event: &str,
        payload: Payload<'_>,
    ) -> Result<Kind, EncodeError> {
        match payload {
            Payload::Json(_) => self.encode_push(out, None, topic, event, payload),
            Payload::Binary(data) => self.write_binary(out, BROADCAST, &[topic, event], data),
            Payload::UserBroadcast(broadcast) => self.write_user_broadcast(out, topic, broadcast),
        }
    }

    /// Encodes the reply to a client's message; `status` is "ok", "error" or any other word.
    ///
    /// # Errors
    /// The response is binary, and V1, a field beyond 255 bytes or a topic that is no string can't be
    /// combined with that.
    pub fn encode_reply(
        self,
        out: &mut Vec<u8>,
        join_ref: Option<Ref<'_>>,
        message_ref: Option<Ref<'_>>,
        topic: &TopicField<'_>,
        status: &str,
        response: Payload<'_>,
    ) -> Result<Kind, EncodeError> {
        match response {
            Payload::Json(json) => {
                let text = Text { join_ref, message_ref, topic, event: events::REPLY };
                Ok(self.write_text(out, &text, json.get().len() + status.len(), |out| {
                    out.extend_from_slice(br#"{"status":"#);
                    write_json_string(out, status);
                    out.extend_from_slice(br#","response":"#);
                    out.extend_from_slice(json.get().as_bytes());
                    out.push(b'}');
                }))
            }
            Payload::Binary(data) => self.write_reply(out, join_ref, message_ref, topic, status, data),
            Payload::UserBroadcast(broadcast) => {
                self.write_reply(out, join_ref, message_ref, topic, status, broadcast.data())
            }
        }
    }

    /// Encodes `phx_close`: the channel has ended. The ref is the join_ref once more, so in V1 it is null
    /// unless the client sent a join_ref. Always text.
    pub fn encode_close(self, out: &mut Vec<u8>, join_ref: Option<Ref<'_>>, topic: &str) -> Kind {
        let text = Text { join_ref, message_ref: join_ref, topic: &topic.into(), event: events::CLOSE };
        self.write_text(out, &text, 0, |out| out.extend_from_slice(b"{}"))
    }

    /// Encodes `phx_error` with `{"reason": reason}`: the channel has crashed ("channel_crash"). The refs are
    /// those of [`encode_close`](Self::encode_close). Always text.
    pub fn encode_error(
        self,
        out: &mut Vec<u8>,
        join_ref: Option<Ref<'_>>,
        topic: &str,
        reason: &str,
    ) -> Kind {
        let text = Text { join_ref, message_ref: join_ref, topic: &topic.into(), event: events::ERROR };
        self.write_text(out, &text, reason.len(), |out| {
            out.extend_from_slice(br#"{"reason":"#);
            write_json_string(out, reason);
            out.push(b'}');
        })
    }

    /// Encodes a client's message, as the decoders read it: for clients of our own, and for tests.
    ///
    /// In a binary message null can't be written; the server reads the empty string for it.
    ///
    /// # Errors
    /// The payload is binary, and V1, a field beyond 255 bytes or a topic that is no string can't be
    /// combined with that.
    pub fn encode_message(self, out: &mut Vec<u8>, message: &Message<'_>) -> Result<Kind, EncodeError> {
        let Message { join_ref, message_ref, topic, event, payload } = message;
        match payload {
            Payload::Json(json) => {
                let text = Text { join_ref: *join_ref, message_ref: *message_ref, topic, event };
                let kind = self.write_text(out, &text, json.get().len(), |out| {
                    out.extend_from_slice(json.get().as_bytes());
                });
                // The server's V1 messages never have this key, a client's may.
                if let (Self::V1, Some(join_ref)) = (self, join_ref) {
                    out.truncate(out.len() - 1);
                    out.extend_from_slice(br#","join_ref":"#);
                    join_ref.write_json(out);
                    out.push(b'}');
                }
                Ok(kind)
            }
            Payload::Binary(data) => {
                let topic = topic.as_str().ok_or(EncodeError::TopicNotAString)?;
                let fields = [&*bare(*join_ref), &*bare(*message_ref), topic, event];
                self.write_binary(out, PUSH, &fields, data)
            }
            Payload::UserBroadcast(broadcast) => {
                let topic = topic.as_str().ok_or(EncodeError::TopicNotAString)?;
                let (join_ref, message_ref) = (bare(*join_ref), bare(*message_ref));
                // As in `write_user_broadcast`.
                let fields = [&*join_ref, &*message_ref, topic, broadcast.event(), "", ""];
                self.write_binary(out, USER_BROADCAST_PUSH, &fields, broadcast.data())
            }
        }
    }

    /// Writes a reply of bytes.
    fn write_reply(
        self,
        out: &mut Vec<u8>,
        join_ref: Option<Ref<'_>>,
        message_ref: Option<Ref<'_>>,
        topic: &TopicField<'_>,
        status: &str,
        data: &[u8],
    ) -> Result<Kind, EncodeError> {
        let topic = topic.as_str().ok_or(EncodeError::TopicNotAString)?;
        self.write_binary(out, REPLY, &[&*bare(join_ref), &*bare(message_ref), topic, status], data)
    }

    /// Writes a user's broadcast, which has no refs, whoever gets it.
    fn write_user_broadcast(
        self,
        out: &mut Vec<u8>,
        topic: &str,
        broadcast: UserBroadcast<'_>,
    ) -> Result<Kind, EncodeError> {
        // Behind the length of the metadata, of which there is none, comes the encoding: 0, as if it were the length of
        // one more field without bytes.
        self.write_binary(out, USER_BROADCAST, &[topic, broadcast.event(), "", ""], broadcast.data())
    }

    /// Writes a text message whose payload, of about `payload_len` bytes, `write_payload` writes.
    fn write_text(
        self,
        out: &mut Vec<u8>,
        text: &Text<'_>,
        payload_len: usize,
        write_payload: impl FnOnce(&mut Vec<u8>),
    ) -> Kind {
        // Enough for the brackets, quotes, key names and refs of an ordinary message.
        out.reserve(text.event.len() + payload_len + 128);
        match self {
            Self::V1 => {
                out.extend_from_slice(br#"{"topic":"#);
                write_topic(out, text.topic);
                out.extend_from_slice(br#","event":"#);
                write_json_string(out, text.event);
                out.extend_from_slice(br#","payload":"#);
                write_payload(out);
                out.extend_from_slice(br#","ref":"#);
                write_ref(out, text.message_ref);
                out.push(b'}');
            }
            Self::V2 => {
                out.push(b'[');
                write_ref(out, text.join_ref);
                out.push(b',');
                write_ref(out, text.message_ref);
                out.push(b',');
                write_topic(out, text.topic);
                out.push(b',');
                write_json_string(out, text.event);
                out.push(b',');
                write_payload(out);
                out.push(b']');
            }
        }
        Kind::Text
    }

    /// Writes a binary message: the kind, the length of each field, the fields, the data.
    fn write_binary(
        self,
        out: &mut Vec<u8>,
        kind: u8,
        fields: &[&str],
        data: &[u8],
    ) -> Result<Kind, EncodeError> {
        if self == Self::V1 {
            return Err(EncodeError::BinaryInV1);
        }
        let start = out.len();
        out.push(kind);
        for field in fields {
            let Ok(len) = u8::try_from(field.len()) else {
                out.truncate(start);
                return Err(EncodeError::FieldTooLong);
            };
            out.push(len);
        }
        for field in fields {
            out.extend_from_slice(field.as_bytes());
        }
        out.extend_from_slice(data);
        Ok(Kind::Binary)
    }
}

/// What stands before the payload of a text message.
struct Text<'a> {
    join_ref: Option<Ref<'a>>,
    message_ref: Option<Ref<'a>>,
    topic: &'a TopicField<'a>,
    event: &'a str,
}

fn write_ref(out: &mut Vec<u8>, reference: Option<Ref<'_>>) {
    match reference {
        Some(reference) => reference.write_json(out),
        None => out.extend_from_slice(b"null"),
    }
}

fn write_topic(out: &mut Vec<u8>, topic: &TopicField<'_>) {
    match topic {
        TopicField::Text(text) => write_json_string(out, text),
        TopicField::Other(json) => out.extend_from_slice(json.as_bytes()),
    }
}

/// A ref as it stands in a binary message, where null is empty.
fn bare(reference: Option<Ref<'_>>) -> Cow<'_, str> {
    reference.map_or(Cow::Borrowed(""), Ref::to_bare)
}
