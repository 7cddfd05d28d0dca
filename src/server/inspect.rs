//! Looking into a running server: the [`Inspection`] of its shards and of what stands beside them.
//!
//! Whatever grows with the number of connections or topics is asked for slice by slice, so that no loop stops for
//! longer than a slice takes: some milliseconds at most, and its clients are served in between.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::ServerHandle;
#[cfg(feature = "accounts")]
use super::accounts::Accounts;
use super::connect::{unix_millis, unix_time};
use super::metrics::{self, Snapshot};
use super::process::Process;
use super::questions::name;
use super::topics::TopicCounter;
use crate::auth::Identity;
use crate::auth::connect::{Answer, Connect, ConnectRequest, Refusal, Secret, Transport};
use crate::auth::deny::DenyList;
use crate::auth::gate::SocketIdTemplate;
use crate::desk::{
    ConnectionOrder, ConnectionPage, ConnectionQuery, ConnectionView, Guesses, Inspection, Readiness,
    TokenCheck, TopicPage, TopicQuery, TopicView, UnixMillis, UserView,
};
use crate::endpoint::{ConnectionFilter, ConnectionId, FoundConnection, FoundTopic, Holdings, Rank};
use crate::guard;
use crate::stats::Stats;

/// Places that are looked at in one slice: one to two milliseconds where each holds a connection.
const SCAN_MAX: usize = 4096;
/// Connections that are told of in one slice.
const TOLD_MAX: usize = 256;
/// The most that a page lists.
const LIMIT_MAX: usize = 1000;
/// A walk that has taken longer tells what it has found.
const WALK_TIME: Duration = Duration::from_secs(10);
/// How long a token's check may take. The accounts have a shorter deadline of their own.
const CHECK_TIME: Duration = Duration::from_secs(10);

/// How the store is. Kept apart from the store, so that a server without one can be looked into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreVitals {
    /// Transactions that were committed.
    pub commits: u64,
    /// What transactions took together, those that failed too.
    pub commit_time: Duration,
    /// Records that were written.
    pub jobs: u64,
    /// Records that were refused because too many waited.
    pub jobs_refused: u64,
    /// Records that could not be written.
    pub jobs_failed: u64,
    /// Records that wait.
    pub waiting: usize,
    /// Whether the last that was tried could not be written.
    pub failing: bool,
}

/// Names the topic of a user's own, if there is one.
pub type TopicOf = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What is asked besides the shards. The default is nothing.
#[derive(Clone, Default)]
pub struct Sources {
    /// How the ids of users' sockets are made. Without it a user is looked for among all sockets.
    pub socket_id: Option<SocketIdTemplate>,
    /// The topic of a user's own.
    pub topic_of: Option<TopicOf>,
    /// Who decides whether a token is good. Without it everybody may connect.
    pub connect: Option<Arc<dyn Connect>>,
    /// Where users are looked up.
    #[cfg(feature = "accounts")]
    pub accounts: Option<Arc<Accounts>>,
    /// The tokens that are denied.
    pub denied: Option<Arc<RwLock<DenyList>>>,
    /// The server of the HTTP API and the back office, once it runs: its requests are counted there.
    pub api: Arc<OnceLock<ServerHandle>>,
    /// Where it is counted who has tried to get in to these.
    pub guesses: Arc<Guesses>,
    /// How the store is.
    pub store: Option<Arc<dyn Fn() -> StoreVitals + Send + Sync>>,
    /// How many lines of the log were dropped, if the log drops lines.
    pub dropped_log_lines: Option<Arc<dyn Fn() -> u64 + Send + Sync>>,
}

/// Looks into a running server, from any thread but those of its shards.
pub struct Inspector {
    server: ServerHandle,
    sources: Sources,
    /// One moment on both clocks. The wall clock may jump later; what is said of one connection stays the same.
    began: (Instant, UnixMillis),
    /// Held while all topics are gathered: there may be one for each user, and one such list at a time is enough.
    gathering: Mutex<()>,
    topics: TopicCounter,
}

/// A connection as its shard tells of it.
type Told = (FoundConnection, Option<SocketAddr>);

impl Inspector {
    /// Looks into `server`. To be made when the server starts: the process's start time is taken from it.
    #[must_use]
    pub fn new(server: ServerHandle, sources: Sources) -> Self {
        Self {
            server,
            sources,
            began: (Instant::now(), unix_millis()),
            gathering: Mutex::new(()),
            topics: TopicCounter::default(),
        }
    }

    fn filter(&self, query: &ConnectionQuery) -> Arc<ConnectionFilter> {
        let socket_id = || Some(self.sources.socket_id.as_ref()?.id_of(query.user.as_deref()?).into());
        Arc::new(ConnectionFilter {
            user: query.user.as_deref().map(Into::into),
            socket_id: socket_id(),
            topic: query.topic.as_deref().map(Into::into),
            transport: query.transport,
        })
    }

    /// A page in the order of shards and places.
    fn page(&self, filter: &Arc<ConnectionFilter>, limit: usize, after: Option<&str>) -> ConnectionPage {
        let mut page = ConnectionPage::default();
        let Some((mut shard, mut from)) = after.map_or(Some((0, 0)), parse_cursor) else { return page };
        let deadline = Instant::now() + WALK_TIME;
        while shard < self.server.shard_count() {
            if Instant::now() >= deadline {
                page.next = Some(cursor(shard, from));
                return page;
            }
            // One more than fits says whether there is a next page.
            let room = limit - page.connections.len() + 1;
            let filter = Arc::clone(filter);
            let slice = self.server.ask_one(shard, move |endpoint, streams, _| {
                let slice = endpoint.inspect_connections(&filter, from, SCAN_MAX, room.min(TOLD_MAX));
                let found = slice.found.into_iter().filter_map(|id| endpoint.inspect_connection(id));
                (found.map(|found| told(found, streams)).collect::<Vec<_>>(), slice.next)
            });
            let (found, next) = slice.unwrap_or_default();
            for told in found {
                if page.connections.len() == limit {
                    page.next = Some(cursor(shard, told.0.id.slot()));
                    return page;
                }
                page.connections.push(self.view(shard, told));
            }
            (shard, from) = next.map_or((shard + 1, 0), |next| (shard, next));
        }
        page
    }

    /// Those that have most of what they are ranked by.
    fn best(&self, filter: &Arc<ConnectionFilter>, rank: Rank, limit: usize) -> Vec<ConnectionView> {
        let deadline = Instant::now() + WALK_TIME;
        let mut best: Vec<(u64, usize, ConnectionId)> = Vec::new();
        for shard in 0..self.server.shard_count() {
            let mut from = Some(0);
            while let Some(place) = from.filter(|_| Instant::now() < deadline) {
                let filter = Arc::clone(filter);
                let slice = self.server.ask_one(shard, move |endpoint, _, now| {
                    endpoint.rank_connections(&filter, rank, now, place, SCAN_MAX, limit)
                });
                let Some(slice) = slice else { break };
                best.extend(slice.found.into_iter().map(|(value, id)| (value, shard, id)));
                best.sort_unstable_by_key(|(value, shard, id)| (Reverse(*value), *shard, id.slot()));
                best.truncate(limit);
                from = slice.next;
            }
        }
        let mut views = Vec::with_capacity(best.len());
        for shard in 0..self.server.shard_count() {
            let ids: Vec<ConnectionId> = best.iter().filter(|one| one.1 == shard).map(|one| one.2).collect();
            for ids in ids.chunks(TOLD_MAX) {
                let ids = ids.to_vec();
                let found = self.server.ask_one(shard, move |endpoint, streams, _| {
                    let found = ids.into_iter().filter_map(|id| endpoint.inspect_connection(id));
                    found.map(|found| told(found, streams)).collect::<Vec<_>>()
                });
                views.extend(found.into_iter().flatten().map(|told| self.view(shard, told)));
            }
        }
        match rank {
            Rank::Age => views.sort_by_key(|view| view.connected_at),
            Rank::Waiting => views.sort_by_key(|view| Reverse(view.waiting_bytes)),
        }
        views
    }

    fn view(&self, shard: usize, (found, address): Told) -> ConnectionView {
        let identity = found.identity.as_deref();
        let part = |part: fn(&Identity) -> &str| {
            identity.map(part).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        ConnectionView {
            id: name(shard, found.id),
            transport: match found.transport {
                Transport::WebSocket => "websocket".to_owned(),
                Transport::LongPoll => "longpoll".to_owned(),
            },
            user: part(Identity::user),
            socket_id: part(Identity::socket_id),
            address,
            connected_at: self.unix_millis_of(found.since),
            topics: found.topics.iter().map(|topic| String::from(&**topic)).collect(),
            topic_count: found.topic_count as u64,
            waiting_bytes: found.waiting_bytes as u64,
        }
    }

    /// A moment on the wall clock, to the second.
    fn unix_millis_of(&self, at: Instant) -> UnixMillis {
        let (began, unix) = self.began;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let unix = match at.checked_duration_since(began) {
            Some(later) => unix.saturating_add(millis(later)),
            None => unix.saturating_sub(millis(began.saturating_duration_since(at))),
        };
        unix / 1000 * 1000
    }

    /// All topics that begin with `prefix`, with the sums of their shards.
    fn gather_topics(&self, prefix: &str) -> Vec<TopicView> {
        let mut sums: HashMap<Arc<str>, FoundTopic> = HashMap::new();
        let prefix: Arc<str> = prefix.into();
        let deadline = Instant::now() + WALK_TIME;
        for shard in 0..self.server.shard_count() {
            let mut from = Some(0);
            while let Some(place) = from.filter(|_| Instant::now() < deadline) {
                let prefix = Arc::clone(&prefix);
                let slice = self
                    .server
                    .ask_one(shard, move |endpoint, _, _| endpoint.inspect_topics(&prefix, place, SCAN_MAX));
                let Some(slice) = slice else { break };
                for found in slice.found {
                    match sums.get_mut(&found.name) {
                        Some(sum) => add(sum, &found),
                        None => _ = sums.insert(Arc::clone(&found.name), found),
                    }
                }
                from = slice.next;
            }
        }
        sums.into_values().map(|found| topic_view(&found)).collect()
    }

    fn holdings(&self) -> Holdings {
        let mut sum = Holdings::default();
        let deadline = Instant::now() + WALK_TIME;
        for shard in 0..self.server.shard_count() {
            let mut from = Some(0);
            while let Some(place) = from.filter(|_| Instant::now() < deadline) {
                let question = self
                    .server
                    .ask_one(shard, move |endpoint, _, _| endpoint.inspect_holdings(place, SCAN_MAX));
                let Some(slice) = question else { break };
                sum += slice.found;
                from = slice.next;
            }
        }
        sum
    }

    fn snapshot(&self) -> Snapshot {
        let answers =
            self.server.ask_all(|endpoint, _| (endpoint.stats(), endpoint.timings(), endpoint.mailbox()));
        let mut snapshot = Snapshot {
            shards: answers.len(),
            holdings: self.holdings(),
            broadcasts: self.server.broker.sequence(),
            calls: self.sources.api.get().map(ServerHandle::stats).unwrap_or_default(),
            #[cfg(feature = "accounts")]
            accounts: self.sources.accounts.as_ref().map(|accounts| accounts.stats()),
            denials: self
                .sources
                .denied
                .as_ref()
                .map(|denied| denied.read().unwrap_or_else(PoisonError::into_inner).len()),
            store: self.sources.store.as_ref().map(|vitals| vitals()),
            process: Process::read(),
            started: self.began.1,
            dropped_log_lines: self.sources.dropped_log_lines.as_ref().map(|count| count()),
            guesses: self.sources.guesses.counts(),
            ..Snapshot::default()
        };
        for (stats, timings, (messages, bytes)) in answers.into_iter().flatten() {
            snapshot.shards_answering += 1;
            snapshot.stats += stats;
            snapshot.timings += timings;
            snapshot.mail += messages;
            snapshot.mail_bytes += bytes;
        }
        snapshot.topics = self.topics.count(&self.server, snapshot.stats.topics);
        snapshot
    }
}

impl Inspection for Inspector {
    fn connections(&self, query: &ConnectionQuery) -> ConnectionPage {
        let limit = query.limit.clamp(1, LIMIT_MAX);
        let filter = self.filter(query);
        let best = |rank| ConnectionPage {
            connections: self.best(&filter, rank, limit),
            ..ConnectionPage::default()
        };
        let page = match query.order {
            ConnectionOrder::Any => self.page(&filter, limit, query.after.as_deref()),
            ConnectionOrder::Oldest => best(Rank::Age),
            ConnectionOrder::Slowest => best(Rank::Waiting),
        };
        let stats = self.server.stats();
        ConnectionPage { total: stats.web_sockets + stats.sessions, ..page }
    }

    fn topics(&self, query: &TopicQuery) -> TopicPage {
        let _one_at_a_time = self.gathering.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = query.limit.clamp(1, LIMIT_MAX);
        let mut topics = self.gather_topics(query.prefix.as_deref().unwrap_or_default());
        let total = topics.len() as u64;
        let order = |one: &TopicView, other: &TopicView| {
            other.subscribers.cmp(&one.subscribers).then_with(|| one.topic.cmp(&other.topic))
        };
        if topics.len() > limit {
            topics.select_nth_unstable_by(limit, order);
            topics.truncate(limit);
        }
        topics.sort_unstable_by(order);
        TopicPage { topics, total }
    }

    fn subscribers(&self, topic: &str) -> Option<u64> {
        let topic: Arc<str> = topic.into();
        let counts = self.server.ask_all(move |endpoint, _| {
            endpoint.inspect_topic(&topic).map_or(0, |found| (found.web_sockets + found.sessions) as u64)
        });
        counts.into_iter().sum()
    }

    fn user(&self, user: &str) -> UserView {
        let query = ConnectionQuery { user: Some(user.to_owned()), ..ConnectionQuery::default() };
        let connections = self.page(&self.filter(&query), LIMIT_MAX, None).connections;
        UserView {
            user: user.to_owned(),
            online: !connections.is_empty(),
            connections,
            topic: self.sources.topic_of.as_ref().and_then(|topic_of| topic_of(user)),
        }
    }

    fn stats(&self) -> Stats {
        self.server.stats()
    }

    /// A store that can't be written, and accounts that are away, are told as problems, but clients are served
    /// nevertheless: a balancer that turned to another server would gain nothing.
    fn readiness(&self) -> Readiness {
        let mut problems = Vec::new();
        for (shard, draining) in self.server.ask_all(|endpoint, _| endpoint.is_draining()).iter().enumerate()
        {
            match draining {
                None => problems.push(format!("shard {shard} does not answer")),
                Some(true) => problems.push(format!("shard {shard} is being stopped")),
                Some(false) => {}
            }
        }
        let ready = problems.is_empty();
        if self.sources.store.as_ref().is_some_and(|vitals| vitals().failing) {
            problems.push("the store can't be written: nothing is published at level disk".to_owned());
        }
        #[cfg(feature = "accounts")]
        if self.sources.accounts.as_ref().is_some_and(|accounts| accounts.stats().away) {
            problems.push("the accounts are away: users who are not remembered can't connect".to_owned());
        }
        Readiness { ready, problems }
    }

    /// Where nobody is asked who they are, every token lets its client in, as none would; the reason says so.
    fn check_token(&self, token: &Secret) -> TokenCheck {
        let Some(connect) = &self.sources.connect else {
            let reason = "this server asks for no token: everybody may connect".to_owned();
            return TokenCheck { reason: Some(reason), ..check(true) };
        };
        let request = ConnectRequest {
            token: Some(token.clone()),
            params: Vec::new(),
            cookie: None,
            transport: Transport::WebSocket,
            peer: None,
            renewal: false,
        };
        let (sender, receiver) = channel();
        let answer = Answer::new(move |verdict| {
            // Whoever asked may have stopped waiting.
            let _ = sender.send(verdict);
        });
        // The answer is dropped with a panic, which refuses the client.
        let _ = guard::call(|| connect.connect(request, unix_time(), answer));
        match receiver.recv_timeout(CHECK_TIME).unwrap_or(Err(Refusal::TimedOut)) {
            Ok(identity) => TokenCheck {
                user: Some(identity.user().to_owned()).filter(|user| !user.is_empty()),
                socket_id: Some(identity.socket_id().to_owned()).filter(|id| !id.is_empty()),
                expires_at: identity.expires(),
                ..check(true)
            },
            Err(refusal) => TokenCheck { reason: Some(refusal.explanation().into_owned()), ..check(false) },
        }
    }

    fn metrics(&self) -> String {
        metrics::render(self.snapshot())
    }
}

fn check(valid: bool) -> TokenCheck {
    TokenCheck { valid, reason: None, user: None, socket_id: None, expires_at: None }
}

/// Adds what only the sockets know. In the thread of their shard.
fn told(found: FoundConnection, streams: &super::streams::Streams) -> Told {
    let address = match found.peer {
        Some(peer) => Some(SocketAddr::new(peer, 0)),
        None => streams.peer(found.id),
    };
    (found, address)
}

fn add(sum: &mut FoundTopic, found: &FoundTopic) {
    sum.web_sockets += found.web_sockets;
    sum.sessions += found.sessions;
    sum.behind += found.behind;
}

fn topic_view(found: &FoundTopic) -> TopicView {
    TopicView {
        topic: String::from(&*found.name),
        subscribers: (found.web_sockets + found.sessions) as u64,
        websocket: found.web_sockets as u64,
        longpoll: found.sessions as u64,
        behind: found.behind as u64,
    }
}

/// Where the next page begins: a shard, and a place in it.
fn cursor(shard: usize, place: usize) -> String {
    format!("{shard}-{place}")
}

fn parse_cursor(text: &str) -> Option<(usize, usize)> {
    let (shard, place) = text.split_once('-')?;
    Some((shard.parse().ok()?, place.parse().ok()?))
}
