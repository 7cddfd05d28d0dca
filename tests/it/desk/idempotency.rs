//! Requests that are repeated.

use hailer::desk::{Durability, ErrorCode, Publish, PublishReply, Publishing};

use super::{Plan, actor, at_level, copy_store, draft, now};
use crate::support::{Folder, eventually};

#[test]
fn a_request_that_is_repeated_is_answered_as_the_first_and_publishes_nothing() {
    let desk = Plan::default().start();
    let mut client = desk.join("room:1");
    let drafts = || vec![draft("room:1", 1), draft("room:1", 2)];
    let first = desk.publish_all(drafts(), Some("k")).expect("it is the first");
    let again = desk.publish_all(drafts(), Some("k")).expect("it is answered");
    assert!(!first.replayed && again.replayed);
    assert_eq!(first.messages, again.messages);
    let other = desk.publish_all(vec![draft("room:1", 3)], Some("k")).expect_err("it is another request");
    assert_eq!(other.code, ErrorCode::IdempotencyMismatch);
    // Keys of others have nothing to do with it.
    let publish = Publish { drafts: vec![draft("room:1", 4)], idempotency_key: Some("k".to_owned()) };
    let theirs = desk.publisher.publish(publish, &actor("billing"), now()).expect("it is their first");
    assert!(!theirs.replayed);
    assert_eq!([client.body(), client.body(), client.body()], [1, 2, 4]);
    client.heartbeat();
}

#[test]
fn a_key_is_free_again_when_its_time_is_over() {
    let desk = Plan::default().start();
    let at = now();
    let publish = |at| {
        let publish = Publish { drafts: vec![draft("room:1", 1)], idempotency_key: Some("k".to_owned()) };
        desk.publisher.publish(publish, &actor("orders"), at).expect("it is answered").replayed
    };
    let hour = 60 * 60 * 1000;
    assert_eq!([publish(at), publish(at + hour - 1), publish(at + hour)], [false, true, false]);
}

#[test]
fn answers_outlive_the_process_at_each_level() {
    let folder = Folder::new("desk");
    let path = folder.file("kept.db");
    let mut desk = Plan::on_disk(&path).start();
    let levels = [Durability::None, Durability::Memory, Durability::Disk];
    let publish = |desk: &super::Desk, level: Durability| {
        let drafts = vec![at_level(draft("room:1", 1), level)];
        desk.publish_all(drafts, Some(&format!("{level:?}"))).expect("it is answered")
    };
    let first = levels.map(|level| publish(&desk, level));
    desk.end();
    let desk = Plan::on_disk(&path).start();
    for (level, first) in levels.into_iter().zip(first) {
        let again = publish(&desk, level);
        assert!(again.replayed && !first.replayed, "{level:?}");
        assert_eq!(again.messages, first.messages, "{level:?}");
    }
    assert_eq!(desk.ids().len(), 2);
}

#[test]
fn a_request_under_way_is_not_begun_again_and_a_killed_process_knows_it() {
    let folder = Folder::new("desk");
    let (path, copy) = (folder.file("kept.db"), folder.file("copy.db"));
    let desk = Plan::on_disk(&path).start();
    let mut client = desk.join("room:1");
    let drafts = || vec![at_level(draft("room:1", 1), Durability::Disk)];
    let stored = |key: &str| {
        let entry = desk.store.reader().idempotency("key:orders", key, now()).expect("it can be read");
        entry.map(|entry| serde_json::from_str::<PublishReply>(&entry.reply).expect("it is an answer"))
    };
    let mut keys = (0..).map(|number: u32| number.to_string());
    // A publish waits for a shard that stands still, but not for long.
    let (key, first) = eventually("it is seen while it is under way", || {
        let key = keys.next().expect("there are many");
        let still = desk.stand_still();
        let (second, first, seen) = std::thread::scope(|scope| {
            let first = scope.spawn(|| desk.publish_all(drafts(), Some(&key)).expect("it is the first"));
            eventually("the record", || stored(&key));
            let second = desk.publish_all(drafts(), Some(&key));
            let _ = std::fs::remove_file(&copy);
            copy_store(&path, &copy);
            let seen = stored(&key).expect("it is there");
            drop(still);
            (second, first.join().expect("it has not panicked"), seen)
        });
        assert_eq!(client.body(), 1);
        client.heartbeat();
        if seen.messages[0].offset.is_some() {
            return None;
        }
        assert_eq!(second.expect_err("it is under way").code, ErrorCode::IdempotencyInProgress);
        Some((key, first))
    });

    // As it was when the shard had not counted yet.
    let after = Plan::on_disk(&copy).start();
    let again = after.publish_all(drafts(), Some(&key)).expect("it is answered");
    assert!(again.replayed);
    let (again, first) = (&again.messages[0], &first.messages[0]);
    assert_eq!((&again.id, &again.topic, again.state), (&first.id, &first.topic, first.state));
    assert_eq!((again.offset, again.subscribers, again.durability), (None, None, Durability::Disk));
    assert_eq!(after.ids().first(), Some(&first.id));
}

#[test]
fn keys_are_bounded() {
    let mut plan = Plan::default();
    plan.config.idempotency_keys_max = 2;
    let desk = plan.start();
    let publish = |key: &str| desk.publish_all(vec![draft("room:1", 1)], Some(key));
    for key in ["a", "b"] {
        publish(key).expect("there is room");
    }
    assert_eq!(publish("c").expect_err("there is none").code, ErrorCode::Overloaded);
    assert!(publish("a").expect("it is remembered").replayed);
}
