//! Who has received a broadcast.

use hailer::endpoint::ReceiptCounts;
use hailer::phoenix::Serializer;
use hailer::testing::{ClientId, TestServer, write_masked};
use serde_json::json;

use super::dialogue::BOTH;
use super::probe::{config, config_with};

const TOPIC: &str = "room:1";

/// One client on a WebSocket and one on long-poll, joined.
fn audience(server: &mut TestServer, serializer: Serializer) -> [ClientId; 2] {
    let clients = [server.connect_with(serializer), server.connect_long_poll(serializer)];
    for client in clients {
        assert_eq!(server.join(client, TOPIC, json!({}))["status"], "ok");
    }
    clients
}

fn counts(addressed: u64, received: u64, behind: u64, gone: u64, missed: u64) -> ReceiptCounts {
    let mut counts = ReceiptCounts::default();
    (counts.addressed, counts.received, counts.behind) = (addressed, received, behind);
    (counts.gone, counts.missed) = (gone, missed);
    counts
}

#[test]
fn a_client_has_received_what_it_has_read_on_both_transports() {
    for (serializer, shards) in [(BOTH[0], 1), (BOTH[1], 3)] {
        let mut server = TestServer::with_config(&config(), shards);
        let [web_socket, session] = audience(&mut server, serializer);
        let (addressed, receipt) = server.broadcast_with_receipt(TOPIC, "news", json!({"n": 1})).unwrap();
        assert_eq!(addressed, 2);
        assert_eq!(server.receipts(receipt), Some(counts(2, 0, 0, 0, 0)), "written, and not yet read");
        assert_eq!(server.received_event(web_socket, "news"), [json!({"n": 1})]);
        assert_eq!(server.receipts(receipt), Some(counts(2, 1, 0, 0, 0)));
        // What the client has read of an answer, the next poll shows.
        assert_eq!(server.received_event(session, "news"), [json!({"n": 1})]);
        assert_eq!(server.receipts(receipt), Some(counts(2, 2, 0, 0, 0)));
    }
}

#[test]
fn a_pong_counts_once_and_only_for_those_who_were_addressed() {
    let mut server = TestServer::with_config(&config(), 1);
    let [web_socket, _] = audience(&mut server, BOTH[1]);
    let stranger = server.connect();
    let (_, receipt) = server.broadcast_with_receipt(TOPIC, "news", json!({})).unwrap();
    let mut pong = Vec::new();
    write_masked(&mut pong, 0xa, true, &receipt.get().to_be_bytes());
    server.send_bytes(stranger, &pong);
    assert_eq!(server.receipts(receipt), Some(counts(2, 0, 0, 0, 0)));
    for _ in 0..3 {
        server.send_bytes(web_socket, &pong);
        assert_eq!(server.receipts(receipt), Some(counts(2, 1, 0, 0, 0)));
    }
    for payload in [&b""[..], b"12345678", b"123456789"] {
        let mut pong = Vec::new();
        write_masked(&mut pong, 0xa, true, payload);
        server.send_bytes(web_socket, &pong);
    }
    assert_eq!(server.closed(web_socket), None, "a pong that nobody asked for is no fault");
    // Who joins later is not waited for.
    server.join(stranger, TOPIC, json!({}));
    assert_eq!(server.receipts(receipt).unwrap().addressed, 2);
}

#[test]
fn those_who_leave_without_a_sign_are_gone_or_have_missed_it() {
    let mut server = TestServer::with_config(&config(), 1);
    let [web_socket, session] = audience(&mut server, BOTH[1]);
    let [blocked, other] = audience(&mut server, BOTH[1]);
    server.set_window(blocked, Some(0));
    let (_, receipt) = server.broadcast_with_receipt(TOPIC, "news", json!({})).unwrap();
    assert_eq!(server.receipts(receipt), Some(counts(4, 0, 1, 0, 0)));
    server.reset(web_socket);
    assert_eq!(server.receipts(receipt), Some(counts(4, 0, 1, 1, 0)));
    server.reset(blocked);
    assert_eq!(server.receipts(receipt), Some(counts(4, 0, 0, 1, 1)));
    // The places of those that have gone are used again, by clients that are not waited for.
    let fresh = [server.connect(), server.connect()];
    let (_, later) = server.broadcast_with_receipt(TOPIC, "news", json!({})).unwrap();
    for client in fresh {
        server.join(client, TOPIC, json!({}));
        server.reset(client);
    }
    assert_eq!(server.receipts(receipt), Some(counts(4, 0, 0, 1, 1)));
    assert_eq!(server.receipts(later), Some(counts(2, 0, 2, 0, 0)), "an answer is still under way to both");
    for client in [session, other] {
        assert_eq!(server.received_event(client, "news").len(), 2);
    }
    assert_eq!(server.receipts(receipt), Some(counts(4, 2, 0, 1, 1)));
    assert_eq!(server.receipts(receipt).unwrap().open(), 0);
    assert_eq!(server.receipts(later), Some(counts(2, 2, 0, 0, 0)));
}

#[test]
fn a_client_that_has_left_the_topic_may_still_show_that_it_has_it() {
    let mut server = TestServer::with_config(&config(), 1);
    let clients = audience(&mut server, BOTH[1]);
    let (_, receipt) = server.broadcast_with_receipt(TOPIC, "news", json!({})).unwrap();
    for client in clients {
        server.leave(client, TOPIC);
    }
    // The topic is forgotten, and its place may be another's.
    server.join(clients[0], "room:2", json!({}));
    for client in clients {
        assert_eq!(server.received_event(client, "news").len(), 1);
    }
    assert_eq!(server.receipts(receipt), Some(counts(2, 2, 0, 0, 0)));
}

#[test]
fn the_oldest_receipts_are_given_up() {
    let config = config_with(&[("receipts_tracked_max", "2")]);
    let mut server = TestServer::with_config(&config, 1);
    audience(&mut server, BOTH[1]);
    let mut send = || server.broadcast_with_receipt(TOPIC, "news", json!({})).unwrap().1;
    let receipts = [send(), send(), send()];
    assert_eq!(server.receipts(receipts[0]), None);
    assert!(receipts[1..].iter().all(|receipt| server.receipts(*receipt).is_some()));
    assert_eq!(server.stats().receipts_given_up, 1);
}

#[test]
fn a_broadcast_that_nobody_hears_is_received_by_nobody() {
    let mut server = TestServer::with_config(&config(), 2);
    let (addressed, receipt) = server.broadcast_with_receipt(TOPIC, "news", json!({})).unwrap();
    assert_eq!((addressed, server.receipts(receipt)), (0, None));
}

#[test]
fn who_leaves_and_joins_again_is_not_taken_for_one_who_has_it() {
    let mut server = TestServer::with_config(&config(), 1);
    let [_, session] = audience(&mut server, BOTH[1]);
    // Others keep the log that the first join was in.
    audience(&mut server, BOTH[1]);
    server.broadcast(TOPIC, "news", json!({"n": 1})).unwrap();
    let (_, receipt) = server.broadcast_with_receipt(TOPIC, "news", json!({"n": 2})).unwrap();
    server.push(session, TOPIC, "phx_leave", json!({}));
    server.send(session, &json!("9"), &json!("9"), TOPIC, "phx_join", &json!({}));
    // This shows that the client has the answer before.
    server.poll_anew(session);
    assert_eq!(server.receipts(receipt), Some(counts(4, 0, 1, 0, 0)));
    assert_eq!(server.received_event(session, "news"), [json!({"n": 1}), json!({"n": 2})]);
    assert_eq!(server.receipts(receipt).unwrap().received, 1);
}

#[test]
fn who_has_it_and_joins_again_has_it_still() {
    let mut server = TestServer::with_config(&config(), 1);
    let clients = audience(&mut server, BOTH[1]);
    let (_, receipt) = server.broadcast_with_receipt(TOPIC, "news", json!({})).unwrap();
    for client in clients {
        server.push(client, TOPIC, "phx_leave", json!({}));
        server.send(client, &json!("9"), &json!("9"), TOPIC, "phx_join", &json!({}));
    }
    assert_eq!(server.receipts(receipt), Some(counts(2, 0, 0, 0, 0)), "it has been written to both");
    assert_eq!(server.received_event(clients[1], "news").len(), 1);
    assert_eq!(server.receipts(receipt), Some(counts(2, 1, 0, 0, 0)));
    server.reset(clients[0]);
    assert_eq!(server.receipts(receipt), Some(counts(2, 1, 0, 1, 0)));
}

#[test]
fn a_topic_in_the_place_of_a_forgotten_one_has_its_own_slow_readers() {
    let mut server = TestServer::with_config(&config_with(&[("topic_log_bytes_max", "4096")]), 1);
    let client = server.connect();
    server.join(client, "skip:1", json!({}));
    let (_, receipt) = server.broadcast_with_receipt("skip:1", "news", json!({})).unwrap();
    server.push(client, "skip:1", "phx_leave", json!({}));
    server.send(client, &json!("9"), &json!("9"), "skip:2", "phx_join", &json!({}));
    server.set_window(client, Some(0));
    for _ in 0..100 {
        server.broadcast("skip:2", "news", json!("x".repeat(500))).unwrap();
    }
    assert!(server.stats().gaps > 0, "the client is skipped");
    assert_eq!(server.receipts(receipt), Some(counts(1, 0, 0, 0, 0)));
    server.set_window(client, None);
    server.received(client);
    assert_eq!(server.receipts(receipt), Some(counts(1, 1, 0, 0, 0)));
}

#[test]
fn a_session_that_was_answered_and_never_came_back_is_gone_and_has_not_missed_it() {
    let mut server = TestServer::with_config(&config(), 1);
    let [web_socket, _] = audience(&mut server, BOTH[1]);
    let (_, receipt) = server.broadcast_with_receipt(TOPIC, "news", json!({})).unwrap();
    let (_, waiting) = server.broadcast_with_receipt(TOPIC, "news", json!({})).unwrap();
    assert_eq!(server.received_event(web_socket, "news").len(), 2);
    // Its poll's connection stays open, and nothing comes on it.
    server.advance(server.limits().poll_window * 2);
    assert_eq!(server.stats().sessions, 0);
    assert_eq!(server.receipts(receipt), Some(counts(2, 1, 0, 1, 0)));
    assert_eq!(server.receipts(waiting), Some(counts(2, 1, 0, 0, 1)));
}
