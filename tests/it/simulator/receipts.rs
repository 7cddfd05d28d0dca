//! Who is to be counted as having received a broadcast, noted beside what the shards count.
//!
//! A shard is asked after every call. What a call may have done in one order or in another is known within bounds until
//! the next; when everything has settled, it is known exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::ops::Bound;
use std::sync::Arc;

use hailer::broker::Tally;
use hailer::channel::Ended;
use hailer::endpoint::{Endpoint, ReceiptCounts};

use super::world::World;

/// What is known of one broadcast in one shard.
struct Reached {
    n: usize,
    /// The subscribers, and the joins by which they are.
    addressed: BTreeMap<usize, usize>,
    /// Those that ended in the call in which it came, before it or behind it.
    perhaps: usize,
    /// When the ping behind it has arrived.
    pinged: BTreeMap<usize, u64>,
    /// Their pongs have been taken; or they ended in the call in which their pongs came.
    shown: BTreeSet<usize>,
    perhaps_shown: BTreeSet<usize>,
    last: Option<ReceiptCounts>,
}

/// The broadcasts whose receipts are counted.
pub(super) struct Receipts {
    tallies: BTreeMap<usize, Arc<Tally>>,
    /// What each shard has told that it has addressed, of those broadcasts that it tells of.
    told: BTreeMap<usize, Vec<Option<u64>>>,
    /// Those that a shard still counts.
    counted: Vec<Vec<Reached>>,
    tracked_max: usize,
    /// Checks at which everything was known exactly.
    pub(super) exact: usize,
}

/// The number by which the receipts of broadcast `n` are asked for.
pub(super) fn receipt(n: usize) -> NonZeroU64 {
    NonZeroU64::new(n as u64).expect("broadcasts are counted from 1")
}

impl Receipts {
    pub(super) fn new(shards: usize, tracked_max: usize) -> Self {
        let counted = (0..shards).map(|_| Vec::new()).collect();
        Self { tallies: BTreeMap::new(), told: BTreeMap::new(), counted, tracked_max, exact: 0 }
    }

    /// Broadcast `n` has been published.
    pub(super) fn publish(&mut self, n: usize, tally: Arc<Tally>) {
        self.tallies.insert(n, tally);
        self.told.insert(n, vec![None; self.counted.len()]);
    }

    /// Whether a client was among those for whom a broadcast was that its shard still counts.
    pub(super) fn is_for(&self, shard: usize, n: usize, client: usize) -> Option<bool> {
        let reached = self.counted[shard].iter().find(|reached| reached.n == n)?;
        (reached.perhaps == 0).then(|| reached.addressed.contains_key(&client))
    }

    /// The broadcasts that a shard still counts.
    pub(super) fn counted(&self, shard: usize) -> Vec<usize> {
        self.counted[shard].iter().map(|reached| reached.n).collect()
    }

    /// The ping behind a broadcast has arrived.
    pub(super) fn ping(&mut self, shard: usize, n: usize, client: usize, call: u64) {
        if let Some(reached) = self.counted[shard].iter_mut().find(|reached| reached.n == n) {
            // Whoever ended in the call in which it came may still be sent it.
            let is_for = reached.addressed.contains_key(&client) || reached.perhaps > 0;
            assert!(is_for, "broadcast {n} was for client {client}, which has got it");
            assert_eq!(reached.pinged.insert(client, call), None, "a ping comes once");
        }
    }

    /// A pong is given to a shard, whose client is open.
    pub(super) fn pong(&mut self, shard: usize, n: usize, client: usize) {
        if let Some(reached) = self.counted[shard].iter_mut().find(|reached| reached.n == n)
            && reached.addressed.contains_key(&client)
        {
            reached.perhaps_shown.insert(client);
        }
    }

    /// The client is open after that as well.
    pub(super) fn confirm(&mut self, shard: usize, n: usize, client: usize) {
        if let Some(reached) = self.counted[shard].iter_mut().find(|reached| reached.n == n)
            && reached.perhaps_shown.remove(&client)
        {
            reached.shown.insert(client);
        }
    }

    /// Broadcasts up to `after` have reached a shard: compares what it has counted.
    pub(super) fn check(
        &mut self,
        shard: usize,
        endpoint: &Endpoint,
        before: usize,
        after: usize,
        world: &World,
    ) {
        for n in self.tallies.range((Bound::Excluded(before), Bound::Included(after))).map(|(n, _)| *n) {
            self.counted[shard].push(Reached::new(n, shard, world));
        }
        let newest: Vec<usize> = self.tallies.range(..=after).map(|(n, _)| *n).collect();
        let mut at = 0;
        while let Some(reached) = self.counted[shard].get_mut(at) {
            let counts = endpoint.receipts(receipt(reached.n));
            let told = &mut self.told.get_mut(&reached.n).expect("it was published")[shard];
            let Some(counts) = counts else {
                let later = newest.iter().filter(|n| **n > reached.n).count();
                let nobody = reached.addressed.is_empty() && reached.last.is_none();
                assert!(nobody || later >= self.tracked_max, "broadcast {} is not counted", reached.n);
                if reached.addressed.is_empty() && reached.perhaps == 0 {
                    *told = Some(0);
                }
                self.counted[shard].remove(at);
                continue;
            };
            *told = Some(counts.addressed);
            reached.check(&counts, world);
            reached.last = Some(counts);
            at += 1;
        }
    }

    /// Everybody who can read has read everything and answered: what is open is known exactly. `is_open` says of a
    /// client whether its socket is open, `is_away` whether it is one that nothing reaches any more.
    pub(super) fn check_settled(
        &mut self,
        shard: usize,
        endpoint: &Endpoint,
        is_open: impl Fn(usize) -> bool,
        is_away: impl Fn(usize) -> bool,
    ) {
        for reached in &self.counted[shard] {
            let Some(counts) = endpoint.receipts(receipt(reached.n)) else { continue };
            let silent = |client: &&usize| is_open(**client) && !reached.shown.contains(*client);
            let (pinged, others): (Vec<usize>, Vec<usize>) = reached
                .addressed
                .keys()
                .filter(silent)
                .partition(|client| reached.pinged.contains_key(client));
            let away = others.iter().filter(|client| is_away(**client)).count();
            let open = usize::try_from(counts.open()).expect("a run is small");
            let expected = pinged.len()..=pinged.len() + away;
            assert!(
                expected.contains(&open),
                "{} of broadcast {} are open: {counts:?}",
                pinged.len(),
                reached.n
            );
            assert!(counts.behind <= away as u64, "nobody is behind broadcast {}: {counts:?}", reached.n);
            self.exact += usize::from(away == 0 && reached.perhaps_shown.is_empty());
        }
    }

    /// No connection is left.
    pub(super) fn check_empty(&self, shards: &[Endpoint]) {
        for (shard, counted) in self.counted.iter().enumerate() {
            for reached in counted {
                let counts = shards[shard].receipts(receipt(reached.n)).expect("it is counted until the end");
                assert_eq!((counts.open(), counts.behind), (0, 0), "of broadcast {}: {counts:?}", reached.n);
            }
        }
        for (n, tally) in &self.tallies {
            let told: Option<u64> = self.told[n].iter().copied().sum();
            if let Some(told) = told.filter(|_| tally.is_done()) {
                assert_eq!(tally.count(0), told, "for how many broadcast {n} was");
            }
        }
    }
}

impl Reached {
    fn new(n: usize, shard: usize, world: &World) -> Self {
        let cast = &world.casts[n - 1];
        let (mut addressed, mut perhaps) = (BTreeMap::new(), 0);
        for (token, join) in world.joins.iter().enumerate() {
            let hears = join.shard == shard && world.is_for(cast, &join.topic, join.client) && join.start < n;
            match join.end {
                // Its end came in the middle of this call.
                Some((_, Ended::Disconnected)) if hears && join.ended_in == world.call => perhaps += 1,
                Some((end, _)) if end < n || join.ended_in < world.call => {}
                _ if hears => _ = addressed.insert(join.client, token),
                _ => {}
            }
        }
        let (pinged, last) = (BTreeMap::new(), None);
        let (shown, perhaps_shown) = (BTreeSet::new(), BTreeSet::new());
        Self { n, addressed, perhaps, pinged, shown, perhaps_shown, last }
    }

    fn check(&self, counts: &ReceiptCounts, world: &World) {
        let (n, last) = (self.n, self.last.unwrap_or_default());
        let number = |count: u64| usize::try_from(count).expect("a run is small");
        let sizes = self.addressed.len()..=self.addressed.len() + self.perhaps;
        assert!(sizes.contains(&number(counts.addressed)), "{sizes:?} of broadcast {n}: {counts:?}");
        assert!(self.last.is_none() || counts.addressed == last.addressed, "{last:?}, then {counts:?}");
        let shown = self.shown.len()..=self.shown.len() + self.perhaps_shown.len();
        assert!(
            shown.contains(&number(counts.received)),
            "{shown:?} have broadcast {n}: {counts:?}; {:?} {:?}",
            self.shown,
            self.perhaps_shown
        );
        assert!(counts.received + counts.gone + counts.missed <= counts.addressed, "{counts:?}");
        assert!(counts.behind <= counts.open(), "{counts:?}");
        let grows =
            counts.received >= last.received && counts.gone >= last.gone && counts.missed >= last.missed;
        assert!(grows, "of broadcast {n} {last:?}, then {counts:?}");
        // What was still written to a client that had ended did not come in time.
        let in_time = |client: &usize, token: &usize| {
            let join = &world.joins[*token];
            let ended = join.end.filter(|(_, ended)| *ended == Ended::Disconnected).map(|_| join.ended_in);
            self.pinged.get(client).is_some_and(|pinged| ended.is_none_or(|ended| *pinged < ended))
        };
        let late = self.addressed.iter().filter(|(client, token)| !in_time(client, token)).count();
        assert!(
            number(counts.missed + counts.behind) <= late + self.perhaps,
            "{late} have not got broadcast {n} in time: {counts:?}"
        );
    }
}
