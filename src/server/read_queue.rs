//! The connections that are to be read from.

use std::collections::VecDeque;

use crate::endpoint::ConnectionId;

/// A queue that has held more gives its memory back when it is empty.
const KEPT_MAX: usize = 4096;

/// Connections that may have bytes to read: their edge has come, and comes only once.
///
/// A connection is queued once, however many edges come while it waits: otherwise a peer that sends without a pause would
/// have as many turns as it has caused edges, and hold up all others.
#[derive(Default)]
pub(super) struct ReadQueue {
    queue: VecDeque<ConnectionId>,
    /// The places of those that are queued.
    queued: Places,
    /// The places of those whose peers have ended their side: only a read that brings nothing shows it.
    ended: Places,
}

impl ReadQueue {
    /// Queues a connection, or leaves it where it is. `ended` says that the peer's end, or an error, came with the edge.
    pub(super) fn push(&mut self, id: ConnectionId, ended: bool) {
        if ended {
            self.ended.insert(id);
        }
        if self.queued.insert(id) {
            self.queue.push_back(id);
        }
    }

    /// Takes the connection that has waited longest. It may have ended meanwhile.
    pub(super) fn pop(&mut self) -> Option<ConnectionId> {
        let id = self.queue.pop_front()?;
        // That of a later connection in the same place, which is then queued twice at most.
        self.queued.remove(id);
        Some(id)
    }

    /// Whether the peer has ended its side.
    pub(super) fn has_ended(&self, id: ConnectionId) -> bool {
        self.ended.contains(id)
    }

    /// Notes that a connection is gone, and its place free.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.queued.remove(id);
        self.ended.remove(id);
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Gives memory back after a peak.
    pub(super) fn shrink(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > KEPT_MAX {
            *self = Self { ended: std::mem::take(&mut self.ended), ..Self::default() };
        }
    }
}

/// A bit for each place of a connection.
#[derive(Default)]
struct Places(Vec<u64>);

impl Places {
    /// Returns true if the place was not there.
    fn insert(&mut self, id: ConnectionId) -> bool {
        let (word, bit) = split(id);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let before = self.0[word];
        self.0[word] |= bit;
        before & bit == 0
    }

    fn remove(&mut self, id: ConnectionId) {
        let (word, bit) = split(id);
        if let Some(bits) = self.0.get_mut(word) {
            *bits &= !bit;
        }
    }

    fn contains(&self, id: ConnectionId) -> bool {
        let (word, bit) = split(id);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }
}

fn split(id: ConnectionId) -> (usize, u64) {
    (id.slot() / 64, 1 << (id.slot() % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u64, generation: u64) -> ConnectionId {
        ConnectionId::from_bits(generation << 32 | slot)
    }

    #[test]
    fn a_peer_that_sends_without_a_pause_was_queued_once_more_for_each_edge() {
        let mut queue = ReadQueue::default();
        for _ in 0..1000 {
            queue.push(id(1, 7), false);
            queue.push(id(2, 7), false);
        }
        assert_eq!(queue.len(), 2);
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(id(1, 7)), Some(id(2, 7)), None));
        // It has not been read to its end.
        queue.push(id(1, 7), false);
        queue.push(id(1, 7), false);
        assert_eq!((queue.pop(), queue.pop()), (Some(id(1, 7)), None));
    }

    #[test]
    fn an_end_is_remembered_until_the_connection_is_gone() {
        let mut queue = ReadQueue::default();
        queue.push(id(70, 1), false);
        queue.push(id(70, 1), true);
        assert!(queue.has_ended(id(70, 1)) && !queue.has_ended(id(6, 1)));
        queue.pop();
        queue.shrink();
        assert!(queue.has_ended(id(70, 1)));
        queue.forget(id(70, 1));
        assert!(!queue.has_ended(id(70, 1)));
    }

    #[test]
    fn an_edge_of_a_later_connection_in_the_same_place_is_not_lost() {
        let mut queue = ReadQueue::default();
        queue.push(id(3, 1), false);
        queue.forget(id(3, 1));
        queue.push(id(3, 2), false);
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(id(3, 1)), Some(id(3, 2)), None));
        queue.push(id(3, 2), false);
        assert_eq!(queue.pop(), Some(id(3, 2)));
    }
}
