//! Ending the server by SIGTERM and SIGINT, and having it read its configuration again by SIGHUP.
//!
//! Whatever hangs, the process ends: what may block (the shards' ends, the store's, reading the configuration) happens in
//! threads that the one that waits for signals and for the time does not wait for.

use std::ffi::c_int;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;
use tracing::{error, info, warn};

use super::{Server, ServerHandle};
use crate::guard::{self, Panicked, Place};
use crate::stats::Stats;

/// Time beyond `drain_timeout` in which what was taken is written to the store.
const END_RESERVE: Duration = Duration::from_secs(2);

/// The same after a second signal.
const QUICK_END_RESERVE: Duration = Duration::from_secs(1);

/// The signals that end a server, SIGTERM and SIGINT, caught from here on.
///
/// Those that mean nothing to a server and would end the process by default are caught as well, and only logged: SIGUSR1,
/// SIGUSR2, timers' signals, SIGIO, SIGXFSZ and, on Linux, SIGPWR, SIGSTKFLT and the real-time signals. SIGQUIT and SIGABRT
/// still end it with a core dump.
///
/// A program that says when it is ready should catch them before: whoever waits for that may send one at once.
pub struct StopSignals(Signals);

/// What the thread that ends the process has to know of.
enum Event {
    /// A signal that ends the server.
    Stop(c_int),
    /// The first of the shards has ended.
    Ending,
    /// All that there is to wait for has ended.
    Ended(io::Result<Box<Stats>>),
}

impl StopSignals {
    /// Catches the signals. One that comes before [`run`](Self::run) is obeyed there.
    ///
    /// # Errors
    /// The system refuses.
    pub fn catch() -> io::Result<Self> {
        Self::catch_also(&[])
    }

    /// Catches SIGHUP as well, which [`run_with`](Self::run_with) obeys.
    ///
    /// # Errors
    /// The system refuses.
    pub fn catch_with_reload() -> io::Result<Self> {
        Self::catch_also(&[SIGHUP])
    }

    fn catch_also(more: &[c_int]) -> io::Result<Self> {
        Signals::new([SIGTERM, SIGINT].iter().chain(more).copied().chain(meaningless())).map(Self)
    }

    /// Lets the server run until a signal ends it: the first begins to drain, the second ends what is left at
    /// once.
    ///
    /// # Errors
    /// A shard's loop has failed. Or something hangs and has not ended two seconds after `drain_timeout`, one second after a
    /// second signal, or by a third: the error is of the kind [`TimedOut`](io::ErrorKind::TimedOut) and names it, and the
    /// process should end without it.
    pub fn run(self, server: Server) -> io::Result<()> {
        self.run_with(server, || ())
    }

    /// The same; `reload` is called after each SIGHUP, on a thread of its own, one call at a time: signals that come during
    /// a call are followed by one more. Should it panic, that is logged.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn run_with(self, server: Server, reload: impl FnMut() + Send + 'static) -> io::Result<()> {
        let handle = server.handle().clone();
        let waiter = self.0.handle();
        let (sender, events) = channel();
        let reloads = Reloads::start(reload)?;
        let (signals, to) = (self.0, sender.clone());
        let watcher =
            Builder::new().name("hailer-signals".into()).spawn(move || watch(signals, &reloads, &to))?;
        Builder::new().name("hailer-end".into()).spawn(move || {
            server.wait_for_first();
            let _ = sender.send(Event::Ending);
            // A loop that has ended, by a signal or by a failure, ends the others.
            server.handle().drain();
            let _ = sender.send(Event::Ended(server.wait().map(Box::new)));
        })?;
        let mut stop = Stop::new(handle);
        loop {
            let event = match stop.deadline() {
                None => events.recv().ok(),
                Some(deadline) => {
                    events.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
                }
            };
            match event {
                Some(Event::Stop(signal)) => stop.handle_signal(signal)?,
                Some(Event::Ending) => stop.begin(),
                Some(Event::Ended(result)) => {
                    stop.finish();
                    waiter.close();
                    let _ = watcher.join().map_err(Panicked::new);
                    match &result {
                        Ok(stats) => info!("stopped:{}", counted(stats)),
                        Err(_) => info!("stopped"),
                    }
                    return result.map(drop);
                }
                None => return Err(stop.hangs()),
            }
        }
    }
}

/// Signals that end a process by default, and that mean nothing to a server. SIGPIPE is not among them, which Rust's runtime
/// ignores: that costs nothing where a write fails.
fn meaningless() -> Vec<c_int> {
    let mut signals = vec![
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGXFSZ,
    ];
    #[cfg(target_os = "linux")]
    {
        signals.extend([libc::SIGPWR, libc::SIGSTKFLT]);
        signals.extend(libc::SIGRTMIN()..=libc::SIGRTMAX());
    }
    signals
}

/// Passes signals on.
fn watch(mut signals: Signals, reloads: &Reloads, to: &Sender<Event>) {
    for signal in signals.forever() {
        match signal {
            SIGHUP => reloads.ask(),
            SIGTERM | SIGINT => {
                // At the end nothing is left that they could end.
                let _ = to.send(Event::Stop(signal));
            }
            // Each write beyond the limit of a file's size comes with one, and fails.
            libc::SIGXFSZ => {}
            _ => {
                let name = signal_name(signal).unwrap_or("a real-time signal");
                info!(signal, "{name} means nothing to a server and is ignored");
            }
        }
    }
}

/// The thread that reads the configuration again.
struct Reloads {
    asks: SyncSender<()>,
    busy: Arc<AtomicBool>,
}

impl Reloads {
    fn start(mut reload: impl FnMut() + Send + 'static) -> io::Result<Self> {
        // With one that waits, a further one has nothing to add.
        let (asks, asked) = sync_channel(1);
        let busy = Arc::new(AtomicBool::new(false));
        let is_busy = Arc::clone(&busy);
        Builder::new().name("hailer-reload".into()).spawn(move || {
            for () in asked {
                is_busy.store(true, Ordering::Relaxed);
                if let Err(panicked) = guard::call(&mut reload) {
                    Place::Reload.note(&panicked);
                }
                is_busy.store(false, Ordering::Relaxed);
            }
        })?;
        Ok(Self { asks, busy })
    }

    fn ask(&self) {
        if self.busy.load(Ordering::Relaxed) {
            warn!(
                "the configuration is still being read after an earlier SIGHUP, and will be read once more after that"
            );
        }
        let _ = self.asks.try_send(());
    }
}

/// The end of a server, by signals and by the time.
struct Stop {
    handle: ServerHandle,
    signals: u32,
    deadline: Option<Instant>,
    /// What asks the shards to end, which may hang with one of them.
    drains: Vec<JoinHandle<()>>,
}

impl Stop {
    fn new(handle: ServerHandle) -> Self {
        Self { handle, signals: 0, deadline: None, drains: Vec::new() }
    }

    /// When the process ends, whatever hangs.
    fn deadline(&self) -> Option<Instant> {
        let reserve = if self.signals < 2 { END_RESERVE } else { QUICK_END_RESERVE };
        self.deadline.map(|deadline| deadline + reserve)
    }

    /// Time begins to run.
    fn begin(&mut self) {
        let deadline = Instant::now() + self.handle.drain_timeout;
        self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
    }

    fn handle_signal(&mut self, signal: c_int) -> io::Result<()> {
        self.signals += 1;
        self.begin();
        let handle = self.handle.clone();
        match self.signals {
            1 => self.drain(move || {
                let Stats { connections, web_sockets, topics, .. } = handle.drain_counted();
                info!(signal, connections, web_sockets, topics, "stopping; a second signal is quicker");
            }),
            2 => {
                info!(signal, "stopping at once");
                self.deadline = self.deadline.min(Some(Instant::now()));
                self.drain(move || handle.drain_within(Duration::ZERO));
            }
            _ => return Err(self.hangs()),
        }
        Ok(())
    }

    fn drain(&mut self, drain: impl FnOnce() + Send + 'static) {
        match Builder::new().name("hailer-drain".into()).spawn(drain) {
            Ok(thread) => self.drains.push(thread),
            // The time runs all the same.
            Err(error) => error!(%error, "can't start the thread that ends the server"),
        }
    }

    /// Waits for what asked the shards to end, since they have.
    fn finish(&mut self) {
        for drain in self.drains.drain(..) {
            let _ = drain.join().map_err(Panicked::new);
        }
    }

    /// Why the process ends before the server has.
    fn hangs(&self) -> io::Error {
        let pending = self.handle.ending.pending();
        let pending = pending.as_deref().unwrap_or("a shard");
        let when = match self.signals {
            0 | 1 => format!("{END_RESERVE:?} after drain_timeout"),
            2 => format!("{QUICK_END_RESERVE:?} after the second signal"),
            _ => "at the third signal".to_owned(),
        };
        let text = format!(
            "{pending} has not ended {when}, and the process ends without it; what was published at level \
             \"memory\" may not have been written"
        );
        io::Error::new(io::ErrorKind::TimedOut, text)
    }
}

/// Lets the server run until a signal ends it, as [`StopSignals::run`] does.
///
/// # Errors
/// As for [`StopSignals::run`], and the signals may not be caught.
pub fn run_until_signalled(server: Server) -> io::Result<()> {
    StopSignals::catch()?.run(server)
}

/// All counters that have counted, and the connections that were left, for one line of log.
fn counted(stats: &Stats) -> String {
    let rows = stats.table().into_iter().filter(|(name, value, _)| *value > 0 || *name == "connections");
    rows.map(|(name, value, _)| format!(" {name}={value}")).collect()
}
