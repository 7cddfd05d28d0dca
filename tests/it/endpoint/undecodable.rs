//! What is no Phoenix message.

use hailer::phoenix::Serializer::{self, V1, V2};
use hailer::testing::{TestServer, write_masked};
use serde_json::json;

use super::dialogue::{BOTH, Dialogue};
use super::probe::{config, config_with};

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

#[test]
fn an_event_that_is_no_string_closes() {
    check(V2, "the event is not a string", &["[1,1,\"phoenix\",7,{}]", "[1,1,\"phoenix\",null,{}]"]);
    check(V1, "the event is not a string", &[r#"{"topic":"t","event":{},"payload":{},"ref":"1"}"#]);
}

#[test]
fn half_of_a_surrogate_pair_closes() {
    let reason = "a string in the message has a \\u escape that is half of a surrogate pair";
    check(
        V2,
        reason,
        &[
            r#"[1,1,"room:1","new_msg",{"body":"\ud800"}]"#,
            r#"[1,1,"\udc00","new_msg",{}]"#,
            r#"[1,"\ud83dx",1,"new_msg",{}]"#,
        ],
    );
    check(V1, reason, &[r#"{"topic":"t","event":"e","payload":"\ud83d","ref":"1"}"#]);
}

#[test]
fn bytes_that_are_no_message_close() {
    for (bytes, reason) in [
        (&b""[..], "the binary message is shorter than its length bytes say"),
        (b"\x00", "the binary message is shorter than its length bytes say"),
        (b"\x00\x01\x01\x01", "the binary message is shorter than its length bytes say"),
        (b"\x00\x01\x01\x01\x01abc", "the binary message is shorter than its length bytes say"),
        (b"\x00\xff\xff\xff\xffabc", "the binary message is shorter than its length bytes say"),
        (b"\x01\x00\x00\x00\x00", "the binary message does not begin with 0, the kind of a push"),
        (b"\x02\x00\x00", "the binary message does not begin with 0, the kind of a push"),
        (b"\xff", "the binary message does not begin with 0, the kind of a push"),
        (b"[null]", "the binary message does not begin with 0, the kind of a push"),
        (b"\x00\x00\x00\x01\x01\xffe", "the message, or a name in a binary message, is not UTF-8"),
    ] {
        check_close(&mut Dialogue::new(&config(), V2), 0x2, bytes, reason);
    }
    check_close(
        &mut Dialogue::new(&config(), V1),
        0x2,
        b"\xff",
        "the message, or a name in a binary message, is not UTF-8",
    );
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

/// A message at the limit passes, a byte more closes.
#[track_caller]
fn check_limit(name: &str, value: &str, good: &str, bad: &str, reason: &str) {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config_with(&[(name, value)]), serializer);
        let (client, bytes) = (dialogue.client("c"), dialogue.masked(good));
        dialogue.server.send_bytes(client, &bytes);
        assert_eq!(dialogue.take("c").len(), 1, "{good}");
        assert_eq!(dialogue.server.stats().closed_bad_message, 0, "{good}");
        let (client, bytes) = (dialogue.client("d"), dialogue.masked(bad));
        dialogue.server.send_bytes(client, &bytes);
        assert_eq!(dialogue.take("d"), [format!("close 1007 {reason}")], "{bad}");
        assert_eq!(dialogue.server.stats().closed_bad_message, 1, "{bad}");
        assert!(reason.contains(name));
    }
}

#[test]
fn a_topic_is_bounded() {
    let message = |topic: &str| format!(r#"["1","1",{topic},"echo",{{}}]"#);
    let reason = "the topic is too long (limit topic_bytes_max)";
    for (good, bad) in [
        (json!("t".repeat(16)), json!("t".repeat(17))),
        (json!("é".repeat(8)), json!("é".repeat(9))),
        (json!("\u{0}".repeat(16)), json!("\n".repeat(17))),
        (json!([1, 2, 3, "a", "b"]), json!([1, 2, 3, "a", "b", "c"])),
    ] {
        let (good, bad) = (message(&good.to_string()), message(&bad.to_string()));
        check_limit("topic_bytes_max", "16", &good, &bad, reason);
    }
}

#[test]
fn an_event_is_bounded() {
    let message = |event: &str| format!(r#"["1","1","nope","{event}",{{}}]"#);
    let reason = "the event is too long (limit event_bytes_max)";
    check_limit("event_bytes_max", "8", &message("12345678"), &message("123456789"), reason);
}

#[test]
fn a_ref_is_bounded() {
    let reason = "the ref or join_ref is too long (limit ref_bytes_max)";
    let message = |reference: &str| format!(r#"["1",{reference},"nope","e",{{}}]"#);
    check_limit("ref_bytes_max", "8", &message(r#""123456""#), &message(r#""1234567""#), reason);
    check_limit("ref_bytes_max", "8", &message("12345678"), &message("123456789"), reason);
    check_limit("ref_bytes_max", "8", &message("[1,2,3]"), &message("[1,2,3,4]"), reason);
    let mut server = TestServer::with_config(&config_with(&[("ref_bytes_max", "8")]), 1);
    let client = server.connect();
    server.send_text(client, r#"["1234567","1","nope","e",{}]"#);
    assert_eq!(server.closed(client).unwrap().reason, reason);
}

#[test]
fn depth_is_bounded() {
    let reason = "arrays and objects are nested too deep in the message (limit json_depth_max)";
    // The message itself is the first level, in both forms.
    let message = |depth: usize| {
        let (open, shut) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        format!(r#"["1","1","nope","e",{open}{shut}]"#)
    };
    check_limit("json_depth_max", "8", &message(8), &message(9), reason);
    check_limit("json_depth_max", "8", &message(8), &message(30_000), reason);
    let brackets_in_a_string = format!(r#"["1","1","nope","e","{}"]"#, "[".repeat(1000));
    check_limit("json_depth_max", "8", &brackets_in_a_string, &message(9), reason);
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
