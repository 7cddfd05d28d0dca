//! The server as a library, in this process.

use std::time::Instant;

use hailer::channel::{PayloadBuf, Router, SendError};
use hailer::endpoint::Config;
use hailer::notification::Notification;
use hailer::server::{Server, ServerConfig};
use serde_json::json;

use crate::support::{Client, PATIENCE, eventually};

fn start(shards: usize) -> Server {
    let pattern = "room:*".parse().expect("it is a pattern");
    let endpoint = Config::new(Router::new().channel(pattern, Notification::default()));
    let listen = "127.0.0.1:0".parse().expect("it is an address");
    let config = ServerConfig { listen, shards, ..ServerConfig::new(endpoint) };
    Server::start(&config).expect("the server starts")
}

#[test]
fn broadcasts_from_several_threads_reach_everybody_in_one_order() {
    const THREADS: usize = 4;
    const EACH: usize = 100;
    let server = start(3);
    let handle = server.handle().clone();
    // Clients are added until every shard has one.
    let mut clients = Vec::new();
    while handle.stats().topics < 3 {
        clients.push(Client::joined(handle.local_addr(), "room:news"));
        assert!(clients.len() < 200, "the kernel spreads connections over the shards");
    }
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let handle = handle.clone();
            std::thread::spawn(move || {
                for number in 0..EACH {
                    let payload = PayloadBuf::from(json!({"body": [thread, number]}));
                    handle.broadcast("room:news", "new_msg", payload).expect("the mailboxes have room");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("the thread has not panicked"));
    let mut heard =
        clients.iter_mut().map(|client| (0..THREADS * EACH).map(|_| client.body()).collect::<Vec<_>>());
    let first = heard.next().expect("there is a client");
    for thread in 0..THREADS {
        let numbers = first.iter().filter(|body| body[0] == thread).map(|body| body[1].clone());
        assert!(numbers.eq((0..EACH).map(|number| json!(number))), "the order of one thread is kept");
    }
    assert!(heard.all(|bodies| bodies == first), "all hear one order");

    let stats = handle.stats();
    let count = clients.len() as u64;
    assert_eq!((stats.connections, stats.web_sockets, stats.joins), (count, count, count));
    // Every shard has every broadcast.
    assert_eq!(stats.broadcasts, (3 * THREADS * EACH) as u64);
    drop(clients);
    eventually("the end of all connections", || (handle.stats().connections == 0).then_some(()));
    let last = server.shutdown().expect("no shard has failed");
    assert_eq!((last.connections, last.topics, last.web_sockets, last.joins), (0, 0, 0, count));
}

#[test]
fn a_handle_may_outlive_its_server() {
    let server = start(2);
    let handle = server.handle().clone();
    let mut client = Client::joined(handle.local_addr(), "room:1");
    let ended = std::thread::spawn(move || server.shutdown());
    assert_eq!(client.closed().map(|(code, _)| code), Some(1012));
    let last = ended.join().expect("the thread has not panicked").expect("no shard has failed");
    assert_eq!((last.connections, last.closed_shutdown), (0, 1));
    handle.drain();
    // A server that has ended has nothing to be waited for: with a second for each, these would take minutes.
    let began = Instant::now();
    (0..200).for_each(|_| assert_eq!(handle.stats().connections, 0));
    assert!(began.elapsed() < PATIENCE);
    let refused = handle.broadcast("room:1", "new_msg", PayloadBuf::empty()).unwrap_err();
    assert_eq!(refused.error, SendError::Stopped);
    assert_eq!(handle.disconnect("user_socket:1", true), Err(SendError::Stopped));
    assert_eq!(handle.publish_all(Vec::new()), Err(SendError::Stopped));
}
