//! Clients that stop reading.

use std::time::Duration;

use super::args::Bench;
use super::core::Role;
use super::engine::Engine;
use crate::load::client::Stage;
use crate::load::outcome::SlowReaders;

/// How long a slow reader may go without anything new until it is taken to have all that it gets.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(1);

impl Engine {
    fn slow_readers(&self) -> impl Iterator<Item = u32> + use<> {
        let slow = self.slots.iter().enumerate().filter(|(_, slot)| slot.role == Role::Slow);
        slow.map(|(index, _)| index as u32).collect::<Vec<_>>().into_iter()
    }

    /// Slow readers read no more.
    pub(super) fn stop_reading(&mut self) {
        for index in self.slow_readers() {
            self.slots[index as usize].reads = false;
        }
    }

    /// Slow readers read again: what has become of them. `growth` is what the server's memory has grown by.
    pub(super) fn resume_reading(
        &mut self,
        bench: &Bench,
        growth: Option<u64>,
    ) -> Result<SlowReaders, String> {
        for index in self.slow_readers() {
            self.slots[index as usize].reads = true;
            // Its edge has come long ago.
            self.read(index, true);
        }
        let total = self.core.ledger.next_number();
        let received = |engine: &Self| {
            let slow = engine.slots.iter().filter(|slot| slot.role == Role::Slow);
            slow.map(|slot| u64::from(slot.client.next)).sum()
        };
        let settled = |engine: &mut Self| {
            let mut slow = engine.slots.iter().filter(|slot| slot.role == Role::Slow);
            slow.all(|slot| slot.client.stage == Stage::Off || slot.client.next == total)
        };
        self.run(CATCH_UP_PATIENCE.min(bench.patience), received, settled)?;
        let missed = self.core.slow_missed();
        let mut told = std::mem::take(&mut self.core.slow);
        for slot in self.slots.iter().filter(|slot| slot.role == Role::Slow) {
            told.readers += 1;
            told.caught_up += u64::from(slot.client.next == total);
            told.behind += u64::from(slot.client.next < total && slot.client.stage == Stage::In);
        }
        // One with a gap is at the end all the same.
        told.caught_up = told.caught_up.saturating_sub(missed);
        told.behind += missed;
        told.rss_growth_per_reader = growth.map(|bytes| bytes as f64 / told.readers.max(1) as f64);
        Ok(told)
    }
}
