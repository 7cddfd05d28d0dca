//! Publishing when somebody says so: several runs, each with a server of its own, take turns this way, so that what
//! disturbs the machine disturbs all of them alike.

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

/// The answer to one demand.
#[derive(Debug, Serialize)]
struct Served {
    /// Deliveries that have come of it.
    deliveries: u64,
    /// From the first message to the last delivery.
    seconds: f64,
    /// Processor time of the server meanwhile, if its process is known.
    server_cpu_micros: Option<u64>,
}

impl Engine {
    /// Publishes as many messages as each line of stdin says, until its end, and answers each line with a line. Demands
    /// may be made before the clients are in.
    pub(super) fn publish_on_demand(
        &mut self,
        plan: &Plan,
        patience: Duration,
    ) -> Result<Publishing, String> {
        let (demands, demanded) = channel();
        listen(BufReader::new(std::io::stdin()), demands, self.waker(), |demand: Option<u32>| demand)?;
        let (mut all, begun) = (Publishing::default(), clock());
        loop {
            match demanded.try_recv() {
                Ok(Some(messages)) => {
                    let plan = Plan { messages: Some(messages), ..*plan };
                    let (served, publishing) = self.serve(&plan, patience)?;
                    all.published += publishing.published;
                    let line = serde_json::to_string(&served).map_err(|error| error.to_string())?;
                    let mut stdout = std::io::stdout().lock();
                    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
                    written.map_err(|error| format!("nobody listens: {error}"))?;
                }
                Ok(None) | Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => self.turn(u64::MAX)?,
            }
        }
        let seconds = clock().saturating_sub(begun) as f64 / 1e6;
        all.per_second = if seconds > 0.0 { all.published as f64 / seconds } else { 0.0 };
        Ok(all)
    }

    fn serve(&mut self, plan: &Plan, patience: Duration) -> Result<(Served, Publishing), String> {
        let cpu = |engine: &mut Self| {
            let glance = engine.server.as_mut().map(Watch::glance).transpose();
            glance.map(|glance| glance.map(|glance| glance.cpu_micros))
        };
        let (used, received, begun) = (cpu(self)?, self.core.ledger.checks.received, clock());
        let publishing = self.publish_all(plan, patience)?;
        let seconds = clock().saturating_sub(begun) as f64 / 1e6;
        let server_cpu_micros = cpu(self)?.zip(used).map(|(after, before)| after - before);
        let deliveries = self.core.ledger.checks.received - received;
        Ok((Served { deliveries, seconds, server_cpu_micros }, publishing))
    }
}
