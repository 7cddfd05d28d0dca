//! What is sent later.

use std::sync::mpsc::channel;
use std::time::Duration;

use hailer::desk::{Draft, Durability, ErrorCode, MessageState};
use hailer::server::store::{StateChange, Store, Write};
use serde_json::json;

use super::{Plan, copy_store, draft, kept, now, scheduled};
use crate::support::{Folder, PATIENCE, eventually};

#[test]
fn it_is_sent_when_its_time_has_come() {
    let desk = Plan { clerk: true, ..Plan::default() }.start();
    let mut client = desk.join("room:1");
    let at = now() + 200;
    let waiting = desk.publish(scheduled(kept(draft("room:1", "due")), at));
    assert_eq!((waiting.state, waiting.offset), (MessageState::Scheduled, None));
    assert_eq!((waiting.subscribers, waiting.durability), (None, Durability::Memory));
    let event = client.event();
    let until = desk.record(&waiting.id).expires_at;
    assert_eq!(event.payload, json!({"id": waiting.id, "expires_at": until, "body": "due"}));
    assert!(now() >= at);
    let record = eventually("the record says so", || {
        Some(desk.record(&waiting.id)).filter(|record| record.state == MessageState::Sent)
    });
    assert_eq!((record.send_at, record.subscribers), (Some(at), Some(1)));
    assert!(record.offset.is_some() && record.sent_at >= Some(at));
    assert_eq!(desk.cancel(&waiting.id).expect_err("it was sent").code, ErrorCode::Conflict);
    // Later joiners get it, and it can be taken back.
    assert_eq!(desk.join("room:1").body(), "due");
    desk.retract(&waiting.id).expect("it was sent");
    assert_eq!(client.event().event, "retract");
    // A time that is past is no time.
    assert_eq!(desk.publish(scheduled(draft("room:1", "past"), now() - 1)).state, MessageState::Sent);
    assert_eq!(client.body(), "past");
}

#[test]
fn what_is_scheduled_waits_for_ever_behind_a_chore_that_panics() {
    let mut desk = Plan::default().start();
    let mut client = desk.join("room:1");
    let (sender, done) = channel();
    let panics = || std::panic::resume_unwind(Box::new("on purpose"));
    desk.start_clerk_with(vec![
        Box::new(move |_| panics()),
        // The receiver may be gone.
        Box::new(move |_| _ = sender.send(())),
    ]);
    for _ in 0..2 {
        done.recv_timeout(PATIENCE).expect("the chore behind it is done");
    }
    desk.publish(scheduled(draft("room:1", "due"), now() + 50));
    assert_eq!(client.body(), "due");
}

#[test]
fn more_than_are_looked_at_together_are_sent_in_their_order() {
    let folder = Folder::new("desk");
    let path = folder.file("kept.db");
    let mut plan = Plan::on_disk(&path);
    plan.config.messages_max = 250;
    let mut desk = plan.start();
    let mut client = desk.join("room:1");
    let at = now() + 100;
    let drafts = (0..250).map(|body| scheduled(draft("room:1", body), at)).collect();
    desk.publish_all(drafts, None).expect("they can be scheduled");
    eventually("all are due", || (now() > at).then_some(()));
    desk.start_clerk();
    for body in 0..250 {
        assert_eq!(client.body(), body);
    }
}

#[test]
fn what_is_cancelled_is_not_sent() {
    let desk = Plan { clerk: true, ..Plan::default() }.start();
    let mut client = desk.join("room:1");
    let id = desk.publish(scheduled(draft("room:1", "never"), now() + 1000)).id;
    let record = desk.cancel(&id).expect("it waits");
    assert_eq!((record.state, record.ended_by.as_deref()), (MessageState::Cancelled, Some("key:ada")));
    assert_eq!(desk.cancel(&id).expect_err("it was cancelled").code, ErrorCode::Conflict);
    assert_eq!(desk.cancel("0190-no-such-message").expect_err("there is none").code, ErrorCode::NotFound);
    // One that is due behind it.
    desk.publish(scheduled(draft("room:1", "behind"), now() + 1500));
    assert_eq!(client.body(), "behind");
    assert_eq!(desk.record(&id).state, MessageState::Cancelled);
}

#[test]
fn what_is_cancelled_while_it_becomes_due_is_either_sent_or_cancelled() {
    const MESSAGES: u64 = 60;
    let folder = Folder::new("desk");
    let mut plan = Plan::on_disk(&folder.file("kept.db"));
    plan.config.messages_max = 100;
    let mut desk = plan.start();
    let mut client = desk.join("room:1");
    let at = now() + 100;
    let drafts = (0..MESSAGES).map(|body| scheduled(draft("room:1", body), at)).collect();
    let ids = desk.publish_all(drafts, None).expect("they can be scheduled").messages;
    eventually("they are due", || (now() > at).then_some(()));
    desk.start_clerk();
    // From the end, so that both meet.
    let cancelled: Vec<_> = (0..MESSAGES)
        .rev()
        .filter(|body| desk.cancel(&ids[usize::try_from(*body).expect("it is small")].id).is_ok())
        .collect();
    eventually("none waits", || {
        let waits = |id: &str| desk.record(id).state == MessageState::Scheduled;
        (!ids.iter().any(|message| waits(&message.id))).then_some(())
    });
    desk.publish(draft("room:1", "end"));
    let heard: Vec<_> = std::iter::from_fn(|| Some(client.body()).filter(|body| body != "end")).collect();
    let expected: Vec<_> =
        (0..MESSAGES).filter(|body| !cancelled.contains(body)).map(|body| json!(body)).collect();
    assert_eq!(heard, expected);
}

#[test]
fn what_is_overdue_after_a_restart_is_sent_once_unless_its_lifetime_is_over() {
    let folder = Folder::new("desk");
    let path = folder.file("kept.db");
    let mut desk = Plan::on_disk(&path).start();
    let at = now() + 50;
    let late = desk.publish(scheduled(draft("room:1", "late"), at));
    assert_eq!(late.durability, Durability::Disk);
    let short = Draft { lifetime: Some(Duration::from_millis(1)), ..draft("room:1", "over") };
    let over = desk.publish(scheduled(short, at)).id;
    desk.publish(scheduled(kept(draft("room:1", "kept")), at));
    desk.end();
    eventually("all are overdue", || (now() > at + 1).then_some(()));
    for round in 0..2 {
        let mut desk = Plan { clerk: true, ..Plan::on_disk(&path) }.start();
        let state = |id: &str| desk.record(id).state;
        eventually("it is sent", || (state(&late.id) == MessageState::Sent).then_some(()));
        eventually("it has expired", || (state(&over) == MessageState::Expired).then_some(()));
        assert_eq!(
            eventually("it is kept", || Some(desk.join("room:1")).filter(|_| !desk.board.is_empty())).body(),
            "kept"
        );
        let offset = desk.record(&late.id).offset;
        assert_eq!(offset, Some(1), "round {round}");
        // In the second round nothing was sent before.
        let next = desk.publish(draft("room:1", "next")).offset;
        assert_eq!(next, Some(if round == 0 { 3 } else { 1 }));
        desk.end();
    }
}

#[test]
fn a_process_that_is_killed_before_it_is_noted_leaves_it_to_the_next_with_the_same_id() {
    let folder = Folder::new("desk");
    let (path, copy) = (folder.file("kept.db"), folder.file("copy.db"));
    let desk = Plan { clerk: true, ..Plan::on_disk(&path) }.start();
    let mut client = desk.join("room:1");
    // The next process has it still to come when its client joins.
    let id = desk.publish(scheduled(kept(draft("room:1", 1)), now() + 50)).id;
    let expected = json!({"id": id, "expires_at": desk.record(&id).expires_at, "body": 1});
    assert_eq!(client.event().payload, expected);
    eventually("it is noted", || (desk.record(&id).state == MessageState::Sent).then_some(()));
    copy_store(&path, &copy);
    // What was not noted before the process was killed.
    let mut store = Store::open(&copy).expect("it opens");
    let (from, to) = (MessageState::Sent, MessageState::Scheduled);
    let change = StateChange { id: id.clone(), from, to, at: now(), by: None };
    assert_eq!(store.write(&Write::SetState(change)), Ok(1));
    drop(store);
    let after = Plan { clerk: true, ..Plan::on_disk(&copy) }.start();
    let mut client = after.join("room:1");
    assert_eq!(client.event().payload, expected);
    eventually("it is noted", || (after.record(&id).state == MessageState::Sent).then_some(()));
    client.heartbeat();
    assert_eq!(after.board.len(), 1);
}

#[test]
fn what_can_not_be_noted_is_not_sent_again_and_not_called_expired_or_cancelled() {
    let folder = Folder::new("desk");
    let path = folder.file("kept.db");
    let desk = Plan { clerk: true, ..Plan::on_disk(&path) }.start();
    let mut client = desk.join("room:1");
    // Refuses to note that it was sent for as long as it is there.
    let other = rusqlite::Connection::open(&path).expect("it opens");
    let trigger =
        "CREATE TRIGGER refuse BEFORE UPDATE OF state ON messages BEGIN SELECT raise(ABORT, 'no'); END";
    other.execute_batch(trigger).expect("it can be made");
    let lifetime = Some(Duration::from_secs(3));
    let id = desk.publish(scheduled(Draft { lifetime, ..draft("room:1", "once") }, now() + 50)).id;
    assert_eq!(client.body(), "once");
    let failed = desk.store.stats().jobs_failed;
    eventually("it is tried again", || (desk.store.stats().jobs_failed >= failed + 2).then_some(()));
    assert_eq!(desk.cancel(&id).expect_err("it was sent").code, ErrorCode::Conflict);
    client.heartbeat();
    assert_eq!(desk.record(&id).state, MessageState::Scheduled);
    eventually("its lifetime is over", || (now() > desk.record(&id).expires_at?).then_some(()));
    other.execute_batch("DROP TRIGGER refuse").expect("it is there");
    eventually("it is noted", || (desk.record(&id).state == MessageState::Sent).then_some(()));
    client.heartbeat();
}
