//! Ending the server by SIGTERM and SIGINT, and having it read its configuration again by SIGHUP.

use std::io;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::info;

use super::Server;
use crate::guard::{self, Panicked, Place};
use crate::stats::Stats;

/// The signals that end a server, SIGTERM and SIGINT, caught from here on.
///
/// A program that says when it is ready should catch them before: whoever waits for that may send one at once.
pub struct StopSignals(Signals);

impl StopSignals {
    /// Catches the signals. One that comes before [`run`](Self::run) is obeyed there.
    ///
    /// # Errors
    /// The system refuses.
    pub fn catch() -> io::Result<Self> {
        Signals::new([SIGTERM, SIGINT]).map(Self)
    }

    /// Catches SIGHUP as well, which [`run_with`](Self::run_with) obeys.
    ///
    /// # Errors
    /// The system refuses.
    pub fn catch_with_reload() -> io::Result<Self> {
        Signals::new([SIGTERM, SIGINT, SIGHUP]).map(Self)
    }

    /// Lets the server run until a signal ends it: the first begins to drain, the second ends what is left at
    /// once.
    ///
    /// # Errors
    /// A shard's loop has failed.
    pub fn run(self, server: Server) -> io::Result<()> {
        self.run_with(server, || ())
    }

    /// The same; `reload` is called with each SIGHUP, on a thread of its own. Should it panic, that is logged.
    ///
    /// # Errors
    /// A shard's loop has failed.
    pub fn run_with(mut self, server: Server, mut reload: impl FnMut() + Send + 'static) -> io::Result<()> {
        let handle = server.handle().clone();
        let waiter = self.0.handle();
        let watcher = std::thread::Builder::new().name("hailer-signals".into()).spawn(move || {
            let mut drains = 0;
            for signal in self.0.forever() {
                if signal == SIGHUP {
                    // The next signal may be the one that ends the server.
                    if let Err(panicked) = guard::call(&mut reload) {
                        Place::Reload.note(&panicked);
                    }
                    continue;
                }
                drains += 1;
                if drains == 1 {
                    let Stats { connections, web_sockets, topics, .. } = handle.drain_counted();
                    info!(signal, connections, web_sockets, topics, "stopping; a second signal is quicker");
                } else {
                    info!(signal, "stopping at once");
                    handle.drain_within(Duration::ZERO);
                }
            }
        })?;
        server.wait_for_first();
        // A loop that has ended, by a signal or by a failure, ends the others.
        server.handle().drain();
        let result = server.wait();
        waiter.close();
        let _ = watcher.join().map_err(Panicked::new);
        match &result {
            Ok(stats) => info!("stopped:{}", counted(stats)),
            Err(_) => info!("stopped"),
        }
        result.map(drop)
    }
}

/// Lets the server run until a signal ends it, as [`StopSignals::run`] does.
///
/// # Errors
/// The signals can't be caught, or a shard's loop has failed.
pub fn run_until_signalled(server: Server) -> io::Result<()> {
    StopSignals::catch()?.run(server)
}

/// All counters that have counted, and the connections that were left, for one line of log.
fn counted(stats: &Stats) -> String {
    let rows = stats.table().into_iter().filter(|(name, value, _)| *value > 0 || *name == "connections");
    rows.map(|(name, value, _)| format!(" {name}={value}")).collect()
}
