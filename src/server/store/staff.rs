//! The accounts of staff in a store.

use rusqlite::{OptionalExtension, Row, params};

use super::users::{from_column, to_column};
use super::{Store, StoreError};
use crate::auth::connect::Secret;
use crate::desk::{StaffAccount, UnixMillis};

/// Bytes of the name of an account.
const NAME_BYTES_MAX: usize = 64;

fn from_row(row: &Row<'_>) -> rusqlite::Result<StaffAccount> {
    Ok(StaffAccount {
        name: row.get(0)?,
        password_hash: Secret::new(row.get::<_, String>(1)?),
        disabled: row.get(2)?,
        created_at: from_column(row.get(3)?),
    })
}

impl Store {
    /// The account of a name.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn staff(&self, name: &str) -> Result<Option<StaffAccount>, StoreError> {
        self.connection
            .prepare_cached("SELECT name, password_hash, disabled, created_at FROM staff WHERE name = ?")
            .and_then(|mut statement| statement.query_row([name], from_row).optional())
            .map_err(|error| self.failed(&error))
    }

    /// All accounts, in the order of their names. There are as many as people who work with the back office.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn all_staff(&self) -> Result<Vec<StaffAccount>, StoreError> {
        self.connection
            .prepare_cached("SELECT name, password_hash, disabled, created_at FROM staff ORDER BY name")
            .and_then(|mut statement| statement.query_map((), from_row)?.collect())
            .map_err(|error| self.failed(&error))
    }

    /// A name that is written to the audit log and read by people.
    pub(super) fn check_staff_name(&self, name: &str) -> Result<(), StoreError> {
        self.check_text("the name of an account of staff", name, NAME_BYTES_MAX)?;
        if name.trim() != name {
            return Err(self.invalid("the name of an account of staff can't begin or end with a space"));
        }
        Ok(())
    }

    pub(super) fn add_staff(&self, account: &StaffAccount) -> rusqlite::Result<usize> {
        self.connection
            .prepare_cached(
                "INSERT INTO staff (name, password_hash, disabled, created_at, changed_at) VALUES (?1, ?2, ?3, ?4, ?4)
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                account.name,
                account.password_hash.expose(),
                account.disabled,
                to_column(account.created_at),
            ])
    }

    pub(super) fn set_staff_password(
        &self,
        name: &str,
        hash: &Secret,
        at: UnixMillis,
    ) -> rusqlite::Result<usize> {
        self.connection
            .prepare_cached("UPDATE staff SET password_hash = ?2, changed_at = ?3 WHERE name = ?1")?
            .execute(params![name, hash.expose(), to_column(at)])
    }

    pub(super) fn set_staff_disabled(
        &self,
        name: &str,
        disabled: bool,
        at: UnixMillis,
    ) -> rusqlite::Result<usize> {
        self.connection
            .prepare_cached("UPDATE staff SET disabled = ?2, changed_at = ?3 WHERE name = ?1")?
            .execute(params![name, disabled, to_column(at)])
    }

    pub(super) fn remove_staff(&self, name: &str) -> rusqlite::Result<usize> {
        self.connection.prepare_cached("DELETE FROM staff WHERE name = ?")?.execute([name])
    }
}
