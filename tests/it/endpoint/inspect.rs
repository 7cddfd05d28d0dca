//! What a shard tells of itself: connections, topics, what it holds, how long things take.

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hailer::auth::connect::Transport as Kind;
use hailer::broker::Broker;
use hailer::channel::Router;
use hailer::endpoint::{
    Config, ConnectionFilter, ConnectionId, Endpoint, FoundConnection, FoundTopic, Gone, Holdings, Rank,
    Sink, Slice,
};
use hailer::notification::Notification;
use hailer::phoenix::Serializer;
use hailer::testing::{ClientId, TestServer, upgrade_request, write_masked};
use serde_json::json;

use super::dialogue::{FORMS, Transport};
use super::doorman::{connect, server};
use super::probe;

const WEB_SOCKET: (Serializer, Transport) = (Serializer::V2, Transport::WebSocket);
const LONG_POLL: (Serializer, Transport) = (Serializer::V2, Transport::LongPoll);

fn kind(transport: Transport) -> Kind {
    match transport {
        Transport::WebSocket => Kind::WebSocket,
        Transport::LongPoll => Kind::LongPoll,
    }
}

/// All connections that a filter is about, in slices of so many places.
fn walk(endpoint: &Endpoint, filter: &ConnectionFilter, scan_max: usize) -> Vec<ConnectionId> {
    let (mut all, mut from) = (Vec::new(), Some(0));
    while let Some(place) = from {
        let slice = endpoint.inspect_connections(filter, place, scan_max, usize::MAX);
        assert!(slice.found.len() <= scan_max, "{} connections in {scan_max} places", slice.found.len());
        assert!(slice.next.is_none_or(|next| next > place), "the walk gets on");
        all.extend(slice.found);
        from = slice.next;
    }
    all
}

fn find(server: &TestServer, filter: &ConnectionFilter) -> Vec<FoundConnection> {
    let endpoint = server.endpoint(0);
    let ids = walk(endpoint, filter, usize::MAX);
    ids.into_iter().map(|id| endpoint.inspect_connection(id).expect("it is open")).collect()
}

fn of_user(user: &str) -> ConnectionFilter {
    ConnectionFilter { user: Some(user.into()), ..ConnectionFilter::default() }
}

fn users(found: &[FoundConnection]) -> Vec<&str> {
    found.iter().map(|found| found.identity.as_ref().map_or("", |identity| identity.user())).collect()
}

#[test]
fn a_connection_is_told_with_all_that_it_has() {
    for (serializer, transport) in FORMS {
        let mut server = server();
        let begun = server.now();
        server.advance(Duration::from_millis(61_700));
        let ada = connect(&mut server, (serializer, transport), "ada");
        for topic in ["room:lobby", "user:ada"] {
            assert_eq!(server.join(ada, topic, json!({}))["status"], "ok");
        }
        server.advance(Duration::from_secs(5));
        let found = find(&server, &ConnectionFilter::default());
        let [found] = &*found else { panic!("{found:?}") };
        let identity = found.identity.as_ref().expect("it has a user");
        assert_eq!((identity.user(), identity.socket_id()), ("ada", "user_socket:ada"));
        assert_eq!(found.transport, kind(transport));
        assert_eq!(found.peer.is_some(), transport == Transport::LongPoll);
        assert_eq!(found.since, begun + Duration::from_secs(61));
        let topics: Vec<&str> = found.topics.iter().map(|topic| &**topic).collect();
        assert_eq!((topics, found.topic_count), (vec!["room:lobby", "user:ada"], 2));
        assert_eq!(found.waiting_bytes, 0);
    }
}

#[test]
fn connections_without_users_are_told_as_well() {
    for (serializer, transport) in FORMS {
        let mut server = TestServer::with_config(&probe::config(), 1);
        let client = match transport {
            Transport::WebSocket => server.connect_with(serializer),
            Transport::LongPoll => server.connect_long_poll(serializer),
        };
        server.join(client, "probe:1", json!({}));
        let found = find(&server, &ConnectionFilter::default());
        assert_eq!(found.len(), 1);
        assert!(found[0].identity.is_none());
        assert_eq!(find(&server, &of_user("ada")).len(), 0);
    }
}

#[test]
fn names_of_topics_are_told_up_to_a_number() {
    let mut server = TestServer::with_config(&probe::config(), 1);
    let client = server.connect();
    for number in 0..25 {
        server.join(client, &format!("probe:{number}"), json!({}));
    }
    let found = find(&server, &ConnectionFilter::default());
    assert_eq!((found[0].topics.len(), found[0].topic_count), (20, 25));
}

#[test]
fn a_filter_finds_those_that_it_is_about() {
    let mut server = server();
    for (form, token) in [
        (WEB_SOCKET, "ada"),
        (LONG_POLL, "ada"),
        (WEB_SOCKET, "bob"),
        (LONG_POLL, "cleo"),
        (WEB_SOCKET, "nobody,nobody"),
    ] {
        let client = connect(&mut server, form, token);
        if token != "cleo" {
            server.join(client, "room:lobby", json!({}));
        }
    }
    let text = |text: &str| Some(text.into());
    let any = ConnectionFilter::default;
    let check = |filter: ConnectionFilter, expected: &[&str]| {
        for scan_max in [usize::MAX, 1, 3] {
            let ids = walk(server.endpoint(0), &filter, scan_max);
            let found: Vec<_> =
                ids.into_iter().filter_map(|id| server.endpoint(0).inspect_connection(id)).collect();
            assert_eq!(users(&found), expected, "{filter:?} by {scan_max}");
        }
    };
    check(any(), &["ada", "ada", "bob", "cleo", ""]);
    check(of_user("ada"), &["ada", "ada"]);
    check(of_user("dan"), &[]);
    check(ConnectionFilter { socket_id: text("user_socket:ada"), ..any() }, &["ada", "ada"]);
    check(ConnectionFilter { socket_id: text("user_socket:ada"), ..of_user("bob") }, &[]);
    check(ConnectionFilter { socket_id: text(""), ..any() }, &[]);
    check(ConnectionFilter { topic: text("room:lobby"), ..any() }, &["ada", "ada", "bob"]);
    check(ConnectionFilter { topic: text("room:nowhere"), ..any() }, &[]);
    check(ConnectionFilter { transport: Some(Kind::LongPoll), ..any() }, &["ada", "cleo"]);
    check(
        ConnectionFilter { transport: Some(Kind::WebSocket), topic: text("room:lobby"), ..of_user("ada") },
        &["ada"],
    );
}

#[test]
fn a_walk_finds_everybody_once_whoever_comes_and_goes_meanwhile() {
    for topic in [None, Some("probe:1")] {
        let filter = ConnectionFilter { topic: topic.map(Into::into), ..ConnectionFilter::default() };
        let mut server = TestServer::with_config(&probe::config(), 1);
        let join = |server: &mut TestServer| {
            let client = server.connect();
            server.join(client, "probe:1", json!({}));
            client
        };
        let clients: Vec<ClientId> = (0..100).map(|_| join(&mut server)).collect();
        let stays = |number: usize| !number.is_multiple_of(3);
        let staying: BTreeSet<u64> = (0..100)
            .filter(|number| stays(*number))
            .map(|number| server.connection_id(clients[number]).to_bits())
            .collect();
        let (mut found, mut from, mut leaving) = (Vec::new(), Some(0), (0..100).filter(|n| !stays(*n)));
        while let Some(place) = from {
            let slice = server.endpoint(0).inspect_connections(&filter, place, 7, usize::MAX);
            found.extend(slice.found.into_iter().map(ConnectionId::to_bits));
            from = slice.next;
            // Places become free before and behind the walk, and are taken again.
            for number in leaving.by_ref().take(3) {
                server.reset(clients[number]);
            }
            (0..2).for_each(|_| _ = join(&mut server));
        }
        let once: BTreeSet<u64> = found.iter().copied().collect();
        assert_eq!(once.len(), found.len(), "nobody is found twice");
        assert!(once.is_superset(&staying), "whoever stays is found");
    }
}

#[test]
fn a_slice_ends_with_the_last_one_that_is_wanted() {
    let mut server = TestServer::with_config(&probe::config(), 1);
    let ids: Vec<ConnectionId> = (0..5)
        .map(|_| {
            let client = server.connect();
            server.connection_id(client)
        })
        .collect();
    let endpoint = server.endpoint(0);
    let all = ConnectionFilter::default();
    assert_eq!(
        endpoint.inspect_connections(&all, 1, 100, 2),
        Slice { found: ids[1..3].to_vec(), next: Some(3) }
    );
    let last = endpoint.inspect_connections(&all, 3, 100, 100);
    assert_eq!((last.found, last.next), (ids[3..].to_vec(), None));
    assert_eq!(
        endpoint.inspect_connections(&all, 1_000_000, 100, 100),
        Slice { found: Vec::new(), next: None }
    );
}

#[test]
fn sockets_that_are_being_closed_are_not_told() {
    let mut server = server();
    let ada = connect(&mut server, WEB_SOCKET, "ada");
    connect(&mut server, LONG_POLL, "ada");
    let ids = walk(server.endpoint(0), &ConnectionFilter::default(), usize::MAX);
    assert_eq!(ids.len(), 2);
    server.broadcast("user_socket:ada", "disconnect", json!({})).expect("there is room");
    // The WebSocket waits for its client's close frame, and the session for its client's next poll.
    assert!(server.closed(ada).is_some() && server.stats().web_sockets == 1 && server.stats().sessions == 1);
    assert_eq!(walk(server.endpoint(0), &ConnectionFilter::default(), usize::MAX), []);
    for id in ids {
        assert!(server.endpoint(0).inspect_connection(id).is_none());
    }
}

#[test]
fn one_socket_is_closed_and_no_other_of_its_user() {
    for (form, other) in [(WEB_SOCKET, LONG_POLL), (LONG_POLL, WEB_SOCKET)] {
        for (reconnect, code) in [(true, 1001), (false, 1000)] {
            let mut server = server();
            let ada = connect(&mut server, form, "ada");
            let elsewhere = connect(&mut server, other, "ada");
            let bob = connect(&mut server, form, "bob");
            let filter = ConnectionFilter { transport: Some(kind(form.1)), ..of_user("ada") };
            let id = walk(server.endpoint(0), &filter, usize::MAX)[0];
            assert!(server.disconnect_one(0, id, reconnect));
            match form.1 {
                Transport::WebSocket => assert_eq!(server.closed(ada).and_then(|end| end.code), Some(code)),
                // The poll behind the session's last message is answered when the client had time to look at it.
                Transport::LongPoll => {
                    server.advance(Duration::from_secs(1));
                    assert!(server.closed(ada).is_some());
                }
            }
            assert!(server.closed(elsewhere).is_none() && server.closed(bob).is_none());
            assert!(!server.disconnect_one(0, id, reconnect), "it is closed already");
            let stats = server.stats();
            assert_eq!((stats.closed_disconnected, stats.closed_stay_away), (1, u64::from(!reconnect)));
        }
    }
}

#[test]
fn an_id_of_somebody_who_has_gone_closes_nobody() {
    let mut server = TestServer::with_config(&probe::config(), 1);
    let gone = server.connect();
    let id = server.connection_id(gone);
    server.reset(gone);
    let next = server.connect();
    assert_eq!(server.connection_id(next).slot(), id.slot(), "the place is taken again");
    assert!(!server.disconnect_one(0, id, true));
    assert!(server.endpoint(0).inspect_connection(id).is_none());
    assert!(server.closed(next).is_none());
}

/// Two subscribers of `probe:1` who read, one WebSocket that does not, and one in `probe:2` alone.
fn with_a_slow_one() -> (TestServer, ClientId) {
    let mut server = TestServer::with_config(&probe::config(), 1);
    let clients: Vec<ClientId> = (0..4).map(|_| server.connect()).collect();
    for client in &clients[..3] {
        server.join(*client, "probe:1", json!({}));
    }
    server.join(clients[3], "probe:2", json!({}));
    server.set_window(clients[1], Some(0));
    server.broadcast("probe:1", "news", json!({"text": "x".repeat(1000)})).expect("there is room");
    (server, clients[1])
}

#[test]
fn what_waits_for_a_connection_is_told_and_ranked() {
    let (mut server, slow) = with_a_slow_one();
    let found = find(&server, &ConnectionFilter::default());
    let waiting: Vec<usize> = found.iter().map(|found| found.waiting_bytes).collect();
    assert!(waiting[1] > 1000 && waiting[0] + waiting[2] + waiting[3] == 0, "{waiting:?}");
    let slow_id = server.connection_id(slow);
    server.advance(Duration::from_secs(10));
    let late = server.connect();
    let (late, now) = (server.connection_id(late), server.now());
    let endpoint = server.endpoint(0);
    let best =
        |rank| endpoint.rank_connections(&ConnectionFilter::default(), rank, now, 0, usize::MAX, 1).found;
    assert_eq!(best(Rank::Waiting), [(waiting[1] as u64, slow_id)]);
    assert_eq!(best(Rank::Age)[0].0, 10);
    let all = endpoint.rank_connections(&ConnectionFilter::default(), Rank::Age, now, 0, usize::MAX, 100);
    assert_eq!((all.found.len(), all.found[4]), (5, (0, late)));
}

#[test]
fn topics_are_counted_by_transport_and_by_who_is_behind() {
    let (mut server, slow) = with_a_slow_one();
    let poller = server.connect_long_poll(Serializer::V1);
    server.join(poller, "probe:1", json!({}));
    let topic = |name: &str, web_sockets, sessions, behind| FoundTopic {
        name: name.into(),
        web_sockets,
        sessions,
        behind,
    };
    let endpoint = server.endpoint(0);
    assert_eq!(endpoint.inspect_topic("probe:1"), Some(topic("probe:1", 3, 1, 1)));
    assert_eq!(endpoint.inspect_topic("probe:3"), None);
    let find = |prefix: &str| endpoint.inspect_topics(prefix, 0, usize::MAX).found;
    assert_eq!(find(""), [topic("probe:1", 3, 1, 1), topic("probe:2", 1, 0, 0)]);
    assert_eq!(find("probe:2"), [topic("probe:2", 1, 0, 0)]);
    assert_eq!(find("x"), []);
    let first = endpoint.inspect_topics("", 0, 1);
    assert_eq!((first.found.len(), first.next), (1, Some(1)));
    server.set_window(slow, None);
    server.settle();
    assert_eq!(server.endpoint(0).inspect_topic("probe:1"), Some(topic("probe:1", 3, 1, 0)));
}

#[test]
fn what_is_held_is_the_same_whatever_the_slices() {
    let (mut server, slow) = with_a_slow_one();
    server.push(slow, "probe:1", "echo", json!({"text": "y".repeat(200)}));
    let endpoint = server.endpoint(0);
    let sum = |scan_max: usize| {
        let (mut sum, mut from) = (Holdings::default(), Some(0));
        while let Some(place) = from {
            let slice = endpoint.inspect_holdings(place, scan_max);
            sum += slice.found;
            from = slice.next;
        }
        sum
    };
    let whole = sum(usize::MAX);
    assert_eq!((whole.subscriptions, whole.behind, whole.log_bytes), (4, 1, server.log_bytes()));
    assert!(whole.log_bytes > 1000, "{whole:?}");
    assert_eq!(whole.outbox_bytes, server.outbox_bytes(slow));
    assert!(whole.outbox_bytes > 200, "{whole:?}");
    assert_eq!((sum(1), sum(3)), (whole, whole));
}

#[test]
fn messages_for_clients_are_counted_once_for_each() {
    let mut server = TestServer::with_config(&probe::config(), 1);
    let clients: Vec<ClientId> = (0..3).map(|_| server.connect()).collect();
    clients.iter().for_each(|client| _ = server.join(*client, "probe:1", json!({})));
    let before = server.stats();
    assert_eq!(before.messages_out, 3, "the replies to the joins");
    server.broadcast("probe:1", "news", json!({})).expect("there is room");
    assert_eq!(server.stats().messages_out - before.messages_out, 3);
    server.broadcast("probe:9", "news", json!({})).expect("there is room");
    assert_eq!(server.stats().messages_out - before.messages_out, 3, "nobody is there");
}

#[test]
fn closes_for_broken_frames_are_counted_by_their_codes() {
    let close = |bytes: &[u8]| {
        let mut server = TestServer::with_config(&probe::config(), 1);
        let client = server.connect();
        server.send_bytes(client, bytes);
        let stats = server.stats();
        let code = server.closed(client).and_then(|end| end.code);
        (code, stats.closed_bad_frame, stats.closed_bad_text, stats.closed_too_big)
    };
    let mut bad_text = Vec::new();
    write_masked(&mut bad_text, 0x1, true, &[0xff, 0xff]);
    assert_eq!(close(&bad_text), (Some(1007), 1, 1, 0));
    assert_eq!(close(&[&[0x82, 0xff, 0x00][..], &[0xff; 7], &[0; 4]].concat()), (Some(1009), 1, 0, 1));
    assert_eq!(close(&[0xf1, 0x80, 0, 0, 0, 0]), (Some(1002), 1, 0, 0));
}

#[test]
fn sessions_for_which_there_is_no_room_are_counted_apart() {
    let mut config = probe::config();
    Arc::make_mut(&mut config.limits).sessions_per_address_max = 1;
    let mut server = TestServer::with_config(&config, 1);
    server.connect_long_poll(Serializer::V2);
    let second = server.begin_long_poll(Serializer::V2, hailer::testing::Credentials::default());
    assert!(server.finish_long_poll(second).is_err());
    assert_eq!((server.stats().sessions_refused, server.stats().sessions_without_room), (1, 1));
}

#[test]
fn a_shard_says_that_it_is_ending() {
    let mut server = TestServer::with_config(&probe::config(), 1);
    assert!(!server.endpoint(0).is_draining());
    server.drain();
    assert!(server.endpoint(0).is_draining());
}

/// A socket that takes everything.
struct Takes;

impl Sink for Takes {
    fn send(&mut self, _: ConnectionId, pieces: &[IoSlice<'_>]) -> Result<usize, Gone> {
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn shutdown(&mut self, _: ConnectionId) {}
}

/// A shard with so many subscribers of `room:1`, whose time a test makes.
struct Timed {
    endpoint: Endpoint,
    broker: Arc<Broker>,
    begun: Instant,
}

impl Timed {
    fn with_subscribers(count: usize) -> Self {
        let config = Config::new(Router::new().channel("room:*".parse().unwrap(), Notification::default()));
        let broker = Broker::new(&config.limits, vec![Box::new(|| ())]);
        let begun = Instant::now();
        let mut endpoint = Endpoint::new(config, &broker, 0, &[7; 32], begun);
        for _ in 0..count {
            let id = endpoint.accept([127, 0, 0, 1].into(), begun).expect("there is room");
            let mut bytes = upgrade_request("/socket/websocket?vsn=2.0.0").into_bytes();
            write_masked(&mut bytes, 0x1, true, br#"["1","1","room:1","phx_join",{}]"#);
            endpoint.handle_read(id, &mut bytes, begun);
        }
        while endpoint.flush(usize::MAX, begun, &mut Takes) {}
        Self { endpoint, broker, begun }
    }

    /// A turn from one millisecond to another, with so many writes.
    fn turn(&mut self, from: u64, to: u64, writes: usize) {
        let [from, to] = [from, to].map(|millis| self.begun + Duration::from_millis(millis));
        self.endpoint.handle_mailbox(100, from);
        self.endpoint.flush(writes, from, &mut Takes);
        self.endpoint.end_turn(from, to);
    }

    fn broadcast(&self) {
        self.broker.broadcast("room:1", "news", json!({}).into()).expect("there is room");
    }

    /// How many broadcasts were timed, and what they took together in milliseconds.
    fn timed(&self) -> (u64, u128) {
        let broadcasts = self.endpoint.timings().broadcasts;
        (broadcasts.count(), broadcasts.sum().as_millis())
    }
}

#[test]
fn a_broadcast_is_timed_until_it_was_offered_to_the_last() {
    let mut shard = Timed::with_subscribers(10);
    shard.broadcast();
    shard.turn(100, 103, 4);
    shard.turn(103, 106, 4);
    assert_eq!(shard.timed(), (0, 0), "two have not been offered anything");
    shard.turn(106, 108, 4);
    assert_eq!(shard.timed(), (1, 8));
    shard.turn(200, 201, 4);
    assert_eq!(shard.timed(), (1, 8), "nothing has happened since");
    let turns = shard.endpoint.timings().turns;
    assert_eq!((turns.count(), turns.sum()), (4, Duration::from_millis(9)));
}

#[test]
fn broadcasts_that_go_out_together_are_timed_as_the_oldest_of_them() {
    let mut shard = Timed::with_subscribers(10);
    shard.broadcast();
    shard.broadcast();
    shard.turn(100, 105, 100);
    assert_eq!(shard.timed(), (1, 5));
}

#[test]
fn a_broadcast_in_the_middle_of_another_is_timed_on_its_own() {
    let mut shard = Timed::with_subscribers(10);
    shard.broadcast();
    shard.turn(100, 101, 5);
    shard.broadcast();
    shard.turn(110, 112, 5);
    assert_eq!(shard.timed(), (1, 12), "the first is through");
    shard.turn(112, 120, 100);
    assert_eq!(shard.timed(), (2, 22), "and the second, which came at 110");
}

#[test]
fn a_broadcast_to_nobody_is_not_timed() {
    let mut shard = Timed::with_subscribers(0);
    shard.broadcast();
    shard.turn(100, 101, 5);
    assert_eq!(shard.timed(), (0, 0));
}
