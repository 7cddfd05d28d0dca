//! The audit log of a store. It is only added to: triggers refuse everything else.

use rusqlite::{Row, ToSql, params};

use super::users::{from_column, to_column};
use super::{Store, StoreError};
use crate::desk::{AuditEntry, AuditQuery};

/// Bytes of each text of an entry. What is longer is cut: names that strangers give at the door end up here.
const TEXT_BYTES_MAX: usize = 1024;

/// Entries that are read at a time.
const PAGE_MAX: usize = 10_000;

fn from_row(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        number: from_column(row.get(0)?),
        at: from_column(row.get(1)?),
        actor: row.get(2)?,
        action: row.get(3)?,
        subject: row.get(4)?,
        detail: row.get(5)?,
        address: row.get(6)?,
    })
}

fn cut(text: &str) -> &str {
    let mut end = TEXT_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Store {
    /// Entries of the audit log, the newest first; at most 10,000.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        let before = query.before.map_or(i64::MAX, to_column);
        let limit = i64::try_from(query.limit.clamp(1, PAGE_MAX)).unwrap_or(i64::MAX);
        let mut meant: Vec<(&str, &dyn ToSql)> = vec![(":before", &before), (":limit", &limit)];
        let mut sql = "SELECT number, at, actor, action, subject, detail, address FROM audit
                       WHERE number < :before"
            .to_owned();
        if let Some(actor) = &query.actor {
            sql.push_str(" AND actor = :actor");
            meant.push((":actor", actor));
        }
        if let Some(action) = &query.action {
            sql.push_str(" AND action = :action");
            meant.push((":action", action));
        }
        sql.push_str(" ORDER BY number DESC LIMIT :limit");
        self.connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.query_map(&*meant, from_row)?.collect())
            .map_err(|error| self.failed(&error))
    }

    pub(super) fn append_audit(&self, entry: &AuditEntry) -> rusqlite::Result<usize> {
        self.connection
            .prepare_cached(
                "INSERT INTO audit (at, actor, action, subject, detail, address) VALUES (?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                to_column(entry.at),
                cut(&entry.actor),
                cut(&entry.action),
                cut(&entry.subject),
                cut(&entry.detail),
                cut(&entry.address),
            ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_neither_changed_nor_deleted_nor_replaced() {
        let store = Store::open_in_memory().unwrap();
        let entry = AuditEntry {
            number: 0,
            at: 7,
            actor: "staff:ada".to_owned(),
            action: "publish".to_owned(),
            subject: "m-1".to_owned(),
            detail: "to room:lobby".to_owned(),
            address: "192.0.2.7".to_owned(),
        };
        assert_eq!(store.append_audit(&entry).unwrap(), 1);
        for statement in [
            "UPDATE audit SET actor = 'staff:eve'",
            "DELETE FROM audit",
            "DELETE FROM audit WHERE number = 1",
            "REPLACE INTO audit VALUES (1, 7, 'staff:eve', '', '', '', '')",
            "INSERT INTO audit VALUES (1, 7, 'staff:eve', '', '', '', '')
             ON CONFLICT (number) DO UPDATE SET actor = 'staff:eve'",
        ] {
            let error = store.connection.execute(statement, ()).unwrap_err();
            assert!(error.to_string().contains("only added to"), "{statement}: {error}");
        }
        let found = store.audit(&AuditQuery { limit: 10, ..AuditQuery::default() }).unwrap();
        assert_eq!(found, [AuditEntry { number: 1, ..entry }]);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let check = |text: &str, bytes: usize| assert_eq!(cut(text), &text[..bytes]);
        check("", 0);
        check(&"x".repeat(TEXT_BYTES_MAX), TEXT_BYTES_MAX);
        check(&"x".repeat(TEXT_BYTES_MAX + 1), TEXT_BYTES_MAX);
        check(&format!("x{}", "ä".repeat(TEXT_BYTES_MAX)), TEXT_BYTES_MAX - 1);
    }
}
