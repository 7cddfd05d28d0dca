//! What a client sent, made a [`Message`].

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json::{has_lone_surrogate, is_deeper_than, parse_string};
use super::{Message, Payload, Ref, Serializer, TopicField};
use crate::limits::Limits;

/// The first byte of a binary message: a push.
pub(super) const PUSH: u8 = 0;

/// Why what a client sent is no message. Always the peer's fault.
///
/// Phoenix answers each of these by ending the connection with close code 1011 and no reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// The text is not JSON (RFC 8259).
    NotJson,
    /// A string has an escape that is one half of a surrogate pair.
    LoneSurrogate,
    /// Arrays and objects are nested deeper than `json_depth_max`, the message itself being the first level.
    TooDeep,
    /// V2: the JSON is no array.
    NotAnArray,
    /// V2: the array has fewer than five elements.
    TooFewElements,
    /// V1: the JSON is no object.
    NotAnObject,
    /// V1: `topic`, `event`, `payload` or `ref` is not there.
    MissingKey,
    /// The event is not a string.
    EventNotAString,
    /// The topic has more bytes than `topic_bytes_max`.
    TopicTooLong,
    /// The event has more bytes than `event_bytes_max`.
    EventTooLong,
    /// A ref or join_ref has more bytes, as JSON text, than `ref_bytes_max`.
    RefTooLong,
    /// Text, or a field of a binary message that is text, is not UTF-8.
    BadUtf8,
    /// V2: a binary message ends before the fields that it announces.
    BinaryTruncated,
    /// V2: a binary message is no push. Clients send nothing else.
    BinaryUnknownKind,
}

impl DecodeError {
    /// What is wrong, for a person who wrote the message by hand: at most 123 bytes, so that it fits a
    /// WebSocket close frame.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotJson => "the message is not valid JSON",
            Self::LoneSurrogate => {
                "a string in the message has a \\u escape that is half of a surrogate pair"
            }
            Self::TooDeep => "arrays and objects are nested too deep in the message (limit json_depth_max)",
            Self::NotAnArray => {
                "expected a JSON array [join_ref, ref, topic, event, payload] since vsn is 2.0.0"
            }
            Self::TooFewElements => {
                "expected a JSON array of five elements [join_ref, ref, topic, event, payload]"
            }
            Self::NotAnObject => {
                "expected a JSON object with topic, event, payload and ref; for arrays connect with vsn=2.0.0"
            }
            Self::MissingKey => {
                "expected a JSON object with all of the keys topic, event, payload and ref (null if none)"
            }
            Self::EventNotAString => "the event is not a string",
            Self::TopicTooLong => "the topic is too long (limit topic_bytes_max)",
            Self::EventTooLong => "the event is too long (limit event_bytes_max)",
            Self::RefTooLong => "the ref or join_ref is too long (limit ref_bytes_max)",
            Self::BadUtf8 => "the message, or a name in a binary message, is not UTF-8",
            Self::BinaryTruncated => "the binary message is shorter than its length bytes say",
            Self::BinaryUnknownKind => "the binary message does not begin with 0, the kind of a push",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for DecodeError {}

impl Serializer {
    /// Decodes the text of one message.
    ///
    /// The message borrows from `text`; topic and event are copied only if they have escapes. Elements
    /// after the fifth (V2) and unknown keys (V1) are ignored, but must be JSON. If a key stands in a V1
    /// message twice, the first counts, as with Elixir's Jason. A client's message and a server's V2
    /// message have the same form, so this decodes both.
    ///
    /// # Errors
    /// The text is no message, or beyond one of `limits`.
    pub fn decode_text<'a>(self, text: &'a str, limits: &Limits) -> Result<Message<'a>, DecodeError> {
        if self == Self::V2
            && let Some(fields) = PlainFields::split(text).filter(|_| limits.json_depth_max >= 2)
        {
            return fields.into_message(limits);
        }
        if is_deeper_than(text, limits.json_depth_max) {
            return Err(DecodeError::TooDeep);
        }
        if has_lone_surrogate(text) {
            return Err(DecodeError::LoneSurrogate);
        }
        let fields = match self {
            Self::V1 => parse::<Object<'a>>(text, DecodeError::NotAnObject)?.into_fields()?,
            Self::V2 => {
                parse::<Array<'a>>(text, DecodeError::NotAnArray)?.0.ok_or(DecodeError::TooFewElements)?
            }
        };
        fields.into_message(limits)
    }

    /// Decodes the bytes of one binary message.
    ///
    /// In V2 that is a push with a payload of bytes; its refs are strings, never null. In V1, as in
    /// Phoenix, the opcode means nothing, and the bytes are taken as text.
    ///
    /// # Errors
    /// The bytes are no message, or beyond one of `limits`.
    pub fn decode_binary<'a>(self, bytes: &'a [u8], limits: &Limits) -> Result<Message<'a>, DecodeError> {
        match self {
            Self::V1 => self.decode_text(utf8(bytes)?, limits),
            Self::V2 => decode_push(bytes, limits),
        }
    }
}

/// Decodes `0 | len(join_ref) | len(ref) | len(topic) | len(event) | join_ref | ref | topic | event | data`.
fn decode_push<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Message<'a>, DecodeError> {
    let (kind, rest) = bytes.split_first().ok_or(DecodeError::BinaryTruncated)?;
    if *kind != PUSH {
        return Err(DecodeError::BinaryUnknownKind);
    }
    let (sizes, mut rest) = rest.split_first_chunk::<4>().ok_or(DecodeError::BinaryTruncated)?;
    let mut fields: [&[u8]; 4] = [&[]; 4];
    for (field, size) in fields.iter_mut().zip(sizes) {
        (*field, rest) = rest.split_at_checked(usize::from(*size)).ok_or(DecodeError::BinaryTruncated)?;
    }
    let [join_ref, message_ref, topic, event] = fields;
    Ok(Message {
        join_ref: Some(check_ref(Ref::from_bytes(join_ref)?, limits)?),
        message_ref: Some(check_ref(Ref::from_bytes(message_ref)?, limits)?),
        topic: check_topic(TopicField::from(utf8(topic)?), limits)?,
        event: check_event(Cow::Borrowed(utf8(event)?), limits)?,
        payload: Payload::Binary(rest),
    })
}

fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| DecodeError::BadUtf8)
}

fn check_ref<'a>(reference: Ref<'a>, limits: &Limits) -> Result<Ref<'a>, DecodeError> {
    if reference.json_len() > limits.ref_bytes_max { Err(DecodeError::RefTooLong) } else { Ok(reference) }
}

fn check_topic<'a>(topic: TopicField<'a>, limits: &Limits) -> Result<TopicField<'a>, DecodeError> {
    let len = match &topic {
        TopicField::Text(text) => text.len(),
        TopicField::Other(json) => json.len(),
    };
    if len > limits.topic_bytes_max { Err(DecodeError::TopicTooLong) } else { Ok(topic) }
}

fn check_event<'a>(event: Cow<'a, str>, limits: &Limits) -> Result<Cow<'a, str>, DecodeError> {
    if event.len() > limits.event_bytes_max { Err(DecodeError::EventTooLong) } else { Ok(event) }
}

/// Parses all of `text`; an error of shape is `wrong_shape`, any other means that it is no JSON.
fn parse<'a, T: Deserialize<'a>>(text: &'a str, wrong_shape: DecodeError) -> Result<T, DecodeError> {
    serde_json::from_str(text)
        .map_err(|error| if error.is_data() { wrong_shape } else { DecodeError::NotJson })
}

/// The five fields as the JSON that the client wrote.
struct Fields<'a> {
    join_ref: Option<&'a RawValue>,
    message_ref: &'a RawValue,
    topic: &'a RawValue,
    event: &'a RawValue,
    payload: &'a RawValue,
}

impl<'a> Fields<'a> {
    fn into_message(self, limits: &Limits) -> Result<Message<'a>, DecodeError> {
        let decode_ref = |json| Ref::from_json(json).map(|some| check_ref(some, limits)).transpose();
        let topic = self.topic.get();
        let topic = parse_string(topic).map_or(TopicField::Other(topic), TopicField::Text);
        let event = parse_string(self.event.get()).ok_or(DecodeError::EventNotAString)?;
        Ok(Message {
            join_ref: self.join_ref.map_or(Ok(None), decode_ref)?,
            message_ref: decode_ref(self.message_ref)?,
            topic: check_topic(topic, limits)?,
            event: check_event(event, limits)?,
            payload: Payload::Json(self.payload),
        })
    }
}

/// The fields of a V2 message that needs no parsing, as phoenix.js writes nearly all joins and leaves: no white
/// space, refs that are null or strings, nothing escaped, and the payload `{}`.
struct PlainFields<'a> {
    join_ref: Option<&'a str>,
    message_ref: Option<&'a str>,
    topic: &'a str,
    event: &'a str,
}

impl<'a> PlainFields<'a> {
    /// `None` says nothing about the text.
    fn split(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix('[')?.strip_suffix(",{}]")?;
        // In such strings there is nothing but quotes that ends them, and no byte that JSON forbids.
        if rest.bytes().fold(false, |bad, byte| bad | (byte < b' ') | (byte == b'\\')) {
            return None;
        }
        let (join_ref, rest) = plain_ref(rest)?;
        let (message_ref, rest) = plain_ref(rest.strip_prefix(',')?)?;
        let (topic, rest) = plain_string(rest.strip_prefix(',')?)?;
        let (event, rest) = plain_string(rest.strip_prefix(',')?)?;
        rest.is_empty().then_some(Self {
            join_ref,
            message_ref,
            topic: unquoted(topic),
            event: unquoted(event),
        })
    }

    fn into_message(self, limits: &Limits) -> Result<Message<'a>, DecodeError> {
        let decode_ref = |json| check_ref(Ref::from_json_text(json), limits);
        Ok(Message {
            join_ref: self.join_ref.map(decode_ref).transpose()?,
            message_ref: self.message_ref.map(decode_ref).transpose()?,
            topic: check_topic(TopicField::from(self.topic), limits)?,
            event: check_event(Cow::Borrowed(self.event), limits)?,
            payload: Payload::empty(),
        })
    }
}

/// The null or the string, quotes included, that `text` begins with, and what follows.
fn plain_ref(text: &str) -> Option<(Option<&str>, &str)> {
    match text.strip_prefix("null") {
        Some(rest) => Some((None, rest)),
        None => plain_string(text).map(|(string, rest)| (Some(string), rest)),
    }
}

/// The string, quotes included, that `text` begins with, and what follows; there are no backslashes in it.
fn plain_string(text: &str) -> Option<(&str, &str)> {
    let end = memchr::memchr(b'"', text.strip_prefix('"')?.as_bytes())?;
    text.split_at_checked(end + 2)
}

fn unquoted(string: &str) -> &str {
    string.get(1..string.len() - 1).unwrap_or_default()
}

/// A V2 message; `None` if it has too few elements.
struct Array<'a>(Option<Fields<'a>>);

impl<'de> Deserialize<'de> for Array<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ArrayVisitor;

        impl<'de> Visitor<'de> for ArrayVisitor {
            type Value = Array<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements: [Option<&'de RawValue>; 5] = [None; 5];
                for element in &mut elements {
                    *element = seq.next_element()?;
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                let [join_ref, Some(message_ref), Some(topic), Some(event), Some(payload)] = elements else {
                    return Ok(Array(None));
                };
                Ok(Array(Some(Fields { join_ref, message_ref, topic, event, payload })))
            }
        }

        deserializer.deserialize_seq(ArrayVisitor)
    }
}

/// A V1 message with the keys that were there.
#[derive(Default)]
struct Object<'a> {
    join_ref: Option<&'a RawValue>,
    message_ref: Option<&'a RawValue>,
    topic: Option<&'a RawValue>,
    event: Option<&'a RawValue>,
    payload: Option<&'a RawValue>,
}

impl<'a> Object<'a> {
    fn into_fields(self) -> Result<Fields<'a>, DecodeError> {
        let Self { join_ref, message_ref, topic, event, payload } = self;
        let (Some(message_ref), Some(topic), Some(event), Some(payload)) =
            (message_ref, topic, event, payload)
        else {
            return Err(DecodeError::MissingKey);
        };
        Ok(Fields { join_ref, message_ref, topic, event, payload })
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut object = Object::default();
                while let Some(key) = map.next_key()? {
                    let value = match key {
                        Key::JoinRef => &mut object.join_ref,
                        Key::MessageRef => &mut object.message_ref,
                        Key::Topic => &mut object.topic,
                        Key::Event => &mut object.event,
                        Key::Payload => &mut object.payload,
                        Key::Unknown => &mut None,
                    };
                    let json = map.next_value()?;
                    value.get_or_insert(json);
                }
                Ok(object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// A key of a V1 message.
enum Key {
    JoinRef,
    MessageRef,
    Topic,
    Event,
    Payload,
    Unknown,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                Ok(match key {
                    "join_ref" => Key::JoinRef,
                    "ref" => Key::MessageRef,
                    "topic" => Key::Topic,
                    "event" => Key::Event,
                    "payload" => Key::Payload,
                    _ => Key::Unknown,
                })
            }
        }

        deserializer.deserialize_identifier(KeyVisitor)
    }
}
