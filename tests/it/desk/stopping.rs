//! A server that stops.

use std::time::{Duration, Instant};

use hailer::desk::{Disconnect, DisconnectWho, Durability, ErrorCode, MessageState, Publishing};

use super::{Plan, actor, at_level, draft, kept, now, scheduled};
use crate::support::{Folder, PATIENCE, eventually};

#[test]
fn what_nobody_would_get_any_more_is_refused_and_leaves_no_trace() {
    let folder = Folder::new("desk");
    let path = folder.file("kept.db");
    let mut desk = Plan::on_disk(&path).start();
    let mut client = desk.join("room:1");
    let id = desk.publish(kept(draft("room:1", "kept"))).id;
    assert_eq!(client.body(), "kept");
    let at = now() + 50;
    let due = desk.publish(scheduled(draft("room:1", "due"), at)).id;
    // The client does not answer the end yet, so the server waits for it.
    desk.handle.drain_within(Duration::from_secs(60));
    assert!(desk.handle.is_ending());
    eventually("it is due", || (now() > at).then_some(()));
    desk.start_clerk();
    for level in [Durability::None, Durability::Memory, Durability::Disk] {
        let error = desk.try_publish(at_level(draft("room:1", 1), level)).expect_err("the server stops");
        assert_eq!(error.code, ErrorCode::Overloaded);
        assert!(error.sentence.contains("the server stops"), "{error}");
    }
    assert_eq!(desk.retract(&id).expect_err("the server stops").code, ErrorCode::Overloaded);
    let who = DisconnectWho::User("ada".to_owned());
    let disconnect = Disconnect { who, reconnect: true };
    let refused = desk.publisher.disconnect(&disconnect, &actor("orders"), now());
    assert_eq!(refused.expect_err("the server stops").code, ErrorCode::Overloaded);
    assert_eq!(client.closed().map(|(code, _)| code), Some(1012));
    desk.end();

    // What was due meanwhile is for the next one.
    let desk = Plan::on_disk(&path).start();
    assert_eq!(desk.ids(), [due.clone(), id.clone()]);
    assert_eq!(desk.record(&id).state, MessageState::Sent);
    assert_eq!(desk.record(&due).state, MessageState::Scheduled);
    assert_eq!(desk.join("room:1").body(), "kept");
}

#[test]
fn what_was_taken_before_the_end_is_delivered() {
    let desk = Plan::default().start();
    let mut client = desk.join("room:1");
    let sent = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            // Every message that is taken has a place in front of the end.
            let deadline = Instant::now() + PATIENCE;
            let sent = (0..).take_while(|body| desk.try_publish(draft("room:1", *body)).is_ok());
            sent.inspect(|_| assert!(Instant::now() < deadline, "nothing is refused")).count()
        });
        for body in 0..20 {
            assert_eq!(client.body(), body);
        }
        desk.handle.drain_within(Duration::from_secs(60));
        sending.join().expect("it has not panicked")
    });
    for body in 20..sent {
        assert_eq!(client.body(), body);
    }
    assert_eq!(client.closed().map(|(code, _)| code), Some(1012));
}
