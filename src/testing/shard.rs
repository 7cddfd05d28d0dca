//! One shard's loop without its sockets: the same steps in the same order, and asleep when the real one is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::wire::Wire;
use crate::endpoint::Endpoint;
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

/// An endpoint, and what its loop knows.
pub(super) struct Shard {
    pub(super) endpoint: Endpoint,
    pub(super) wire: Wire,
    limits: Arc<Limits>,
    wake: Wake,
    /// A turn is under way: its mail has been taken.
    begun: bool,
    /// The last turn has left something to do.
    more: bool,
}

impl Shard {
    pub(super) fn new(endpoint: Endpoint, wake: Wake, limits: &Arc<Limits>) -> Self {
        let limits = Arc::clone(limits);
        Self { endpoint, wire: Wire::default(), limits, wake, begun: false, more: false }
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

    /// The rest of a turn, or the whole of it, unless the loop would sleep.
    pub(super) fn end(&mut self, now: Instant) {
        if !self.begun && !self.is_awake() {
            return;
        }
        self.begin(now);
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
