//! The tables, and how a store of an earlier version gets them.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// Marks the file as ours: "Hail" in ASCII.
pub(super) const APPLICATION_ID: i32 = 0x4861_696c;

/// What leads from each version to the next; the first begins with an empty file. Whoever changes the tables
/// adds an entry; those that are there stay as they are.
pub(super) const MIGRATIONS: &[&str] = &[USERS_AND_DENIALS, MESSAGES_AND_STAFF, RUNS];

const USERS_AND_DENIALS: &str = "
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
";

const MESSAGES_AND_STAFF: &str = "
    -- Numbers grow with time and are not given twice, since pages are told apart by them. The payload stands last, so
    -- that what is before it is read without it.
    CREATE TABLE messages (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        topic TEXT NOT NULL,
        user TEXT,
        event TEXT NOT NULL,
        sender TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('scheduled', 'sent', 'retracted', 'cancelled', 'expired')),
        created_at INTEGER NOT NULL,
        send_at INTEGER,
        sent_at INTEGER,
        expires_at INTEGER,
        ended_at INTEGER,
        ended_by TEXT,
        offset INTEGER,
        subscribers INTEGER,
        received INTEGER,
        with_id INTEGER NOT NULL CHECK (with_id IN (0, 1)),
        receipts INTEGER NOT NULL CHECK (receipts IN (0, 1)),
        resend_of TEXT,
        payload TEXT NOT NULL
    ) STRICT;
    -- Each of the first three lists its messages in the order of their numbers.
    CREATE INDEX messages_by_topic ON messages (topic);
    CREATE INDEX messages_by_sender ON messages (sender);
    CREATE INDEX messages_by_kind ON messages (substr(sender, 1, instr(sender, ':')));
    -- Nearly all messages are sent, and nothing is found by that.
    CREATE INDEX messages_by_state ON messages (state) WHERE state <> 'sent';
    CREATE INDEX messages_due ON messages (send_at) WHERE state = 'scheduled';
    CREATE INDEX messages_kept ON messages (expires_at) WHERE state = 'sent' AND expires_at IS NOT NULL;

    CREATE TABLE staff (
        name TEXT PRIMARY KEY NOT NULL,
        password_hash TEXT NOT NULL,
        disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
        created_at INTEGER NOT NULL,
        changed_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        detail TEXT NOT NULL,
        address TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_by_actor ON audit (actor);
    CREATE INDEX audit_by_action ON audit (action);
    CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
    CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;

    CREATE TABLE idempotency (
        actor TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        until INTEGER NOT NULL,
        reply TEXT NOT NULL,
        PRIMARY KEY (actor, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX idempotency_by_end ON idempotency (until);

    -- Says whether who may connect has changed, to those who see only that something was written.
    CREATE TABLE marks (name TEXT PRIMARY KEY NOT NULL, count INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO marks VALUES ('access', 0), ('probe', 0);
    CREATE TRIGGER users_are_added AFTER INSERT ON users
        BEGIN UPDATE marks SET count = count + 1 WHERE name = 'access'; END;
    CREATE TRIGGER users_are_changed AFTER UPDATE ON users
        BEGIN UPDATE marks SET count = count + 1 WHERE name = 'access'; END;
    CREATE TRIGGER users_are_removed AFTER DELETE ON users
        BEGIN UPDATE marks SET count = count + 1 WHERE name = 'access'; END;
    CREATE TRIGGER denials_are_added AFTER INSERT ON denials
        BEGIN UPDATE marks SET count = count + 1 WHERE name = 'access'; END;
    CREATE TRIGGER denials_are_changed AFTER UPDATE ON denials
        BEGIN UPDATE marks SET count = count + 1 WHERE name = 'access'; END;
    CREATE TRIGGER denials_are_removed AFTER DELETE ON denials
        BEGIN UPDATE marks SET count = count + 1 WHERE name = 'access'; END;
";

const RUNS: &str = "
    -- Which process sent the message: a number that grows from each to the next, since offsets begin again with each. None
    -- where the message is not sent, or was by a process that gave no number.
    ALTER TABLE messages ADD COLUMN run INTEGER;
";

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
    fn who_may_connect_is_marked_and_nothing_else() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        let check = |statement: &str, marks: bool| {
            let count = |connection: &Connection| -> i64 {
                let sql = "SELECT count FROM marks WHERE name = 'access'";
                connection.query_row(sql, (), |row| row.get(0)).unwrap()
            };
            let before = count(&connection);
            assert_eq!(connection.execute(statement, ()).unwrap(), 1, "{statement}");
            assert_eq!(count(&connection) != before, marks, "{statement}");
        };
        check("INSERT INTO users VALUES ('ada', NULL, 0, 1, 1)", true);
        check("UPDATE users SET disabled = 1", true);
        check("DELETE FROM users", true);
        check("INSERT INTO denials (subject, until, created) VALUES ('ada', 1, 1)", true);
        check("UPDATE denials SET until = 2", true);
        check("DELETE FROM denials", true);
        check("INSERT INTO staff VALUES ('ada', '', 0, 1, 1)", false);
        check("UPDATE marks SET count = count + 1 WHERE name = 'probe'", false);
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
