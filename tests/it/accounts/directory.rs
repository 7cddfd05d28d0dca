//! The users of a real store as accounts, while others change it.

use std::fs;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use hailer::server::accounts::{
    Account, Accounts, AccountsConfig, Directory, LookupError, StoreDirectory, WhenAway,
};
use hailer::server::store::Store;
use serde_json::{Value, json};

use super::support::Folder;
use crate::support::{PATIENCE, eventually};

fn start(folder: &Folder, when_away: WhenAway) -> Arc<Accounts> {
    let path = folder.file("hailer.db");
    // With one thread, nobody opens the store for the first time while a test moves it.
    let config =
        AccountsConfig { threads: 1, cache_lifetime: Duration::ZERO, when_away, ..AccountsConfig::default() };
    let accounts = Accounts::start(config, move || Ok(Box::new(StoreDirectory::open(&path)?)));
    accounts.expect("threads are allowed")
}

fn look_up(accounts: &Accounts, user: &str) -> Result<Arc<Account>, LookupError> {
    let (sender, receiver) = channel();
    accounts.look_up(user, move |found| drop(sender.send(found)));
    receiver.recv_timeout(PATIENCE).expect("everybody is answered")
}

/// SQLite takes these for a part of whatever has the store's name.
fn remove_what_lies_beside(folder: &Folder) {
    for name in folder.names().iter().filter(|name| name.starts_with("hailer.db-")) {
        fs::remove_file(folder.file(name)).expect("it is there");
    }
}

#[test]
fn users_of_a_store_are_accounts() {
    let folder = Folder::new();
    let mut store = Store::open(folder.file("hailer.db")).unwrap();
    let accounts = start(&folder, WhenAway::Refuse);
    assert_eq!(look_up(&accounts, "ada"), Err(LookupError::Unknown));
    store.add_user("ada", Some("Ada \"L\""), 7).unwrap();
    store.add_user("bob", None, 7).unwrap();
    let details = |user: &str| -> Value {
        let account = look_up(&accounts, user).expect("there is such a user");
        serde_json::from_str(&account.details).expect("details are JSON")
    };
    assert_eq!(details("ada"), json!({"id": "ada", "name": "Ada \"L\""}));
    assert_eq!(details("bob"), json!({"id": "bob", "name": null}));
    store.disable_user("ada", 8).unwrap();
    assert_eq!(look_up(&accounts, "ada"), Err(LookupError::Disabled));
    store.enable_user("ada", 9).unwrap();
    store.remove_user("bob").unwrap();
    assert!(look_up(&accounts, "ada").is_ok());
    assert_eq!(look_up(&accounts, "bob"), Err(LookupError::Unknown));
}

#[test]
fn a_store_that_goes_away_and_comes_back() {
    for (when_away, cached) in [(WhenAway::Refuse, Err(LookupError::Unavailable)), (WhenAway::Cached, Ok(()))]
    {
        let folder = Folder::new();
        let (path, aside) = (folder.file("hailer.db"), folder.file("aside.db"));
        Store::open(&path).unwrap().add_user("ada", None, 7).unwrap();
        let accounts = start(&folder, when_away);
        assert!(look_up(&accounts, "ada").is_ok());
        fs::rename(&path, &aside).unwrap();
        assert_eq!(look_up(&accounts, "ada").map(drop), cached);
        eventually("that it is away", || accounts.stats().away.then_some(()));
        assert_eq!(look_up(&accounts, "ada").map(drop), cached);
        assert_eq!(look_up(&accounts, "bob"), Err(LookupError::Unavailable));
        assert!(!path.exists(), "nobody makes an empty store in its place");
        remove_what_lies_beside(&folder);
        fs::rename(&aside, &path).unwrap();
        eventually("the return", || (!accounts.stats().away).then_some(()));
        assert!(look_up(&accounts, "ada").is_ok());
        assert_eq!(look_up(&accounts, "bob"), Err(LookupError::Unknown));
        assert_eq!(accounts.stats().times_away, 1);
    }
}

#[test]
fn a_store_that_is_replaced_is_taken_as_it_is() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    Store::open(&path).unwrap().add_user("ada", None, 7).unwrap();
    Store::open(folder.file("copy.db")).unwrap().add_user("bob", None, 7).unwrap();
    let accounts = start(&folder, WhenAway::Refuse);
    assert!(look_up(&accounts, "ada").is_ok());
    remove_what_lies_beside(&folder);
    fs::rename(folder.file("copy.db"), &path).unwrap();
    assert_eq!(look_up(&accounts, "ada"), Err(LookupError::Unknown));
    assert!(look_up(&accounts, "bob").is_ok());
}

#[test]
fn an_unknown_path_is_not_made_a_store() {
    let folder = Folder::new();
    let error = StoreDirectory::open(folder.file("hailer.db")).expect_err("there is none");
    assert!(error.to_string().contains("there is no store"), "{error}");
    assert!(folder.names().is_empty());
    Store::open(folder.file("hailer.db")).unwrap();
    assert_eq!(StoreDirectory::open(folder.file("hailer.db")).unwrap().find("ada"), Ok(None));
}
