//! Very many long-poll clients and WebSockets in one room of the real program, and answers that are cut.
//!
//! `HAILER_CLIENTS` sets how many there are, two thirds of them on long-poll. Without it there are 15,000 in a
//! release build and fewer in a debug build, or as many as the limit of open files allows. The seed is
//! printed, and `HAILER_SEED` sets it.
//!
//! `cargo test --release --test it load_longpoll -- --nocapture`

use std::time::Instant;

use serde_json::json;

use crate::load::clients;
use crate::support::pollers::Pollers;
use crate::support::swarm::{Ending, Swarm};
use crate::support::{Client, Hailer, Memory, Peer, counter, crowd, eventually};

/// A debug build gets through these in well under a minute on two busy cores.
const CLIENTS: usize = if cfg!(debug_assertions) { 6_000 } else { 15_000 };
const MESSAGES: usize = 100;
/// Messages between which nobody waits. A poll is answered as soon as there is one, so they make several
/// answers.
const WAVE: usize = 5;
const CUT_PERCENT: usize = 10;
/// Sessions whose end is looked for one by one.
const LOOKED_FOR: usize = 50;
const SEED: u64 = 0x0068_6169_6c65_7221;

fn body(number: usize) -> serde_json::Value {
    json!({"number": number, "text": "maintenance in 5 minutes"})
}

fn message(number: usize) -> String {
    json!([null, null, "room:lobby", "new_msg", {"body": body(number)}]).to_string()
}

/// Publishes all messages, each wave when half of the pollers have the one before; everyone gets all of them.
fn publish(publisher: &mut Client, pollers: &mut Pollers, swarm: &mut Swarm) {
    let half = pollers.len() / 2;
    for wave in 0..MESSAGES / WAVE {
        let numbers = wave * WAVE..(wave + 1) * WAVE;
        pollers.expect(numbers.clone().map(message));
        swarm.expect(numbers.clone().map(|number| message(number).into_bytes()));
        numbers.clone().for_each(|number| {
            publisher.push("room:lobby", "new_msg", &json!({ "body": body(number) }));
        });
        std::thread::scope(|scope| {
            let web_sockets = scope.spawn(|| swarm.receive(swarm.len()));
            pollers.receive(half);
            web_sockets.join().expect("every WebSocket gets every message");
        });
        numbers.for_each(|number| assert_eq!(publisher.body()["number"], number));
    }
    pollers.receive(pollers.len());
}

/// Waits until the server knows a session no more. A POST does not keep one alive.
fn wait_for_end(hailer: &Hailer, token: &str) {
    let body = r#"[null,"1","phoenix","heartbeat",{}]"#;
    let request = format!(
        "POST /socket/longpoll?vsn=2.0.0&token={token} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    eventually("the end of a session that nobody polls", || {
        let mut peer = Peer::connect(hailer.address());
        peer.send(request.as_bytes());
        (peer.response().body == r#"{"status":410}"#).then_some(())
    });
}

#[test]
fn every_poller_gets_every_message_although_answers_are_cut() {
    let _crowd = crowd();
    let seed = std::env::var("HAILER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let clients = clients(CLIENTS);
    let (web_sockets, pollers) = (clients / 3, clients - clients / 3);
    let begin = Instant::now();
    println!("{pollers} pollers, {web_sockets} WebSockets, seed {seed}");
    // A session ends after a window and a half without a poll, which the test waits for at its end.
    let mut hailer = Hailer::start(&["--shards", "2", "--timeout", "10m", "--limit", "poll_window=8s"]);
    let descriptors = hailer.descriptors();
    let mut publisher = Client::joined(hailer.address(), "room:lobby");
    let mut swarm = Swarm::new(hailer.address());
    swarm.join(web_sockets);
    let before = Memory::of(hailer.pid());
    let mut crowd = Pollers::new(hailer.address(), seed, CUT_PERCENT);
    crowd.join(pollers);
    let joined = begin.elapsed();
    let after = Memory::of(hailer.pid());
    let each = after.rss.saturating_sub(before.rss) * 1024 / pollers.max(1) as u64;
    println!("all joined after {joined:.1?}, each parked poll and its session: RSS {each} B");

    publish(&mut publisher, &mut crowd, &mut swarm);
    println!("all served {:.1?} later: {:?}", begin.elapsed() - joined, crowd.tally);
    let tally = &crowd.tally;
    assert!(tally.answers >= pollers * MESSAGES / WAVE / 2, "the messages came in many answers: {tally:?}");
    let share = tally.cuts * 100 / (tally.cuts + tally.answers);
    assert!(share.abs_diff(CUT_PERCENT) <= 2 || clients < 1_000, "{share} % of the answers were cut");
    let cuts = tally.cuts;

    let tokens = crowd.leave();
    swarm.close(|_| Ending::Fin);
    drop(publisher);
    hailer.wait_for_descriptors(descriptors);
    tokens.iter().step_by((tokens.len() / LOOKED_FOR).max(1)).for_each(|token| wait_for_end(&hailer, token));
    // The connections of those POSTs.
    hailer.wait_for_descriptors(descriptors);
    let stopped = hailer.stop();
    println!("{stopped}\nin all {:.1?}", begin.elapsed());
    let stopping = hailer.log_line("stopping");
    assert!(stopping.contains("connections=0 web_sockets=0 topics=0"), "{stopping}");
    let counter = |name| counter(&stopped, name);
    assert_eq!((counter("sessions_opened"), counter("sessions_expired")), (pollers, pollers), "{stopped}");
    assert!(counter("answers_repeated") >= cuts, "{cuts} answers were cut: {stopped}");
    assert!(counter("handed_over") >= pollers / 3, "{stopped}");
    for unwanted in
        ["closed_slow_reader", "closed_stalled", "closed_bad", "broadcasts_refused", "http_refused"]
    {
        assert_eq!(counter(unwanted), 0, "{unwanted}: {stopped}");
    }
}
