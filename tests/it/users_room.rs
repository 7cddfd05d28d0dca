//! Users whose tokens run out, are renewed and are denied, on virtual time with a wall clock that jumps, as a seed
//! says: every socket gets what is meant for its user and nothing else, and lives exactly as long as it may.
//!
//! `HAILER_SEEDS=1000` runs so many seeds, `HAILER_SEED=7` runs one; a failure prints its seed and the last
//! steps.

use std::collections::VecDeque;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use hailer::auth::UnixTime;
use hailer::auth::deny::{Denial, DenyList};
use hailer::auth::gate::{SharedVerifier, TokenGate};
use hailer::auth::rights::{Rights, Who};
use hailer::auth::token::{Algorithm, ClaimRules, GuardianClaims, Key, SigningKey, Verifier, mint};
use hailer::channel::{Router, TopicPattern};
use hailer::endpoint::{Admission, Config};
use hailer::limits::Limits;
use hailer::notification::{Notification, Restricted, Rule};
use hailer::phoenix::Serializer;
use hailer::stats::Stats;
use hailer::testing::{ClientId, Credentials, TestServer};
use serde_json::{Value, json};

use crate::simulator::rng::Rng;

const SEEDS: u64 = 60;
const STEPS: usize = 150;
const USERS: usize = 5;
const LOBBY: &str = "room:lobby";
const GRACE: u64 = 25;
const SECRET: &[u8] = b"eB1vJ0y6uQw3sK9dZr5tNf8xLh2mCg7aPi4oVqTnXkUzRbYjWcSlEpHdGfAoMi0u";

struct Member {
    client: ClientId,
    web_socket: bool,
    user: usize,
    issued: UnixTime,
    expires: UnixTime,
    /// The latest that the wall clock has shown since the token was taken.
    latest: UnixTime,
    open: bool,
}

struct Room {
    server: TestServer,
    rng: Rng,
    key: SigningKey,
    /// How many seconds clocks may differ.
    drift: u64,
    denied: Arc<RwLock<DenyList>>,
    /// The time before which all tokens of a user are denied.
    denied_before: [UnixTime; USERS],
    members: Vec<Member>,
    sent: u64,
    seed: u64,
    steps: VecDeque<String>,
}

fn user(number: usize) -> String {
    format!("{number}b5e7a1c-0000-4000-8000-00000000000{number}")
}

impl Room {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut limits = Limits::default();
        // The tokens alone end sockets here.
        limits.set("idle_timeout", "24h").unwrap();
        limits.set("poll_window", "24h").unwrap();
        let shards = u16::try_from(rng.range(1, 3)).unwrap();
        let own = TopicPattern::parse("user:{sub}").unwrap();
        let rights = Rights { join: Who::Owner, push: Vec::new() };
        let rule = Rule { pattern: own.clone(), rights, payload_bytes_max: None, pushes_per_minute: None };
        let router = Router::new()
            .channel(own, Restricted::new(rule))
            .channel(LOBBY.parse().unwrap(), Notification::default());
        let keys = vec![Key::hmac(Algorithm::HS512, SECRET, None).unwrap()];
        let drift = *rng.pick(&[0, 2, 10]);
        let rules = ClaimRules { allowed_drift: drift, ..ClaimRules::default() };
        let denied = Arc::new(RwLock::new(DenyList::new(1000)));
        let gate =
            TokenGate::new(SharedVerifier::new(Verifier::new(keys, rules).unwrap()), Arc::clone(&denied));
        let admission =
            Some(Admission { expiry_grace: Duration::from_secs(GRACE), ..Admission::new(Arc::new(gate)) });
        let config = Config { limits: Arc::new(limits), admission, ..Config::new(router) };
        Self {
            server: TestServer::with_config(&config, shards),
            rng,
            key: SigningKey::hmac(Algorithm::HS512, SECRET, None).unwrap(),
            drift,
            denied,
            denied_before: [0; USERS],
            members: Vec::new(),
            sent: 0,
            seed,
            steps: VecDeque::new(),
        }
    }

    fn note(&mut self, step: String) {
        if self.steps.len() == 40 {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    fn token(&self, number: usize, issued: UnixTime, expires: UnixTime) -> String {
        let claims = GuardianClaims {
            subject: &user(number),
            issuer: Some("app"),
            audience: None,
            typ: "access",
            now: issued,
            ttl: 0,
            token_id: "1",
        };
        let expires = serde_json::Map::from_iter([("exp".to_owned(), json!(expires))]);
        mint(&self.key, &claims.to_json(&expires)).unwrap()
    }

    /// Whether a token is good at this time.
    fn is_good(&self, number: usize, issued: UnixTime, expires: UnixTime) -> bool {
        let unix = self.server.unix_time();
        // Guardian's nbf is a second before its iat.
        let begins = issued - 1;
        begins <= unix + self.drift && unix < expires + self.drift && issued >= self.denied_before[number]
    }

    fn connect(&mut self) {
        let (number, unix) = (self.rng.below(USERS), self.server.unix_time());
        let issued = unix + 14 - u64::try_from(self.rng.range(0, 50)).unwrap();
        let expires = unix + u64::try_from(self.rng.range(0, 312)).unwrap() - 12;
        let good = self.is_good(number, issued, expires);
        let query = format!("token={}", self.token(number, issued, expires));
        let credentials = Credentials { query: &query, headers: "" };
        let serializer = *self.rng.pick(&[Serializer::V1, Serializer::V2]);
        let web_socket = self.rng.chance(50);
        self.note(format!("user {number} connects until {expires}, good: {good}, WebSocket: {web_socket}"));
        let (client, let_in) = if web_socket {
            let client = self.server.begin_connect(serializer, credentials);
            (client, self.server.finish_connect(client).is_ok())
        } else {
            let client = self.server.begin_long_poll(serializer, credentials);
            (client, self.server.finish_long_poll(client).is_ok())
        };
        assert_eq!(let_in, good, "user {number} connects");
        if let_in {
            let other = (number + 1) % USERS;
            let refused = self.server.join(client, &format!("user:{}", user(other)), json!({}));
            assert_eq!(refused["status"], "error", "another user's topic");
            for topic in [&*format!("user:{}", user(number)), LOBBY] {
                assert_eq!(self.server.join(client, topic, json!({}))["status"], "ok", "{topic}");
            }
            let member =
                Member { client, web_socket, user: number, issued, expires, latest: unix, open: true };
            self.members.push(member);
        }
    }

    /// A member gives a fresh token, sometimes one that is not good, or is another user's.
    fn renew(&mut self) {
        let Some(index) = self.pick_open() else { return };
        let (unix, client, own) =
            (self.server.unix_time(), self.members[index].client, self.members[index].user);
        let number = if self.rng.chance(10) { self.rng.below(USERS) } else { own };
        let expires = unix + u64::try_from(self.rng.range(0, 312)).unwrap() - 12;
        let good = self.is_good(number, unix, expires);
        let token = self.token(number, unix, expires);
        self.note(format!("member {index} renews as user {number} until {expires}, good: {good}"));
        let asked = self.server.push(client, LOBBY, "access_token", json!({ "access_token": token }));
        let answer = self.server.take_reply(client, &asked).map(|answer| answer["status"].clone());
        let member = &mut self.members[index];
        match (good, number == own) {
            (true, true) => {
                assert_eq!(answer, Some(json!("ok")), "member {index}");
                (member.issued, member.expires, member.latest) = (unix, expires, unix);
            }
            (true, false) => member.open = false,
            // A user who was denied in this very second has no good token.
            (false, _) if answer.is_none() => member.open = false,
            (false, _) => assert_eq!(answer, Some(json!("error")), "member {index}"),
        }
    }

    fn pick_open(&mut self) -> Option<usize> {
        let open: Vec<usize> = (0..self.members.len()).filter(|index| self.members[*index].open).collect();
        (!open.is_empty()).then(|| *self.rng.pick(&open))
    }

    fn publish(&mut self) {
        let number = self.rng.below(USERS + 1);
        let topic = if number == USERS { LOBBY.to_owned() } else { format!("user:{}", user(number)) };
        self.sent += 1;
        self.note(format!("message {} to {topic}", self.sent));
        self.server.broadcast(&topic, "new_msg", json!({ "body": self.sent })).unwrap();
        for index in 0..self.members.len() {
            let member = &self.members[index];
            let is_meant = member.open && (number == USERS || member.user == number);
            let expected: Vec<Value> = if is_meant { vec![json!({ "body": self.sent })] } else { Vec::new() };
            assert_eq!(self.server.received_event(member.client, "new_msg"), expected, "member {index}");
        }
    }

    fn advance(&mut self) {
        let seconds = u64::try_from(self.rng.range(2, 30)).unwrap();
        self.note(format!("{seconds} s pass"));
        self.pass(Duration::from_secs(seconds));
    }

    fn pass(&mut self, time: Duration) {
        self.server.advance(time);
        let unix = self.server.unix_time();
        for index in 0..self.members.len() {
            let gone = self.server.closed(self.members[index].client).is_some();
            let member = &mut self.members[index];
            member.latest = member.latest.max(unix);
            if !member.open {
                continue;
            }
            let end = member.expires + self.drift + GRACE;
            assert!(gone || unix < end + 2, "member {index} is here too long");
            assert!(!gone || member.latest >= end, "member {index} was closed too early");
            member.open = !gone;
        }
    }

    fn jump(&mut self) {
        let distance = u64::try_from(self.rng.range(0, 400)).unwrap();
        let unix = self.server.unix_time();
        let target = if self.rng.chance(50) { unix + distance } else { unix - distance };
        self.note(format!("the clock jumps from {unix} to {target}"));
        for member in &mut self.members {
            member.latest = member.latest.max(target);
        }
        self.server.set_unix_time(target);
    }

    fn disconnect(&mut self) {
        let number = self.rng.below(USERS);
        let reconnect = self.rng.chance(50);
        self.note(format!("user {number} is disconnected"));
        let topic = format!("user_socket:{}", user(number));
        self.server.broadcast(&topic, "disconnect", json!({ "reconnect": reconnect })).unwrap();
        let is_ended = |member: &Member| member.user == number && member.open;
        let ended: Vec<usize> =
            (0..self.members.len()).filter(|index| is_ended(&self.members[*index])).collect();
        for index in &ended {
            let member = &mut self.members[*index];
            member.open = false;
            // A client polls once more when it has read what was said before, and is answered a moment later.
            self.server.closed(member.client);
        }
        self.pass(Duration::from_secs(1));
        for member in ended.into_iter().map(|index| &self.members[index]) {
            let closed = self.server.closed(member.client).expect("it is disconnected");
            let code = if reconnect { 1001 } else { 1000 };
            assert_eq!(closed.code, Some(if member.web_socket { code } else { 500 }), "{closed:?}");
        }
    }

    fn deny(&mut self) {
        let (number, unix) = (self.rng.below(USERS), self.server.unix_time());
        let before = self.denied_before[number].max(unix);
        self.denied_before[number] = before;
        self.note(format!("tokens of user {number} from before {before} are denied"));
        let mut denial = Denial::of_user(user(number), before, u64::MAX);
        denial.issued_before = Some(before);
        self.denied.write().unwrap().insert(denial.clone()).unwrap();
        self.server.deny(&[denial]);
        for member in self.members.iter_mut().filter(|member| member.user == number) {
            member.open &= member.issued >= before;
        }
    }

    fn check(&mut self) {
        for (index, member) in self.members.iter().enumerate() {
            let gone = self.server.closed(member.client).is_some();
            assert_eq!(gone, !member.open, "member {index}");
            let others = self.server.received(member.client);
            let known = ["token_expiring", "new_msg", "phx_reply"];
            assert!(others.iter().all(|message| known.contains(&&*message.event)), "{others:?}");
        }
    }

    fn run(&mut self) -> Stats {
        for _ in 0..STEPS {
            match self.rng.below(100) {
                0..25 => self.connect(),
                25..45 => self.renew(),
                45..70 => self.publish(),
                70..85 => self.advance(),
                85..90 => self.jump(),
                90..96 => self.disconnect(),
                _ => self.deny(),
            }
            self.check();
        }
        self.advance();
        self.server.advance(self.server.limits().close_timeout + Duration::from_secs(1));
        // What is gone takes no room.
        let open = self.members.iter().filter(|member| member.open).count() as u64;
        let stats = self.server.stats();
        assert!(stats.web_sockets + stats.sessions <= open, "sockets are left");
        stats
    }
}

fn run(seed: u64) -> Stats {
    let mut room = Room::new(seed);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| room.run()));
    result.unwrap_or_else(|failure| {
        println!("seed {}: the last steps were\n{}", room.seed, Vec::from(room.steps).join("\n"));
        std::panic::resume_unwind(failure)
    })
}

#[test]
fn users_get_what_is_theirs_as_long_as_they_may() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().expect("a number"));
    if let Some(seed) = number("HAILER_SEED") {
        run(seed);
        return;
    }
    let seeds = number("HAILER_SEEDS").unwrap_or(SEEDS);
    let mut sum = Stats::default();
    (0..seeds).for_each(|seed| sum += run(seed));
    if seeds >= SEEDS {
        let reached = [
            ("connects_granted", sum.connects_granted),
            ("connects_bad_token", sum.connects_bad_token),
            ("connects_denied", sum.connects_denied),
            ("renewals", sum.renewals),
            ("renewals_refused", sum.renewals_refused),
            ("token_warnings", sum.token_warnings),
            ("closed_token_expired", sum.closed_token_expired),
            ("closed_disconnected", sum.closed_disconnected),
            ("closed_denied", sum.closed_denied),
        ];
        for (name, value) in reached {
            println!("{name}: {value}");
            assert!(value > 0, "no run has counted {name}");
        }
    }
}
