//! One shard's loop without its sockets: the same steps in the same order, and asleep when the real one is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::wire::Wire;
use crate::endpoint::{ConnectionId, Endpoint, Reading};
use crate::limits::Limits;

/// Stands for the loop's waker.
#[derive(Clone, Default)]
pub(super) struct Wake(Arc<AtomicBool>);

impl Wake {
    /// What the broker calls.
    pub(super) fn caller(&self) -> Box<dyn Fn() + Send + Sync> {
        let woken = Arc::clone(&self.0);
        Box::new(move || woken.store(true, Ordering::Release))
    }
}

/// Bytes that are read at once, as into a loop's buffer.
const READ_BYTES: usize = 64 * 1024;

/// An endpoint, and what its loop knows.
pub(super) struct Shard {
    pub(super) endpoint: Endpoint,
    pub(super) wire: Wire,
    limits: Arc<Limits>,
    wake: Wake,
    /// Bytes that clients have sent and the loop has not read, as they would lie in the kernel.
    unread: BTreeMap<u64, VecDeque<u8>>,
    /// A turn is under way: its mail has been taken.
    begun: bool,
    /// The last turn has left something to do.
    more: bool,
}

impl Shard {
    pub(super) fn new(endpoint: Endpoint, wake: Wake, limits: &Arc<Limits>) -> Self {
        let limits = Arc::clone(limits);
        Self {
            endpoint,
            wire: Wire::default(),
            limits,
            wake,
            unread: BTreeMap::new(),
            begun: false,
            more: false,
        }
    }

    /// The first steps of a turn: who is writable, and mail. What other events do comes after them.
    pub(super) fn begin(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.begun, true) {
            self.wake.0.store(false, Ordering::Relaxed);
            for id in self.wire.take_writable() {
                self.endpoint.handle_writable(id);
            }
            self.more = self.endpoint.handle_mailbox(self.limits.mail_per_turn, now);
        }
    }

    /// A client sends bytes, which are read in the turn under way, or as soon as the loop reads from it again.
    pub(super) fn feed(&mut self, id: ConnectionId, bytes: &[u8], now: Instant) {
        self.unread.entry(id.to_bits()).or_default().extend(bytes);
        while self.read(id, now) {
            // The loop reads nothing as long as too much waits to be written.
            self.end(now);
            self.begin(now);
        }
    }

    /// Reads what a client has sent. Returns true if it is to be read from after the next flush.
    fn read(&mut self, id: ConnectionId, now: Instant) -> bool {
        while let Some(unread) = self.unread.get_mut(&id.to_bits()) {
            if self.endpoint.is_backlogged() {
                return true;
            }
            let bytes_max = match self.endpoint.reading(id) {
                Reading::UpTo(bytes_max) => bytes_max.min(READ_BYTES),
                Reading::AfterFlush => return true,
                Reading::WhenWritable => return false,
            };
            let mut read: Vec<u8> = unread.drain(..unread.len().min(bytes_max)).collect();
            if unread.is_empty() {
                self.unread.remove(&id.to_bits());
            }
            self.endpoint.handle_read(id, &mut read, now);
        }
        false
    }

    /// Reads on from the clients that were not read from and are again.
    fn read_on(&mut self, now: Instant) {
        let waiting: Vec<u64> = self.unread.keys().copied().collect();
        for id in waiting.into_iter().map(ConnectionId::from_bits) {
            if self.endpoint.contains(id) {
                self.more |= self.read(id, now);
            } else {
                self.unread.remove(&id.to_bits());
            }
        }
    }

    /// The rest of a turn, or the whole of it, unless the loop would sleep.
    pub(super) fn end(&mut self, now: Instant) {
        if !self.begun && !self.is_awake() {
            return;
        }
        self.begin(now);
        self.read_on(now);
        self.endpoint.handle_timeout(now);
        // What was too much for one turn stays due.
        self.more |= self.endpoint.poll_timeout().is_some_and(|due| due <= now);
        self.more |= self.endpoint.flush(self.limits.writes_per_turn, now, &mut self.wire);
        while let Some(id) = self.endpoint.poll_closed() {
            self.wire.close(id);
        }
        self.endpoint.end_turn(now, now);
        self.begun = false;
    }

    /// Has the loop take a further turn.
    pub(super) fn stir(&mut self) {
        self.more = true;
    }

    /// Whether the loop goes on without waiting.
    pub(super) fn is_awake(&self) -> bool {
        self.more || self.wake.0.load(Ordering::Acquire) || self.wire.is_awaiting_turn()
    }
}
