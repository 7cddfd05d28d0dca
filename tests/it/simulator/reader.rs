//! What one pretended client gets, and whether it is what it must get.
//!
//! Each message is checked when it arrives, against what the channel has noted in the [`World`].

use std::collections::{BTreeMap, BTreeSet};

use hailer::channel::Ended;
use hailer::testing::{Frame, read_frames};
use serde_json::Value;

use super::world::{OUT, PLAIN, VOID, World, number};

/// What a client has asked, as far as it matters for the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Join,
    Leave,
    /// A message for the channel, if the topic is joined.
    Push,
    /// What is answered once whatever happens: heartbeats, reserved events, odd topics.
    Other,
    /// A message in which something is wrong: the reply's reason holds this.
    Wrong(&'static str),
}

/// A message that the client has sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) kind: Kind,
    pub(super) topic: String,
    /// It names an earlier join than the client's last one, so it may be dropped.
    pub(super) stale: bool,
    /// Answers that have come, but for those that were left for later.
    pub(super) answered: usize,
}

impl Sent {
    pub(super) fn new(kind: Kind, topic: &str, stale: bool) -> Self {
        Self { kind, topic: topic.to_owned(), stale, answered: 0 }
    }
}

/// A join whose grant has arrived.
struct Held {
    token: usize,
    join_ref: Value,
    /// The last broadcast that has arrived, or was there before the join.
    last: usize,
    /// Broadcasts that the server has said are missing behind `last`.
    gap: usize,
}

struct Received {
    join_ref: Value,
    message_ref: Value,
    topic: String,
    event: String,
    payload: Value,
}

pub(super) struct Reader {
    pub(super) client: usize,
    v1: bool,
    buffer: Vec<u8>,
    pub(super) upgraded: bool,
    /// Statuses of the answers that are to come before the frames.
    pub(super) statuses: Vec<u16>,
    pub(super) sent: BTreeMap<u64, Sent>,
    last_answered: u64,
    /// Messages made for this client alone that have arrived, and the `seen` of the last.
    directs: usize,
    seen: usize,
    /// The highest number of a broadcast that has arrived.
    newest: usize,
    held: BTreeMap<String, Held>,
    /// Joins that another has replaced and whose end has not arrived.
    replaced: Vec<Held>,
    ended: BTreeSet<usize>,
    mailed: BTreeMap<usize, usize>,
    pub(super) last_ping: Option<u64>,
    last_pong: Option<u64>,
    /// The broadcast behind which a ping is to come next, and those whose pings have come and were not looked at.
    ping_due: Option<usize>,
    pub(super) pings: Vec<usize>,
    /// The code and reason of the server's close frame.
    pub(super) close: Option<(Option<u16>, String)>,
    /// The client has sent what no client may send.
    pub(super) misbehaved: bool,
}

/// Whether a client of the topic goes on behind a gap, rather than being closed.
fn skips(topic: &str) -> bool {
    topic.starts_with("skip:")
}

impl Reader {
    pub(super) fn new(client: usize, v1: bool) -> Self {
        Self {
            client,
            v1,
            buffer: Vec::new(),
            upgraded: false,
            statuses: Vec::new(),
            sent: BTreeMap::new(),
            last_answered: 0,
            directs: 0,
            seen: 0,
            newest: 0,
            held: BTreeMap::new(),
            replaced: Vec::new(),
            ended: BTreeSet::new(),
            mailed: BTreeMap::new(),
            last_ping: None,
            last_pong: None,
            ping_due: None,
            pings: Vec::new(),
            close: None,
            misbehaved: false,
        }
    }

    /// Checks what has arrived, as far as it is whole.
    pub(super) fn take(&mut self, bytes: &[u8], world: &World) {
        self.buffer.extend_from_slice(bytes);
        while !self.upgraded && self.take_answer() {}
        if !self.upgraded {
            return;
        }
        let (frames, used) = read_frames(&self.buffer);
        self.buffer.drain(..used);
        for frame in frames {
            assert_eq!(self.close, None, "nothing comes behind a close frame, but {frame:?}");
            if let Some(n) = self.ping_due.take() {
                let ping = (frame.opcode, &frame.payload[..]);
                assert_eq!(ping, (0x9, &n.to_be_bytes()[..]), "right behind broadcast {n}");
                self.pings.push(n);
                continue;
            }
            match frame.opcode {
                0x1 | 0x2 => {
                    let received = decode(self.v1, &frame);
                    self.on_message(&received, world);
                }
                0x8 => self.on_close(&frame),
                0xA => self.on_pong(&frame),
                other => panic!("the server has sent a frame of opcode {other}"),
            }
        }
    }

    /// Takes one HTTP answer; whether there was one.
    fn take_answer(&mut self) -> bool {
        let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
        let head = String::from_utf8(self.buffer[..end + 4].to_vec()).expect("a head is ASCII");
        let status: u16 = head[9..12].parse().expect("a status is a number");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let whole = end + 4 + length.map_or(0, |length| length.parse().expect("a length is a number"));
        if self.buffer.len() < whole {
            return false;
        }
        self.buffer.drain(..whole);
        let expected = if self.statuses.is_empty() { None } else { Some(self.statuses.remove(0)) };
        // A head may be too slow for its deadline whatever it is.
        assert!(expected == Some(status) || status == 408 || self.misbehaved, "{expected:?}: {head}");
        self.upgraded = status == 101;
        true
    }

    fn on_close(&mut self, frame: &Frame) {
        let code = frame.payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
        let reason = String::from_utf8(frame.payload.get(2..).unwrap_or_default().to_vec());
        self.close = Some((code, reason.expect("a reason is UTF-8")));
    }

    fn on_pong(&mut self, frame: &Frame) {
        let text = std::str::from_utf8(&frame.payload).expect("a pong is its ping");
        let pong: u64 = text.trim_end_matches('x').parse().expect("a pong is its ping");
        assert!(self.last_pong.is_none_or(|last| last < pong), "pong {pong} behind {:?}", self.last_pong);
        assert!(self.last_ping.is_some_and(|last| pong <= last), "pong {pong} without its ping");
        self.last_pong = Some(pong);
    }

    fn on_message(&mut self, received: &Received, world: &World) {
        assert!(
            received.event != VOID && received.payload["status"] != VOID,
            "what must not happen has come"
        );
        match &*received.event {
            PLAIN => self.on_broadcast(&received.topic, number(&received.payload["n"]), world),
            "gap" => {
                assert!(skips(&received.topic), "a gap in {}", received.topic);
                let held = self.held.get_mut(&received.topic).expect("a gap belongs to a join");
                held.gap += number(&received.payload["missed"]);
            }
            OUT | "direct" | "mail" => {
                self.on_direct(&received.payload, &received.topic, &received.join_ref, world);
            }
            "phx_reply" => self.on_reply(received, world),
            "phx_close" | "phx_error" => self.on_end(received, world),
            other => panic!("an unknown event has come: {other}"),
        }
    }

    fn on_broadcast(&mut self, topic: &str, n: usize, world: &World) {
        let client = self.client;
        let cast = &world.casts[n - 1];
        assert!(world.is_for(cast, topic, client), "broadcast {n} is not for client {client} in {topic}");
        let held = self.held.get_mut(topic).expect("a broadcast belongs to a join");
        assert!(n > held.last, "broadcast {n} of {topic} behind {}", held.last);
        assert!(
            n > self.seen,
            "broadcast {n} of {topic} came late: others have been seen up to {}",
            self.seen
        );
        let missing = world.count(topic, client, held.last, n - 1);
        assert_eq!(missing, held.gap, "missing in {topic} between {} and {n}, and told of", held.last);
        (held.last, held.gap) = (n, 0);
        self.newest = self.newest.max(n);
        self.ping_due = cast.counted.then_some(n);
    }

    /// A message that a callback, or the mailbox, has made for this client alone.
    fn on_direct(&mut self, fields: &Value, topic: &str, join_ref: &Value, world: &World) {
        let (token, seen) = (number(&fields["join"]), number(&fields["seen"]));
        let held = self.held.get(topic).expect("a message belongs to a join");
        assert_eq!(held.token, token, "the join of {topic} that this belongs to");
        if !self.v1 {
            assert_eq!(text(join_ref), text(&held.join_ref), "a join_ref is echoed as it was");
        }
        match fields["d"].as_u64() {
            Some(_) => {
                assert_eq!(number(&fields["d"]), self.directs, "messages for client {}", self.client);
                self.directs += 1;
            }
            None => {
                let mailed = self.mailed.entry(token).or_default();
                assert_eq!(number(&fields["h"]), *mailed, "mail for join {token}");
                *mailed += 1;
            }
        }
        self.see(seen, world);
    }

    /// Everything up to `seen` has come, and nothing behind it.
    fn see(&mut self, seen: usize, world: &World) {
        assert!(self.seen <= seen, "made when {seen} had been seen, but behind {}", self.seen);
        assert!(self.newest <= seen, "made when {seen} had been seen, but behind broadcast {}", self.newest);
        self.seen = seen;
        for (topic, held) in &self.held {
            let end = world.joins[held.token].end.map_or(seen, |(end, _)| end.min(seen));
            let missing = world.count(topic, self.client, held.last, end);
            assert!(missing <= held.gap, "{missing} of {topic} are to come before, {} lost", held.gap);
        }
    }

    fn on_reply(&mut self, received: &Received, world: &World) {
        let id = reference(&received.message_ref).expect("a reply has a ref");
        let response = &received.payload["response"];
        let sent = self.sent.get_mut(&id).expect("a reply has its message");
        assert_eq!(sent.topic, received.topic, "the topic of the reply to {id}");
        if !response["h"].is_u64() {
            sent.answered += 1;
            assert!(self.last_answered <= id, "the reply to {id} behind that to {}", self.last_answered);
            self.last_answered = id;
        }
        match sent.kind {
            Kind::Join => self.on_join_reply(received, world),
            Kind::Push if response["join"].is_u64() => {
                self.on_direct(response, &received.topic, &received.join_ref, world);
            }
            Kind::Push => {
                let reason = response["reason"].as_str();
                assert!(matches!(reason, Some("unmatched topic" | "overloaded")), "{reason:?}");
            }
            Kind::Wrong(what) => {
                let reason = response["reason"].as_str();
                assert!(reason.is_some_and(|reason| reason.contains(what)), "{what}: {reason:?}");
            }
            Kind::Leave | Kind::Other => {}
        }
    }

    fn on_join_reply(&mut self, received: &Received, world: &World) {
        let response = &received.payload["response"];
        // Whatever becomes of a second join, the first one has ended with it.
        if let Some(old) = self.held.remove(&received.topic) {
            match world.joins[old.token].end {
                Some((_, Ended::Replaced)) => {
                    self.finish(&old, &received.topic, world);
                    self.replaced.push(old);
                }
                _ => _ = self.held.insert(received.topic.clone(), old),
            }
        }
        if received.payload["status"] != "ok" {
            let reason = response["reason"].as_str();
            let expected =
                ["refused", "join crashed", "unmatched topic", "too many channels joined"].map(Some);
            assert!(expected.contains(&reason), "{reason:?}");
            return;
        }
        let token = number(&response["join"]);
        let start = world.joins[token].start;
        // The reply carries the join_ref as it was sent; what comes later names the ref where there was none.
        let join_ref = match &received.join_ref {
            Value::Null => received.message_ref.clone(),
            join_ref => join_ref.clone(),
        };
        let held = Held { token, join_ref: join_ref.clone(), last: start, gap: 0 };
        assert!(self.held.insert(received.topic.clone(), held).is_none(), "the first join has ended");
        self.on_direct(response, &received.topic, &join_ref, world);
    }

    /// `phx_close` or `phx_error`.
    fn on_end(&mut self, received: &Received, world: &World) {
        let named = |held: &Held| {
            received.message_ref.is_null() || text(&held.join_ref) == text(&received.message_ref)
        };
        let of_topic = |held: &Held| world.joins[held.token].topic == received.topic;
        let replaced = self.replaced.iter().position(|held| of_topic(held) && named(held));
        let held = match replaced {
            Some(at) => self.replaced.remove(at),
            None => {
                let held = self.held.remove(&received.topic).expect("what ends has begun");
                self.finish(&held, &received.topic, world);
                held
            }
        };
        assert!(named(&held), "the join that ends is the one that is there");
        let (_, ended) = world.joins[held.token].end.expect("what the client is told has happened");
        let event = if ended == Ended::Crashed { "phx_error" } else { "phx_close" };
        assert_eq!(received.event, event, "the end of join {}: {ended:?}", held.token);
        assert_ne!(ended, Ended::Disconnected);
        assert!(self.ended.insert(held.token), "join {} ends once", held.token);
    }

    /// Nothing more comes for a join that has ended: everything it had to get must have come.
    fn finish(&self, held: &Held, topic: &str, world: &World) {
        self.check_held(held, topic, world, usize::MAX);
    }

    /// Whether everything has come of what had reached the join's shard at its end, or has until now.
    fn check_held(&self, held: &Held, topic: &str, world: &World, reached: usize) {
        let end = world.joins[held.token].end.map_or(reached.min(world.casts.len()), |(end, _)| end);
        let missing = world.count(topic, self.client, held.last, end);
        let (token, last) = (held.token, held.last);
        assert_eq!(
            missing, held.gap,
            "missing in {topic} at the end of join {token}, and told of; {last} {end}"
        );
    }

    /// Everything has been sent and read: nothing may be missing.
    pub(super) fn check_complete(&self, world: &World) {
        let client = self.client;
        assert!(self.buffer.is_empty(), "client {client} has got half a frame");
        assert_eq!(self.ping_due, None, "a ping is written together with its broadcast");
        self.check_delivered(world, usize::MAX);
        assert_eq!(self.last_pong, self.last_ping, "the last ping of client {client} is answered");
        for (id, sent) in &self.sent {
            let handled = world.clients[client].answers.get(id);
            let expected = match handled {
                Some(answers) => *answers..=*answers,
                None if sent.stale => 0..=1,
                None => 1..=1,
            };
            assert!(expected.contains(&sent.answered), "answers to {id} of client {client}: {sent:?}");
        }
        for (token, joined) in world.joins.iter().enumerate().filter(|(_, join)| join.client == client) {
            let held = self.held.values().any(|held| held.token == token);
            let mailed = self.mailed.get(&token).copied().unwrap_or_default();
            match joined.end {
                None => {
                    assert!(held, "client {client} knows of its join {token}");
                    assert_eq!(mailed, joined.mailed, "mail for join {token}");
                    assert_eq!(joined.tasks_done, joined.tasks_sent, "tasks of join {token}");
                }
                Some(_) => assert!(self.ended.contains(&token), "client {client} knows join {token} ended"),
            }
        }
    }

    /// What had happened before the connection's end has come; if it is open, what had reached its shard.
    pub(super) fn check_delivered(&self, world: &World, reached: usize) {
        self.held.iter().for_each(|(topic, held)| self.check_held(held, topic, world, reached));
        assert_eq!(
            self.directs, world.clients[self.client].directs,
            "messages made for client {}",
            self.client
        );
    }
}

/// A ref of the simulator's clients: a number, written as such or as a string.
fn reference(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A ref as it stands in a binary message, where a number can't be told from a string.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn decode(v1: bool, frame: &Frame) -> Received {
    if frame.opcode == 0x2 {
        assert!(!v1, "a client of serializer V1 gets no bytes");
        return decode_binary(&frame.payload);
    }
    let value: Value = serde_json::from_slice(&frame.payload).expect("the server sends JSON");
    let [join_ref, message_ref, topic, event, payload] = if v1 {
        assert_eq!(value.as_object().map(serde_json::Map::len), Some(4), "{value}");
        [&Value::Null, &value["ref"], &value["topic"], &value["event"], &value["payload"]].map(Value::clone)
    } else {
        assert_eq!(value.as_array().map(Vec::len), Some(5), "{value}");
        [0, 1, 2, 3, 4].map(|at| value[at].clone())
    };
    let event = event.as_str().expect("an event is a string").to_owned();
    Received { join_ref, message_ref, topic: text(&topic), event, payload }
}

/// Push 0, reply 1, broadcast 2; the data is JSON all the same.
fn decode_binary(bytes: &[u8]) -> Received {
    let count = [3, 4, 2][usize::from(bytes[0])];
    let mut at = 1 + count;
    let mut fields = bytes[1..=count].iter().map(|len| {
        let field = std::str::from_utf8(&bytes[at..at + usize::from(*len)]).expect("a field is UTF-8");
        at += usize::from(*len);
        field.to_owned()
    });
    let mut next = || fields.next().unwrap_or_default();
    let (join_ref, message_ref, topic, event) = match bytes[0] {
        0 => (next().into(), Value::Null, next(), next()),
        1 => (next().into(), next().into(), next(), next()),
        _ => (Value::Null, Value::Null, next(), next()),
    };
    drop(fields);
    let payload: Value = serde_json::from_slice(&bytes[at..]).expect("the data is JSON");
    match bytes[0] {
        1 => {
            let payload = serde_json::json!({"status": event, "response": payload});
            Received { join_ref, message_ref, topic, event: "phx_reply".to_owned(), payload }
        }
        _ => Received { join_ref, message_ref, topic, event, payload },
    }
}
