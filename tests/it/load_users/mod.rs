//! Very many users with tokens: what each costs, what a storm of them does to those who are here already, and
//! `disconnect` in the middle of it.
//!
//! `HAILER_CLIENTS` sets how many there are; without it each file says, and a limit of open files may allow fewer.
//! The figures of a release build are printed by
//! `cargo test --release --test it load_users -- --nocapture --test-threads 1`

mod disconnect;
mod idle;
mod storms;

use std::sync::{Arc, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use hailer::auth::deny::DenyList;
use hailer::auth::gate::{self, SharedVerifier, TokenGate};
use hailer::auth::rights::{Rights, Who};
use hailer::auth::token::{Algorithm, ClaimRules, GuardianClaims, Key, SigningKey, Verifier, mint};
use hailer::channel::{Router, TopicPattern};
use hailer::endpoint::{Admission, Config};
use hailer::limits::Limits;
use hailer::notification::{Notification, Restricted, Rule};
use hailer::server::{Server, ServerConfig, ServerHandle};
use serde_json::{Map, Value, json};

use crate::support::members::{LOBBY, Pass, Transport};

/// Clients on their way at a time, where they don't all come at once.
pub(crate) const UNDER_WAY_MAX: usize = 256;
/// Descriptors for the other tests that run in this process meanwhile.
const RESERVED_DESCRIPTORS: usize = 300;

pub(crate) const SECRET: &[u8] = b"mG7vT2qXw9sLrK4nZb8yHc3dJf6pAe5uRiOo1NtQxVzBkWgYlCjEhPaSdFuIvM0t";

/// Makes tokens as Guardian does.
pub(crate) struct Mint {
    key: SigningKey,
    now: u64,
}

impl Mint {
    pub(crate) fn hs512() -> Self {
        Self::new(SigningKey::hmac(Algorithm::HS512, SECRET, None).expect("the key is good"))
    }

    fn rs256() -> Self {
        let pem = include_bytes!("../../keys/rsa.pem");
        Self::new(SigningKey::pem(Algorithm::RS256, pem, None).expect("the key is good"))
    }

    fn new(key: SigningKey) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set").as_secs();
        Self { key, now }
    }

    fn token(&self, user: &str, others: &Map<String, Value>) -> Arc<str> {
        let claims = GuardianClaims {
            subject: user,
            issuer: Some("my_app"),
            audience: None,
            typ: "access",
            now: self.now,
            ttl: 28 * 86_400,
            token_id: "6c4ff8b3-2ce1-4b04-a5a5-7bb0f1ee06f2",
        };
        mint(&self.key, &claims.to_json(others)).expect("the claims are good").into()
    }

    fn pass(&self, number: usize) -> Pass {
        let user: Arc<str> = format!("{number:08x}-2ce1-4b04-a5a5-7bb0f1ee06f2").into();
        Pass { token: self.token(&user, &Map::new()), user }
    }

    pub(crate) fn passes(&self, count: usize) -> Vec<Pass> {
        (0..count).map(|number| self.pass(number)).collect()
    }
}

pub(crate) fn on_web_sockets(passes: Vec<Pass>) -> impl ExactSizeIterator<Item = (Pass, Transport)> {
    passes.into_iter().map(|pass| (pass, Transport::WebSocket))
}

/// A server in this process: the lobby, where nobody but the server writes, and the users' own topics.
fn start(verifier: Verifier, accounts: Option<Arc<dyn gate::Accounts>>, limits: &[(&str, &str)]) -> Server {
    let own = TopicPattern::parse("user:{sub}").expect("it is a pattern");
    let rights = Rights { join: Who::Owner, push: Vec::new() };
    let rule = Rule { pattern: own.clone(), rights, payload_bytes_max: None, pushes_per_minute: None };
    let lobby = LOBBY.parse().expect("it is a pattern");
    let router = Router::new().channel(lobby, Notification::default()).channel(own, Restricted::new(rule));
    let mut gate = TokenGate::new(SharedVerifier::new(verifier), Arc::new(RwLock::new(DenyList::new(1000))));
    gate.accounts = accounts;
    let mut all = Limits::default();
    limits.iter().for_each(|(name, value)| all.set(name, value).expect("it is a limit"));
    let admission = Some(Admission::new(Arc::new(gate)));
    let endpoint = Config { limits: Arc::new(all), admission, ..Config::new(router) };
    let listen = "127.0.0.1:0".parse().expect("it is an address");
    let config = ServerConfig { listen, shards: 2, ..ServerConfig::new(endpoint) };
    Server::start(&config).expect("the server starts")
}

fn verifier(key: Key) -> Verifier {
    Verifier::new(vec![key], ClaimRules::default()).expect("the key is good")
}

fn hs512() -> Verifier {
    verifier(Key::hmac(Algorithm::HS512, SECRET, None).expect("the key is good"))
}

fn tell(handle: &ServerHandle, topic: &str, number: u64) {
    let payload = json!({"body": {"number": number, "text": "maintenance in 5 minutes"}});
    handle.broadcast(topic, "new_msg", payload.into()).expect("the mailboxes have room");
}
