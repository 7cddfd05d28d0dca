//! The denied tokens of a store.

use rusqlite::{OptionalExtension, Row, TransactionBehavior, params};

use super::users::{from_column, to_column};
use super::{ID_BYTES_MAX, Store, StoreError};
use crate::auth::UnixTime;
use crate::auth::deny::Denial;
use crate::auth::token::ALLOWED_DRIFT_MAX;

/// A denial with what the store has added to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDenial {
    /// By which it is removed; never given twice.
    pub number: u64,
    /// When it was stored.
    pub created: UnixTime,
    /// What is denied.
    pub denial: Denial,
}

impl StoredDenial {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: from_column(row.get(0)?),
            created: from_column(row.get(1)?),
            denial: Denial {
                subject: row.get(2)?,
                issued_before: row.get::<_, Option<i64>>(3)?.map(from_column),
                token_id: row.get(4)?,
                until: from_column(row.get(5)?),
            },
        })
    }
}

/// The denials that deny all that another one does: for the same user and token, as many times of issue, as
/// long.
const COVERING: &str = "SELECT number FROM denials WHERE subject IS ?1 AND token_id IS ?3 AND until >= ?4
    AND (issued_before IS NULL OR issued_before >= ?2) LIMIT 1";
const COVERED: &str = "DELETE FROM denials WHERE subject IS ?1 AND token_id IS ?3 AND until <= ?4
    AND (?2 IS NULL OR issued_before <= ?2)";

impl Store {
    /// Denies tokens; returns the number of the denial. A denial that another one makes superfluous is not
    /// kept, so that a user who is put off the line again and again takes one row; nor are those that were over
    /// at `now` for so long that no token of theirs is accepted any more.
    ///
    /// # Errors
    /// The denial names neither a user nor a token, or names that can't be one, or the store can't be written.
    pub fn deny(&mut self, denial: &Denial, now: UnixTime) -> Result<u64, StoreError> {
        if denial.subject.is_none() && denial.token_id.is_none() {
            return Err(self.invalid("a denial has to name a user or a token"));
        }
        if let Some(subject) = &denial.subject {
            self.check_text("a user's id", subject, ID_BYTES_MAX)?;
        }
        if let Some(token_id) = &denial.token_id {
            self.check_text("a token's id", token_id, ID_BYTES_MAX)?;
        }
        self.try_deny(denial, now).map(from_column).map_err(|error| self.failed(&error))
    }

    fn try_deny(&mut self, denial: &Denial, now: UnixTime) -> rusqlite::Result<i64> {
        let before = denial.issued_before.map(to_column);
        let over = to_column(now.saturating_sub(ALLOWED_DRIFT_MAX));
        let (now, until) = (to_column(now), to_column(denial.until));
        let meant = params![denial.subject, before, denial.token_id, until];
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("DELETE FROM denials WHERE until <= ?", [over])?;
        let covering: Option<i64> = transaction.query_row(COVERING, meant, |row| row.get(0)).optional()?;
        let number = match covering {
            Some(number) => number,
            None => {
                transaction.execute(COVERED, meant)?;
                transaction.execute(
                    "INSERT INTO denials (subject, issued_before, token_id, until, created)
                     VALUES (?, ?, ?, ?, ?)",
                    params![denial.subject, before, denial.token_id, until, now],
                )?;
                transaction.last_insert_rowid()
            }
        };
        transaction.commit()?;
        Ok(number)
    }

    /// The denials that are not over at `now`, in the order of their numbers.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn denials(&self, now: UnixTime) -> Result<Vec<StoredDenial>, StoreError> {
        self.connection
            .prepare_cached(
                "SELECT number, created, subject, issued_before, token_id, until FROM denials
                 WHERE until > ? ORDER BY number",
            )
            .and_then(|mut statement| {
                statement.query_map([to_column(now)], StoredDenial::from_row)?.collect()
            })
            .map_err(|error| self.failed(&error))
    }

    /// Takes a denial back; `false` if there is none of this number.
    ///
    /// # Errors
    /// The store can't be written.
    pub fn remove_denial(&mut self, number: u64) -> Result<bool, StoreError> {
        self.connection
            .execute("DELETE FROM denials WHERE number = ?", [to_column(number)])
            .map(|rows| rows > 0)
            .map_err(|error| self.failed(&error))
    }

    /// Forgets the denials that are over at `now`; returns how many.
    ///
    /// # Errors
    /// The store can't be written.
    pub fn drop_expired_denials(&mut self, now: UnixTime) -> Result<usize, StoreError> {
        self.connection
            .execute("DELETE FROM denials WHERE until <= ?", [to_column(now)])
            .map_err(|error| self.failed(&error))
    }
}
