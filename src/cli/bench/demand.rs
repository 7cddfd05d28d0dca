//! Doing as much as somebody says, when they say so: several runs, each with a server of its own, take turns this way,
//! so that what disturbs the machine disturbs all of them alike.

use std::io::{BufReader, Write};
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

use serde::Serialize;

use super::clock;
use super::engine::Engine;
use super::process::Watch;
use super::publish::Plan;
use super::workers::listen;
use crate::load::outcome::Publishing;

/// Between the end of clients' connections and their return: what their end costs the server is not counted.
const AWAY: Duration = Duration::from_millis(100);

/// The answer to one demand.
#[derive(Debug, Serialize)]
pub(super) struct Served {
    /// Messages that have arrived.
    deliveries: u64,
    /// Clients that have come back.
    clients: u64,
    /// From the first message or client to the end of the last one.
    seconds: f64,
    /// Processor time of the server meanwhile, if its process is known.
    server_cpu_micros: Option<u64>,
}

/// What had been counted when something began.
struct Before {
    received: u64,
    joined: u32,
    cpu_micros: Option<u64>,
    clock: u64,
}

impl Engine {
    /// Has `serve` do what each line of stdin says, until its end, and answers each line with a line.
    pub(super) fn serve_demands(
        &mut self,
        mut serve: impl FnMut(&mut Self, u32) -> Result<Served, String>,
    ) -> Result<(), String> {
        let (demands, demanded) = channel();
        listen(BufReader::new(std::io::stdin()), demands, self.waker(), |demand: Option<u32>| demand)?;
        loop {
            match demanded.try_recv() {
                Ok(Some(count)) => {
                    let served = serve(self, count)?;
                    let line = serde_json::to_string(&served).map_err(|error| error.to_string())?;
                    let mut stdout = std::io::stdout().lock();
                    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
                    written.map_err(|error| format!("nobody listens: {error}"))?;
                }
                Ok(None) | Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => self.turn(u64::MAX)?,
            }
        }
    }

    /// Publishes as many messages as are demanded, each time.
    pub(super) fn publish_on_demand(
        &mut self,
        plan: &Plan,
        patience: Duration,
    ) -> Result<Publishing, String> {
        let (mut all, begun) = (Publishing::default(), clock());
        self.serve_demands(|engine, messages| {
            let plan = Plan { messages: Some(messages), ..*plan };
            let before = engine.before()?;
            all.published += engine.publish_all(&plan, patience)?.published;
            engine.since(&before)
        })?;
        let seconds = clock().saturating_sub(begun) as f64 / 1e6;
        all.per_second = if seconds > 0.0 { all.published as f64 / seconds } else { 0.0 };
        Ok(all)
    }

    /// Takes the connections of the first clients away, and lets them come back at the pace of all.
    pub(super) fn readmit(&mut self, clients: u32, patience: Duration) -> Result<Served, String> {
        let clients = 0..clients.min(self.core.joined);
        clients.clone().for_each(|client| self.disconnect(client));
        self.hold(AWAY)?;
        let before = self.before()?;
        self.core.line.start(clients, clock());
        let progress = |engine: &Self| engine.core.upgrade.count() + engine.core.join.count();
        let over = |engine: &mut Self| engine.core.line.is_empty() && engine.core.line.under_way == 0;
        if !self.run(patience, progress, over)? {
            self.core.wrong(format!("waits of {patience:?} for clients that did not come back"));
        }
        self.since(&before)
    }

    fn server_cpu(&mut self) -> Result<Option<u64>, String> {
        let glance = self.server.as_mut().map(Watch::glance).transpose()?;
        Ok(glance.map(|glance| glance.cpu_micros))
    }

    fn before(&mut self) -> Result<Before, String> {
        let (received, joined) = (self.core.ledger.checks.received, self.core.joined);
        Ok(Before { received, joined, cpu_micros: self.server_cpu()?, clock: clock() })
    }

    fn since(&mut self, before: &Before) -> Result<Served, String> {
        let seconds = clock().saturating_sub(before.clock) as f64 / 1e6;
        let cpu_micros = self.server_cpu()?;
        Ok(Served {
            deliveries: self.core.ledger.checks.received - before.received,
            clients: u64::from(self.core.joined.saturating_sub(before.joined)),
            seconds,
            server_cpu_micros: cpu_micros.zip(before.cpu_micros).map(|(now, then)| now - then),
        })
    }
}
