//! Which messages are out, who has yet to get them, and how long they took.

use super::check::{Arrival, Checks};
use super::message::{Kind, Stamp};
use super::times::Times;

/// How far a message of another process may be ahead of the last one: what is further is no message of this run.
const AHEAD_MAX: u32 = 1_000_000;

/// One message.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// When it was to leave, in microseconds.
    micros: u64,
    /// When the last subscriber so far got it.
    last: u64,
    /// Subscribers that have yet to get it.
    left: u32,
    kind: Kind,
}

/// Who a message of one subscriber's own topic is for, and which of that topic it is.
#[derive(Debug, Clone, Copy)]
struct Target {
    subscriber: u32,
    nth: u32,
}

/// The messages of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    targets: Vec<Target>,
    /// Messages that somebody has yet to get.
    pub open: u32,
    /// Messages that everybody has.
    pub completed: u32,
    /// Messages times those who were to get them.
    pub expected: u64,
    /// Arrivals of messages that are measured.
    pub measured: u64,
    /// Messages that came to a subscriber they were not for, or that nobody published.
    pub foreign: u64,
    /// Pushes to one client alone, such as messages that are kept for who joins later. They are none of the run's.
    pub pushed: u64,
    /// What was seen of all subscribers.
    pub checks: Checks,
    /// From leaving to each subscriber.
    pub latency: Times,
    /// From leaving to the last subscriber.
    pub last: Times,
    /// The same as `latency`, since it was last looked at.
    pub recent: Times,
}

impl Ledger {
    /// The number of the message that is published next.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub fn next_number(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Takes note of a message for so many subscribers of the common topic.
    pub fn publish(&mut self, kind: Kind, micros: u64, audience: u32) -> Stamp {
        let stamp = Stamp { kind, number: self.next_number(), micros };
        self.entries.push(Entry { micros, last: micros, left: audience, kind });
        self.open += u32::from(audience > 0);
        self.expected += u64::from(audience);
        stamp
    }

    /// Takes note of the `nth` message of one subscriber's own topic. A run has either these or those of the common
    /// topic.
    pub fn publish_to(&mut self, kind: Kind, micros: u64, subscriber: u32, nth: u32) -> Stamp {
        self.targets.push(Target { subscriber, nth });
        self.publish(kind, micros, 1)
    }

    /// Takes note of a message that another process has published, as soon as one of it comes.
    fn learn(&mut self, stamp: Stamp, audience: u32) {
        while self.next_number() <= stamp.number {
            // Those between have not come to anybody yet, and say themselves when they left.
            self.publish(stamp.kind, stamp.micros, audience);
        }
    }

    /// Takes an arrival at a subscriber whose next number is `next`. With `learning`, messages come from another
    /// process, for so many subscribers of this one.
    #[inline]
    pub fn arrive(&mut self, subscriber: u32, next: &mut u32, stamp: Stamp, now: u64, learning: Option<u32>) {
        if stamp.number >= self.next_number() {
            match learning {
                Some(audience) if stamp.number - self.next_number() < AHEAD_MAX => {
                    self.learn(stamp, audience);
                }
                _ => return self.foreign += 1,
            }
        }
        let number = match self.targets.get(stamp.number as usize) {
            None => stamp.number,
            Some(target) if target.subscriber == subscriber => target.nth,
            Some(_) => return self.foreign += 1,
        };
        if self.checks.take(subscriber, next, number) == Arrival::Again {
            return;
        }
        let entry = &mut self.entries[stamp.number as usize];
        (entry.kind, entry.micros, entry.last) = (stamp.kind, stamp.micros, now);
        let micros = now.saturating_sub(stamp.micros);
        if stamp.kind == Kind::Measured {
            self.measured += 1;
            self.latency.record(micros);
            self.recent.record(micros);
        }
        entry.left = entry.left.saturating_sub(1);
        if entry.left == 0 {
            self.open -= 1;
            self.completed += 1;
            if stamp.kind == Kind::Measured {
                self.last.record(micros);
            }
        }
    }

    /// Takes note of all messages that another process has published, so that those are missed which have not come to
    /// anybody here.
    pub fn learn_total(&mut self, total: u32, audience: u32) {
        while self.next_number() < total {
            self.publish(Kind::Measured, 0, audience);
        }
    }

    /// Gives up what has not come: nobody waits for it any more.
    pub fn give_up(&mut self) {
        self.open = 0;
        self.entries.iter_mut().for_each(|entry| entry.left = u32::MAX);
    }

    /// The numbers of measured messages that every subscriber of this process has, each with the time it was to leave
    /// and the time the last one got it.
    pub fn complete(&self) -> impl Iterator<Item = (u32, u64, u64)> {
        let numbered = (0..).zip(&self.entries);
        numbered
            .filter(|(_, entry)| entry.left == 0 && entry.kind == Kind::Measured)
            .map(|(number, entry)| (number, entry.micros, entry.last))
    }

    /// Messages that were expected and have not come.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.checks.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_complete_with_its_last_subscriber() {
        let mut ledger = Ledger::default();
        let mut next = [0; 3];
        let warm = ledger.publish(Kind::WarmUp, 10, 3);
        let stamp = ledger.publish(Kind::Measured, 100, 3);
        for (subscriber, now) in [(0, 110), (1, 120), (2, 150)] {
            assert_eq!(ledger.open, 2);
            ledger.arrive(subscriber, &mut next[subscriber as usize], warm, now - 80, None);
            if subscriber < 2 {
                ledger.arrive(subscriber, &mut next[subscriber as usize], stamp, now, None);
            }
        }
        assert_eq!(ledger.open, 1);
        ledger.arrive(2, &mut next[2], stamp, 150, None);
        assert_eq!((ledger.open, ledger.lost(), ledger.measured), (0, 0, 3));
        assert_eq!(ledger.latency.count(), 3);
        assert_eq!(ledger.last.latency().unwrap().percentiles[6], 50);
        assert_eq!(ledger.complete().collect::<Vec<_>>(), [(1, 100, 150)]);
    }

    #[test]
    fn a_private_message_is_for_one_alone() {
        let mut ledger = Ledger::default();
        let mut next = [0; 2];
        let first = ledger.publish_to(Kind::Measured, 5, 1, 0);
        let second = ledger.publish_to(Kind::Measured, 6, 1, 1);
        ledger.arrive(0, &mut next[0], first, 9, None);
        assert_eq!((ledger.foreign, ledger.open), (1, 2));
        ledger.arrive(1, &mut next[1], second, 9, None);
        ledger.arrive(1, &mut next[1], first, 9, None);
        ledger.arrive(1, &mut next[1], first, 9, None);
        assert_eq!((ledger.open, ledger.lost()), (0, 0));
        assert_eq!((ledger.checks.out_of_order, ledger.checks.doubled), (1, 1));
    }

    #[test]
    fn what_another_process_publishes_is_learnt() {
        let mut ledger = Ledger::default();
        let mut next = [0; 2];
        let stamp = |number| Stamp { kind: Kind::Measured, number, micros: u64::from(number) * 100 };
        ledger.arrive(0, &mut next[0], stamp(0), 7, Some(2));
        ledger.arrive(0, &mut next[0], stamp(2), 230, Some(2));
        ledger.arrive(1, &mut next[1], stamp(0), 9, Some(2));
        assert_eq!((ledger.expected, ledger.open, ledger.lost()), (6, 2, 3));
        ledger.arrive(0, &mut next[0], stamp(5_000_000), 9, None);
        assert_eq!(ledger.foreign, 1);
        ledger.give_up();
        assert_eq!((ledger.open, ledger.lost()), (0, 3));
    }
}
