//! Records, with what has been done a moment ago.

use crate::auth::connect::Secret;
use crate::desk::{
    AuditEntry, AuditQuery, DeskError, Message, MessagePage, MessageQuery, Records, StaffAccount, UnixMillis,
};
use crate::server::store::{StoreWriter, Write};

/// The store as those read it who have just published: what waits to be written is written first.
#[derive(Clone)]
pub struct StoreRecords(StoreWriter);

impl StoreRecords {
    /// The records of this store.
    #[must_use]
    pub fn new(store: StoreWriter) -> Self {
        Self(store)
    }
}

/// Waits until everything is written that waits or is being written at present, by a write behind it that changes
/// nothing. A store that can't be written can still be read.
fn catch_up(store: &StoreWriter) {
    let _ = store.write(Write::PruneIdempotency { now: 0 });
}

/// A message, be it that its record waits to be written.
pub(super) fn find(store: &StoreWriter, id: &str) -> Result<Option<Message>, DeskError> {
    if let Some(message) = store.message(id)? {
        return Ok(Some(message));
    }
    catch_up(store);
    store.message(id)
}

impl Records for StoreRecords {
    fn message(&self, id: &str) -> Result<Option<Message>, DeskError> {
        find(&self.0, id)
    }

    fn messages(&self, query: &MessageQuery) -> Result<MessagePage, DeskError> {
        catch_up(&self.0);
        self.0.messages(query)
    }

    fn append_audit(&self, entry: &AuditEntry) -> Result<(), DeskError> {
        self.0.append_audit(entry)
    }

    fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, DeskError> {
        self.0.audit(query)
    }

    fn staff(&self, name: &str) -> Result<Option<StaffAccount>, DeskError> {
        self.0.staff(name)
    }

    fn set_staff_password(&self, name: &str, hash: &Secret, at: UnixMillis) -> Result<bool, DeskError> {
        self.0.set_staff_password(name, hash, at)
    }
}
