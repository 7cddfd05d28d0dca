//! Who may do something with a message: one at a time.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The messages that something is done with at present.
#[derive(Default)]
pub(super) struct Holds {
    ids: Mutex<HashSet<String>>,
    freed: Condvar,
}

/// Messages with which nobody else does anything until this is dropped.
pub(super) struct Hold<'a> {
    holds: &'a Holds,
    ids: Vec<String>,
}

impl Holds {
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds messages. Waits until others have done what they do with them. Whoever holds some does not ask for more.
    pub(super) fn hold(&self, ids: Vec<String>) -> Hold<'_> {
        let is_held = |held: &mut HashSet<String>| ids.iter().any(|id| held.contains(id));
        let held = self.freed.wait_while(self.lock(), is_held);
        held.unwrap_or_else(PoisonError::into_inner).extend(ids.iter().cloned());
        Hold { holds: self, ids }
    }

    /// Holds one message.
    pub(super) fn hold_one(&self, id: &str) -> Hold<'_> {
        self.hold(vec![id.to_owned()])
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut held = self.holds.lock();
        for id in &self.ids {
            held.remove(id);
        }
        drop(held);
        self.holds.freed.notify_all();
    }
}
