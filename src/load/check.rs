//! Whether every subscriber gets every message, once and in order.

use std::collections::HashMap;
use std::ops::Range;

/// The next number of a subscriber that has yet to get its first message, and takes whichever comes as that.
pub const ANY: u32 = u32::MAX;

/// How a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// As the next one, or behind a gap.
    Forward,
    /// Behind a later one.
    Late,
    /// Once more.
    Again,
}

/// What was seen of all subscribers.
///
/// A subscriber is one number as long as all is well: that of the message that comes next. What it has missed is kept
/// aside.
#[derive(Debug, Default)]
pub struct Checks {
    /// Numbers that were overtaken, for each subscriber that lacks some.
    missing: HashMap<u32, Vec<Range<u32>>>,
    /// Messages that came, each counted once.
    pub received: u64,
    /// Messages that came again.
    pub doubled: u64,
    /// Messages that came behind a later one.
    pub out_of_order: u64,
}

impl Checks {
    /// Takes a message of a subscriber whose next number is `next`.
    #[inline]
    pub fn take(&mut self, subscriber: u32, next: &mut u32, number: u32) -> Arrival {
        if number == *next || *next == ANY {
            *next = number + 1;
            self.received += 1;
            return Arrival::Forward;
        }
        self.take_other(subscriber, next, number)
    }

    #[cold]
    fn take_other(&mut self, subscriber: u32, next: &mut u32, number: u32) -> Arrival {
        if number > *next {
            self.missing.entry(subscriber).or_default().push(*next..number);
            *next = number + 1;
            self.received += 1;
            return Arrival::Forward;
        }
        if !self.fill(subscriber, number) {
            self.doubled += 1;
            return Arrival::Again;
        }
        self.received += 1;
        self.out_of_order += 1;
        Arrival::Late
    }

    /// Takes a number from those that a subscriber lacks; whether it was among them.
    fn fill(&mut self, subscriber: u32, number: u32) -> bool {
        let Some(gaps) = self.missing.get_mut(&subscriber) else { return false };
        let Some(at) = gaps.iter().position(|gap| gap.contains(&number)) else { return false };
        let gap = gaps.swap_remove(at);
        gaps.extend([gap.start..number, number + 1..gap.end].into_iter().filter(|part| !part.is_empty()));
        if gaps.is_empty() {
            self.missing.remove(&subscriber);
        }
        true
    }

    /// Messages that were overtaken and have not come.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing.values().flatten().map(|gap| u64::from(gap.end - gap.start)).sum()
    }

    /// Subscribers that lack some.
    #[must_use]
    pub fn lacking(&self) -> usize {
        self.missing.len()
    }

    /// Forgets what a subscriber lacks, because it has gone: how many messages that were.
    pub fn forget(&mut self, subscriber: u32) -> u64 {
        let gaps = self.missing.remove(&subscriber).unwrap_or_default();
        gaps.into_iter().map(|gap| u64::from(gap.end - gap.start)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is counted when one subscriber gets these numbers: received, missing, doubled, out of order.
    #[track_caller]
    fn check(numbers: &[u32], expected: (u64, u64, u64, u64)) {
        let mut checks = Checks::default();
        let mut next = 0;
        for number in numbers {
            checks.take(7, &mut next, *number);
        }
        let Checks { received, doubled, out_of_order, .. } = checks;
        assert_eq!((received, checks.missing(), doubled, out_of_order), expected, "{numbers:?}");
    }

    #[test]
    fn what_is_wrong_is_counted() {
        check(&[0, 1, 2, 3], (4, 0, 0, 0));
        check(&[0, 1, 3], (3, 1, 0, 0));
        check(&[5], (1, 5, 0, 0));
        check(&[0, 2, 1, 3], (4, 0, 0, 1));
        check(&[0, 0, 1], (2, 0, 1, 0));
        check(&[0, 2, 1, 1, 2, 0], (3, 0, 3, 1));
        check(&[4, 2, 0, 3, 1], (5, 0, 0, 4));
        check(&[4, 2, 2], (2, 3, 1, 1));
    }

    #[test]
    fn one_that_came_later_takes_what_comes_first() {
        let mut checks = Checks::default();
        let mut next = ANY;
        assert_eq!(checks.take(1, &mut next, 40), Arrival::Forward);
        assert_eq!(checks.take(1, &mut next, 42), Arrival::Forward);
        assert_eq!(checks.take(1, &mut next, 40), Arrival::Again);
        assert_eq!(checks.missing(), 1);
        assert_eq!(checks.forget(1), 1);
        assert_eq!(checks.missing(), 0);
    }
}
