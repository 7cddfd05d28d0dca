//! What a client sent, made a [`Message`].

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json::{has_lone_surrogate, is_deeper_than, parse_string};
use super::{
    DecodeError, Message, MessageError, Payload, Ref, Refused, Serializer, TopicField, Undecodable,
    user_broadcast,
};
use crate::limits::Limits;

/// The first byte of a binary message: a push.
pub(super) const PUSH: u8 = 0;
/// The first byte of a binary message: a broadcast from a user, as Supabase's clients send it.
pub(super) const USER_BROADCAST_PUSH: u8 = 3;

impl Serializer {
    /// Decodes the text of one message.
    ///
    /// The message borrows from `text`; topic and event are copied only if they have escapes. Elements
    /// after the fifth (V2) and unknown keys (V1) are ignored, but must be JSON. If a key stands in a V1
    /// message twice, the first counts, as with Elixir's Jason. A client's message and a server's V2
    /// message have the same form, so this decodes both.
    ///
    /// # Errors
    /// The text is no message, or something in it is wrong or beyond one of `limits`.
    pub fn decode_text<'a>(self, text: &'a str, limits: &Limits) -> Result<Message<'a>, Undecodable<'a>> {
        if self == Self::V2
            && let Some(fields) = PlainFields::split(text).filter(|_| limits.json_depth_max >= 2)
        {
            return fields.into_message(limits);
        }
        // Neither keeps the fields from being found: what they hold is looked for, but kept as it is, and values that
        // are kept so are passed over without recursion.
        let error = if is_deeper_than(text, limits.json_depth_max) {
            Some(MessageError::TooDeep)
        } else if has_lone_surrogate(text) {
            Some(MessageError::LoneSurrogate)
        } else {
            None
        };
        let fields = match self {
            Self::V1 => parse::<Object<'a>>(text, DecodeError::NotAnObject)?.into_fields()?,
            Self::V2 => {
                parse::<Array<'a>>(text, DecodeError::NotAnArray)?.0.ok_or(DecodeError::TooFewElements)?
            }
        };
        fields.into_message(error, limits)
    }

    /// Decodes the bytes of one binary message.
    ///
    /// In V2 that is a push with a payload of bytes, or a broadcast from a user, whose payload may be JSON all the
    /// same; the message it makes then is written into `scratch`. Refs are strings, never null. In V1, as in Phoenix,
    /// the opcode means nothing, and the bytes are taken as text.
    ///
    /// # Errors
    /// The bytes are no message, or something in it is wrong or beyond one of `limits`.
    pub fn decode_binary<'a>(
        self,
        bytes: &'a [u8],
        scratch: &'a mut String,
        limits: &Limits,
    ) -> Result<Message<'a>, Undecodable<'a>> {
        if self == Self::V1 {
            return self.decode_text(utf8(bytes).ok_or(DecodeError::BadUtf8)?, limits);
        }
        let (kind, rest) = bytes.split_first().ok_or(DecodeError::BinaryTruncated)?;
        match *kind {
            PUSH => decode_push(rest, limits),
            USER_BROADCAST_PUSH => user_broadcast::decode(rest, scratch, limits),
            _ => Err(DecodeError::BinaryUnknownKind.into()),
        }
    }
}

/// Decodes `len(join_ref) | len(ref) | len(topic) | len(event) | join_ref | ref | topic | event | data`.
fn decode_push<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Message<'a>, Undecodable<'a>> {
    let (sizes, rest) = bytes.split_first_chunk::<4>().ok_or(DecodeError::BinaryTruncated)?;
    let ([join_ref, message_ref, topic, event], data) = split_fields(sizes, rest)?;
    let envelope = Envelope::from_bytes(join_ref, message_ref, topic)?;
    match utf8(event) {
        Some(event) => envelope.into_message(Cow::Borrowed(event), Payload::Binary(data), limits),
        None => Err(envelope.refuse(MessageError::NameNotUtf8)),
    }
}

/// The fields that `bytes` begins with, and what follows them.
pub(super) fn split_fields<'a, const N: usize>(
    sizes: &[u8; N],
    bytes: &'a [u8],
) -> Result<([&'a [u8]; N], &'a [u8]), DecodeError> {
    let (mut fields, mut rest): ([&[u8]; N], _) = ([&[]; N], bytes);
    for (field, size) in fields.iter_mut().zip(sizes) {
        (*field, rest) = rest.split_at_checked(usize::from(*size)).ok_or(DecodeError::BinaryTruncated)?;
    }
    Ok((fields, rest))
}

pub(super) fn utf8(bytes: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(bytes).ok()
}

/// What the reply to a message needs to be found by the client.
pub(super) struct Envelope<'a> {
    join_ref: Option<Ref<'a>>,
    message_ref: Option<Ref<'a>>,
    topic: TopicField<'a>,
}

impl<'a> Envelope<'a> {
    /// The envelope of a binary message.
    pub(super) fn from_bytes(
        join_ref: &'a [u8],
        message_ref: &'a [u8],
        topic: &'a [u8],
    ) -> Result<Self, Undecodable<'a>> {
        let name = utf8(topic);
        let envelope = Self {
            join_ref: Ref::from_bytes(join_ref).ok(),
            message_ref: Ref::from_bytes(message_ref).ok(),
            // phoenix.js before 1.8 and realtime-js write each UTF-16 unit of a name as one byte, so up to U+00FF these
            // are the characters that the client knows its topic by.
            topic: TopicField::Text(name.map_or_else(|| latin1(topic).into(), Cow::Borrowed)),
        };
        if name.is_none() || envelope.join_ref.is_none() || envelope.message_ref.is_none() {
            return Err(envelope.refuse(MessageError::NameNotUtf8));
        }
        Ok(envelope)
    }

    pub(super) fn refuse(self, error: MessageError) -> Undecodable<'a> {
        let Self { join_ref, message_ref, topic } = self;
        Undecodable::Refused(Refused { join_ref, message_ref, topic, error })
    }

    /// The whole message, if what it is called by is within `limits`.
    pub(super) fn into_message(
        self,
        event: Cow<'a, str>,
        payload: Payload<'a>,
        limits: &Limits,
    ) -> Result<Message<'a>, Undecodable<'a>> {
        if let Some(error) = self.beyond(&event, limits) {
            return Err(self.refuse(error));
        }
        let Self { join_ref, message_ref, topic } = self;
        Ok(Message { join_ref, message_ref, topic, event, payload })
    }

    /// The limit that a name is beyond.
    fn beyond(&self, event: &str, limits: &Limits) -> Option<MessageError> {
        let is_long = |reference: &Option<Ref<'_>>| {
            reference.is_some_and(|reference| reference.json_len() > limits.ref_bytes_max)
        };
        let topic_len = match &self.topic {
            TopicField::Text(text) => text.len(),
            TopicField::Other(json) => json.len(),
        };
        if is_long(&self.join_ref) || is_long(&self.message_ref) {
            Some(MessageError::RefTooLong)
        } else if topic_len > limits.topic_bytes_max {
            Some(MessageError::TopicTooLong)
        } else if event.len() > limits.event_bytes_max {
            Some(MessageError::EventTooLong)
        } else {
            None
        }
    }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
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
    /// `error` is what is known to be wrong with the text as a whole.
    fn into_message(
        self,
        error: Option<MessageError>,
        limits: &Limits,
    ) -> Result<Message<'a>, Undecodable<'a>> {
        let topic = self.topic.get();
        let envelope = Envelope {
            join_ref: self.join_ref.and_then(Ref::from_json),
            message_ref: Ref::from_json(self.message_ref),
            topic: parse_string(topic).map_or(TopicField::Other(topic), TopicField::Text),
        };
        if let Some(error) = error {
            return Err(envelope.refuse(error));
        }
        match parse_string(self.event.get()) {
            Some(event) => envelope.into_message(event, Payload::Json(self.payload), limits),
            None => Err(envelope.refuse(MessageError::EventNotAString)),
        }
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

    fn into_message(self, limits: &Limits) -> Result<Message<'a>, Undecodable<'a>> {
        let envelope = Envelope {
            join_ref: self.join_ref.map(Ref::from_json_text),
            message_ref: self.message_ref.map(Ref::from_json_text),
            topic: TopicField::from(self.topic),
        };
        envelope.into_message(Cow::Borrowed(self.event), Payload::empty(), limits)
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
