//! Reading a store while another thread writes to it.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Idempotency, Store, StoreError, StoreErrorKind};
use crate::desk::{AuditEntry, AuditQuery, Message, MessagePage, MessageQuery, StaffAccount, UnixMillis};

/// Reads a store, from any thread. A file has a connection for it that does not wait for writes; a store in memory is
/// shared with the writer, whose transactions are short there.
#[derive(Debug, Clone)]
pub struct StoreReader {
    store: Arc<Mutex<Store>>,
}

impl StoreReader {
    pub(super) fn new(store: Arc<Mutex<Store>>) -> Self {
        Self { store }
    }

    fn read<T>(&self, read: impl FnOnce(&Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        match store.check_in_place() {
            // Another file was put in its place: a backup, perhaps.
            Err(error) if error.kind() == StoreErrorKind::Moved => store.reopen()?,
            found => found?,
        }
        read(&store)
    }

    /// [`Store::message`]
    ///
    /// # Errors
    /// The store can't be read.
    pub fn message(&self, id: &str) -> Result<Option<Message>, StoreError> {
        self.read(|store| store.message(id))
    }

    /// [`Store::messages`]
    ///
    /// # Errors
    /// The store can't be read.
    pub fn messages(&self, query: &MessageQuery) -> Result<MessagePage, StoreError> {
        self.read(|store| store.messages(query))
    }

    /// [`Store::due_messages`]
    ///
    /// # Errors
    /// The store can't be read.
    pub fn due_messages(&self, now: UnixMillis, limit: usize) -> Result<Vec<Message>, StoreError> {
        self.read(|store| store.due_messages(now, limit))
    }

    /// [`Store::next_due`]
    ///
    /// # Errors
    /// The store can't be read.
    pub fn next_due(&self) -> Result<Option<UnixMillis>, StoreError> {
        self.read(Store::next_due)
    }

    /// [`Store::kept_messages`]
    ///
    /// # Errors
    /// The store can't be read.
    pub fn kept_messages(&self, now: UnixMillis, limit: usize) -> Result<Vec<Message>, StoreError> {
        self.read(|store| store.kept_messages(now, limit))
    }

    /// [`Store::audit`]
    ///
    /// # Errors
    /// The store can't be read.
    pub fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        self.read(|store| store.audit(query))
    }

    /// [`Store::staff`]
    ///
    /// # Errors
    /// The store can't be read.
    pub fn staff(&self, name: &str) -> Result<Option<StaffAccount>, StoreError> {
        self.read(|store| store.staff(name))
    }

    /// [`Store::all_staff`]
    ///
    /// # Errors
    /// The store can't be read.
    pub fn all_staff(&self) -> Result<Vec<StaffAccount>, StoreError> {
        self.read(Store::all_staff)
    }

    /// [`Store::idempotency`]
    ///
    /// # Errors
    /// The store can't be read.
    pub fn idempotency(
        &self,
        actor: &str,
        key: &str,
        now: UnixMillis,
    ) -> Result<Option<Idempotency>, StoreError> {
        self.read(|store| store.idempotency(actor, key, now))
    }

    /// [`Store::all_idempotency`]
    ///
    /// # Errors
    /// The store can't be read.
    pub fn all_idempotency(&self, now: UnixMillis, limit: usize) -> Result<Vec<Idempotency>, StoreError> {
        self.read(|store| store.all_idempotency(now, limit))
    }
}
