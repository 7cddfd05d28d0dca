//! An endpoint with pretended sockets that take everything, for benches and memory tests.

#![allow(clippy::disallowed_methods)]

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use hailer::broker::Broker;
use hailer::channel::Router;
use hailer::endpoint::{Config, ConnectionId, Endpoint, Gone, Sink};
use hailer::notification::Notification;
use hailer::testing::{upgrade_request, write_masked};

/// Takes everything and counts it.
#[derive(Default)]
pub(crate) struct Counting {
    pub(crate) writes: u64,
    pub(crate) bytes: u64,
}

impl Sink for Counting {
    fn send(&mut self, _: ConnectionId, pieces: &[IoSlice<'_>]) -> Result<usize, Gone> {
        let taken = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        self.writes += 1;
        self.bytes += taken as u64;
        Ok(taken)
    }

    fn shutdown(&mut self, _: ConnectionId) {}
}

/// One shard and its subscribers of `room:lobby`.
pub(crate) struct Crowd {
    pub(crate) endpoint: Endpoint,
    pub(crate) broker: Arc<Broker>,
    pub(crate) sink: Counting,
    pub(crate) ids: Vec<ConnectionId>,
    pub(crate) now: Instant,
}

impl Crowd {
    pub(crate) fn empty() -> Self {
        let config = Config::new(Router::new().channel("room:*".parse().unwrap(), Notification));
        let broker = Broker::new(&config.limits, vec![Box::new(|| ())]);
        let now = Instant::now();
        let endpoint = Endpoint::new(config, &broker, 0, now);
        Self { endpoint, broker, sink: Counting::default(), ids: Vec::new(), now }
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
            let id = self.endpoint.accept(self.now).expect("there is room");
            self.read(id, upgrade_request("/socket/websocket?vsn=2.0.0").as_bytes());
            self.text(id, r#"["1","1","room:lobby","phx_join",{}]"#);
            self.ids.push(id);
        }
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
