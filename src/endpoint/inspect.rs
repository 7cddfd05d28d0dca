//! Looking into a shard: who is connected, which topics there are, what is held for whom.
//!
//! Whatever grows with the number of connections or topics is looked at in slices, so that a caller with a loop to
//! run stops it for a moment only. A place in a walk is the number of a place in a table, which a connection keeps
//! as long as it is open: a walk finds each of those that are there from its beginning to its end exactly once,
//! whoever comes and goes meanwhile.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Endpoint;
use crate::auth::Identity;
use crate::auth::connect::Transport;
use crate::connection::{Connection, ConnectionId, State};
use crate::fault::Fault;
use crate::hub::{Topic, TopicId};
use crate::prepared::WireForm;
use crate::stats::Timings;

/// Names of topics that are told of one connection.
const TOPICS_TOLD_MAX: usize = 20;

/// A topic with more subscribers than this is looked for in the table of connections: there, slices keep their size.
const SUBSCRIBERS_LISTED_MAX: usize = 64 * 1024;

/// Which connections are looked for. The default is all of them.
#[derive(Debug, Clone, Default)]
pub struct ConnectionFilter {
    /// Those of this user.
    pub user: Option<Box<str>>,
    /// Those with this socket id, which are found without a look at the others.
    pub socket_id: Option<Box<str>>,
    /// Those that have joined this topic.
    pub topic: Option<Box<str>>,
    /// Those on this transport.
    pub transport: Option<Transport>,
}

/// What connections are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// How long they have been connected, in seconds.
    Age,
    /// How many bytes wait for them.
    Waiting,
}

/// Part of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice<T> {
    /// What was found in it.
    pub found: T,
    /// Where the next slice begins; `None` after the last one.
    pub next: Option<usize>,
}

/// An open socket.
#[derive(Debug, Clone)]
pub struct FoundConnection {
    /// Names it in this shard.
    pub id: ConnectionId,
    /// How it is connected.
    pub transport: Transport,
    /// The user behind it.
    pub identity: Option<Arc<Identity>>,
    /// Where a session on long-poll was opened from. `None` for a WebSocket, whose stream knows it.
    pub peer: Option<IpAddr>,
    /// When it was opened, to the second.
    pub since: Instant,
    /// The names of its topics, at most 20.
    pub topics: Vec<Arc<str>>,
    /// The number of its topics.
    pub topic_count: usize,
    /// Bytes that it has still to be sent, or that it is not yet known to have.
    pub waiting_bytes: usize,
}

/// A topic with subscribers in this shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Its subscribers on WebSockets.
    pub web_sockets: usize,
    /// Its subscribers on long-poll.
    pub sessions: usize,
    /// Of all these, those that have not been given everything yet.
    pub behind: usize,
}

/// What a shard holds for its clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Bytes that wait for one connection each.
    pub outbox_bytes: usize,
    /// Bytes of broadcasts in the logs of topics.
    pub log_bytes: usize,
    /// Subscriptions: a socket that has joined two topics counts twice.
    pub subscriptions: usize,
    /// Of these, those that have not been given everything yet.
    pub behind: usize,
}

impl std::ops::AddAssign for Holdings {
    fn add_assign(&mut self, other: Self) {
        self.outbox_bytes += other.outbox_bytes;
        self.log_bytes += other.log_bytes;
        self.subscriptions += other.subscriptions;
        self.behind += other.behind;
    }
}

impl Endpoint {
    /// Looks at the connections in at most `scan_max` places from `from` on, and gives at most `found_max` (at least
    /// one) of those that the filter is about. Sockets that are being closed are not among them.
    #[must_use]
    pub fn inspect_connections(
        &self,
        filter: &ConnectionFilter,
        from: usize,
        scan_max: usize,
        found_max: usize,
    ) -> Slice<Vec<ConnectionId>> {
        let mut found = Vec::new();
        let mut next = self.visit(filter, from, scan_max, |id, _| {
            found.push(id);
            found.len() < found_max
        });
        if let Some(last) = found.last().filter(|_| found.len() >= found_max) {
            next = Some(last.slot() + 1);
        }
        Slice { found, next }
    }

    /// The same, with what each of them has of what they are ranked by; of all in the slice those `best_max` are given
    /// that have most of it, these first.
    #[must_use]
    pub fn rank_connections(
        &self,
        filter: &ConnectionFilter,
        rank: Rank,
        now: Instant,
        from: usize,
        scan_max: usize,
        best_max: usize,
    ) -> Slice<Vec<(u64, ConnectionId)>> {
        let now = self.seconds(now);
        let mut found = Vec::new();
        let next = self.visit(filter, from, scan_max, |id, connection| {
            let value = match rank {
                Rank::Age => u64::from(now.saturating_sub(since(connection))),
                Rank::Waiting => self.waiting_bytes(connection) as u64,
            };
            found.push((value, id));
            true
        });
        found.sort_unstable_by_key(|(value, id)| (std::cmp::Reverse(*value), id.slot()));
        found.truncate(best_max);
        Slice { found, next }
    }

    /// One connection, if it is open and not being closed.
    #[must_use]
    pub fn inspect_connection(&self, id: ConnectionId) -> Option<FoundConnection> {
        let connection = self.find(id).filter(|connection| !connection.is_closing())?;
        let socket = connection.socket()?;
        let name = |topic: TopicId| Arc::from(&*self.hub.topic(topic).name);
        Some(FoundConnection {
            id,
            transport: transport(connection),
            identity: socket.identity.clone().filter(|identity| !identity.is_empty()),
            peer: match &connection.state {
                State::Session(session) => Some(session.peer),
                _ => None,
            },
            since: self.deadlines.epoch() + Duration::from_secs(since(connection).into()),
            topics: socket.joins.iter().take(TOPICS_TOLD_MAX).map(|join| name(join.topic)).collect(),
            topic_count: socket.joins.len(),
            waiting_bytes: self.waiting_bytes(connection),
        })
    }

    /// The topics in at most `scan_max` places from `from` on that begin with `prefix`.
    #[must_use]
    pub fn inspect_topics(&self, prefix: &str, from: usize, scan_max: usize) -> Slice<Vec<FoundTopic>> {
        let (topics, next) = self.hub.topics_from(from, scan_max);
        let found = topics.filter(|topic| topic.name.starts_with(prefix)).map(found_topic).collect();
        Slice { found, next }
    }

    /// Hashes of the names of the topics in at most `scan_max` places from `from` on.
    #[must_use]
    pub fn inspect_topic_hashes(
        &self,
        hash: &dyn Fn(&str) -> u64,
        from: usize,
        scan_max: usize,
    ) -> Slice<Vec<u64>> {
        let (topics, next) = self.hub.topics_from(from, scan_max);
        Slice { found: topics.map(|topic| hash(&topic.name)).collect(), next }
    }

    /// One topic, if it has subscribers here.
    #[must_use]
    pub fn inspect_topic(&self, name: &str) -> Option<FoundTopic> {
        self.hub.lookup(name).map(|id| found_topic(self.hub.topic(id)))
    }

    /// What is held for the connections and topics in at most `scan_max` places from `from` on.
    #[must_use]
    pub fn inspect_holdings(&self, from: usize, scan_max: usize) -> Slice<Holdings> {
        let mut found = Holdings::default();
        let (slots, next) = self.slots(from, scan_max);
        for connection in slots.filter_map(|slot| self.connections.get(slot)) {
            found.outbox_bytes += connection.outbox.held();
        }
        let (topics, next_topic) = self.hub.topics_from(from, scan_max);
        for (_, stream) in topics.flat_map(Topic::streams) {
            found.log_bytes += stream.log.len();
            found.subscriptions += stream.subscribers.len();
            found.behind += stream.behind;
        }
        Slice { found, next: next.or(next_topic) }
    }

    /// Messages in this shard's mailbox, and what they count against `mailbox_bytes_max`.
    #[must_use]
    pub fn mailbox(&self) -> (usize, usize) {
        self.inbox.waiting()
    }

    /// Whether the shard is ending its connections.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// What was timed.
    #[must_use]
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// A turn of the caller's loop is over, which has taken from `began` to `ended`. To be called after the turn's
    /// [`flush`](Self::flush): what that has finished is taken to be written at `ended`.
    pub fn end_turn(&mut self, began: Instant, ended: Instant) {
        self.timings.turns.observe(ended.saturating_duration_since(began));
        for since in self.hub.offered.drain(..) {
            self.timings.broadcasts.observe(ended.saturating_duration_since(since));
        }
        if self.hub.offered.capacity() > 1024 {
            self.hub.offered = Vec::new();
        }
    }

    /// Closes one socket, on either transport, as a `disconnect` to its id does; whether it was open. `reconnect` says
    /// whether its client is to come back.
    pub fn disconnect_one(&mut self, id: ConnectionId, reconnect: bool, now: Instant) -> bool {
        let open = self.is_open(id);
        if open {
            self.fail(id.slot, if reconnect { Fault::Disconnected } else { Fault::StayAway }, now);
            self.run_work(now);
            self.check_invariants();
        }
        open
    }

    /// Seconds since the endpoint began.
    pub(super) fn seconds(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.deadlines.epoch()).as_secs()).unwrap_or(u32::MAX)
    }

    /// Shows `visit` the connections of a slice that the filter is about, by their places, until it has seen enough.
    /// Where the next slice begins if it wants all.
    fn visit(
        &self,
        filter: &ConnectionFilter,
        from: usize,
        scan_max: usize,
        mut visit: impl FnMut(ConnectionId, &Connection) -> bool,
    ) -> Option<usize> {
        let topic = match filter.topic.as_deref().map(|name| self.hub.lookup(name)) {
            Some(None) => return None,
            Some(topic) => topic,
            None => None,
        };
        let mut show = |slot: usize| {
            let Some(connection) = self.connections.get(slot) else { return true };
            if !is_meant(connection, filter, topic) {
                return true;
            }
            let Ok(slot) = u32::try_from(slot) else { return true };
            visit(ConnectionId { slot, generation: connection.generation }, connection)
        };
        if let Some(mut listed) = self.listed(filter, topic) {
            listed.retain(|slot| *slot as usize >= from);
            let next = cut(&mut listed, scan_max);
            let _ = listed.into_iter().all(|slot| show(slot as usize));
            next
        } else {
            let (mut slots, next) = self.slots(from, scan_max);
            let _ = slots.all(show);
            next
        }
    }

    /// The places of the connections that the filter can be about, where a table knows them.
    fn listed(&self, filter: &ConnectionFilter, topic: Option<TopicId>) -> Option<Vec<u32>> {
        if let Some(socket_id) = &filter.socket_id {
            return Some(self.users.find(socket_id, &self.connections));
        }
        let topic = topic?;
        let subscribers: usize =
            self.hub.topic(topic).streams().map(|(_, stream)| stream.subscribers.len()).sum();
        (subscribers <= SUBSCRIBERS_LISTED_MAX).then(|| self.hub.subscriber_slots(topic))
    }

    /// The places of a slice of all connections, and where the next one begins.
    fn slots(&self, from: usize, scan_max: usize) -> (std::ops::Range<usize>, Option<usize>) {
        let places = self.connections.capacity();
        let end = from.saturating_add(scan_max.max(1)).min(places);
        (from.min(end)..end, (end < places).then_some(end))
    }
}

/// Keeps the lowest places, in their order; where the next slice begins if that is not all.
fn cut(slots: &mut Vec<u32>, scan_max: usize) -> Option<usize> {
    let scan_max = scan_max.max(1);
    let mut next = None;
    if slots.len() > scan_max {
        let (_, place, _) = slots.select_nth_unstable(scan_max);
        next = Some(*place as usize);
        slots.truncate(scan_max);
    }
    slots.sort_unstable();
    next
}

fn is_meant(connection: &Connection, filter: &ConnectionFilter, topic: Option<TopicId>) -> bool {
    let Some(socket) = connection.socket().filter(|_| !connection.is_closing()) else { return false };
    let identity = socket.identity.as_deref();
    let is_of = |wanted: &Option<Box<str>>, part: fn(&Identity) -> &str| {
        wanted.as_deref().is_none_or(|wanted| identity.is_some_and(|identity| part(identity) == wanted))
    };
    filter.transport.is_none_or(|wanted| transport(connection) == wanted)
        && is_of(&filter.user, Identity::user)
        && is_of(&filter.socket_id, Identity::socket_id)
        && topic.is_none_or(|topic| socket.joins.by_topic(topic).is_some())
}

fn transport(connection: &Connection) -> Transport {
    match connection.state {
        State::Session(_) => Transport::LongPoll,
        _ => Transport::WebSocket,
    }
}

fn since(connection: &Connection) -> u32 {
    match &connection.state {
        State::WebSocket(web_socket) => web_socket.since,
        State::Session(session) => session.since,
        _ => 0,
    }
}

fn found_topic(topic: &Topic) -> FoundTopic {
    let mut found = FoundTopic { name: Arc::from(&*topic.name), web_sockets: 0, sessions: 0, behind: 0 };
    for (form, stream) in topic.streams() {
        match form {
            WireForm::WebSocketV1 | WireForm::WebSocketV2 => found.web_sockets += stream.subscribers.len(),
            WireForm::LongPollV1 | WireForm::LongPollV2 => found.sessions += stream.subscribers.len(),
        }
        found.behind += stream.behind;
    }
    found
}
