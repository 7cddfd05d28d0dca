//! What the HTTP API takes, and what it counts, with very many clients.
//!
//! `HAILER_CLIENTS` sets how many there are; without it each file says. The figures of a release build are printed by
//! `cargo test --release --test it load_api -- --nocapture --test-threads 1`

mod durability;
mod publishing;
mod receipts;

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::{Hailer, Peer};

/// One connection to the API, kept alive.
struct Caller {
    peer: Peer,
    key: String,
}

impl Caller {
    fn new(address: SocketAddr, key: &str) -> Self {
        Self { peer: Peer::connect(address), key: key.to_owned() }
    }

    fn post(&mut self, path: &str, body: &str) -> Value {
        self.send(path, body);
        self.answer()
    }

    fn send(&mut self, path: &str, body: &str) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            self.key,
            body.len()
        );
        self.peer.send(&[head.as_bytes(), body.as_bytes()].concat());
    }

    /// The status and the answer of a call that may be refused.
    fn try_post(&mut self, path: &str, body: &str) -> (u16, Value) {
        self.send(path, body);
        let response = self.peer.response();
        (response.status, serde_json::from_str(&response.body).expect("the answer is JSON"))
    }

    fn get(&mut self, path: &str) -> Value {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n", self.key);
        self.peer.send(head.as_bytes());
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let response = self.peer.response();
        assert_eq!(response.status, 200, "{}", response.body);
        serde_json::from_str(&response.body).expect("the answer is JSON")
    }
}

/// Where the API of a server listens, from what it prints.
fn api_of(hailer: &Hailer) -> SocketAddr {
    let line = hailer.said("API on http://");
    line.parse().unwrap_or_else(|_| panic!("no address: {line:?}"))
}
