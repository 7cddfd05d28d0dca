//! Tokens that a program denies which has the server within it.

use std::path::Path;

use hailer::auth::deny::Denial;
use hailer::config::{Inputs, Settings, load};
use hailer::phoenix::Serializer;
use hailer::server::Server;
use hailer::server::denials::{DenialError, Denials};
use hailer::standalone::Standalone;
use serde_json::json;

use super::users::{token, unix_time};
use crate::support::Folder;
use crate::support::{Client, eventually};

const SECRET: &str = "pF7xTn2Qv9bKd4Hs6YwLzR1mJc8Ug3EaXo5iNtMqBkWyVfPjSrGhDeZuCl0OA-and-a-few-more";

fn settings(folder: &Folder, more: &str) -> Settings {
    let text = format!(
        "listen = \"127.0.0.1:0\"\nshards = 2\n[api]\nlisten = \"off\"\n[auth]\nsecret = \"{SECRET}\"\n[limits]\n denials_max = 2\n{more}"
    );
    let path = folder.0.join("hailer.toml");
    let read = |path: &Path| std::fs::read(path);
    let inputs = Inputs { file: Some((&path, &text)), ..Inputs::new(&read) };
    load(&inputs).expect("the configuration is good").settings
}

fn start(settings: &Settings) -> (Server, Denials) {
    let standalone = Standalone::new(settings).expect("the settings are good");
    let denials = standalone.denials();
    (standalone.start().expect("the server starts").server, denials)
}

fn connect(server: &Server, user: &str, issued: u64) -> Result<Client, u16> {
    let params = format!("token={}", token(SECRET, user, user, issued, 600));
    Client::try_connect(server.handle().local_addr(), Serializer::V2, &params)
}

#[test]
fn a_denial_holds_at_once_and_no_more_than_denials_max_are_kept() {
    let folder = Folder::new("denials");
    let (server, denials) = start(&settings(&folder, ""));
    let (now, issued) = (unix_time(), unix_time() - 5);
    let mut ada = connect(&server, "ada", issued).expect("ada may connect");
    assert_eq!(ada.join("user:ada"), json!({"status": "ok", "response": {}}));
    denials.deny(&Denial::of_user("ada", now, now + 600), server.handle()).expect("there is room");
    assert_eq!(ada.closed().map(|(code, _)| code), Some(4003));
    assert_eq!(connect(&server, "ada", issued).err(), Some(403));
    denials.deny(&Denial::of_user("bob", now, now + 600), server.handle()).expect("there is room");
    let third = denials.deny(&Denial::of_user("eve", now, now + 600), server.handle());
    assert!(matches!(third, Err(DenialError::Refused(_))), "{third:?}");
    assert!(connect(&server, "eve", issued).is_ok());
    server.shutdown().expect("no shard has failed");
}

#[test]
fn a_denial_with_a_store_outlives_the_server() {
    let folder = Folder::new("denials");
    let settings = settings(&folder, "[store]\npath = \"hailer.db\"\n");
    let (server, denials) = start(&settings);
    let (now, issued) = (unix_time(), unix_time() - 5);
    denials.deny(&Denial::of_user("ada", now, now + 600), server.handle()).expect("it is stored");
    server.shutdown().expect("no shard has failed");
    let (server, _) = start(&settings);
    assert_eq!(connect(&server, "ada", issued).err(), Some(403));
    // What another handle has written is noticed.
    let (other, others) = start(&settings);
    let mut bob = connect(&server, "bob", issued).expect("bob may connect");
    others.deny(&Denial::of_user("bob", now, now + 600), other.handle()).expect("it is stored");
    assert_eq!(bob.closed().map(|(code, _)| code), Some(4003));
    eventually("bob is refused", || (connect(&server, "bob", issued).err() == Some(403)).then_some(()));
    for server in [server, other] {
        server.shutdown().expect("no shard has failed");
    }
}

#[test]
fn a_denial_that_cannot_be_stored_says_so_and_is_in_force() {
    let folder = Folder::new("denials");
    let (server, denials) = start(&settings(&folder, "[store]\npath = \"hailer.db\"\n"));
    for name in ["hailer.db", "hailer.db-wal", "hailer.db-shm"] {
        // Not every one of them is there.
        let _ = std::fs::remove_file(folder.0.join(name));
    }
    let (now, issued) = (unix_time(), unix_time() - 5);
    let stored = denials.deny(&Denial::of_user("ada", now, now + 600), server.handle());
    assert!(matches!(stored, Err(DenialError::NotStored(_))), "{stored:?}");
    assert_eq!(connect(&server, "ada", issued).err(), Some(403));
    server.shutdown().expect("no shard has failed");
}
