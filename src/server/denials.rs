//! What other processes write into the store while the server runs: denied tokens, disabled users.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::ServerHandle;
use super::accounts::Accounts;
use super::connect::unix_time;
use super::store::{Store, StoreError, StoreErrorKind};
use crate::auth::UnixTime;
use crate::auth::deny::{Denial, DenyError, DenyList};
use crate::auth::token::ALLOWED_DRIFT_MAX;

/// How often it is asked whether something has been written. The question costs a read of a shared page.
const INTERVAL: Duration = Duration::from_secs(1);

/// Denies tokens of a running server.
#[derive(Clone)]
pub struct Denials {
    list: Arc<RwLock<DenyList>>,
    path: Option<PathBuf>,
}

/// Why tokens could not be denied.
#[derive(Debug)]
#[non_exhaustive]
pub enum DenialError {
    /// As many are denied as may be (`denials_max`), or the denial names nobody.
    Refused(DenyError),
    /// The denial can't be written. It is in force nevertheless, until the server ends.
    NotStored(StoreError),
}

impl fmt::Display for DenialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::NotStored(error) => write!(f, "the denial will be forgotten when the server ends: {error}"),
        }
    }
}

impl std::error::Error for DenialError {}

impl Denials {
    /// At most `denials_max` denials, written into the store at `path` if there is one.
    #[must_use]
    pub fn new(denials_max: usize, path: Option<PathBuf>) -> Self {
        Self { list: Arc::new(RwLock::new(DenyList::new(denials_max))), path }
    }

    /// The list that a [`TokenGate`](crate::auth::gate::TokenGate) asks.
    #[must_use]
    pub fn list(&self) -> Arc<RwLock<DenyList>> {
        Arc::clone(&self.list)
    }

    /// Refuses tokens from here on, and closes their live sockets (code 4003). Blocks while the store is
    /// written.
    ///
    /// # Errors
    /// The denial is not in force, or is not stored.
    pub fn deny(&self, denial: &Denial, server: &ServerHandle) -> Result<(), DenialError> {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        list.insert(denial.clone()).map_err(DenialError::Refused)?;
        drop(list);
        server.deny(&[denial.clone()].into());
        let Some(path) = &self.path else { return Ok(()) };
        let stored = Store::open_existing(path).and_then(|mut store| store.deny(denial, unix_time()));
        stored.map(drop).map_err(DenialError::NotStored)
    }
}

/// A store whose denials are put into force.
pub struct StoreWatch {
    store: Store,
    denied: Arc<RwLock<DenyList>>,
    /// Where users are looked up, if it is in this store.
    accounts: Option<Arc<Accounts>>,
    /// What is in force already.
    known: HashSet<Denial>,
    /// When it was last asked whose accounts have been disabled.
    looked: UnixTime,
    /// Something was written that has not been read: reading has failed.
    behind: bool,
}

impl StoreWatch {
    /// Puts into force what the store holds.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn new(
        store: Store,
        denied: Arc<RwLock<DenyList>>,
        accounts: Option<Arc<Accounts>>,
    ) -> Result<Self, StoreError> {
        let mut watch =
            Self { store, denied, accounts, known: HashSet::new(), looked: unix_time(), behind: false };
        // What is written from here on is a change.
        watch.store.access_changed()?;
        watch.read()?;
        Ok(watch)
    }

    /// Reads the denials; those that were not in force.
    fn read(&mut self) -> Result<Vec<Denial>, StoreError> {
        let now = unix_time();
        // Tokens that they deny are accepted for a little longer than these last.
        let stored = self.store.denials(now.saturating_sub(ALLOWED_DRIFT_MAX))?;
        let stored: HashSet<Denial> = stored.into_iter().map(|stored| stored.denial).collect();
        let fresh: Vec<Denial> = stored.difference(&self.known).cloned().collect();
        let mut list = self.denied.write().unwrap_or_else(PoisonError::into_inner);
        if self.known.is_subset(&stored) {
            for denial in &fresh {
                if let Err(error) = list.insert(denial.clone()) {
                    error!(%error, "a denial is not in force (denials_max)");
                }
            }
        } else {
            // One was taken back: the list is made anew.
            let mut anew = DenyList::new(list.entries_max());
            for denial in &stored {
                if let Err(error) = anew.insert(denial.clone()) {
                    error!(%error, "a denial is not in force (denials_max)");
                }
            }
            *list = anew;
        }
        list.forget_expired(now);
        drop(list);
        self.known = stored;
        Ok(fresh)
    }

    /// Starts the thread that watches the store and tells the server. It ends with the server.
    ///
    /// A client may be let in by a decision that was made before a denial, and connect behind it. So the live
    /// sockets are told again until every decision of that time has come or timed out.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(mut self, server: ServerHandle, connect_timeout: Duration) -> io::Result<()> {
        let thread = std::thread::Builder::new().name("hailer-store".to_owned());
        thread.spawn(move || {
            let mut recent: Vec<(Instant, Denial)> = Vec::new();
            let mut failed = false;
            while !server.has_ended() {
                // Woken early or late, it looks once more or once less.
                std::thread::park_timeout(INTERVAL);
                match self.look() {
                    Ok(fresh) => {
                        failed = false;
                        let until = Instant::now() + connect_timeout + INTERVAL;
                        recent.extend(fresh.into_iter().map(|denial| (until, denial)));
                    }
                    Err(error) if !std::mem::replace(&mut failed, true) => {
                        warn!(%error, "the store can't be read: what is denied from here on is not known");
                    }
                    Err(_) => {}
                }
                recent.retain(|(until, _)| *until > Instant::now());
                if !recent.is_empty() {
                    server.deny(&recent.iter().map(|(_, denial)| denial.clone()).collect());
                }
            }
        })?;
        Ok(())
    }

    /// Looks whether something was written about who may connect; the denials that were not in force. Messages are
    /// written all the time, and are none of its business.
    fn look(&mut self) -> Result<Vec<Denial>, StoreError> {
        match self.store.access_changed() {
            Ok(changed) => self.behind |= changed,
            // Another file was put in its place: a backup, perhaps.
            Err(error) if error.kind() == StoreErrorKind::Moved => {
                self.store = Store::open_existing(self.store.path())?;
                self.behind = true;
            }
            Err(error) => return Err(error),
        }
        if !self.behind {
            return Ok(Vec::new());
        }
        let now = unix_time();
        // Everything is read before anything of it is taken for known, so that what fails is done once more.
        let disabled = match &self.accounts {
            // The second in which it was last asked is not over for those who write.
            Some(_) => self.store.users_disabled_since(self.looked)?,
            None => Vec::new(),
        };
        let mut fresh = self.read()?;
        (self.behind, self.looked) = (false, now);
        if let Some(accounts) = &self.accounts {
            accounts.invalidate_all();
        }
        // That they don't come back is for the accounts to say.
        fresh.extend(disabled.into_iter().map(|subject| Denial {
            subject: Some(subject),
            issued_before: None,
            token_id: None,
            until: now,
        }));
        if !fresh.is_empty() {
            info!(count = fresh.len(), "tokens are denied, or users disabled");
        }
        Ok(fresh)
    }
}
