//! Counts of memory, which no noise of the machine touches: allocations of a broadcast, bytes of an idle
//! connection. They have a binary of their own because they count in the global allocator.

#[path = "../benches/support/mod.rs"]
mod support;

use support::Crowd;

const SUBSCRIBERS: usize = if cfg!(debug_assertions) { 20_000 } else { 100_000 };

#[test]
fn the_allocations_of_a_broadcast_do_not_depend_on_its_subscribers() {
    let count = |subscribers: usize, burst: usize| {
        let mut crowd = Crowd::of(subscribers);
        crowd.broadcast(burst, "warm");
        allocation_counter::measure(|| crowd.broadcast(burst, "maintenance in 5 minutes")).count_total
    };
    for burst in [1, 20] {
        let (few, many) = (count(10, burst), count(SUBSCRIBERS, burst));
        println!("a burst of {burst}: {few} allocations for 10 subscribers, {many} for {SUBSCRIBERS}");
        assert_eq!(few, many);
    }
}

#[test]
fn a_burst_is_one_write_for_each_subscriber() {
    let mut crowd = Crowd::of(1_000);
    let before = crowd.sink.writes;
    crowd.broadcast(50, "maintenance in 5 minutes");
    assert_eq!(crowd.sink.writes - before, 1_000);
}

#[test]
fn an_idle_joined_web_socket_stays_within_its_budget() {
    let mut crowd = Crowd::empty();
    crowd.join(1);
    let used = allocation_counter::measure(|| crowd.join(SUBSCRIBERS));
    // The list of ids is the test's own.
    let own = size_of::<hailer::endpoint::ConnectionId>() as i64;
    let bytes = used.bytes_current / SUBSCRIBERS as i64 - own;
    let blocks = used.count_current as f64 / SUBSCRIBERS as f64;
    println!("an idle joined WebSocket: {bytes} bytes in {blocks:.2} blocks ({SUBSCRIBERS} of them)");
    assert!(bytes <= 448, "{bytes} bytes");
}

#[test]
fn what_a_crowd_took_is_given_back() {
    let mut crowd = Crowd::empty();
    let used = allocation_counter::measure(|| {
        crowd.join(1_000);
        crowd.broadcast(100, "maintenance in 5 minutes");
        let ids = std::mem::take(&mut crowd.ids);
        for id in ids {
            crowd.endpoint.handle_error(id, crowd.now);
            while crowd.endpoint.poll_closed().is_some() {}
        }
        crowd.flush();
    });
    println!("left behind by 1,000 clients: {} bytes", used.bytes_current);
    // Queues keep a room that does not depend on how many clients there were.
    assert!(used.bytes_current <= 16 * 1024, "{} bytes", used.bytes_current);
}
