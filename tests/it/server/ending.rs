//! The end of the process: whatever hangs, it comes, and in time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use hailer::api::Key;
use hailer::auth::connect::Secret;
use rusqlite::Connection;
use serde_json::json;

use crate::support::{Folder, Hailer, Peer, eventually};

const API_KEY: &str = "hlr_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
const SECRET: &str = "kW5rUe2Yt8QzLp0XcVbNmAs7DfGh3JiOo1PwTqRyEuZx9CvMnBlKj4HgFdSa6I-and-a-few-more";

/// A folder with a configuration of a server with an API and a store.
fn folder() -> Folder {
    let folder = Folder::new("ending");
    let hash = Key::show_hash(&Key::hash_of(&Secret::new(API_KEY)));
    let config = format!(
        "[auth]\nsecret_file = \"secret\"\n[store]\npath = \"kept.db\"\n\
         [[api.keys]]\nname = \"ending\"\nhash = \"{hash}\"\nscopes = [\"publish\", \"read\"]\n"
    );
    folder.write("hailer.toml", &config, 0o600);
    folder.write("secret", SECRET, 0o600);
    folder
}

fn start(folder: &Folder, further: &[&str]) -> Hailer {
    let args = ["serve", "--config", "hailer.toml", "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"];
    Hailer::run(folder.hailer(&[&args, further].concat()))
}

fn api_of(hailer: &Hailer) -> SocketAddr {
    hailer.said("API on http://").parse().expect("it is an address")
}

fn publish(api: SocketAddr) {
    publish_body(api, "");
}

/// Publishes at level "memory", which is answered before it is written.
fn publish_body(api: SocketAddr, text: &str) {
    let payload = json!({ "body": text });
    let body =
        json!({ "topic": "room:lobby", "event": "new_msg", "payload": payload, "durability": "memory" });
    let body = body.to_string();
    let mut peer = Peer::connect(api);
    let request = format!(
        "POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {API_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    peer.send(request.as_bytes());
    let response = peer.response();
    assert_eq!(response.status, 200, "{}", response.body);
}

/// Keeps everyone else from writing to the store until it is dropped.
fn lock(folder: &Folder) -> Connection {
    let store = Connection::open(folder.file("kept.db")).expect("it opens");
    store.busy_timeout(Duration::from_secs(30)).expect("it can be set");
    store.execute_batch("BEGIN IMMEDIATE").expect("it is the only one");
    store
}

#[test]
fn a_store_that_hangs_does_not_keep_the_process_beyond_drain_timeout() {
    let folder = folder();
    let mut hailer = start(&folder, &["--limit", "drain_timeout=1s"]);
    let (api, _locked) = (api_of(&hailer), lock(&folder));
    publish(api);
    let signalled = Instant::now();
    hailer.signal("TERM");
    assert_eq!(hailer.wait().code(), Some(1));
    assert!(signalled.elapsed() >= Duration::from_secs(1), "{:?}", signalled.elapsed());
    let line = hailer.log_line("has not ended");
    assert!(line.contains("thread hailer-") && line.contains("2s after drain_timeout"), "{line}");
}

#[test]
fn a_second_signal_ends_a_process_at_once_whose_store_hangs() {
    let folder = folder();
    let mut hailer = start(&folder, &["--limit", "drain_timeout=10m"]);
    let (api, _locked) = (api_of(&hailer), lock(&folder));
    publish(api);
    hailer.signal("TERM");
    hailer.log_line("a second signal is quicker");
    hailer.signal("TERM");
    assert_eq!(hailer.wait().code(), Some(1));
    hailer.log_line("1s after the second signal");
}

#[test]
fn a_second_signal_is_for_the_api_as_well() {
    let folder = folder();
    let mut hailer = start(&folder, &["--limit", "drain_timeout=10m"]);
    let api = api_of(&hailer);
    let text = "x".repeat(50_000);
    for _ in 0..60 {
        publish_body(api, &text);
    }
    // Most of the answer waits for a client that reads no further.
    let mut slow = TcpStream::connect(api).expect("it listens");
    let head = format!(
        "GET /api/v1/history?limit=60 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {API_KEY}\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).expect("it is taken");
    slow.read_exact(&mut [0]).expect("there is an answer");
    hailer.signal("TERM");
    hailer.log_line("a second signal is quicker");
    hailer.signal("TERM");
    assert_eq!(hailer.wait().code(), Some(0), "{:#?}", hailer.log());
}

#[test]
fn a_configuration_that_can_t_be_read_to_its_end_holds_up_neither_the_next_nor_the_end() {
    let folder = folder();
    let config = folder.read("hailer.toml");
    let mut hailer = start(&folder, &[]);
    std::fs::remove_file(folder.file("hailer.toml")).expect("it is there");
    let made = Command::new("mkfifo").arg(folder.file("hailer.toml")).status().expect("mkfifo runs");
    assert!(made.success());
    eventually("a second reading that waits", || {
        hailer.signal("HUP");
        hailer.log().iter().any(|line| line.contains("is still being read")).then_some(())
    });
    // The first one reads what comes at last; the second one waits again.
    std::fs::write(folder.file("hailer.toml"), config).expect("there is a reader");
    hailer.log_line("the keys are replaced");
    hailer.signal("TERM");
    assert_eq!(hailer.wait().code(), Some(0), "{:#?}", hailer.log());
}

#[test]
fn a_signal_that_means_nothing_does_not_end_the_process() {
    let folder = folder();
    let mut hailer = start(&folder, &[]);
    let api = api_of(&hailer);
    for signal in ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "PIPE", "XFSZ"] {
        hailer.signal(signal);
        publish(api);
    }
    if cfg!(target_os = "linux") {
        // SIGSTKFLT, SIGIO, SIGPWR, SIGRTMIN and SIGRTMAX, which not every `kill` knows by name.
        for signal in ["16", "29", "30", "34", "64"] {
            hailer.signal(signal);
            publish(api);
        }
    }
    let line = hailer.log_line("SIGUSR1");
    assert!(line.contains("ignored"), "{line}");
    hailer.log_line("SIGUSR2");
    hailer.stop();
}
