//! Several servers on one machine, each with as many real clients as a process may have, in processes of their own.
//!
//! `HAILER_SERVERS` sets how many servers there are and `HAILER_CLIENTS` how many clients each has; without them it
//! is a small crowd. The figures of a release build are printed by
//! `cargo build --release && HAILER_BIN=target/release/hailer HAILER_SERVERS=5 HAILER_CLIENTS=19000 \
//! cargo test --test it load_processes -- --nocapture`

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::swarm::{Ending, Swarm};
use crate::support::{Client, Hailer, Memory, Slabs, crowd};

const SERVERS: usize = 3;
const CLIENTS: usize = 500;
/// Messages to each client, so that their order can be wrong.
const MESSAGES: usize = 5;
/// Clients of each server that come and go first, so that the program's own pages are there.
const FIRST: usize = 200;

/// What a process of clients is told: where its server is, how many it is to be, the last byte of their address.
const CROWD: &str = "HAILER_TEST_CROWD";

fn number(variable: &str, default: usize) -> usize {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    value.map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// The payload of a broadcast as every client of `room:lobby` is to get it.
fn body(number: usize) -> serde_json::Value {
    json!({"number": number, "text": "maintenance in 5 minutes"})
}

/// Clients in a process of their own, killed with it.
struct Crowd {
    process: Child,
    orders: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
}

impl Crowd {
    fn start(address: SocketAddr, clients: usize, source: usize) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["load_processes::a_swarm_of_another_process", "--exact", "--nocapture"])
            .env(CROWD, format!("{address} {clients} {source}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts once more");
        let orders = process.stdin.take().expect("stdin is a pipe");
        let says = BufReader::new(process.stdout.take().expect("stdout is a pipe")).lines();
        Self { process, orders, says }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("the clients' process reads");
    }

    /// Waits until the clients' process says this. It gives up by itself when nothing goes on, so this ends.
    fn wait_for(&mut self, said: &str) {
        let found = self.says.by_ref().map_while(Result::ok).any(|line| line.ends_with(said));
        assert!(found, "the clients' process has ended before it said {said:?}");
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test by itself: clients that join, read when they are told to, check what they get, and leave.
#[test]
fn a_swarm_of_another_process() {
    let Ok(told) = std::env::var(CROWD) else { return };
    let words: Vec<&str> = told.split(' ').collect();
    let &[address, clients, source] = &*words else { panic!("three words: {told}") };
    let address = address.parse().expect("an address");
    let mut swarm = Swarm::from_source(address, source.parse().expect("a byte"));
    let mut orders = std::io::stdin().lines().map_while(Result::ok);
    let mut next = |expected: &str| {
        let order = orders.next();
        // The process that gives the orders has failed, and has said why.
        assert_eq!(order.as_deref(), Some(expected), "the order is {expected}");
    };
    let clients = clients.parse().expect("a number");
    swarm.join(FIRST.min(clients));
    swarm.close(|_| Ending::Fin);
    println!("\nready");
    next("join");
    swarm.join(clients);
    println!("\njoined");
    next("receive");
    let frame = |number| json!([null, null, "room:lobby", "new_msg", {"body": body(number)}]);
    swarm.expect((0..MESSAGES).map(|number| frame(number).to_string().into_bytes()));
    swarm.receive(clients);
    println!("\nreceived");
    next("leave");
    swarm.close(|client| [Ending::Handshake, Ending::Fin][client % 2]);
    println!("\nleft");
}

/// What the kernel says of all its memory.
struct Machine {
    slabs: Slabs,
    slab_bytes: u64,
    free_bytes: u64,
}

impl Machine {
    fn read() -> Self {
        let text = fs::read_to_string("/proc/meminfo").expect("the kernel tells");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells");
            let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok());
            kib.expect("a number") * 1024
        };
        Self { slabs: Slabs::read(), slab_bytes: field("Slab:"), free_bytes: field("MemAvailable:") }
    }
}

/// Pages that the kernel's TCP has for bytes on their way, which `net.ipv4.tcp_mem` bounds.
fn pages_under_way() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").expect("the kernel tells");
    let line = text.lines().find(|line| line.starts_with("TCP:")).expect("there is a line for TCP");
    let (_, mem) = line.split_once(" mem ").expect("it tells the memory");
    mem.trim().parse().expect("a number")
}

/// Looks for a while whether the kernel comes to hold a page for each of the clients, and gives what it holds then.
fn pages_when_written(before: u64, clients: usize) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let pages = pages_under_way().saturating_sub(before);
        if pages >= clients as u64 || Instant::now() > deadline {
            return pages;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn sum(servers: &[Hailer], of: fn(&Memory) -> u64) -> u64 {
    servers.iter().map(|server| of(&Memory::of(server.pid()))).sum::<u64>() * 1024
}

/// Prints what an idle client costs its server and the kernel.
fn report(servers: &[Hailer], before: &(Machine, u64, u64), clients: usize) {
    let (machine, rss, pss) = before;
    let all = clients as u64;
    let grown = |now: u64, before: u64| now.saturating_sub(before) / all;
    println!(
        "each idle joined client:      RSS {} B, PSS {} B",
        grown(sum(servers, |memory| memory.rss), *rss),
        grown(sum(servers, |memory| memory.pss), *pss),
    );
    let now = Machine::read();
    match now.slabs.growth_since(&machine.slabs, clients) {
        Some((bytes, objects)) => println!("the kernel's objects:         {bytes} B at each end ({objects})"),
        None => println!("the kernel's objects:         unknown, /proc/slabinfo is for root"),
    }
    println!(
        "with what the slabs' pages leave unused: {} B at each end",
        grown(now.slab_bytes, machine.slab_bytes) / 2,
    );
    println!(
        "all that is gone of the machine's memory: {} B for a client, both ends and processes",
        grown(machine.free_bytes, now.free_bytes),
    );
}

#[test]
fn several_servers_with_all_the_clients_of_a_process_lose_nothing() {
    let _crowd = crowd();
    let (count, each) = (number("HAILER_SERVERS", SERVERS), number("HAILER_CLIENTS", CLIENTS));
    let clients = count * each;
    let start = || Hailer::start(&["--shards", "1", "--timeout", "1h"]);
    let mut servers: Vec<Hailer> = (0..count).map(|_| start()).collect();
    let mut publishers: Vec<Client> =
        servers.iter().map(|server| Client::joined(server.address(), "room:lobby")).collect();
    let descriptors: Vec<usize> = servers.iter().map(Hailer::descriptors).collect();
    let mut crowds: Vec<Crowd> = servers
        .iter()
        .enumerate()
        .map(|(at, server)| Crowd::start(server.address(), each, at * 8 % 200 + 1))
        .collect();
    crowds.iter_mut().for_each(|crowd| crowd.wait_for("ready"));
    let settle = |servers: &[Hailer]| {
        for (server, descriptors) in servers.iter().zip(&descriptors) {
            server.wait_for_descriptors(*descriptors);
        }
    };
    settle(&servers);

    let before = (Machine::read(), sum(&servers, |memory| memory.rss), sum(&servers, |memory| memory.pss));
    let begun = Instant::now();
    // One swarm after the other, so that the rate is the servers' and not that of many programs on few cores.
    for crowd in &mut crowds {
        crowd.order("join");
        crowd.wait_for("joined");
    }
    println!("{count} servers, {clients} clients joined after {:.1?}", begun.elapsed());
    report(&servers, &before, clients);

    let (pages, slabs) = (pages_under_way(), Machine::read().slab_bytes);
    for number in 0..MESSAGES {
        for publisher in &mut publishers {
            publisher.push("room:lobby", "new_msg", &json!({ "body": body(number) }));
        }
    }
    for publisher in &mut publishers {
        (0..MESSAGES).for_each(|number| assert_eq!(publisher.body()["number"], number));
    }
    let pages = pages_when_written(pages, clients);
    let bytes = Machine::read().slab_bytes.saturating_sub(slabs) / clients as u64;
    println!(
        "{MESSAGES} messages for each that nobody has read: {pages} pages of the kernel's TCP, {bytes} B for each"
    );
    crowds.iter_mut().for_each(|crowd| crowd.order("receive"));
    crowds.iter_mut().for_each(|crowd| crowd.wait_for("received"));
    println!("every message received in order by {clients} clients");

    crowds.iter_mut().for_each(|crowd| crowd.order("leave"));
    crowds.iter_mut().for_each(|crowd| crowd.wait_for("left"));
    settle(&servers);
    drop(publishers);
    for server in &mut servers {
        let stopped = server.stop();
        for unwanted in
            ["closed_slow_reader", "closed_stalled", "closed_bad", "closed_idle", "broadcasts_refused"]
        {
            assert!(!stopped.contains(unwanted), "{stopped}");
        }
    }
}
