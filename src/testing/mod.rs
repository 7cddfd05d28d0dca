//! A server in memory, on virtual time, for tests of channels (Phoenix: `Phoenix.ChannelTest`).
//!
//! [`TestServer`] runs the very endpoints that the event loop runs; only the sockets are pretended. Nothing
//! waits: each call returns when everything it has caused is done, and time passes when a test says so.
//!
//! ```
//! use hailer::channel::Router;
//! use hailer::notification::Notification;
//! use hailer::testing::TestServer;
//! use serde_json::json;
//!
//! let mut server = TestServer::new(Router::new().channel("room:*".parse()?, Notification::default()));
//! let (alice, bob) = (server.connect(), server.connect());
//! assert_eq!(server.join(alice, "room:lobby", json!({})), json!({"status": "ok", "response": {}}));
//! server.join(bob, "room:lobby", json!({}));
//!
//! server.push(alice, "room:lobby", "new_msg", json!({"body": "hi"}));
//! let received = server.received(bob);
//! assert_eq!(received[0].event, "new_msg");
//! assert_eq!(received[0].payload, json!({"body": "hi"}));
//! # Ok::<(), hailer::channel::PatternError>(())
//! ```

mod calls;
mod longpoll;
mod outside;
mod shard;
mod wire;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::auth::UnixTime;
use crate::auth::connect::{Answer, Connect, ConnectRequest, Verdict};
use crate::broker::Broker;
use crate::channel::Router;
use crate::endpoint::{Config, ConnectionId, Endpoint, HandedOver, Ticket};
use crate::limits::Limits;
use crate::phoenix::{Serializer, events};
use crate::service::Service;
use crate::stats::Stats;

pub use crate::ws::write_masked;
use calls::HeldCall;
use longpoll::LongPoll;
use shard::Shard;
use wire::Peer;
pub use wire::{Frame, read_frames, upgrade_request};

/// Turns after which a loop that is still busy is taken to be busy for ever.
const TURNS_MAX: usize = 1_000_000;

/// What a node's random bits are here: nothing is secret in memory.
const SEED: [u8; 32] = [7; 32];
/// Where all clients come from.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What the wall clock shows when a server begins.
const BEGINNING: UnixTime = 1_800_000_000;

/// A client of a [`TestServer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(usize);

/// A message that a client has received.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// `null` where the message belongs to no join.
    pub join_ref: Value,
    /// `null` where the message answers nothing.
    pub message_ref: Value,
    /// The topic.
    pub topic: Value,
    /// The event.
    pub event: String,
    /// The payload; that of a binary message is the array of its bytes.
    pub payload: Value,
}

/// How a connection has ended, as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The code of the server's close frame; `None` if the connection ended without one.
    pub code: Option<u16>,
    /// The reason in the close frame.
    pub reason: String,
}

/// What a client connects with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// Parameters of the query, as phoenix.js writes its `params`: `token=…`. Without `vsn`.
    pub query: &'a str,
    /// Header lines, each with its line end.
    pub headers: &'a str,
}

/// Decisions that the shards have not been told.
type Verdicts = Arc<Mutex<Vec<(usize, Ticket, Verdict)>>>;

struct Client {
    query: String,
    headers: String,
    shard: usize,
    peer: usize,
    serializer: Serializer,
    next_ref: u64,
    inbox: Vec<Received>,
    closed: Option<Closed>,
    long_poll: Option<LongPoll>,
}

/// One node in memory.
pub struct TestServer {
    shards: Vec<Shard>,
    limits: Arc<Limits>,
    broker: Arc<Broker>,
    clients: Vec<Client>,
    begun: Instant,
    now: Instant,
    /// The wall clock, less the time since the server began.
    clock: UnixTime,
    path: String,
    connect: Option<Arc<dyn Connect>>,
    /// Decisions wait until the test lets them be made.
    holds_connects: bool,
    connects: Vec<(usize, Ticket, ConnectRequest)>,
    verdicts: Verdicts,
    service: Option<Arc<dyn Service>>,
    /// Requests to the service wait until the test has them answered.
    holds_calls: bool,
    calls: Vec<HeldCall>,
}

impl TestServer {
    /// A server of one shard with default limits.
    #[must_use]
    pub fn new(router: Router) -> Self {
        Self::with_config(&Config::new(router), 1)
    }

    /// A server of several shards; clients are spread over them in turn.
    #[must_use]
    pub fn with_config(config: &Config, shards: u16) -> Self {
        // An `Instant` can't be made from nothing; which one it is makes no difference.
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        let wakes: Vec<_> = (0..shards).map(|_| shard::Wake::default()).collect();
        let broker = Broker::new(&config.limits, wakes.iter().map(shard::Wake::caller).collect());
        let shards = (0..shards).zip(wakes).map(|(number, wake)| {
            Shard::new(Endpoint::new(config.clone(), &broker, number, &SEED, now), wake, &config.limits)
        });
        Self {
            shards: shards.collect(),
            limits: Arc::clone(&config.limits),
            broker,
            clients: Vec::new(),
            begun: now,
            now,
            clock: BEGINNING,
            path: format!("{}/websocket", config.socket_path),
            connect: config.admission.as_ref().map(|admission| Arc::clone(&admission.connect)),
            holds_connects: false,
            connects: Vec::new(),
            verdicts: Verdicts::default(),
            service: config.service.clone(),
            holds_calls: false,
            calls: Vec::new(),
        }
    }

    /// What the wall clock shows.
    #[must_use]
    pub fn unix_time(&self) -> UnixTime {
        self.clock + (self.now - self.begun).as_secs()
    }

    /// Sets the wall clock, forward or back. No time passes.
    pub fn set_unix_time(&mut self, unix: UnixTime) {
        self.clock = unix.saturating_sub((self.now - self.begun).as_secs());
        self.settle();
    }

    /// Has clients that connect wait for their decisions, or lets the decisions be made.
    pub fn hold_connects(&mut self, hold: bool) {
        self.holds_connects = hold;
        self.settle();
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The bounds in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Lets time pass.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let now = self.now;
            let is_due = |shard: &&mut Shard| shard.endpoint.poll_timeout().is_some_and(|at| at <= now);
            self.shards.iter_mut().filter(is_due).for_each(|shard| shard.begin(now));
            self.settle();
            if self.next_deadline().is_some_and(|next| next <= due) {
                // A deadline that stays due would hold the clock for ever.
                break;
            }
        }
        self.now = end;
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.shards.iter().filter_map(|shard| shard.endpoint.poll_timeout()).min()
    }

    /// Opens a connection that has sent nothing yet.
    ///
    /// # Panics
    /// The server refuses it.
    pub fn open(&mut self) -> ClientId {
        self.try_open().expect("the server accepts")
    }

    /// Opens a connection, unless the server refuses it.
    pub fn try_open(&mut self) -> Option<ClientId> {
        let number = self.clients.len() % self.shards.len();
        let shard = &mut self.shards[number];
        let id = shard.endpoint.accept(ADDRESS, self.now)?;
        let peer = shard.wire.open(id);
        self.clients.push(Client {
            query: String::new(),
            headers: String::new(),
            shard: number,
            peer,
            serializer: Serializer::V2,
            next_ref: 1,
            inbox: Vec::new(),
            closed: None,
            long_poll: None,
        });
        Some(ClientId(self.clients.len() - 1))
    }

    /// Opens a WebSocket with serializer V2.
    pub fn connect(&mut self) -> ClientId {
        self.connect_with(Serializer::V2)
    }

    /// Opens a WebSocket.
    ///
    /// # Panics
    /// The server refuses the upgrade.
    pub fn connect_with(&mut self, serializer: Serializer) -> ClientId {
        let client = self.begin_connect(serializer, Credentials::default());
        self.finish_connect(client).unwrap_or_else(|answer| panic!("refused: {answer}"));
        client
    }

    /// Asks for a WebSocket. What the server answers is looked at by
    /// [`finish_connect`](Self::finish_connect).
    pub fn begin_connect(&mut self, serializer: Serializer, credentials: Credentials<'_>) -> ClientId {
        let client = self.open();
        self.clients[client.0].serializer = serializer;
        let target = format!("{}?{}", self.path, query(credentials.query, serializer));
        let request =
            upgrade_request(&target).replace("\r\n\r\n", &format!("\r\n{}\r\n", credentials.headers));
        self.send_bytes(client, request.as_bytes());
        client
    }

    /// Looks at the answer to an upgrade.
    ///
    /// # Errors
    /// The answer, if it is another than 101, or none has come.
    pub fn finish_connect(&mut self, client: ClientId) -> Result<(), String> {
        let received = &mut self.peer_mut(client).received;
        let end = received.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        if received.starts_with(b"HTTP/1.1 101 ")
            && let Some(end) = end
        {
            received.drain(..end);
            return Ok(());
        }
        Err(String::from_utf8_lossy(received).into_owned())
    }

    /// Sends raw bytes.
    pub fn send_bytes(&mut self, client: ClientId, bytes: &[u8]) {
        self.feed(client, bytes);
        self.settle();
    }

    /// Sends raw bytes, which are read but not acted on any further: what follows comes in the same turn.
    pub fn feed(&mut self, client: ClientId, bytes: &[u8]) {
        let id = self.peer(client).id;
        let now = self.now;
        let shard = &mut self.shards[self.clients[client.0].shard];
        shard.begin(now);
        shard.feed(id, bytes, now);
    }

    /// Takes the raw bytes that have come and have not been read as messages.
    pub fn take_bytes(&mut self, client: ClientId) -> Vec<u8> {
        std::mem::take(&mut self.peer_mut(client).received)
    }

    /// Sends a text message of any content.
    pub fn send_text(&mut self, client: ClientId, text: &str) {
        if self.token(client).is_some() {
            return self.post_text(client, text);
        }
        let mut bytes = Vec::new();
        write_masked(&mut bytes, 0x1, true, text.as_bytes());
        self.send_bytes(client, &bytes);
    }

    /// Sends a binary message of any content.
    pub fn send_binary(&mut self, client: ClientId, data: &[u8]) {
        if self.token(client).is_some() {
            return self.post_binary(client, data);
        }
        let mut bytes = Vec::new();
        write_masked(&mut bytes, 0x2, true, data);
        self.send_bytes(client, &bytes);
    }

    /// Sends a message with these refs, in the form of the client's serializer.
    // A payload is nearly always made in the call, with `json!`.
    #[allow(clippy::needless_pass_by_value)]
    pub fn send(
        &mut self,
        client: ClientId,
        join_ref: &Value,
        message_ref: &Value,
        topic: &str,
        event: &str,
        payload: &Value,
    ) {
        let message = match self.clients[client.0].serializer {
            Serializer::V2 => json!([join_ref, message_ref, topic, event, payload]),
            Serializer::V1 => {
                let mut message =
                    json!({"topic": topic, "event": event, "payload": payload, "ref": message_ref});
                if !join_ref.is_null() {
                    message["join_ref"] = join_ref.clone();
                }
                message
            }
        };
        self.send_text(client, &message.to_string());
    }

    /// Sends an event with the next ref, and returns the ref.
    #[allow(clippy::needless_pass_by_value)]
    pub fn push(&mut self, client: ClientId, topic: &str, event: &str, payload: Value) -> Value {
        let message_ref = self.next_ref(client);
        self.send(client, &Value::Null, &message_ref, topic, event, &payload);
        message_ref
    }

    /// Joins a topic; the payload of the reply. What came besides stays to be [`received`](Self::received).
    ///
    /// # Panics
    /// There was no reply.
    #[allow(clippy::needless_pass_by_value)]
    pub fn join(&mut self, client: ClientId, topic: &str, payload: Value) -> Value {
        let message_ref = self.next_ref(client);
        let join_ref = match self.clients[client.0].serializer {
            Serializer::V1 => Value::Null,
            Serializer::V2 => message_ref.clone(),
        };
        self.send(client, &join_ref, &message_ref, topic, events::JOIN, &payload);
        self.take_reply(client, &message_ref).expect("a join is answered")
    }

    /// Leaves a topic; the payload of the reply.
    ///
    /// # Panics
    /// There was no reply.
    pub fn leave(&mut self, client: ClientId, topic: &str) -> Value {
        let message_ref = self.push(client, topic, events::LEAVE, json!({}));
        self.take_reply(client, &message_ref).expect("a leave is answered")
    }

    /// Takes the payload of the reply to a message, if it has come.
    pub fn take_reply(&mut self, client: ClientId, message_ref: &Value) -> Option<Value> {
        self.read(client);
        let inbox = &mut self.clients[client.0].inbox;
        let at = inbox
            .iter()
            .position(|message| message.event == events::REPLY && message.message_ref == *message_ref)?;
        Some(inbox.remove(at).payload)
    }

    /// Takes what has come, in order.
    pub fn received(&mut self, client: ClientId) -> Vec<Received> {
        self.read(client);
        std::mem::take(&mut self.clients[client.0].inbox)
    }

    /// Takes what has come of one event, in order; the rest stays.
    pub fn received_event(&mut self, client: ClientId, event: &str) -> Vec<Value> {
        self.read(client);
        let inbox = &mut self.clients[client.0].inbox;
        let (wanted, rest) = std::mem::take(inbox).into_iter().partition::<Vec<_>, _>(|m| m.event == event);
        *inbox = rest;
        wanted.into_iter().map(|message| message.payload).collect()
    }

    /// How the connection has ended; `None` while it is open. A close frame that the client has not answered
    /// counts as an end.
    pub fn closed(&mut self, client: ClientId) -> Option<Closed> {
        self.read(client);
        if self.clients[client.0].closed.is_none() && self.is_gone(client) {
            return Some(Closed { code: None, reason: String::new() });
        }
        self.clients[client.0].closed.clone()
    }

    /// Whether the server has given the connection up altogether.
    #[must_use]
    pub fn is_gone(&self, client: ClientId) -> bool {
        self.peer(client).gone
    }

    /// Ends the connection from the client's side without a close frame.
    pub fn hang_up(&mut self, client: ClientId) {
        let id = self.peer(client).id;
        let now = self.now;
        let shard = &mut self.shards[self.clients[client.0].shard];
        shard.begin(now);
        shard.endpoint.handle_eof(id, now);
        self.settle();
    }

    /// Breaks the connection, and has the server learn of it at once.
    pub fn reset(&mut self, client: ClientId) {
        self.cut(client);
        let id = self.peer(client).id;
        let now = self.now;
        let shard = &mut self.shards[self.clients[client.0].shard];
        shard.begin(now);
        shard.endpoint.handle_error(id, now);
        self.settle();
    }

    /// Breaks the connection, as a reset does. The server learns of it when it next writes.
    pub fn cut(&mut self, client: ClientId) {
        self.peer_mut(client).cut = true;
    }

    /// Lets the client take so many bytes more, then none; `None` lifts the bound.
    pub fn set_window(&mut self, client: ClientId, bytes: Option<usize>) {
        self.peer_mut(client).window = bytes;
        let id = self.peer(client).id;
        let now = self.now;
        let shard = &mut self.shards[self.clients[client.0].shard];
        if bytes != Some(0) {
            shard.endpoint.handle_writable(id);
            shard.begin(now);
        }
        self.settle();
    }

    /// Lets the client take so many bytes in each turn, as one with a good connection does: each of them fits
    /// into the kernel's buffers, and has left them by the next turn.
    pub fn set_pace(&mut self, client: ClientId, bytes: usize) {
        let peer = self.peer_mut(client);
        (peer.pace, peer.window) = (Some(bytes), Some(bytes));
    }

    /// Begins to end all connections, as a signal does.
    pub fn drain(&mut self) {
        for shard in &mut self.shards {
            shard.endpoint.drain(self.now);
            shard.begin(self.now);
        }
        self.settle();
    }

    /// Does everything that can be done without time passing, such as what other threads have sent to
    /// channels.
    ///
    /// # Panics
    /// A loop never sleeps.
    pub fn settle(&mut self) {
        let woke_up = (0..TURNS_MAX).all(|_| self.turn());
        assert!(!woke_up, "after {TURNS_MAX} turns a loop still finds something to do");
    }

    /// One turn of every loop that would not sleep; whether there is more to do. A turn does no more than
    /// the limits' budgets (`mail_per_turn`, `writes_per_turn`) allow.
    pub fn turn(&mut self) -> bool {
        let (now, unix) = (self.now, self.unix_time());
        self.shards.iter_mut().for_each(|shard| shard.endpoint.set_unix_time(unix));
        self.shards.iter_mut().for_each(|shard| shard.end(now));
        self.decide();
        self.serve();
        for shard in 0..self.shards.len() {
            while let Some(handed_over) = self.shards[shard].endpoint.poll_handed_over() {
                self.hand_over(shard, handed_over);
            }
        }
        self.shards.iter().any(Shard::is_awake)
    }

    /// Has it decided who may connect.
    fn decide(&mut self) {
        for (number, shard) in self.shards.iter_mut().enumerate() {
            while let Some((ticket, request)) = shard.endpoint.poll_connect() {
                self.connects.push((number, ticket, request));
            }
        }
        if let Some(connect) = self.connect.clone().filter(|_| !self.holds_connects) {
            for (shard, ticket, request) in std::mem::take(&mut self.connects) {
                let verdicts = Arc::clone(&self.verdicts);
                let answer = Answer::new(move |verdict| {
                    let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
                    verdicts.push((shard, ticket, verdict));
                });
                connect.connect(request, self.unix_time(), answer);
            }
        }
        let verdicts = std::mem::take(&mut *self.verdicts.lock().unwrap_or_else(PoisonError::into_inner));
        for (shard, ticket, verdict) in verdicts {
            let shard = &mut self.shards[shard];
            shard.begin(self.now);
            shard.endpoint.handle_verdict(ticket, verdict, self.now);
            shard.stir();
        }
    }

    /// Takes a connection to the shard that has its session.
    fn hand_over(&mut self, from: usize, mut handed_over: HandedOver) {
        let (now, to) = (self.now, usize::from(handed_over.shard));
        let Some((old, peer)) = self.shards[from].wire.take(handed_over.id) else { return };
        let shard = &mut self.shards[to];
        shard.begin(now);
        shard.stir();
        let Some(id) = shard.endpoint.adopt(&mut handed_over, now) else { return };
        let new = shard.wire.adopt(id, peer);
        for client in &mut self.clients {
            if (client.shard, client.peer) == (from, old) {
                (client.shard, client.peer) = (to, new);
            }
        }
    }

    /// The counters of all shards, added up.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        self.shards.iter().for_each(|shard| sum += shard.endpoint.stats());
        sum
    }

    /// The endpoint of a shard, to be looked into.
    ///
    /// # Panics
    /// There are fewer shards.
    #[must_use]
    pub fn endpoint(&self, shard: usize) -> &Endpoint {
        &self.shards[shard].endpoint
    }

    /// Closes one socket of a shard; whether it was open.
    ///
    /// # Panics
    /// There are fewer shards.
    pub fn disconnect_one(&mut self, shard: usize, id: ConnectionId, reconnect: bool) -> bool {
        let now = self.now;
        self.shards[shard].begin(now);
        let was_open = self.shards[shard].endpoint.disconnect_one(id, reconnect, now);
        self.settle();
        was_open
    }

    /// Memory held by what waits for this client alone, as compared with the limit `outbox_bytes_max`.
    #[must_use]
    pub fn outbox_bytes(&self, client: ClientId) -> usize {
        let shard = &self.shards[self.clients[client.0].shard];
        shard.endpoint.outbox_bytes(self.peer(client).id)
    }

    /// Bytes of broadcasts that the topics' logs hold for readers that have not got them.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.endpoint.log_bytes()).sum()
    }

    /// How often the server has written to the client's socket.
    #[must_use]
    pub fn writes(&self, client: ClientId) -> usize {
        self.peer(client).writes
    }

    fn next_ref(&mut self, client: ClientId) -> Value {
        let next_ref = &mut self.clients[client.0].next_ref;
        *next_ref += 1;
        json!((*next_ref - 1).to_string())
    }

    fn peer(&self, client: ClientId) -> &Peer {
        let client = &self.clients[client.0];
        self.shards[client.shard].wire.peer(client.peer)
    }

    fn peer_mut(&mut self, client: ClientId) -> &mut Peer {
        let client = &self.clients[client.0];
        self.shards[client.shard].wire.peer_mut(client.peer)
    }

    /// Takes the whole frames that have come and have not been read as messages. What comes by long-poll is
    /// shown as the frames that would carry it on a WebSocket.
    ///
    /// # Panics
    /// The bytes are no frames of this server.
    pub fn take_frames(&mut self, client: ClientId) -> Vec<Frame> {
        if self.token(client).is_some() {
            return self.read_answers(client);
        }
        let bytes = std::mem::take(&mut self.peer_mut(client).received);
        let (frames, used) = read_frames(&bytes);
        self.peer_mut(client).received = bytes[used..].to_vec();
        frames
    }

    /// Reads what has come. Pings are answered, as a browser does it when it reads them.
    fn read(&mut self, client: ClientId) {
        let mut pongs = Vec::new();
        for frame in self.take_frames(client) {
            let client = &mut self.clients[client.0];
            match frame.opcode {
                0x1 | 0x2 => client.inbox.push(wire::read_message(client.serializer, &frame)),
                0x8 if client.closed.is_none() => client.closed = Some(wire::read_close(&frame)),
                0x9 => write_masked(&mut pongs, 0xa, true, &frame.payload),
                _ => {}
            }
        }
        if !pongs.is_empty() {
            self.send_bytes(client, &pongs);
        }
    }

    /// The endpoint's own id of a client's connection.
    #[must_use]
    pub fn connection_id(&self, client: ClientId) -> ConnectionId {
        self.peer(client).id
    }
}

/// The parameters that phoenix.js writes: the user's first, then `vsn`.
fn query(own: &str, serializer: Serializer) -> String {
    let vsn = match serializer {
        Serializer::V1 => "1.0.0",
        Serializer::V2 => "2.0.0",
    };
    if own.is_empty() { format!("vsn={vsn}") } else { format!("{own}&vsn={vsn}") }
}
