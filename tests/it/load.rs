//! Very many real connections, from a thread of this process to a server of its own process.
//!
//! `HAILER_CLIENTS` sets how many; without it there are 15,000, or as many as the limit of open files allows.
//! The figures of a release build are printed by
//! `cargo build --release && HAILER_BIN=target/release/hailer cargo test --test it load::every -- --nocapture`

use serde_json::json;

use crate::support::swarm::{Ending, Swarm};
use crate::support::{Client, Hailer, Memory, Slabs, counter, crowd, descriptor_limit, dropped_packets};

const CLIENTS: usize = 15_000;
/// Descriptors for the other tests that run in this process meanwhile.
const RESERVED_DESCRIPTORS: usize = 300;
const MESSAGES: usize = 100;
/// One of so many clients stops reading during the burst.
const SLOW_EACH: usize = 100;
/// Memory of the server for each idle joined WebSocket, the kernel's not counted.
const IDLE_BYTES_MAX: u64 = 320;
/// How often all clients come and go. The allocator needs some turns until it has found its places; what
/// grows after `SETTLED` of them is lost. A leak of 20 bytes for each client shows.
const CYCLES: usize = 7;
const SETTLED: usize = 4;

/// How many clients there are to be: `most`, unless the environment says otherwise or descriptors are short.
pub(crate) fn clients(most: usize) -> usize {
    if let Some(clients) = std::env::var("HAILER_CLIENTS").ok().filter(|clients| !clients.is_empty()) {
        return clients.parse().expect("HAILER_CLIENTS is a number");
    }
    let fitting = descriptor_limit().saturating_sub(RESERVED_DESCRIPTORS);
    if fitting < most {
        println!("{fitting} clients instead of {most}: raise the limit of open files (ulimit -n)");
    }
    fitting.min(most)
}

/// A publisher comes and sends a burst, and every client gets all of it in order, those that read late included.
fn burst(swarm: &mut Swarm, hailer: &Hailer) {
    let mut publisher = Client::joined(hailer.address(), "room:lobby");
    let body = |number: usize| json!({"number": number, "text": "maintenance in 5 minutes"});
    let frame = |number| json!([null, null, "room:lobby", "new_msg", {"body": body(number)}]);
    swarm.expect((0..MESSAGES).map(|number| frame(number).to_string().into_bytes()));
    let slow = swarm.stop_reading(SLOW_EACH);
    for number in 0..MESSAGES {
        publisher.push("room:lobby", "new_msg", &json!({ "body": body(number) }));
    }
    swarm.receive(swarm.len() - slow);
    swarm.resume_reading();
    swarm.receive(swarm.len());
    (0..MESSAGES).for_each(|number| assert_eq!(publisher.body()["number"], number));
}

/// Each of the ways in which a connection ends has its share.
fn ending(client: usize) -> Ending {
    [Ending::Handshake, Ending::Fin, Ending::Reset][client % 3]
}

/// What `after` has more than `before` for each client, in bytes.
fn each(before: u64, after: u64, clients: usize) -> u64 {
    after.saturating_sub(before) * 1024 / clients as u64
}

#[test]
fn every_subscriber_gets_every_message_and_nothing_is_left_behind() {
    let _crowd = crowd();
    let clients = clients(CLIENTS);
    let dropped = dropped_packets();
    let mut hailer = Hailer::start(&[]);
    let memory = |hailer: &Hailer| Memory::of(hailer.pid());
    // A few clients first, so that the program's own pages are there.
    let mut swarm = Swarm::new(hailer.address());
    let descriptors = hailer.descriptors();
    swarm.join(200.min(clients));
    burst(&mut swarm, &hailer);
    swarm.close(ending);
    hailer.wait_for_descriptors(descriptors);

    let (empty, slabs) = (memory(&hailer), Slabs::read());
    println!("no client:                {empty}");
    let mut settled = empty;
    for cycle in 1..=CYCLES {
        swarm.join(clients);
        let idle = memory(&hailer);
        println!("{clients} joined, time {cycle}:     {idle}");
        if cycle == 1 {
            report(&empty, &idle, &slabs, clients);
        }
        if cycle == SETTLED {
            settled = idle;
        }
        // With fewer, the pages that a process takes at a time are too coarse a measure.
        if clients >= 10_000 {
            let bytes = each(empty.rss, idle.rss, clients);
            assert!(bytes <= IDLE_BYTES_MAX, "an idle joined WebSocket takes {bytes} bytes");
        }
        burst(&mut swarm, &hailer);
        let after = memory(&hailer);
        println!("after {MESSAGES} messages each:  {after}");
        assert!(after.rss * 10 <= idle.rss * 11, "the burst has left {} KiB", after.rss - idle.rss);
        swarm.close(ending);
        hailer.wait_for_descriptors(descriptors);
        println!("all closed:               {}", memory(&hailer));
        let grows = cycle > SETTLED && idle.rss * 10 > settled.rss * 11;
        assert!(!grows, "coming and going costs memory: {settled}, then {idle}");
    }
    let stopped = hailer.stop();
    println!("{stopped}");
    // What the shards had in their slabs before they began to end connections.
    let stopping = hailer.log_line("stopping");
    assert!(stopping.contains("connections=0 web_sockets=0 topics=0"), "{stopping}");
    for unwanted in ["closed_slow_reader", "closed_stalled", "closed_bad", "broadcasts_refused"] {
        assert!(!stopped.contains(unwanted), "{stopped}");
    }
    // A reset is sent once, so where the kernel has lost it the server only sees that nothing comes any more.
    let (idle, dropped) = (counter(&stopped, "closed_idle"), dropped_packets() - dropped);
    assert!(idle <= dropped, "the kernel has dropped {dropped} packets: {stopped}");
}

#[test]
fn a_stop_closes_all_clients_so_that_they_come_back() {
    let _crowd = crowd();
    let clients = clients(CLIENTS);
    let mut hailer = Hailer::start(&[]);
    let mut swarm = Swarm::new(hailer.address());
    swarm.join(clients);
    hailer.signal("TERM");
    swarm.be_stopped();
    assert_eq!(hailer.wait().code(), Some(0));
    let stopped = hailer.log_line("stopped");
    let shutdown = format!("closed_shutdown={clients}");
    assert!(stopped.contains("connections=0") && stopped.contains(&shutdown), "{stopped}");
    assert!(!stopped.contains("closed_abruptly"), "{stopped}");
}

/// Prints what an idle joined client costs, the kernel's share beside the server's own.
fn report(empty: &Memory, idle: &Memory, slabs: &Slabs, clients: usize) {
    println!(
        "each idle joined client:  RSS {} B, private {} B, anonymous {} B",
        each(empty.rss, idle.rss, clients),
        each(empty.private, idle.private, clients),
        each(empty.anonymous, idle.anonymous, clients)
    );
    match Slabs::read().growth_since(slabs, clients) {
        Some((bytes, objects)) => println!("the kernel's objects:     {bytes} B at each end ({objects})"),
        None => println!("the kernel's objects:     unknown, /proc/slabinfo is for root"),
    }
}
