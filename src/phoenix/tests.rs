//! The messages of the protocol, each with the bytes it has on the wire.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::limits::Limits;
use Serializer::{V1, V2};

/// The ref written as `json`; null is none.
fn reference(json: &str) -> Option<Ref<'_>> {
    Ref::from_json(serde_json::from_str(json).unwrap())
}

/// The payload written as `json`.
fn payload(json: &str) -> Payload<'_> {
    Payload::Json(serde_json::from_str(json).unwrap())
}

/// `text` decodes to these five fields, of which all but the event are written as JSON; and again so after
/// it was encoded.
fn check_text(serializer: Serializer, text: &str, expected: [&str; 5]) {
    let limits = Limits::default();
    let [join_ref, message_ref, topic, event, body] = expected;
    let expected = Message {
        join_ref: reference(join_ref),
        message_ref: reference(message_ref),
        topic: serde_json::from_str(topic)
            .map_or(TopicField::Other(topic), |topic| TopicField::Text(Cow::Owned(topic))),
        event: event.into(),
        payload: payload(body),
    };
    assert_eq!(serializer.decode_text(text, &limits).as_ref(), Ok(&expected), "{text}");
    let mut out = Vec::new();
    assert_eq!(serializer.encode_message(&mut out, &expected), Ok(Kind::Text));
    let again = std::str::from_utf8(&out).unwrap();
    assert_eq!(serializer.decode_text(again, &limits), Ok(expected), "{text} -> {again}");
}

/// `text` can't be read, for this reason.
fn check_unreadable(serializer: Serializer, text: &str, expected: DecodeError) {
    assert_eq!(serializer.decode_text(text, &Limits::default()), Err(expected.into()), "{text}");
}

/// What is wrong with one message.
fn refusal<'a>(decoded: Result<Message<'a>, Undecodable<'a>>) -> Option<MessageError> {
    match decoded {
        Ok(_) => None,
        Err(Undecodable::Refused(refused)) => Some(refused.error),
        Err(Undecodable::Unreadable(error)) => panic!("{error}"),
    }
}

/// The encoder appends `expected`, text or bytes as `kind` says, to what was there.
#[track_caller]
fn check_encoded(
    kind: Kind,
    expected: impl AsRef<[u8]>,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<Kind, EncodeError>,
) {
    let mut out = b"before ".to_vec();
    assert_eq!(encode(&mut out), Ok(kind));
    assert_eq!(out.strip_prefix(b"before ").unwrap().escape_ascii().to_string(), {
        expected.as_ref().escape_ascii().to_string()
    });
}

/// The encoder refuses, and leaves the output alone.
#[track_caller]
fn check_not_encoded(expected: EncodeError, encode: impl FnOnce(&mut Vec<u8>) -> Result<Kind, EncodeError>) {
    let mut out = b"before ".to_vec();
    assert_eq!(encode(&mut out), Err(expected));
    assert_eq!(out, b"before ");
}

#[test]
fn vsn_chooses_the_serializer() {
    let cases: &[(Option<&str>, Option<Serializer>)] = &[
        (None, Some(V1)),
        (Some("1.0.0"), Some(V1)),
        (Some("1.0.7"), Some(V1)),
        (Some("2.0.0"), Some(V2)),
        (Some("2.0.1"), Some(V2)),
        (Some("2.0.10"), Some(V2)),
        (Some("2.0.99999999999999999999999999"), Some(V2)),
        (Some("2.0.0+build.5-x"), Some(V2)),
        (Some("1.0.0+0001"), Some(V1)),
    ];
    for (vsn, expected) in cases {
        assert_eq!(Serializer::from_vsn(*vsn), *expected, "{vsn:?}");
    }
    let refused = [
        "",
        "abc",
        "1",
        "2",
        "2.0",
        "2.0.",
        "2.0.0.",
        "2.0.0.0",
        "2.1.0",
        "1.1.0",
        "3.0.0",
        "0.9.0",
        "02.0.0",
        "2.00.0",
        "2.0.00",
        "2.0.01",
        "2.0.0-rc.1",
        "2.0.1-rc.1",
        "2.0.0-",
        "2.0.0+",
        "2.0.0+a..b",
        "2.0.0+a+b",
        "2.0.0+ä",
        "2.0.0 ",
        " 2.0.0",
        "v2.0.0",
        "2.0.x",
        "2.0.-1",
        "2.0.+1",
        "2.0.٣",
        "~> 2.0",
        "20.0",
        "2.0.0\0",
    ];
    for vsn in refused {
        assert_eq!(Serializer::from_vsn(Some(vsn)), None, "{vsn:?}");
    }
}

#[test]
fn v2_messages_are_decoded() {
    let cases: &[(&str, [&str; 5])] = &[
        (
            r#"["1","1","room:lobby","phx_join",{}]"#,
            [r#""1""#, r#""1""#, r#""room:lobby""#, "phx_join", "{}"],
        ),
        (
            r#"["1","2","room:lobby","phx_leave",{}]"#,
            [r#""1""#, r#""2""#, r#""room:lobby""#, "phx_leave", "{}"],
        ),
        (
            r#"["1","3","room:lobby","new_msg",{"body":"hi"}]"#,
            [r#""1""#, r#""3""#, r#""room:lobby""#, "new_msg", r#"{"body":"hi"}"#],
        ),
        (r#"[null,"5","phoenix","heartbeat",{}]"#, ["null", r#""5""#, r#""phoenix""#, "heartbeat", "{}"]),
        // Messages of the server have the same form.
        (
            r#"[null,null,"room:x","presence_diff",{"joins":{"a":{"metas":[]}},"leaves":{}}]"#,
            ["null", "null", r#""room:x""#, "presence_diff", r#"{"joins":{"a":{"metas":[]}},"leaves":{}}"#],
        ),
        // Refs are opaque.
        (r#"[1,2,"t","e",null]"#, ["1", "2", r#""t""#, "e", "null"]),
        (r#"[1.50,-0,"t","e",true]"#, ["1.50", "-0", r#""t""#, "e", "true"]),
        (r#"[{"a":1},[],"t","e",[]]"#, [r#"{"a":1}"#, "[]", r#""t""#, "e", "[]"]),
        (r#"["","\u0031","t","e",7]"#, [r#""""#, r#""1""#, r#""t""#, "e", "7"]),
        // An odd topic is no error.
        ("[null,\"1\",null,\"e\",{}]", ["null", r#""1""#, "null", "e", "{}"]),
        ("[null,\"1\",17,\"e\",{}]", ["null", r#""1""#, "17", "e", "{}"]),
        ("[null,\"1\",{\"a\":[]},\"e\",{}]", ["null", r#""1""#, "{\"a\":[]}", "e", "{}"]),
        (r#"[null,"1","","",{}]"#, ["null", r#""1""#, r#""""#, "", "{}"]),
        (
            r#"[null,"1","a\u0000\n\"é🎵","\ud834\udd1e",{}]"#,
            ["null", r#""1""#, r#""a\u0000\n\"é🎵""#, "𝄞", "{}"],
        ),
        // White space is free, further elements are ignored.
        (
            " \t\r\n[ \"1\" , \"2\"\n,\t\"t\" , \"e\" , { \"a\" : 1 } ] \n",
            [r#""1""#, r#""2""#, r#""t""#, "e", r#"{ "a" : 1 }"#],
        ),
        (r#"["1","2","t","e",{},6,[7],"8"]"#, [r#""1""#, r#""2""#, r#""t""#, "e", "{}"]),
        // What JSON allows in a payload passes untouched.
        (
            r#"["1","2","t","e",{"a":1e999999,"a":"\ud834\udd1e","":-0.0E-7}]"#,
            [r#""1""#, r#""2""#, r#""t""#, "e", r#"{"a":1e999999,"a":"\ud834\udd1e","":-0.0E-7}"#],
        ),
        (r#"["1","2","t","e","text"]"#, [r#""1""#, r#""2""#, r#""t""#, "e", r#""text""#]),
    ];
    for (text, expected) in cases {
        check_text(V2, text, *expected);
    }
}

#[test]
fn v1_messages_are_decoded() {
    let cases: &[(&str, [&str; 5])] = &[
        (
            r#"{"topic":"room:lobby","event":"phx_join","payload":{},"ref":"1"}"#,
            ["null", r#""1""#, r#""room:lobby""#, "phx_join", "{}"],
        ),
        (
            r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":5}"#,
            ["null", "5", r#""phoenix""#, "heartbeat", "{}"],
        ),
        (
            r#"{"ref":null,"payload":[{"a":1}],"event":"e","topic":"t"}"#,
            ["null", "null", r#""t""#, "e", r#"[{"a":1}]"#],
        ),
        (
            r#"{"topic":"t","event":"e","payload":null,"ref":"2","join_ref":"1"}"#,
            [r#""1""#, r#""2""#, r#""t""#, "e", "null"],
        ),
        (
            r#"{"topic":"t","event":"e","payload":null,"ref":"2","join_ref":null}"#,
            ["null", r#""2""#, r#""t""#, "e", "null"],
        ),
        (r#"{"topic":null,"event":"e","payload":{},"ref":"2"}"#, ["null", r#""2""#, "null", "e", "{}"]),
        // Unknown keys are ignored, keys may be written with escapes.
        (
            r#"{"other":{"topic":"no"},"t\u006fpic":"t","event":"e","payload":{},"ref":"2","":0}"#,
            ["null", r#""2""#, r#""t""#, "e", "{}"],
        ),
        // The first of several counts.
        (
            r#"{"topic":"t","event":"e","payload":{},"ref":null,"topic":"x","event":1,"payload":[],"ref":2}"#,
            ["null", "null", r#""t""#, "e", "{}"],
        ),
        (
            " { \"topic\" : \"t\\u0041\" ,\n\"event\":\"e\\/\", \"payload\" : {\"a\": [1]} , \"ref\" : 1 } ",
            ["null", "1", r#""tA""#, "e/", r#"{"a": [1]}"#],
        ),
    ];
    for (text, expected) in cases {
        check_text(V1, text, *expected);
        let mut scratch = String::new();
        let bytes = V1.decode_binary(text.as_bytes(), &mut scratch, &Limits::default());
        assert_eq!(bytes, V1.decode_text(text, &Limits::default()), "the opcode means nothing: {text}");
    }
}

#[test]
fn what_is_no_message_is_refused() {
    use DecodeError::*;
    let cases: &[(Serializer, &str, DecodeError)] = &[
        (V2, "", NotJson),
        (V2, "hello", NotJson),
        (V2, "nul", NotJson),
        (V2, r#"["1","1","t","e",{}"#, NotJson),
        (V2, r#"["1","1","t","e",{}]]"#, NotJson),
        (V2, r#"["1","1","t","e",{}] x"#, NotJson),
        (V2, r#"["1","1","t","e",{},]"#, NotJson),
        (V2, r#"["1","1","t","e",{},nope]"#, NotJson),
        (V2, r#"["1","1","t","e",{"a"}]"#, NotJson),
        (V2, r#"["1","1","t","e",{a:1}]"#, NotJson),
        (V2, r#"["1","1","t","e",01]"#, NotJson),
        (V2, r#"["1","1","t","e",.5]"#, NotJson),
        (V2, r#"["1","1","t","e",NaN]"#, NotJson),
        (V2, r#"["1","1","t","e",'x']"#, NotJson),
        (V2, r#"["1","1","t","e",{"a":1,}]"#, NotJson),
        (V2, r#"["1","1","t","e","\x"]"#, NotJson),
        (V2, r#"["1","1","t","e","\u12g4"]"#, NotJson),
        (V2, "[\"1\",\"1\",\"t\",\"e\",\"a\nb\"]", NotJson),
        (V2, "[\"1\",\"1\",\"t\nu\",\"e\",{}]", NotJson),
        (V2, "[\"1\",\"1\",\"t\",\"e\0\",{}]", NotJson),
        (V2, "\u{feff}[\"1\",\"1\",\"t\",\"e\",{}]", NotJson),
        (V2, "{}", NotAnArray),
        (V2, r#"{"topic":"t","event":"e","payload":{},"ref":"1"}"#, NotAnArray),
        (V2, "null", NotAnArray),
        (V2, "5", NotAnArray),
        (V2, r#""["1"]""#, NotAnArray),
        (V2, "[]", TooFewElements),
        (V2, r#"["1","1","t","e"]"#, TooFewElements),
        (V1, "", NotJson),
        (V1, r#"{"topic":"t","event":"e","payload":{},"ref":"1""#, NotJson),
        (V1, r#"{"topic":"t","event":"e","payload":{},"ref":"1"}}"#, NotJson),
        (V1, r#"{"topic":"t","event":"e","payload":{},"ref":"1",}"#, NotJson),
        (V1, r#"{"topic":"t","event":"e","payload":{},"ref":"1",5:6}"#, NotJson),
        (V1, r#"{"topic":"t","event":"e","payload":{},"ref":"1","x":}"#, NotJson),
        (V1, r#"["1","1","t","e",{}]"#, NotAnObject),
        (V1, "true", NotAnObject),
        (V1, "{}", MissingKey),
        (V1, r#"{"event":"e","payload":{},"ref":"1"}"#, MissingKey),
        (V1, r#"{"topic":"t","payload":{},"ref":"1"}"#, MissingKey),
        (V1, r#"{"topic":"t","event":"e","ref":"1"}"#, MissingKey),
        (V1, r#"{"topic":"t","event":"e","payload":{}}"#, MissingKey),
        (V1, r#"{"Topic":"t","event":"e","payload":{},"ref":"1"}"#, MissingKey),
        (V1, r#"{"topic":"t","event":"e","payload":{},"ref":"1","\udd1e":0}"#, NotJson),
    ];
    for (serializer, text, expected) in cases {
        check_unreadable(*serializer, text, *expected);
    }
}

#[test]
fn no_prefix_of_a_text_message_is_a_message() {
    let limits = Limits::default();
    let texts = [
        (V2, r#"["1","\u0031","room:\ud834\udd1e","new_msg",{"body":["hi",{"a":-1.5e+3}]},true]"#),
        (V1, r#"{"topic":"t\n","event":"e","payload":{"a":[1,"é"]},"ref":"1","join_ref":2,"x":null}"#),
    ];
    for (serializer, text) in texts {
        assert!(serializer.decode_text(text, &limits).is_ok());
        for (end, _) in text.char_indices() {
            let prefix = &text[..end];
            assert_eq!(serializer.decode_text(prefix, &limits), Err(DecodeError::NotJson.into()), "{prefix}");
        }
    }
}

#[test]
fn limits_are_kept_to_the_byte() {
    use MessageError::*;
    let limits = Limits {
        topic_bytes_max: 8,
        event_bytes_max: 9,
        ref_bytes_max: 10,
        json_depth_max: 4,
        ..Limits::default()
    };
    let cases: &[([&str; 5], Option<MessageError>)] = &[
        (["null", "1", r#""12345678""#, r#""123456789""#, "{}"], None),
        (["null", "1", r#""123456789""#, r#""e""#, "{}"], Some(TopicTooLong)),
        (["null", "1", r#""1234567é""#, r#""e""#, "{}"], Some(TopicTooLong)),
        (["null", "1", r#""\u00311111111""#, r#""e""#, "{}"], None),
        (["null", "1", "123456789", r#""e""#, "{}"], Some(TopicTooLong)),
        (["null", "1", r#""t""#, r#""1234567890""#, "{}"], Some(EventTooLong)),
        (["1234567890", r#""12345678""#, r#""t""#, r#""e""#, "{}"], None),
        (["12345678901", "1", r#""t""#, r#""e""#, "{}"], Some(RefTooLong)),
        (["1", r#""123456789""#, r#""t""#, r#""e""#, "{}"], Some(RefTooLong)),
        (["1", "1", r#""t""#, r#""e""#, "[[[]]]"], None),
        (["1", "1", r#""t""#, r#""e""#, "[[[{}]]]"], Some(TooDeep)),
        (["1", "1", r#""t""#, r#""e""#, r#"["[[[[[[[[["]"#], None),
        (["[[[]]]", "1", r#""t""#, r#""e""#, "{}"], None),
        (["[[[[]]]]", "1", r#""t""#, r#""e""#, "{}"], Some(TooDeep)),
    ];
    for (fields, expected) in cases {
        let [join_ref, message_ref, topic, event, payload] = fields;
        let v1 = format!(
            r#"{{"topic":{topic},"event":{event},"payload":{payload},"ref":{message_ref},"join_ref":{join_ref}}}"#
        );
        assert_eq!(
            refusal(V2.decode_text(&format!("[{}]", fields.join(",")), &limits)),
            *expected,
            "{fields:?}"
        );
        assert_eq!(refusal(V1.decode_text(&v1, &limits)), *expected, "{v1}");
    }
}

#[test]
fn a_depth_bomb_is_refused_without_recursion() {
    for open in ["[", "{\"a\":", "[{\"a\":"] {
        // Of these nothing can be read.
        check_unreadable(
            V2,
            &open.repeat(100_000),
            if open == "{\"a\":" { DecodeError::NotAnArray } else { DecodeError::NotJson },
        );
        check_unreadable(
            V1,
            &open.repeat(100_000),
            if open == "{\"a\":" { DecodeError::NotJson } else { DecodeError::NotAnObject },
        );
    }
    let deep = |depth| format!(r#"["1","1","t","e",{}{}]"#, "[".repeat(depth), "]".repeat(depth));
    assert!(V2.decode_text(&deep(63), &Limits::default()).is_ok());
    for depth in [64, 100_000] {
        assert_eq!(refusal(V2.decode_text(&deep(depth), &Limits::default())), Some(MessageError::TooDeep));
    }
    let limits = Limits { json_depth_max: usize::MAX, ..Limits::default() };
    assert!(V2.decode_text(&deep(100_000), &limits).is_ok());
}

/// The message in the bytes, which need no rewriting.
fn decode_binary<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Message<'a>, Undecodable<'a>> {
    V2.decode_binary(bytes, Box::leak(Box::default()), limits)
}

/// A client's binary push.
fn push_bytes(fields: [&[u8]; 4], data: &[u8]) -> Vec<u8> {
    let sizes = fields.map(|field| u8::try_from(field.len()).unwrap());
    [&[0], &sizes[..], &fields.concat(), data].concat()
}

#[test]
fn binary_pushes_are_decoded() {
    let limits = Limits::default();
    let long = [b'x'; 255];
    let cases: &[([&[u8]; 4], &[u8])] = &[
        ([b"1", b"3", b"room:lobby", b"new_msg"], b"\x00\xff\x80data"),
        ([b"1", b"1", b"room:lobby", b"phx_join"], b""),
        ([b"", b"", b"phoenix", b"heartbeat"], b"{}"),
        ([b"", b"", b"", b""], b""),
        ([b"\"\n", b"12", "räum".as_bytes(), b"e\0"], b"x"),
        ([b"1", b"2", &long, &long], b"x"),
    ];
    for (fields, data) in cases {
        let bytes = push_bytes(*fields, data);
        let message = decode_binary(&bytes, &limits).unwrap();
        let [join_ref, message_ref, topic, event] = fields.map(|field| std::str::from_utf8(field).unwrap());
        assert_eq!(
            message,
            Message {
                join_ref: Some(Ref::from_text(join_ref)),
                message_ref: Some(Ref::from_text(message_ref)),
                topic: topic.into(),
                event: event.into(),
                payload: Payload::Binary(data),
            }
        );
        assert!(matches!(message.topic, TopicField::Text(Cow::Borrowed(_))));
        check_encoded(Kind::Binary, &bytes, |out| V2.encode_message(out, &message));

        // Data may be any length, so cuts inside it are messages too.
        let head = bytes.len() - data.len();
        for end in 0..bytes.len() {
            let cut = decode_binary(&bytes[..end], &limits);
            if end < head {
                assert_eq!(cut, Err(DecodeError::BinaryTruncated.into()), "{end} bytes of {fields:?}");
            } else {
                assert_eq!(
                    cut,
                    Ok(Message { payload: Payload::Binary(&data[..end - head]), ..message.clone() })
                );
            }
        }
    }
}

#[test]
fn binary_that_is_no_push_is_refused() {
    let limits = Limits::default();
    let check = |bytes: &[u8], expected: DecodeError| {
        assert_eq!(decode_binary(bytes, &limits), Err(expected.into()), "{}", bytes.escape_ascii());
    };
    let check_refused = |bytes: &[u8], expected| {
        assert_eq!(refusal(decode_binary(bytes, &limits)), Some(expected), "{}", bytes.escape_ascii());
    };
    for kind in (1..=255).filter(|kind| *kind != 3) {
        check(&[kind], DecodeError::BinaryUnknownKind);
        check(&[kind, 0, 0, 0, 0], DecodeError::BinaryUnknownKind);
    }
    check(b"[\"1\",\"1\",\"t\",\"e\",{}]", DecodeError::BinaryUnknownKind);
    check(&[0, 255, 255, 255, 255], DecodeError::BinaryTruncated);
    check(&[0, 0, 0, 0, 1], DecodeError::BinaryTruncated);
    for at in 0..4 {
        let mut fields: [&[u8]; 4] = [b"1", b"2", b"t", b"e"];
        fields[at] = b"\xed\xa0\x80";
        check_refused(&push_bytes(fields, b"data"), MessageError::NameNotUtf8);
    }
    let long = [b'1'; 63];
    check_refused(&push_bytes([&long, b"2", b"t", b"e"], b""), MessageError::RefTooLong);
    check_refused(&push_bytes([b"1", &long, b"t", b"e"], b""), MessageError::RefTooLong);
    assert!(decode_binary(&push_bytes([&long[..62], b"2", b"t", b"e"], b""), &limits).is_ok());
    // As JSON text the control bytes grow sixfold.
    check_refused(&push_bytes([&[0; 11], b"2", b"t", b"e"], b""), MessageError::RefTooLong);

    let limits = Limits { topic_bytes_max: 8, event_bytes_max: 8, ..Limits::default() };
    let decode = |topic, event| refusal(decode_binary(&push_bytes([b"1", b"2", topic, event], b""), &limits));
    assert_eq!(decode(b"12345678", b"12345678"), None);
    assert_eq!(decode(b"123456789", b"e"), Some(MessageError::TopicTooLong));
    assert_eq!(decode(b"t", b"123456789"), Some(MessageError::EventTooLong));

    for (bytes, expected) in
        [(&b"{\"\xff\":1}"[..], DecodeError::BadUtf8), (&[0, 0, 0, 0, 0], DecodeError::NotJson)]
    {
        assert_eq!(V1.decode_binary(bytes, &mut String::new(), &limits), Err(expected.into()));
    }
}

#[test]
fn an_ordinary_message_borrows_all_it_has() {
    let text = r#"["1","3","room:lobby","new_msg",{"body":"hi \n"}]"#;
    let message = V2.decode_text(text, &Limits::default()).unwrap();
    assert!(matches!(message.topic, TopicField::Text(Cow::Borrowed("room:lobby"))));
    assert!(matches!(message.event, Cow::Borrowed("new_msg")));
    assert!(matches!(message.join_ref.unwrap().to_json(), Cow::Borrowed("\"1\"")));
}

#[test]
fn replies_are_encoded() {
    let one = reference(r#""1""#);
    let lobby = TopicField::from("room:lobby");
    let check = |refs: [Option<Ref<'_>>; 2], topic: &TopicField<'_>, status, response, v2: &str, v1: &str| {
        let [join_ref, message_ref] = refs;
        for (serializer, expected) in [(V2, v2), (V1, v1)] {
            check_encoded(Kind::Text, expected, |out| {
                serializer.encode_reply(out, join_ref, message_ref, topic, status, payload(response))
            });
        }
    };
    check(
        [one, one],
        &lobby,
        "ok",
        "{}",
        r#"["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]"#,
        r#"{"topic":"room:lobby","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}"#,
    );
    check(
        [None, reference("5")],
        &TopicField::Other("null"),
        "error",
        r#"{"reason":"unmatched topic"}"#,
        r#"[null,5,null,"phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
        r#"{"topic":null,"event":"phx_reply","payload":{"status":"error","response":{"reason":"unmatched topic"}},"ref":5}"#,
    );
    check(
        [Some(Ref::from_text("")), Some(Ref::from_text("\""))],
        &"a\"b\u{1f}".into(),
        "o\nk",
        "[1, 2]",
        r#"["","\"","a\"b\u001f","phx_reply",{"status":"o\nk","response":[1, 2]}]"#,
        r#"{"topic":"a\"b\u001f","event":"phx_reply","payload":{"status":"o\nk","response":[1, 2]},"ref":"\""}"#,
    );
    check(
        [None, None],
        &lobby,
        "ok",
        "null",
        r#"[null,null,"room:lobby","phx_reply",{"status":"ok","response":null}]"#,
        r#"{"topic":"room:lobby","event":"phx_reply","payload":{"status":"ok","response":null},"ref":null}"#,
    );
}

#[test]
fn pushes_and_broadcasts_are_encoded() {
    let body = payload(r#"{"body": "hi"}"#);
    let v1 = r#"{"topic":"room:1","event":"new_msg","payload":{"body": "hi"},"ref":null}"#;
    check_encoded(Kind::Text, r#"["1",null,"room:1","new_msg",{"body": "hi"}]"#, |out| {
        V2.encode_push(out, reference(r#""1""#), "room:1", "new_msg", body)
    });
    check_encoded(Kind::Text, v1, |out| V1.encode_push(out, reference(r#""1""#), "room:1", "new_msg", body));
    check_encoded(Kind::Text, r#"[null,null,"room:1","new_msg",{"body": "hi"}]"#, |out| {
        V2.encode_broadcast(out, "room:1", "new_msg", body)
    });
    check_encoded(Kind::Text, v1, |out| V1.encode_broadcast(out, "room:1", "new_msg", body));
    check_encoded(Kind::Text, r#"[null,null,"\\","\t",{}]"#, |out| {
        V2.encode_broadcast(out, "\\", "\t", Payload::empty())
    });
}

#[test]
fn ends_of_channels_are_encoded() {
    let cases: &[(&str, [&str; 4])] = &[
        (
            r#""1""#,
            [
                r#"["1","1","t","phx_close",{}]"#,
                r#"{"topic":"t","event":"phx_close","payload":{},"ref":"1"}"#,
                r#"["1","1","t","phx_error",{"reason":"channel_crash"}]"#,
                r#"{"topic":"t","event":"phx_error","payload":{"reason":"channel_crash"},"ref":"1"}"#,
            ],
        ),
        (
            "null",
            [
                r#"[null,null,"t","phx_close",{}]"#,
                r#"{"topic":"t","event":"phx_close","payload":{},"ref":null}"#,
                r#"[null,null,"t","phx_error",{"reason":"channel_crash"}]"#,
                r#"{"topic":"t","event":"phx_error","payload":{"reason":"channel_crash"},"ref":null}"#,
            ],
        ),
    ];
    for (join_ref, [v2_close, v1_close, v2_error, v1_error]) in cases {
        let join_ref = reference(join_ref);
        check_encoded(Kind::Text, v2_close, |out| Ok(V2.encode_close(out, join_ref, "t")));
        check_encoded(Kind::Text, v1_close, |out| Ok(V1.encode_close(out, join_ref, "t")));
        check_encoded(Kind::Text, v2_error, |out| Ok(V2.encode_error(out, join_ref, "t", "channel_crash")));
        check_encoded(Kind::Text, v1_error, |out| Ok(V1.encode_error(out, join_ref, "t", "channel_crash")));
    }
}

#[test]
fn binary_messages_are_encoded() {
    let data = Payload::Binary(b"\0\xff");
    check_encoded(Kind::Binary, b"\0\x02\x01\x0310tnew\0\xff", |out| {
        V2.encode_push(out, Some(Ref::from_text("10")), "t", "new", data)
    });
    check_encoded(Kind::Binary, b"\0\0\0\0\0\xff", |out| V2.encode_push(out, None, "", "", data));
    check_encoded(Kind::Binary, b"\x02\x01\x03tnew\0\xff", |out| V2.encode_broadcast(out, "t", "new", data));
    // A ref is written as bare bytes, whatever it was in JSON.
    let refs: &[(&str, &[u8])] = &[
        (r#""1""#, b"\x01\x02\x01\x01\x02171tok\0\xff"),
        ("1", b"\x01\x02\x01\x01\x02171tok\0\xff"),
        ("null", b"\x01\x02\0\x01\x0217tok\0\xff"),
        (r#""""#, b"\x01\x02\0\x01\x0217tok\0\xff"),
        (r#""\"\u0041""#, b"\x01\x02\x02\x01\x0217\"Atok\0\xff"),
    ];
    for (json, expected) in refs {
        check_encoded(Kind::Binary, expected, |out| {
            V2.encode_reply(out, Some(Ref::from_text("17")), reference(json), &"t".into(), "ok", data)
        });
    }
}

#[test]
fn what_has_no_binary_form_is_not_encoded() {
    let data = Payload::Binary(b"x");
    let long = "x".repeat(256);
    let long_ref = format!("\"{long}\"");
    let topic = TopicField::from("t");
    check_not_encoded(EncodeError::BinaryInV1, |out| V1.encode_push(out, None, "t", "e", data));
    check_not_encoded(EncodeError::BinaryInV1, |out| V1.encode_broadcast(out, "t", "e", data));
    check_not_encoded(EncodeError::BinaryInV1, |out| V1.encode_reply(out, None, None, &topic, "ok", data));
    check_not_encoded(EncodeError::FieldTooLong, |out| V2.encode_push(out, None, &long, "e", data));
    check_not_encoded(EncodeError::FieldTooLong, |out| V2.encode_push(out, None, "t", &long, data));
    check_not_encoded(EncodeError::FieldTooLong, |out| {
        V2.encode_push(out, reference(&long_ref), "t", "e", data)
    });
    check_not_encoded(EncodeError::FieldTooLong, |out| V2.encode_broadcast(out, "t", &long, data));
    check_not_encoded(EncodeError::FieldTooLong, |out| {
        V2.encode_reply(out, None, reference(&long_ref), &topic, "ok", data)
    });
    check_not_encoded(EncodeError::FieldTooLong, |out| V2.encode_reply(out, None, None, &topic, &long, data));
    check_not_encoded(EncodeError::TopicNotAString, |out| {
        V2.encode_reply(out, None, None, &TopicField::Other("1"), "ok", data)
    });
    let fits = &long[..255];
    let mut out = Vec::new();
    let some = Some(Ref::from_text(fits));
    assert_eq!(V2.encode_reply(&mut out, some, some, &fits.into(), fits, data), Ok(Kind::Binary));
    assert_eq!(out.len(), 5 + 4 * 255 + 1);
}

#[test]
fn payloads_are_parsed_into_values_that_borrow() {
    let message = V2.decode_text(r#"["1","1","t","e",{"body":"hi"}]"#, &Limits::default()).unwrap();
    let value: std::collections::HashMap<&str, &str> = message.payload.deserialize().unwrap();
    assert_eq!(value["body"], "hi");
    assert!(matches!(message.payload.deserialize::<Vec<u8>>(), Err(PayloadError::Mismatch(_))));
    assert!(matches!(Payload::Binary(b"{}").deserialize::<&RawValue>(), Err(PayloadError::Binary)));
    assert_eq!(Payload::empty().as_json_str(), Some("{}"));
    assert_eq!(Payload::Binary(b"{}").as_json_str(), None);
}

/// A space makes no difference to what a message says, but it has to be parsed then.
#[track_caller]
fn check_against_parser(text: &str, limits: &Limits) {
    let spaced = text.replacen('[', "[ ", 1);
    assert_eq!(V2.decode_text(text, limits), V2.decode_text(&spaced, limits), "{text}");
}

#[test]
fn a_message_without_white_space_and_escapes_is_read_as_the_parser_reads_it() {
    let narrow = Limits {
        topic_bytes_max: 8,
        event_bytes_max: 8,
        ref_bytes_max: 8,
        json_depth_max: 1,
        ..Limits::default()
    };
    let deeper = Limits { json_depth_max: 2, ..narrow.clone() };
    let words = [
        "null",
        r#""""#,
        r#""1""#,
        r#""12345678""#,
        r#""a\"b""#,
        r#""ü{[""#,
        r#""a"b""#,
        "1",
        "nul",
        "\"\n\"",
        "{}",
    ];
    for (one, two) in words.iter().flat_map(|one| words.iter().map(move |two| (one, two))) {
        for text in [
            format!(r#"[{one},{two},"room:1","phx_join",{{}}]"#),
            format!(r#"[null,"1",{one},{two},{{}}]"#),
            format!(r#"[{one},"1","room:1",{two},{{}},{{}}]"#),
            format!(r#"[null,"1","room:1"{one},{two},{{}}]"#),
            format!("[{one},{two},{{}}]"),
            format!("[[{one},{two},{one},{two},{{}}]"),
        ] {
            for limits in [&Limits::default(), &narrow, &deeper] {
                check_against_parser(&text, limits);
            }
        }
    }
    let join = r#"["1","12","room:1","phx_join",{}]"#;
    let message = V2.decode_text(join, &deeper).unwrap();
    assert_eq!((message.topic.as_str(), &*message.event), (Some("room:1"), "phx_join"));
    let refs = (Some(Ref::from_text("1")), Some(Ref::from_text("12")));
    assert_eq!((message.join_ref, message.message_ref), refs);
    for at in 0..join.len() {
        check_against_parser(&join[..at], &deeper);
        for other in ["", "x", "\"", "\\", ",", "\u{1}"] {
            check_against_parser(&format!("{}{other}{}", &join[..at], &join[at + 1..]), &deeper);
        }
    }
}

proptest! {
    #[test]
    fn any_message_with_an_empty_payload_is_read_as_the_parser_reads_it(
        fields in prop::collection::vec("(null|\"([ -~]|\\PC){0,12}\"|[ -~]{0,5})", 3..6),
    ) {
        check_against_parser(&format!("[{},{{}}]", fields.join(",")), &Limits::default());
    }
}

proptest! {
    #[test]
    fn any_message_survives_both_serializers(
        refs in prop::collection::vec(prop::option::of("([\\x00-\\x7f]|\\PC){0,5}"), 2),
        topic in "([\\x00-\\x7f]|\\PC){0,20}",
        event in "([\\x00-\\x7f]|\\PC){0,20}",
        body in "([\\x00-\\x7f]|\\PC){0,40}",
    ) {
        let json = serde_json::to_string(&[[body]]).unwrap();
        let message = Message {
            join_ref: refs[0].as_deref().map(Ref::from_text),
            message_ref: refs[1].as_deref().map(Ref::from_text),
            topic: topic.as_str().into(),
            event: event.as_str().into(),
            payload: payload(&json),
        };
        for serializer in [V1, V2] {
            let mut out = Vec::new();
            prop_assert_eq!(serializer.encode_message(&mut out, &message), Ok(Kind::Text));
            let text = std::str::from_utf8(&out).unwrap();
            let again = serializer.decode_text(text, &Limits::default());
            prop_assert_eq!(again.as_ref(), Ok(&message));
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), vsn in any::<bool>()) {
        let serializer = if vsn { V1 } else { V2 };
        let limits = Limits::default();
        let _ = serializer.decode_binary(&bytes, &mut String::new(), &limits);
        let _ = serializer.decode_text(&String::from_utf8_lossy(&bytes), &limits);
    }
}
