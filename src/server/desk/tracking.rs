//! The messages whose receipts are counted.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::broker::TallyEntry;
use crate::desk::Progress;
use crate::endpoint::ReceiptCounts;

/// Messages that are remembered after the count.
const ENDED_MAX: usize = 1_000;

struct Tracked {
    id: String,
    receipt: NonZeroU64,
    begun: Instant,
    progress: Progress,
    /// Where the shards tell how many it is for.
    tally: TallyEntry,
    /// How many it is for, once all shards have taken it. Known before shards are asked, so that one that does not
    /// know the message has forgotten it.
    addressed: Option<u64>,
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

    pub(super) fn begin(&self, id: &str, receipt: NonZeroU64, tally: TallyEntry, now: Instant) {
        let progress = Progress { addressed: tally.so_far(), ..Progress::default() };
        let (id, addressed) = (id.to_owned(), None);
        self.lock().counting.push_back(Tracked { id, receipt, begun: now, progress, tally, addressed });
    }

    pub(super) fn progress(&self, id: &str) -> Option<Progress> {
        let lists = self.lock();
        let counting = lists.counting.iter().find(|tracked| tracked.id == id).map(|tracked| tracked.progress);
        counting.or_else(|| lists.ended.iter().find(|(ended, _)| ended == id).map(|(_, progress)| *progress))
    }

    /// The numbers of those that are counted, for the shards to be asked about.
    pub(super) fn receipts(&self) -> Arc<[NonZeroU64]> {
        let mut lists = self.lock();
        let ask = |tracked: &mut Tracked| {
            tracked.addressed = tracked.tally.total();
            tracked.receipt
        };
        lists.counting.iter_mut().map(ask).collect()
    }

    /// Takes over what the shards have counted, unless one of them has not answered; those that have changed. One that
    /// shards count no longer, since too many others came behind it, stays as it was.
    pub(super) fn update(
        &self,
        receipts: &[NonZeroU64],
        counts: Option<&[Option<ReceiptCounts>]>,
        now: Instant,
    ) -> Vec<Changed> {
        let mut changed = Vec::new();
        let mut guard = self.lock();
        let lists = &mut *guard;
        // Only this method takes messages out, so what was asked about stands in front, in the same order.
        for (at, (tracked, receipt)) in lists.counting.iter_mut().zip(receipts).enumerate() {
            debug_assert_eq!(tracked.receipt, *receipt);
            let over = now.saturating_duration_since(tracked.begun) >= self.time;
            let mut progress = tracked.counted(counts.map(|counts| counts[at]));
            progress.done |= over;
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

impl Tracked {
    /// How far it has got by what the shards say, if they do.
    fn counted(&self, counts: Option<Option<ReceiptCounts>>) -> Progress {
        match (counts, self.addressed) {
            (None, _) => self.progress,
            // A shard that has not taken it yet may have more of its subscribers.
            (Some(counts), None) => {
                let progress = counts.as_ref().map_or(self.progress, progress_of);
                Progress { done: false, ..progress }
            }
            (Some(Some(counts)), Some(addressed)) if counts.addressed >= addressed => progress_of(&counts),
            // Nobody is there to count, or a shard does not count any more.
            (Some(_), Some(addressed)) => Progress { addressed, done: true, ..self.progress },
        }
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
    use crate::broker::Tally;

    const TIME: Duration = Duration::from_secs(60);

    /// Messages to five subscribers each, on one shard that has not taken them yet.
    fn begun(ids: &[&str], now: Instant) -> (Tracking, Vec<Arc<Tally>>) {
        let tracking = Tracking::new(TIME);
        let tallies = (1..).zip(ids).map(|(number, id)| {
            let tally = Tally::new(1, 1, || {});
            let receipt = NonZeroU64::new(number).expect("it is counted from 1");
            tracking.begin(id, receipt, tally.entry(0), now);
            tally
        });
        let tallies = tallies.collect();
        (tracking, tallies)
    }

    fn counts(received: u64, behind: u64, gone: u64, missed: u64) -> Option<ReceiptCounts> {
        Some(ReceiptCounts { addressed: 5, received, behind, gone, missed })
    }

    /// Asks; those that have changed.
    fn ask(tracking: &Tracking, counts: Option<&[Option<ReceiptCounts>]>, now: Instant) -> Vec<String> {
        let changed = tracking.update(&tracking.receipts(), counts, now);
        changed.into_iter().map(|changed| changed.id).collect()
    }

    #[test]
    fn a_message_is_counted_until_all_have_it_or_its_time_is_over() {
        let now = Instant::now();
        let (tracking, tallies) = begun(&["a", "b", "c"], now);
        tallies.iter().for_each(|tally| tally.entry(0).add(5));
        let receipts = tracking.receipts();
        let all = [counts(5, 0, 0, 0), counts(1, 1, 1, 1), None];
        assert_eq!(ask(&tracking, Some(&all), now), ["a", "b", "c"]);
        let progress = Progress { addressed: 5, written: 3, received: 1, behind: 1, gone: 2, done: false };
        assert_eq!(tracking.progress("b"), Some(progress));
        assert!(tracking.progress("a").unwrap().done);
        assert_eq!(
            tracking.progress("c"),
            Some(Progress { addressed: 5, done: true, ..Progress::default() })
        );
        assert_eq!(*tracking.receipts(), [receipts[1]]);
        assert_eq!(ask(&tracking, Some(&all[1..2]), now), [""; 0], "nothing has changed");
        assert_eq!(ask(&tracking, Some(&all[1..2]), now + TIME), ["b"]);
        assert_eq!(tracking.progress("b"), Some(Progress { done: true, ..progress }));
        assert_eq!(tracking.progress("d"), None);
    }

    #[test]
    fn what_a_shard_has_not_taken_yet_or_does_not_tell_is_not_at_its_end() {
        let now = Instant::now();
        let (tracking, tallies) = begun(&["a"], now);
        assert_eq!(ask(&tracking, Some(&[None]), now), [""; 0]);
        assert_eq!(ask(&tracking, Some(&[counts(5, 0, 0, 0)]), now), ["a"]);
        assert!(!tracking.progress("a").unwrap().done, "another shard has not taken it");
        tallies[0].entry(0).add(7);
        assert_eq!(ask(&tracking, None, now), [""; 0], "a shard has not answered");
        assert!(!tracking.progress("a").unwrap().done);
        assert_eq!(ask(&tracking, None, now + TIME), ["a"]);
        let progress = Progress { addressed: 5, written: 5, received: 5, behind: 0, gone: 0, done: true };
        assert_eq!(tracking.progress("a"), Some(progress));
    }

    #[test]
    fn a_shard_that_counts_no_longer_does_not_make_the_audience_smaller() {
        let now = Instant::now();
        let (tracking, tallies) = begun(&["a"], now);
        tallies[0].entry(0).add(7);
        assert_eq!(ask(&tracking, Some(&[counts(5, 0, 0, 0)]), now), ["a"]);
        let progress = Progress { addressed: 7, done: true, ..Progress::default() };
        assert_eq!(tracking.progress("a"), Some(progress));
    }
}
