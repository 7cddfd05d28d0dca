//! Peers that ask for too much: the server stays bounded, and everybody else is served.

use std::process::{Command, Stdio};

use hailer::testing::write_masked;

use crate::support::peer::{CLOSE, PATH, PING, PONG, TEXT, read_close};
use crate::support::{
    API_OFF, Client, Hailer, Memory, Peer, descriptor_limits, hailer, hard_descriptor_limit,
};

const GET: &str = "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What a server may grow by under the attacks of this file, in KiB. Its limits sum up to less than a tenth.
const GROWTH_KIB_MAX: u64 = 16 * 1024;

fn frames(opcode: u8, payload: &[u8], count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    (0..count).for_each(|_| write_masked(&mut bytes, opcode, true, payload));
    bytes
}

#[test]
fn without_descriptors_the_server_serves_whom_it_has_and_accepts_again_later() {
    const DESCRIPTORS: usize = 64;
    let limits = ["--shards", "1", "--limit", "accept_pause=10ms", "--limit", "head_timeout=1s"];
    let mut hailer = Hailer::start_with_descriptors(DESCRIPTORS, &limits);
    let fitting = DESCRIPTORS - hailer.descriptors();
    let mut slow = Peer::connect(hailer.address());
    slow.send(b"GET / HT");
    let mut served = Client::joined(hailer.address(), "room:lobby");
    let idle: Vec<Peer> = (2..fitting).map(|_| Peer::open(hailer.address())).collect();
    hailer.wait_for_descriptors(DESCRIPTORS);
    // The kernel accepts these in the server's place, and the server never learns of them until it has room.
    let mut waiting: Vec<Peer> = (0..5).map(|_| Peer::connect(hailer.address())).collect();
    for peer in &mut waiting {
        peer.send(hailer::testing::upgrade_request(PATH).as_bytes());
    }
    hailer.log_line("can't accept");
    let before = hailer.cpu_ticks();
    served.push("room:lobby", "new_msg", &serde_json::json!({"body": "meanwhile"}));
    assert_eq!(served.body(), "meanwhile");
    // A second has passed when this is answered, and with it many pauses.
    assert_eq!(slow.response().status, 408);
    let ticks = hailer.cpu_ticks() - before;
    assert!(ticks < 50, "{ticks} hundredths of a second of computing while nobody can be accepted");
    served.heartbeat();
    let complaints = hailer.log().iter().filter(|line| line.contains("can't accept")).count();
    assert_eq!(complaints, 1, "{:#?}", hailer.log());

    drop(idle);
    for peer in &mut waiting {
        assert_eq!(peer.response().status, 101);
        peer.join_lobby();
    }
    hailer.log_line("accepting again");
    drop((waiting, served, slow));
    let line = hailer.stop();
    let pauses = line.split_once("accept_paused=").expect("pauses were counted").1;
    let pauses: u64 = pauses.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(pauses > 1, "{line}");
}

#[test]
fn a_soft_limit_of_descriptors_is_no_limit_of_clients() {
    const SOFT: usize = 256;
    let mut command = Command::new("sh");
    let program = hailer(&[]).get_program().to_owned();
    let script = format!("ulimit -S -n {SOFT}; exec \"$0\" serve --listen 127.0.0.1:0 --shards 1");
    command.args(["-c", &script]).arg(program).stdin(Stdio::null()).envs(API_OFF);
    let mut hailer = Hailer::run(command);
    let hard = hard_descriptor_limit();
    assert_eq!(descriptor_limits(hailer.pid()), (hard, hard));
    let said = format!("the limit of open files was {SOFT} and is raised to {hard}");
    assert_eq!(hailer.log().iter().filter(|line| line.contains(&said)).count(), 1, "{:#?}", hailer.log());
    let mut peers: Vec<Peer> = (0..SOFT + 50).map(|_| Peer::open(hailer.address())).collect();
    peers.iter_mut().for_each(Peer::join_lobby);
    drop(peers);
    assert!(!hailer.stop().contains("accept_paused"));
    // Where nothing is to be raised nothing is said.
    let mut hailer = Hailer::start_with_descriptors(SOFT, &[]);
    hailer.stop();
    assert!(!hailer.log().iter().any(|line| line.contains("open files")), "{:#?}", hailer.log());
}

#[test]
fn peers_that_dawdle_cost_no_computing() {
    let limits = [
        ["--limit", "send_buffer_bytes=4096"],
        ["--limit", "head_timeout=2s"],
        ["--limit", "close_timeout=10m"],
        ["--limit", "stall_timeout=10m"],
        ["--shards", "1"],
    ];
    let hailer = Hailer::start(&limits.concat());
    let narrow = || Peer::connect_narrow(hailer.address());
    // Takes none of its pongs.
    let mut pinging = narrow();
    pinging.upgrade(PATH);
    pinging.send(&frames(PING, &[b'x'; 120], 5000));
    // Takes none of the answers to its requests.
    let mut pipelining = narrow();
    pipelining.send(GET.repeat(800).as_bytes());
    // Takes none of the messages of its topic.
    let mut reading = narrow();
    reading.upgrade(PATH);
    reading.join_lobby();
    let mut publisher = Client::joined(hailer.address(), "room:lobby");
    for _ in 0..20 {
        publisher.push("room:lobby", "new_msg", &serde_json::json!({"body": "x".repeat(30_000)}));
        publisher.body();
    }
    // Has said and heard goodbye, and stays; another has said it and then ends its side.
    let mut staying = Peer::join(hailer.address());
    staying.send_frame(CLOSE, &1000u16.to_be_bytes());
    assert_eq!(staying.close_frame().0, 1000);
    let mut leaving = Peer::join(hailer.address());
    leaving.send_frame(CLOSE, &1000u16.to_be_bytes());
    leaving.half_close();
    // Ends its side in the middle of a frame.
    let mut cut = Peer::join(hailer.address());
    cut.send(&[0x81, 0x80 | 10, 1, 2]);
    cut.half_close();

    publisher.heartbeat();
    let before = hailer.cpu_ticks();
    let mut clock = Peer::connect(hailer.address());
    clock.send(b"GET / HT");
    // Two seconds later:
    assert_eq!(clock.response().status, 408);
    let ticks = hailer.cpu_ticks() - before;
    assert!(ticks < 50, "{ticks} hundredths of a second of computing in two seconds of nothing");
    publisher.heartbeat();
}

#[test]
fn pings_of_a_peer_that_does_not_read_take_no_memory() {
    const PINGS: usize = 100_000;
    let hailer = Hailer::start(&["--limit", "send_buffer_bytes=4096"]);
    let mut other = Client::joined(hailer.address(), "room:lobby");
    let mut peer = Peer::connect_narrow(hailer.address());
    peer.upgrade(PATH);
    let before = Memory::of(hailer.pid());
    for chunk in 0..PINGS / 1000 {
        peer.send(&frames(PING, &[b'x'; 120], 1000));
        if chunk % 10 == 0 {
            other.heartbeat();
        }
    }
    peer.send_frame(PING, b"the last");
    peer.send_text(r#"[null,"1","phoenix","heartbeat",{}]"#);
    let grown = Memory::of(hailer.pid()).anonymous.saturating_sub(before.anonymous);
    assert!(grown < GROWTH_KIB_MAX, "the server has grown by {grown} KiB");
    let mut pongs = Vec::new();
    loop {
        let frame = peer.next_frame().expect("the connection goes on");
        match frame.opcode {
            PONG => pongs.push(frame.payload),
            _ => break,
        }
    }
    assert!(pongs.len() < PINGS, "every ping has its own pong");
    assert_eq!(pongs.last().map(Vec::as_slice), Some(&b"the last"[..]), "the newest ping is answered");
}

#[test]
fn a_peer_that_does_not_read_its_replies_is_not_read_from_and_then_closed() {
    let limits = ["--limit", "send_buffer_bytes=4096", "--limit", "close_timeout=10m"];
    let others = ["--limit", "stall_timeout=1s", "--log-level", "debug"];
    let mut hailer = Hailer::start(&[limits, others].concat());
    let mut other = Client::joined(hailer.address(), "room:lobby");
    let before = Memory::of(hailer.pid());
    let mut peer = Peer::connect_narrow(hailer.address());
    peer.upgrade(PATH);
    let heartbeats = frames(TEXT, br#"[null,"1","phoenix","heartbeat",{}]"#, 1000);
    const MOST: usize = 64 * 1024 * 1024;
    let taken = peer.send_until_stuck(&heartbeats, MOST);
    assert!(taken < MOST, "the server reads on from a peer that does not read");
    other.heartbeat();
    let grown = Memory::of(hailer.pid()).anonymous.saturating_sub(before.anonymous);
    assert!(grown < GROWTH_KIB_MAX, "the server has grown by {grown} KiB");
    hailer.log_line("fault=Stalled");
    // It reads at last: whole replies, then why there are no more.
    let mut replies = 0;
    let frame = loop {
        let frame = peer.next_frame().expect("a close frame comes before the end");
        if frame.opcode == CLOSE {
            break frame;
        }
        assert_eq!(frame.payload, br#"[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
        replies += 1;
    };
    let (code, reason) = read_close(&frame);
    assert!(code == 4008 && reason.contains("stall_timeout"), "{code} {reason}");
    assert!(replies > 0);
    drop((peer, other));
    let line = hailer.stop();
    assert!(line.contains("closed_stalled=1"), "{line}");
}

#[test]
fn ten_thousand_heartbeats_in_one_piece_are_all_answered() {
    let hailer = Hailer::start(&["--limit", "send_buffer_bytes=4096"]);
    let mut peer = Peer::connect_narrow(hailer.address());
    peer.upgrade(PATH);
    let heartbeat = br#"[null,"1","phoenix","heartbeat",{}]"#;
    const HEARTBEATS: usize = 10_000;
    let mut writer = peer.second();
    let sent = std::thread::spawn(move || writer.send(&frames(TEXT, heartbeat, HEARTBEATS)));
    for _ in 0..HEARTBEATS {
        let frame = peer.next_frame().expect("a client that reads stays");
        assert_eq!(frame.payload, br#"[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
    }
    sent.join().expect("the server takes all of it");
}

#[test]
fn ten_thousand_pipelined_requests_of_a_peer_that_does_not_read_are_bounded() {
    const REQUESTS: usize = 10_000;
    let hailer = Hailer::start(&["--limit", "send_buffer_bytes=4096"]);
    let descriptors = hailer.descriptors();
    let mut other = Client::joined(hailer.address(), "room:lobby");
    let before = Memory::of(hailer.pid());
    let mut peer = Peer::connect_narrow(hailer.address());
    let mut sent = 0;
    // The server may end the connection before it has taken everything.
    while sent < REQUESTS && peer.try_send(GET.repeat(100).as_bytes()) {
        sent += 100;
    }
    other.heartbeat();
    let grown = Memory::of(hailer.pid()).anonymous.saturating_sub(before.anonymous);
    assert!(grown < GROWTH_KIB_MAX, "the server has grown by {grown} KiB");
    drop((peer, other));
    hailer.wait_for_descriptors(descriptors);
}

#[test]
fn a_storm_of_connections_that_end_at_once_leaves_nothing_behind() {
    let mut hailer = Hailer::start(&["--shards", "2"]);
    let before = hailer.descriptors();
    let mut other = Client::joined(hailer.address(), "room:lobby");
    for number in 0..3000 {
        let mut peer = Peer::connect(hailer.address());
        match number % 3 {
            0 => drop(peer),
            1 => peer.reset(),
            _ => {
                let _ = peer.try_send(hailer::testing::upgrade_request(PATH).as_bytes());
                peer.reset();
            }
        }
        if number % 100 == 0 {
            other.heartbeat();
        }
    }
    other.heartbeat();
    drop(other);
    hailer.wait_for_descriptors(before);
    hailer.stop();
    assert!(hailer.log_line("stopping").contains("connections=0"));
}

#[test]
fn the_beginning_of_a_head_holds_no_more_than_its_bytes() {
    const PEERS: usize = 300;
    const REQUESTS: usize = 300;
    let hailer = Hailer::start(&["--limit", "head_timeout=10m", "--limit", "keep_alive_timeout=10m"]);
    let (beginning, end) = GET.split_at(10);
    // The rest of a head, whole ones, and the beginning of one that stays.
    let bytes = [end, &GET.repeat(REQUESTS), beginning].concat();
    let peers = |count: usize| -> Vec<Peer> {
        let peer = |_| {
            let mut peer = Peer::connect(hailer.address());
            // An answer shows that what came before it is read.
            peer.send([GET, beginning].concat().as_bytes());
            assert_eq!(peer.response().status, 404);
            peer.send(bytes.as_bytes());
            (0..=REQUESTS).for_each(|_| assert_eq!(peer.response().status, 404));
            peer
        };
        (0..count).map(peer).collect()
    };
    let first = peers(10);
    let before = Memory::of(hailer.pid());
    let rest = peers(PEERS);
    let grown = Memory::of(hailer.pid()).anonymous.saturating_sub(before.anonymous);
    let each = grown * 1024 / PEERS as u64;
    assert!(each < 2048, "{each} bytes are held for each beginning of a head");
    drop((first, rest));
}

#[test]
fn descriptors_and_connections_go_with_half_open_peers() {
    let mut hailer =
        Hailer::start(&["--limit", "head_timeout=1s", "--timeout", "1s", "--limit", "close_timeout=1s"]);
    let before = hailer.descriptors();
    // They neither send nor end anything.
    let silent: Vec<Peer> = (0..20)
        .map(|number| match number % 3 {
            0 => Peer::connect(hailer.address()),
            1 => Peer::open(hailer.address()),
            _ => Peer::join(hailer.address()),
        })
        .collect();
    hailer.wait_for_descriptors(before);
    drop(silent);
    hailer.stop();
    assert!(hailer.log_line("stopping").contains("connections=0"));
}

#[test]
fn an_announced_frame_reserves_no_memory() {
    const PEERS: usize = 100;
    let hailer = Hailer::start(&["--limit", "frame_bytes_max=16MiB", "--limit", "message_bytes_max=16MiB"]);
    let mut peers: Vec<Peer> = (0..PEERS).map(|_| Peer::join(hailer.address())).collect();
    let before = Memory::of(hailer.pid());
    let header = [&[0x82, 0x80 | 127], &(16 * 1024 * 1024u64).to_be_bytes()[..], &[1, 2, 3, 4, 5]].concat();
    for peer in &mut peers {
        peer.send(&header);
    }
    // A ping behind the header would be payload; the connections are handled in the order of their bytes, so
    // several others that are answered show that all headers are read.
    (0..8).for_each(|_| Client::connect(hailer.address()).heartbeat());
    let grown = Memory::of(hailer.pid()).anonymous.saturating_sub(before.anonymous);
    assert!(grown < 4 * 1024, "the server has grown by {grown} KiB");
}
