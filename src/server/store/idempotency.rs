//! Answers to requests that may be repeated, in a store.

use rusqlite::{OptionalExtension, Row, params};

use super::users::{from_column, to_column};
use super::{Store, StoreError};
use crate::desk::UnixMillis;

/// How a request with an idempotency key was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Who made the request, as `key:orders`. Keys of different actors have nothing to do with each other.
    pub actor: String,
    /// The idempotency key.
    pub key: String,
    /// A hash of what was asked for.
    pub fingerprint: [u8; 32],
    /// The answer, JSON.
    pub reply: String,
    /// From then on the key is free.
    pub until: UnixMillis,
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Idempotency> {
    Ok(Idempotency {
        actor: row.get(0)?,
        key: row.get(1)?,
        fingerprint: row.get(2)?,
        reply: row.get(3)?,
        until: from_column(row.get(4)?),
    })
}

impl Store {
    /// The answer that a key of an actor has at `now`.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn idempotency(
        &self,
        actor: &str,
        key: &str,
        now: UnixMillis,
    ) -> Result<Option<Idempotency>, StoreError> {
        self.connection
            .prepare_cached(
                "SELECT actor, key, fingerprint, reply, until FROM idempotency
                 WHERE actor = ? AND key = ? AND until > ?",
            )
            .and_then(|mut statement| {
                statement.query_row(params![actor, key, to_column(now)], from_row).optional()
            })
            .map_err(|error| self.failed(&error))
    }

    /// The answers that are good at `now`, those that are good longest first, at most `limit`.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn all_idempotency(&self, now: UnixMillis, limit: usize) -> Result<Vec<Idempotency>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connection
            .prepare_cached(
                "SELECT actor, key, fingerprint, reply, until FROM idempotency
                 WHERE until > ? ORDER BY until DESC LIMIT ?",
            )
            .and_then(|mut statement| {
                statement.query_map(params![to_column(now), limit], from_row)?.collect()
            })
            .map_err(|error| self.failed(&error))
    }

    pub(super) fn put_idempotency(&self, entry: &Idempotency) -> rusqlite::Result<usize> {
        self.connection
            .prepare_cached(
                "INSERT INTO idempotency (actor, key, fingerprint, reply, until) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET fingerprint = excluded.fingerprint, reply = excluded.reply,
                     until = excluded.until",
            )?
            .execute(params![entry.actor, entry.key, entry.fingerprint, entry.reply, to_column(entry.until)])
    }

    pub(super) fn remove_idempotency(&self, actor: &str, key: &str) -> rusqlite::Result<usize> {
        self.connection
            .prepare_cached("DELETE FROM idempotency WHERE actor = ? AND key = ?")?
            .execute([actor, key])
    }

    pub(super) fn prune_idempotency(&self, now: UnixMillis) -> rusqlite::Result<usize> {
        self.connection.prepare_cached("DELETE FROM idempotency WHERE until <= ?")?.execute([to_column(now)])
    }
}
