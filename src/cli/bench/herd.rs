//! Clients that lose their connections and come back when phoenix.js does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::args::Bench;
use super::clock;
use super::core::Role;
use super::engine::{Engine, micros};
use crate::load::check::ANY;
use crate::load::client::Stage;
use crate::load::outcome::Returns;
use crate::load::phoenix_js::{reconnect_after, rejoin_after};
use crate::load::times::Times;

/// How long a restart is waited for.
const RESTART_PATIENCE: Duration = Duration::from_secs(60);

/// How far a client is on its way back.
#[derive(Debug, Clone, Copy, Default)]
struct Absence {
    /// When it lost its connection; 0 while it is there.
    since: u64,
    /// Times it has tried since it was last connected.
    tries: u32,
    /// Joins that were refused since then.
    refused: u32,
}

/// Who is away, and when whom tries again.
#[derive(Debug)]
pub(super) struct Herd {
    absences: Vec<Absence>,
    due: BinaryHeap<Reverse<(u64, u32)>>,
    gone: u64,
    back: u64,
    times: Times,
}

impl Herd {
    fn new(clients: usize) -> Self {
        Self {
            absences: vec![Absence::default(); clients],
            due: BinaryHeap::new(),
            gone: 0,
            back: 0,
            times: Times::default(),
        }
    }

    /// A client has lost its connection, or not got one: it waits, and tries again.
    pub(super) fn lost(&mut self, index: u32, now: u64) {
        let absence = &mut self.absences[index as usize];
        if absence.since == 0 {
            absence.since = now;
            self.gone += 1;
        }
        absence.tries += 1;
        self.due.push(Reverse((now + micros(reconnect_after(absence.tries)), index)));
    }

    /// Its socket is open, so that the next loss is the first one again.
    pub(super) fn opened(&mut self, index: u32) {
        let absence = &mut self.absences[index as usize];
        (absence.tries, absence.refused) = (0, 0);
    }

    /// Its join was refused: it waits, and joins again on the same connection.
    pub(super) fn denied(&mut self, index: u32, now: u64) {
        let absence = &mut self.absences[index as usize];
        absence.refused += 1;
        self.due.push(Reverse((now + micros(rejoin_after(absence.refused)), index)));
    }

    /// It has joined.
    pub(super) fn is_back(&mut self, index: u32, now: u64) {
        let absence = &mut self.absences[index as usize];
        if absence.since > 0 {
            self.times.record(now.saturating_sub(absence.since));
            self.back += 1;
            absence.since = 0;
        }
    }

    /// When the next one tries.
    pub(super) fn due(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    /// Who tries now.
    pub(super) fn next(&mut self, now: u64) -> Option<u32> {
        self.due().filter(|due| *due <= now)?;
        self.due.pop().map(|Reverse((_, index))| index)
    }

    fn is_whole(&self) -> bool {
        self.gone > 0 && self.gone == self.back
    }
}

impl Engine {
    /// Takes all connections away, or waits until the server does, and serves the clients until all are back.
    pub(super) fn run_herd(&mut self, bench: &Bench) -> Result<Returns, String> {
        self.core.herd = Some(Herd::new(self.slots.len()));
        let all = self.slots.len() as u64;
        if bench.cut {
            for index in 0..self.slots.len() as u32 {
                self.disconnect(index);
            }
        }
        let gone = |engine: &Self| engine.core.herd.as_ref().map_or(0, |herd| herd.gone);
        let patience = bench.duration.unwrap_or(RESTART_PATIENCE);
        self.run(patience, |_| 0, |engine| gone(engine) >= all)?;
        if gone(self) == 0 {
            return Err(format!(
                "no connection was lost within {patience:?}: restart the server, or give --cut"
            ));
        }
        let back = |engine: &Self| engine.core.herd.as_ref().map_or(0, |herd| herd.back);
        let is_whole = |engine: &mut Self| engine.core.herd.as_ref().is_none_or(Herd::is_whole);
        if !self.run(bench.patience, back, is_whole)? {
            let away = gone(self) - back(self);
            *self.core.errors.entry("clients that did not come back".to_owned()).or_default() += away;
        }
        let Some(herd) = self.core.herd.take() else { return Ok(Returns::default()) };
        // What was published while somebody was away is not its loss.
        for slot in &mut self.slots {
            (slot.client.next, slot.client.own_next) = (ANY, ANY);
        }
        Ok(Returns { gone: herd.gone, back: herd.back, latency: herd.times.latency() })
    }

    /// Has a client of the herd connect again, or join again if it is connected.
    pub(super) fn try_again(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        match (&mut slot.stream, slot.client.stage) {
            (Some(stream), Stage::Joining) => self.core.rejoin(index, &mut slot.client, stream),
            (Some(_), _) => {}
            (None, _) => {
                self.connect(index, clock());
                if self.slots[index as usize].stream.is_none() {
                    self.comes_back(index);
                }
            }
        }
    }

    /// Sees to it that a client which has lost its connection comes back, if it is one that does.
    pub(super) fn comes_back(&mut self, index: u32) {
        let returns = matches!(self.slots[index as usize].role, Role::Subscriber | Role::Publisher);
        if let Some(herd) = self.core.herd.as_mut().filter(|_| returns) {
            herd.lost(index, clock());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All who are due until then, with the milliseconds at which they are.
    fn due(herd: &mut Herd, until: u64) -> Vec<(u64, u32)> {
        let mut seen = Vec::new();
        while let Some(due) = herd.due().filter(|due| *due <= until) {
            seen.extend(herd.next(due).map(|index| (due / 1_000, index)));
        }
        seen
    }

    #[test]
    fn clients_try_again_when_phoenix_js_does() {
        let mut herd = Herd::new(2);
        herd.lost(1, 1_000_000);
        herd.lost(0, 1_001_000);
        assert_eq!(due(&mut herd, 2_000_000), [(1_010, 1), (1_011, 0)]);
        // The first one fails, the second one gets in but is not let into its topic.
        herd.lost(1, 1_020_000);
        herd.opened(0);
        herd.denied(0, 1_020_000);
        assert_eq!(due(&mut herd, 3_000_000), [(1_070, 1), (2_020, 0)]);
        herd.denied(0, 2_030_000);
        herd.opened(1);
        herd.is_back(1, 2_000_000);
        assert!(!herd.is_whole());
        assert_eq!(due(&mut herd, 9_000_000), [(4_030, 0)]);
        herd.is_back(0, 4_040_000);
        assert!(herd.is_whole());
        assert_eq!((herd.gone, herd.back, herd.times.count()), (2, 2, 2));
        // Once it was open, the next loss is the first one again.
        herd.lost(1, 5_000_000);
        assert_eq!(due(&mut herd, 9_000_000), [(5_010, 1)]);
    }
}
