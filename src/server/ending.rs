//! How far the end of a server has got: by when it has to be over, who ends with it, and what is waited for.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::ServerHandle;

/// The end of a server, shared by its handles.
#[derive(Default)]
pub(super) struct Ending {
    time: Mutex<Time>,
    /// A lock of its own: what hangs may be asked for while the other one is held.
    pending: Mutex<Option<Box<str>>>,
}

#[derive(Default)]
struct Time {
    deadline: Option<Instant>,
    follower: Option<ServerHandle>,
}

impl Ending {
    /// Brings the deadline forward; the server that has to end by it as well, if there is one.
    pub(super) fn shorten(&self, deadline: Instant) -> Option<ServerHandle> {
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        time.deadline = Some(time.deadline.map_or(deadline, |old| old.min(deadline)));
        time.follower.clone()
    }

    /// Notes a server that ends by the same deadline from here on, and returns that.
    #[cfg(feature = "cli")]
    fn follow(&self, follower: ServerHandle) -> Option<Instant> {
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        time.follower = Some(follower);
        time.deadline
    }

    /// Notes what is waited for.
    pub(super) fn wait_for(&self, what: impl Into<Box<str>>) {
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.into());
    }

    /// What is waited for.
    pub(super) fn pending(&self) -> Option<Box<str>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerHandle {
    /// Begins to end another server, which has the time that is left to this one: a later
    /// [`drain_within`](Self::drain_within) shortens it for both.
    #[cfg(feature = "cli")]
    pub(crate) fn end_along(&self, other: &Self) {
        let deadline = self.ending.follow(other.clone());
        other.drain_until(deadline.unwrap_or_else(|| Instant::now() + other.drain_timeout));
    }

    /// Notes what the end of the server waits for, to be told if that hangs.
    #[cfg(feature = "cli")]
    pub(crate) fn end_waits_for(&self, what: &str) {
        self.ending.wait_for(what);
    }
}
