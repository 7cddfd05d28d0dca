//! Readers that fall behind: bounded, told so, and nobody else notices.

use serde_json::json;

use crate::support::peer::{CLOSE, PATH, read_close};
use crate::support::{Client, Hailer, Memory, Peer};

/// Together more than kernels hold for one connection, and 50 MB.
const MESSAGES: usize = 830;
const BODY_BYTES: usize = 62 * 1024;
const MEGABYTES: usize = 50;

/// Has a client that does not read join, then broadcasts to it and three others that do, step by step.
fn broadcast_past_a_slow_reader(hailer: &Hailer) -> Peer {
    const { assert!(MESSAGES * BODY_BYTES > MEGABYTES * 1_000_000) };
    let mut slow = Peer::connect(hailer.address());
    slow.upgrade(PATH);
    slow.join_lobby();
    let mut readers: Vec<Client> = (0..3).map(|_| Client::joined(hailer.address(), "room:lobby")).collect();
    let filler = "x".repeat(BODY_BYTES);
    let before = Memory::of(hailer.pid());
    for number in 0..MESSAGES {
        readers[number % 3].push("room:lobby", "new_msg", &json!({"body": [number, filler]}));
        for reader in &mut readers {
            assert_eq!(reader.body()[0], number);
        }
    }
    let grown = Memory::of(hailer.pid()).anonymous.saturating_sub(before.anonymous);
    assert!(grown < 16 * 1024, "the server has grown by {grown} KiB");
    slow
}

#[test]
fn a_reader_that_stops_is_closed_with_4008_and_the_others_get_everything() {
    let mut hailer = Hailer::start(&["--limit", "close_timeout=10m"]);
    let mut slow = broadcast_past_a_slow_reader(&hailer);
    let mut next = 0;
    let frame = loop {
        let frame = slow.next_frame().expect("a close frame comes before the end");
        if frame.opcode == CLOSE {
            break frame;
        }
        let message: serde_json::Value = serde_json::from_slice(&frame.payload).expect("whole messages");
        assert_eq!(message[4]["body"][0], next, "what it gets before is in order and without a gap");
        next += 1;
    };
    let (code, reason) = read_close(&frame);
    assert!(code == 4008 && reason.contains("too slowly"), "{code} {reason}");
    assert!((1..MESSAGES).contains(&next), "{next}");
    drop(slow);
    let line = hailer.stop();
    assert!(line.contains("closed_slow_reader=1"), "{line}");
}

#[test]
fn with_skip_a_reader_that_stops_goes_on_behind_a_gap() {
    let mut hailer =
        Hailer::start(&["--slow-readers", "skip", "--limit", "stall_timeout=10m", "--timeout", "10m"]);
    let mut slow = broadcast_past_a_slow_reader(&hailer);
    // Every message is either received or counted as missed, in order.
    let (mut next, mut gaps) = (0, 0);
    while next < MESSAGES {
        let message = slow.message();
        if message[3] == "gap" {
            let missed = message[4]["missed"].as_u64().and_then(|missed| usize::try_from(missed).ok());
            next += missed.expect("a gap counts what was missed");
            gaps += 1;
        } else {
            assert_eq!(message[4]["body"][0], next);
            next += 1;
        }
    }
    assert_eq!(next, MESSAGES);
    // The kernel may have taken a little more now and then, but hundreds of messages fell out of the log.
    assert!((1..20).contains(&gaps), "{gaps} notices");
    // It is a subscriber as before.
    let mut other = Client::joined(hailer.address(), "room:lobby");
    other.push("room:lobby", "new_msg", &json!({"body": "after"}));
    assert_eq!(slow.message()[4], json!({"body": "after"}));
    drop((slow, other));
    let line = hailer.stop();
    assert!(line.contains("gaps="), "{line}");
}
