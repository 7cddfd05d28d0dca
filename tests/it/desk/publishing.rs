//! What is sent at once: who gets it, what is answered, and what the record says.

use hailer::desk::{
    Disconnect, DisconnectWho, Draft, Durability, ErrorCode, MessageState, Publishing, Target,
};
use serde_json::{Value, json};

use super::{Desk, Lock, Plan, actor, at_level, copy_store, draft, now, scheduled};
use crate::support::{Client, Folder, eventually};

/// Clients of a topic, with one in each of three shards.
fn join_everywhere(desk: &Desk, topic: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    while desk.handle.stats().topics < 3 {
        clients.push(desk.join(topic));
        assert!(clients.len() < 200, "the kernel spreads connections over the shards");
    }
    clients
}

#[test]
fn all_subscribers_get_it_in_the_order_of_the_offsets_and_are_counted() {
    let desk = Plan { shards: 3, ..Plan::default() }.start();
    let mut clients = join_everywhere(&desk, "room:1");
    let count = clients.len() as u64;
    let first = desk.publish(draft("room:1", 0)).offset.expect("it was sent");
    let drafts = vec![draft("room:1", 1), draft("room:none", "nobody"), draft("room:1", 2)];
    let batch = desk.publish_all(drafts, None).expect("it can be published").messages;
    let answers: Vec<_> = batch.iter().map(|message| (message.offset, message.subscribers)).collect();
    assert_eq!(
        answers,
        [(Some(first + 1), Some(count)), (Some(first + 2), Some(0)), (Some(first + 3), Some(count))]
    );
    for client in &mut clients {
        for body in 0..3 {
            assert_eq!(client.body(), body);
        }
    }
    for message in &batch {
        let record = desk.record(&message.id);
        assert_eq!((record.offset, record.subscribers), (message.offset, message.subscribers));
        assert_eq!((record.state, &*record.sender), (MessageState::Sent, "key:orders"));
    }
}

#[test]
fn a_user_has_a_topic() {
    let desk = Plan { users: true, ..Plan::default() }.start();
    let mut tabs = [desk.join_as("ada", "user:ada"), desk.join_as("ada", "user:ada")];
    let mut other = desk.join_as("bob", "user:bob");
    let letter = Draft { target: Target::User("ada".to_owned()), ..draft("", "hi") };
    let published = desk.publish(letter);
    assert_eq!((&*published.topic, published.subscribers), ("user:ada", Some(2)));
    tabs.iter_mut().for_each(|tab| assert_eq!(tab.body(), "hi"));
    assert_eq!(desk.record(&published.id).user.as_deref(), Some("ada"));
    other.heartbeat();
    assert_eq!(desk.publisher.topic_of("eve").as_deref(), Some("user:eve"));
}

#[test]
fn records_are_kept_as_was_asked_for() {
    let folder = Folder::new("desk");
    let path = folder.file("kept.db");
    let desk = Plan::on_disk(&path).start();
    let none = desk.publish(at_level(draft("room:1", 0), Durability::None));
    assert_eq!((none.durability, desk.ids().len()), (Durability::None, 0));
    let memory = desk.publish(draft("room:1", 1));
    assert_eq!((memory.durability, desk.record(&memory.id).offset), (Durability::Memory, memory.offset));
    let disk = desk.publish(at_level(draft("room:1", 2), Durability::Disk));
    assert_eq!(disk.durability, Durability::Disk);
    let copy = folder.file("copy.db");
    copy_store(&path, &copy);
    let after = Plan::on_disk(&copy).start();
    assert_eq!(after.record(&disk.id).state, MessageState::Sent);
    // What has to be found later has a record.
    let id = desk.publish(Draft { with_id: true, ..at_level(draft("room:1", 3), Durability::None) });
    assert_eq!(id.durability, Durability::Memory);
    let payload: Value = serde_json::from_str(desk.record(&id.id).payload.get()).expect("it is JSON");
    assert_eq!(payload, json!({"id": id.id, "body": 3}));

    let without = Plan::default().start();
    assert_eq!(without.refused(at_level(draft("room:1", 0), Durability::Disk)), ErrorCode::Invalid);
}

#[test]
fn a_record_is_found_while_it_is_being_written() {
    let folder = Folder::new("desk");
    let path = folder.file("kept.db");
    let desk = Plan::on_disk(&path).start();
    let lock = Lock::new(&path);
    let published = desk.publish(draft("room:1", 1));
    eventually("the writer waits for the lock", || (desk.store.stats().queue == 0).then_some(()));
    std::thread::scope(|scope| {
        let found = scope.spawn(|| desk.record(&published.id).id);
        let listed = scope.spawn(|| desk.ids());
        eventually("both wait", || (desk.store.stats().queue == 2).then_some(()));
        drop(lock);
        assert_eq!(found.join().expect("it is found"), published.id);
        assert_eq!(listed.join().expect("it is listed"), std::slice::from_ref(&published.id));
    });
}

#[test]
fn a_bad_draft_among_good_ones_keeps_all_from_being_sent() {
    let folder = Folder::new("desk");
    let desk = Plan::on_disk(&folder.file("kept.db")).start();
    let mut client = desk.join("room:1");
    let good = || at_level(draft("room:1", "good"), Durability::Disk);
    let bad = Draft { event: "phx_join".to_owned(), ..good() };
    let error = desk.publish_all(vec![good(), bad, good()], Some("k")).expect_err("one is bad");
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::Invalid, Some("messages[1].event")));
    assert_eq!(desk.ids(), [""; 0]);
    client.heartbeat();
    assert!(!desk.publish_all(vec![good()], Some("k")).expect("the key is free").replayed);
    assert_eq!(client.body(), "good");
}

#[test]
fn a_full_mailbox_keeps_all_from_being_sent_and_no_trace_is_left() {
    let folder = Folder::new("desk");
    let path = folder.file("kept.db");
    let desk = Plan { limits: &[("mailbox_bytes_max", "64KiB")], ..Plan::on_disk(&path) }.start();
    let mut client = desk.join("room:1");
    let still = desk.stand_still();
    desk.fill_mailbox();
    let drafts = || {
        let later = scheduled(draft("room:1", "later"), now() + 1_000_000);
        vec![at_level(draft("room:1", "now"), Durability::Disk), super::kept(draft("room:1", "kept")), later]
    };
    let error = desk.publish_all(drafts(), Some("k")).expect_err("there is no room");
    assert_eq!(error.code, ErrorCode::Overloaded);
    assert_eq!((desk.ids(), desk.board.len()), (Vec::new(), 0));
    let stored = desk.store.reader().idempotency("key:orders", "k", now()).expect("it can be read");
    assert_eq!(stored, None);
    drop(still);
    let reply = eventually("room", || desk.publish_all(drafts(), Some("k")).ok());
    assert!(!reply.replayed);
    assert_eq!((client.body(), client.body()), (json!("now"), json!("kept")));
    assert_eq!(desk.ids().len(), 3);
}

#[test]
fn what_can_not_be_removed_while_the_store_fails_is_removed_later() {
    let folder = Folder::new("desk");
    let path = folder.file("kept.db");
    let limits = &[("mailbox_bytes_max", "64KiB")];
    let desk = Plan { limits, clerk: true, ..Plan::on_disk(&path) }.start();
    let still = desk.stand_still();
    desk.fill_mailbox();
    // Refuses to remove messages for as long as it is there.
    let other = rusqlite::Connection::open(&path).expect("it opens");
    let trigger = "CREATE TRIGGER refuse BEFORE DELETE ON messages BEGIN SELECT raise(ABORT, 'no'); END";
    other.execute_batch(trigger).expect("it can be made");
    let error = desk
        .publish_all(vec![at_level(draft("room:1", 1), Durability::Disk)], Some("k"))
        .expect_err("there is no room");
    assert_eq!(error.code, ErrorCode::Overloaded, "and not what the store says");
    assert_eq!(desk.ids().len(), 1);
    other.execute_batch("DROP TRIGGER refuse").expect("it is there");
    eventually("its removal", || desk.ids().is_empty().then_some(()));
    let stored = desk.store.reader().idempotency("key:orders", "k", now()).expect("it can be read");
    assert_eq!(stored, None);
    drop(still);
}

#[test]
fn a_store_that_can_not_be_written_keeps_level_disk_from_being_sent() {
    let folder = Folder::new("desk");
    let path = folder.file("kept.db");
    let desk = Plan::on_disk(&path).start();
    let mut client = desk.join("room:1");
    std::fs::remove_file(&path).expect("it is there");
    let refused = desk.refused(at_level(draft("room:1", "disk"), Durability::Disk));
    assert_eq!(refused, ErrorCode::StoreUnavailable);
    assert_eq!(desk.publish(draft("room:1", "memory")).subscribers, Some(1));
    assert_eq!(client.body(), "memory");
}

#[test]
fn a_shard_that_does_not_count_in_time_leaves_the_number_open() {
    let desk = Plan::default().start();
    let mut client = desk.join("room:1");
    let still = desk.stand_still();
    let published = desk.publish(draft("room:1", "late"));
    assert_eq!((published.subscribers, published.offset.is_some()), (None, true));
    drop(still);
    assert_eq!(client.body(), "late");
}

#[test]
fn sockets_are_closed_by_user_by_id_and_one_by_one_and_counted() {
    let desk = Plan { users: true, shards: 2, ..Plan::default() }.start();
    let mut tabs: Vec<_> = (0..5).map(|_| desk.join_as("ada", "room:1")).collect();
    let mut bob = desk.join_as("bob", "room:1");
    let disconnect = |who: DisconnectWho, reconnect: bool| {
        let disconnect = Disconnect { who, reconnect };
        desk.publisher.disconnect(&disconnect, &actor("orders"), now())
    };
    let user = |name: &str| DisconnectWho::User(name.to_owned());
    assert_eq!(disconnect(user("ada"), false).expect("there is room").sockets, 5);
    for tab in &mut tabs {
        assert_eq!(tab.closed().map(|(code, _)| code), Some(1000));
    }
    assert_eq!(disconnect(user("ada"), false).expect("there is room").sockets, 0);
    let id = DisconnectWho::SocketId("user_socket:bob".to_owned());
    assert_eq!(disconnect(id, true).expect("there is room").sockets, 1);
    assert_eq!(bob.closed().map(|(code, _)| code), Some(1001));
    for (who, field) in [
        (user(""), "user"),
        (DisconnectWho::SocketId(String::new()), "socket_id"),
        (DisconnectWho::Connection("nonsense".to_owned()), "connection"),
    ] {
        let error = disconnect(who, true).expect_err("it names nobody");
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::Invalid, Some(field)));
    }
}

#[test]
fn a_message_says_which_one_it_repeats() {
    let desk = Plan::default().start();
    let first = desk.publish(draft("room:1", 1));
    let again = desk.publish(Draft { resend_of: Some(first.id.clone()), ..draft("room:1", 1) });
    assert_ne!(first.id, again.id);
    assert_eq!(desk.record(&again.id).resend_of, Some(first.id));
}

#[test]
fn old_records_are_forgotten_and_those_that_are_needed_stay() {
    let mut plan = Plan { clerk: true, ..Plan::default() };
    plan.config.records_max = 2;
    let folder = Folder::new("desk");
    let path = folder.file("kept.db");
    let filling = Plan::on_disk(&path).start();
    let kept = filling.publish(super::kept(draft("room:1", "kept"))).id;
    let waiting = filling.publish(scheduled(draft("room:1", "waits"), now() + 1_000_000)).id;
    let ids: Vec<_> = (0..5).map(|body| filling.publish(draft("room:1", body)).id).collect();
    drop(filling);
    // The thread tidies up when it begins.
    plan.store = Some(path);
    plan.config.on_disk = true;
    let desk = plan.start();
    let expected = [ids[4].clone(), ids[3].clone(), waiting, kept];
    eventually("the others are forgotten", || (desk.ids() == expected).then_some(()));
}
