//! Binary messages: payloads of bytes in V2.

use hailer::channel::PayloadBuf;
use hailer::phoenix::Serializer;
use hailer::testing::TestServer;
use serde_json::json;

use super::dialogue::{Dialogue, check_only};
use super::probe::{config, config_with_book};

/// `0 | sizes | join_ref | ref | topic | event | data`
fn message(fields: [&str; 4], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(fields.iter().map(|field| u8::try_from(field.len()).unwrap()));
    fields.iter().for_each(|field| bytes.extend_from_slice(field.as_bytes()));
    bytes.extend_from_slice(data);
    bytes
}

fn joined() -> Dialogue {
    let mut dialogue = Dialogue::new(&config(), Serializer::V2);
    dialogue.play(
        r#"
        a -> ["1","1","probe:1","phx_join",{}]
        a <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
        "#,
    );
    dialogue
}

/// A client's message is answered with this binary message.
#[track_caller]
fn check_answer(sent: &[u8], expected: &[u8]) {
    let mut dialogue = joined();
    let client = dialogue.client("a");
    dialogue.server.send_binary(client, sent);
    let frames = dialogue.take_frames("a");
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!((frames[0].opcode, &*frames[0].payload), (0x2, expected));
}

#[test]
fn bytes_are_answered_with_bytes() {
    check_answer(
        &message(["1", "2", "probe:1", "echo"], b"\x00\xff\x80"),
        b"\x01\x01\x01\x07\x0212probe:1ok\x00\xff\x80",
    );
    check_answer(&message(["1", "2", "probe:1", "status"], b""), b"\x01\x01\x01\x07\x0612probe:1teapot");
    // No join_ref can be written as null, and an empty one is not the current one; a ref may be empty.
    check_answer(&message(["1", "", "probe:1", "echo"], b"x"), b"\x01\x01\x00\x07\x021probe:1okx");
}

#[test]
fn bytes_are_broadcast_and_pushed_as_bytes() {
    check_answer(&message(["1", "2", "probe:1", "shout"], b"\x00\xff"), b"\x02\x07\x05probe:1shout\x00\xff");
    check_answer(
        &message(["1", "2", "probe:1", "push"], b"\x00\xff"),
        b"\x00\x01\x07\x061probe:1pushed\x00\xff",
    );
}

#[test]
fn an_empty_join_ref_is_not_null() {
    let mut dialogue = joined();
    let client = dialogue.client("a");
    dialogue.server.send_binary(client, &message(["", "2", "probe:1", "echo"], b""));
    dialogue.play("");
    assert_eq!(dialogue.server.stats().stale_join_ref, 1);
}

#[test]
fn the_longest_fields_fit() {
    let topic = format!("probe:{}", "x".repeat(249));
    let mut server = TestServer::with_config(&config(), 1);
    let client = server.connect();
    server.join(client, &topic, json!({}));
    let join_ref = "1".repeat(62);
    server.send(client, &json!(join_ref), &json!(join_ref), &topic, "phx_join", &json!({}));
    server.take_bytes(client);
    server.send_binary(client, &message([&join_ref, &join_ref, &topic, "echo"], b"x"));
    let bytes = server.take_bytes(client);
    let start = [&[0x82, 126, 1, 0x83, 1, 62, 62, 255, 2][..], join_ref.as_bytes()].concat();
    assert_eq!(&bytes[..start.len()], start);
    assert!(bytes.ends_with(b"okx"));
}

#[test]
fn joins_leaves_and_heartbeats_of_bytes_are_answered_with_text() {
    let mut dialogue = Dialogue::new(&config(), Serializer::V2);
    let client = dialogue.client("a");
    let send = |dialogue: &mut Dialogue, fields: [&str; 4], expected: &str| {
        dialogue.server.send_binary(client, &message(fields, b"\xff"));
        dialogue.play(expected);
    };
    let ok = |lines: &str| lines.replace("OK", r#""phx_reply",{"status":"ok","response":{}}"#);
    send(&mut dialogue, ["", "", "phoenix", "heartbeat"], &ok(r#"a <- [null,"","phoenix",OK]"#));
    send(&mut dialogue, ["1", "1", "probe:1", "phx_join"], &ok(r#"a <- ["1","1","probe:1",OK]"#));
    send(
        &mut dialogue,
        ["1", "2", "probe:1", "phx_leave"],
        &format!(
            "{}\na <- [\"1\",\"1\",\"probe:1\",\"phx_close\",{{}}]",
            ok(r#"a <- ["1","2","probe:1",OK]"#)
        ),
    );
    let error = r#""phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}"#;
    send(&mut dialogue, ["1", "3", "probe:1", "echo"], &format!(r#"a <- [null,"3","probe:1",{error}]"#));
    send(&mut dialogue, ["3", "3", "nope", "phx_join"], &format!(r#"a <- [null,"3","nope",{error}]"#));
}

#[test]
fn the_room_takes_no_bytes() {
    let mut dialogue = Dialogue::new(&config(), Serializer::V2);
    dialogue.play(
        r#"
        a -> ["1","1","room:1","phx_join",{}]
        a <- ["1","1","room:1","phx_reply",{"status":"ok","response":{}}]
        "#,
    );
    let client = dialogue.client("a");
    dialogue.server.send_binary(client, &message(["1", "2", "room:1", "new_msg"], br#"{"body":1}"#));
    dialogue.play(
        r#"a <- ["1","2","room:1","phx_reply",{"status":"error","response":{"reason":"new_msg needs an object with a body"}}]"#,
    );
}

#[test]
fn in_v1_the_kind_of_frame_means_nothing() {
    let mut server = TestServer::with_config(&config(), 1);
    let client = server.connect_with(Serializer::V1);
    server.send_binary(client, br#"{"topic":"probe:1","event":"phx_join","payload":{},"ref":"1"}"#);
    let reply = server.take_reply(client, &json!("1"));
    assert_eq!(reply, Some(json!({"status": "ok", "response": {}})));
}

#[test]
fn a_v1_client_is_spared_what_it_cannot_be_sent() {
    let (config, book) = config_with_book();
    let mut server = TestServer::with_config(&config, 1);
    let client = server.connect_with(Serializer::V1);
    server.join(client, "probe:1", json!({}));
    server.push(client, "probe:1", "handle", json!({}));
    let deferred = server.push(client, "probe:1", "defer", json!({}));
    book.take_handle().push("bytes", PayloadBuf::Binary((*b"x").into())).unwrap();
    book.take_deferred().ok(PayloadBuf::Binary((*b"x").into())).unwrap();
    server.settle();
    assert_eq!(server.take_reply(client, &deferred), None);
    assert!(server.received(client).is_empty());
    let echo = server.push(client, "probe:1", "echo", json!(1));
    assert!(server.take_reply(client, &echo).is_some(), "the channel lives on");
}

#[test]
fn a_join_may_be_answered_with_bytes() {
    check_only(
        Serializer::V2,
        "
        a -> [\"1\",\"1\",\"probe:1\",\"phx_join\",{\"do\":\"bytes\"}]
        a <- 0x2: 01 01 01 07 02 31 31 70 72 6f 62 65 3a 31 6f 6b 00 ff
        ",
    );
}

#[test]
fn a_number_as_join_ref_stands_in_bytes_as_its_text() {
    let mut server = TestServer::with_config(&config(), 1);
    let client = server.connect();
    server.send(client, &json!(7), &json!(7), "probe:1", "phx_join", &json!({"do": "bytes"}));
    let bytes = server.take_bytes(client);
    assert_eq!(bytes, b"\x82\x12\x01\x01\x01\x07\x0277probe:1ok\x00\xff");
}
