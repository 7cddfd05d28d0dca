//! One shard of the server without its sockets: bytes, mail and time go in; bytes, closes and deadlines
//! come out.
//!
//! The caller feeds what happens to `accept` and `handle_*`, then lets [`flush`](Endpoint::flush) write and
//! [`poll_closed`](Endpoint::poll_closed) say which connections have ended. Nothing here fails because of a
//! peer: what a bad peer sends becomes an answer, a close and a counter.

mod admission;
mod apply;
mod calls;
mod channel_log;
mod direct;
mod dispatch;
mod ending;
mod flush;
mod http;
mod inspect;
mod longpoll;
mod posts;
mod receipts;
mod timers;
mod users;
mod web_socket;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::auth::connect::ConnectRequest;
use crate::auth::origin::{OriginCheck, OriginPolicy};
use crate::broker::{Broker, Inbox};
use crate::channel::{Action, Post, Router, SocketKey};
use crate::connection::{Bytes, Connection, Connections, Entry, State};
use crate::guard::Guarded;
use crate::http::Subprotocols;
use crate::hub::{Hub, StreamKey};
use crate::limits::Limits;
use crate::longpoll::TokenKey;
use crate::service::Service;
use crate::stats::{Stats, Timings};

pub use crate::connection::ConnectionId;
pub use admission::{Admission, Ticket};
pub use calls::CallTicket;
pub use flush::{Gone, OFFERS_MAX, Offer, Sink};
pub use http::Page;
pub use inspect::{ConnectionFilter, FoundConnection, FoundTopic, Holdings, Rank, Slice};
pub use receipts::ReceiptCounts;
pub use web_socket::{PlainMessage, PlainSocket};

pub(crate) use admission::LogBudget;
use apply::Work;
use calls::Calls;
use channel_log::{ChannelLog, Place};
use direct::Direct;
use receipts::Receipts;
use timers::Deadlines;
use users::Users;

/// What an endpoint serves.
#[derive(Clone)]
pub struct Config {
    /// The bounds in force.
    pub limits: Arc<Limits>,
    /// The channels.
    pub router: Arc<Router>,
    /// Where the socket is mounted; the WebSocket is at `<path>/websocket`, long-poll at `<path>/longpoll`.
    pub socket_path: Arc<str>,
    /// The subprotocols of WebSockets at that path.
    pub subprotocols: Subprotocols,
    /// Static pages.
    pub pages: Arc<[Page]>,
    /// A WebSocket without Phoenix on it: its path and its handler.
    pub plain: Option<(Arc<str>, Arc<dyn PlainSocket>)>,
    /// From which pages clients of the socket may come.
    pub origins: Arc<OriginCheck>,
    /// How clients of the socket are asked who they are. `None`: everybody may connect, and nobody is known.
    pub admission: Option<Admission>,
    /// What answers requests for other paths. `None`: there is nothing at them.
    pub service: Option<Arc<dyn Service>>,
}

impl Config {
    /// The channels of `router` at `/socket`, with default limits and no pages. Pages of this server's own origin
    /// may connect, and clients that name none.
    #[must_use]
    pub fn new(router: Router) -> Self {
        Self {
            limits: Arc::default(),
            router: Arc::new(router),
            socket_path: "/socket".into(),
            subprotocols: Subprotocols::default(),
            pages: Arc::new([]),
            plain: None,
            origins: Arc::new(OriginCheck { policy: OriginPolicy::Conn, require_origin: false }),
            admission: None,
            service: None,
        }
    }
}

/// A connection on its way to another shard of the node.
#[derive(Debug)]
pub struct HandedOver {
    /// What it was called where it comes from.
    pub id: ConnectionId,
    /// The shard that has its session.
    pub shard: u16,
    bytes: Vec<u8>,
    requests: usize,
    peer: IpAddr,
}

/// Bytes that are read at once however little may wait.
const READ_BYTES_MIN: usize = 512;

/// When a connection is to be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// At once, at most so many bytes: there is room for the answers.
    UpTo(usize),
    /// More than half of `outbox_bytes_max` waits to be written: after the next flush.
    AfterFlush,
    /// As much waits, and the peer takes nothing: after [`Endpoint::handle_writable`].
    WhenWritable,
}

/// Connections with which everything is checked after each event, in debug builds. The checks cost time in
/// proportion to what there is, so large tests go without.
#[cfg(debug_assertions)]
const CHECKED_MAX: usize = 64;

/// A queue that has held more gives its memory back when it is empty.
const QUEUE_KEPT_MAX: usize = 1024;

/// One shard's logic.
pub struct Endpoint {
    config: Config,
    shard: u16,
    /// Shards of the node.
    shards: u16,
    token_key: TokenKey,
    /// Sessions by the address that has opened them.
    session_peers: HashMap<IpAddr, usize>,
    connections: Connections,
    generation: u32,
    join_serial: u32,
    hub: Hub,
    inbox: Inbox,
    post: Arc<dyn Post>,
    deadlines: Deadlines,
    /// Connections that have taken fewer bytes than were offered.
    stalls: HashMap<u32, timers::Stall>,
    /// Frames for connections that wait for nothing else.
    direct: Direct,
    /// Connections with something to write besides their topics.
    queued: VecDeque<u32>,
    closed: VecDeque<ConnectionId>,
    handed_over: VecDeque<HandedOver>,
    /// Clients that somebody outside is to decide about.
    connects: VecDeque<(Ticket, ConnectRequest)>,
    /// Those for whom there was no room in the queue.
    refused_at_once: Vec<(ConnectionId, u32)>,
    /// Decisions that have not come yet.
    tickets_out: usize,
    ticket_serial: u32,
    refusal_log: LogBudget,
    channel_log: ChannelLog,
    wrong_path_log: LogBudget,
    users: Users,
    calls: Calls,
    receipts: Receipts,
    /// Connections with requests that came while a poll waited, which has been answered.
    resumed: Vec<ConnectionId>,
    work: VecDeque<Work>,
    /// Connections whose sockets failed while the flush walked over them.
    broken: Vec<u32>,
    /// What the flush offers at once.
    offers: Vec<Offer>,
    /// Messages are encoded here before they are framed.
    scratch: Vec<u8>,
    actions: Vec<Action>,
    draining: bool,
    /// The drain begins when the broadcasts up to this one are written; nothing is read until then.
    drain_after: Option<u64>,
    /// The last broadcast that was taken from the mailbox.
    taken: u64,
    stats: Stats,
    timings: Timings,
}

impl Endpoint {
    /// The shard number `shard` of the broker's node. `seed` is 256 random bits, the same for all shards of
    /// the node and for no other; the tokens of sessions are signed with it. `now` is the beginning of the
    /// shard's time.
    #[must_use]
    pub fn new(config: Config, broker: &Arc<Broker>, shard: u16, seed: &[u8; 32], now: Instant) -> Self {
        Self {
            config,
            shard,
            shards: broker.shards(),
            token_key: TokenKey::new(seed),
            session_peers: HashMap::new(),
            connections: Connections::new(),
            generation: 0,
            join_serial: 0,
            hub: Hub::default(),
            inbox: broker.inbox(shard),
            post: Arc::clone(broker) as Arc<dyn Post>,
            deadlines: Deadlines::new(now),
            stalls: HashMap::new(),
            direct: Direct::default(),
            queued: VecDeque::new(),
            closed: VecDeque::new(),
            handed_over: VecDeque::new(),
            connects: VecDeque::new(),
            refused_at_once: Vec::new(),
            tickets_out: 0,
            ticket_serial: 0,
            refusal_log: LogBudget::default(),
            channel_log: ChannelLog::default(),
            wrong_path_log: LogBudget::default(),
            users: Users::default(),
            calls: Calls::default(),
            receipts: Receipts::default(),
            resumed: Vec::new(),
            work: VecDeque::new(),
            broken: Vec::new(),
            offers: Vec::new(),
            scratch: Vec::new(),
            actions: Vec::new(),
            draining: false,
            drain_after: None,
            taken: 0,
            stats: Stats::default(),
            timings: Timings::default(),
        }
    }

    /// A peer has connected. `None` refuses it: the caller drops the connection.
    pub fn accept(&mut self, peer: IpAddr, now: Instant) -> Option<ConnectionId> {
        let id = self.insert(peer, 0, now)?;
        self.stats.accepted += 1;
        Some(id)
    }

    /// A connection comes from another shard of this node, with the bytes that were read there. `None` refuses
    /// it.
    pub fn adopt(&mut self, handed_over: &mut HandedOver, now: Instant) -> Option<ConnectionId> {
        let id = self.insert(handed_over.peer, handed_over.requests, now)?;
        self.handle_read(id, &mut handed_over.bytes, now);
        Some(id)
    }

    fn insert(&mut self, peer: IpAddr, requests: usize, now: Instant) -> Option<ConnectionId> {
        let full = self.connections.len() >= self.config.limits.connections_per_shard_max;
        if full || self.draining {
            self.stats.accept_refused += 1;
            return None;
        }
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let id = ConnectionId { slot: u32::try_from(self.connections.next_place()).ok()?, generation };
        self.connections.insert(Connection::http(id, peer, requests));
        self.deadlines.set(id.slot, now, self.config.limits.head_timeout);
        Some(id)
    }

    /// Bytes have come from the peer. They may be changed in place.
    pub fn handle_read(&mut self, id: ConnectionId, bytes: &mut [u8], now: Instant) {
        self.stats.bytes_in += bytes.len() as u64;
        // While a connection waits to be handed over, it may bring a whole request, but nothing beyond it.
        let most = self.config.limits.head_bytes_max.saturating_add(self.config.limits.body_bytes_max);
        let Some(connection) = self.connection(id) else { return };
        match &mut connection.state {
            State::Http(_) => self.read_http(id, bytes, now),
            State::WebSocket(_) => self.read_web_socket(id, bytes, now),
            State::HandingOver(hand_over) => {
                if hand_over.bytes.len() + bytes.len() > most {
                    self.free(id.slot, now);
                } else {
                    hand_over.bytes.extend_from_slice(bytes);
                }
            }
            State::Finishing { .. } | State::Lingering { .. } | State::Session(_) => {}
        }
        self.run_work(now);
        self.check_invariants();
    }

    /// The peer has ended its side of the connection.
    pub fn handle_eof(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connection(id) else { return };
        let waits = !connection.outbox.is_empty();
        connection.half_closed = true;
        match &mut connection.state {
            State::Session(_) => {}
            State::Http(http) if http.connecting.is_some() || http.calling.is_some() => {
                http.keep_alive = false;
            }
            // A client that has said all it wants to say may still read its answers.
            State::Http(_) | State::Finishing { .. } if waits => self.finish(id.slot, now),
            // The end may have been on its way when the answer to a poll was written. Then a reset comes, and
            // before it no next poll.
            State::Http(http) if http.answered.is_some() => self.finish(id.slot, now),
            State::Lingering { answered: Some(_) } => {}
            State::WebSocket(_) => {
                self.stats.closed_abruptly += 1;
                self.free(id.slot, now);
            }
            State::Http(_) | State::HandingOver(_) | State::Finishing { .. } | State::Lingering { .. } => {
                self.free(id.slot, now);
            }
        }
        self.run_work(now);
        self.check_invariants();
    }

    /// The connection has failed (a reset, or any other error of its socket).
    pub fn handle_error(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connection(id) else { return };
        connection.reset = true;
        if matches!(connection.state, State::WebSocket(_)) {
            self.stats.closed_abruptly += 1;
        }
        self.free(id.slot, now);
        self.run_work(now);
        self.check_invariants();
    }

    /// The peer takes bytes again.
    pub fn handle_writable(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        if std::mem::replace(&mut connection.blocked, false) {
            self.queue(id.slot);
        }
    }

    /// Takes at most `budget` pieces of mail; whether some may be left.
    pub fn handle_mailbox(&mut self, budget: usize, now: Instant) -> bool {
        let mut left = true;
        for _ in 0..budget {
            if self.must_write_first() || self.drain_after.is_some_and(|last| self.taken >= last) {
                break;
            }
            let Some(mail) = self.inbox.next() else {
                left = false;
                break;
            };
            self.deliver_mail(mail, now);
            self.run_work(now);
        }
        self.check_invariants();
        left || !self.work.is_empty()
    }

    /// Whether so much waits to be written that the caller should flush before it reads on. This is what
    /// keeps a publisher that is faster than the fan-out from making healthy readers look slow.
    #[must_use]
    pub fn is_backlogged(&self) -> bool {
        self.drain_after.is_some() || self.must_write_first()
    }

    fn must_write_first(&self) -> bool {
        self.hub.backlogged && !self.hub.is_clean()
    }

    /// When the caller may read on from a connection, and how much. A peer that does not take what it has asked for is
    /// not asked what else it wants, so what waits for it grows by what others send it alone.
    #[must_use]
    pub fn reading(&self, id: ConnectionId) -> Reading {
        let most = self.config.limits.outbox_bytes_max;
        let (held, blocked) =
            self.find(id).map_or((0, false), |connection| (connection.outbox.held(), connection.blocked));
        match held > most / 2 {
            true if blocked => Reading::WhenWritable,
            true => Reading::AfterFlush,
            // The shortest requests have answers of some three times their bytes, as the outbox counts them.
            false => Reading::UpTo(((most - held) / 4).max(READ_BYTES_MIN)),
        }
    }

    /// A connection that has ended: the caller closes its socket. To be called until `None` after each batch
    /// of events, before the next `accept`.
    pub fn poll_closed(&mut self) -> Option<ConnectionId> {
        let closed = self.closed.pop_front();
        if closed.is_none() && self.closed.capacity() > QUEUE_KEPT_MAX {
            self.closed = VecDeque::new();
        }
        closed
    }

    /// A connection that another shard of the node is to [`adopt`](Self::adopt): the caller takes its socket
    /// there. To be called until `None` after each flush.
    pub fn poll_handed_over(&mut self) -> Option<HandedOver> {
        self.handed_over.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadlines.next(!self.stalls.is_empty());
        [deadline, self.users.next_check(self.deadlines.epoch())].into_iter().flatten().min()
    }

    /// Whether the id still names a connection.
    #[must_use]
    pub fn contains(&self, id: ConnectionId) -> bool {
        self.find(id).is_some()
    }

    /// Notes that the caller can't accept for a while, since it has no descriptor left.
    pub fn count_accept_pause(&mut self) {
        self.stats.accept_paused += 1;
    }

    /// Begins to end all connections, once what was broadcast before is written: WebSockets with close code
    /// 1012, idle HTTP connections at once, those that wait for the service with its answer. No connection is
    /// accepted any more, and a client that is behind by more than `outbox_bytes_max` is closed without the rest.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        self.drain_after = Some(self.inbox.broker().sequence());
        self.drain_when_walked(now);
        self.run_work(now);
        self.check_invariants();
    }

    /// Whether all connections have ended.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.connections.is_empty() && self.closed.is_empty() && self.handed_over.is_empty()
    }

    /// What has been counted, and what there is now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            connections: self.connections.len() as u64 - self.stats.sessions,
            topics: self.hub.topic_count() as u64,
            broadcasts_refused: if self.shard == 0 { self.inbox.broker().refused() } else { 0 },
            ..self.stats
        }
    }

    /// Memory held by what waits for one connection alone, as compared with the limit `outbox_bytes_max`.
    #[must_use]
    pub fn outbox_bytes(&self, id: ConnectionId) -> usize {
        self.find(id).map_or(0, |connection| connection.outbox.held())
    }

    /// Bytes of broadcasts that the topics' logs hold for subscribers that have not got them.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.hub.log_bytes()
    }

    /// Gives memory back after a peak.
    fn shrink(&mut self) {
        self.deadlines.shrink(self.connections.capacity());
        self.users.shrink(self.connections.capacity());
        if self.queued.is_empty() && self.queued.capacity() > QUEUE_KEPT_MAX {
            self.queued = VecDeque::new();
        }
        if self.connections.is_empty() {
            self.deadlines.clear();
            self.stalls = HashMap::new();
            self.direct = Direct::default();
            self.queued = VecDeque::new();
            self.scratch = Vec::new();
            self.broken = Vec::new();
            self.offers = Vec::new();
            self.session_peers = HashMap::new();
            self.users.clear();
        }
    }

    fn find(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(id.slot()).filter(|connection| connection.generation == id.generation)
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(id.slot()).filter(|connection| connection.generation == id.generation)
    }

    fn by_slot(&mut self, slot: u32) -> Option<&mut Connection> {
        self.connections.get_mut(slot as usize)
    }

    fn id(&self, slot: u32) -> Option<ConnectionId> {
        let generation = self.connections.get(slot as usize)?.generation;
        Some(ConnectionId { slot, generation })
    }

    fn socket_key(&self, id: ConnectionId) -> SocketKey {
        SocketKey { shard: self.shard, slot: id.slot, generation: id.generation }
    }

    /// Has the connection flushed at the end of the turn, unless its peer takes nothing.
    fn queue(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot as usize)
            && !connection.blocked
            && !std::mem::replace(&mut connection.queued, true)
        {
            self.queued.push_back(slot);
        }
    }

    /// Queues bytes for one connection behind all that its topics hold for it so far.
    fn queue_bytes(&mut self, slot: u32, bytes: Bytes) {
        self.mark_topics(slot);
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        connection.outbox.push(Entry::Frame(bytes));
        self.queue(slot);
    }

    /// Notes in a connection's outbox how far its topics have got, so that what is queued next comes behind it.
    fn mark_topics(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        // The state alone is looked into, since the outbox is changed meanwhile.
        let socket = match &connection.state {
            State::WebSocket(web_socket) => &web_socket.socket,
            State::Session(session) => &session.socket,
            _ => return,
        };
        let form = socket.form;
        for join in socket.joins.iter() {
            let key = StreamKey { topic: join.topic, form };
            let Some(stream) = self.hub.stream_ref(key) else { continue };
            let position = stream.log.end();
            if stream.cursor(join.index) < position {
                connection.outbox.mark(join.topic, position);
            }
        }
    }

    /// Counts and logs that the application's code has failed.
    fn note_crash(&mut self, place: &Place<'_>, failure: &str, now: Instant) {
        self.stats.channel_crashes += 1;
        self.channel_log.crashed(place, failure, now);
    }

    /// Whether a connection is not read from until its peer takes bytes again.
    fn is_paused(&self, slot: u32) -> bool {
        self.id(slot).is_some_and(|id| self.reading(id) == Reading::WhenWritable)
    }

    /// Everything that must hold between two events, in debug builds.
    fn check_invariants(&self) {
        #[cfg(debug_assertions)]
        self.assert_invariants();
    }

    #[cfg(debug_assertions)]
    fn assert_invariants(&self) {
        if self.connections.len() > CHECKED_MAX {
            return;
        }
        self.hub.check_invariants();
        let (mut joins, mut ids) = (0, 0);
        for (slot, connection) in self.connections.iter() {
            let waits = !connection.outbox.is_empty();
            assert!(
                !waits || connection.queued || connection.blocked,
                "connection {slot} has bytes that nobody will write"
            );
            let Some(socket) = connection.socket() else { continue };
            let closing = matches!(&connection.state, State::WebSocket(web_socket) if web_socket.closing);
            joins += socket.joins.len();
            let identity = socket.identity.as_ref().filter(|_| {
                self.is_open(ConnectionId {
                    slot: u32::try_from(slot).expect("slots are 32 bits wide"),
                    generation: connection.generation,
                })
            });
            ids += usize::from(identity.is_some_and(|identity| !identity.socket_id().is_empty()));
            assert!(!closing || socket.joins.len() == 0, "connection {slot} is joined while closing");
            // Besides what was checked when it was queued: notices of gaps, marks, and pongs that have grown.
            let limits = &self.config.limits;
            let held_max =
                limits.outbox_bytes_max + 512 * (1 + socket.joins.len()) + 128 * limits.pongs_waiting_max;
            assert!(
                closing || connection.outbox.held() <= held_max,
                "{} bytes wait for {slot}",
                connection.outbox.held()
            );
            for join in socket.joins.iter() {
                let key = StreamKey { topic: join.topic, form: socket.form };
                let stream = self.hub.stream_ref(key).expect("a join has its stream");
                let subscriber = stream.subscribers[join.index as usize];
                assert_eq!(subscriber.slot as usize, slot, "a subscription leads back to its connection");
            }
        }
        for slot in self.stalls.keys() {
            assert!(self.connections.contains(*slot as usize), "a connection that is gone is behind");
        }
        if self.connections.is_empty() {
            assert!(self.stalls.is_empty() && self.queued.is_empty(), "an empty shard has nothing to write");
        }
        assert_eq!(joins, self.hub.subscriber_count(), "every subscription belongs to a join");
        assert_eq!(ids, self.users.len(), "every socket that is open can be found by its id");
    }
}

/// The handlers that the application has given are dropped with the last shard. The channels are guarded by the router.
impl Drop for Endpoint {
    fn drop(&mut self) {
        let Config { plain, admission, service, .. } = &mut self.config;
        drop((
            plain.take().map(Guarded::new),
            admission.take().map(Guarded::new),
            service.take().map(Guarded::new),
        ));
    }
}
