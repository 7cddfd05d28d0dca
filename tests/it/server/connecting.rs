//! Who may connect is decided on threads of their own: the loops go on.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hailer::auth::connect::{Answer, Connect, ConnectRequest, Refusal};
use hailer::auth::{Identity, IdentityParts, UnixTime};
use hailer::channel::Router;
use hailer::endpoint::{Admission, Config};
use hailer::notification::Notification;
use hailer::phoenix::Serializer;
use hailer::server::{Server, ServerConfig};
use serde_json::json;

use crate::support::{Client, PATIENCE, eventually};

/// Lets everybody in by name; `slow` when the test says so, `broken` never.
struct Hook {
    entered: Mutex<Sender<()>>,
    gate: Mutex<Receiver<()>>,
}

impl Connect for Hook {
    fn connect(&self, request: ConnectRequest, now: UnixTime, answer: Answer) {
        assert!(now > 1_700_000_000, "it is told what the time is");
        let user = request.token.map(|token| token.expose().to_owned()).unwrap_or_default();
        match &*user {
            "" => return answer.send(Err(Refusal::NoToken)),
            "broken" => std::panic::resume_unwind(Box::new("on purpose")),
            "slow" => {
                self.entered.lock().unwrap().send(()).expect("the test waits");
                self.gate.lock().unwrap().recv_timeout(PATIENCE).expect("the test opens the gate");
            }
            _ => {}
        }
        let socket_id = format!("user_socket:{user}");
        let parts = IdentityParts { user: &user, socket_id: &socket_id, ..IdentityParts::default() };
        answer.send(Ok(Identity::new(parts)));
    }
}

struct Guarded {
    server: Server,
    entered: Receiver<()>,
    gate: Sender<()>,
}

fn start(connect_threads: usize, connect_timeout: Duration) -> Guarded {
    let (entered_sender, entered) = channel();
    let (gate, gate_receiver) = channel();
    let hook = Hook { entered: Mutex::new(entered_sender), gate: Mutex::new(gate_receiver) };
    let router = Router::new().channel("room:*".parse().unwrap(), Notification::default());
    let mut endpoint = Config { admission: Some(Admission::new(Arc::new(hook))), ..Config::new(router) };
    Arc::make_mut(&mut endpoint.limits).connect_timeout = connect_timeout;
    let listen = "127.0.0.1:0".parse().unwrap();
    let config = ServerConfig { listen, shards: 2, connect_threads, ..ServerConfig::new(endpoint) };
    Guarded { server: Server::start(&config).expect("the server starts"), entered, gate }
}

#[test]
fn a_decision_that_waits_holds_up_nobody_who_is_connected() {
    let Guarded { server, entered, gate } = start(1, PATIENCE);
    let address = server.handle().local_addr();
    let mut connected = Client::try_connect(address, Serializer::V2, "token=ada").expect("ada may connect");
    connected.join("room:lobby");
    let slow =
        std::thread::spawn(move || Client::try_connect(address, Serializer::V2, "token=slow").map(drop));
    entered.recv_timeout(PATIENCE).expect("the decision has begun");
    // The only thread that decides is taken, and the loops are not.
    for number in 0..100 {
        server.handle().broadcast("room:lobby", "new_msg", json!({"body": number}).into()).unwrap();
        assert_eq!(connected.body(), json!(number));
    }
    gate.send(()).unwrap();
    assert_eq!(slow.join().expect("the thread has not panicked"), Ok(()));
    server.shutdown().expect("no shard has failed");
}

#[test]
fn a_decision_that_panics_refuses_its_client_alone() {
    let Guarded { server, .. } = start(1, PATIENCE);
    let address = server.handle().local_addr();
    for _ in 0..3 {
        assert_eq!(Client::try_connect(address, Serializer::V2, "token=broken").err(), Some(503));
        assert!(Client::try_connect(address, Serializer::V2, "token=ada").is_ok());
        assert_eq!(Client::try_connect(address, Serializer::V2, "").err(), Some(403));
    }
    let stats = server.shutdown().expect("no shard has failed");
    assert_eq!((stats.connects_granted, stats.connects_unavailable, stats.connects_without_token), (3, 3, 3));
}

#[test]
fn a_server_ends_while_a_decision_hangs() {
    let Guarded { server, entered, gate } = start(1, PATIENCE);
    let address = server.handle().local_addr();
    let slow = std::thread::spawn(move || {
        std::panic::catch_unwind(|| Client::try_connect(address, Serializer::V2, "token=slow").map(drop))
    });
    entered.recv_timeout(PATIENCE).expect("the decision has begun");
    server.shutdown().expect("no shard has failed");
    assert!(slow.join().expect("the thread has ended").is_err(), "the connection has ended unanswered");
    drop(gate);
}

#[test]
fn a_decision_that_takes_too_long_is_a_refusal_that_comes_in_time() {
    let Guarded { server, entered, gate } = start(1, Duration::from_millis(300));
    let address = server.handle().local_addr();
    assert_eq!(Client::try_connect(address, Serializer::V2, "token=slow").err(), Some(503));
    entered.recv_timeout(PATIENCE).expect("the decision has begun");
    gate.send(()).unwrap();
    eventually("the thread is free again", || {
        Client::try_connect(address, Serializer::V2, "token=ada").is_ok().then_some(())
    });
    let stats = server.shutdown().expect("no shard has failed");
    assert!(stats.connects_timed_out >= 1 && stats.connects_granted >= 1);
}

#[test]
fn a_handle_disconnects_a_user_everywhere() {
    let Guarded { server, .. } = start(2, PATIENCE);
    let address = server.handle().local_addr();
    let connect = |user: &str| {
        let params = format!("token={user}");
        let mut client = Client::try_connect(address, Serializer::V2, &params).expect("it may connect");
        client.join("room:lobby");
        client
    };
    let mut ada: Vec<_> = (0..20).map(|_| connect("ada")).collect();
    let mut bob: Vec<_> = (0..20).map(|_| connect("bob")).collect();
    server.handle().disconnect("user_socket:ada", true).unwrap();
    for client in &mut ada {
        assert_eq!(client.closed().map(|(code, _)| code), Some(1001));
    }
    server.handle().broadcast("room:lobby", "new_msg", json!({"body": "still here"}).into()).unwrap();
    for client in &mut bob {
        assert_eq!(client.body(), json!("still here"));
    }
    server.handle().disconnect("user_socket:bob", false).unwrap();
    for client in &mut bob {
        assert_eq!(client.closed().map(|(code, _)| code), Some(1000));
    }
    assert_eq!(server.shutdown().expect("no shard has failed").closed_disconnected, 40);
}
