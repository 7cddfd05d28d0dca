//! An endpoint with pretended sockets that take everything, for benches and memory tests.

#![allow(clippy::disallowed_methods, dead_code)]

pub(crate) mod million;

use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use hailer::auth::connect::{Answer, Connect, ConnectRequest};
use hailer::auth::{Identity, IdentityParts, UnixTime};
use hailer::broker::Broker;
use hailer::channel::Router;
use hailer::endpoint::{Admission, Config, ConnectionId, Endpoint, Gone, Sink};
use hailer::limits::Limits;
use hailer::notification::Notification;
use hailer::testing::{upgrade_request, write_masked};

/// Takes everything and counts it.
#[derive(Default)]
pub(crate) struct Counting {
    pub(crate) writes: u64,
    pub(crate) bytes: u64,
    /// What was written last, if it is wanted.
    pub(crate) last: Option<Vec<u8>>,
}

impl Sink for Counting {
    fn send(&mut self, _: ConnectionId, pieces: &[IoSlice<'_>]) -> Result<usize, Gone> {
        let taken = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if let Some(last) = &mut self.last {
            last.clear();
            pieces.iter().for_each(|piece| last.extend_from_slice(piece));
        }
        self.writes += 1;
        self.bytes += taken as u64;
        Ok(taken)
    }

    fn shutdown(&mut self, _: ConnectionId) {}
}

/// Decides about nobody: the crowd does so itself.
struct Nobody;

impl Connect for Nobody {
    fn connect(&self, _: ConnectRequest, _: UnixTime, _: Answer) {}
}

/// One shard and its subscribers of `room:lobby`.
pub(crate) struct Crowd {
    pub(crate) endpoint: Endpoint,
    pub(crate) broker: Arc<Broker>,
    pub(crate) sink: Counting,
    pub(crate) ids: Vec<ConnectionId>,
    pub(crate) now: Instant,
    polls: Vec<ConnectionId>,
}

impl Crowd {
    pub(crate) fn empty() -> Self {
        Self::with_config(Config::new(
            Router::new().channel("room:*".parse().unwrap(), Notification::default()),
        ))
    }

    /// Clients are users: who they are is decided when [`join_user`](Self::join_user) says so.
    pub(crate) fn of_users() -> Self {
        let router = Router::new()
            .channel("room:*".parse().unwrap(), Notification::default())
            .channel("user:{sub}".parse().unwrap(), Notification::default());
        let admission = Some(Admission::new(Arc::new(Nobody)));
        Self::with_config(Config { admission, ..Config::new(router) })
    }

    fn with_config(mut config: Config) -> Self {
        let mut limits = Limits::default();
        limits.set("sessions_per_address_max", "1000000").unwrap();
        config.limits = Arc::new(limits);
        let broker = Broker::new(&config.limits, vec![Box::new(|| ())]);
        let now = Instant::now();
        let endpoint = Endpoint::new(config, &broker, 0, &[7; 32], now);
        Self { endpoint, broker, sink: Counting::default(), ids: Vec::new(), now, polls: Vec::new() }
    }

    /// `count` clients that have joined `room:lobby`.
    pub(crate) fn of(count: usize) -> Self {
        let mut crowd = Self::empty();
        crowd.join(count);
        crowd
    }

    pub(crate) fn join(&mut self, count: usize) {
        self.ids.reserve(count);
        for _ in 0..count {
            let id = self.endpoint.accept(Ipv4Addr::LOCALHOST.into(), self.now).expect("there is room");
            self.read(id, upgrade_request("/socket/websocket?vsn=2.0.0").as_bytes());
            self.text(id, r#"["1","1","room:lobby","phx_join",{}]"#);
            self.ids.push(id);
        }
    }

    /// A client that has joined `room:lobby` and its own topic, with what a token of Guardian's says.
    pub(crate) fn join_user(&mut self, number: usize) {
        // As long as a UUID.
        let user = format!("{number:08x}-1111-4222-8333-444444444444");
        let claims = format!(
            r#"{{"aud":"my_app","exp":1802419200,"iat":1800000000,"iss":"my_app","jti":"{number:08x}-5555-4666-8777-888888888888","nbf":1799999999,"sub":"{user}","typ":"access"}}"#
        );
        let id = self.endpoint.accept(Ipv4Addr::LOCALHOST.into(), self.now).expect("there is room");
        self.read(id, upgrade_request("/socket/websocket?vsn=2.0.0&token=x").as_bytes());
        let (ticket, _) = self.endpoint.poll_connect().expect("it is asked who connects");
        let identity = Identity::new(IdentityParts {
            user: &user,
            socket_id: &format!("user_socket:{user}"),
            claims: &claims,
            expires: Some(1_802_419_200),
            ..IdentityParts::default()
        });
        self.endpoint.handle_verdict(ticket, Ok(identity), self.now);
        self.flush();
        self.text(id, r#"["1","1","room:lobby","phx_join",{}]"#);
        self.text(id, &format!(r#"["2","2","user:{user}","phx_join",{{}}]"#));
        self.ids.push(id);
    }

    /// Sends a private message to the user of this number.
    pub(crate) fn tell_user(&mut self, number: usize) {
        let topic = format!("user:{number:08x}-1111-4222-8333-444444444444");
        let payload = serde_json::json!({ "body": "your order shipped" });
        self.broker.broadcast(&topic, "new_msg", payload.into()).expect("there is room");
        self.endpoint.handle_mailbox(usize::MAX, self.now);
        self.flush();
    }

    pub(crate) fn text(&mut self, id: ConnectionId, text: &str) {
        let mut frame = Vec::new();
        write_masked(&mut frame, 0x1, true, text.as_bytes());
        self.read(id, &frame);
    }

    pub(crate) fn read(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.endpoint.handle_read(id, &mut bytes.to_vec(), self.now);
        self.flush();
    }

    /// `count` sessions on long-poll that have joined `room:lobby` and read the reply; no poll waits.
    pub(crate) fn open_sessions(&mut self, count: usize) -> Vec<String> {
        let mut id = self.endpoint.accept(Ipv4Addr::LOCALHOST.into(), self.now).expect("there is room");
        let mut tokens = Vec::with_capacity(count);
        for number in 1..=count {
            // A connection carries only so many requests.
            if number % 1_000 == 0 {
                self.hang_up(id);
                id = self.endpoint.accept(Ipv4Addr::LOCALHOST.into(), self.now).expect("there is room");
            }
            self.sink.last = Some(Vec::new());
            self.read(id, b"GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: x\r\n\r\n");
            let answer = String::from_utf8(self.sink.last.take().unwrap()).unwrap();
            let token = answer.split("token\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
            let join = r#"["1","1","room:lobby","phx_join",{}]"#;
            let post = format!(
                "POST /socket/longpoll?token={token} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{join}",
                join.len()
            );
            self.read(id, post.as_bytes());
            self.poll_on(id, &token);
            tokens.push(token);
        }
        self.hang_up(id);
        tokens
    }

    /// Ends a connection, and lets pass what it may wait for after that.
    fn hang_up(&mut self, id: ConnectionId) {
        self.endpoint.handle_eof(id, self.now);
        self.flush();
        self.endpoint.handle_timeout(self.now + std::time::Duration::from_secs(6));
        while self.endpoint.poll_closed().is_some() {}
    }

    /// A poll on a connection of its own.
    pub(crate) fn poll(&mut self, token: &str) {
        let id = self.endpoint.accept(Ipv4Addr::LOCALHOST.into(), self.now).expect("there is room");
        self.polls.push(id);
        self.poll_on(id, token);
    }

    /// Ends the connections of all polls.
    pub(crate) fn end_polls(&mut self) {
        for id in std::mem::take(&mut self.polls) {
            self.hang_up(id);
        }
    }

    fn poll_on(&mut self, id: ConnectionId, token: &str) {
        self.read(id, format!("GET /socket/longpoll?token={token} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    }

    /// Publishes `count` messages and lets one turn write them.
    pub(crate) fn broadcast(&mut self, count: usize, text: &str) {
        let payload = serde_json::json!({ "body": text });
        for _ in 0..count {
            self.broker.broadcast("room:lobby", "new_msg", payload.clone().into()).expect("there is room");
        }
        self.endpoint.handle_mailbox(usize::MAX, self.now);
        self.flush();
    }

    pub(crate) fn flush(&mut self) {
        while self.endpoint.flush(usize::MAX, self.now, &mut self.sink) {}
    }
}
