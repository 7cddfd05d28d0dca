//! The messages whose receipts are counted.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::desk::Progress;
use crate::endpoint::ReceiptCounts;

/// Messages that are remembered after the count.
const ENDED_MAX: usize = 1_000;

struct Tracked {
    id: String,
    receipt: NonZeroU64,
    begun: Instant,
    progress: Progress,
}

#[derive(Default)]
struct Lists {
    /// The oldest first.
    counting: VecDeque<Tracked>,
    ended: VecDeque<(String, Progress)>,
}

/// How far messages have got, as they were last asked about.
pub(super) struct Tracking {
    lists: Mutex<Lists>,
    /// For so long a message is counted.
    time: Duration,
}

/// What has become of a message since it was last asked about.
pub(super) struct Changed {
    pub(super) id: String,
    pub(super) receipt: NonZeroU64,
    pub(super) progress: Progress,
}

impl Tracking {
    pub(super) fn new(time: Duration) -> Self {
        Self { lists: Mutex::default(), time }
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, id: &str, receipt: NonZeroU64, addressed: u64, now: Instant) {
        let progress = Progress { addressed, ..Progress::default() };
        self.lock().counting.push_back(Tracked { id: id.to_owned(), receipt, begun: now, progress });
    }

    pub(super) fn progress(&self, id: &str) -> Option<Progress> {
        let lists = self.lock();
        let counting = lists.counting.iter().find(|tracked| tracked.id == id).map(|tracked| tracked.progress);
        counting.or_else(|| lists.ended.iter().find(|(ended, _)| ended == id).map(|(_, progress)| *progress))
    }

    /// The numbers of those that are counted.
    pub(super) fn receipts(&self) -> Arc<[NonZeroU64]> {
        self.lock().counting.iter().map(|tracked| tracked.receipt).collect()
    }

    /// Takes over what the shards have counted; those that have changed. One that no shard counts has no audience, or
    /// too many others were counted.
    pub(super) fn update(
        &self,
        receipts: &[NonZeroU64],
        counts: &[Option<ReceiptCounts>],
        now: Instant,
    ) -> Vec<Changed> {
        let mut changed = Vec::new();
        let mut guard = self.lock();
        let lists = &mut *guard;
        for (receipt, counts) in receipts.iter().zip(counts) {
            let Some(tracked) = lists.counting.iter_mut().find(|tracked| tracked.receipt == *receipt) else {
                continue;
            };
            let over = now.saturating_duration_since(tracked.begun) >= self.time;
            let mut progress = counts.as_ref().map_or(tracked.progress, progress_of);
            progress.done |= over || counts.is_none();
            if progress != tracked.progress {
                tracked.progress = progress;
                changed.push(Changed { id: tracked.id.clone(), receipt: *receipt, progress });
            }
        }
        lists.counting.retain(|tracked| {
            if tracked.progress.done {
                lists.ended.push_back((tracked.id.clone(), tracked.progress));
            }
            !tracked.progress.done
        });
        while lists.ended.len() > ENDED_MAX {
            lists.ended.pop_front();
        }
        changed
    }
}

fn progress_of(counts: &ReceiptCounts) -> Progress {
    let ReceiptCounts { addressed, received, behind, gone, missed } = *counts;
    Progress {
        addressed,
        written: addressed.saturating_sub(behind + missed),
        received,
        behind,
        gone: gone + missed,
        done: counts.open() == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_counted_until_all_have_it_or_its_time_is_over() {
        let (tracking, now) = (Tracking::new(Duration::from_secs(60)), Instant::now());
        let receipts = [1, 2, 3].map(|number| NonZeroU64::new(number).unwrap());
        for (id, receipt) in ["a", "b", "c"].into_iter().zip(receipts) {
            tracking.begin(id, receipt, 5, now);
        }
        let counts = |received, behind, gone, missed| {
            let addressed = 5;
            Some(ReceiptCounts { addressed, received, behind, gone, missed })
        };
        let ids = |changed: Vec<Changed>| changed.into_iter().map(|changed| changed.id).collect::<Vec<_>>();
        let all = [counts(5, 0, 0, 0), counts(1, 1, 1, 1), None];
        assert_eq!(ids(tracking.update(&receipts, &all, now)), ["a", "b", "c"]);
        let progress = Progress { addressed: 5, written: 3, received: 1, behind: 1, gone: 2, done: false };
        assert_eq!(tracking.progress("b"), Some(progress));
        assert!(tracking.progress("a").unwrap().done && tracking.progress("c").unwrap().done);
        assert_eq!(*tracking.receipts(), [receipts[1]]);
        assert_eq!(ids(tracking.update(&receipts, &all, now)), [""; 0], "nothing has changed");
        let later = now + Duration::from_secs(60);
        assert_eq!(ids(tracking.update(&receipts, &all, later)), ["b"]);
        assert_eq!(tracking.progress("b"), Some(Progress { done: true, ..progress }));
        assert_eq!(tracking.progress("d"), None);
    }
}
