//! What may happen next, and how a run goes.

use std::time::Duration;

use hailer::broker::{Outgoing, Tally};
use hailer::channel::{PayloadBuf, SendError};
use hailer::endpoint::Endpoint;
use hailer::stats::Stats;
use serde_json::json;

use super::client::{Client, TOPICS, act, padding};
use super::receipts::receipt;
use super::sim::Sim;
use super::world::{Cast, OUT, PLAIN, Task, VOID, body, lock};

/// Kinds of steps, and how likely each is.
pub(super) const KINDS: [(&str, usize); 15] = [
    ("a client connects", 24),
    ("a client says something", 100),
    ("a client sends what it has said", 120),
    ("a shard takes mail", 80),
    ("a shard writes", 100),
    ("a client takes bytes again", 30),
    ("something is published", 60),
    ("a handle is used", 28),
    ("a client stalls, or no longer", 20),
    ("time passes", 12),
    ("a client hangs up", 4),
    ("a while passes", 2),
    ("everything settles", 1),
    ("a shard closes sockets", 8),
    ("a client sends a pong that nobody waits for", 8),
];

fn amount(of: usize) -> String {
    if of == usize::MAX { "all".to_owned() } else { of.to_string() }
}

/// What stands in no ping of the server.
const NOBODYS_PONGS: [&[u8]; 6] = [b"", b"1", &[0; 8], &[255; 8], &[0; 9], &[1; 125]];

impl Sim {
    pub(super) fn run(&mut self) -> Stats {
        for step in 0..self.settings.steps {
            if self.settings.drain_at == Some(step) {
                self.trace.note("drain".to_owned());
                self.drain();
            }
            let done = self.step();
            self.trace.note(done);
            if self.draining && self.clients.iter().all(|client| client.gone) {
                break;
            }
        }
        self.settle("the run is over");
        self.end();
        self.check_empty()
    }

    /// One thing happens; what it was.
    fn step(&mut self) -> String {
        let shard = self.rng.below(self.shards.len());
        let mut at = self.rng.below(self.settings.weights.iter().sum());
        let kind = self.settings.weights.iter().position(|weight| {
            let found = at < *weight;
            at = at.saturating_sub(*weight);
            found
        });
        let kind = kind.unwrap_or_default();
        self.trace.begun = KINDS[kind].0;
        match kind {
            0 => self.step_connect(shard),
            1 => self.step_say(),
            2 => self.step_feed(),
            3 => self.step_mailbox(shard),
            4 => self.step_flush(shard),
            5 => self.step_unblock(),
            6 => self.step_publish(),
            7 => self.step_mail(),
            8 => self.step_stall(),
            9 => self.step_tick(shard),
            10 => self.step_hang_up(),
            11 => self.step_wait(),
            12 => {
                self.settle("in between");
                "settled".to_owned()
            }
            13 => {
                self.poll_closed(shard);
                format!("shard {shard} closes sockets")
            }
            _ => self.step_forge(),
        }
    }

    /// A client sends a pong that is not to count, or that counts once.
    fn step_forge(&mut self) -> String {
        let talks = |sim: &Self, number: usize| {
            let client = &sim.clients[number];
            client.is_live() && !client.quiet && client.reader.upgraded
        };
        let Some(number) = self.pick_client(talks) else { return "nobody forges".to_owned() };
        let shard = self.clients[number].shard();
        let foreign = |n: &usize| self.receipts.is_for(shard, *n, number) == Some(false);
        let others: Vec<usize> = self.receipts.counted(shard).into_iter().filter(foreign).collect();
        if !others.is_empty() && self.rng.chance(70) {
            let n = *self.rng.pick(&others);
            self.clients[number].pong(n);
            return format!("client {number} forges the pong of broadcast {n}");
        }
        let payload = *self.rng.pick(&NOBODYS_PONGS);
        self.clients[number].send_pong(payload);
        format!("client {number} sends the pong {payload:?}")
    }

    fn step_mailbox(&mut self, shard: usize) -> String {
        let budget = *self.rng.pick(&[0, 1, 1, 2, 5, usize::MAX]);
        self.take_mail(shard, budget);
        // A caller may go on although the shard has said that it is behind with writing.
        if self.rng.chance(3) {
            for _ in 0..400 {
                if self.has_mail(shard) {
                    self.take_mail(shard, budget);
                }
            }
            return format!("shard {shard} takes all of its mail by {}", amount(budget));
        }
        format!("shard {shard} takes {} of its mail", amount(budget))
    }

    fn step_flush(&mut self, shard: usize) -> String {
        let budget = *self.rng.pick(&[0, 1, 1, 1, 2, 3, 10, usize::MAX]);
        let more = self.flush(shard, budget);
        if self.rng.chance(70) {
            self.poll_closed(shard);
        }
        format!("shard {shard} makes {} writes, more: {more}", amount(budget))
    }

    fn step_tick(&mut self, shard: usize) -> String {
        let millis = self.rng.range(1, 100);
        self.now += Duration::from_millis(millis as u64);
        self.time_out(shard);
        format!("{millis} ms, shard {shard} looks at its deadlines")
    }

    /// A client that `wanted` is true of.
    fn pick_client(&mut self, wanted: impl Fn(&Self, usize) -> bool) -> Option<usize> {
        let from: Vec<usize> = (0..self.clients.len()).filter(|number| wanted(self, *number)).collect();
        if from.is_empty() { None } else { Some(*self.rng.pick(&from)) }
    }

    fn step_connect(&mut self, shard: usize) -> String {
        if self.clients.iter().filter(|client| client.is_live()).count() >= self.settings.clients_max {
            return "enough clients".to_owned();
        }
        match self.connect(shard) {
            Some(number) => {
                let how = self.clients[number].greet(&mut self.rng);
                for _ in 0..self.rng.below(3) {
                    if !self.clients[number].quiet {
                        self.clients[number].say(&mut self.rng);
                    }
                }
                format!("client {number} connects to shard {shard} and {how}")
            }
            None => format!("shard {shard} refuses a client"),
        }
    }

    fn step_say(&mut self) -> String {
        let talks = |sim: &Self, number: usize| sim.clients[number].is_live() && !sim.clients[number].quiet;
        let Some(number) = self.pick_client(talks) else { return "nobody talks".to_owned() };
        let said = self.clients[number].say(&mut self.rng);
        format!("client {number} says {said}")
    }

    fn step_feed(&mut self) -> String {
        let waits = |sim: &Self, number: usize| {
            sim.clients[number].is_live() && !sim.clients[number].unsent.is_empty()
        };
        let Some(number) = self.pick_client(waits) else { return "nothing is sent".to_owned() };
        let most = match self.rng.below(10) {
            0..3 => self.rng.range(1, 8),
            3..6 => self.rng.range(1, 200),
            _ => usize::MAX,
        };
        self.feed(number, most);
        format!("client {number} sends {} bytes", amount(most))
    }

    fn step_unblock(&mut self) -> String {
        // A peer that has never been full may be said to take bytes again, too.
        let spurious = self.rng.chance(10);
        let takes = |sim: &Self, number: usize| {
            let client = &sim.clients[number];
            let peer = sim.wires[client.shard()].peers.get(&client.id.to_bits());
            let patient = number.is_multiple_of(4);
            peer.is_some_and(|peer| (peer.blocked || spurious) && (!peer.stalled || patient))
        };
        let Some(number) = self.pick_client(takes) else { return "nobody is blocked".to_owned() };
        self.unblock(number);
        format!("client {number} takes bytes again")
    }

    fn step_stall(&mut self) -> String {
        let Some(number) = self.pick_client(|sim, number| sim.clients[number].is_live()) else {
            return "nobody stalls".to_owned();
        };
        let client = &self.clients[number];
        let Some(peer) = self.wires[client.shard()].peers.get_mut(&client.id.to_bits()) else {
            return "nobody stalls".to_owned();
        };
        peer.stalled = !peer.stalled;
        format!("client {number} stalls: {}", peer.stalled)
    }

    fn step_publish(&mut self) -> String {
        let topic = *self.rng.pick(&TOPICS[..self.settings.topics]);
        let mode = *self.rng.pick(&["", "", "", "", "push", "stop"]);
        let event = if mode.is_empty() { PLAIN } else { OUT };
        let count = match self.rng.below(100) {
            0 if !self.settings.tiny => 300,
            1..20 => self.rng.range(2, 12),
            _ => 1,
        };
        let mut published = 0;
        for _ in 0..count {
            let (pad, binary) = (padding(&mut self.rng), self.rng.chance(15));
            let mut world = lock(&self.world);
            let payload = body(json!({"n": world.casts.len() + 1, "mode": mode}), pad, binary);
            let counted = mode.is_empty() && self.rng.chance(30);
            let n = world.casts.len() + 1;
            let tally = Tally::new(1, self.settings.shards, || {});
            let result = match counted {
                false => self.broker.broadcast(topic, event, payload).map_err(SendError::from),
                true => {
                    let (tally, receipt) = (Some(tally.entry(0)), Some(receipt(n)));
                    let outgoing = Outgoing { topic, event, payload, tally, receipt, published: None };
                    self.broker.publish_all(vec![outgoing]).map(drop)
                }
            };
            assert!(result.is_ok() || self.settings.tiny, "a mailbox is full");
            if result.is_ok() {
                let out = !mode.is_empty();
                published = world.cast(Cast { topic: topic.to_owned(), from: None, binary, out, counted });
                if counted {
                    self.receipts.publish(n, tally);
                }
            }
        }
        format!("{count} broadcasts to {topic} {mode}, up to {published}")
    }

    /// Another thread uses a channel's handle.
    fn step_mail(&mut self) -> String {
        let mut world = lock(&self.world);
        if !world.later.is_empty() && self.rng.chance(40) {
            let later = world.later.remove(0);
            let token = later.token;
            if !world.take_answer(&later) {
                let result = later.reply.reply(VOID, PayloadBuf::empty());
                return format!("a second answer for join {token}: {result:?}");
            }
            let payload = body(world.mailed(token), self.rng.below(40), false);
            let result = later.reply.ok(payload);
            world.joins[token].mailed += usize::from(result.is_ok());
            return format!("the answer for join {token}: {result:?}");
        }
        if world.joins.is_empty() {
            return "no handle".to_owned();
        }
        // Mostly one of the joins that are likely to be there still.
        let recent = world.joins.len().min(12);
        let token = world.joins.len() - 1 - self.rng.below(recent);
        let handle = world.joins[token].handle.clone();
        match self.rng.below(4) {
            0 => {
                let payload = body(world.mailed(token), self.rng.below(40), false);
                let result = handle.push("mail", payload);
                world.joins[token].mailed += usize::from(result.is_ok());
                format!("mail for join {token}: {result:?}")
            }
            1 => {
                let acts =
                    if self.settings.tiny { vec![json!(["push", 1])] } else { vec![act(&mut self.rng)] };
                let noted = json!(acts);
                let acts = acts.into_iter().filter(|act| act[0] == "push" || act[0] == "cast").collect();
                let task = Task { nth: world.joins[token].tasks_sent, seen: world.casts.len(), acts };
                let result = handle.send(task);
                world.joins[token].tasks_sent += usize::from(result.is_ok());
                format!("a task for join {token}, {noted}: {result:?}")
            }
            kind => {
                let (client, topic) = (world.joins[token].client, world.joins[token].topic.clone());
                let n = world.casts.len() + 1;
                let payload = body(json!({"n": n, "mode": ""}), padding(&mut self.rng), false);
                let result = match kind {
                    2 => handle.broadcast(PLAIN, payload),
                    _ => handle.broadcast_from(PLAIN, payload),
                };
                if result.is_ok() {
                    let from = (kind == 3).then_some(client);
                    world.cast(Cast { topic, from, binary: false, out: false, counted: false });
                }
                format!("broadcast {n} by the handle of join {token}: {result:?}")
            }
        }
    }

    fn step_hang_up(&mut self) -> String {
        let closed = |sim: &Self, number: usize| {
            sim.clients[number].is_live() && sim.clients[number].reader.close.is_some()
        };
        let number = match self.pick_client(closed) {
            Some(number) => Some(number),
            None if self.rng.chance(30) => self.pick_client(|sim, number| sim.clients[number].is_live()),
            None => None,
        };
        let Some(number) = number else { return "nobody hangs up".to_owned() };
        if self.clients[number].reader.close.is_some() && self.clients[number].closing.is_none() {
            self.clients[number].forget_unsent();
            self.clients[number].close(Some(1000));
            return format!("client {number} answers the close frame");
        }
        self.hang_up(number);
        format!("client {number} hangs up")
    }

    /// Nothing happens for a while, but for what an event loop does about it.
    fn step_wait(&mut self) -> String {
        let millis = *self.rng.pick(&[300, 1000, 1000, 3000, 3000, 9000, 15_000]);
        if self.rng.chance(70) {
            (0..self.clients.len()).filter(|number| number % 3 > 0).for_each(|number| {
                if self.clients[number].is_live() && !self.clients[number].quiet {
                    self.clients[number].heartbeat();
                }
            });
        }
        let end = self.now + Duration::from_millis(millis);
        self.turn_until_idle();
        while let Some(due) = self.shards.iter().filter_map(Endpoint::poll_timeout).min() {
            if due > end {
                break;
            }
            self.now = self.now.max(due);
            self.turn_until_idle();
        }
        self.now = end;
        format!("{millis} ms pass")
    }

    /// Turns of an event loop, until nothing is left to be done now.
    fn turn_until_idle(&mut self) {
        for _ in 0..10_000 {
            let mut more = false;
            for shard in 0..self.shards.len() {
                if self.has_mail(shard) {
                    self.take_mail(shard, 1000);
                }
                self.time_out(shard);
                more |= self.flush(shard, 100);
                self.poll_closed(shard);
            }
            if !more && (0..self.shards.len()).all(|shard| !self.has_mail(shard)) {
                return;
            }
        }
        panic!("the shards never come to rest");
    }

    /// Everybody sends what is to be sent and reads what is to be read; then nothing may be missing.
    pub(super) fn settle(&mut self, why: &str) {
        self.trace.note(format!("settling: {why}"));
        self.wires.iter_mut().for_each(|wire| wire.short_percent = 0);
        for _ in 0..1000 {
            let mut rest = true;
            for number in 0..self.clients.len() {
                let client = &self.clients[number];
                if client.gone {
                    continue;
                }
                if client.is_live() && !client.unsent.is_empty() {
                    self.feed(number, usize::MAX);
                    rest = false;
                }
                let client = &self.clients[number];
                let peer = self.wires[client.shard()].peers.get_mut(&client.id.to_bits());
                if let Some(peer) = peer {
                    peer.stalled = false;
                    if peer.blocked {
                        self.unblock(number);
                        rest = false;
                    }
                }
            }
            self.turn_until_idle();
            let has_more = |client: &Client| client.is_live() && !client.unsent.is_empty();
            if rest && !self.clients.iter().any(has_more) {
                break;
            }
        }
        let percent = self.settings.short_percent;
        self.wires.iter_mut().for_each(|wire| wire.short_percent = percent);
        let world = lock(&self.world);
        for client in &self.clients {
            if client.is_live() && client.reader.upgraded && client.reader.close.is_none() {
                client.reader.check_complete(&world);
            }
        }
        drop(world);
        self.check_receipts();
    }

    /// Everybody goes, one way or another.
    fn end(&mut self) {
        if self.rng.chance(30) && !self.draining {
            self.trace.note("drain at the end".to_owned());
            self.drain();
        }
        let polite = self.rng.chance(50);
        for number in 0..self.clients.len() {
            let client = &self.clients[number];
            if !client.is_live() || (self.draining && !polite && number % 2 == 0) {
                // Whoever says nothing is ended by a deadline.
                continue;
            }
            if polite && client.closing.is_none() && self.rng.chance(50) {
                self.clients[number].close(Some(1000));
                self.feed(number, usize::MAX);
                let shard = self.clients[number].shard();
                self.flush(shard, 1);
            }
            self.hang_up(number);
        }
        self.trace.note("everybody has gone".to_owned());
        for _ in 0..1000 {
            self.turn_until_idle();
            let Some(due) = self.shards.iter().filter_map(Endpoint::poll_timeout).min() else { break };
            self.now = self.now.max(due);
        }
    }
}
