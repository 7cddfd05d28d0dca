//! How many each of several broadcasts has reached, told when every shard has taken all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::guard::{self, Guarded, Place};

/// Counts for broadcasts that are published together. Shards add to it when they take the broadcasts, so that what is
/// said was so at that moment.
pub struct Tally {
    counts: Box<[AtomicU64]>,
    /// Answers of shards that have not come yet, one for each broadcast and shard.
    left: AtomicUsize,
    done: Guarded<Box<dyn Fn() + Send + Sync>>,
}

/// The place of one broadcast in a [`Tally`].
#[derive(Clone)]
pub struct TallyEntry {
    tally: Arc<Tally>,
    index: usize,
}

impl Tally {
    /// A tally of `broadcasts` broadcasts to `shards` shards. `done` is called, from any thread, when all have been
    /// counted.
    #[must_use]
    pub fn new(broadcasts: usize, shards: u16, done: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let counts = (0..broadcasts).map(|_| AtomicU64::new(0)).collect();
        let left = AtomicUsize::new(broadcasts * usize::from(shards));
        Arc::new(Self { counts, left, done: Guarded::new(Box::new(done)) })
    }

    /// The place of broadcast number `index`.
    #[must_use]
    pub fn entry(self: &Arc<Self>, index: usize) -> TallyEntry {
        TallyEntry { tally: Arc::clone(self), index }
    }

    /// Whether every shard has counted every broadcast.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    /// What has been counted for broadcast number `index` so far.
    #[must_use]
    pub fn count(&self, index: usize) -> u64 {
        self.counts.get(index).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl TallyEntry {
    /// What every shard has counted for this broadcast; `None` until all have counted all of the tally.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.tally.is_done().then(|| self.so_far())
    }

    /// What has been counted for this broadcast so far.
    #[must_use]
    pub fn so_far(&self) -> u64 {
        self.tally.count(self.index)
    }

    /// A shard has counted so many.
    pub(crate) fn add(&self, count: u64) {
        if let Some(sum) = self.tally.counts.get(self.index) {
            sum.fetch_add(count, Ordering::Relaxed);
        }
        if self.tally.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            // In the thread of a shard, or of the publisher.
            if let Err(panicked) = guard::call(|| (self.tally.done)()) {
                Place::Tally.note(&panicked);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_done_when_every_shard_has_counted_every_broadcast() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let tally = Tally::new(2, 2, move || _ = counted.fetch_add(1, Ordering::Relaxed));
        for (index, count) in [(0, 3), (1, 0), (0, 4)] {
            tally.entry(index).add(count);
            assert!(!tally.is_done());
        }
        tally.entry(1).add(5);
        assert!(tally.is_done());
        assert_eq!((tally.count(0), tally.count(1), calls.load(Ordering::Relaxed)), (7, 5, 1));
    }
}
