//! A store as those who run a server read it.

use std::borrow::Cow;

use tracing::warn;

use super::{StoreError, StoreErrorKind, StoreWriter, Write};
use crate::auth::connect::Secret;
use crate::desk::{
    AuditEntry, AuditQuery, DeskError, ErrorCode, Message, MessagePage, MessageQuery, Records, StaffAccount,
    UnixMillis,
};

/// Says what went wrong to somebody elsewhere, who is not told where the store lies.
impl From<StoreError> for DeskError {
    fn from(error: StoreError) -> Self {
        let (code, sentence) = match error.kind() {
            StoreErrorKind::Invalid => (ErrorCode::Invalid, Cow::Owned(error.to_string())),
            StoreErrorKind::Overloaded => {
                (ErrorCode::Overloaded, "too much waits to be written to the store; try again later".into())
            }
            StoreErrorKind::Full => (ErrorCode::StoreUnavailable, "the disk with the store is full".into()),
            StoreErrorKind::Closed => (ErrorCode::StoreUnavailable, "the server stops".into()),
            _ => (ErrorCode::StoreUnavailable, "the store can't be used; the server's log says more".into()),
        };
        Self::new(code, sentence)
    }
}

/// What was read. What could not be is logged: the writer's failures are logged by its thread.
fn read<T>(result: Result<T, StoreError>) -> Result<T, DeskError> {
    result.map_err(|error| {
        warn!(%error, "the store can't be read");
        error.into()
    })
}

impl Records for StoreWriter {
    fn message(&self, id: &str) -> Result<Option<Message>, DeskError> {
        read(self.reader().message(id))
    }

    fn messages(&self, query: &MessageQuery) -> Result<MessagePage, DeskError> {
        read(self.reader().messages(query))
    }

    fn append_audit(&self, entry: &AuditEntry) -> Result<(), DeskError> {
        self.write(Write::Audit(entry.clone()))?;
        Ok(())
    }

    fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, DeskError> {
        read(self.reader().audit(query))
    }

    fn staff(&self, name: &str) -> Result<Option<StaffAccount>, DeskError> {
        read(self.reader().staff(name))
    }

    fn set_staff_password(&self, name: &str, hash: &Secret, at: UnixMillis) -> Result<bool, DeskError> {
        let rows = self.write(Write::SetStaffPassword { name: name.to_owned(), hash: hash.clone(), at })?;
        Ok(rows > 0)
    }
}
