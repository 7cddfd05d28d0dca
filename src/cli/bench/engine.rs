//! The loop: one thread, one read buffer, a few words for each client.

use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event as Ready;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use socket2::SockRef;

use super::api::{API, Api};
use super::args::Sources;
use super::churn::Churn;
use super::clock;
use super::connect::connect;
use super::core::{Core, Role};
use super::pollers::{FIRST_POLLER, FIRST_TOKEN, Poller};
use super::private::Private;
use super::process::Watch;
use super::progress::Progress;
use super::publish::Open;
use super::target::{Target, Tokens};
use super::workers::Workers;
use crate::load::client::{Client, Speech, Stage};
use crate::load::outcome::Sample;
use crate::load::wire::write_upgrade;

/// Of the one buffer that everybody is read into: more than a burst leaves in most sockets.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Events that are handled before the loop looks at what is due.
const EVENTS_PER_TURN: usize = 1_024;
/// Connections that are begun before the loop looks at those that are there.
const CONNECTS_PER_TURN: usize = 32;
/// Between two looks at the schedule while events are handled.
const EVENTS_PER_LOOK: usize = 16;
/// Failed connections before the first one is in, after which the run is given up.
const FAILURES_MAX: u64 = 20;

/// What the kernel holds for a client that doesn't read, so that the rest stays with the server.
const SLOW_RECEIVE_BYTES: usize = 8 * 1024;

const WAKER: Token = Token(usize::MAX);
const SECOND: u64 = 1_000_000;

/// A client and its connection.
pub(super) struct Slot {
    pub(super) client: Client,
    pub(super) stream: Option<TcpStream>,
    pub(super) role: Role,
    /// Whether it counts as connecting or joining.
    under_way: bool,
    /// Whether it counts as in.
    is_in: bool,
    /// Whether what comes is read.
    pub(super) reads: bool,
    /// When it began to connect.
    pub(super) began: u64,
}

impl Slot {
    pub(super) fn new(role: Role) -> Self {
        Self {
            client: Client::default(),
            stream: None,
            role,
            under_way: false,
            is_in: false,
            reads: true,
            began: 0,
        }
    }
}

/// Everything that moves.
pub(super) struct Engine {
    poll: Poll,
    waker: Arc<Waker>,
    events: Events,
    pub(super) buffer: Box<[u8]>,
    pub(super) slots: Vec<Slot>,
    pub(super) core: Core,
    pub(super) speech: Speech,
    pub(super) target: Target,
    pub(super) publish_target: Option<Target>,
    pub(super) tokens: Tokens,
    pub(super) sources: Option<Sources>,
    /// The schedule of an open loop, while there is one.
    pub(super) open: Option<Open>,
    /// Bytes of the publisher that the kernel has not taken yet.
    pub(super) unsent: Vec<u8>,
    /// Clients that come and go, while there are some.
    pub(super) churn: Option<Churn>,
    /// Where messages are published, if not by a client.
    pub(super) api: Option<Api>,
    /// Chooses who gets a private message; how many each has got.
    pub(super) private: Option<Private>,
    pub(super) started: u64,
    sample_due: u64,
    sampled_cpu: u64,
    pub(super) series: Vec<Sample>,
    pub(super) server: Option<Watch>,
    pub(super) request: String,
    /// The number of the first client among those of all processes.
    pub(super) first_client: u32,
    /// Other processes with clients, and how many of these are in.
    pub(super) workers: Option<Workers>,
    pub(super) joined_elsewhere: u32,
    /// Clients on long-poll, and how many of them are in.
    pub(super) pollers: Vec<Poller>,
    pub(super) pollers_in: u32,
    /// A message of an answer to a poll, while it is looked at.
    pub(super) unescaped: Vec<u8>,
    progress: Progress,
    phase: Phase,
}

/// What goes on, for who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Measuring,
    Ending,
}

impl Engine {
    pub(super) fn new(
        core: Core,
        speech: Speech,
        target: Target,
        tokens: Tokens,
        progress: Progress,
    ) -> Result<Self, String> {
        let poll = Poll::new().map_err(|error| format!("the system has no event queue: {error}"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(|error| format!("no waker: {error}"))?;
        let now = clock();
        Ok(Self {
            poll,
            waker: Arc::new(waker),
            events: Events::with_capacity(EVENTS_PER_TURN),
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            slots: Vec::new(),
            core,
            speech,
            target,
            publish_target: None,
            tokens,
            sources: None,
            open: None,
            unsent: Vec::new(),
            churn: None,
            api: None,
            private: None,
            started: now,
            sample_due: now + SECOND,
            sampled_cpu: 0,
            series: Vec::new(),
            server: None,
            request: String::new(),
            first_client: 0,
            workers: None,
            joined_elsewhere: 0,
            pollers: Vec::new(),
            pollers_in: 0,
            unescaped: Vec::new(),
            progress,
            phase: Phase::Ending,
        })
    }

    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Serves the clients until `done`, or until nothing of `progress` has changed for so long: whether it is done.
    pub(super) fn run(
        &mut self,
        patience: Duration,
        mut progress: impl FnMut(&Self) -> u64,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, String> {
        let patience = micros(patience);
        let mut best = progress(self);
        let mut deadline = clock() + patience;
        while !done(self) {
            let now = clock();
            if now >= deadline {
                return Ok(false);
            }
            self.turn(deadline)?;
            let reached = progress(self);
            if reached != best {
                best = reached;
                deadline = clock() + patience;
            }
        }
        Ok(true)
    }

    /// Serves the clients for so long.
    pub(super) fn hold(&mut self, time: Duration) -> Result<(), String> {
        let until = clock() + micros(time);
        while clock() < until {
            self.turn(until)?;
        }
        Ok(())
    }

    /// Tells that another part of the run begins, of so many steps if that is known.
    pub(super) fn phase(&mut self, phase: Phase, total: u64) {
        self.phase = phase;
        let now = Instant::now();
        match phase {
            Phase::Connecting => self.progress.phase("connecting", total, now),
            Phase::Measuring => self.progress.phase("measuring", total, now),
            Phase::Ending => self.progress.finish(now),
        }
    }

    fn tell(&mut self) {
        let (joined, ledger) = (self.core.joined + self.pollers_in, &self.core.ledger);
        match self.phase {
            Phase::Connecting => self.progress.set(u64::from(joined), String::new, Instant::now()),
            Phase::Measuring => {
                let note = || format!("{joined} clients, {} messages published", ledger.next_number());
                self.progress.set(ledger.measured, note, Instant::now());
            }
            Phase::Ending => {}
        }
    }

    /// Does what is due, waits for what comes until then, and handles it.
    pub(super) fn turn(&mut self, until: u64) -> Result<(), String> {
        self.tell();
        let now = clock();
        self.do_due(now)?;
        let churn = self.churn.as_ref().and_then(Churn::due);
        let due = [Some(until), Some(self.sample_due), self.core.due(), self.core.line.due(), churn];
        let next = due.into_iter().flatten().min().unwrap_or(until);
        let timeout = Duration::from_micros(next.saturating_sub(now));
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("can't wait for events: {error}")),
        }
        for (at, event) in events.iter().enumerate() {
            if at % EVENTS_PER_LOOK == 0 {
                self.publish_due(clock());
            }
            match event.token() {
                WAKER => {}
                API => self.handle_api(),
                Token(FIRST_TOKEN..) => self.handle_poller(event),
                _ => self.handle_ready(event),
            }
        }
        self.events = events;
        if let Some(workers) = &mut self.workers {
            workers.take();
            if let Some(failure) = workers.failure() {
                return Err(failure.to_owned());
            }
        }
        Ok(())
    }

    fn do_due(&mut self, now: u64) -> Result<(), String> {
        self.publish_due(now);
        for _ in 0..CONNECTS_PER_TURN {
            let Some(index) = self.core.line.next(now) else { break };
            if index >= FIRST_POLLER {
                self.connect_poller(index, clock());
            } else {
                self.connect(index, clock());
            }
        }
        for _ in 0..CONNECTS_PER_TURN {
            let Some(index) = self.core.herd.as_mut().and_then(|herd| herd.next(now)) else { break };
            self.try_again(index);
        }
        self.churn_due(now);
        while let Some((due, index)) = self.core.next_heartbeat(now) {
            let slot = &mut self.slots[index as usize];
            if let (Some(stream), true) = (&mut slot.stream, slot.client.heartbeat_due == due) {
                self.core.send_heartbeat(index, &mut slot.client, stream, clock());
            }
        }
        while let Some((index, sent)) = self.core.next_overdue(now) {
            if self.slots[index as usize].client.lacks_heartbeat(sent) {
                self.core.wrong("heartbeats that were not answered in time");
                self.disconnect(index);
            }
        }
        if now >= self.sample_due {
            self.sample(now);
        }
        let failed: u64 = self.core.errors.values().sum();
        let nobody_is_in = self.core.upgrade.count() == 0
            || (self.core.denied >= FAILURES_MAX && self.core.join.count() == 0);
        if nobody_is_in && failed >= FAILURES_MAX {
            return Err(self.nobody_gets_in());
        }
        Ok(())
    }

    /// Why nobody gets in, and what to do about it.
    pub(super) fn nobody_gets_in(&self) -> String {
        let why: Vec<&str> = self.core.errors.keys().map(String::as_str).collect();
        let advice = self.core.advice().map(|advice| format!("\n{advice}")).unwrap_or_default();
        format!("nobody gets in at {}: {}{advice}", self.target.shown(), why.join("; "))
    }

    /// Begins to connect a client.
    pub(super) fn connect(&mut self, index: u32, now: u64) {
        let slot = &mut self.slots[index as usize];
        let is_publisher = slot.role == Role::Publisher;
        let target = self.publish_target.as_ref().filter(|_| is_publisher).unwrap_or(&self.target);
        let source = self.sources.map(|sources| sources.of(self.first_client + index));
        let buffer = (slot.role == Role::Slow).then_some(SLOW_RECEIVE_BYTES);
        let begun = connect(source, target.address, buffer).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(index as usize), interest)?;
            Ok(stream)
        });
        match begun {
            Ok(stream) => {
                if is_publisher {
                    // A publisher's next message is not to wait for the acknowledgement of the last one.
                    let _ = stream.set_nodelay(true);
                }
                slot.stream = Some(stream);
                slot.client.begin(now);
                (slot.began, slot.reads) = (now, true);
                slot.under_way = true;
                self.core.line.under_way += 1;
            }
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                self.core.wrong(
                    "connections without a port: give more addresses, such as --source 127.0.0.1-127.0.0.4",
                );
            }
            Err(_) if self.core.herd.is_some() => {}
            Err(error) => self.core.wrong(format!("connections that failed: {error}")),
        }
    }

    /// Sends the request for a WebSocket once the connection is there.
    fn connected(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let Some(stream) = &mut slot.stream else { return };
        if let Ok(Some(error)) | Err(error) = stream.take_error() {
            if self.core.herd.is_some() {
                return self.disconnect(index);
            }
            self.core.wrong(format!("connections that failed: {error}"));
            return self.disconnect(index);
        }
        if stream.peer_addr().is_err() {
            return;
        }
        let target = self.publish_target.as_ref().filter(|_| slot.role == Role::Publisher);
        let target = target.unwrap_or(&self.target);
        let mut path = String::new();
        self.tokens.add_to(&target.path, self.first_client + index, &mut path);
        self.request.clear();
        write_upgrade(&mut self.request, &target.host, &path);
        slot.client.stage = Stage::Upgrading;
        match stream.write(self.request.as_bytes()) {
            Ok(n) if n == self.request.len() => {}
            _ => {
                self.core.wrong("requests that the server did not take");
                self.disconnect(index);
            }
        }
    }

    #[inline]
    fn handle_ready(&mut self, event: &Ready) {
        let Ok(index) = u32::try_from(event.token().0) else { return };
        let stage = self.slots[index as usize].client.stage;
        if stage == Stage::Connecting {
            if event.is_writable() || event.is_error() {
                self.connected(index);
            }
            return;
        }
        if event.is_writable()
            && !self.unsent.is_empty()
            && self.slots[index as usize].role == Role::Publisher
        {
            self.send_unsent();
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index, event.is_read_closed());
        }
    }

    /// Reads what there is. A read that doesn't fill the buffer has taken everything, unless the end stands behind it.
    #[inline]
    pub(super) fn read(&mut self, index: u32, to_the_end: bool) {
        let slot = &mut self.slots[index as usize];
        if !slot.reads {
            return;
        }
        let Slot { client, stream: Some(stream), role, .. } = slot else { return };
        loop {
            let n = match stream.read(&mut self.buffer) {
                Ok(0) => {
                    self.core.lost(*role, "connections ended by the server without a close frame".to_owned());
                    return self.disconnect(index);
                }
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.core.lost(*role, format!("connections that broke: {error}"));
                    return self.disconnect(index);
                }
            };
            let now = clock();
            let own = self.core.own_topics.get(index as usize).map(Rc::clone);
            let (core, role) = (&mut self.core, *role);
            let mut on = |client: &mut Client, event: crate::load::client::Event<'_>| {
                core.on(index, role, client, stream, event, now);
            };
            client.take(&self.buffer[..n], now, &self.speech, own.as_deref(), &mut on);
            if client.stage == Stage::Off {
                return self.disconnect(index);
            }
            if n < self.buffer.len() && !to_the_end {
                break;
            }
        }
        if slot.under_way && slot.client.stage == Stage::In {
            (slot.under_way, slot.is_in) = (false, true);
        }
        if slot.role == Role::Churner {
            self.churn_step(index);
        }
    }

    /// The queue of events, for a socket beside the clients'.
    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Takes a client's connection away.
    pub(super) fn disconnect(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.client.end();
        slot.stream = None;
        if std::mem::take(&mut slot.under_way) {
            self.core.line.under_way = self.core.line.under_way.saturating_sub(1);
        }
        if std::mem::take(&mut slot.is_in) {
            match slot.role {
                Role::Subscriber => self.core.joined -= 1,
                Role::Publisher => self.core.publisher_in = false,
                Role::Slow | Role::Churner => {}
            }
        }
        if self.slots[index as usize].role == Role::Churner {
            self.end_cycle(index);
        } else {
            self.comes_back(index);
        }
    }

    /// Sends what is left of the publisher's bytes, as far as the kernel takes them.
    pub(super) fn send_unsent(&mut self) {
        let publisher = self.slots.iter_mut().rev().find(|slot| slot.role == Role::Publisher);
        let Some(stream) = publisher.and_then(|slot| slot.stream.as_mut()) else { return };
        let mut sent = 0;
        while sent < self.unsent.len() {
            match stream.write(&self.unsent[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A broken connection is noticed where it is read.
                Err(_) => break,
            }
        }
        self.unsent.drain(..sent);
    }

    fn sample(&mut self, now: u64) {
        while self.sample_due <= now {
            self.sample_due += SECOND;
        }
        let glance = self.server.as_mut().and_then(|server| server.glance().ok());
        let cpu = glance.map_or(self.sampled_cpu, |glance| glance.cpu_micros);
        let recent = &mut self.core.ledger.recent;
        self.series.push(Sample {
            at: now.saturating_sub(self.started) as f64 / SECOND as f64,
            clients: u64::from(self.core.joined + self.pollers_in),
            deliveries: recent.count(),
            p50_micros: recent.percentile(50.0),
            p99_micros: recent.percentile(99.0),
            server_cpu_micros: cpu.saturating_sub(std::mem::replace(&mut self.sampled_cpu, cpu)),
            server_rss_bytes: glance.map_or(0, |glance| glance.rss_bytes),
        });
        recent.clear();
    }

    /// Ends all connections with a reset, so that their ports are free for the next run.
    pub(super) fn close(&mut self) {
        self.close_pollers();
        for slot in &mut self.slots {
            if let Some(stream) = slot.stream.take() {
                // Without it the port rests for a minute, no more.
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            slot.client.end();
        }
    }
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
