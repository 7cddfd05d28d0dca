//! What has to be undone in the store, be it that the store can't be written to at the moment.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tracing::{error, warn};

use super::Publisher;
use crate::server::store::{StoreError, Write};

/// Writes that may wait for a store that has failed.
const WAITING_MAX: usize = 10_000;

/// Writes that undo others and have failed, in their order.
#[derive(Default)]
pub(super) struct Undo(Mutex<VecDeque<Write>>);

impl Publisher {
    /// Undoes what was written before it turned out that nothing comes of it. If the store fails meanwhile, it is tried
    /// again until it succeeds or the process ends.
    pub(super) fn undo(&self, write: Write) {
        let mut waiting = self.undo.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = match waiting.is_empty() {
            true => self.store.write(write.clone()).err(),
            false => None,
        };
        match failed {
            None if waiting.is_empty() => return,
            Some(error) => warn!(%error, "records of what was not published stay for the present"),
            None => {}
        }
        if waiting.len() < WAITING_MAX {
            waiting.push_back(write);
        } else {
            error!("records of what was not published stay in the store");
        }
    }

    /// Tries again what has failed. What is written from here on comes behind it.
    ///
    /// # Errors
    /// The store still can't be written.
    pub(super) fn finish_undoing(&self) -> Result<(), StoreError> {
        let mut waiting = self.undo.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(write) = waiting.front() {
            self.store.write(write.clone())?;
            waiting.pop_front();
        }
        Ok(())
    }
}
