//! The users behind tokens: looked up in a database that may be slow or away, on threads of their own (Guardian:
//! `resource_from_token`).
//!
//! An answer that is known comes at once, on the caller's thread. All else waits in a bounded queue for one of
//! the threads, each with a [`Directory`] of its own; look-ups of one user at a time are one query. Nobody waits
//! longer than the deadline, whatever the directory does.

mod cache;
mod lookups;
#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;
#[cfg(test)]
mod tests;
mod threads;

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::auth::connect::Refusal;
use crate::auth::gate;
use crate::guard::Guarded;

#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresConfig, PostgresDirectory};
use lookups::Lookups;
pub use sqlite::StoreDirectory;
use threads::{Shared, give};

/// Bytes of a user's id; a longer one is unknown.
pub const USER_BYTES_MAX: usize = 255;

/// Bytes of an account's details, which are kept for each of the user's sockets.
pub const DETAILS_BYTES_MAX: usize = 16 * 1024;

/// A database with accounts. Each thread has a value of its own.
pub trait Directory: Send {
    /// Looks a user up; `None` if there is none of this id. It may take its time, but should end by the
    /// deadline.
    ///
    /// # Errors
    /// Nobody can say whether there is such a user.
    fn find(&mut self, user: &str) -> Result<Option<Account>, DirectoryError>;
}

/// A user of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whether the user may not connect.
    pub disabled: bool,
    /// What the directory knows of the user: a JSON object of at most [`DETAILS_BYTES_MAX`].
    pub details: Box<str>,
}

/// Why a directory can't say anything. The text goes to the log: it holds no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryError {
    reason: Box<str>,
    broken: bool,
}

impl DirectoryError {
    /// The connection can't be used any more, or could not be made.
    #[must_use]
    pub fn broken(reason: impl Into<Box<str>>) -> Self {
        Self { reason: reason.into(), broken: true }
    }

    /// This query has failed; the next may succeed.
    #[must_use]
    pub fn failed(reason: impl Into<Box<str>>) -> Self {
        Self { reason: reason.into(), broken: false }
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for DirectoryError {}

/// Why a look-up gives no account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LookupError {
    /// There is no such user.
    Unknown,
    /// The user may not connect.
    Disabled,
    /// The directory can't say at present.
    Unavailable,
    /// Too many look-ups wait (`queue_max`).
    Overloaded,
    /// The directory has not answered within the deadline.
    TimedOut,
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "there is no such user",
            Self::Disabled => "the user is disabled",
            Self::Unavailable => "the accounts are unavailable",
            Self::Overloaded => "too many look-ups wait",
            Self::TimedOut => "the accounts have not answered in time",
        })
    }
}

impl std::error::Error for LookupError {}

impl From<LookupError> for Refusal {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Unknown => Self::UnknownUser,
            LookupError::Disabled => Self::DisabledUser,
            LookupError::Unavailable => Self::Unavailable,
            LookupError::Overloaded => Self::Overloaded,
            LookupError::TimedOut => Self::TimedOut,
        }
    }
}

/// Who passes while the directory is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenAway {
    /// Nobody but those whose cache entry is fresh.
    #[default]
    Refuse,
    /// Those who were good when last looked up, as long as the cache remembers them.
    Cached,
}

/// How users are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountsConfig {
    /// Threads, each with a directory of its own; at least one.
    pub threads: usize,
    /// Look-ups that wait at a time; beyond it they are refused at once.
    pub queue_max: usize,
    /// The longest that a look-up waits for an answer.
    pub deadline: Duration,
    /// How long an answer is good for. That a user is unknown or disabled is remembered for 5 s at most.
    pub cache_lifetime: Duration,
    /// Users that are remembered.
    pub cache_entries_max: usize,
    /// Who passes while the directory is away.
    pub when_away: WhenAway,
}

impl Default for AccountsConfig {
    fn default() -> Self {
        Self {
            threads: 8,
            queue_max: 10_000,
            deadline: Duration::from_secs(5),
            cache_lifetime: Duration::from_secs(60),
            cache_entries_max: 100_000,
            when_away: WhenAway::default(),
        }
    }
}

/// What was counted since the start, and how things are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccountsStats {
    /// Look-ups. Each has one answer: `found`, `unknown`, `disabled`, `unavailable`, `overloaded`, `timed_out`.
    pub lookups: u64,
    /// Look-ups that were answered from the cache.
    pub cached: u64,
    /// Look-ups that have waited for the query of another one.
    pub shared: u64,
    /// Queries that were begun.
    pub queries: u64,
    /// Queries that have failed although the directory was there.
    pub failures: u64,
    /// Answers: a good account.
    pub found: u64,
    /// Answers: no such user.
    pub unknown: u64,
    /// Answers: a user who may not connect.
    pub disabled: u64,
    /// Answers: nobody can say.
    pub unavailable: u64,
    /// Answers: too many waited.
    pub overloaded: u64,
    /// Answers: the directory was too slow.
    pub timed_out: u64,
    /// Users let in by an old answer because the directory was away.
    pub passed_while_away: u64,
    /// How often the directory has gone away.
    pub times_away: u64,
    /// Whether the directory is away.
    pub away: bool,
    /// Look-ups that wait.
    pub waiting: usize,
    /// Users that are remembered.
    pub cache_entries: usize,
}

/// Looks users up. Dropped, it answers those who wait as [`LookupError::Unavailable`]; its threads end as soon
/// as their directories let them.
pub struct Accounts {
    shared: Arc<Shared>,
}

impl Accounts {
    /// Starts the threads. The first opens its directory at once, so that one that can't be reached is logged
    /// before anybody comes; the others when they are needed.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        config: AccountsConfig,
        open: impl Fn() -> Result<Box<dyn Directory>, DirectoryError> + Send + Sync + 'static,
    ) -> io::Result<Arc<Self>> {
        let threads = config.threads.max(1);
        let shared = Arc::new(Shared {
            lookups: Mutex::new(Lookups::new(config, Instant::now())),
            work: Condvar::new(),
            waiter: Condvar::new(),
            stop: Condvar::new(),
            open: Guarded::new(Box::new(open)),
        });
        // From here on the threads that were started end when it is dropped.
        let accounts = Self { shared };
        let name = |what: String| std::thread::Builder::new().name(format!("hailer-accounts-{what}"));
        let shared = Arc::clone(&accounts.shared);
        name("deadlines".to_owned()).spawn(move || shared.keep_deadlines())?;
        for number in 0..threads {
            let shared = Arc::clone(&accounts.shared);
            name(number.to_string()).spawn(move || shared.work(number == 0))?;
        }
        Ok(Arc::new(accounts))
    }

    /// Looks a user up and calls `answer` once: at once, on this thread, if the answer is known; otherwise from
    /// another thread, by the deadline.
    pub fn look_up(
        &self,
        user: &str,
        answer: impl FnOnce(Result<Arc<Account>, LookupError>) + Send + 'static,
    ) {
        let known = {
            let mut lookups = self.shared.lock();
            let nobody_waited = lookups.poll_deadline().is_none();
            let known = lookups.handle_look_up(user, Box::new(answer), Instant::now());
            if known.is_none() {
                self.shared.work.notify_one();
                if nobody_waited {
                    self.shared.waiter.notify_one();
                }
            }
            known
        };
        if let Some((answer, found)) = known {
            answer(found);
        }
    }

    /// Forgets what is known of a user: answers from now on, those that are waited for among them, come from
    /// queries that begin after this.
    pub fn invalidate(&self, user: &str) {
        self.shared.lock().invalidate(user);
    }

    /// Forgets what is known of everybody, likewise.
    pub fn invalidate_all(&self) {
        self.shared.lock().invalidate_all();
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> AccountsStats {
        self.shared.lock().stats()
    }
}

impl gate::Accounts for Accounts {
    fn look_up(&self, user: &str, answer: Box<dyn FnOnce(Result<Arc<str>, Refusal>) + Send>) {
        Self::look_up(self, user, move |found| {
            answer(found.map(|account| Arc::from(&*account.details)).map_err(Refusal::from));
        });
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        let answers = self.shared.lock().handle_stop();
        for condition in [&self.shared.work, &self.shared.waiter, &self.shared.stop] {
            condition.notify_all();
        }
        give(answers);
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("stats", &self.stats()).finish()
    }
}
