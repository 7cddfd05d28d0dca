//! Who has received a message.

use std::time::Duration;

use hailer::desk::{Draft, Progress, Publishing};

use super::{Desk, Plan, draft};
use crate::support::eventually;

fn counted(body: u64) -> Draft {
    Draft { receipts: true, ..draft("room:1", body) }
}

/// How far a message has got when no more is counted.
fn end_of(desk: &Desk, id: &str) -> Progress {
    eventually("the end of the count", || desk.publisher.progress(id).filter(|progress| progress.done))
}

fn received(desk: &Desk, id: &str) -> Option<(Option<u64>, Option<u64>)> {
    let record = desk.record(id);
    record.received.map(|_| (record.subscribers, record.received))
}

#[test]
fn it_is_counted_until_all_have_it() {
    let desk = Plan { clerk: true, shards: 2, ..Plan::default() }.start();
    let mut clients: Vec<_> = (0..5).map(|_| desk.join("room:1")).collect();
    let id = desk.publish(counted(1)).id;
    let begun = desk.publisher.progress(&id).expect("it is counted");
    assert_eq!((begun.addressed, begun.done), (5, false));
    // Whoever reads answers the ping behind the message.
    for client in &mut clients[..4] {
        assert_eq!(client.body(), 1);
        client.answer_ping();
    }
    eventually("four have it", || {
        desk.publisher.progress(&id).filter(|progress| progress.received == 4 && !progress.done)
    });
    drop(clients);
    let end = end_of(&desk, &id);
    assert_eq!((end.addressed, end.received, end.gone, end.behind), (5, 4, 1, 0));
    assert_eq!(eventually("the record", || received(&desk, &id)), (Some(5), Some(4)));
    assert_eq!(desk.publisher.progress(&id), Some(end));
    assert_eq!(desk.publisher.progress("another"), None);
}

#[test]
fn a_message_to_nobody_is_at_its_end() {
    let desk = Plan { clerk: true, ..Plan::default() }.start();
    let id = desk.publish(counted(1)).id;
    assert_eq!(end_of(&desk, &id), Progress { done: true, ..Progress::default() });
    assert_eq!(eventually("the record", || received(&desk, &id)), (Some(0), Some(0)));
}

#[test]
fn it_is_counted_no_longer_than_its_time() {
    let mut plan = Plan { clerk: true, ..Plan::default() };
    plan.config.receipts_time = Duration::from_millis(1);
    let desk = plan.start();
    let _client = desk.join("room:1");
    let id = desk.publish(counted(1)).id;
    let end = end_of(&desk, &id);
    assert_eq!((end.addressed, end.received, end.gone), (1, 0, 0));
    assert_eq!(eventually("the record", || received(&desk, &id)), (Some(1), Some(0)));
}

#[test]
fn one_too_many_ends_the_count_of_the_first() {
    let desk = Plan { clerk: true, limits: &[("receipts_tracked_max", "2")], ..Plan::default() }.start();
    let _client = desk.join("room:1");
    let ids = [1, 2, 3].map(|body| desk.publish(counted(body)).id);
    let end = end_of(&desk, &ids[0]);
    assert_eq!((end.addressed, end.received), (1, 0));
    for id in &ids[1..] {
        assert!(!desk.publisher.progress(id).expect("it is counted").done);
    }
}

#[test]
fn a_shard_that_stands_still_does_not_end_the_count() {
    let desk = Plan { clerk: true, ..Plan::default() }.start();
    let mut client = desk.join("room:1");
    let still = desk.stand_still();
    // It waits for the count of subscribers in vain.
    let id = desk.publish(counted(1)).id;
    // So does whoever asks for these; meanwhile it is asked for the receipts as well.
    assert_eq!([desk.handle.stats().joins, desk.handle.stats().joins], [0, 0]);
    assert_eq!(desk.publisher.progress(&id), Some(Progress::default()));
    drop(still);
    assert_eq!(client.body(), 1);
    client.answer_ping();
    let end = end_of(&desk, &id);
    assert_eq!((end.addressed, end.received), (1, 1));
}
