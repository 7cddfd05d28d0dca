//! Readers that fall behind more than once, in memory: what they get stays whole, in order and counted.

use std::sync::Arc;
use std::time::Duration;

use hailer::channel::{Channel, ChannelError, Context, JoinError, PayloadBuf, Router, SlowReader};
use hailer::endpoint::Config;
use hailer::limits::Limits;
use hailer::notification::Notification;
use hailer::phoenix::Payload;
use hailer::testing::{ClientId, Received, TestServer};
use serde_json::json;

/// Bytes of a body; several of them fill a log.
const BODY_BYTES: usize = 5000;
const LOG_BYTES_MAX: usize = 64 * 1024;

fn server() -> TestServer {
    let pattern = "room:*".parse().expect("it is a pattern");
    let router = Router::new().channel_with(pattern, Arc::new(Notification::default()), SlowReader::Skip);
    let mut limits = Limits::default();
    limits.topic_log_bytes_max = LOG_BYTES_MAX;
    TestServer::with_config(&Config { limits: Arc::new(limits), ..Config::new(router) }, 1)
}

fn broadcast(server: &mut TestServer, topic: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let body = json!([number, "x".repeat(BODY_BYTES)]);
        server.broadcast(topic, "new_msg", json!({ "body": body })).expect("the mailboxes have room");
    }
}

/// A client that has joined the topics and has taken the first `bytes` of a message of the first one.
fn client_inside_a_frame(server: &mut TestServer, topics: &[&str], bytes: usize) -> ClientId {
    let client = server.connect();
    for topic in topics {
        server.join(client, topic, json!({}));
    }
    server.set_window(client, Some(bytes));
    broadcast(server, topics[0], 0..1);
    client
}

/// Holds that every message of a topic was received in order or counted as missed; the number of notices.
fn check(received: &[Received], topic: &str, messages: usize) -> usize {
    let (mut next, mut gaps) = (0, 0);
    for message in received.iter().filter(|message| message.topic == topic) {
        match &*message.event {
            "gap" => {
                next += usize::try_from(message.payload["missed"].as_u64().expect("a count")).expect("small");
                gaps += 1;
            }
            "new_msg" => {
                assert_eq!(message.payload["body"][0], next, "{topic}");
                next += 1;
            }
            _ => {}
        }
    }
    assert_eq!(next, messages, "{topic}");
    gaps
}

#[test]
fn a_reader_inside_a_frame_that_is_skipped_again_and_again_gets_one_notice() {
    for bytes in [0, 1, 100, BODY_BYTES] {
        let mut server = server();
        let client = client_inside_a_frame(&mut server, &["room:a"], bytes);
        broadcast(&mut server, "room:a", 1..200);
        server.set_window(client, None);
        let received = server.received(client);
        assert_eq!(check(&received, "room:a", 200), 1, "{bytes}");
        // A later gap has a notice of its own.
        server.set_window(client, Some(bytes));
        broadcast(&mut server, "room:a", 200..300);
        server.set_window(client, None);
        assert_eq!(check(&[received, server.received(client)].concat(), "room:a", 300), 2, "{bytes}");
    }
}

#[test]
fn a_notice_that_is_partly_sent_is_not_changed_any_more() {
    let mut server = server();
    let client = client_inside_a_frame(&mut server, &["room:a"], 0);
    broadcast(&mut server, "room:a", 1..50);
    // The notice is the first frame now, and ten bytes of it go out.
    server.set_window(client, Some(10));
    server.set_window(client, Some(0));
    broadcast(&mut server, "room:a", 50..150);
    server.set_window(client, None);
    let received = server.received(client);
    assert_eq!(check(&received, "room:a", 150), 2);
}

#[test]
fn a_gap_in_one_topic_does_not_cut_into_a_frame_of_another() {
    for bytes in [1, 100, BODY_BYTES] {
        let mut server = server();
        let client = client_inside_a_frame(&mut server, &["room:a", "room:b"], bytes);
        broadcast(&mut server, "room:b", 0..100);
        broadcast(&mut server, "room:a", 1..100);
        broadcast(&mut server, "room:b", 100..200);
        server.set_window(client, None);
        let received = server.received(client);
        assert_eq!(check(&received, "room:a", 100), 1, "{bytes}");
        assert_eq!(check(&received, "room:b", 200), 1, "{bytes}");
    }
}

#[test]
fn a_gap_does_not_cut_into_a_frame_of_a_topic_that_was_left() {
    let mut server = server();
    let client = client_inside_a_frame(&mut server, &["room:a", "room:b"], 100);
    let left = server.push(client, "room:a", "phx_leave", json!({}));
    broadcast(&mut server, "room:b", 0..100);
    server.set_window(client, None);
    assert_eq!(server.take_reply(client, &left).map(|reply| reply["status"].clone()), Some(json!("ok")));
    let received = server.received(client);
    assert_eq!(check(&received, "room:a", 1), 0);
    assert_eq!(check(&received, "room:b", 100), 1);
}

#[test]
fn a_client_closed_inside_a_frame_of_a_topic_it_left_gets_the_close_frame_behind_it() {
    let mut server = server();
    let client = client_inside_a_frame(&mut server, &["room:a"], 100);
    server.push(client, "room:a", "phx_leave", json!({}));
    server.push(client, "phoenix", "heartbeat", json!({}));
    server.advance(Limits::default().stall_timeout + Duration::from_secs(2));
    assert_eq!(server.stats().closed_stalled, 1);
    server.set_window(client, None);
    assert_eq!(check(&server.received(client), "room:a", 1), 0);
    assert_eq!(server.closed(client).and_then(|closed| closed.code), Some(4008));
}

/// Rebroadcasts to everybody but the sender.
struct Whisper;

impl Channel for Whisper {
    fn join(&self, _: &str, _: Payload<'_>, _: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        Ok(PayloadBuf::empty())
    }

    fn handle_in(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        cx.broadcast_from(event, payload.into());
        Ok(())
    }
}

#[test]
fn a_sender_that_does_not_read_is_bounded_although_it_is_left_out_of_what_it_says() {
    let pattern = "room:*".parse().expect("it is a pattern");
    let router = Router::new().channel_with(pattern, Arc::new(Whisper), SlowReader::Skip);
    let mut server = TestServer::new(router);
    let (sender, other) = (server.connect(), server.connect());
    for client in [sender, other] {
        server.join(client, "room:a", json!({}));
    }
    server.set_window(sender, Some(0));
    server.push(other, "room:a", "say", json!({}));
    let outbox_bytes_max = Limits::default().outbox_bytes_max;
    for _ in 0..outbox_bytes_max / 16 {
        server.push(sender, "room:a", "say", json!({}));
    }
    let held = server.outbox_bytes(sender);
    assert!(held > outbox_bytes_max / 2, "it is no longer read from");
    assert!(held < outbox_bytes_max / 2 + 1024, "the places of what it is left out of pile up: {held} bytes");
}
