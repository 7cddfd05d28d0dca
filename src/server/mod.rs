//! The threads, sockets and clocks around the endpoints: the only folder that touches them.
//!
//! One shard per core: a thread with its own `mio::Poll`, its own listener (`SO_REUSEPORT`) and its own
//! [`Endpoint`]. Shards share nothing but the [`Broker`].

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[cfg(feature = "accounts")]
pub mod accounts;
mod alarm;
mod connect;
#[cfg(feature = "accounts")]
pub mod denials;
#[cfg(all(feature = "api", feature = "accounts"))]
pub mod desk;
mod ending;
mod heap;
#[cfg(feature = "api")]
pub mod inspect;
pub mod keys;
mod listener;
#[cfg(feature = "api")]
mod metrics;
mod pool;
#[cfg(feature = "api")]
mod process;
mod questions;
mod read_queue;
#[cfg(target_os = "linux")]
mod ring;
mod service;
mod shard;
mod signals;
#[cfg(feature = "accounts")]
pub mod store;
mod streams;
#[cfg(feature = "api")]
mod topics;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::Waker;
use mio::net::TcpStream;
use tracing::info;

use crate::auth::deny::Denial;
use crate::auth::token::KeyTag;
use crate::broker::{Broker, Outgoing, Tally};
use crate::channel::{PayloadBuf, Refused, SendError};
use crate::endpoint::{Config, Endpoint, HandedOver};
use crate::guard::{self, Panicked};
use crate::limits::IoUring;
use crate::stats::Stats;

use connect::Reception;
#[cfg(feature = "cli")]
pub(crate) use connect::{unix_millis, unix_time};
use ending::Ending;
use questions::Question;
use service::Office;
use shard::{Helpers, Shard};
pub use signals::{StopSignals, run_until_signalled};
use streams::Streams;

/// 32 bytes that nobody can guess.
///
/// # Panics
/// The system has none to give, as may be while it starts.
#[cfg(feature = "cli")]
pub(crate) fn entropy() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// What a server needs to start.
#[derive(Clone)]
pub struct ServerConfig {
    /// Where it listens; port 0 lets the kernel choose one.
    pub listen: SocketAddr,
    /// Event loops, each on a thread of its own.
    pub shards: usize,
    /// Threads that decide who may connect, where the endpoint has an
    /// [`Admission`](crate::endpoint::Admission).
    pub connect_threads: usize,
    /// Threads that answer requests, where the endpoint has a [`Service`](crate::service::Service).
    pub service_threads: usize,
    /// Whether broadcasts are sent by io_uring.
    pub io_uring: IoUring,
    /// What is served.
    pub endpoint: Config,
}

impl ServerConfig {
    /// `endpoint` on 127.0.0.1:4000, with a shard for each core.
    #[must_use]
    pub fn new(endpoint: Config) -> Self {
        let shards = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4000)),
            shards,
            connect_threads: 2,
            service_threads: 4,
            io_uring: IoUring::default(),
            endpoint,
        }
    }
}

/// What the handle asks of a shard's thread.
enum Control {
    Stats(Sender<Stats>),
    Drain {
        deadline: Instant,
    },
    /// A question about what is there, or something small that is to be done.
    Ask(Question),
    /// A connection comes from another shard.
    Adopt {
        stream: TcpStream,
        handed_over: HandedOver,
    },
}

/// What a shard's thread has been asked and has not done yet; `None` once it has ended.
type Controls = Mutex<Option<VecDeque<Control>>>;

/// The handle's side of a shard.
struct Remote {
    control: Arc<Controls>,
    waker: Arc<Waker>,
}

impl Remote {
    fn send(&self, control: Control) {
        match &mut *self.control.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(controls) => controls.push_back(control),
            // Nobody does it any more; a connection is closed by being dropped.
            None => return,
        }
        // A waker fails only when its loop is gone, and then nobody is to be woken.
        let _ = self.waker.wake();
    }
}

/// A running server. Dropping it leaves the server running; end it with [`shutdown`](Server::shutdown).
pub struct Server {
    handle: ServerHandle,
    threads: Vec<JoinHandle<io::Result<Stats>>>,
    ended: Receiver<()>,
    helpers: Helpers,
    helping: Vec<JoinHandle<()>>,
    companions: Vec<Companion>,
}

/// What ends with a server.
type Companion = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// Tells when a shard's thread ends, in whatever way.
struct Farewell(Sender<()>);

impl Drop for Farewell {
    fn drop(&mut self) {
        // The server may have been forgotten by whoever started it.
        let _ = self.0.send(());
    }
}

/// A running server, from any thread.
#[derive(Clone)]
pub struct ServerHandle {
    broker: Arc<Broker>,
    remotes: Arc<[Remote]>,
    address: SocketAddr,
    drain_timeout: Duration,
    ending: Arc<Ending>,
}

impl Server {
    /// Binds, and starts the shards.
    ///
    /// # Errors
    /// The address can't be bound (taken, not ours, not allowed), or the system refuses a thread or an event
    /// queue.
    pub fn start(config: &ServerConfig) -> io::Result<Self> {
        let limits = &config.endpoint.limits;
        let with_ring = may_use_ring(config.io_uring)?;
        let listeners = listener::bind(config.listen, config.shards.max(1), limits)?;
        let address = listeners[0].local_addr()?;
        let mut shards = Vec::with_capacity(listeners.len());
        for listener in listeners {
            shards.push(Shard::new(listener, Arc::clone(limits))?);
        }
        let wakes = shards.iter().map(|shard| {
            let waker = shard.waker();
            Box::new(move || drop(waker.wake())) as Box<dyn Fn() + Send + Sync>
        });
        let broker = Broker::new(limits, wakes.collect());
        let remotes: Arc<[Remote]> =
            shards.iter().map(|shard| Remote { control: shard.control(), waker: shard.waker() }).collect();
        let (helpers, helping) = start_helpers(config, &shards)?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let mut threads = Vec::with_capacity(shards.len());
        let (farewell, ended) = channel();
        let (ready, is_ready) = channel();
        for (number, shard) in (0u16..).zip(shards) {
            let (endpoint, broker) = (config.endpoint.clone(), Arc::clone(&broker));
            let thread = std::thread::Builder::new().name(format!("hailer-shard-{number}"));
            let farewell = Farewell(farewell.clone());
            let remotes = Arc::clone(&remotes);
            let (helpers, ready) = (helpers.clone(), ready.clone());
            threads.push(thread.spawn(move || {
                let _farewell = farewell;
                let streams = Streams::of_this_thread(with_ring);
                // Whoever has started the server waits until all have said so.
                let _ = ready.send(());
                drop(ready);
                let endpoint = Endpoint::new(endpoint, &broker, number, &seed, Instant::now());
                shard.run(endpoint, number, streams, remotes, helpers)
            })?);
        }
        // What a shard needs it has from here on, so its descriptors are those of an idle server.
        drop(ready);
        is_ready.iter().for_each(drop);
        info!(%address, shards = threads.len(), "listening");
        let drain_timeout = limits.drain_timeout;
        let handle = ServerHandle { broker, remotes, address, drain_timeout, ending: Arc::default() };
        Ok(Self { handle, threads, ended, helpers, helping, companions: Vec::new() })
    }

    /// The handle, to be cloned into other threads.
    #[must_use]
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// Has something end with this server: `end` is called when its shards have ended, and is waited for. Should it
    /// panic, [`wait`](Self::wait) returns an error.
    pub fn accompany(&mut self, end: impl FnOnce() -> io::Result<()> + Send + 'static) {
        self.companions.push(Box::new(end));
    }

    /// Ends the server: no connection is accepted any more, WebSockets are closed with code 1012, what is
    /// queued is written, within `drain_timeout`. What was counted is returned; `connections` are those that
    /// the time did not suffice for.
    ///
    /// # Errors
    /// A shard's loop has failed.
    pub fn shutdown(self) -> io::Result<Stats> {
        self.handle.drain();
        self.wait()
    }

    /// Waits until the server has ended. What was counted is returned.
    ///
    /// # Errors
    /// A shard's loop has failed.
    pub fn wait(self) -> io::Result<Stats> {
        let ending = Arc::clone(&self.handle.ending);
        let joined = |thread: JoinHandle<_>| {
            ending.wait_for(format!("the thread {}", thread.thread().name().unwrap_or_default()));
            thread.join().map_err(Panicked::new)
        };
        let shards: Vec<_> = self.threads.into_iter().map(joined).collect();
        if let Some(reception) = &self.helpers.reception {
            reception.close();
        }
        if let Some(office) = &self.helpers.office {
            office.close();
        }
        // A decision that hangs (a database that doesn't answer) holds nobody up: its thread ends with the
        // process.
        // Each of them ends, whatever becomes of the others; the first failure is returned.
        let ended = self.companions.into_iter().map(|end| {
            guard::call(end).unwrap_or_else(|panicked| {
                Err(io::Error::other(format!("what accompanies the server has {panicked}")))
            })
        });
        let ended = ended.fold(Ok(()), io::Result::and);
        self.helping.into_iter().filter(JoinHandle::is_finished).for_each(|thread| {
            let _ = thread.join().map_err(Panicked::new);
        });
        let mut sum = Stats::default();
        for shard in shards {
            sum +=
                shard.map_err(|panicked| io::Error::other(format!("a shard's thread has {panicked}")))??;
        }
        ended.map(|()| sum)
    }

    /// Waits until the first of the shards has ended.
    fn wait_for_first(&self) {
        let _ = self.ended.recv();
    }
}

/// Whether a server that is to listen there could: the address is this machine's, and no other program has it.
///
/// # Errors
/// As those of [`Server::start`] about the address.
#[cfg(feature = "cli")]
pub(crate) fn probe_address(address: SocketAddr) -> io::Result<()> {
    listener::probe(address)
}

/// Whether a server with this setting of io_uring could start here.
///
/// # Errors
/// As those of [`Server::start`] about io_uring.
#[cfg(feature = "cli")]
pub(crate) fn probe_ring(wanted: IoUring) -> io::Result<()> {
    // What can't be used is only said of a server that starts.
    if wanted == IoUring::On { may_use_ring(wanted).map(drop) } else { Ok(()) }
}

/// Whether the shards are to send by io_uring.
fn may_use_ring(wanted: IoUring) -> io::Result<bool> {
    if wanted == IoUring::Off {
        return Ok(false);
    }
    // On a thread of its own: the end of a ring may interrupt a system call of the thread that made it.
    let probe = std::thread::Builder::new().name("hailer-probe".to_owned());
    let probed = probe.spawn(|| Streams::default().use_ring())?.join();
    let probed = probed
        .map_err(Panicked::new)
        .unwrap_or_else(|panicked| Err(io::Error::other(format!("the probe has {panicked}"))));
    match (probed, wanted) {
        (Ok(()), _) => Ok(true),
        (Err(error), IoUring::On) => {
            let message = format!("io_uring = \"on\", but it can't be used: {error}");
            // Whatever the system says, it is not about an address.
            Err(io::Error::new(io::ErrorKind::Unsupported, message))
        }
        (Err(error), _) => {
            info!(%error, "io_uring can't be used: broadcasts are sent one by one");
            Ok(false)
        }
    }
}

/// Starts the threads that work for the shards.
fn start_helpers(config: &ServerConfig, shards: &[Shard]) -> io::Result<(Helpers, Vec<JoinHandle<()>>)> {
    let (mut helpers, mut helping) = (Helpers::default(), Vec::new());
    if let Some(admission) = &config.endpoint.admission {
        let verdicts = shards.iter().map(Shard::verdicts).collect();
        let connect = Arc::clone(&admission.connect);
        let (reception, threads) = Reception::start(connect, config.connect_threads, verdicts)?;
        helpers.reception = Some(reception);
        helping.extend(threads);
    }
    if let Some(service) = &config.endpoint.service {
        let replies = shards.iter().map(Shard::replies).collect();
        let (office, threads) = Office::start(Arc::clone(service), config.service_threads, replies)?;
        helpers.office = Some(office);
        helping.extend(threads);
    }
    Ok((helpers, helping))
}

impl ServerHandle {
    /// The address that is listened on, with the port that the kernel chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Broadcasts an event to all subscribers of a topic. They get it in the order of the calls.
    ///
    /// # Errors
    /// A shard has too much to do: no client has got the event, try again later. Or the server is stopping
    /// ([`is_ending`](Self::is_ending)), or has stopped. The payload is given back.
    pub fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: PayloadBuf,
    ) -> Result<(), Refused<PayloadBuf>> {
        self.broker.broadcast(topic, event, payload)
    }

    /// Broadcasts several, with all that can be asked of a broadcast, or none of them: the place of the first in the
    /// node's order, counted from 1.
    ///
    /// # Errors
    /// As for [`broadcast`](Self::broadcast); no tally is counted then.
    pub fn publish_all(&self, outgoing: Vec<Outgoing<'_>>) -> Result<u64, SendError> {
        self.broker.publish_all(outgoing)
    }

    /// Counts for so many broadcasts; `done` is called when all shards have taken all of them, in the thread of a shard:
    /// it must not block. Should it panic, that is logged.
    #[must_use]
    pub fn tally(&self, broadcasts: usize, done: impl Fn() + Send + Sync + 'static) -> Arc<Tally> {
        Tally::new(broadcasts, self.broker.shards(), done)
    }

    /// Closes all sockets with this id (`user_socket:<user>`), on every shard and both transports, behind what
    /// was broadcast before (Phoenix: `Endpoint.broadcast(id, "disconnect", %{})`). `reconnect` says whether
    /// clients are to come back (close code 1001) or to stay away (1000).
    ///
    /// # Errors
    /// A shard has too much to do: nobody was disconnected, try again later. Or the server is stopping, or has stopped.
    pub fn disconnect(&self, socket_id: &str, reconnect: bool) -> Result<(), SendError> {
        let payload = serde_json::json!({ "reconnect": reconnect }).into();
        Ok(self.broadcast(socket_id, "disconnect", payload)?)
    }

    /// Closes the live sockets whose tokens are denied, with code 4003. Refusing such tokens from here on is for
    /// the hook, whose [`DenyList`](crate::auth::deny::DenyList) they belong into first.
    pub fn deny(&self, denials: &Arc<[Denial]>) {
        self.broker.deny(denials);
    }

    /// Closes the live sockets whose tokens were verified with other keys than these, with code 4001: their
    /// clients come back with fresh tokens. Refusing such tokens from here on is for the hook.
    pub fn retain_keys(&self, keys: &Arc<[KeyTag]>) {
        self.broker.retain_keys(keys);
    }

    /// The counters of all shards, added up. Shards that don't answer within a second are left out.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.collect(&self.ask())
    }

    /// Whether the server has begun to end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.broker.is_closed()
    }

    /// Whether no shard runs any more.
    #[cfg(feature = "accounts")]
    fn has_ended(&self) -> bool {
        self.remotes
            .iter()
            .all(|remote| remote.control.lock().unwrap_or_else(PoisonError::into_inner).is_none())
    }

    /// Asks every shard for its counters.
    fn ask(&self) -> Receiver<Stats> {
        let (sender, receiver) = channel();
        for remote in &*self.remotes {
            remote.send(Control::Stats(sender.clone()));
        }
        receiver
    }

    fn collect(&self, receiver: &Receiver<Stats>) -> Stats {
        let mut sum = Stats::default();
        let deadline = Instant::now() + Duration::from_secs(1);
        for _ in 0..self.remotes.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left) {
                Ok(stats) => sum += stats,
                Err(_) => break,
            }
        }
        sum
    }

    /// Begins to end the server; it has `drain_timeout` for it.
    pub fn drain(&self) {
        self.drain_within(self.drain_timeout);
    }

    /// Begins to end the server, and tells what there was before.
    fn drain_counted(&self) -> Stats {
        // A shard takes what it is asked in order, so the answer comes from before the drain, and the drain
        // does not wait for it.
        let answers = self.ask();
        self.drain();
        self.collect(&answers)
    }

    /// Begins to end the server, or shortens the time that it has left for it.
    pub fn drain_within(&self, time: Duration) {
        self.drain_until(Instant::now() + time);
    }

    fn drain_until(&self, deadline: Instant) {
        // What is taken before stands in front of the end, and is delivered.
        self.broker.close();
        for remote in &*self.remotes {
            remote.send(Control::Drain { deadline });
        }
        if let Some(follower) = self.ending.shorten(deadline) {
            follower.drain_until(deadline);
        }
    }
}
