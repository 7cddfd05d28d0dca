//! One shard's event loop.
//!
//! A turn: wait; take mail; let in those who may connect; accept; read; deadlines; write; close. Nothing before the flush writes to a
//! socket, so a connection gets one write in a turn however much has happened to it.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use tracing::{error, info, warn};

use super::alarm::Alarm;
use super::connect::{Reception, Verdicts, unix_time};
use super::heap::{self, Crowd};
use super::listener;
use super::read_queue::ReadQueue;
use super::service::{Office, Replies};
use super::streams::{Received, Streams};
use super::{Control, Controls, Remote};
use crate::auth::connect::Verdict;
use crate::endpoint::{CallTicket, ConnectionId, Endpoint, HandedOver, Reading, Ticket};
use crate::limits::Limits;
use crate::service::ServiceReply;
use crate::stats::Stats;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const ALARM: Token = Token(usize::MAX - 2);

/// Readiness events taken from the kernel at once.
const EVENTS: usize = 1024;
/// Bytes of the buffer that all connections of a shard are read into.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// A shard that is bound but not yet running.
pub(super) struct Shard {
    poll: Poll,
    waker: Arc<Waker>,
    control: Arc<Controls>,
    listener: TcpListener,
    limits: Arc<Limits>,
    verdicts: Verdicts,
    replies: Replies,
}

/// The threads that work for all shards.
#[derive(Clone, Default)]
pub(super) struct Helpers {
    /// Where it is decided who may connect.
    pub(super) reception: Option<Arc<Reception>>,
    /// Where requests are answered that are not for the loop.
    pub(super) office: Option<Arc<Office>>,
}

impl Shard {
    pub(super) fn new(mut listener: TcpListener, limits: Arc<Limits>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let verdicts = Verdicts::new(Arc::clone(&waker));
        let replies = Replies::new(Arc::clone(&waker));
        let control = Arc::new(Mutex::new(Some(VecDeque::new())));
        Ok(Self { poll, waker, control, listener, limits, verdicts, replies })
    }

    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    pub(super) fn control(&self) -> Arc<Controls> {
        Arc::clone(&self.control)
    }

    pub(super) fn verdicts(&self) -> Verdicts {
        self.verdicts.clone()
    }

    pub(super) fn replies(&self) -> Replies {
        self.replies.clone()
    }

    /// Runs until it is drained; what it has counted is returned.
    pub(super) fn run(
        self,
        endpoint: Endpoint,
        number: u16,
        streams: Streams,
        remotes: Arc<[Remote]>,
        helpers: Helpers,
    ) -> io::Result<Stats> {
        let mut running = Running {
            alarm: Alarm::new(self.poll.registry(), ALARM),
            poll: self.poll,
            control: self.control,
            listens_everywhere: self.listener.local_addr().is_ok_and(|address| address.ip().is_unspecified()),
            listener: Some(self.listener),
            deferred: listener::defers_accept(&self.limits),
            limits: self.limits,
            endpoint,
            number,
            helpers,
            verdicts: self.verdicts,
            decided: Vec::new(),
            replies: self.replies,
            replied: Vec::new(),
            remotes,
            streams,
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            readable: ReadQueue::default(),
            paused: HashSet::new(),
            acceptable: false,
            accept_paused_until: None,
            crowd: Crowd::default(),
            accept_pause_logged: false,
            drain_deadline: None,
        };
        let result = running.run();
        if let Err(error) = &result {
            error!(%error, shard = number, "the event loop has failed");
        }
        result.map(|()| running.endpoint.stats())
    }
}

struct Running {
    poll: Poll,
    alarm: Alarm,
    control: Arc<Controls>,
    /// Closed while draining.
    listener: Option<TcpListener>,
    /// Connections are accepted when they have sent something.
    deferred: bool,
    /// Connections may come to any address of the machine, and the system has to be asked to which.
    listens_everywhere: bool,
    limits: Arc<Limits>,
    endpoint: Endpoint,
    number: u16,
    helpers: Helpers,
    verdicts: Verdicts,
    /// Decisions that have been taken and are acted on.
    decided: Vec<(Ticket, Verdict)>,
    replies: Replies,
    /// Answers that have been taken and are given.
    replied: Vec<(CallTicket, ServiceReply)>,
    /// All shards of the server, by number.
    remotes: Arc<[Remote]>,
    streams: Streams,
    buffer: Box<[u8]>,
    readable: ReadQueue,
    /// Connections that are not read from until their peers take bytes again.
    paused: HashSet<ConnectionId>,
    /// The listener's edge has come, and it has not yet said `WouldBlock`.
    acceptable: bool,
    accept_paused_until: Option<Instant>,
    crowd: Crowd,
    accept_pause_logged: bool,
    drain_deadline: Option<Instant>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let controls = self.control.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(controls);
    }
}

impl Running {
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let (mut more, mut ended) = (false, Instant::now());
        loop {
            let timeout =
                if more { Some(Duration::ZERO) } else { self.alarm.timeout(self.deadline(), ended) };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let now = Instant::now();
            for event in &events {
                self.note(event);
            }
            self.obey(now);
            more = self.endpoint.handle_mailbox(self.limits.mail_per_turn, now);
            more |= self.admit(now);
            more |= self.reply(now);
            more |= self.accept(now)?;
            more |= self.read(now);
            self.ask();
            self.endpoint.handle_timeout(now);
            more |= self.endpoint.flush(self.limits.writes_per_turn, now, &mut self.streams);
            self.watch(now);
            self.hand_over();
            self.close();
            // The clock is read twice a turn: what the next wait is counted from is the end of this one.
            ended = Instant::now();
            self.endpoint.end_turn(now, ended);
            if self.drain_deadline.is_some_and(|deadline| self.endpoint.is_drained() || now >= deadline) {
                return Ok(());
            }
        }
    }

    /// When there is something to do although nothing has come.
    fn deadline(&self) -> Option<Instant> {
        let resume = self.accept_paused_until.filter(|_| self.acceptable);
        [self.endpoint.poll_timeout(), resume, self.drain_deadline].into_iter().flatten().min()
    }

    /// Notes what has become ready; nothing is read or written yet.
    fn note(&mut self, event: &Event) {
        match event.token() {
            LISTENER => self.acceptable = true,
            WAKER => {}
            ALARM => self.alarm.handle_ring(),
            token => {
                let id = ConnectionId::from_bits(token.0 as u64);
                if event.is_writable() {
                    self.endpoint.handle_writable(id);
                    if self.paused.remove(&id) {
                        // What has come in the meantime brings no further edge.
                        self.readable.push(id, false);
                    }
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.readable.push(id, event.is_read_closed() || event.is_error());
                }
            }
        }
    }

    /// Has it decided who may connect, and requests answered that are not for the loop.
    fn ask(&mut self) {
        if let Some(reception) = &self.helpers.reception {
            while let Some((ticket, request)) = self.endpoint.poll_connect() {
                reception.ask(self.number, ticket, request);
            }
        }
        if let Some(office) = &self.helpers.office {
            while let Some((ticket, mut request)) = self.endpoint.poll_call() {
                if self.listens_everywhere && request.host().is_some_and(|host| host.address().is_some()) {
                    request.local = self.streams.local(ticket.connection());
                }
                office.ask(self.number, ticket, request);
            }
        }
    }

    /// Gives the answers that have come, within the budget; whether some were left.
    fn reply(&mut self, now: Instant) -> bool {
        if self.helpers.office.is_none() {
            return false;
        }
        let left = self.replies.take(self.limits.accepts_per_turn, &mut self.replied);
        for (ticket, reply) in self.replied.drain(..) {
            self.endpoint.handle_reply(ticket, &reply, now);
        }
        left
    }

    /// Lets in those about whom it was decided, or not, within the budget; whether some were left.
    fn admit(&mut self, now: Instant) -> bool {
        if self.helpers.reception.is_none() {
            return false;
        }
        self.endpoint.set_unix_time(unix_time());
        let left = self.verdicts.take(self.limits.accepts_per_turn, &mut self.decided);
        for (ticket, verdict) in self.decided.drain(..) {
            self.endpoint.handle_verdict(ticket, verdict, now);
        }
        left
    }

    /// Does what the server's handle has asked for.
    fn obey(&mut self, now: Instant) {
        let controls =
            self.control.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(std::mem::take);
        for control in controls.into_iter().flatten() {
            match control {
                Control::Stats(sender) => {
                    // Whoever asked may have stopped waiting.
                    let _ = sender.send(self.endpoint.stats());
                }
                Control::Ask(question) => question(&mut self.endpoint, &self.streams, now),
                Control::Adopt { stream, handed_over } => self.adopt(stream, handed_over, now),
                Control::Drain { deadline } => {
                    if let Some(mut listener) = self.listener.take() {
                        let _ = self.poll.registry().deregister(&mut listener);
                        self.endpoint.drain(now);
                    }
                    self.acceptable = false;
                    self.drain_deadline = Some(self.drain_deadline.map_or(deadline, |old| old.min(deadline)));
                }
            }
        }
    }

    /// Accepts what waits, within the budget; whether more may wait.
    fn accept(&mut self, now: Instant) -> io::Result<bool> {
        if !self.acceptable || self.accept_paused_until.is_some_and(|until| now < until) {
            return Ok(false);
        }
        self.accept_paused_until = None;
        // The places of connections that have ended are about to be used again.
        self.close();
        let Some(listener) = &self.listener else { return Ok(false) };
        for _ in 0..self.limits.accepts_per_turn {
            match listener.accept() {
                Ok((stream, peer)) => {
                    let Some(id) = self.endpoint.accept(peer.ip(), now) else { continue };
                    match self.streams.insert(id, stream, self.poll.registry()) {
                        // Its request is there already: the kernel has waited for it.
                        Ok(()) if self.deferred => self.readable.push(id, false),
                        Ok(()) => {}
                        Err(_) => {
                            self.endpoint.handle_error(id, now);
                            while self.endpoint.poll_closed().is_some() {}
                        }
                    }
                    if std::mem::take(&mut self.accept_pause_logged) {
                        info!("accepting again");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.acceptable = false;
                    return Ok(false);
                }
                Err(error) if is_exhaustion(&error) => {
                    self.endpoint.count_accept_pause();
                    self.accept_paused_until = Some(now + self.limits.accept_pause);
                    if !std::mem::replace(&mut self.accept_pause_logged, true) {
                        warn!(%error, "can't accept: raise the limit of open files (ulimit -n); trying again");
                    }
                    return Ok(false);
                }
                // The peer has gone before it was accepted.
                Err(_) => {}
            }
        }
        Ok(true)
    }

    /// Reads from every connection that may have bytes; whether some were left for the next turn.
    fn read(&mut self, now: Instant) -> bool {
        for _ in 0..self.readable.len() {
            if self.endpoint.is_backlogged() {
                break;
            }
            let Some(id) = self.readable.pop() else { break };
            if self.endpoint.contains(id) && self.read_connection(id, now) {
                self.readable.push(id, false);
            }
        }
        self.readable.shrink();
        !self.readable.is_empty()
    }

    /// Reads from one connection, within the budget; whether more may wait.
    fn read_connection(&mut self, id: ConnectionId, now: Instant) -> bool {
        let until_end = self.readable.has_ended(id);
        for _ in 0..self.limits.reads_per_turn {
            let bytes_max = match self.endpoint.reading(id) {
                Reading::UpTo(bytes_max) => bytes_max.min(self.buffer.len()),
                Reading::AfterFlush => return true,
                // A peer that has ended its side sends nothing more, and its end is to be seen.
                Reading::WhenWritable if until_end => self.buffer.len(),
                Reading::WhenWritable => {
                    self.paused.insert(id);
                    return false;
                }
            };
            match self.streams.receive(id, &mut self.buffer[..bytes_max]) {
                Received::Bytes(n) => {
                    self.endpoint.handle_read(id, &mut self.buffer[..n], now);
                    // What comes after a read that has not filled the buffer brings an edge of its own.
                    if n < bytes_max && !until_end {
                        return false;
                    }
                }
                Received::End => {
                    self.endpoint.handle_eof(id, now);
                    return false;
                }
                Received::Failed => {
                    self.endpoint.handle_error(id, now);
                    return false;
                }
                Received::Nothing => return false,
            }
        }
        true
    }

    /// Takes over a connection whose session is here.
    fn adopt(&mut self, stream: TcpStream, mut handed_over: HandedOver, now: Instant) {
        self.close();
        let Some(id) = self.endpoint.adopt(&mut handed_over, now) else { return };
        if self.streams.insert(id, stream, self.poll.registry()).is_err() {
            self.endpoint.handle_error(id, now);
            self.close();
        }
    }

    /// Has the kernel say when those take bytes again that have not taken all.
    fn watch(&mut self, now: Instant) {
        while let Some(failed) = self.streams.watch(self.poll.registry()) {
            self.endpoint.handle_error(failed, now);
        }
    }

    /// Gives connections away whose sessions other shards have.
    fn hand_over(&mut self) {
        while let Some(handed_over) = self.endpoint.poll_handed_over() {
            self.readable.forget(handed_over.id);
            let Some(mut stream) = self.streams.take(handed_over.id) else { continue };
            // The other shard registers it anew, so it must be gone here; a failure would show there.
            let _ = self.poll.registry().deregister(&mut stream);
            if let Some(remote) = self.remotes.get(usize::from(handed_over.shard)) {
                remote.send(Control::Adopt { stream, handed_over });
            }
        }
    }

    /// Closes the sockets of connections that have ended.
    fn close(&mut self) {
        while let Some(id) = self.endpoint.poll_closed() {
            self.streams.remove(id);
            self.paused.remove(&id);
            self.readable.forget(id);
        }
        if self.endpoint.is_drained() {
            self.streams.clear();
        }
        if self.crowd.has_left(self.streams.open()) {
            self.streams.shrink();
            heap::trim();
        }
    }
}

/// Whether the process or the system has no descriptor, or no memory for one.
fn is_exhaustion(error: &io::Error) -> bool {
    const EXHAUSTED: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| EXHAUSTED.contains(&code))
}
