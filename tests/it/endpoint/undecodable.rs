//! What is no Phoenix message.

use hailer::phoenix::Serializer::{self, V1, V2};
use hailer::testing::{TestServer, write_masked};
use serde_json::json;

use super::dialogue::{BOTH, Dialogue};
use super::probe::config;

/// The messages close the connection with code 1007 and this reason; another client notices nothing.
#[track_caller]
fn check(serializer: Serializer, reason: &str, messages: &[&str]) {
    for message in messages {
        let mut dialogue = Dialogue::new(&config(), serializer);
        check_close(&mut dialogue, 0x1, message.as_bytes(), reason);
    }
}

#[track_caller]
fn check_close(dialogue: &mut Dialogue, opcode: u8, message: &[u8], reason: &str) {
    dialogue.play(
        r#"
        a -> ["1","1","room:1","phx_join",{}]
        a <- ["1","1","room:1","phx_reply",{"status":"ok","response":{}}]
        b -> ["1","1","room:1","phx_join",{}]
        b <- ["1","1","room:1","phx_reply",{"status":"ok","response":{}}]
        "#,
    );
    let client = dialogue.client("a");
    let shown = String::from_utf8_lossy(message).into_owned();
    let mut bytes = Vec::new();
    write_masked(&mut bytes, opcode, true, message);
    // What comes after it in the same packet is not read any more.
    bytes.extend(dialogue.masked(r#"["1","2","room:1","new_msg",{"body":1}]"#));
    dialogue.server.send_bytes(client, &bytes);
    let expected = format!("close 1007 {reason}");
    assert!(expected.len() <= "close 1007 ".len() + 123);
    assert_eq!(dialogue.take("a"), [expected], "{shown}");
    let stats = dialogue.server.stats();
    assert_eq!((stats.closed_bad_message, stats.web_sockets), (1, 1), "{shown}");
    dialogue.play(
        r#"
        b -> ["1","2","room:1","new_msg",{"body":1}]
        b <- [null,null,"room:1","new_msg",{"body":1}]
        "#,
    );
    // The server gives the connection up although the client does not answer.
    dialogue.server.advance(dialogue.server.limits().close_timeout * 2);
    assert!(dialogue.server.is_gone(client), "{shown}");
}

#[test]
fn what_is_not_json_closes() {
    for serializer in BOTH {
        let messages = ["", " ", "hello", "'a'", "nul", "\u{feff}[]", "-", "\""];
        check(serializer, "the message is not valid JSON", &messages);
    }
    check(
        V2,
        "the message is not valid JSON",
        &[
            "[1,",
            "[1,2,3,4,5,]",
            "[01,2,3,4,5]",
            "[]]",
            r#"["1","1","a","b",{"x":}]"#,
            r#"["1","1","a","b",NaN]"#,
            "[\"1\",\"1\",\"a\u{1}\",\"b\",{}]",
        ],
    );
    check(
        V1,
        "the message is not valid JSON",
        &["{", "{}}", r#"{"topic":"t","event":"e","ref":1,"payload":}"#],
    );
}

#[test]
fn the_other_serializers_form_closes() {
    check(
        V2,
        "expected a JSON array [join_ref, ref, topic, event, payload] since vsn is 2.0.0",
        &[r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}"#, "{}", "null", "7", "\"a\""],
    );
    check(
        V1,
        "expected a JSON object with topic, event, payload and ref; for arrays connect with vsn=2.0.0",
        &[r#"[null,"1","phoenix","heartbeat",{}]"#, "[]", "null", "7", "\"a\""],
    );
}

#[test]
fn what_lacks_something_closes() {
    check(
        V2,
        "expected a JSON array of five elements [join_ref, ref, topic, event, payload]",
        &["[]", "[1]", r#"[null,"1","phoenix","heartbeat"]"#],
    );
    check(
        V1,
        "expected a JSON object with all of the keys topic, event, payload and ref (null if none)",
        &[
            "{}",
            r#"{"event":"e","payload":{},"ref":"1"}"#,
            r#"{"topic":"t","payload":{},"ref":"1"}"#,
            r#"{"topic":"t","event":"e","ref":"1"}"#,
            r#"{"topic":"t","event":"e","payload":{}}"#,
        ],
    );
}

const UNKNOWN_KIND: &str =
    "the binary message begins with neither 0, the kind of a push, nor 3, that of a user broadcast";

#[test]
fn bytes_that_are_no_message_close() {
    for (bytes, reason) in [
        (&b""[..], "the binary message is shorter than its length bytes say"),
        (b"\x00", "the binary message is shorter than its length bytes say"),
        (b"\x00\x01\x01\x01", "the binary message is shorter than its length bytes say"),
        (b"\x00\x01\x01\x01\x01abc", "the binary message is shorter than its length bytes say"),
        (b"\x00\xff\xff\xff\xffabc", "the binary message is shorter than its length bytes say"),
        (b"\x01\x00\x00\x00\x00", UNKNOWN_KIND),
        (b"\x02\x00\x00", UNKNOWN_KIND),
        (b"\xff", UNKNOWN_KIND),
        (b"[null]", UNKNOWN_KIND),
        (b"\x03\x01\x01\x06\x05\x00", "the binary message is shorter than its length bytes say"),
        (b"\x04\x06\x05\x00\x00room:1shout", UNKNOWN_KIND),
    ] {
        check_close(&mut Dialogue::new(&config(), V2), 0x2, bytes, reason);
    }
    check_close(&mut Dialogue::new(&config(), V1), 0x2, b"\xff", "the message is not UTF-8");
}

#[test]
fn every_prefix_of_a_binary_message_closes_or_is_one() {
    let whole = b"\x00\x01\x01\x06\x0411room:1echodata";
    for end in 0..whole.len() {
        let mut server = TestServer::with_config(&config(), 1);
        let client = server.connect();
        server.send_binary(client, &whole[..end]);
        let names_are_whole = end >= whole.len() - b"data".len();
        assert_eq!(server.closed(client).is_none(), names_are_whole, "{end}");
    }
}

#[test]
fn numbers_of_any_size_and_keys_of_any_name_pass() {
    let mut dialogue = Dialogue::new(&config(), V2);
    let digits = "9".repeat(10_000);
    let payload =
        format!(r#"{{"n":1e999999,"m":-{digits},"n":2,"__proto__":{{}},"":null,"constructor":[]}}"#);
    dialogue.play(&format!(
        r#"
        a -> ["1","1","probe:1","phx_join",{payload}]
        a <- ["1","1","probe:1","phx_reply",{{"status":"ok","response":{{}}}}]
        a -> ["1","2","probe:1","shout",{payload}]
        a <- [null,null,"probe:1","shout",{payload}]
        "#
    ));
}

#[test]
fn a_first_key_that_is_repeated_counts() {
    let mut server = TestServer::with_config(&config(), 1);
    let client = server.connect_with(V1);
    server.send_text(
        client,
        r#"{"topic":"room:1","topic":"nope","event":"phx_join","payload":{},"ref":"1","ref":"2"}"#,
    );
    assert_eq!(server.take_reply(client, &json!("1")), Some(json!({"status": "ok", "response": {}})));
}
