//! Counts of what clients cost that come, join and stay: allocations, writes and bytes, which no noise of the machine
//! touches. They have a binary of their own because they count in the global allocator.

#[path = "../benches/support/mod.rs"]
mod support;

use std::net::Ipv4Addr;

use hailer::endpoint::ConnectionId;
use hailer::testing::{upgrade_request, write_masked};
use support::Crowd;

/// How many times each thing is done: what is done once in a while, such as a list that grows, is to count little.
const TIMES: u64 = 1_000;

/// What one of many alike has cost.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    allocations: f64,
    /// Blocks that stay.
    kept: f64,
    writes: u64,
}

/// Feeds bytes as the event loop does: from a buffer that is there already.
struct Intake {
    crowd: Crowd,
    buffer: Vec<u8>,
}

impl Intake {
    fn new() -> Self {
        let mut crowd = Crowd::of(TIMES as usize);
        crowd.ids.reserve(4 * TIMES as usize);
        Self { crowd, buffer: vec![0; 64 * 1024] }
    }

    fn feed(&mut self, id: ConnectionId, bytes: &[u8]) {
        let buffer = &mut self.buffer[..bytes.len()];
        buffer.copy_from_slice(bytes);
        self.crowd.endpoint.handle_read(id, buffer, self.crowd.now);
        self.crowd.flush();
    }

    fn accept(&mut self) {
        let id = self.crowd.endpoint.accept(Ipv4Addr::LOCALHOST.into(), self.crowd.now);
        self.crowd.ids.push(id.expect("there is room"));
    }

    /// What it costs to do something to each of the last clients.
    fn measure(&mut self, name: &str, mut each: impl FnMut(&mut Self, ConnectionId)) -> Cost {
        let ids = self.crowd.ids.split_off(self.crowd.ids.len() - TIMES as usize);
        let before = self.crowd.sink.writes;
        let used = allocation_counter::measure(|| ids.iter().for_each(|id| each(self, *id)));
        self.crowd.ids.extend(ids);
        let cost = Cost {
            allocations: used.count_total as f64 / TIMES as f64,
            kept: used.count_current as f64 / TIMES as f64,
            writes: (self.crowd.sink.writes - before) / TIMES,
        };
        println!(
            "{name}: {:.2} allocations, {:.2} of them stay, {} writes",
            cost.allocations, cost.kept, cost.writes
        );
        cost
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    write_masked(&mut frame, 0x1, true, text.as_bytes());
    frame
}

#[test]
fn a_heartbeat_allocates_nothing() {
    let mut intake = Intake::new();
    let frame = text(r#"[null,"5","phoenix","heartbeat",{}]"#);
    intake.measure("the first heartbeat", |intake, id| intake.feed(id, &frame));
    let cost = intake.measure("a heartbeat", |intake, id| intake.feed(id, &frame));
    assert_eq!(cost, Cost { allocations: 0.0, kept: 0.0, writes: 1 });
}

#[test]
fn heartbeats_of_many_in_one_turn_are_one_write_each() {
    let mut intake = Intake::new();
    let before = intake.crowd.sink.writes;
    let mut frame = text(r#"[null,"5","phoenix","heartbeat",{}]"#);
    // Two that come together are answered together.
    frame.extend(text(r#"[null,"6","phoenix","heartbeat",{}]"#));
    for id in intake.crowd.ids.clone() {
        intake.crowd.endpoint.handle_read(id, &mut frame.clone(), intake.crowd.now);
    }
    intake.crowd.flush();
    assert_eq!(intake.crowd.sink.writes - before, TIMES);
    assert_eq!(intake.crowd.endpoint.stats().heartbeats, 2 * TIMES);
}

#[test]
fn an_upgrade_and_a_join_allocate_little_more_than_what_stays() {
    let mut intake = Intake::new();
    let request = upgrade_request("/socket/websocket?vsn=2.0.0");
    (0..TIMES).for_each(|_| intake.accept());
    let upgrade = intake.measure("an upgrade", |intake, id| intake.feed(id, request.as_bytes()));
    let frame = text(r#"["1","1","room:lobby","phx_join",{}]"#);
    let join = intake.measure("a join", |intake, id| intake.feed(id, &frame));
    assert_eq!((upgrade.writes, join.writes), (1, 1));
    assert!(upgrade.allocations <= 2.1, "{upgrade:?}");
    assert!(join.allocations <= 2.1, "{join:?}");
}
