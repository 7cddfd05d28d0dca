//! Counts of memory, which no noise of the machine touches: allocations of a broadcast, bytes of an idle
//! connection. They have a binary of their own because they count in the global allocator.

#[path = "../benches/support/mod.rs"]
mod support;

use std::io::IoSlice;
use std::time::Duration;

use hailer::endpoint::{ConnectionFilter, ConnectionId, Gone, Rank, Sink};
use support::Crowd;
use support::million::{Who, run};

const SUBSCRIBERS: usize = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
/// Room in the arrays that double, which depends on how many there are: at 20,000 it is nearly the most.
const SLACK_MAX: i64 = 40;

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
    let own = size_of::<ConnectionId>() as i64;
    let bytes = used.bytes_current / SUBSCRIBERS as i64 - own;
    let blocks = used.count_current as f64 / SUBSCRIBERS as f64;
    println!("an idle joined WebSocket: {bytes} bytes in {blocks:.2} blocks ({SUBSCRIBERS} of them)");
    assert!(bytes <= 192, "{bytes} bytes");
}

#[test]
fn a_user_with_a_topic_of_its_own_stays_within_its_budget() {
    let mut crowd = Crowd::of_users();
    crowd.join_user(0);
    let used = allocation_counter::measure(|| (1..=SUBSCRIBERS).for_each(|number| crowd.join_user(number)));
    let own = 2 * size_of::<ConnectionId>() as i64;
    let bytes = used.bytes_current / SUBSCRIBERS as i64 - own;
    let blocks = used.count_current as f64 / SUBSCRIBERS as f64;
    println!(
        "an idle user with a topic of its own: {bytes} bytes in {blocks:.2} blocks ({SUBSCRIBERS} of them)"
    );
    assert!(bytes <= 560 + SLACK_MAX, "{bytes} bytes");
}

#[test]
fn a_private_message_costs_the_same_among_ten_and_among_many() {
    let measure = |users: usize| {
        let mut crowd = Crowd::of_users();
        (0..users).for_each(|number| crowd.join_user(number));
        crowd.tell_user(5);
        let before = crowd.sink.writes;
        let used = allocation_counter::measure(|| crowd.tell_user(7));
        (used.count_total, used.bytes_total, crowd.sink.writes - before)
    };
    let (few, many) = (measure(10), measure(SUBSCRIBERS));
    println!(
        "a private message: (allocations, bytes, writes) {few:?} among 10 users, {many:?} among {SUBSCRIBERS}"
    );
    assert_eq!(few, many);
    assert_eq!(few.2, 1);
}

#[test]
fn users_that_come_and_go_leave_nothing_while_their_tokens_live_on() {
    let mut crowd = Crowd::of_users();
    // Somebody stays, so that there is always a connection.
    crowd.join_user(0);
    let mut come_and_go = |range: std::ops::Range<usize>| {
        for number in range {
            crowd.join_user(number);
            let id = crowd.ids.pop().expect("it has just come");
            crowd.endpoint.handle_error(id, crowd.now);
            while crowd.endpoint.poll_closed().is_some() {}
        }
    };
    come_and_go(1..5_000);
    let used = allocation_counter::measure(|| come_and_go(5_000..25_000));
    println!("left behind by 20,000 users that came and went: {} bytes", used.bytes_current);
    assert!(used.bytes_current <= 16 * 1024, "{} bytes", used.bytes_current);
}

#[test]
fn a_session_on_long_poll_stays_within_its_budget() {
    let count = SUBSCRIBERS / 10;
    let mut crowd = Crowd::empty();
    drop(crowd.open_sessions(1));
    let mut tokens = Vec::new();
    let opened = allocation_counter::measure(|| tokens = crowd.open_sessions(count));
    let own = tokens.iter().map(|token| token.capacity() + size_of::<String>()).sum::<usize>();
    let idle = (opened.bytes_current - own as i64) / count as i64;
    let parked = allocation_counter::measure(|| tokens.iter().for_each(|token| crowd.poll(token)));
    let parked = idle + parked.bytes_current / count as i64;
    println!("a session on long-poll: {idle} bytes between polls, {parked} bytes while one waits");
    assert!(idle <= 1024, "{idle} bytes");
    assert!(parked <= 448 + 512, "{parked} bytes");
    crowd.broadcast(1, "maintenance in 5 minutes");
    assert_eq!(crowd.endpoint.stats().polls, count as u64 * 2 + 1);
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

#[test]
fn what_most_of_a_crowd_took_is_given_back_while_some_stay() {
    let count = SUBSCRIBERS;
    let mut crowd = Crowd::of_users();
    let all = allocation_counter::measure(|| (0..count).for_each(|number| crowd.join_user(number)));
    let ids = std::mem::take(&mut crowd.ids);
    let gone = allocation_counter::measure(|| {
        // Those who stay are scattered over all places.
        for (number, id) in ids.iter().enumerate().filter(|(number, _)| number % 100 != 37) {
            crowd.endpoint.handle_error(*id, crowd.now);
            if number % 1_024 == 0 {
                while crowd.endpoint.poll_closed().is_some() {}
            }
        }
        while crowd.endpoint.poll_closed().is_some() {}
        crowd.flush();
    });
    let own = (ids.capacity() * size_of::<ConnectionId>()) as i64;
    let (peak, left) = (all.bytes_current - own, all.bytes_current - own + gone.bytes_current);
    println!("of {peak} bytes for {count} users, {left} are left for one in a hundred of them");
    assert!(left * 10 <= peak, "{left} bytes of {peak}");
    // Those who come next find the room that was left.
    (count..count + count / 100).for_each(|number| crowd.join_user(number));
    crowd.broadcast(1, "maintenance in 5 minutes");
    assert_eq!(crowd.endpoint.stats().connections as usize, count / 100 * 2);
}

#[test]
fn a_shard_of_pretended_connections_does_what_the_bench_measures() {
    for who in [Who::Anonymous, Who::Users] {
        let outcome = run(who, 3_000);
        assert_eq!(outcome.wrong, 0, "{outcome:?}");
        assert!(outcome.asked_each > 0.0 && outcome.left_asked < outcome.asked_each / 4.0, "{outcome:?}");
    }
}

#[test]
fn a_slice_of_a_walk_takes_memory_for_itself_alone() {
    const SLICE: usize = 4096;
    let crowd = Crowd::of(70_000);
    let in_lobby = ConnectionFilter { topic: Some("room:lobby".into()), ..ConnectionFilter::default() };
    for filter in [ConnectionFilter::default(), in_lobby] {
        let (mut from, mut slices, mut found) = (Some(0), 0, 0);
        while let Some(place) = from {
            let mut next = None;
            let used = allocation_counter::measure(|| {
                let slice =
                    crowd.endpoint.rank_connections(&filter, Rank::Waiting, crowd.now, place, SLICE, SLICE);
                assert!(slice.found.len() <= SLICE);
                found += slice.found.len();
                next = slice.next;
            });
            // While a list grows, its old and its new place are held.
            assert!(used.bytes_max <= 64 * SLICE as u64, "{} bytes", used.bytes_max);
            (from, slices) = (next, slices + 1);
        }
        println!("{found} connections in {slices} slices");
        assert_eq!(found, 70_000);
        assert!((18..=32).contains(&slices), "{slices} slices of {SLICE} places");
    }
    let slice = crowd.endpoint.inspect_holdings(0, SLICE);
    assert_eq!((slice.found.subscriptions, slice.next), (70_000, Some(SLICE)));
}

/// Sockets of peers that have stopped reading.
struct Full;

impl Sink for Full {
    fn send(&mut self, _: ConnectionId, _: &[IoSlice<'_>]) -> Result<usize, Gone> {
        Ok(0)
    }

    fn shutdown(&mut self, _: ConnectionId) {}
}

/// A crowd with most of a log to be written to each, and what memory that is at most: that of one log.
fn crowd_behind(bytes: usize) -> Crowd {
    let mut crowd = Crowd::of(200);
    let payload = serde_json::json!({ "body": "x".repeat(10_000) });
    for _ in 0..bytes / 10_000 {
        crowd.broker.broadcast("room:lobby", "new_msg", payload.clone().into()).expect("there is room");
    }
    crowd.endpoint.handle_mailbox(usize::MAX, crowd.now);
    crowd
}

#[test]
fn a_drain_in_the_middle_of_a_broadcast_copies_it_for_nobody() {
    let mut crowd = crowd_behind(800_000);
    let (before, sent) = (crowd.endpoint.stats(), crowd.sink.bytes);
    let used = allocation_counter::measure(|| {
        // The walk is under way when the drain begins.
        crowd.endpoint.flush(50, crowd.now, &mut crowd.sink);
        crowd.endpoint.drain(crowd.now);
        crowd.flush();
    });
    assert!(used.bytes_max <= 1024 * 1024, "{} bytes", used.bytes_max);
    assert_eq!(before.connections, crowd.endpoint.stats().closed_shutdown);
    let each = (crowd.sink.bytes - sent) / before.connections;
    assert!(each > 800_000, "only {each} bytes were written to each");
}

#[test]
fn clients_that_do_not_read_are_closed_without_a_copy_of_what_they_missed() {
    for drain in [true, false] {
        let mut crowd = crowd_behind(800_000);
        while crowd.endpoint.flush(usize::MAX, crowd.now, &mut Full) {}
        let used = allocation_counter::measure(|| {
            if drain {
                crowd.endpoint.drain(crowd.now);
            } else {
                crowd.endpoint.handle_timeout(crowd.now + Duration::from_secs(70));
            }
            crowd.endpoint.flush(usize::MAX, crowd.now, &mut Full);
        });
        let stats = crowd.endpoint.stats();
        assert_eq!(stats.closed_shutdown + stats.closed_idle + stats.closed_stalled, 200, "{stats:?}");
        assert!(used.bytes_max <= 1024 * 1024, "{} bytes", used.bytes_max);
    }
}
