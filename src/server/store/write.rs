//! What is written to a store, and transactions.

use std::fmt;

use super::idempotency::Idempotency;
use super::messages::{Counts, Prune, StateChange};
use super::{Store, StoreError, StoreErrorKind};
use crate::auth::connect::Secret;
use crate::desk::{AuditEntry, Message, StaffAccount, UnixMillis};

/// One thing to write: all of it or nothing.
#[derive(Clone)]
pub enum Write {
    /// Adds messages, none of which may be there, and the answer to the request that they came with.
    InsertMessages {
        /// The messages, in their order.
        messages: Vec<Message>,
        /// The answer; it replaces an earlier one of its key.
        idempotency: Option<Idempotency>,
    },
    /// Removes messages that were not published after all.
    RemoveMessages {
        /// Their ids.
        ids: Vec<String>,
        /// The actor and the idempotency key of their request.
        idempotency: Option<(String, String)>,
    },
    /// Changes the state of a message. Changes nothing if it is in another state than was thought.
    SetState(StateChange),
    /// Notes what was counted of a message.
    SetCounts {
        /// Its id.
        id: String,
        /// The counts.
        counts: Counts,
    },
    /// Forgets messages.
    Prune(Prune),
    /// Adds an entry to the audit log. Its number is given by the store.
    Audit(AuditEntry),
    /// Notes the answer to a request; it replaces an earlier one of its key.
    PutIdempotency(Idempotency),
    /// Forgets the answers that are over.
    PruneIdempotency {
        /// The time it is.
        now: UnixMillis,
    },
    /// Adds an account of staff. Changes nothing if there is one of this name.
    AddStaff(StaffAccount),
    /// Replaces the password of an account of staff.
    SetStaffPassword {
        /// Whose.
        name: String,
        /// The hash of the password that it gets.
        hash: Secret,
        /// When.
        at: UnixMillis,
    },
    /// Says whether an account of staff may sign in.
    SetStaffDisabled {
        /// Whose.
        name: String,
        /// It may not.
        disabled: bool,
        /// When.
        at: UnixMillis,
    },
    /// Removes an account of staff.
    RemoveStaff {
        /// Whose.
        name: String,
    },
    /// All of these, or none if one of them fails or changes nothing.
    All(Vec<Write>),
}

impl Write {
    /// About as many bytes as it takes while it waits.
    pub(super) fn bytes(&self) -> usize {
        const ROW: usize = 256;
        let message = |message: &Message| ROW + message.topic.len() + message.payload.get().len();
        let answer = |entry: &Idempotency| ROW + entry.key.len() + entry.reply.len();
        match self {
            Self::InsertMessages { messages, idempotency } => {
                messages.iter().map(message).sum::<usize>() + idempotency.as_ref().map_or(0, answer)
            }
            Self::RemoveMessages { ids, .. } => ids.len() * ROW,
            Self::PutIdempotency(entry) => answer(entry),
            Self::Audit(entry) => ROW + entry.subject.len() + entry.detail.len(),
            Self::All(writes) => writes.iter().map(Self::bytes).sum(),
            _ => ROW,
        }
    }
}

/// Shows what kind it is: the rest belongs to customers.
impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InsertMessages { .. } => "InsertMessages",
            Self::RemoveMessages { .. } => "RemoveMessages",
            Self::SetState(_) => "SetState",
            Self::SetCounts { .. } => "SetCounts",
            Self::Prune(_) => "Prune",
            Self::Audit(_) => "Audit",
            Self::PutIdempotency(_) => "PutIdempotency",
            Self::PruneIdempotency { .. } => "PruneIdempotency",
            Self::AddStaff(_) => "AddStaff",
            Self::SetStaffPassword { .. } => "SetStaffPassword",
            Self::SetStaffDisabled { .. } => "SetStaffDisabled",
            Self::RemoveStaff { .. } => "RemoveStaff",
            Self::All(writes) => return f.debug_tuple("All").field(writes).finish(),
        })
    }
}

/// What has become of writes that shared a transaction.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The rows that each has changed, or why nothing of it is there; in the order of the writes.
    pub(super) results: Vec<Result<usize, StoreError>>,
    /// Why the transaction as a whole has failed.
    pub(super) trouble: Option<StoreError>,
}

impl Outcome {
    pub(super) fn failed(count: usize, error: StoreError) -> Self {
        Self { results: vec![Err(error.clone()); count], trouble: Some(error) }
    }
}

fn is_full(result: &Result<usize, StoreError>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == StoreErrorKind::Full)
}

impl Store {
    /// Writes; returns how many rows were changed. What was written is on the disk then.
    ///
    /// # Errors
    /// It can't be written, and nothing of it is there.
    pub fn write(&mut self, write: &Write) -> Result<usize, StoreError> {
        let mut outcome = self.write_all(&[write]);
        outcome.results.pop().expect("one for each")
    }

    /// Writes all of these in one transaction. One that fails leaves the others as they are.
    pub(super) fn write_all(&mut self, writes: &[&Write]) -> Outcome {
        let mut outcome = self.transact(writes);
        // In memory there is no owner to make room.
        if self.file.is_some() || !outcome.results.iter().any(is_full) {
            return outcome;
        }
        if self.forget_oldest_messages().is_ok_and(|forgotten| forgotten > 0) {
            let left: Vec<usize> = (0..writes.len()).filter(|at| is_full(&outcome.results[*at])).collect();
            let again = self.transact(&left.iter().map(|at| writes[*at]).collect::<Vec<_>>());
            outcome.trouble = again.trouble;
            for (at, result) in left.into_iter().zip(again.results) {
                outcome.results[at] = result;
            }
        }
        outcome
    }

    fn transact(&self, writes: &[&Write]) -> Outcome {
        // Whoever writes to the path of a file that was replaced writes to nobody.
        let begun = self.check_in_place().and_then(|()| self.run("BEGIN IMMEDIATE"));
        if let Err(error) = begun {
            return Outcome::failed(writes.len(), error);
        }
        let mut results = Vec::with_capacity(writes.len());
        for write in writes {
            let result = self.write_one(write);
            // A full disk may have ended the transaction, and with it what went before.
            if self.connection.is_autocommit() {
                let error = result.err().unwrap_or_else(|| self.vanished());
                return Outcome::failed(writes.len(), error);
            }
            results.push(result);
        }
        match self.run("COMMIT").and_then(|()| self.check_in_place()) {
            Ok(()) => Outcome { results, trouble: None },
            Err(error) => {
                self.roll_back();
                Outcome::failed(writes.len(), error)
            }
        }
    }

    /// Writes something that changes nothing of meaning, to see whether anything can be written.
    pub(super) fn probe(&self) -> Result<(), StoreError> {
        self.check_in_place()?;
        self.run("UPDATE marks SET count = count + 1 WHERE name = 'probe'")?;
        self.check_in_place()
    }

    /// Opens the file once more and forgets the connection that has failed. SQLite looks then at what is in the file and
    /// not at what the failed connection remembers. In memory there is nothing to open.
    pub(super) fn reopen(&mut self) -> Result<(), StoreError> {
        if let Some(opened) = self.open_again() {
            *self = Self { run: self.run, ..opened? };
        }
        Ok(())
    }

    fn write_one(&self, write: &Write) -> Result<usize, StoreError> {
        self.run("SAVEPOINT one")?;
        let result = self.apply(write);
        let nothing = matches!(write, Write::All(_)) && matches!(result, Ok(0));
        if (result.is_err() || nothing) && !self.connection.is_autocommit() {
            self.run("ROLLBACK TO one")?;
        }
        if !self.connection.is_autocommit() {
            self.run("RELEASE one")?;
        }
        result
    }

    fn apply(&self, write: &Write) -> Result<usize, StoreError> {
        let done = match write {
            Write::InsertMessages { messages, idempotency } => {
                self.insert_messages(messages, idempotency.as_ref())
            }
            Write::RemoveMessages { ids, idempotency } => self.remove_messages(ids, idempotency.as_ref()),
            Write::SetState(change) => self.set_state(change),
            Write::SetCounts { id, counts } => self.set_counts(id, *counts),
            Write::Prune(prune) => self.prune_messages(prune),
            Write::Audit(entry) => self.append_audit(entry),
            Write::PutIdempotency(entry) => self.put_idempotency(entry),
            Write::PruneIdempotency { now } => self.prune_idempotency(*now),
            Write::AddStaff(account) => {
                self.check_staff_name(&account.name)?;
                self.add_staff(account)
            }
            Write::SetStaffPassword { name, hash, at } => self.set_staff_password(name, hash, *at),
            Write::SetStaffDisabled { name, disabled, at } => self.set_staff_disabled(name, *disabled, *at),
            Write::RemoveStaff { name } => self.remove_staff(name),
            Write::All(writes) => return self.apply_all(writes),
        };
        done.map_err(|error| self.failed(&error))
    }

    /// The rows of all of them; 0, with the rest not done, once one has changed nothing.
    fn apply_all(&self, writes: &[Write]) -> Result<usize, StoreError> {
        let mut rows = 0;
        for write in writes {
            match self.apply(write)? {
                0 => return Ok(0),
                changed => rows += changed,
            }
        }
        Ok(rows)
    }

    fn insert_messages(&self, messages: &[Message], answer: Option<&Idempotency>) -> rusqlite::Result<usize> {
        let mut rows = 0;
        for message in messages {
            rows += self.insert_message(message)?;
        }
        Ok(rows + answer.map_or(Ok(0), |answer| self.put_idempotency(answer))?)
    }

    fn remove_messages(&self, ids: &[String], answer: Option<&(String, String)>) -> rusqlite::Result<usize> {
        let mut rows = 0;
        for id in ids {
            rows += self.remove_message(id)?;
        }
        Ok(rows + answer.map_or(Ok(0), |(actor, key)| self.remove_idempotency(actor, key))?)
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        let done = self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute(()));
        done.map(drop).map_err(|error| self.failed(&error))
    }

    /// Ends a transaction that has failed, unless SQLite has ended it already.
    fn roll_back(&self) {
        if !self.connection.is_autocommit() && self.run("ROLLBACK").is_err() {
            tracing::error!("a transaction that has failed can't be rolled back");
        }
    }

    fn vanished(&self) -> StoreError {
        StoreError::with_detail(&self.path, StoreErrorKind::Failed, "a transaction has ended by itself")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_is_on_the_disk() {
        let path = std::env::temp_dir().join(format!("hailer-pragmas-{}.db", std::process::id()));
        let made = Store::open(&path).unwrap();
        for store in [&made, &made.open_again().expect("it has a file").unwrap()] {
            let pragma = |name: &str| -> String {
                let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
                store.connection.query_row(&sql, (), |row| row.get(0)).unwrap()
            };
            // 2 is `full`: in the mode `wal` each commit waits for the disk then.
            assert_eq!((&*pragma("journal_mode"), &*pragma("synchronous")), ("wal", "2"));
        }
        drop(made);
        std::fs::remove_file(path).unwrap();
    }
}
