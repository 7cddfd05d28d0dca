//! The budgets of a turn, and the queue before it: with the least of them everybody is served all the same.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use hailer::testing::write_masked;
use serde_json::json;

use crate::support::peer::TEXT;
use crate::support::{Client, Hailer, PATIENCE, Peer};

#[test]
fn a_server_that_does_one_thing_in_a_turn_does_everything() {
    const PEERS: usize = 20;
    let limits = ["accepts_per_turn=1", "reads_per_turn=1", "mail_per_turn=1", "writes_per_turn=1"];
    let args: Vec<&str> =
        ["--shards", "2"].into_iter().chain(limits.iter().flat_map(|one| ["--limit", one])).collect();
    let mut hailer = Hailer::start(&args);
    // All of them connect before the first is heard.
    let mut peers: Vec<Peer> = (0..PEERS).map(|_| Peer::connect(hailer.address())).collect();
    for peer in &mut peers {
        peer.upgrade(crate::support::peer::PATH);
        peer.join_lobby();
    }
    // Several reads' worth, for which nothing is answered, and a message behind it.
    let mut bytes = Vec::new();
    while bytes.len() < 300_000 {
        write_masked(&mut bytes, TEXT, true, br#"["stale","1","room:lobby","new_msg",{"body":"unheard"}]"#);
    }
    write_masked(&mut bytes, TEXT, true, br#"["1","2","room:lobby","new_msg",{"body":"heard"}]"#);
    peers.iter_mut().take(3).for_each(|peer| peer.send(&bytes));
    for peer in &mut peers {
        for _ in 0..3 {
            assert_eq!(peer.message()[4], json!({"body": "heard"}));
        }
    }
    drop(peers);
    hailer.stop();
}

#[test]
fn the_kernel_holds_as_many_connections_as_the_backlog_allows() {
    const BACKLOG: usize = 4;
    // The clients say nothing, and would be held elsewhere for the time of `defer_accept`.
    let limits = ["--limit", "listen_backlog=4", "--limit", "defer_accept=0"];
    let hailer = Hailer::start(&[&["--shards", "1"], &limits[..]].concat());
    Client::connect(hailer.address()).heartbeat();
    hailer.suspend();
    let connect = |patience| TcpStream::connect_timeout(&hailer.address(), patience);
    // Linux lets the queue grow to one more than its length.
    let held: Vec<_> = (0..=BACKLOG).map(|_| connect(PATIENCE).expect("there is room")).collect();
    // It would succeed at once if there were room, so a short patience is enough.
    let refused = connect(Duration::from_millis(200)).expect_err("the queue is full");
    assert_eq!(refused.kind(), ErrorKind::TimedOut);
    hailer.signal("CONT");
    let mut served = Client::connect(hailer.address());
    served.heartbeat();
    drop(held);
}

/// How many connections a server has seen when one client is silent and another one has been served.
fn accepted_beside_a_silent_client(defer_accept: &str) -> String {
    let limit = format!("defer_accept={defer_accept}");
    let mut hailer = Hailer::start(&["--shards", "1", "--limit", &limit]);
    let silent = Peer::connect(hailer.address());
    Client::connect(hailer.address()).heartbeat();
    hailer.signal("TERM");
    assert_eq!(hailer.wait().code(), Some(0));
    drop(silent);
    let line = hailer.log_line("stopped");
    line.split_whitespace().find(|word| word.starts_with("accepted=")).expect("it is told").to_owned()
}

#[test]
fn a_client_that_has_said_nothing_is_not_accepted_within_defer_accept() {
    assert_eq!(accepted_beside_a_silent_client("0"), "accepted=2");
    if cfg!(target_os = "linux") {
        assert_eq!(accepted_beside_a_silent_client("1m"), "accepted=1");
    }
}

#[test]
fn a_client_that_goes_on_saying_nothing_is_accepted_and_closed_after_head_timeout() {
    let mut hailer = Hailer::start(&["--limit", "head_timeout=1s"]);
    Peer::connect(hailer.address()).expect_end();
    hailer.signal("TERM");
    assert_eq!(hailer.wait().code(), Some(0));
    let line = hailer.log_line("stopped");
    assert!(line.contains("accepted=1 ") && line.contains("head_timeouts=1"), "{line}");
}
