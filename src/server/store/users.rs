//! The users of a store.

use rusqlite::{OptionalExtension, Row, params};

use super::{ID_BYTES_MAX, Store, StoreError};
use crate::auth::UnixTime;

/// Bytes of a user's name.
const NAME_BYTES_MAX: usize = 1024;

/// One user of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What tokens call the user (`sub`).
    pub id: String,
    /// What people call the user.
    pub name: Option<String>,
    /// Whether the user may not connect.
    pub disabled: bool,
    /// When the user was added.
    pub created: UnixTime,
    /// When the user was last disabled or enabled, or else added.
    pub changed: UnixTime,
}

impl User {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            disabled: row.get(2)?,
            created: from_column(row.get(3)?),
            changed: from_column(row.get(4)?),
        })
    }
}

/// A time as SQLite, whose integers have a sign, keeps it.
pub(super) fn to_column(time: UnixTime) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

pub(super) fn from_column(time: i64) -> UnixTime {
    UnixTime::try_from(time).unwrap_or(0)
}

impl Store {
    /// Adds a user; `false` if there is one of this id already, who stays as it is.
    ///
    /// # Errors
    /// The id or the name can't be one, or the store can't be written.
    pub fn add_user(&mut self, id: &str, name: Option<&str>, now: UnixTime) -> Result<bool, StoreError> {
        self.check_text("a user's id", id, ID_BYTES_MAX)?;
        if let Some(name) = name {
            self.check_text("a user's name", name, NAME_BYTES_MAX)?;
        }
        let now = to_column(now);
        self.connection
            .prepare_cached(
                "INSERT INTO users (id, name, created, changed) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            )
            .and_then(|mut statement| statement.execute(params![id, name, now, now]))
            .map(|rows| rows > 0)
            .map_err(|error| self.failed(&error))
    }

    /// The user of an id.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn user(&self, id: &str) -> Result<Option<User>, StoreError> {
        self.connection
            .prepare_cached("SELECT id, name, disabled, created, changed FROM users WHERE id = ?")
            .and_then(|mut statement| statement.query_row([id], User::from_row).optional())
            .map_err(|error| self.failed(&error))
    }

    /// At most `limit` users in the order of their ids, those behind `after` or from the first on.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn users(&self, after: Option<&str>, limit: usize) -> Result<Vec<User>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connection
            .prepare_cached(
                "SELECT id, name, disabled, created, changed FROM users
                 WHERE ?1 IS NULL OR id > ?1 ORDER BY id LIMIT ?2",
            )
            .and_then(|mut statement| statement.query_map(params![after, limit], User::from_row)?.collect())
            .map_err(|error| self.failed(&error))
    }

    /// The ids of the users who were disabled at this time or later, and are so still.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn users_disabled_since(&self, since: UnixTime) -> Result<Vec<String>, StoreError> {
        self.connection
            .prepare_cached("SELECT id FROM users WHERE disabled AND changed >= ?")
            .and_then(|mut statement| statement.query_map([to_column(since)], |row| row.get(0))?.collect())
            .map_err(|error| self.failed(&error))
    }

    /// Keeps a user from connecting; `false` if there is none of this id.
    ///
    /// # Errors
    /// The store can't be written.
    pub fn disable_user(&mut self, id: &str, now: UnixTime) -> Result<bool, StoreError> {
        self.set_disabled(id, true, now)
    }

    /// Lets a user connect again; `false` if there is none of this id.
    ///
    /// # Errors
    /// The store can't be written.
    pub fn enable_user(&mut self, id: &str, now: UnixTime) -> Result<bool, StoreError> {
        self.set_disabled(id, false, now)
    }

    fn set_disabled(&mut self, id: &str, disabled: bool, now: UnixTime) -> Result<bool, StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE users SET changed = CASE disabled WHEN ?2 THEN changed ELSE ?3 END, disabled = ?2
                 WHERE id = ?1",
            )
            .and_then(|mut statement| statement.execute(params![id, disabled, to_column(now)]))
            .map(|rows| rows > 0)
            .map_err(|error| self.failed(&error))
    }

    /// Removes a user; `false` if there is none of this id.
    ///
    /// # Errors
    /// The store can't be written.
    pub fn remove_user(&mut self, id: &str) -> Result<bool, StoreError> {
        self.connection
            .prepare_cached("DELETE FROM users WHERE id = ?")
            .and_then(|mut statement| statement.execute([id]))
            .map(|rows| rows > 0)
            .map_err(|error| self.failed(&error))
    }

    /// What is shown to people and written to logs holds no control characters.
    pub(super) fn check_text(&self, what: &str, text: &str, bytes_max: usize) -> Result<(), StoreError> {
        if text.is_empty() {
            return Err(self.invalid(format!("{what} can't be empty")));
        }
        if text.len() > bytes_max {
            return Err(self.invalid(format!("{what} has at most {bytes_max} bytes")));
        }
        if text.chars().any(char::is_control) {
            return Err(self.invalid(format!("{what} can't hold control characters")));
        }
        Ok(())
    }
}
