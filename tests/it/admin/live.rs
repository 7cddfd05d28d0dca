//! The admin socket.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::fake::{NOON, Visitor};
use hailer::admin::Config;
use hailer::auth::Identity;
use hailer::auth::connect::{Answer, ConnectRequest, Refusal, Secret, Transport, Verdict};
use hailer::desk::Progress;
use hailer::endpoint::{self, Admission};
use hailer::phoenix::Serializer;
use hailer::testing::{ClientId, Credentials, TestServer};

fn connect_with(visitor: &Visitor, cookie: Option<&str>, renewal: bool, at: u64) -> Verdict {
    let told = Arc::new(Mutex::new(None));
    let answer = Arc::clone(&told);
    let request = ConnectRequest {
        token: Some(Secret::new("no matter")),
        params: Vec::new(),
        cookie: cookie.map(Secret::new),
        transport: Transport::WebSocket,
        peer: None,
        renewal,
    };
    let answer = Answer::new(move |verdict| *answer.lock().unwrap() = Some(verdict));
    visitor.admin.connect_hook().connect(request, at / 1000, answer);
    told.lock().unwrap().take().expect("the hook decides at once")
}

fn connect(visitor: &Visitor) -> Result<Identity, Refusal> {
    connect_with(visitor, visitor.cookie.as_deref(), false, visitor.at)
}

#[test]
fn only_staff_who_are_signed_in_connect() {
    let mut visitor = Visitor::new(Config::default());
    visitor.sign_in();
    let identity = connect(&visitor).unwrap();
    assert_eq!((identity.user(), &*identity.claims()), ("ada", "{}"));
    assert!(identity.socket_id().starts_with("admin_session:"));
    assert_eq!(identity.expires(), Some(NOON / 1000 + 12 * 60 * 60));

    let cookie = visitor.cookie.clone().unwrap();
    let among_others = format!("theme=dark; {cookie}");
    assert!(connect_with(&visitor, Some(&among_others), false, NOON).is_ok());
    let twice = format!("{cookie}; hailer=x");
    for (cookie, renewal) in [
        (None, false),
        (Some(""), false),
        (Some("hailer="), false),
        (Some("hailer=x"), false),
        (Some(twice.as_str()), false),
        (Some(cookie.as_str()), true),
    ] {
        assert!(connect_with(&visitor, cookie, renewal, NOON).is_err(), "{cookie:?}");
    }
    // A socket that stays open does not keep its session from becoming idle.
    assert!(connect_with(&visitor, Some(&cookie), false, NOON + 29 * 60_000).is_ok());
    assert!(connect_with(&visitor, Some(&cookie), false, NOON + 30 * 60_000).is_err());
    visitor.post("/admin/sign-out", &[]);
    assert!(connect(&visitor).is_err());
    assert_eq!(*visitor.closed.lock().unwrap(), [identity.socket_id()]);
}

#[test]
fn a_disabled_account_loses_its_sockets() {
    let mut visitor = Visitor::new(Config::default());
    visitor.sign_in();
    visitor.fake.staff.lock().unwrap().get_mut("ada").unwrap().disabled = true;
    assert_eq!(connect(&visitor).err(), Some(Refusal::DisabledUser));
    assert_eq!(visitor.closed.lock().unwrap().len(), 1);
}

/// The admin socket's server, whose clock is the visitor's.
fn server(visitor: &Visitor) -> TestServer {
    let mut config = endpoint::Config::new(visitor.admin.router());
    config.admission = Some(Admission::new(visitor.admin.connect_hook()));
    let mut server = TestServer::with_config(&config, 1);
    server.set_unix_time(visitor.at / 1000);
    server
}

fn open(server: &mut TestServer, visitor: &Visitor) -> ClientId {
    let cookie = visitor.cookie.as_deref().unwrap_or("none=x");
    let headers = format!("Cookie: {cookie}\r\n");
    let credentials = Credentials { query: "", headers: &headers };
    let client = server.begin_connect(Serializer::V2, credentials);
    server.finish_connect(client).expect("staff connect");
    client
}

#[test]
fn whoever_watches_a_message_is_told_how_far_it_has_got() {
    let visitor = Visitor::inside(Config::default());
    let progress = Progress { addressed: 20, written: 17, received: 11, behind: 2, gone: 1, done: false };
    visitor.fake.progress.lock().unwrap().insert("m-1".to_owned(), progress);
    let mut server = server(&visitor);
    let client = open(&mut server, &visitor);
    let expected =
        json!({"addressed": 20, "written": 17, "received": 11, "behind": 2, "gone": 1, "done": false});
    let joined = server.join(client, "admin:message:m-1", json!({}));
    assert_eq!(joined, json!({"status": "ok", "response": expected}));
    assert_eq!(server.received_event(client, "progress"), [expected]);

    for topic in ["admin:message:unknown", "admin:overview"] {
        assert_eq!(server.join(client, topic, json!({})), json!({"status": "ok", "response": {}}));
    }
    for topic in ["admin:", "admin:other", "admin:message:", "admin:message:a b", "room:lobby"] {
        let refused = json!({"status": "error", "response": {"reason": "unmatched topic"}});
        assert_eq!(server.join(client, topic, json!({})), refused, "{topic}");
    }
    assert!(server.received(client).is_empty());
}

#[test]
fn nothing_that_a_page_pushes_reaches_another() {
    let visitor = Visitor::inside(Config::default());
    let mut server = server(&visitor);
    let (one, other) = (open(&mut server, &visitor), open(&mut server, &visitor));
    for client in [one, other] {
        server.join(client, "admin:overview", json!({}));
    }
    server.received(other);
    let pushed = server.push(one, "admin:overview", "overview", json!({"websocket": 7}));
    let reply = server.take_reply(one, &pushed);
    let refused = json!({"status": "error", "response": {"reason": "these topics are for listening"}});
    assert_eq!(reply, Some(refused));
    assert!(server.received(other).is_empty());
}

#[test]
fn a_session_that_ends_before_its_socket_joins_hears_nothing() {
    let visitor = Visitor::inside(Config::default());
    let mut server = server(&visitor);
    let client = open(&mut server, &visitor);
    visitor.post("/admin/sign-out", &[]);
    let refused = json!({"status": "error", "response": {"reason": "unauthorized"}});
    assert_eq!(server.join(client, "admin:overview", json!({})), refused);
}

#[test]
fn a_socket_without_a_session_is_refused() {
    let visitor = Visitor::new(Config::default());
    let mut server = server(&visitor);
    let client = server.begin_connect(Serializer::V2, Credentials::default());
    assert!(server.finish_connect(client).is_err());
    // A router that is mounted without the hook gives nothing away either.
    let mut open = TestServer::new(visitor.admin.router());
    let client = open.connect();
    let refused = json!({"status": "error", "response": {"reason": "unauthorized"}});
    assert_eq!(open.join(client, "admin:overview", json!({})), refused);
}
