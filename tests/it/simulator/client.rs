//! A pretended client: what it sends.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use hailer::endpoint::ConnectionId;
use hailer::testing::{upgrade_request, write_masked};
use serde_json::{Value, json};

use super::reader::{Kind, Reader, Sent};
use super::rng::Rng;

/// Topics with channels; their names say what becomes of slow readers.
pub(super) const TOPICS: [&str; 4] = ["skip:a", "close:a", "close:b", "skip:b"];

/// What a client is from its beginning.
#[derive(Clone, Copy)]
pub(super) struct Nature {
    pub(super) number: usize,
    pub(super) shard: usize,
    pub(super) v1: bool,
    /// One callback per call, since mailboxes are so small that broadcasts are refused.
    pub(super) tiny: bool,
    /// How many of the [`TOPICS`] it knows.
    pub(super) topics: usize,
}

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

pub(super) struct Client {
    nature: Nature,
    pub(super) id: ConnectionId,
    pub(super) reader: Reader,
    /// Bytes that have not been given to the endpoint, and where the messages in them end.
    pub(super) unsent: VecDeque<u8>,
    pub(super) ends: VecDeque<usize>,
    /// Where pongs in them end, and the broadcasts that they are for.
    pongs: VecDeque<(usize, usize)>,
    next_id: u64,
    /// The refs of the last join of each topic and of the one before.
    joins: BTreeMap<&'static str, (Option<u64>, Option<u64>)>,
    /// It sends nothing more.
    pub(super) quiet: bool,
    /// It has sent half a message, so whatever came next would be the rest of it.
    stuck: bool,
    /// The close code that it has sent.
    pub(super) closing: Option<Option<u16>>,
    /// It has ended the connection from its side.
    pub(super) hung_up: bool,
    /// The server has ended the connection.
    pub(super) gone: bool,
    /// When it was heard last, and the longest that it has been silent.
    pub(super) heard: Instant,
    pub(super) silence: Duration,
    /// A write to it has been cut short at some time.
    pub(super) ever_blocked: bool,
    /// Its end has been checked.
    pub(super) judged: bool,
}

impl Client {
    pub(super) fn new(nature: Nature, id: ConnectionId, now: Instant) -> Self {
        Self {
            nature,
            id,
            reader: Reader::new(nature.number, nature.v1),
            unsent: VecDeque::new(),
            ends: VecDeque::new(),
            pongs: VecDeque::new(),
            next_id: 1,
            joins: BTreeMap::new(),
            quiet: false,
            stuck: false,
            closing: None,
            hung_up: false,
            gone: false,
            heard: now,
            silence: Duration::ZERO,
            ever_blocked: false,
            judged: false,
        }
    }

    pub(super) fn shard(&self) -> usize {
        self.nature.shard
    }

    /// Whether it speaks and is heard.
    pub(super) fn is_live(&self) -> bool {
        !self.gone && !self.hung_up
    }

    /// A few ordinary requests, and the upgrade.
    pub(super) fn greet(&mut self, rng: &mut Rng) -> &'static str {
        if rng.chance(4) {
            self.spoil();
            let nonsense: &[&[u8]] =
                &[b"GET / HTTP/7.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n", &[b'a'; 20_000]];
            self.unsent.extend(*rng.pick(nonsense));
            return "speaks no HTTP";
        }
        while rng.chance(15) {
            let (path, status) = *rng.pick(&[("/page", 200), ("/nowhere", 404), ("/socket/websocket", 400)]);
            self.unsent.extend(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").bytes());
            self.reader.statuses.push(status);
        }
        let vsn = if self.nature.v1 { *rng.pick(&["", "?vsn=1.0.0"]) } else { "?vsn=2.0.0" };
        self.unsent.extend(upgrade_request(&format!("/socket/websocket{vsn}")).bytes());
        self.ends.push_back(self.unsent.len());
        self.reader.statuses.push(101);
        "asks for a WebSocket"
    }

    /// Puts a message of the client's choice behind what it has not sent yet; what it is.
    pub(super) fn say(&mut self, rng: &mut Rng) -> String {
        let mut topic = *rng.pick(&TOPICS[..self.nature.topics]);
        if !self.joins.contains_key(topic) && rng.chance(90) {
            match self.joins.keys().next() {
                // Mostly it talks where it is.
                Some(joined) if rng.chance(60) => topic = joined,
                _ => return self.join(topic, rng),
            }
        }
        match rng.below(100) {
            0..15 => self.join(topic, rng),
            15..70 => self.push(topic, rng),
            70..77 => self.leave(topic, rng),
            77..86 => self.heartbeat(),
            86..92 => {
                let mut out = Vec::new();
                self.ping(rng, &mut out);
                self.unsent.extend(out);
                self.ends.push_back(self.unsent.len());
                "ping".to_owned()
            }
            92..95 => self.odd(topic, rng),
            95..97 => self.wrong(topic, rng),
            97 => {
                let code = *rng.pick(&[None, Some(1000), Some(1001), Some(4000)]);
                self.close(code);
                format!("close {code:?}")
            }
            98 => self.garbage(rng),
            _ => self.half(rng),
        }
    }

    fn join(&mut self, topic: &'static str, rng: &mut Rng) -> String {
        let id = self.id(Kind::Join, topic, false);
        let how = match rng.below(20) {
            0 => "refuse",
            1 => "fail",
            2 => "panic",
            _ => "ok",
        };
        let acts = if rng.chance(25) && !self.nature.tiny { acts(rng) } else { Vec::new() };
        // What ends the channel at once is not for a join.
        let acts: Vec<Value> = acts.into_iter().filter(|act| act[0] == "cast" || act[0] == "push").collect();
        let payload = json!({"client": self.reader.client, "how": how, "size": rng.below(40), "acts": acts});
        // phoenix.js of serializer V1 sends none; others may leave it out as well.
        let named = if rng.chance(if self.nature.v1 { 30 } else { 85 }) { Some(id) } else { None };
        let last = self.joins.get(topic).and_then(|(last, _)| *last);
        self.joins.insert(topic, (named, last));
        self.message(named, id, topic, "phx_join", &payload, rng.chance(10), rng);
        format!("#{id} join {topic} {how}")
    }

    fn push(&mut self, topic: &'static str, rng: &mut Rng) -> String {
        let (join_ref, stale) = self.name(topic, rng);
        let id = self.id(Kind::Push, topic, stale);
        let acts = if self.nature.tiny { tiny_acts(rng) } else { acts(rng) };
        let payload = json!({"id": id, "acts": acts});
        self.message(join_ref, id, topic, "do", &payload, rng.chance(20), rng);
        format!("#{id} push {topic} {}", json!(acts))
    }

    fn leave(&mut self, topic: &'static str, rng: &mut Rng) -> String {
        let (join_ref, stale) = self.name(topic, rng);
        let id = self.id(Kind::Leave, topic, stale);
        self.message(join_ref, id, topic, "phx_leave", &json!({}), false, rng);
        if rng.chance(70) {
            self.joins.remove(topic);
        }
        format!("#{id} leave {topic}")
    }

    pub(super) fn heartbeat(&mut self) -> String {
        let id = self.id(Kind::Other, "phoenix", false);
        let mut rng = Rng::new(id);
        self.message(None, id, "phoenix", "heartbeat", &json!({}), false, &mut rng);
        format!("#{id} heartbeat")
    }

    /// What a client has no reason to send, and is answered all the same.
    fn odd(&mut self, topic: &'static str, rng: &mut Rng) -> String {
        let (topic, event) =
            *rng.pick(&[("nowhere", "phx_join"), ("nowhere", "do"), ("phoenix", "do"), (topic, "phx_reply")]);
        let id = self.id(Kind::Other, topic, false);
        self.message(None, id, topic, event, &json!([null, 1.5, "\u{1f980}"]), false, rng);
        format!("#{id} {event} {topic}")
    }

    /// A message in which something is wrong, but not with its ref and its topic.
    fn wrong(&mut self, topic: &'static str, rng: &mut Rng) -> String {
        let long = "x".repeat(300);
        let mut topic = topic.to_owned();
        let (mut join_ref, mut event) = ("null".to_owned(), "\"do\"".to_owned());
        let mut payload = "{}".to_owned();
        let what = *rng.pick(&[
            "topic_bytes_max",
            "event_bytes_max",
            "ref_bytes_max",
            "json_depth_max",
            "surrogate",
            "not a string",
        ]);
        match what {
            "topic_bytes_max" => topic.push_str(&long),
            "event_bytes_max" => event = format!("\"{long}\""),
            "ref_bytes_max" => join_ref = format!("\"{long}\""),
            "json_depth_max" => payload = ["[".repeat(300), "]".repeat(300)].concat(),
            "surrogate" => payload = r#"{"name":"Zoe \ud83d"}"#.to_owned(),
            _ => event = "{}".to_owned(),
        }
        let id = self.id(Kind::Wrong(what), &topic, false);
        let message = if self.nature.v1 {
            format!(
                r#"{{"topic":"{topic}","event":{event},"payload":{payload},"ref":{id},"join_ref":{join_ref}}}"#
            )
        } else {
            format!(r#"[{join_ref},{id},"{topic}",{event},{payload}]"#)
        };
        let mut out = Vec::new();
        self.fragments(TEXT, message.as_bytes(), &mut out, rng);
        self.unsent.extend(out);
        self.ends.push_back(self.unsent.len());
        format!("#{id} wrong: {what}")
    }

    /// The join_ref for a message of a topic, and whether it is that of an earlier join.
    fn name(&mut self, topic: &str, rng: &mut Rng) -> (Option<u64>, bool) {
        let (last, older) = self.joins.get(topic).copied().unwrap_or_default();
        match older {
            Some(older) if rng.chance(10) => (Some(older), true),
            _ if rng.chance(20) => (None, false),
            _ => (last, false),
        }
    }

    fn id(&mut self, kind: Kind, topic: &str, stale: bool) -> u64 {
        self.next_id += 1;
        self.reader.sent.insert(self.next_id, Sent::new(kind, topic, stale));
        self.next_id
    }

    #[allow(clippy::too_many_arguments)]
    fn message(
        &mut self,
        join_ref: Option<u64>,
        id: u64,
        topic: &str,
        event: &str,
        payload: &Value,
        binary: bool,
        rng: &mut Rng,
    ) {
        let join_ref = join_ref.map(|join_ref| join_ref.to_string());
        let mut out = Vec::new();
        match join_ref {
            Some(join_ref) if binary && !self.nature.v1 => {
                let id = id.to_string();
                let fields = [&*join_ref, &*id, topic, event];
                let mut bytes = vec![0];
                bytes.extend(fields.iter().map(|field| u8::try_from(field.len()).expect("fields are short")));
                fields.iter().for_each(|field| bytes.extend(field.bytes()));
                bytes.extend(payload.to_string().bytes());
                self.fragments(BINARY, &bytes, &mut out, rng);
            }
            join_ref => {
                let id = if event != "phx_join" && id.is_multiple_of(3) {
                    json!(id)
                } else {
                    json!(id.to_string())
                };
                let message = if self.nature.v1 {
                    let mut message = json!({"topic": topic, "event": event, "payload": payload, "ref": id});
                    if let Some(join_ref) = join_ref {
                        message["join_ref"] = join_ref.into();
                    }
                    message
                } else {
                    json!([join_ref, id, topic, event, payload])
                };
                self.fragments(TEXT, message.to_string().as_bytes(), &mut out, rng);
            }
        }
        self.unsent.extend(out);
        self.ends.push_back(self.unsent.len());
    }

    /// A message in one frame or in several, with a ping between.
    fn fragments(&mut self, opcode: u8, payload: &[u8], out: &mut Vec<u8>, rng: &mut Rng) {
        let mut opcode = opcode;
        let mut rest = payload;
        while rng.chance(15) {
            let (part, behind) = rest.split_at(rng.below(rest.len() + 1));
            write_masked(out, std::mem::take(&mut opcode), false, part);
            rest = behind;
            if rng.chance(20) {
                self.ping(rng, out);
            }
        }
        write_masked(out, opcode, true, rest);
    }

    fn ping(&mut self, rng: &mut Rng, out: &mut Vec<u8>) {
        let ping = self.reader.last_ping.map_or(0, |last| last + 1);
        self.reader.last_ping = Some(ping);
        write_masked(out, PING, true, format!("{ping}{}", "x".repeat(rng.below(100))).as_bytes());
    }

    /// Puts a pong behind what it has not sent yet, as if it had just read the ping of broadcast `n`.
    pub(super) fn pong(&mut self, n: usize) {
        if !self.quiet {
            self.send_pong(&n.to_be_bytes());
            self.pongs.push_back((self.unsent.len(), n));
        }
    }

    /// The same with whatever content.
    pub(super) fn send_pong(&mut self, payload: &[u8]) {
        let mut out = Vec::new();
        write_masked(&mut out, PONG, true, payload);
        self.unsent.extend(out);
    }

    /// Whether it answers the pings behind broadcasts.
    pub(super) fn answers_pings(&self) -> bool {
        self.nature.number % 5 != 4
    }

    pub(super) fn forget_unsent(&mut self) {
        self.unsent.clear();
        self.ends.clear();
        self.pongs.clear();
    }

    pub(super) fn close(&mut self, code: Option<u16>) {
        self.quiet = true;
        if self.stuck {
            return;
        }
        let mut out = Vec::new();
        let payload = code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec());
        write_masked(&mut out, CLOSE, true, &payload);
        self.unsent.extend(out);
        self.closing = Some(code);
    }

    fn spoil(&mut self) {
        self.quiet = true;
        self.reader.misbehaved = true;
    }

    fn garbage(&mut self, rng: &mut Rng) -> String {
        self.spoil();
        let masked = |opcode: u8, payload: &[u8]| {
            let mut out = Vec::new();
            write_masked(&mut out, opcode, true, payload);
            out
        };
        let broken = *rng.pick(&[
            "unmasked",
            "reserved",
            "opcode",
            "ping",
            "utf8",
            "json",
            "short",
            "bytes",
            "large",
            "continued",
            "close",
            "code",
        ]);
        self.unsent.extend(match broken {
            "unmasked" => vec![0x81, 1, b'a'],
            "reserved" => vec![0xc1, 0x80, 0, 0, 0, 0],
            "opcode" => masked(0x3, b""),
            "ping" => masked(PING, &[b'a'; 126]),
            "utf8" => masked(TEXT, b"[\"\xff\"]"),
            "json" => masked(TEXT, b"{\"topic\":"),
            "short" => masked(TEXT, b"[null,\"1\",\"t\"]"),
            "bytes" => masked(if self.nature.v1 { TEXT } else { BINARY }, &[9, 9, 9]),
            "large" => vec![0x82, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0],
            "continued" => masked(0, b"a"),
            "close" => masked(CLOSE, &[3]),
            _ => masked(CLOSE, &1005u16.to_be_bytes()),
        });
        format!("garbage: {broken}")
    }

    /// The beginning of a message that it never ends.
    fn half(&mut self, rng: &mut Rng) -> String {
        (self.quiet, self.stuck) = (true, true);
        let mut out = Vec::new();
        write_masked(&mut out, TEXT, true, b"[null,\"0\",\"phoenix\",\"heartbeat\",{}]");
        out.truncate(rng.below(out.len()));
        self.unsent.extend(out);
        "half a message".to_owned()
    }

    /// Takes bytes to be given to the endpoint, and the broadcasts whose pongs are whole with them.
    pub(super) fn take_bytes(&mut self, most: usize) -> (Vec<u8>, Vec<usize>) {
        let mut count = most.min(self.unsent.len());
        if self.nature.tiny
            && let Some(end) = self.ends.front()
        {
            count = count.min(*end);
        }
        self.ends.iter_mut().for_each(|end| *end = end.saturating_sub(count));
        while self.ends.front() == Some(&0) {
            self.ends.pop_front();
        }
        self.pongs.iter_mut().for_each(|(end, _)| *end = end.saturating_sub(count));
        let whole = self.pongs.iter().take_while(|(end, _)| *end == 0).count();
        let pongs = self.pongs.drain(..whole).map(|(_, n)| n).collect();
        (self.unsent.drain(..count).collect(), pongs)
    }
}

/// Bytes of padding: mostly few, sometimes more than any buffer of the run.
pub(super) fn padding(rng: &mut Rng) -> usize {
    match rng.below(10) {
        0..5 => rng.below(40),
        5..8 => rng.below(400),
        _ => rng.below(3000),
    }
}

/// What a channel is asked to do about one message.
fn acts(rng: &mut Rng) -> Vec<Value> {
    let mut acts: Vec<Value> = (0..rng.below(5)).map(|_| act(rng)).collect();
    match rng.below(40) {
        0 => acts.push(json!(["fail"])),
        1 => acts.push(json!(["panic"])),
        2 => acts.extend([json!(["stop"]), json!(["push"])]),
        _ => {}
    }
    acts
}

pub(super) fn act(rng: &mut Rng) -> Value {
    let binary = rng.chance(15);
    match rng.below(10) {
        0..3 => json!(["reply", rng.below(60), binary]),
        3..5 => json!(["push", padding(rng) / 4, binary]),
        5 => json!(["defer", 0]),
        _ => {
            let to = *rng.pick(&["all", "all", "all", "from", "from", "close:a", "skip:b", "nowhere"]);
            let mode = *rng.pick(&["", "", "", "", "", "push", "push", "drop", "stop", "fail", "panic"]);
            json!(["cast", padding(rng), binary, to, mode])
        }
    }
}

/// The same where a broadcast may be refused: it is the last, and there is one at most.
fn tiny_acts(rng: &mut Rng) -> Vec<Value> {
    let mut acts = vec![json!(["cast", padding(rng), rng.chance(15), *rng.pick(&["all", "from"]), ""])];
    if rng.chance(30) {
        acts.insert(0, json!(["reply", 1, false]));
    }
    if rng.chance(30) {
        acts.insert(0, json!(["push", 1, false]));
    }
    acts
}
