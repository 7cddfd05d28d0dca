//! The threads that query, and the one that keeps the deadlines.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::lookups::{Answers, Lookups, Query, Work};
use super::{Account, DETAILS_BYTES_MAX, Directory, DirectoryError};
use crate::guard::{self, Guarded, Place};

/// The first pause before a directory that is away is tried again; each is twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

type Open = dyn Fn() -> Result<Box<dyn Directory>, DirectoryError> + Send + Sync;

/// What the threads share.
pub(super) struct Shared {
    pub(super) lookups: Mutex<Lookups>,
    /// There is a query, or all is over.
    pub(super) work: Condvar,
    /// Somebody waits where nobody did, or all is over.
    pub(super) waiter: Condvar,
    /// All is over.
    pub(super) stop: Condvar,
    /// May be dropped by one of the threads.
    pub(super) open: Guarded<Box<Open>>,
}

/// What has become of a query.
enum Asked {
    Found(Option<Account>),
    /// The directory is there, but could not say.
    Failed(DirectoryError),
    /// The directory can't be opened.
    Away(DirectoryError),
}

type Slot = Option<Guarded<Box<dyn Directory>>>;

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Lookups> {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread that queries.
    pub(super) fn work(&self, first: bool) {
        let mut directory: Slot = None;
        if first {
            match self.open() {
                Ok(open) => directory = Some(open),
                Err(error) => self.go_away(&error, &mut directory),
            }
        }
        while let Some(query) = self.next_query() {
            let (found, away) = match self.ask(&mut directory, &query.user) {
                Asked::Found(account) => (Some(account), None),
                Asked::Failed(error) => {
                    self.tell_failure(&error);
                    (None, None)
                }
                Asked::Away(error) => (None, Some(error)),
            };
            let answers = self.lock().handle_found(&query, found, Instant::now());
            give(answers);
            if let Some(error) = away {
                self.go_away(&error, &mut directory);
            }
        }
    }

    /// Waits for a query; `None` when all is over.
    fn next_query(&self) -> Option<Query> {
        let mut lookups = self.lock();
        loop {
            match lookups.poll_work(Instant::now()) {
                Work::Query(query) => return Some(query),
                Work::Stop => return None,
                Work::Wait => lookups = self.work.wait(lookups).unwrap_or_else(PoisonError::into_inner),
                Work::Answer(answers) => {
                    drop(lookups);
                    give(answers);
                    lookups = self.lock();
                }
            }
        }
    }

    fn open(&self) -> Result<Guarded<Box<dyn Directory>>, DirectoryError> {
        let opened = guard::call(|| (self.open)()).unwrap_or_else(|panicked| {
            Err(DirectoryError::broken(format!("opening the directory has {panicked}")))
        });
        opened.map(Guarded::new)
    }

    /// Asks the directory, which is opened if it is not. A connection that was made earlier may have been ended
    /// meanwhile, so it gets another try with a new one.
    fn ask(&self, directory: &mut Slot, user: &str) -> Asked {
        loop {
            let (open, earlier) = match directory {
                Some(open) => (open, true),
                None => match self.open() {
                    Ok(open) => (directory.insert(open), false),
                    Err(error) => return Asked::Away(error),
                },
            };
            let found = guard::call(|| open.find(user)).unwrap_or_else(|panicked| {
                Err(DirectoryError::broken(format!("the directory has {panicked}")))
            });
            match found {
                Ok(Some(account)) if account.details.len() > DETAILS_BYTES_MAX => {
                    let reason = format!("the columns of an account exceed {DETAILS_BYTES_MAX} bytes");
                    return Asked::Failed(DirectoryError::failed(reason));
                }
                Ok(account) => return Asked::Found(account),
                Err(error) => {
                    if error.broken {
                        *directory = None;
                    }
                    if !(error.broken && earlier) {
                        return Asked::Failed(error);
                    }
                }
            }
        }
    }

    /// Says that the directory is away, and tries to reach it until it is back. One thread does so.
    fn go_away(&self, error: &DirectoryError, directory: &mut Slot) {
        let Some(answers) = self.lock().handle_away() else { return };
        warn!(%error, "accounts away");
        give(answers);
        let mut pause = PAUSE_MIN;
        loop {
            let lookups = self.lock();
            let waited = self.stop.wait_timeout_while(lookups, pause, |lookups| !lookups.is_stopped());
            if waited.unwrap_or_else(PoisonError::into_inner).0.is_stopped() {
                return;
            }
            if let Ok(open) = self.open() {
                self.lock().handle_back();
                info!("accounts back");
                *directory = Some(open);
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn tell_failure(&self, error: &DirectoryError) {
        let failures = self.lock().handle_failure(Instant::now());
        if let Some(failures) = failures {
            warn!(%error, failures, "account not looked up");
        }
    }

    /// The thread that answers those who have waited too long, when all others hang.
    pub(super) fn keep_deadlines(&self) {
        let mut lookups = self.lock();
        while !lookups.is_stopped() {
            let now = Instant::now();
            let answers = lookups.handle_deadlines(now);
            if !answers.is_empty() {
                drop(lookups);
                give(answers);
                lookups = self.lock();
                continue;
            }
            lookups = match lookups.poll_deadline() {
                None => self.waiter.wait(lookups).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(now);
                    self.waiter.wait_timeout(lookups, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// Gives answers. One whose receiver panics keeps nobody else from theirs.
pub(super) fn give(answers: Answers) {
    for (answer, found) in answers {
        if let Err(panicked) = guard::call(|| answer(found)) {
            Place::AccountAnswer.note(&panicked);
        }
    }
}
