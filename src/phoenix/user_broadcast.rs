//! Broadcasts from users: the two binary forms that Supabase's clients know besides those of Phoenix.
//!
//! ```text
//! client  3 | len(join_ref) | len(ref) | len(topic) | len(event) | len(metadata) | encoding
//!           | join_ref | ref | topic | event | metadata | data
//! server  4 | len(topic) | len(event) | len(metadata) | encoding | topic | event | metadata | data
//! ```
//!
//! Both are messages of the event `broadcast` with the payload `{"type": "broadcast", "event": event, "payload": data}`.
//! Data of encoding 1 is JSON; such a message is made the text that it stands for, which every client can read.
//! Encoding 0 is bytes, which stay a [`UserBroadcast`]. Metadata means nothing to a server, not even to Supabase's.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use super::decode::{Envelope, split_fields, utf8};
use super::json::{has_lone_surrogate, is_deeper_than, write_json_string};
use super::{DecodeError, Message, MessageError, Payload, Undecodable, events};
use crate::limits::Limits;

/// The encoding of data that is bytes.
const BYTES: u8 = 0;
/// The encoding of data that is JSON.
const JSON: u8 = 1;

/// Bytes before the names of a user's broadcast, behind its first: five lengths and the encoding.
const HEAD: usize = 6;

/// An event of a user's own choice with data that is bytes: the payload of a [`BROADCAST`](events::BROADCAST).
// What the client sent behind the first byte: with more than a slice here, every payload would be larger.
#[derive(Clone, Copy)]
pub struct UserBroadcast<'a>(&'a [u8]);

impl<'a> UserBroadcast<'a> {
    /// The event's name.
    #[must_use]
    pub fn event(self) -> &'a str {
        // It was text when it was put there.
        self.names().and_then(|([.., event, _], _)| utf8(event)).unwrap_or_default()
    }

    /// The data.
    #[must_use]
    pub fn data(self) -> &'a [u8] {
        self.names().map(|(_, data)| data).unwrap_or_default()
    }

    fn names(self) -> Option<([&'a [u8]; 5], &'a [u8])> {
        split_fields(self.0.first_chunk::<5>()?, self.0.get(HEAD..)?).ok()
    }
}

impl fmt::Debug for UserBroadcast<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserBroadcast({:?}, {} bytes)", self.event(), self.data().len())
    }
}

/// A [`UserBroadcast`] that owns its bytes.
#[derive(Clone)]
pub struct UserBroadcastBuf(Box<[u8]>);

impl UserBroadcastBuf {
    /// A broadcast of `event`; `None` if its name has more than 255 bytes.
    #[must_use]
    pub fn new(event: &str, data: &[u8]) -> Option<Self> {
        let event_len = u8::try_from(event.len()).ok()?;
        // There are no refs, no topic and no metadata here.
        let head: [u8; HEAD] = [0, 0, 0, event_len, 0, BYTES];
        Some(Self([&head, event.as_bytes(), data].concat().into_boxed_slice()))
    }

    /// Bytes of the event and of the data.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.0.len() - HEAD
    }

    /// The broadcast, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> UserBroadcast<'_> {
        UserBroadcast(&self.0)
    }
}

impl From<UserBroadcast<'_>> for UserBroadcastBuf {
    fn from(broadcast: UserBroadcast<'_>) -> Self {
        Self::new(broadcast.event(), broadcast.data()).expect("an event has a length of one byte")
    }
}

/// Decodes what follows the first byte of a user's broadcast. The payload of one that is JSON is written into `scratch`.
pub(super) fn decode<'a>(
    bytes: &'a [u8],
    scratch: &'a mut String,
    limits: &Limits,
) -> Result<Message<'a>, Undecodable<'a>> {
    let (sizes, rest) = bytes.split_first_chunk::<5>().ok_or(DecodeError::BinaryTruncated)?;
    let (encoding, rest) = rest.split_first().ok_or(DecodeError::BinaryTruncated)?;
    let ([join_ref, message_ref, topic, event, _metadata], data) = split_fields(sizes, rest)?;
    let envelope = Envelope::from_bytes(join_ref, message_ref, topic)?;
    let Some(name) = utf8(event) else { return Err(envelope.refuse(MessageError::NameNotUtf8)) };
    let payload = match *encoding {
        BYTES => Payload::UserBroadcast(UserBroadcast(bytes)),
        JSON => match write_json(name, data, scratch, limits) {
            Ok(json) => Payload::Json(json),
            Err(error) => return Err(envelope.refuse(error)),
        },
        _ => return Err(envelope.refuse(MessageError::BroadcastEncoding)),
    };
    envelope.into_message(Cow::Borrowed(events::BROADCAST), payload, limits)
}

/// Writes the payload that a broadcast with JSON as its data stands for.
fn write_json<'a>(
    event: &str,
    data: &[u8],
    scratch: &'a mut String,
    limits: &Limits,
) -> Result<&'a RawValue, MessageError> {
    let data = utf8(data).ok_or(MessageError::BroadcastNotJson)?;
    // In the message that this stands for, the data is two levels down.
    if is_deeper_than(data, limits.json_depth_max.saturating_sub(2)) {
        return Err(MessageError::TooDeep);
    }
    if has_lone_surrogate(data) {
        return Err(MessageError::LoneSurrogate);
    }
    // Alone, so that nothing in it ends the object that it is put into.
    let json: &RawValue = serde_json::from_str(data).map_err(|_| MessageError::BroadcastNotJson)?;
    let mut name = Vec::with_capacity(event.len() + 2);
    write_json_string(&mut name, event);
    let name = String::from_utf8_lossy(&name);
    *scratch = format!(r#"{{"type":"broadcast","event":{name},"payload":{json}}}"#);
    serde_json::from_str(scratch).map_err(|_| MessageError::BroadcastNotJson)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phoenix::{DecodeError, EncodeError, Kind, Ref, Serializer, TopicField};
    use Serializer::{V1, V2};

    /// What a client sends, with its five names.
    fn push(names: [&[u8]; 5], encoding: u8, data: &[u8]) -> Vec<u8> {
        let sizes = names.map(|name| u8::try_from(name.len()).unwrap());
        [&[3], &sizes[..], &[encoding], &names.concat(), data].concat()
    }

    const NAMES: [&[u8]; 5] = [b"1", b"2", b"realtime:a", b"shout", b""];

    #[track_caller]
    fn check(bytes: &[u8], limits: &Limits, expected: Result<Payload<'_>, MessageError>) {
        let mut scratch = String::new();
        let shown = bytes.escape_ascii();
        let (refs, topic) = ([Some(Ref::from_text("1")), Some(Ref::from_text("2"))], "realtime:a".into());
        match V2.decode_binary(bytes, &mut scratch, limits) {
            Ok(message) => {
                assert_eq!(
                    ([message.join_ref, message.message_ref], &message.topic),
                    (refs, &topic),
                    "{shown}"
                );
                assert_eq!((&*message.event, Ok(message.payload)), ("broadcast", expected), "{shown}");
            }
            Err(Undecodable::Refused(refused)) => {
                assert_eq!(
                    ([refused.join_ref, refused.message_ref], &refused.topic),
                    (refs, &topic),
                    "{shown}"
                );
                assert_eq!(Err(refused.error), expected, "{shown}");
            }
            Err(Undecodable::Unreadable(error)) => panic!("{error}: {shown}"),
        }
    }

    #[test]
    fn a_user_broadcast_of_json_is_the_text_that_it_stands_for() {
        let limits = Limits::default();
        for (event, data, expected) in [
            ("shout", r#"{"x":1}"#, r#"{"type":"broadcast","event":"shout","payload":{"x":1}}"#),
            ("", "null", r#"{"type":"broadcast","event":"","payload":null}"#),
            ("\"é\n", " [1] ", r#"{"type":"broadcast","event":"\"é\n","payload":[1]}"#),
            (
                "e",
                r#""\ud834\udd1e 1e999999""#,
                r#"{"type":"broadcast","event":"e","payload":"\ud834\udd1e 1e999999"}"#,
            ),
        ] {
            let json = RawValue::from_string(expected.to_owned()).unwrap();
            for metadata in [&b""[..], b"{\"id\":1}", b"not JSON \xff"] {
                let names = [NAMES[0], NAMES[1], NAMES[2], event.as_bytes(), metadata];
                check(&push(names, 1, data.as_bytes()), &limits, Ok(Payload::Json(&json)));
            }
        }
    }

    #[test]
    fn a_user_broadcast_of_bytes_keeps_its_event() {
        let limits = Limits::default();
        let longest = "x".repeat(255);
        for (event, data) in [("shout", &b"\0\xff"[..]), ("", b""), ("é", b"{}"), (&longest, b"x")] {
            let owned = UserBroadcastBuf::new(event, data).unwrap();
            assert_eq!((owned.as_ref().event(), owned.as_ref().data()), (event, data));
            for metadata in [&b""[..], longest.as_bytes()] {
                let bytes = push([NAMES[0], NAMES[1], NAMES[2], event.as_bytes(), metadata], 0, data);
                let mut scratch = String::new();
                let message = V2.decode_binary(&bytes, &mut scratch, &limits).unwrap();
                let Payload::UserBroadcast(found) = message.payload else { panic!("{message:?}") };
                assert_eq!((found.event(), found.data()), (event, data));
                assert_eq!(UserBroadcastBuf::from(found).as_ref().data(), data);
                assert_eq!(&*message.event, "broadcast");
                let mut again = Vec::new();
                assert_eq!(V2.encode_message(&mut again, &message), Ok(Kind::Binary));
                assert!(!metadata.is_empty() || again == bytes, "{}", again.escape_ascii());
            }
        }
        assert!(UserBroadcastBuf::new(&"x".repeat(256), b"").is_none());
        assert_eq!(
            (size_of::<Payload<'_>>(), size_of::<UserBroadcastBuf>()),
            (24, 16),
            "no payload is larger for it"
        );
    }

    #[test]
    fn what_is_wrong_with_a_user_broadcast_is_answered() {
        let limits = Limits { json_depth_max: 5, ..Limits::default() };
        let refused = |data: &[u8], error| check(&push(NAMES, 1, data), &limits, Err(error));
        for data in [
            &b""[..],
            b"nope",
            b"{",
            b"\xff",
            b"{}}",
            b"1,\"event\":\"x\"",
            b"{}},6,{\"a\":{}",
            b"\"\n\"",
            b"[1] 2",
        ] {
            refused(data, MessageError::BroadcastNotJson);
        }
        refused(br#"{"name":"Zoe \ud83d"}"#, MessageError::LoneSurrogate);
        refused(b"[[[[]]]]", MessageError::TooDeep);
        refused("[".repeat(60_000).as_bytes(), MessageError::TooDeep);
        let deepest =
            RawValue::from_string(r#"{"type":"broadcast","event":"shout","payload":[[[]]]}"#.to_owned());
        check(&push(NAMES, 1, b"[[[]]]"), &limits, Ok(Payload::Json(&deepest.unwrap())));
        for encoding in 2..=255 {
            check(&push(NAMES, encoding, b"{}"), &limits, Err(MessageError::BroadcastEncoding));
        }
        let names = [NAMES[0], NAMES[1], NAMES[2], &b"caf\xe9"[..], b""];
        check(&push(names, 1, b"{}"), &limits, Err(MessageError::NameNotUtf8));
        let narrow = Limits { event_bytes_max: 8, ..Limits::default() };
        check(&push(NAMES, 1, b"{}"), &narrow, Err(MessageError::EventTooLong));
    }

    #[test]
    fn a_topic_that_is_written_as_single_bytes_is_echoed_as_the_client_knows_it() {
        let bytes = push([b"1", b"2", b"realtime:caf\xe9", b"shout", b""], 1, b"{}");
        let mut scratch = String::new();
        let Err(Undecodable::Refused(refused)) = V2.decode_binary(&bytes, &mut scratch, &Limits::default())
        else {
            panic!("it is refused")
        };
        assert_eq!((refused.topic, refused.error), ("realtime:café".into(), MessageError::NameNotUtf8));
        assert_eq!(refused.message_ref, Some(Ref::from_text("2")));
    }

    #[test]
    fn a_user_broadcast_that_is_cut_short_is_unreadable() {
        let limits = Limits::default();
        for (encoding, data) in [(0, &b"data"[..]), (1, b"7777")] {
            let bytes = push([b"1", b"2", b"realtime:a", b"shout", b"{}"], encoding, data);
            for end in 0..=bytes.len() {
                let mut scratch = String::new();
                let cut = V2.decode_binary(&bytes[..end], &mut scratch, &limits);
                let head = bytes.len() - data.len();
                match cut {
                    Err(Undecodable::Unreadable(error)) => {
                        assert_eq!((end < head, error), (true, DecodeError::BinaryTruncated), "{end}");
                    }
                    Err(Undecodable::Refused(refused)) => {
                        assert_eq!((encoding, end, refused.error), (1, head, MessageError::BroadcastNotJson));
                    }
                    Ok(message) => assert!(end >= head && message.message_ref.is_some(), "{end}"),
                }
            }
        }
    }

    #[test]
    fn user_broadcasts_are_encoded() {
        let owned = UserBroadcastBuf::new("shout", b"\0\xff").unwrap();
        let payload = Payload::UserBroadcast(owned.as_ref());
        let mut out = b"before ".to_vec();
        assert_eq!(V2.encode_broadcast(&mut out, "realtime:a", "broadcast", payload), Ok(Kind::Binary));
        assert_eq!(out, b"before \x04\x0a\x05\0\0realtime:ashout\0\xff");
        let mut pushed = b"before ".to_vec();
        let join_ref = Some(Ref::from_text("1"));
        assert_eq!(
            V2.encode_push(&mut pushed, join_ref, "realtime:a", "broadcast", payload),
            Ok(Kind::Binary)
        );
        assert_eq!(pushed, out, "there is no form with a join_ref");
        out.clear();
        let topic = TopicField::from("t");
        assert_eq!(V2.encode_reply(&mut out, join_ref, join_ref, &topic, "ok", payload), Ok(Kind::Binary));
        assert_eq!(out, b"\x01\x01\x01\x01\x0211tok\0\xff");
        out.clear();
        let long = "x".repeat(256);
        for (serializer, topic, expected) in
            [(V1, "t", EncodeError::BinaryInV1), (V2, &*long, EncodeError::FieldTooLong)]
        {
            assert_eq!(serializer.encode_broadcast(&mut out, topic, "broadcast", payload), Err(expected));
            assert!(out.is_empty());
        }
    }
}
