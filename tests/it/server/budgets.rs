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
    let hailer = Hailer::start(&["--shards", "1", "--limit", "listen_backlog=4"]);
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
