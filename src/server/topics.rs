//! How many topics a server has: one with subscribers on several shards counts once.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::ServerHandle;

/// Places that are looked at in one slice: well below a millisecond.
const SCAN_MAX: usize = 4096;
/// A walk that has taken longer tells what it has found.
const WALK_TIME: Duration = Duration::from_secs(10);
/// A count holds for so many times as long as it took, so that counting a million topics each second costs little.
const REST_FACTOR: u32 = 20;

/// Counts the topics of a server with several shards, each of which knows its own. There may be one for each user, so
/// what is gathered is a hash of each name, and a shard's loop is asked for some at a time.
#[derive(Default)]
pub(super) struct TopicCounter {
    /// The same on all shards, and nobody outside can choose two names with one hash.
    hasher: RandomState,
    last: Mutex<Option<Count>>,
}

#[derive(Clone, Copy)]
struct Count {
    topics: u64,
    until: Instant,
}

impl TopicCounter {
    /// The number of topics, which may be as old as some multiple of what counting them takes. `sum` is the sum of the
    /// shards' own numbers.
    pub(super) fn count(&self, server: &ServerHandle, sum: u64) -> u64 {
        // A topic is on one shard, or on several.
        if server.shard_count() == 1 || sum <= 1 {
            return sum;
        }
        // Whoever comes meanwhile waits for the same count.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        if let Some(count) = last.filter(|count| began < count.until) {
            return count.topics;
        }
        let topics = self.gather(server, began + WALK_TIME);
        let until = Instant::now() + began.elapsed().saturating_mul(REST_FACTOR);
        *last = Some(Count { topics, until });
        topics
    }

    fn gather(&self, server: &ServerHandle, deadline: Instant) -> u64 {
        let mut hashes: Vec<u64> = Vec::new();
        for shard in 0..server.shard_count() {
            let mut from = Some(0);
            while let Some(place) = from.filter(|_| Instant::now() < deadline) {
                let hasher = self.hasher.clone();
                let slice = server.ask_one(shard, move |endpoint, _, _| {
                    endpoint.inspect_topic_hashes(&|name| hasher.hash_one(name), place, SCAN_MAX)
                });
                let Some(slice) = slice else { break };
                hashes.extend(slice.found);
                from = slice.next;
            }
        }
        hashes.sort_unstable();
        hashes.dedup();
        hashes.len() as u64
    }
}
