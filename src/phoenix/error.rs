//! Why what a client sent is no message, and whether the client is answered or closed.
//!
//! | can refs and topic be read? | error | what becomes of the client |
//! |---|---|---|
//! | no | [`DecodeError`] | it is closed with code 1007 and the reason |
//! | yes | [`MessageError`] | a reply with status "error" and the reason; its socket and its other channels live on |
//!
//! Phoenix ends the connection with close code 1011 and no reason in all of these cases. A client that keeps its
//! channels comes back and sends the same again, so closing is for what can't be answered.

use std::fmt;

use super::{Ref, TopicField};

/// Why there is no message: always the peer's fault.
#[derive(Debug, Clone, PartialEq)]
pub enum Undecodable<'a> {
    /// There is nothing that a reply could refer to.
    Unreadable(DecodeError),
    /// One message is wrong, and can be answered.
    Refused(Refused<'a>),
}

/// A message that is wrong, as far as its reply needs it.
///
/// Refs and topic are what the client sent, however long: a client finds the reply by them. They are bounded by the
/// message that they came in, and encoded they are no longer than they were there (those of binary messages, which
/// have at most 255 bytes, may grow sixfold).
#[derive(Debug, Clone, PartialEq)]
pub struct Refused<'a> {
    /// The ref of the join that the message names.
    pub join_ref: Option<Ref<'a>>,
    /// The ref that the reply must carry.
    pub message_ref: Option<Ref<'a>>,
    /// The topic.
    pub topic: TopicField<'a>,
    /// What is wrong.
    pub error: MessageError,
}

/// Why not even the refs and the topic of a message can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// The text is not JSON (RFC 8259).
    NotJson,
    /// V2: the JSON is no array.
    NotAnArray,
    /// V2: the array has fewer than five elements.
    TooFewElements,
    /// V1: the JSON is no object.
    NotAnObject,
    /// V1: `topic`, `event`, `payload` or `ref` is not there.
    MissingKey,
    /// Text is not UTF-8.
    BadUtf8,
    /// V2: a binary message ends before the fields that it announces.
    BinaryTruncated,
    /// V2: a binary message is of a kind that clients don't send.
    BinaryUnknownKind,
}

/// What is wrong with a message whose refs and topic can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageError {
    /// A string has an escape that is one half of a surrogate pair.
    LoneSurrogate,
    /// Arrays and objects are nested deeper than `json_depth_max`, the message itself being the first level.
    TooDeep,
    /// The event is not a string.
    EventNotAString,
    /// The topic has more bytes than `topic_bytes_max`.
    TopicTooLong,
    /// The event has more bytes than `event_bytes_max`.
    EventTooLong,
    /// A ref or join_ref has more bytes, as JSON text, than `ref_bytes_max`.
    RefTooLong,
    /// V2: a name in a binary message is not UTF-8.
    NameNotUtf8,
    /// V2: what a user broadcast says is JSON is not.
    BroadcastNotJson,
    /// V2: a user broadcast has an encoding that is neither bytes nor JSON.
    BroadcastEncoding,
}

impl DecodeError {
    /// What is wrong, for a person who wrote the message by hand: at most 123 bytes, so that it fits a
    /// WebSocket close frame.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotJson => "the message is not valid JSON",
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
            Self::BadUtf8 => "the message is not UTF-8",
            Self::BinaryTruncated => "the binary message is shorter than its length bytes say",
            Self::BinaryUnknownKind => {
                "the binary message begins with neither 0, the kind of a push, nor 3, that of a user broadcast"
            }
        }
    }
}

impl MessageError {
    /// What is wrong, as the reply says it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::LoneSurrogate => {
                "a string in the message has a \\u escape that is half of a surrogate pair"
            }
            Self::TooDeep => "arrays and objects are nested too deep in the message (limit json_depth_max)",
            Self::EventNotAString => "the event is not a string",
            Self::TopicTooLong => "the topic is too long (limit topic_bytes_max)",
            Self::EventTooLong => "the event is too long (limit event_bytes_max)",
            Self::RefTooLong => "the ref or join_ref is too long (limit ref_bytes_max)",
            Self::NameNotUtf8 => "a ref, topic or event of the binary message is not UTF-8",
            Self::BroadcastNotJson => "the payload of the broadcast is not valid JSON, as its encoding says",
            Self::BroadcastEncoding => "the encoding of the broadcast is neither 0 (bytes) nor 1 (JSON)",
        }
    }
}

impl Undecodable<'_> {
    /// What is wrong.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(error) => error.reason(),
            Self::Refused(refused) => refused.error.reason(),
        }
    }
}

impl From<DecodeError> for Undecodable<'_> {
    fn from(error: DecodeError) -> Self {
        Self::Unreadable(error)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl fmt::Display for Undecodable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for DecodeError {}
impl std::error::Error for MessageError {}
impl std::error::Error for Undecodable<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::phoenix::{Payload, Serializer};

    const DECODE_ERRORS: [DecodeError; 8] = [
        DecodeError::NotJson,
        DecodeError::NotAnArray,
        DecodeError::TooFewElements,
        DecodeError::NotAnObject,
        DecodeError::MissingKey,
        DecodeError::BadUtf8,
        DecodeError::BinaryTruncated,
        DecodeError::BinaryUnknownKind,
    ];

    const MESSAGE_ERRORS: [MessageError; 9] = [
        MessageError::LoneSurrogate,
        MessageError::TooDeep,
        MessageError::EventNotAString,
        MessageError::TopicTooLong,
        MessageError::EventTooLong,
        MessageError::RefTooLong,
        MessageError::NameNotUtf8,
        MessageError::BroadcastNotJson,
        MessageError::BroadcastEncoding,
    ];

    #[test]
    fn reasons_fit_a_close_frame() {
        for error in DECODE_ERRORS {
            assert_eq!(error.to_string(), error.reason());
            assert!(!error.reason().is_empty() && error.reason().len() <= 123, "{error:?}");
        }
        for error in MESSAGE_ERRORS {
            assert_eq!(error.to_string(), error.reason());
            assert!(!error.reason().is_empty() && error.reason().len() <= 123, "{error:?}");
        }
    }

    /// The fields of a message, all but the event as JSON, are refused, and the reply repeats refs and topic as they are.
    #[track_caller]
    fn check_refused(fields: [&str; 5], expected: MessageError) {
        let limits = Limits::default();
        let [join_ref, message_ref, topic, event, payload] = fields;
        let object = format!(
            r#"{{"topic":{topic},"event":{event},"payload":{payload},"ref":{message_ref},"join_ref":{join_ref}}}"#
        );
        let reason = r#"{"status":"error","response":{}}"#;
        for (serializer, text, reply) in [
            (
                Serializer::V1,
                object,
                format!(r#"{{"topic":{topic},"event":"phx_reply","payload":{reason},"ref":{message_ref}}}"#),
            ),
            (
                Serializer::V2,
                format!("[{}]", fields.join(",")),
                format!(r#"[{join_ref},{message_ref},{topic},"phx_reply",{reason}]"#),
            ),
        ] {
            let Err(Undecodable::Refused(refused)) = serializer.decode_text(&text, &limits) else {
                panic!("it is refused: {text}")
            };
            assert_eq!(refused.error, expected, "{text}");
            let mut out = Vec::new();
            let Refused { join_ref, message_ref, topic, .. } = refused;
            serializer
                .encode_reply(&mut out, join_ref, message_ref, &topic, "error", Payload::empty())
                .unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), reply);
        }
    }

    #[test]
    fn what_is_wrong_with_one_message_leaves_its_refs_and_topic_readable() {
        use MessageError::*;
        let (long, deep) =
            (format!("\"{}\"", "x".repeat(300)), format!("{}{}", "[".repeat(64), "]".repeat(64)));
        for (fields, expected) in [
            (["\"1\"", "\"2\"", &*long, "\"e\"", "{}"], TopicTooLong),
            (["\"1\"", "\"2\"", &*long, "\"e\"", "[1]"], TopicTooLong),
            (["\"1\"", "\"2\"", &*deep, "\"e\"", "[1]"], TooDeep),
            (["null", "null", "\"t\"", &*long, "{}"], EventTooLong),
            (["null", &*long, "\"t\"", "\"e\"", "{}"], RefTooLong),
            ([&*long, "7", "null", "\"e\"", "{}"], RefTooLong),
            ([&*deep, "7", "null", "\"e\"", "{}"], TooDeep),
            (["1", "2", "\"t\"", "null", "{}"], EventNotAString),
            (["1", "2", "\"t\"", "5", "{}"], EventNotAString),
            (["1", "2", "\"t\"", "[\"e\"]", "{}"], EventNotAString),
            (["\"1\"", "\"2\"", "\"t\"", "\"e\"", &*deep], TooDeep),
            (["\"1\"", "\"2\"", r#""\ud834""#, "\"e\"", "{}"], LoneSurrogate),
            (["\"1\"", "\"2\"", "\"t\"", r#""\udd1e""#, "{}"], LoneSurrogate),
            (["\"1\"", "\"2\"", "\"t\"", "\"e\"", r#"{"\ud834":1}"#], LoneSurrogate),
            (["\"1\"", "\"2\"", "\"t\"", "\"e\"", r#"{"a":"Zoe \ud83d"}"#], LoneSurrogate),
            ([r#""\ud834""#, "\"2\"", "\"t\"", "\"e\"", "{}"], LoneSurrogate),
            (["\"1\"", r#""\udd1ex""#, "\"t\"", "\"e\"", "{}"], LoneSurrogate),
        ] {
            check_refused(fields, expected);
        }
    }

    #[test]
    fn what_is_behind_a_message_or_beside_its_keys_is_wrong_with_it_as_well() {
        let check = |serializer: Serializer, text| {
            let decoded = serializer.decode_text(text, &Limits::default());
            let Err(Undecodable::Refused(refused)) = decoded else { panic!("it is refused: {text}") };
            assert_eq!((refused.error, &refused.topic), (MessageError::LoneSurrogate, &"t".into()), "{text}");
        };
        check(Serializer::V2, r#"["1","1","t","e",{},"\ud834"]"#);
        check(Serializer::V1, r#"{"topic":"t","event":"e","payload":{},"ref":"1","x":"\ud834"}"#);
    }

    #[test]
    fn a_name_in_bytes_that_is_not_utf8_is_answered_as_far_as_the_rest_can_be_read() {
        let limits = Limits::default();
        for (at, expected) in [
            (0, [None, Some("2")]),
            (1, [Some("1"), None]),
            (2, [Some("1"), Some("2")]),
            (3, [Some("1"), Some("2")]),
        ] {
            let mut names: [&[u8]; 4] = [b"1", b"2", b"room:caf\xc3\xa9", b"new"];
            names[at] = b"r\xe4um";
            let sizes = names.map(|name| u8::try_from(name.len()).unwrap());
            let bytes = [&[0], &sizes[..], &names.concat(), b"data"].concat();
            let mut scratch = String::new();
            let topic = if at == 2 { "räum" } else { "room:café" };
            let refused = Refused {
                join_ref: expected[0].map(Ref::from_text),
                message_ref: expected[1].map(Ref::from_text),
                topic: TopicField::from(topic),
                error: MessageError::NameNotUtf8,
            };
            let decoded = Serializer::V2.decode_binary(&bytes, &mut scratch, &limits);
            assert_eq!(decoded, Err(Undecodable::Refused(refused)), "{at}");
        }
    }
}
