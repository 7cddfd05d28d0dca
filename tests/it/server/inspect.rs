//! Looking into a running server of several shards, and what its metrics say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hailer::auth::connect::{Answer, Connect, ConnectRequest, Refusal, Secret};
use hailer::auth::deny::{Denial, DenyList};
use hailer::auth::gate::SocketIdTemplate;
use hailer::auth::{Identity, IdentityParts, UnixTime};
use hailer::channel::Router;
use hailer::desk::{
    ConnectionOrder, ConnectionQuery, ConnectionView, Inspection, Readiness, TokenCheck, TopicQuery,
};
use hailer::endpoint::{Admission, Config};
use hailer::notification::Notification;
use hailer::phoenix::Serializer;
use hailer::server::inspect::{Inspector, Sources, StoreVitals};
use hailer::server::{Server, ServerConfig};
use serde_json::json;

use super::users::unix_time;
use crate::support::{Client, Peer, eventually};

/// Who brings a token is the user of that name; `bad` is nobody, and `panic` is not survived.
struct NameIsToken;

impl Connect for NameIsToken {
    fn connect(&self, request: ConnectRequest, _: UnixTime, answer: Answer) {
        let Some(token) = request.token else { return answer.send(Err(Refusal::NoToken)) };
        let user = token.expose();
        assert_ne!(user, "panic", "as asked");
        if user == "bad" {
            return answer.send(Err(Refusal::UnknownUser));
        }
        let socket_id = SocketIdTemplate::default().id_of(user);
        let parts =
            IdentityParts { user, socket_id: &socket_id, expires: Some(1 << 40), ..Default::default() };
        answer.send(Ok(Identity::new(parts)));
    }
}

struct Running {
    server: Server,
    inspector: Arc<Inspector>,
}

impl Running {
    /// A server of three shards, which asks for names if `sources` do.
    fn start(sources: Sources) -> Self {
        let router = Router::new()
            .channel("room:*".parse().expect("a pattern"), Notification::default())
            .channel("user:*".parse().expect("a pattern"), Notification::default());
        let admission = sources.connect.clone().map(Admission::new);
        let endpoint = Config { admission, ..Config::new(router) };
        let listen = "127.0.0.1:0".parse().expect("an address");
        let config = ServerConfig { listen, shards: 3, ..ServerConfig::new(endpoint) };
        let server = Server::start(&config).expect("the server starts");
        let inspector = Arc::new(Inspector::new(server.handle().clone(), sources));
        Self { server, inspector }
    }

    fn of_users() -> Self {
        Self::start(Sources {
            connect: Some(Arc::new(NameIsToken)),
            socket_id: Some(SocketIdTemplate::default()),
            topic_of: Some(Arc::new(|user| Some(format!("user:{user}")))),
            ..Sources::default()
        })
    }

    /// Clients that have joined a topic, at least so many, with one in each shard.
    fn join_everywhere(&self, topic: &str, count: usize) -> Vec<Client> {
        let address = self.server.handle().local_addr();
        let mut clients = Vec::new();
        while clients.len() < count || self.server.handle().stats().topics < 3 {
            clients.push(Client::joined(address, topic));
            assert!(clients.len() < count + 200, "the kernel spreads connections over the shards");
        }
        clients
    }

    fn user(&self, name: &str) -> Client {
        let address = self.server.handle().local_addr();
        Client::try_connect(address, Serializer::V2, &format!("token={name}")).expect("it may connect")
    }

    /// All connections, page by page.
    fn pages(&self, query: &ConnectionQuery, mut between: impl FnMut()) -> Vec<ConnectionView> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.inspector.connections(&ConnectionQuery { after, ..query.clone() });
            assert!(page.connections.len() <= query.limit);
            assert!(
                page.next.is_none() || page.connections.len() == query.limit,
                "a page is full or the last"
            );
            all.extend(page.connections);
            after = page.next;
            if after.is_none() {
                return all;
            }
            between();
        }
    }
}

fn ids(views: &[ConnectionView]) -> BTreeSet<&str> {
    views.iter().map(|view| &*view.id).collect()
}

fn query(limit: usize) -> ConnectionQuery {
    ConnectionQuery { limit, ..ConnectionQuery::default() }
}

#[test]
fn pages_hold_everybody_once_while_others_come_and_go() {
    let running = Running::start(Sources::default());
    let address = running.server.handle().local_addr();
    let staying = running.join_everywhere("room:1", 40);
    let mut passing: Vec<Client> = (0..10).map(|_| Client::joined(address, "room:1")).collect();
    for topic in [None, Some("room:1".to_owned())] {
        let everybody = || running.pages(&query(1000), || ());
        let before = everybody();
        let query = ConnectionQuery { topic, ..query(3) };
        let found = running.pages(&query, || {
            drop(passing.remove(0));
            passing.push(Client::joined(address, "room:1"));
        });
        let after = everybody();
        assert_eq!(ids(&found).len(), found.len(), "nobody is listed twice");
        // An id is nobody else's later, so whoever is there before and behind was there all the time.
        let stayed: BTreeSet<&str> = ids(&before).intersection(&ids(&after)).copied().collect();
        assert!(stayed.len() >= staying.len());
        assert!(stayed.is_subset(&ids(&found)), "{stayed:?} are not all in {found:?}");
    }
    eventually("the end of those that have left", || {
        (running.inspector.connections(&query(1)).total == (staying.len() + 10) as u64).then_some(())
    });
    let lost = running.inspector.connections(&ConnectionQuery { after: Some("x".into()), ..query(5) });
    assert_eq!((lost.connections.len(), lost.next), (0, None), "that is no place where a page ends");
}

#[test]
fn a_connection_is_told_with_where_and_when_it_came_from() {
    let running = Running::of_users();
    let before = unix_time();
    let mut ada = running.user("ada");
    ada.join("user:ada");
    let _bob = running.user("bob");
    let view = running.inspector.user("ada");
    assert_eq!((view.user.as_str(), view.online, view.topic.as_deref()), ("ada", true, Some("user:ada")));
    let [connection] = &*view.connections else { panic!("{view:?}") };
    assert_eq!((connection.transport.as_str(), connection.user.as_deref()), ("websocket", Some("ada")));
    assert_eq!(connection.socket_id.as_deref(), Some("user_socket:ada"));
    assert_eq!(
        (connection.topics.as_slice(), connection.topic_count),
        (["user:ada".to_owned()].as_slice(), 1)
    );
    let address = connection.address.expect("it is known");
    assert!(address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) && address.port() != 0, "{address}");
    // The second of the server's beginning may be cut off as well.
    let second = connection.connected_at / 1000;
    assert!((before - 2..=unix_time()).contains(&second), "{second} is not after {before}");
    let again = running.inspector.user("ada");
    assert_eq!(again.connections[0].connected_at, connection.connected_at);
    let nobody = running.inspector.user("cleo");
    assert_eq!((nobody.online, nobody.connections.len()), (false, 0));
}

#[test]
fn one_connection_is_closed_by_its_id() {
    let running = Running::of_users();
    let handle = running.server.handle();
    let (mut first, mut second) = (running.user("ada"), running.user("ada"));
    first.heartbeat();
    second.heartbeat();
    let mine = |views: Vec<ConnectionView>| views.into_iter().map(|view| view.id).collect::<BTreeSet<_>>();
    let both = mine(running.inspector.user("ada").connections);
    assert_eq!(both.len(), 2);
    drop(first);
    let left = eventually("the end of the first", || {
        let left = mine(running.inspector.user("ada").connections);
        (left.len() == 1).then_some(left)
    });
    let gone = both.difference(&left).next().expect("one has gone");
    assert_eq!(handle.disconnect_connection(gone, true), Some(false));
    assert_eq!(handle.disconnect_connection("7-0-1", true), None, "there is no such shard");
    assert_eq!(handle.disconnect_connection("nonsense", true), None);
    let id = left.first().expect("one is left");
    assert_eq!(handle.disconnect_connection(id, false), Some(true));
    assert_eq!(second.closed().map(|(code, _)| code), Some(1000));
    assert!(!running.inspector.user("ada").online);
}

#[test]
fn topics_are_exact_sums_over_the_shards() {
    let running = Running::start(Sources::default());
    let address = running.server.handle().local_addr();
    let crowd = running.join_everywhere("room:crowd", 10);
    let _others: Vec<Client> =
        (0..5).map(|number| Client::joined(address, &format!("room:a{number}"))).collect();
    let topics = |prefix: Option<&str>, limit| {
        running.inspector.topics(&TopicQuery { prefix: prefix.map(str::to_owned), limit })
    };
    let page = topics(None, 3);
    let names: Vec<_> = page.topics.iter().map(|topic| (&*topic.topic, topic.subscribers)).collect();
    let count = crowd.len() as u64;
    assert_eq!(names, [("room:crowd", count), ("room:a0", 1), ("room:a1", 1)]);
    assert_eq!((page.total, page.topics[0].websocket, page.topics[0].longpoll), (6, count, 0));
    assert_eq!((topics(Some("room:a"), 1000).topics.len(), topics(Some("x"), 1000).total), (5, 0));
    assert_eq!(running.inspector.subscribers("room:crowd"), Some(count));
    assert_eq!(running.inspector.subscribers("room:nowhere"), Some(0));
}

#[test]
fn the_oldest_and_the_slowest_come_first() {
    let running = Running::start(Sources::default());
    let handle = running.server.handle();
    let mut crowd = running.join_everywhere("room:lobby", 5);
    let slow = Peer::connect_narrow(handle.local_addr());
    let slow = {
        let mut slow = slow;
        slow.upgrade("/socket/websocket?vsn=2.0.0");
        slow.join_lobby();
        slow
    };
    // More than the kernel's buffers take for somebody who reads nothing.
    let waiting = eventually("a reader that is behind", || {
        let payload = json!({"body": "x".repeat(32_000)});
        handle.broadcast("room:lobby", "new_msg", payload.into()).expect("there is room");
        crowd.iter_mut().for_each(|client| _ = client.body());
        let best = ConnectionQuery { order: ConnectionOrder::Slowest, ..query(2) };
        let slowest = running.inspector.connections(&best).connections;
        assert_eq!(slowest.len(), 2);
        assert!(slowest[0].waiting_bytes >= slowest[1].waiting_bytes);
        (slowest[0].waiting_bytes > 0).then_some(slowest)
    });
    assert_eq!(running.inspector.topics(&TopicQuery { prefix: None, limit: 1 }).topics[0].behind, 1);
    let oldest = ConnectionQuery { order: ConnectionOrder::Oldest, ..query(1000) };
    let oldest = running.inspector.connections(&oldest);
    assert_eq!((oldest.connections.len(), oldest.next), (crowd.len() + 1, None));
    assert!(oldest.connections.is_sorted_by_key(|view| view.connected_at));
    assert!(ids(&oldest.connections).contains(&*waiting[0].id));
    drop(slow);
}

#[test]
fn a_token_is_checked_as_it_is_when_somebody_connects() {
    let check = |running: &Running, token: &str| running.inspector.check_token(&Secret::new(token));
    let running = Running::of_users();
    let ada = TokenCheck {
        valid: true,
        reason: None,
        user: Some("ada".into()),
        socket_id: Some("user_socket:ada".into()),
        expires_at: Some(1 << 40),
    };
    assert_eq!(check(&running, "ada"), ada);
    let refused = |reason: &str| TokenCheck {
        valid: false,
        reason: Some(reason.into()),
        user: None,
        socket_id: None,
        expires_at: None,
    };
    assert_eq!(check(&running, "bad"), refused("unknown user (accounts.source)"));
    assert_eq!(check(&running, "panic"), refused("accounts unavailable (accounts.source)"));
    let open = check(&Running::start(Sources::default()), "ada");
    assert!(open.valid && open.user.is_none() && open.reason.is_some(), "{open:?}");
}

#[test]
fn readiness_says_what_is_in_the_way() {
    let failing = Arc::new(AtomicBool::new(false));
    let store = {
        let failing = Arc::clone(&failing);
        move || StoreVitals { failing: failing.load(Ordering::Relaxed), ..StoreVitals::default() }
    };
    let running = Running::start(Sources { store: Some(Arc::new(store)), ..Sources::default() });
    assert_eq!(running.inspector.readiness(), Readiness { ready: true, problems: Vec::new() });
    failing.store(true, Ordering::Relaxed);
    let readiness = running.inspector.readiness();
    assert!(readiness.ready && readiness.problems.len() == 1, "{readiness:?}");
    // Somebody who does not answer the close frame keeps one shard from its end.
    let mut peer = Peer::open(running.server.handle().local_addr());
    running.server.handle().drain();
    assert_eq!(peer.close_frame().0, 1012);
    let readiness = running.inspector.readiness();
    assert!(!readiness.ready, "{readiness:?}");
    assert!(readiness.problems.iter().any(|problem| problem.ends_with("is being stopped")), "{readiness:?}");
    drop(peer);
    running.server.wait().expect("no shard has failed");
    let readiness = running.inspector.readiness();
    assert!(!readiness.ready && readiness.problems[0].ends_with("does not answer"), "{readiness:?}");
    assert_eq!(running.inspector.subscribers("room:1"), None);
}

/// The samples of a text of metrics.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').expect("a sample has a value"))
        .map(|(name, value)| (name, value.parse().expect("a value is a number")))
        .collect()
}

#[test]
fn metrics_move_and_name_nobody() {
    const USER: &str = "marked-user-7f3a";
    let denied = Arc::new(RwLock::new(DenyList::new(10)));
    let running = Running::start(Sources {
        connect: Some(Arc::new(NameIsToken)),
        socket_id: Some(SocketIdTemplate::default()),
        denied: Some(Arc::clone(&denied)),
        ..Sources::default()
    });
    let handle = running.server.handle();
    let mut client = running.user(USER);
    let topic = format!("room:{USER}");
    client.join(&topic);
    let before = running.inspector.metrics();
    handle.broadcast(&topic, "new_msg", json!({"body": USER}).into()).expect("there is room");
    client.body();
    assert!(Client::try_connect(handle.local_addr(), Serializer::V2, "token=bad").is_err());
    let denial = Denial::of_user(USER, unix_time(), unix_time() + 60);
    denied.write().unwrap_or_else(PoisonError::into_inner).insert(denial).expect("there is room");
    // A turn is timed at its end, which may come after what it has written.
    let after = eventually("all that has happened", || {
        let after = running.inspector.metrics();
        (samples(&after)["hailer_broadcast_duration_seconds_count"] >= 1.0).then_some(after)
    });
    assert!(after.ends_with("# EOF\n"));
    assert!(!after.contains(USER), "a user or a topic is in the metrics: {after}");
    let (before, after) = (samples(&before), samples(&after));
    assert_eq!(after["hailer_connections{transport=\"websocket\"}"], 1.0);
    assert_eq!((after["hailer_topics"], after["hailer_subscriptions"]), (1.0, 1.0));
    assert_eq!((after["hailer_shards"], after["hailer_shards_answering"]), (3.0, 3.0));
    assert_eq!(after["hailer_denials"], 1.0);
    let moved = |name: &str| after[name] - before[name];
    assert_eq!((moved("hailer_broadcasts_total"), moved("hailer_shard_broadcasts_total")), (1.0, 3.0));
    assert_eq!(moved("hailer_sent_messages_total"), 1.0);
    assert_eq!(moved("hailer_refusals_total{limit=\"none\",reason=\"bad_user\"}"), 1.0);
    for name in ["hailer_sent_bytes_total", "hailer_received_bytes_total", "hailer_loop_turn_seconds_count"] {
        assert!(moved(name) > 0.0, "{name} stays as it is");
    }
    if cfg!(target_os = "linux") {
        assert!(after["process_resident_memory_bytes"] > 1_000_000.0);
        assert!(after["process_open_fds"] > 3.0 && after["process_threads"] > 3.0);
    }
    assert!(after["process_start_time_seconds"] > 1_600_000_000.0);
}
