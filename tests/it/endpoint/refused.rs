//! Messages in which something is wrong: they are answered one by one, and nothing else changes.

use std::time::Duration;

use hailer::limits::Limits;
use hailer::phoenix::Serializer::{self, V1, V2};
use hailer::testing::{TestServer, write_masked};
use serde_json::json;
use serde_json::value::RawValue;

use super::dialogue::{Dialogue, FORMS, Transport};
use super::probe::{config, config_with};

const HALF: &str = "a string in the message has a \\u escape that is half of a surrogate pair";
const TOO_DEEP: &str = "arrays and objects are nested too deep in the message (limit json_depth_max)";
const NOT_UTF8: &str = "a ref, topic or event of the binary message is not UTF-8";

/// The reply to a message, with refs and topic as the client wrote them.
fn refusal(message: &str, reason: &str) -> String {
    let fields: Vec<&RawValue> = serde_json::from_str(message).expect("a message is an array");
    let [join_ref, message_ref, topic] = [0, 1, 2].map(|at| fields[at].get());
    let response = json!({ "reason": reason });
    format!(r#"[{join_ref},{message_ref},{topic},"phx_reply",{{"status":"error","response":{response}}}]"#)
}

/// Each message is answered with this reason, and its client's channel lives on.
#[track_caller]
fn check(form: (Serializer, Transport), limits: &[(&str, &str)], reason: &str, messages: &[&str]) {
    let mut dialogue = Dialogue::over(&config_with(limits), form);
    dialogue.play(
        r#"
        a -> ["1","1","room:1","phx_join",{}]
        a <- ["1","1","room:1","phx_reply",{"status":"ok","response":{}}]
        "#,
    );
    for message in messages {
        dialogue.play(&format!("a -> {message}\na <- {}", refusal(message, reason)));
    }
    dialogue.play(
        r#"
        a -> ["1","2","room:1","new_msg",{"body":1}]
        a <- [null,null,"room:1","new_msg",{"body":1}]
        "#,
    );
    let stats = dialogue.server.stats();
    assert_eq!((stats.messages_refused, stats.closed_bad_message), (messages.len() as u64, 0));
}

#[track_caller]
fn check_all(limits: &[(&str, &str)], reason: &str, messages: &[&str]) {
    FORMS.into_iter().for_each(|form| check(form, limits, reason, messages));
}

/// A message at the limit passes, a byte more is refused by the limit's name.
#[track_caller]
fn check_limit((name, value): (&str, &str), good: &str, bad: &str, reason: &str) {
    assert!(reason.contains(name));
    check_all(&[(name, value)], reason, &[bad]);
    for form in FORMS {
        let mut dialogue = Dialogue::over(&config_with(&[(name, value)]), form);
        dialogue.send("a", good);
        assert_eq!(dialogue.take("a").len(), 1, "{good}");
        assert_eq!(dialogue.server.stats().messages_refused, 0, "{good}");
    }
}

#[test]
fn a_join_that_breaks_a_limit_does_not_take_the_other_channels_with_it() {
    let long = format!(r#"["2","2","room:{}","phx_join",{{}}]"#, "x".repeat(300));
    check_all(&[], "the topic is too long (limit topic_bytes_max)", &[&long, &long, &long]);
}

#[test]
fn half_an_emoji_in_the_params_of_a_join_is_answered() {
    check_all(
        &[],
        HALF,
        &[
            r#"["2","2","room:a","phx_join",{"name":"Zoe \ud83d"}]"#,
            r#"["1","2","room:1","new_msg",{"body":"\ud800"}]"#,
            r#"["1","2","room:1","new_msg",{"\udc00":1}]"#,
            r#"["1","2","room:\udc00","new_msg",{}]"#,
            r#"["1","2","room:1","\ud83dx",{}]"#,
            r#"["1","\ud83dx","room:1","new_msg",{}]"#,
            r#"[null,null,null,"new_msg","\ud83d"]"#,
        ],
    );
    check((V2, Transport::WebSocket), &[], HALF, &[r#"["\ud83dx","2","room:1","new_msg",{}]"#]);
}

#[test]
fn an_event_that_is_no_string_is_answered() {
    let messages = ["7", "null", "{}", "[\"e\"]"].map(|event| format!(r#"["1","2","room:1",{event},{{}}]"#));
    check_all(&[], "the event is not a string", &messages.each_ref().map(|message| &**message));
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
        check_limit(("topic_bytes_max", "16"), &good, &bad, reason);
    }
    let message = message(&json!("t".repeat(60_000)).to_string());
    check_all(&[], reason, &[&message]);
}

#[test]
fn an_event_is_bounded() {
    let message = |event: &str| format!(r#"["1","1","nope","{event}",{{}}]"#);
    let reason = "the event is too long (limit event_bytes_max)";
    check_limit(("event_bytes_max", "8"), &message("12345678"), &message("123456789"), reason);
}

#[test]
fn a_ref_is_bounded() {
    let reason = "the ref or join_ref is too long (limit ref_bytes_max)";
    let message = |reference: &str| format!(r#"["1",{reference},"nope","e",{{}}]"#);
    let limit = ("ref_bytes_max", "8");
    check_limit(limit, &message(r#""123456""#), &message(r#""1234567""#), reason);
    check_limit(limit, &message("12345678"), &message("123456789"), reason);
    check_limit(limit, &message("[1,2,3]"), &message("[1,2,3,4]"), reason);
    for transport in [Transport::WebSocket, Transport::LongPoll] {
        check((V2, transport), &[limit], reason, &[r#"["1234567","1","nope","e",{}]"#]);
    }
}

#[test]
fn depth_is_bounded() {
    // The message itself is the first level, in both forms.
    let message = |depth: usize| {
        let (open, shut) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        format!(r#"["1","1","nope","e",{open}{shut}]"#)
    };
    let limit = ("json_depth_max", "8");
    check_limit(limit, &message(8), &message(9), TOO_DEEP);
    check_limit(limit, &message(8), &message(30_000), TOO_DEEP);
    let brackets_in_a_string = format!(r#"["1","1","nope","e","{}"]"#, "[".repeat(1000));
    check_limit(limit, &brackets_in_a_string, &message(9), TOO_DEEP);
}

/// A binary push.
fn push(names: [&[u8]; 4]) -> Vec<u8> {
    let sizes = names.map(|name| u8::try_from(name.len()).unwrap());
    [&[0], &sizes[..], &names.concat(), b"data"].concat()
}

#[test]
fn binary_messages_are_answered_as_text_ones_are() {
    let limits = [("topic_bytes_max", "16"), ("event_bytes_max", "8"), ("ref_bytes_max", "8")];
    for transport in [Transport::WebSocket, Transport::LongPoll] {
        for (names, echoed, reason) in [
            (
                [&b"1"[..], b"2", b"room:0123456789ab", b"e"],
                r#""1","2","room:0123456789ab""#,
                "the topic is too long (limit topic_bytes_max)",
            ),
            (
                [b"1", b"2", b"room:1", b"123456789"],
                r#""1","2","room:1""#,
                "the event is too long (limit event_bytes_max)",
            ),
            (
                [b"1", b"1234567", b"room:1", b"e"],
                r#""1","1234567","room:1""#,
                "the ref or join_ref is too long (limit ref_bytes_max)",
            ),
            ([b"1", b"2", b"room:1", b"caf\xe9"], r#""1","2","room:1""#, NOT_UTF8),
            ([b"1", b"2", b"caf\xe9", b"e"], r#""1","2","café""#, NOT_UTF8),
            ([b"1", b"\xff", b"room:1", b"e"], r#""1",null,"room:1""#, NOT_UTF8),
        ] {
            let mut dialogue = Dialogue::over(&config_with(&limits), (V2, transport));
            let client = dialogue.client("a");
            dialogue.server.send_binary(client, &push(names));
            let response = json!({ "reason": reason });
            let reply = format!(r#"[{echoed},"phx_reply",{{"status":"error","response":{response}}}]"#);
            assert_eq!(dialogue.take("a"), [reply]);
            assert_eq!(dialogue.server.stats().messages_refused, 1);
        }
    }
}

#[test]
fn what_stands_behind_a_wrong_message_in_the_same_packet_is_handled() {
    for serializer in [V1, V2] {
        let mut dialogue = Dialogue::new(&config(), serializer);
        let client = dialogue.client("a");
        let join = r#"["1","1","room:1","phx_join",{}]"#;
        let wrong = r#"["2","2","room:2","phx_join","\ud83d"]"#;
        let push = r#"["1","3","room:1","new_msg",{"body":1}]"#;
        let bytes: Vec<u8> = [join, wrong, push].into_iter().flat_map(|text| dialogue.masked(text)).collect();
        dialogue.server.send_bytes(client, &bytes);
        let lines = format!(
            r#"
            a <- ["1","1","room:1","phx_reply",{{"status":"ok","response":{{}}}}]
            a <- {}
            a <- [null,null,"room:1","new_msg",{{"body":1}}]
            "#,
            refusal(wrong, HALF)
        );
        dialogue.play(&lines);
    }
}

#[test]
fn messages_that_are_wrong_for_ever_cost_no_more_than_their_bytes() {
    let mut server = TestServer::with_config(&config(), 1);
    let client = server.connect();
    let (before, count) = (server.stats(), 1000);
    let long = format!(r#"["2","2","room:{}","phx_join",{{}}]"#, "x".repeat(2000));
    let mut bytes = Vec::new();
    write_masked(&mut bytes, 0x1, true, long.as_bytes());
    for _ in 0..count {
        server.send_bytes(client, &bytes);
        assert_eq!(server.take_frames(client).len(), 1);
    }
    let stats = server.stats();
    assert_eq!((stats.messages_refused, stats.web_sockets, stats.topics), (count, 1, 0));
    let (read, written) = (stats.bytes_in - before.bytes_in, stats.bytes_out - before.bytes_out);
    assert!(written < read + count * 128, "{written} bytes for {read}");
}

#[test]
fn a_client_that_does_not_read_what_it_was_refused_is_bounded_and_then_closed() {
    let mut server = TestServer::with_config(&config(), 1);
    let client = server.connect();
    server.set_window(client, Some(0));
    let long = format!(r#"["2","2","room:{}","phx_join",{{}}]"#, "x".repeat(60_000));
    let mut bytes = Vec::new();
    write_masked(&mut bytes, 0x1, true, long.as_bytes());
    for _ in 0..10 {
        server.send_bytes(client, &bytes);
        assert!(server.outbox_bytes(client) <= Limits::default().outbox_bytes_max);
    }
    server.advance(Limits::default().stall_timeout + Duration::from_secs(2));
    let stats = server.stats();
    assert_eq!((stats.closed_stalled, stats.closed_outbox_full), (1, 0));
}
