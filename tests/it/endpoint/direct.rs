//! Replies to clients that wait for nothing else, and what may come between a reply and its write.

use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hailer::broker::Broker;
use hailer::endpoint::{Config, ConnectionId, Endpoint, Gone, Sink};
use hailer::limits::Limits;
use hailer::phoenix::Serializer;
use hailer::testing::{upgrade_request, write_masked};
use proptest::prelude::*;
use serde_json::json;

use super::probe::config;

/// Sockets that keep what they take, each so much of it at a time.
#[derive(Default)]
struct Sockets {
    writes: Vec<(ConnectionId, Vec<u8>)>,
    /// The most bytes that a write takes.
    window: Option<usize>,
    broken: bool,
}

impl Sink for Sockets {
    fn send(&mut self, id: ConnectionId, pieces: &[IoSlice<'_>]) -> Result<usize, Gone> {
        if self.broken {
            return Err(Gone);
        }
        let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        bytes.truncate(self.window.unwrap_or(usize::MAX));
        let taken = bytes.len();
        self.writes.push((id, bytes));
        Ok(taken)
    }

    fn shutdown(&mut self, _: ConnectionId) {}
}

/// One shard, whose turns the test makes itself.
struct Shard {
    endpoint: Endpoint,
    broker: Arc<Broker>,
    sockets: Sockets,
    now: Instant,
}

const FIRST: &str = r#"[null,"7","phoenix","heartbeat",{}]"#;
const SECOND: &str = r#"[null,"8","phoenix","heartbeat",{}]"#;

impl Shard {
    fn new(config: Config) -> Self {
        let broker = Broker::new(&config.limits, vec![Box::new(|| ())]);
        let now = hailer::testing::TestServer::with_config(&config, 1).now();
        let endpoint = Endpoint::new(config, &broker, 0, &[7; 32], now);
        Self { endpoint, broker, sockets: Sockets::default(), now }
    }

    /// A client that has connected, and joined `probe:1`.
    fn client(&mut self, vsn: &str) -> ConnectionId {
        let id = self.endpoint.accept(Ipv4Addr::LOCALHOST.into(), self.now).expect("there is room");
        let mut request = upgrade_request(&format!("/socket/websocket?vsn={vsn}")).into_bytes();
        self.endpoint.handle_read(id, &mut request, self.now);
        self.flush();
        self.text(
            id,
            match vsn {
                "2.0.0" => r#"["1","1","probe:1","phx_join",{}]"#,
                _ => r#"{"topic":"probe:1","event":"phx_join","payload":{},"ref":"1"}"#,
            },
        );
        self.flush();
        self.sockets.writes.clear();
        id
    }

    fn text(&mut self, id: ConnectionId, text: &str) {
        let mut frame = Vec::new();
        write_masked(&mut frame, 0x1, true, text.as_bytes());
        self.endpoint.handle_read(id, &mut frame, self.now);
    }

    fn publish(&mut self) {
        self.broker.broadcast("probe:1", "news", json!({"n": 1}).into()).expect("there is room");
        self.endpoint.handle_mailbox(usize::MAX, self.now);
    }

    fn flush(&mut self) {
        while self.endpoint.flush(usize::MAX, self.now, &mut self.sockets) {}
    }

    /// The texts and the close codes in each write to a client, in order.
    fn take_writes(&mut self, id: ConnectionId) -> Vec<Vec<String>> {
        let writes = std::mem::take(&mut self.sockets.writes);
        writes.into_iter().filter(|(to, _)| *to == id).map(|(_, bytes)| frames(&bytes)).collect()
    }
}

/// The frames of a server, all of them short: texts as they are, the code of a close.
fn frames(mut bytes: &[u8]) -> Vec<String> {
    let mut frames = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        let (len, rest) = match len {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            len => (usize::from(*len), rest),
        };
        let (payload, behind) = rest.split_at(len);
        frames.push(match first {
            0x88 => format!("close {}", u16::from_be_bytes([payload[0], payload[1]])),
            0x8a => "pong".to_owned(),
            _ => String::from_utf8_lossy(payload).into_owned(),
        });
        bytes = behind;
    }
    frames
}

fn reply(reference: &str) -> String {
    format!(r#"[null,"{reference}","phoenix","phx_reply",{{"status":"ok","response":{{}}}}]"#)
}

const NEWS: &str = r#"[null,null,"probe:1","news",{"n":1}]"#;

#[test]
fn several_replies_of_one_turn_are_one_write_in_order() {
    let mut shard = Shard::new(config());
    let (one, two) = (shard.client("2.0.0"), shard.client("2.0.0"));
    shard.text(one, FIRST);
    shard.text(one, SECOND);
    shard.text(two, FIRST);
    // Another client has been answered since, so this one waits behind the first two.
    shard.text(one, r#"["1","9","probe:1","echo",{"n":2}]"#);
    shard.flush();
    let echo = r#"["1","9","probe:1","phx_reply",{"status":"ok","response":{"n":2}}]"#;
    let writes = std::mem::take(&mut shard.sockets.writes);
    let texts: Vec<_> = writes.iter().map(|(id, bytes)| (*id, frames(bytes))).collect();
    assert_eq!(texts, [(one, vec![reply("7"), reply("8"), echo.to_owned()]), (two, vec![reply("7")])]);
}

#[test]
fn a_broadcast_behind_a_reply_goes_with_it() {
    let mut shard = Shard::new(config());
    let client = shard.client("2.0.0");
    shard.text(client, FIRST);
    shard.publish();
    shard.flush();
    assert_eq!(shard.take_writes(client), [[reply("7"), NEWS.to_owned()]]);
    shard.publish();
    shard.text(client, SECOND);
    shard.flush();
    assert_eq!(shard.take_writes(client), [[NEWS.to_owned(), reply("8")]]);
}

#[test]
fn a_reply_waits_for_the_next_slice_and_keeps_its_place() {
    let mut shard = Shard::new(config());
    let clients = [(); 3].map(|()| shard.client("2.0.0"));
    clients.iter().for_each(|client| shard.text(*client, FIRST));
    assert!(shard.endpoint.flush(1, shard.now, &mut shard.sockets));
    // The first has been written to; the others' replies are still there when more comes.
    clients.iter().for_each(|client| shard.text(*client, SECOND));
    shard.publish();
    shard.flush();
    let writes = std::mem::take(&mut shard.sockets.writes);
    let of = |client| -> Vec<_> {
        writes.iter().filter(|(id, _)| *id == client).map(|(_, bytes)| frames(bytes)).collect()
    };
    let rest = [reply("8"), NEWS.to_owned()];
    assert_eq!(of(clients[0]), [vec![reply("7")], rest.to_vec()]);
    for client in &clients[1..] {
        assert_eq!(of(*client).concat(), [vec![reply("7")], rest.to_vec()].concat());
    }
}

#[test]
fn a_reply_that_is_taken_in_pieces_goes_on_where_it_stopped() {
    for window in 0..80 {
        let mut shard = Shard::new(config());
        let client = shard.client("2.0.0");
        shard.sockets.window = Some(window);
        shard.text(client, FIRST);
        shard.flush();
        shard.publish();
        shard.text(client, SECOND);
        shard.sockets.window = None;
        shard.endpoint.handle_writable(client);
        shard.flush();
        let bytes: Vec<u8> =
            std::mem::take(&mut shard.sockets.writes).into_iter().flat_map(|(_, b)| b).collect();
        assert_eq!(frames(&bytes), [reply("7"), NEWS.to_owned(), reply("8")], "{window}");
    }
}

#[test]
fn a_client_that_is_gone_before_its_reply_gets_none_nor_does_its_successor() {
    let mut shard = Shard::new(config());
    let client = shard.client("2.0.0");
    shard.text(client, FIRST);
    shard.endpoint.handle_error(client, shard.now);
    assert_eq!(shard.endpoint.poll_closed(), Some(client));
    let next = shard.endpoint.accept(Ipv4Addr::LOCALHOST.into(), shard.now).expect("there is room");
    assert_eq!(next.slot(), client.slot());
    shard.flush();
    assert!(shard.sockets.writes.is_empty());
}

#[test]
fn a_socket_that_fails_with_its_reply_is_forgotten() {
    let mut shard = Shard::new(config());
    let client = shard.client("2.0.0");
    shard.sockets.broken = true;
    shard.text(client, FIRST);
    shard.flush();
    assert_eq!(shard.endpoint.poll_closed(), Some(client));
    assert_eq!(shard.endpoint.stats().closed_abruptly, 1);
}

#[test]
fn a_close_comes_behind_the_replies_of_its_turn() {
    let mut shard = Shard::new(config());
    let client = shard.client("2.0.0");
    shard.text(client, FIRST);
    shard.text(client, "no message");
    shard.text(client, SECOND);
    shard.flush();
    assert_eq!(shard.take_writes(client), [[reply("7"), "close 1007".to_owned()]]);
}

#[test]
fn more_replies_than_the_shards_buffer_holds_all_arrive() {
    let mut shard = Shard::new(config());
    let clients: Vec<_> = (0..1_200).map(|_| shard.client("2.0.0")).collect();
    // The first says more than its part of the buffer has room for.
    let (talker, times) = (clients[0], 50);
    shard.text(talker, FIRST);
    (0..times).for_each(|_| shard.text(talker, SECOND));
    clients[1..].iter().for_each(|client| shard.text(*client, FIRST));
    shard.flush();
    for client in clients {
        let mine: Vec<_> = shard.sockets.writes.iter().filter(|(id, _)| *id == client).collect();
        let expected = if client == talker { 1 + times } else { 1 };
        assert_eq!((mine.len(), frames(&mine[0].1).len()), (1, expected));
    }
}

#[test]
fn a_reply_that_is_too_much_for_the_outbox_takes_those_before_it_along() {
    let mut limits = Limits::default();
    limits.set("outbox_bytes_max", "1024").unwrap();
    let mut shard = Shard::new(Config { limits: Arc::new(limits), ..config() });
    let client = shard.client("2.0.0");
    // Nothing leaves behind that decision, not even what was said before it.
    shard.text(client, FIRST);
    shard.text(client, &format!(r#"["1","2","probe:1","echo",{}]"#, json!({"x": "x".repeat(1_100)})));
    shard.flush();
    assert_eq!(shard.take_writes(client), [["close 4008"]]);
}

/// What a client gets that says `text`, and whether it has shown that it is there.
fn answered(serializer: Serializer, text: &str) -> (Vec<Vec<String>>, u64, u64, u64) {
    let mut shard = Shard::new(config());
    let client = shard.client(match serializer {
        Serializer::V1 => "1.0.0",
        Serializer::V2 => "2.0.0",
    });
    let before = shard.endpoint.stats();
    shard.now += Duration::from_secs(1);
    shard.text(client, text);
    shard.flush();
    let after = shard.endpoint.stats();
    let counted = (
        after.messages_in - before.messages_in,
        after.messages_out - before.messages_out,
        after.heartbeats - before.heartbeats,
    );
    (shard.take_writes(client), counted.0, counted.1, counted.2)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// A space more makes a heartbeat one that is parsed.
    #[test]
    fn a_heartbeat_in_other_words_is_answered_alike(reference in "[ -~é]{0,24}") {
        let reference = json!(reference).to_string();
        for (serializer, known, other) in [
            (
                Serializer::V2,
                format!(r#"[null,{reference},"phoenix","heartbeat",{{}}]"#),
                format!(r#"[null, {reference},"phoenix","heartbeat",{{}}]"#),
            ),
            (
                Serializer::V1,
                format!(r#"{{"topic":"phoenix","event":"heartbeat","payload":{{}},"ref":{reference}}}"#),
                format!(r#"{{ "topic":"phoenix","event":"heartbeat","payload":{{}},"ref":{reference}}}"#),
            ),
        ] {
            let answer = answered(serializer, &known);
            prop_assert_eq!((answer.1, answer.2, answer.3), (1, 1, 1));
            prop_assert_eq!(answer, answered(serializer, &other));
        }
    }
}
