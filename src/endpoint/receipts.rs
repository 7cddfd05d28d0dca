//! Who has received a broadcast: a WebSocket's client by the pong to a ping that stands right behind it, a session's by
//! what shows that it has the answer which carried it.
//!
//! The ping is a part of the broadcast's frame, so a subscriber costs what it costs without. What is kept is one bit for
//! each connection and broadcast, from its append to the pong or to the connection's end.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use super::Endpoint;
use crate::connection::Entry;
use crate::hub::{Position, StreamKey, TopicId};
use crate::prepared::{PreparedBroadcast, WireForm};
use crate::socket::Join;

/// What a shard knows of the receipts of one broadcast. Every addressed subscriber is either received, gone or missed,
/// or it is still waited for; of those, some are behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiptCounts {
    /// Subscribers when it was appended.
    pub addressed: u64,
    /// They have shown that they have it.
    pub received: u64,
    /// It has not been written to them yet.
    pub behind: u64,
    /// They ended before they had shown it; it had been written to them, or they had left the topic.
    pub gone: u64,
    /// They ended, or were moved behind it, before it was written to them.
    pub missed: u64,
}

impl ReceiptCounts {
    /// Those of whom nothing is known yet.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.addressed.saturating_sub(self.received + self.gone + self.missed)
    }
}

impl std::ops::AddAssign for ReceiptCounts {
    fn add_assign(&mut self, other: Self) {
        self.addressed += other.addressed;
        self.received += other.received;
        self.behind += other.behind;
        self.gone += other.gone;
        self.missed += other.missed;
    }
}

/// Connections, a bit each.
#[derive(Debug, Default)]
struct Slots(Vec<u64>);

impl Slots {
    fn insert(&mut self, slot: u32) {
        let at = slot as usize / 64;
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (slot % 64);
    }

    fn contains(&self, slot: u32) -> bool {
        self.0.get(slot as usize / 64).is_some_and(|bits| bits & (1 << (slot % 64)) != 0)
    }

    /// Takes a connection out; whether it was in.
    fn remove(&mut self, slot: u32) -> bool {
        let found = self.contains(slot);
        if found {
            self.0[slot as usize / 64] &= !(1 << (slot % 64));
        }
        found
    }
}

/// A broadcast whose receipts are counted.
#[derive(Debug)]
struct Tracked {
    receipt: NonZeroU64,
    topic: TopicId,
    /// The last join that had begun by then. A later one of the same topic has another place in another log, perhaps;
    /// and the topic's id may come to be another topic's.
    last_join: u32,
    /// Where it ends in the log of each form.
    ends: [Option<Position>; WireForm::ALL.len()],
    /// Those of whom nothing is known yet.
    open: Slots,
    counts: ReceiptCounts,
}

impl Tracked {
    /// Whether a join was there when the broadcast was appended.
    fn is_for(&self, join: &Join) -> bool {
        // Serials wrap around.
        self.last_join.wrapping_sub(join.serial) < u32::MAX / 2
    }
}

/// The broadcasts whose receipts are counted, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Receipts(VecDeque<Tracked>);

impl Endpoint {
    /// What is known of a broadcast's receipts. `None`: they are not counted, or not any more (`receipts_tracked_max`).
    /// Looks at every subscriber.
    #[must_use]
    pub fn receipts(&self, receipt: NonZeroU64) -> Option<ReceiptCounts> {
        let tracked = self.receipts.0.iter().find(|tracked| tracked.receipt == receipt)?;
        let mut counts = tracked.counts;
        if counts.open() > 0 {
            for form in WireForm::ALL {
                let (Some(end), Some(stream)) = (
                    tracked.ends[form as usize],
                    self.hub.stream_ref(StreamKey { topic: tracked.topic, form }),
                ) else {
                    continue;
                };
                let behind = stream.subscribers.iter().filter(|subscriber| {
                    subscriber.cursor < end
                        && tracked.open.contains(subscriber.slot)
                        && self.is_unwritten(subscriber.slot, tracked)
                });
                counts.behind += behind.count() as u64;
            }
        }
        Some(counts)
    }

    /// Counts a broadcast's receipts no longer.
    pub fn forget_receipts(&mut self, receipt: NonZeroU64) {
        self.receipts.0.retain(|tracked| tracked.receipt != receipt);
    }

    /// Whether an answer to a poll carries the topic up to there.
    fn is_under_way(&self, slot: u32, topic: TopicId, end: Position) -> bool {
        let Some(connection) = self.connections.get(slot as usize) else { return false };
        let waiting = connection.outbox.waiting();
        let carried = connection.outbox.carried();
        let mut entries = waiting.into_iter().flat_map(|waiting| waiting.entries.iter().take(carried));
        entries.any(|entry| {
            matches!(entry, Entry::Until { topic: named, position } if *named == topic && *position >= end)
        })
    }

    /// A broadcast with a receipt has been appended to its topic.
    pub(super) fn track(&mut self, broadcast: &PreparedBroadcast, topic: TopicId) {
        let Some(receipt) = broadcast.receipt else { return };
        if self.receipts.0.len() >= self.config.limits.receipts_tracked_max {
            self.stats.receipts_given_up += 1;
            self.receipts.0.pop_front();
        }
        let (mut ends, mut open) = ([None; WireForm::ALL.len()], Slots::default());
        let mut counts = ReceiptCounts::default();
        for form in WireForm::ALL {
            let stream = self.hub.stream_ref(StreamKey { topic, form });
            let (Some(stream), Some(_)) = (stream, broadcast.frame(form)) else { continue };
            ends[form as usize] = Some(stream.log.end());
            counts.addressed += stream.subscribers.len() as u64;
            stream.subscribers.iter().for_each(|subscriber| open.insert(subscriber.slot));
        }
        let last_join = self.join_serial;
        self.receipts.0.push_back(Tracked { receipt, topic, last_join, ends, open, counts });
    }

    /// A WebSocket's client has sent a pong.
    pub(super) fn handle_pong(&mut self, slot: u32, payload: &[u8]) {
        let Ok(bytes) = <[u8; 8]>::try_from(payload) else { return };
        let Some(receipt) = NonZeroU64::new(u64::from_be_bytes(bytes)) else { return };
        let tracked = self.receipts.0.iter_mut().find(|tracked| tracked.receipt == receipt);
        if let Some(tracked) = tracked
            && tracked.open.remove(slot)
        {
            tracked.counts.received += 1;
        }
    }

    /// A session's client has shown that it has what was answered.
    pub(super) fn receive_answered(&mut self, slot: u32) {
        for at in 0..self.receipts.0.len() {
            let tracked = &self.receipts.0[at];
            if tracked.open.contains(slot) && self.has_been_written(slot, tracked) {
                let tracked = &mut self.receipts.0[at];
                tracked.open.remove(slot);
                tracked.counts.received += 1;
            }
        }
    }

    /// Whether a connection's cursor is behind a broadcast, or it has left the topic and been sent all it was to get.
    fn has_been_written(&self, slot: u32, tracked: &Tracked) -> bool {
        match self.cursor_of(slot, tracked) {
            Some((cursor, end)) => cursor >= end,
            None => {
                self.connections.get(slot as usize).is_some_and(|connection| connection.outbox.is_empty())
            }
        }
    }

    /// Whether a connection that has not left the topic has still to be sent a broadcast.
    fn is_unwritten(&self, slot: u32, tracked: &Tracked) -> bool {
        let cursor = self.cursor_of(slot, tracked);
        cursor.is_some_and(|(cursor, end)| cursor < end && !self.is_under_way(slot, tracked.topic, end))
    }

    /// Where a connection stands in the log of a broadcast that was for it, and where the broadcast ends. `None`: it
    /// has left the topic since.
    fn cursor_of(&self, slot: u32, tracked: &Tracked) -> Option<(Position, Position)> {
        let socket = self.connections.get(slot as usize)?.socket()?;
        let end = tracked.ends[socket.form as usize]?;
        let join = socket.joins.by_topic(tracked.topic).filter(|join| tracked.is_for(join))?;
        let stream = self.hub.stream_ref(StreamKey { topic: tracked.topic, form: socket.form })?;
        Some((stream.cursor(join.index), end))
    }

    /// A socket ends: it is waited for no longer. It still has its joins, and its connection its place.
    pub(super) fn lose_receipts(&mut self, slot: u32) {
        for at in 0..self.receipts.0.len() {
            let tracked = &self.receipts.0[at];
            if !tracked.open.contains(slot) {
                continue;
            }
            let missed = self.is_unwritten(slot, tracked);
            let tracked = &mut self.receipts.0[at];
            tracked.open.remove(slot);
            if missed {
                tracked.counts.missed += 1;
            } else {
                tracked.counts.gone += 1;
            }
        }
    }

    /// A slow reader goes on behind what it has not got.
    pub(super) fn skip_receipts(&mut self, slot: u32, key: StreamKey, from: Position, to: Position) {
        let socket = self.connections.get(slot as usize).and_then(|connection| connection.socket());
        let Some(join) = socket.and_then(|socket| socket.joins.by_topic(key.topic)) else { return };
        for tracked in &mut self.receipts.0 {
            let end = tracked.ends[key.form as usize];
            let passed = end.is_some_and(|end| from < end && end <= to);
            let is_for = tracked.topic == key.topic && tracked.is_for(join);
            if passed && is_for && tracked.open.remove(slot) {
                tracked.counts.missed += 1;
            }
        }
    }
}
