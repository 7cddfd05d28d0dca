//! A table of numbers by the hashes of what they stand for.

use hashbrown::HashTable;

/// Entries of a part on average when one is split. Those whose turn has not come hold up to twice as many then, for
/// which tables of 512 places have room, since these fill up to seven eighths. Splitting one takes microseconds.
const SPLIT_MEAN: usize = 192;
/// Entries of a part on average when one is given up.
const MERGE_MEAN: usize = 112;
/// Room that is not worth giving back.
const ROOM_MIN: usize = 14;

/// A hash table that grows and shrinks by one small part at a time (linear hashing), where an ordinary one moves
/// all entries at once: with a million of them, the shard would stand still for tens of milliseconds.
///
/// What has the hashes, such as names, is elsewhere; the caller says how to find it.
#[derive(Debug, Default)]
pub(crate) struct Hashes {
    /// As long as nothing was put in, none.
    parts: Vec<HashTable<u32>>,
    len: usize,
}

impl Hashes {
    #[cfg(any(debug_assertions, test))]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part for a hash: some of its bits, one bit more where the part has been split already.
    ///
    /// They are taken from the middle of the hash, since the parts themselves go by its ends.
    fn part(&self, hash: u64) -> usize {
        let round = usize::BITS - (self.parts.len().max(1) - 1).leading_zeros();
        #[allow(clippy::cast_possible_truncation)]
        let bits = (hash >> 24) as usize & ((1 << round) - 1);
        // The upper half of the parts is there in part.
        if bits < self.parts.len() || round == 0 { bits } else { bits & !(1 << (round - 1)) }
    }

    pub(crate) fn find(&self, hash: u64, is_it: impl FnMut(&u32) -> bool) -> Option<u32> {
        self.parts.get(self.part(hash))?.find(hash, is_it).copied()
    }

    /// All with this hash, and some others perhaps.
    pub(crate) fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> {
        self.parts.get(self.part(hash)).into_iter().flat_map(move |part| part.iter_hash(hash).copied())
    }

    /// Adds an entry that is not there. `hash_of` is asked about others.
    pub(crate) fn insert_unique(&mut self, hash: u64, entry: u32, hash_of: impl Fn(u32) -> u64) {
        if self.len >= self.parts.len() * SPLIT_MEAN {
            self.split(&hash_of);
        }
        let part = self.part(hash);
        self.parts[part].insert_unique(hash, entry, |entry| hash_of(*entry));
        self.len += 1;
    }

    /// Removes an entry; whether it was there.
    pub(crate) fn remove(&mut self, hash: u64, entry: u32, hash_of: impl Fn(u32) -> u64) -> bool {
        let part = self.part(hash);
        let Some(found) =
            self.parts.get_mut(part).and_then(|part| part.find_entry(hash, |e| *e == entry).ok())
        else {
            return false;
        };
        found.remove();
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
        } else if self.len < (self.parts.len() - 1) * MERGE_MEAN {
            self.merge(&hash_of);
        } else {
            let part = &mut self.parts[part];
            if part.capacity() > ROOM_MIN && part.len() < part.capacity() / 4 {
                part.shrink_to(part.len() * 2, |entry| hash_of(*entry));
            }
        }
        true
    }

    /// Adds a part, and moves to it those of another one that belong there.
    fn split(&mut self, hash_of: &impl Fn(u32) -> u64) {
        let new = self.parts.len();
        if new == 0 {
            self.parts.push(HashTable::new());
            return;
        }
        // Room for some more than half of what is moved.
        let half = || HashTable::with_capacity(SPLIT_MEAN + SPLIT_MEAN / 6);
        let old = new & !(1 << new.ilog2());
        self.parts.push(half());
        let mut all = std::mem::replace(&mut self.parts[old], half());
        for entry in all.drain() {
            self.put(hash_of(entry), entry, hash_of);
        }
    }

    /// Gives up the last part.
    fn merge(&mut self, hash_of: &impl Fn(u32) -> u64) {
        let Some(mut last) = self.parts.pop() else { return };
        for entry in last.drain() {
            self.put(hash_of(entry), entry, hash_of);
        }
        if self.parts.len() < self.parts.capacity() / 4 {
            self.parts.shrink_to(self.parts.len() * 2);
        }
    }

    fn put(&mut self, hash: u64, entry: u32, hash_of: &impl Fn(u32) -> u64) {
        let part = self.part(hash);
        self.parts[part].insert_unique(hash, entry, |entry| hash_of(*entry));
    }

    /// The memory of all parts, in entries.
    #[cfg(test)]
    fn capacity(&self) -> usize {
        self.parts.iter().map(HashTable::capacity).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Hashes as a good hasher gives them (splitmix64).
    fn hash(entry: u32) -> u64 {
        let mut hash = u64::from(entry).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }

    fn check(hashes: &Hashes, there: impl Iterator<Item = u32>) {
        let mut count = 0;
        for entry in there {
            assert_eq!(hashes.find(hash(entry), |found| *found == entry), Some(entry));
            assert!(hashes.candidates(hash(entry)).any(|found| found == entry));
            count += 1;
        }
        assert_eq!(hashes.len(), count);
    }

    #[test]
    fn entries_are_found_while_the_table_grows_and_shrinks() {
        const COUNT: u32 = 50_000;
        let mut hashes = Hashes::default();
        for entry in 0..COUNT {
            hashes.insert_unique(hash(entry), entry, hash);
            if entry % 9_999 == 0 {
                check(&hashes, 0..=entry);
            }
        }
        assert!(!hashes.remove(hash(COUNT), COUNT, hash));
        for entry in 0..COUNT {
            assert!(hashes.remove(hash(entry), entry, hash));
            assert_eq!(hashes.find(hash(entry), |found| *found == entry), None);
            if entry % 9_999 == 0 {
                check(&hashes, entry + 1..COUNT);
            }
        }
        assert!(hashes.is_empty() && hashes.parts.capacity() == 0);
    }

    #[test]
    fn no_entry_has_many_others_moved_with_it() {
        let mut hashes = Hashes::default();
        let asked = Cell::new(0);
        let hash_of = |entry| {
            asked.set(asked.get() + 1);
            hash(entry)
        };
        let mut most = 0;
        for entry in 0..200_000 {
            asked.set(0);
            hashes.insert_unique(hash(entry), entry, hash_of);
            most = most.max(asked.get());
        }
        for entry in 0..200_000 {
            asked.set(0);
            hashes.remove(hash(entry), entry, hash_of);
            most = most.max(asked.get());
        }
        assert!(most <= 4 * SPLIT_MEAN, "{most} entries were moved at once");
    }

    #[test]
    fn room_is_in_proportion_to_entries_after_a_peak_as_well() {
        let mut hashes = Hashes::default();
        (0..100_000).for_each(|entry| hashes.insert_unique(hash(entry), entry, hash));
        assert!(hashes.capacity() <= 250_000, "room for {}", hashes.capacity());
        for entry in 0..99_000 {
            hashes.remove(hash(entry), entry, hash);
        }
        assert!(hashes.capacity() <= 8_000, "room for {}", hashes.capacity());
        check(&hashes, 99_000..100_000);
    }
}
