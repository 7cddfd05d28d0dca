//! Whether a server with some settings would start here.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;

use super::{Means, Standalone, StartError};
use crate::config::{AccountSource, Settings};
use crate::server::store::{Found, Store, StoreError, try_open};
use crate::server::{probe_address, probe_ring};

/// What was found out about settings.
#[derive(Debug, Default)]
pub struct Trial {
    /// What a start would fail with.
    pub problems: Vec<StartError>,
    /// What a start would do, and what only a start can tell, in sentences.
    pub notes: Vec<String>,
}

/// Finds out whether a server with these settings would start: it is made as [`Standalone::new`] makes it, and the
/// addresses are bound for a moment. Nothing is left behind: a store that is missing is not made, an older one is not
/// brought up to date, no users are looked up, and nobody can connect.
///
/// An address that another program listens on is a note and no problem: that program may be the server with just these
/// settings.
#[must_use]
pub fn try_settings(settings: &Settings) -> Trial {
    let mut trial = Trial::default();
    let found = RefCell::new(None);
    let open_store = |path: &Path| -> Result<Store, StoreError> {
        if found.borrow().is_none() {
            *found.borrow_mut() = Some(try_open(path)?);
        }
        Store::open_in_memory()
    };
    let means = Means { open_store: &open_store, starts_accounts: false };
    if let Err(error) = Standalone::made_with(&means, settings) {
        trial.problems.push(error.into());
    }
    if let (Some(found), Some(path)) = (found.borrow().as_ref(), &settings.store.path) {
        let path = path.display();
        match found {
            Found::Missing => trial.notes.push(format!("there is no store at {path} yet: it will be made")),
            Found::Older => trial.notes.push(format!(
                "the store {path} is of an earlier version: it will be brought up to date, and that version can't open \
                 it any more"
            )),
            Found::Current => {}
        }
    }
    if settings.accounts.source == Some(AccountSource::Postgres) {
        trial
            .notes
            .push("whether the database of [accounts] answers is seen when a user connects".to_owned());
    }
    if let Err(error) = probe_ring(settings.io_uring) {
        trial.problems.push(StartError::Clients(error));
    }
    for (key, address) in [("listen", Some(settings.listen)), ("api.listen", settings.api.listen.address())] {
        if let Some(address) = address {
            trial.address(key, address);
        }
    }
    trial
}

impl Trial {
    fn address(&mut self, key: &str, address: SocketAddr) {
        match probe_address(address) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AddrInUse => self.notes.push(format!(
                "{key}: a program listens on {address} already, which a second one can't: is it this server?"
            )),
            Err(error) if key == "listen" => self.problems.push(StartError::Clients(error)),
            Err(error) => self.problems.push(StartError::Api(address, error)),
        }
    }
}
