//! An input is a program of lines for one endpoint and three connections. The first letter says what happens,
//! the digit behind it to which connection, the rest of the line is the operand:
//!
//! ```text
//! u0 2.0.0   asks for a WebSocket            h0 text    sends a line of HTTP
//! b0 bytes   sends bytes as they are         t0 text    sends a text frame
//! d0 bytes   sends a binary frame            f0 Xbytes  sends a frame whose first byte is X
//! c0 7       input comes in pieces of 7      w0 9       takes 9 bytes more, then none; "w0": takes all
//! e0         ends its side                   x0         is reset
//! g0         is gone, as a write finds out   + 250      time passes, in milliseconds
//! m 1        the mailbox is taken by 1       l 1        writes are made, one at most
//! p t 90     90 bytes are broadcast on t     y          deferred replies are given
//! o          the endpoint is drained         k          closed connections are forgotten
//! s0 2.0.0   opens a session on long-poll    q0 1       polls for the second session
//! r0 1 text  posts lines (split at a "|") to the second session
//! a          from the first line on: somebody decides who connects
//! v ada 90   the oldest decision: ada may, until 90      i eve      the newest one, likewise; without a user: refused
//! j          from the first line on ("aj": both): requests for other paths go to a service
//! j          the oldest of them is answered                J          the newest one
//! P t 90     as "p", and it is counted who receives it     R0 1       sends the pong of the second of them
//! n 80       the wall clock is set               z ada      all of ada's sockets are disconnected, "Z": denied
//! ```

// A time to begin with can't be made from nothing; which one it is makes no difference.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::num::NonZeroU64;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hailer::auth::connect::{Answer, Connect, ConnectRequest, Refusal};
use hailer::auth::deny::Denial;
use hailer::auth::{Identity, IdentityParts, UnixTime};
use hailer::broker::{Broker, Outgoing, Tally};
use hailer::channel::{
    Channel, ChannelError, Context, DeferredReply, Ended, JoinError, PayloadBuf, Router, SlowReader,
};
use hailer::endpoint::{Admission, CallTicket, Config, ConnectionId, Endpoint, Gone, Page, Sink, Ticket};
use hailer::http::Status;
use hailer::limits::Limits;
use hailer::phoenix::Payload;
use hailer::service::{Service, ServiceReply, ServiceRequest};
use hailer::testing::{read_frames, upgrade_request, write_masked};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Whatever happens, nothing panics, what is sent is well-formed, and nothing is left at the end.
pub(crate) fn check(data: &[u8]) {
    let first = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut node = Node::new([&b"a"[..], b"aj"].contains(&first), [&b"j"[..], b"aj"].contains(&first));
    for line in data.split(|byte| *byte == b'\n').take(500) {
        node.run(line);
    }
    node.end();
}

type Later = Arc<Mutex<Vec<DeferredReply>>>;

/// Does what the event's name says.
struct Script(Later);

impl Channel for Script {
    fn join(&self, _: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        let payload: Value = payload.deserialize().unwrap_or_default();
        match payload["do"].as_str() {
            Some("refuse") => Err(JoinError::reason("refused")),
            Some("fail") => Err(JoinError::Crashed(ChannelError::new("scripted"))),
            Some("panic") => resume_unwind(Box::new("scripted")),
            Some("stop") => {
                cx.stop();
                Ok(PayloadBuf::empty())
            }
            _ => Ok(PayloadBuf::empty()),
        }
    }

    fn handle_in(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        match event {
            "reply" => cx.reply_ok(payload.into()),
            "push" => cx.push("push", payload.into()),
            "from" => cx.broadcast_from("e", payload.into()),
            "both" => {
                cx.broadcast("e", payload.into());
                cx.reply_ok(PayloadBuf::empty());
            }
            "later" => {
                let reply = cx.defer_reply();
                self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(reply);
            }
            "stop" => cx.stop(),
            "fail" => return Err(ChannelError::new("scripted")),
            "panic" => resume_unwind(Box::new("scripted")),
            event => cx.broadcast(event, payload.into()),
        }
        Ok(())
    }

    fn intercepts(&self) -> &'static [&'static str] {
        &["out"]
    }

    fn terminate(&self, _: Ended, cx: &mut Context<'_>) {
        cx.broadcast("left", PayloadBuf::empty());
    }
}

/// One end of a connection.
struct Peer {
    received: Vec<u8>,
    /// Bytes it takes before it is full.
    window: Option<usize>,
    blocked: bool,
    gone: bool,
    shut_down: bool,
}

#[derive(Default)]
struct Wire(BTreeMap<u64, Peer>);

impl Sink for Wire {
    fn send(&mut self, id: ConnectionId, pieces: &[IoSlice<'_>]) -> Result<usize, Gone> {
        let peer = self.0.get_mut(&id.to_bits()).expect("what is written to is open");
        assert!(!peer.shut_down && !peer.blocked, "the peer takes bytes");
        let offered: usize = pieces.iter().map(|piece| piece.len()).sum();
        assert!(offered > 0, "a write has bytes");
        if peer.gone {
            return Err(Gone);
        }
        let taken = peer.window.map_or(offered, |window| window.min(offered));
        peer.window = peer.window.map(|window| window - taken);
        peer.blocked = taken < offered;
        peer.received.extend(pieces.iter().flat_map(|piece| piece.iter()).take(taken));
        Ok(taken)
    }

    fn shutdown(&mut self, id: ConnectionId) {
        let peer = self.0.get_mut(&id.to_bits()).expect("what is ended is open");
        assert!(!std::mem::replace(&mut peer.shut_down, true), "a connection is ended once");
    }
}

struct Node {
    endpoint: Endpoint,
    broker: Arc<Broker>,
    wire: Wire,
    later: Later,
    now: Instant,
    /// What each digit stands for, and the pieces in which its input comes.
    connections: [Option<ConnectionId>; 3],
    pieces: [usize; 3],
    /// The tokens of the sessions that were opened.
    tokens: Vec<String>,
    /// Those about whom nobody has decided.
    tickets: VecDeque<Ticket>,
    /// Requests that the service has not answered.
    calls: VecDeque<(CallTicket, ServiceRequest)>,
    /// The broadcasts whose receipts are counted.
    receipts: Vec<(NonZeroU64, Arc<Tally>)>,
    serves: bool,
}

/// Decisions are made by the lines.
struct Undecided;

impl Connect for Undecided {
    fn connect(&self, _: ConnectRequest, _: UnixTime, _: Answer) {}
}

/// Says what it was asked.
struct Echo;

impl Service for Echo {
    fn call(&self, request: &ServiceRequest, _: u64) -> ServiceReply {
        let status = if request.path == "/nothing" { Status::NoContent } else { Status::Ok };
        let reply = ServiceReply::new(status).header("x-query", request.query.clone());
        reply.body("text/plain", [request.path.as_bytes(), &request.body].concat())
    }
}

/// The most that bodies may hold.
const HELD_MAX: usize = 2048;

const PAGES: &[Page] = &[Page { path: "/", content_type: "text/plain", body: b"a page" }];

impl Node {
    fn new(admission: bool, service: bool) -> Self {
        let mut limits = Limits::default();
        limits.head_bytes_max = 1024;
        limits.topic_log_bytes_max = 4096;
        limits.outbox_bytes_max = 1024;
        limits.channels_per_socket_max = 3;
        limits.pongs_waiting_max = 2;
        limits.mailbox_commands_max = 50;
        limits.requests_per_connection_max = 5;
        let later = Later::default();
        let channel = Arc::new(Script(Arc::clone(&later)));
        let router = Router::new()
            .channel_with("s*".parse().expect("a pattern"), Arc::clone(&channel) as _, SlowReader::Skip)
            .channel_with("*".parse().expect("a pattern"), channel, SlowReader::Close);
        limits.receipts_tracked_max = 3;
        (limits.request_bytes_max, limits.request_bytes_held_max) = (HELD_MAX, HELD_MAX);
        limits.requests_waiting_max = 2;
        limits.connects_waiting_max = 2;
        let auto_join = Arc::new(["own:{sub}".parse().expect("a pattern"), "s".parse().expect("a pattern")]);
        let admission = admission.then(|| Admission {
            auto_join,
            polite_refusal: true,
            ..Admission::new(Arc::new(Undecided))
        });
        let limits = Arc::new(limits);
        let config = Config {
            limits: Arc::clone(&limits),
            pages: PAGES.into(),
            admission,
            service: service.then(|| Arc::new(Echo) as Arc<dyn Service>),
            ..Config::new(router)
        };
        let broker = Broker::new(&limits, vec![Box::new(|| ())]);
        let now = Instant::now();
        let endpoint = Endpoint::new(config, &broker, 0, &[7; 32], now);
        let wire = Wire::default();
        Self {
            endpoint,
            broker,
            wire,
            later,
            now,
            connections: [None; 3],
            pieces: [usize::MAX; 3],
            tokens: Vec::new(),
            tickets: VecDeque::new(),
            calls: VecDeque::new(),
            receipts: Vec::new(),
            serves: service,
        }
    }

    fn run(&mut self, line: &[u8]) {
        self.obey(line);
        self.tickets.extend(std::iter::from_fn(|| self.endpoint.poll_connect().map(|(ticket, _)| ticket)));
        self.calls.extend(std::iter::from_fn(|| self.endpoint.poll_call()));
        self.check_receipts();
    }

    /// What is counted of receipts is possible.
    fn check_receipts(&self) {
        for (receipt, tally) in &self.receipts {
            let Some(counts) = self.endpoint.receipts(*receipt) else { continue };
            assert!(tally.is_done(), "what is counted was taken");
            assert_eq!(counts.addressed, tally.count(0), "{counts:?}");
            assert!(counts.received + counts.gone + counts.missed <= counts.addressed, "{counts:?}");
            assert!(counts.behind <= counts.open(), "{counts:?}");
        }
    }

    fn reply(&mut self, call: Option<(CallTicket, ServiceRequest)>) {
        if let Some((ticket, request)) = call {
            self.endpoint.handle_reply(ticket, &Echo.call(&request, 0), self.now);
        }
    }

    fn obey(&mut self, line: &[u8]) {
        let [op, rest @ ..] = line else { return };
        let (digit, rest) = match rest {
            [digit @ b'0'..=b'2', rest @ ..] => (usize::from(digit - b'0'), rest),
            rest => (0, rest),
        };
        let operand = rest.strip_prefix(b" ").unwrap_or(rest);
        match op {
            b'u' => {
                let vsn = String::from_utf8_lossy(operand);
                self.send(digit, upgrade_request(&format!("/socket/websocket?vsn={vsn}")).as_bytes());
            }
            b'h' => self.send(digit, &[operand, b"\r\n"].concat()),
            b'b' => self.send(digit, operand),
            b't' => self.send_frame(digit, 0x81, operand),
            b'd' => self.send_frame(digit, 0x82, operand),
            b'f' => {
                if let [first, payload @ ..] = operand {
                    self.send_frame(digit, *first, payload);
                }
            }
            b'c' => self.pieces[digit] = number(operand).unwrap_or(usize::MAX).max(1),
            b'w' => self.set_window(digit, number(operand)),
            b'e' => self.hang_up(digit, Endpoint::handle_eof),
            b'x' => self.hang_up(digit, Endpoint::handle_error),
            b'g' => self.peer(digit, |peer| peer.gone = true),
            b's' => self.open_session(digit, &String::from_utf8_lossy(operand)),
            b'q' => {
                let token = self.token(operand);
                let request = format!("GET /socket/longpoll?token={token} HTTP/1.1\r\nHost: a\r\n\r\n");
                self.send(digit, request.as_bytes());
            }
            b'r' => self.post(digit, operand),
            b'R' => {
                let receipt = number(operand).and_then(|at| self.receipts.get(at));
                // Of none, it is what nobody has asked for.
                let receipt = receipt.map_or(7, |(receipt, _)| receipt.get());
                self.send_frame(digit, 0x8a, &receipt.to_be_bytes());
            }
            _ => self.run_for_all(*op, operand),
        }
    }

    fn open_session(&mut self, digit: usize, vsn: &str) {
        let vsn: String = vsn.chars().filter(char::is_ascii_graphic).collect();
        let request = format!("GET /socket/longpoll?vsn={vsn} HTTP/1.1\r\nHost: a\r\n\r\n");
        self.send(digit, request.as_bytes());
        self.endpoint.flush(usize::MAX, self.now, &mut self.wire);
        let mut token = None;
        self.peer(digit, |peer| {
            let text = String::from_utf8_lossy(&peer.received);
            token = text
                .rsplit_once(r#""token":""#)
                .and_then(|(_, rest)| rest.split_once('"'))
                .map(|t| t.0.to_owned());
        });
        self.tokens.extend(token);
    }

    /// The token of the session that a number stands for; of none, what is no token.
    fn token(&self, number_of: &[u8]) -> String {
        number(number_of).and_then(|at| self.tokens.get(at)).cloned().unwrap_or_else(|| "none".to_owned())
    }

    fn post(&mut self, digit: usize, operand: &[u8]) {
        let (session, text) =
            operand.split_at(operand.iter().position(|byte| *byte == b' ').unwrap_or(operand.len()));
        let body: Vec<u8> =
            text.iter().skip(1).map(|byte| if *byte == b'|' { b'\n' } else { *byte }).collect();
        let head = format!(
            "POST /socket/longpoll?token={} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {}\r\n\r\n",
            self.token(session),
            body.len()
        );
        self.send(digit, &[head.as_bytes(), &body].concat());
    }

    /// What happens to the endpoint as a whole.
    fn run_for_all(&mut self, op: u8, operand: &[u8]) {
        let count = number(operand);
        match op {
            b'+' => self.wait(Duration::from_millis(count.unwrap_or(1).min(100_000) as u64)),
            b'm' => _ = self.endpoint.handle_mailbox(count.unwrap_or(usize::MAX), self.now),
            b'l' => _ = self.endpoint.flush(count.unwrap_or(usize::MAX), self.now, &mut self.wire),
            b'p' | b'P' => self.publish(operand, op == b'P'),
            b'j' => {
                let call = self.calls.pop_front();
                self.reply(call);
            }
            b'J' => {
                let call = self.calls.pop_back();
                self.reply(call);
            }
            b'y' => {
                let replies = std::mem::take(&mut *self.later.lock().unwrap_or_else(PoisonError::into_inner));
                replies.into_iter().for_each(|reply| _ = reply.ok(PayloadBuf::empty()));
            }
            b'v' => {
                let ticket = self.tickets.pop_front();
                self.decide(ticket, operand);
            }
            b'i' => {
                let ticket = self.tickets.pop_back();
                self.decide(ticket, operand);
            }
            b'n' => self.endpoint.set_unix_time(count.unwrap_or(0) as u64),
            b'z' => {
                let topic = format!("id:{}", String::from_utf8_lossy(operand));
                let _ = self.broker.broadcast(&topic, "disconnect", PayloadBuf::empty());
            }
            b'Z' => {
                let user = String::from_utf8_lossy(operand).into_owned();
                self.broker.deny(&[Denial::of_user(user, u64::MAX - 1, u64::MAX)].into());
            }
            b'o' => self.endpoint.drain(self.now),
            b'k' => self.forget_closed(),
            _ => {}
        }
    }

    fn publish(&mut self, operand: &[u8], counted: bool) {
        let text = String::from_utf8_lossy(operand);
        let (topic, size) = text.split_once(' ').unwrap_or((&text, ""));
        let payload = json!({ "body": "a".repeat(size.parse().unwrap_or(1).min(5000)) }).into();
        // The mailbox may be full.
        if !counted {
            let _ = self.broker.broadcast(topic, "e", payload);
            return;
        }
        let receipt = NonZeroU64::MAX.get() - self.receipts.len() as u64;
        let (receipt, tally) = (NonZeroU64::new(receipt), Tally::new(1, 1, || ()));
        let entry = Some(tally.entry(0));
        let outgoing = Outgoing { topic, event: "e", payload, tally: entry, receipt, published: None };
        if let (Ok(_), Some(receipt)) = (self.broker.publish_all(vec![outgoing]), receipt) {
            self.receipts.push((receipt, tally));
        }
    }

    fn decide(&mut self, ticket: Option<Ticket>, operand: &[u8]) {
        let Some(ticket) = ticket else { return };
        let text = String::from_utf8_lossy(operand);
        let mut words = text.split_whitespace();
        let verdict = words.next().ok_or(Refusal::UnknownUser).map(|user| {
            let (socket_id, expires) =
                (format!("id:{user}"), words.next().and_then(|word| word.parse().ok()));
            let parts = IdentityParts { user, socket_id: &socket_id, expires, ..IdentityParts::default() };
            Identity::new(parts)
        });
        self.endpoint.handle_verdict(ticket, verdict, self.now);
    }

    /// The connection that a digit stands for, accepted when it is first needed.
    fn connection(&mut self, digit: usize) -> Option<ConnectionId> {
        if self.connections[digit].is_none() {
            self.forget_closed();
            let id = self.endpoint.accept(std::net::Ipv4Addr::LOCALHOST.into(), self.now)?;
            let peer =
                Peer { received: Vec::new(), window: None, blocked: false, gone: false, shut_down: false };
            assert!(self.wire.0.insert(id.to_bits(), peer).is_none(), "an id is given out once");
            self.connections[digit] = Some(id);
        }
        self.connections[digit]
    }

    fn peer(&mut self, digit: usize, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.connections[digit].and_then(|id| self.wire.0.get_mut(&id.to_bits())) {
            change(peer);
        }
    }

    fn send(&mut self, digit: usize, bytes: &[u8]) {
        let Some(id) = self.connection(digit) else { return };
        for piece in bytes.to_vec().chunks_mut(self.pieces[digit]) {
            self.endpoint.handle_read(id, piece, self.now);
        }
    }

    fn send_frame(&mut self, digit: usize, first: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        write_masked(&mut bytes, first, false, payload);
        self.send(digit, &bytes);
    }

    fn set_window(&mut self, digit: usize, window: Option<usize>) {
        self.peer(digit, |peer| {
            peer.window = window;
            peer.blocked &= window == Some(0);
        });
        if let Some(id) = self.connections[digit].filter(|_| window != Some(0)) {
            self.endpoint.handle_writable(id);
        }
    }

    fn hang_up(&mut self, digit: usize, how: impl FnOnce(&mut Endpoint, ConnectionId, Instant)) {
        if let Some(id) = self.connections[digit] {
            how(&mut self.endpoint, id, self.now);
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.endpoint.handle_timeout(self.now);
        let due = self.endpoint.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "a deadline stays due after it was handled");
    }

    fn forget_closed(&mut self) {
        while let Some(id) = self.endpoint.poll_closed() {
            assert!(!self.endpoint.contains(id), "what is closed is forgotten");
            let peer = self.wire.0.remove(&id.to_bits()).expect("what is closed was open");
            check_received(&peer.received);
            self.connections.iter_mut().filter(|held| **held == Some(id)).for_each(|held| *held = None);
        }
    }

    /// All bytes that bodies may hold are free.
    fn check_nothing_is_held(&mut self) {
        if !self.serves {
            return;
        }
        self.pieces[0] = usize::MAX;
        let head = format!("POST /all HTTP/1.1\r\nHost: a\r\nContent-Length: {HELD_MAX}\r\n\r\n");
        if self.endpoint.is_draining() || self.connection(0).is_none() {
            return;
        }
        self.send(0, &[head.as_bytes(), &[b'x'; HELD_MAX]].concat());
        let call = self.endpoint.poll_call();
        assert!(call.is_some(), "what bodies have held was given back");
        self.hang_up(0, Endpoint::handle_error);
        self.reply(call);
        self.forget_closed();
    }

    /// Everybody hangs up, and time passes as long as there is anything to wait for.
    fn end(&mut self) {
        for digit in 0..3 {
            self.set_window(digit, None);
            self.hang_up(digit, Endpoint::handle_eof);
        }
        for _ in 0..1000 {
            while self.endpoint.handle_mailbox(usize::MAX, self.now)
                | self.endpoint.flush(usize::MAX, self.now, &mut self.wire)
            {}
            self.forget_closed();
            let Some(due) = self.endpoint.poll_timeout() else { break };
            self.wait(due.saturating_duration_since(self.now));
        }
        // Decisions that come too late concern nobody.
        for ticket in std::mem::take(&mut self.tickets) {
            self.decide(Some(ticket), b"late");
        }
        while !self.calls.is_empty() {
            let call = self.calls.pop_front();
            self.reply(call);
        }
        for (receipt, _) in &self.receipts {
            let counts = self.endpoint.receipts(*receipt).unwrap_or_default();
            assert_eq!((counts.open(), counts.behind), (0, 0), "nobody is left: {counts:?}");
        }
        self.check_nothing_is_held();
        let stats = self.endpoint.stats();
        assert!(self.endpoint.is_drained() && self.wire.0.is_empty());
        let left = (stats.connections, stats.web_sockets, stats.sessions, stats.topics);
        assert_eq!(left, (0, 0, 0, 0));
    }
}

fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// What a WebSocket's client has got are whole frames, each of them a message, up to the last one at most.
fn check_received(bytes: &[u8]) {
    if !bytes.starts_with(b"HTTP/1.1 101 ") {
        return;
    }
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return };
    let (frames, used) = read_frames(&bytes[head + 4..]);
    let ended = frames.iter().position(|frame| frame.opcode == 0x8);
    if let Some(at) = ended {
        assert_eq!((at + 1, head + 4 + used), (frames.len(), bytes.len()), "a close frame is the last");
    }
    for (at, _) in frames.iter().enumerate().filter(|(_, frame)| frame.opcode == 0x9) {
        let before = at.checked_sub(1).map(|before| frames[before].opcode);
        assert_eq!(before, Some(0x1), "a ping stands right behind its broadcast");
    }
    for frame in frames.iter().filter(|frame| frame.opcode == 0x1) {
        // A reply may repeat a topic that is too deep, or no text, for a `Value`.
        let text = std::str::from_utf8(&frame.payload).expect("a text frame is UTF-8");
        let fields = match text.starts_with('[') {
            true => serde_json::from_str::<Vec<&RawValue>>(text).map(|fields| fields.len()),
            false => serde_json::from_str::<BTreeMap<String, &RawValue>>(text).map(|fields| fields.len()),
        };
        assert!(matches!(fields, Ok(4 | 5)), "{text}");
    }
}
