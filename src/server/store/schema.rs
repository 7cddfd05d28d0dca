//! The tables, and how a store of an earlier version gets them.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// Marks the file as ours: "Hail" in ASCII.
pub(super) const APPLICATION_ID: i32 = 0x4861_696c;

/// What leads from each version to the next; the first begins with an empty file. Whoever changes the tables
/// adds an entry; those that are there stay as they are.
pub(super) const MIGRATIONS: &[&str] = &["
    CREATE TABLE users (
        id TEXT PRIMARY KEY NOT NULL,
        name TEXT,
        disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
        created INTEGER NOT NULL,
        changed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- Numbers are not given twice, so that nobody removes another denial than the one that was listed.
    CREATE TABLE denials (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        subject TEXT,
        issued_before INTEGER,
        token_id TEXT,
        until INTEGER NOT NULL,
        created INTEGER NOT NULL,
        CHECK (subject IS NOT NULL OR token_id IS NOT NULL)
    ) STRICT;
    CREATE INDEX denials_by_whom ON denials (subject, token_id);
    CREATE INDEX denials_by_end ON denials (until);
"];

/// The version of a store that has gone through all of them.
pub(super) fn version(migrations: &[&str]) -> u32 {
    u32::try_from(migrations.len()).unwrap_or(u32::MAX)
}

/// Brings a store to the last version, in one step or not at all. Several processes may try at a time.
pub(super) fn migrate(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have done it while this one waited.
    let found = user_version(&transaction)?;
    for migration in migrations.iter().skip(found as usize) {
        transaction.execute_batch(migration)?;
    }
    if found < version(migrations) {
        transaction.pragma_update(None, "user_version", version(migrations))?;
    }
    transaction.commit()
}

fn user_version(transaction: &Transaction<'_>) -> rusqlite::Result<u32> {
    transaction.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version_of(connection: &Connection) -> u32 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_store_of_any_version_gets_what_it_lacks() {
        let further: Vec<&str> =
            MIGRATIONS.iter().copied().chain(["ALTER TABLE users ADD COLUMN mail TEXT"]).collect();
        for begun in 0..=further.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            migrate(&mut connection, &further[..begun]).unwrap();
            assert_eq!(version_of(&connection) as usize, begun);
            migrate(&mut connection, &further).unwrap();
            migrate(&mut connection, &further).unwrap();
            assert_eq!(version_of(&connection) as usize, further.len());
            connection.execute("INSERT INTO users VALUES ('ada', NULL, 0, 1, 1, 'a@b')", ()).unwrap();
        }
    }

    #[test]
    fn a_migration_that_fails_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        let wrong: Vec<&str> =
            MIGRATIONS.iter().copied().chain(["CREATE TABLE more (a)", "no such words"]).collect();
        migrate(&mut connection, MIGRATIONS).unwrap();
        assert!(migrate(&mut connection, &wrong).is_err());
        assert_eq!(version_of(&connection), version(MIGRATIONS));
        assert!(connection.execute("SELECT * FROM more", ()).is_err());
    }
}
