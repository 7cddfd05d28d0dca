//! The end of a server.

use std::sync::Arc;
use std::time::Duration;

use hailer::endpoint::{Config, Page};
use hailer::phoenix::Serializer;
use hailer::testing::TestServer;
use serde_json::json;

use super::dialogue::{BOTH, Dialogue, joined};
use super::probe::{config, config_with};

#[test]
fn all_clients_are_told_to_come_back() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::on_shards(&config(), serializer, 2);
        dialogue.play(&joined("a b", "room:1"));
        dialogue.client("c");
        dialogue.server.drain();
        // Nothing is said about the channels, and the reason is empty, as in Phoenix.
        dialogue.play(
            "
            a <- close 1012
            b <- close 1012
            c <- close 1012
            ",
        );
        assert_eq!(dialogue.server.stats().closed_shutdown, 3);
        assert_eq!(dialogue.server.stats().topics, 0);
    }
}

#[test]
fn what_waits_comes_before_the_close() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::on_shards(&config(), serializer, 2);
        dialogue.play(&joined("a b", "probe:quiet"));
        let client = dialogue.client("a");
        let echo = dialogue.masked(r#"["1","2","probe:quiet","echo",{}]"#);
        dialogue.server.feed(client, &echo);
        dialogue.server.publish("probe:quiet", "news", json!("last")).unwrap();
        dialogue.server.drain();
        let (a, b) = (dialogue.take("a"), dialogue.take("b"));
        assert_eq!((a.len(), b.len()), (3, 2), "{a:#?} {b:#?}");
        assert!(a[0].contains("phx_reply") && a[1].contains("last") && a[2] == "close 1012", "{a:#?}");
        assert!(b[0].contains("last") && b[1] == "close 1012", "{b:#?}");
    }
}

#[test]
fn a_broadcast_in_slices_is_through_before_the_close() {
    let limits = [("writes_per_turn", "1"), ("mail_per_turn", "1")];
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config_with(&limits), serializer);
        let names = ["a", "b", "c", "d"];
        dialogue.play(&joined(&names.join(" "), "room:1"));
        for n in 0..5 {
            dialogue.server.publish("room:1", "news", json!(n)).unwrap();
        }
        dialogue.server.turn();
        dialogue.server.drain();
        for name in names {
            let got = dialogue.take(name);
            assert_eq!(got.len(), 6, "{name}: {got:#?}");
            assert_eq!(got[5], "close 1012");
        }
    }
}

#[test]
fn what_is_published_later_reaches_nobody() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        dialogue.play(&joined("a", "room:1"));
        dialogue.server.drain();
        dialogue.server.broadcast("room:1", "news", json!(1)).unwrap();
        dialogue.play("a <- close 1012");
        assert_eq!(dialogue.server.log_bytes(), 0);
    }
}

#[test]
fn nothing_is_accepted_and_nothing_answered_any_more() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        dialogue.play(&joined("a", "room:1"));
        let client = dialogue.client("a");
        dialogue.server.drain();
        assert_eq!(dialogue.server.try_open(), None);
        assert_eq!(dialogue.server.stats().accept_refused, 1);
        dialogue.play("a <- close 1012");
        for text in
            [r#"[null,"2","phoenix","heartbeat",{}]"#, r#"["3","3","room:2","phx_join",{}]"#, "ping x"]
        {
            let bytes = dialogue.masked(text);
            dialogue.server.send_bytes(client, &bytes);
        }
        dialogue.play("");
        assert_eq!((dialogue.server.stats().heartbeats, dialogue.server.stats().joins), (0, 1));
    }
}

#[test]
fn a_server_has_ended_when_its_clients_have_answered() {
    let mut dialogue = Dialogue::new(&config(), Serializer::V2);
    dialogue.play(&joined("a b", "room:1"));
    let (polite, silent) = (dialogue.client("a"), dialogue.client("b"));
    dialogue.server.drain();
    let close = dialogue.masked("close 1012");
    dialogue.server.send_bytes(polite, &close);
    dialogue.server.hang_up(polite);
    assert!(dialogue.server.is_gone(polite));
    assert_eq!(dialogue.server.stats().connections, 1);
    dialogue.server.advance(Duration::from_secs(6));
    assert!(dialogue.server.is_gone(silent));
    assert_eq!(dialogue.server.stats().connections, 0);
    assert_eq!(dialogue.server.stats().closed_abruptly, 1, "the silent one");
}

#[test]
fn a_client_that_is_behind_gets_what_an_outbox_may_hold() {
    for serializer in BOTH {
        for (broadcasts, gets_all) in [(10, true), (300, false)] {
            for window in [0, 1, 30] {
                let mut dialogue = Dialogue::new(&config_with(&[("outbox_bytes_max", "4096")]), serializer);
                dialogue.play(&joined("a", "room:1"));
                let slow = dialogue.client("a");
                dialogue.server.set_window(slow, Some(window));
                for n in 0..broadcasts {
                    dialogue.server.broadcast("room:1", "news", json!(n)).unwrap();
                }
                dialogue.server.drain();
                assert_eq!(dialogue.server.log_bytes(), 0);
                assert!(dialogue.server.outbox_bytes(slow) <= 4096 + 64);
                dialogue.server.set_window(slow, None);
                let got = dialogue.take("a");
                assert_eq!(got.last().unwrap(), "close 1012");
                match gets_all {
                    true => assert_eq!(got.len(), broadcasts + 1),
                    false => assert!(got.len() <= 2, "{got:#?}"),
                }
            }
        }
    }
}

#[test]
fn requests_under_way_are_answered_and_idle_connections_end_at_once() {
    const PAGE: Page = Page { path: "/page", content_type: "text/plain", body: b"a page" };
    let config = Config { pages: Arc::new([PAGE]), ..config() };
    let mut server = TestServer::with_config(&config, 1);
    let (fresh, idle, begun, busy) = (server.open(), server.open(), server.open(), server.open());
    let request = b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n";
    server.send_bytes(idle, request);
    server.take_bytes(idle);
    server.send_bytes(begun, &request[..10]);
    server.set_window(busy, Some(20));
    server.send_bytes(busy, request);
    server.drain();
    assert!(server.is_gone(fresh) && server.is_gone(idle) && server.is_gone(begun));
    assert!(!server.is_gone(busy));
    server.set_window(busy, None);
    assert!(server.take_bytes(busy).ends_with(b"a page"));
    server.hang_up(busy);
    assert_eq!(server.stats().connections, 0);
}

#[test]
fn a_request_in_the_packet_before_the_end_is_answered() {
    let mut server = TestServer::with_config(&config(), 1);
    let client = server.open();
    server.feed(client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    server.drain();
    assert!(server.take_bytes(client).starts_with(b"HTTP/1.1 404 "));
}

#[test]
fn a_second_call_changes_nothing() {
    let mut dialogue = Dialogue::new(&config(), Serializer::V2);
    dialogue.play(&joined("a", "room:1"));
    dialogue.server.drain();
    dialogue.server.drain();
    dialogue.play("a <- close 1012");
    assert_eq!(dialogue.server.stats().closed_shutdown, 1);
}
