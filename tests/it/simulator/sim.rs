//! The node, its clients, and what every call into the node is checked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hailer::broker::Broker;
use hailer::channel::{Router, SlowReader};
use hailer::endpoint::{Config, Endpoint, Page};
use hailer::stats::Stats;

use super::client::{Client, Nature};
use super::receipts::Receipts;
use super::rng::Rng;
use super::wire::Wire;
use super::world::{Client as Noted, MESSAGE_BYTES, Script, World, lock};
use super::{Settings, Trace};

const PAGES: &[Page] = &[Page { path: "/page", content_type: "text/plain", body: &[b'p'; 3000] }];

pub(super) struct Sim {
    pub(super) rng: Rng,
    pub(super) settings: Settings,
    pub(super) now: Instant,
    pub(super) shards: Vec<Endpoint>,
    pub(super) wires: Vec<Wire>,
    pub(super) broker: Arc<Broker>,
    woken: Vec<Arc<AtomicBool>>,
    /// The shard has said that mail is left.
    mail_left: Vec<bool>,
    pub(super) world: Arc<Mutex<World>>,
    pub(super) clients: Vec<Client>,
    pub(super) draining: bool,
    bytes_in: u64,
    pub(super) receipts: Receipts,
    pub(super) trace: Trace,
}

impl Sim {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let settings = Settings::new(&mut rng);
        let world = Arc::new(Mutex::new(World {
            reached: vec![0; settings.shards.into()],
            no_farewells: settings.tiny,
            ..World::default()
        }));
        let channel = Arc::new(Script { world: Arc::clone(&world) });
        let pattern = |text: &str| text.parse().expect("it is a pattern");
        let router = Router::new()
            .channel_with(pattern("close:*"), Arc::clone(&channel) as _, SlowReader::Close)
            .channel_with(pattern("skip:*"), channel, SlowReader::Skip);
        let limits = Arc::new(settings.limits.clone());
        let config = Config { limits: Arc::clone(&limits), pages: PAGES.into(), ..Config::new(router) };
        let woken: Vec<Arc<AtomicBool>> = (0..settings.shards).map(|_| Arc::default()).collect();
        let wakes = woken.iter().map(Arc::clone).map(|woken| {
            Box::new(move || woken.store(true, Ordering::Relaxed)) as Box<dyn Fn() + Send + Sync>
        });
        let broker = Broker::new(&limits, wakes.collect());
        let now = Instant::now();
        Self {
            now,
            shards: (0..settings.shards)
                .map(|shard| Endpoint::new(config.clone(), &broker, shard, &[7; 32], now))
                .collect(),
            wires: (0..settings.shards).map(|_| Wire::new(rng.fork(), settings.short_percent)).collect(),
            broker,
            woken,
            mail_left: vec![false; settings.shards.into()],
            world,
            clients: Vec::new(),
            draining: false,
            bytes_in: 0,
            receipts: Receipts::new(settings.shards.into(), settings.limits.receipts_tracked_max),
            trace: Trace { seed, steps: std::collections::VecDeque::new(), begun: "" },
            rng,
            settings,
        }
    }

    /// Calls a shard, and checks what must hold after any call.
    pub(super) fn call<T>(
        &mut self,
        shard: usize,
        call: impl FnOnce(&mut Endpoint, &mut Wire, Instant) -> T,
    ) -> T {
        let endpoint = &mut self.shards[shard];
        let before = reached(&endpoint.stats());
        let refused = self.broker.refused();
        let mut world = lock(&self.world);
        world.shard = shard;
        world.call += 1;
        world.acted = false;
        world.last_answered = None;
        world.reached[shard] = before;
        drop(world);

        let result = call(endpoint, &mut self.wires[shard], self.now);

        let after = reached(&endpoint.stats());
        let refused = self.broker.refused() - refused;
        let mut world = lock(&self.world);
        assert_eq!(world.complaint, None);
        match refused {
            0 => assert!(world.reached[shard] <= after, "a broadcast did not reach its own shard first"),
            1 if self.settings.tiny => take_back(&mut world),
            _ => panic!("{refused} broadcasts were refused in one call"),
        }
        check_outs(&world, shard, before, after);
        self.receipts.check(shard, &self.shards[shard], before, after, &world);
        drop(world);
        self.read(shard);
        result
    }

    /// Lets the clients of a shard look at what has arrived.
    fn read(&mut self, shard: usize) {
        let world = lock(&self.world);
        for peer in self.wires[shard].peers.values_mut() {
            let client = &mut self.clients[peer.client];
            client.ever_blocked |= peer.ever_blocked;
            let arrived = std::mem::take(&mut peer.arrived);
            if !arrived.is_empty() {
                client.reader.take(&arrived, &world);
                for n in std::mem::take(&mut client.reader.pings) {
                    self.receipts.ping(shard, n, peer.client, world.call);
                    if client.answers_pings() {
                        client.pong(n);
                    }
                }
                judge(client, self.draining, self.now, &self.settings, &world);
            }
        }
    }

    /// Closes the sockets of the connections that have ended.
    pub(super) fn poll_closed(&mut self, shard: usize) {
        while let Some(id) = self.shards[shard].poll_closed() {
            let peer = self.wires[shard].peers.remove(&id.to_bits()).expect("what is closed was open");
            let client = &mut self.clients[peer.client];
            client.gone = true;
            assert!(!self.shards[shard].contains(id), "what is closed is forgotten");
            let told = client.reader.close.is_some() || !client.reader.upgraded;
            let number = peer.client;
            assert!(
                told || client.hung_up || client.ever_blocked,
                "client {number} was dropped without a close frame"
            );
        }
    }

    pub(super) fn feed(&mut self, number: usize, most: usize) {
        let client = &mut self.clients[number];
        let messages = client.ends.len();
        let (mut bytes, pongs) = client.take_bytes(most);
        let messages = messages - client.ends.len();
        // A message may have an answer, and the end of a channel; and a ping may be in its midst.
        lock(&self.world).clients[number].made += 4 * messages * MESSAGE_BYTES;
        client.silence = client.silence.max(self.now - client.heard);
        client.heard = self.now;
        let (shard, id) = (client.shard(), client.id);
        self.bytes_in += bytes.len() as u64;
        let was_open = self.is_open(number);
        pongs.iter().filter(|_| was_open).for_each(|n| self.receipts.pong(shard, *n, number));
        self.call(shard, |endpoint, _, now| endpoint.handle_read(id, &mut bytes, now));
        let is_open = self.is_open(number);
        pongs.iter().filter(|_| is_open).for_each(|n| self.receipts.confirm(shard, *n, number));
    }

    /// Whether the server takes the client's socket for open.
    fn is_open(&self, number: usize) -> bool {
        let client = &self.clients[number];
        self.shards[client.shard()].inspect_connection(client.id).is_some()
    }

    /// Everybody has sent and read what there was.
    pub(super) fn check_receipts(&mut self) {
        for shard in 0..self.shards.len() {
            let open: Vec<bool> = (0..self.clients.len()).map(|number| self.is_open(number)).collect();
            let is_away = |number: usize| self.clients[number].hung_up;
            self.receipts.check_settled(shard, &self.shards[shard], |number| open[number], is_away);
        }
    }

    pub(super) fn take_mail(&mut self, shard: usize, budget: usize) {
        self.woken[shard].store(false, Ordering::Relaxed);
        self.mail_left[shard] = self.call(shard, |endpoint, _, now| endpoint.handle_mailbox(budget, now));
    }

    /// Whether the shard has been told of mail, by itself or by its wake.
    pub(super) fn has_mail(&self, shard: usize) -> bool {
        self.mail_left[shard] || self.woken[shard].load(Ordering::Relaxed)
    }

    pub(super) fn flush(&mut self, shard: usize, budget: usize) -> bool {
        let more = self.call(shard, |endpoint, wire, now| endpoint.flush(budget, now, wire));
        if !more {
            self.check_written(shard);
        }
        more
    }

    /// A flush has said that nothing is left: whoever takes bytes has got everything that there is.
    fn check_written(&mut self, shard: usize) {
        let reached = reached(&self.shards[shard].stats());
        let has_mail = self.has_mail(shard);
        let mut world = lock(&self.world);
        for peer in self.wires[shard].peers.values() {
            let Client { id, reader, .. } = &self.clients[peer.client];
            let there = self.shards[shard].contains(*id) && !peer.lost;
            if there && !peer.blocked && reader.upgraded && reader.close.is_none() {
                reader.check_delivered(&world, reached);
            }
            if !has_mail {
                world.clients[peer.client].made = 0;
            }
        }
    }

    pub(super) fn time_out(&mut self, shard: usize) {
        let due = self.call(shard, |endpoint, _, now| {
            endpoint.handle_timeout(now);
            endpoint.poll_timeout()
        });
        assert!(due.is_none_or(|due| due > self.now), "a deadline stays due after it was handled");
    }

    /// Opens a connection on a shard, unless that refuses it.
    pub(super) fn connect(&mut self, shard: usize) -> Option<usize> {
        self.poll_closed(shard);
        let full =
            self.shards[shard].stats().connections >= self.settings.limits.connections_per_shard_max as u64;
        let id =
            self.call(shard, |endpoint, _, now| endpoint.accept(std::net::Ipv4Addr::LOCALHOST.into(), now));
        assert_eq!(id.is_none(), full || self.draining, "what is refused");
        let (number, v1) = (self.clients.len(), self.rng.chance(self.settings.v1_percent));
        let Settings { tiny, topics, .. } = self.settings;
        self.wires[shard].open(id?, number);
        self.clients.push(Client::new(Nature { number, shard, v1, tiny, topics }, id?, self.now));
        lock(&self.world).clients.push(Noted { v1, ..Noted::default() });
        Some(number)
    }

    pub(super) fn hang_up(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.hung_up = true;
        let (shard, id) = (client.shard(), client.id);
        match self.rng.below(3) {
            0 => self.call(shard, |endpoint, _, now| endpoint.handle_eof(id, now)),
            1 => self.call(shard, |endpoint, _, now| endpoint.handle_error(id, now)),
            _ => {
                // Nothing tells of it until something is written, or the time is up.
                if let Some(peer) = self.wires[shard].peers.get_mut(&id.to_bits()) {
                    peer.lost = true;
                }
            }
        }
    }

    /// Tells the endpoint that a peer takes bytes again.
    pub(super) fn unblock(&mut self, number: usize) {
        let (shard, id) = (self.clients[number].shard(), self.clients[number].id);
        if let Some(peer) = self.wires[shard].peers.get_mut(&id.to_bits()) {
            peer.blocked = false;
            self.call(shard, |endpoint, _, _| endpoint.handle_writable(id));
        }
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
        for shard in 0..self.shards.len() {
            self.call(shard, |endpoint, _, now| endpoint.drain(now));
        }
    }

    /// What must hold when no connection is left.
    pub(super) fn check_empty(&mut self) -> Stats {
        self.receipts.check_empty(&self.shards);
        let mut sum = Stats::default();
        for endpoint in &mut self.shards {
            assert!(endpoint.is_drained());
            assert_eq!(endpoint.poll_closed(), None);
            assert_eq!(endpoint.poll_timeout(), None, "an empty shard waits for nothing");
            sum += endpoint.stats();
        }
        assert_eq!((sum.connections, sum.web_sockets, sum.topics), (0, 0, 0));
        assert_eq!(sum.accepted, self.clients.len() as u64);
        assert_eq!(sum.bytes_in, self.bytes_in);
        assert_eq!(sum.bytes_out, self.wires.iter().map(|wire| wire.bytes).sum::<u64>());
        let world = lock(&self.world);
        assert_eq!(sum.joins, world.joins.len() as u64, "joins granted and noted");
        assert!(world.joins.iter().all(|join| join.end.is_some()), "every join has ended");
        assert!(self.wires.iter().all(|wire| wire.peers.is_empty()), "every socket is closed");
        sum
    }
}

fn reached(stats: &Stats) -> usize {
    usize::try_from(stats.broadcasts).expect("a run is short")
}

/// The broadcast of this call was refused: nobody gets it, and its number goes to the next.
fn take_back(world: &mut World) {
    world.casts.pop();
    if let Some((client, id)) = world.last_answered {
        let answers = world.clients[client].answers.entry(id).or_default();
        *answers = (*answers).max(1);
    }
}

/// A broadcast that has just reached a shard has been through `handle_out` of every join that was there.
fn check_outs(world: &World, shard: usize, before: usize, after: usize) {
    for n in before + 1..=after {
        let cast = &world.casts[n - 1];
        if !cast.out {
            continue;
        }
        let subscribers = world.joins.iter().enumerate().filter(|(_, join)| {
            join.shard == shard && join.topic == cast.topic && join.born < world.call && join.end.is_none()
        });
        for (token, join) in subscribers.filter(|(_, join)| cast.from != Some(join.client)) {
            assert!(join.outs.contains(&n), "broadcast {n} has not been through handle_out of join {token}");
        }
    }
}

/// Checks the server's close frame, when it has come: that there was reason for it, and that everything which
/// was to come before it has come.
fn judge(client: &mut Client, draining: bool, now: Instant, settings: &Settings, world: &World) {
    let Some((code, reason)) = &client.reader.close else { return };
    if std::mem::replace(&mut client.judged, true) {
        return;
    }
    let slow = reason.contains("topic's log") || reason.contains("takes no bytes");
    let number = client.reader.client;
    // A client that takes nothing, or is far behind, is closed without the rest.
    let kept_up = !client.ever_blocked;
    let (justified, complete) = match code {
        Some(4008) if slow => (client.ever_blocked, false),
        Some(4008) if reason.contains("outbox_bytes_max") => {
            let much = world.clients[number].made > settings.limits.outbox_bytes_max;
            (client.ever_blocked || much, false)
        }
        Some(1012) => (draining, kept_up),
        Some(1002) if reason.contains("idle_timeout") => {
            let grain = Duration::from_millis(250);
            (client.silence.max(now - client.heard) + grain >= settings.limits.idle_timeout, kept_up)
        }
        code if client.closing == Some(*code) => (true, kept_up),
        Some(code) => (client.reader.misbehaved && ![1000, 1012, 4008].contains(code), kept_up),
        None => (false, false),
    };
    assert!(justified, "client {number} was closed with {code:?} {reason:?}");
    if complete {
        client.reader.check_delivered(world, usize::MAX);
    }
}
