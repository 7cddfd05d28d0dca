//! What later joiners get, and what is taken back.

use std::time::Duration;

use hailer::desk::{Draft, Durability, ErrorCode, MessageState};
use serde_json::json;

use super::{Desk, Plan, at_level, copy_store, draft, kept, scheduled};
use crate::support::{Client, Folder, eventually};

/// What a client gets that joins at this moment.
fn bodies(desk: &Desk, topic: &str) -> Vec<serde_json::Value> {
    let mut client = desk.join(topic);
    let mark = client.push("phoenix", "heartbeat", &json!({}));
    let mut found = Vec::new();
    loop {
        let event = client.event();
        if event.message_ref == mark {
            return found;
        }
        found.push(event.payload["body"].clone());
    }
}

fn assert_retracted(client: &mut Client, id: &str) {
    let event = client.event();
    assert_eq!((&*event.event, event.payload), ("retract", json!({ "id": id })));
}

#[test]
fn later_joiners_get_it_after_a_restart_too_and_no_more_than_may_be_kept() {
    let folder = Folder::new("desk");
    let path = folder.file("kept.db");
    let mut desk = Plan::on_disk(&path).start();
    desk.publish(draft("room:1", "not kept"));
    for body in 1..=5 {
        desk.publish(kept(draft("room:1", body)));
    }
    desk.publish(kept(draft("room:2", "other")));
    assert_eq!(bodies(&desk, "room:1"), [3, 4, 5]);
    desk.end();
    let desk = Plan::on_disk(&path).start();
    assert_eq!(bodies(&desk, "room:1"), [3, 4, 5]);
    assert_eq!(bodies(&desk, "room:2"), ["other"]);
    desk.publish(kept(draft("room:1", 6)));
    assert_eq!(bodies(&desk, "room:1"), [4, 5, 6]);
}

#[test]
fn later_joiners_get_it_after_restarts_in_the_order_in_which_it_was_broadcast() {
    const PUBLISHERS: usize = 6;
    let folder = Folder::new("desk");
    let mut path = folder.file("kept.db");
    let plan = |path: &std::path::Path, max: usize| {
        let mut plan = Plan::on_disk(path);
        plan.config.kept_per_topic_max = max;
        plan.start()
    };
    let mut expected = Vec::new();
    // The second process goes on with a store as a kill leaves it, and its offsets begin again.
    for (run, killed) in ["killed-1.db", "killed-2.db"].into_iter().enumerate() {
        let desk = plan(&path, 1000);
        assert_eq!(bodies(&desk, "room:1"), expected, "restart {run}");
        let mut live = desk.join("room:1");
        for _ in 0..expected.len() {
            live.event();
        }
        std::thread::scope(|scope| {
            for publisher in 0..PUBLISHERS {
                let desk = &desk;
                scope.spawn(move || {
                    for number in 0..5 {
                        let level = if number % 2 == 0 { Durability::Disk } else { Durability::Memory };
                        let body = format!("{run}-{publisher}-{number}");
                        desk.publish(at_level(kept(draft("room:1", body)), level));
                    }
                });
            }
        });
        for _ in 0..PUBLISHERS * 5 {
            expected.push(live.body());
        }
        let written = || {
            let connection = rusqlite::Connection::open(&path).expect("it opens");
            let sql = "SELECT count(*) FROM messages WHERE offset IS NOT NULL";
            connection.query_row(sql, (), |row| row.get::<_, i64>(0)).expect("it can be read")
        };
        eventually("all places are written", || {
            (usize::try_from(written()) == Ok(expected.len())).then_some(())
        });
        copy_store(&path, &folder.file(killed));
        drop(desk);
        path = folder.file(killed);
    }
    // What is given up for want of room is what the process before would have given up.
    let desk = plan(&path, 7);
    assert_eq!(bodies(&desk, "room:1"), expected[expected.len() - 7..]);
}

#[test]
fn its_time_runs_out_and_a_restart_does_not_begin_it_anew() {
    let folder = Folder::new("desk");
    let path = folder.file("kept.db");
    let mut desk = Plan::on_disk(&path).start();
    desk.publish(Draft { lifetime: Some(Duration::from_millis(1)), ..draft("room:1", "short") });
    desk.publish(kept(draft("room:1", "long")));
    eventually("its time is over", || (bodies(&desk, "room:1") == ["long"]).then_some(()));
    desk.end();
    let desk = Plan::on_disk(&path).start();
    assert_eq!((bodies(&desk, "room:1"), desk.board.len()), (vec![json!("long")], 1));
}

#[test]
fn what_is_taken_back_is_said_once_and_not_given_to_later_joiners() {
    let folder = Folder::new("desk");
    let path = folder.file("kept.db");
    let mut desk = Plan::on_disk(&path).start();
    let mut client = desk.join("room:1");
    let [id, other] = ["a", "b"].map(|body| desk.publish(kept(draft("room:1", body))).id);
    assert_eq!((client.body(), client.body()), (json!("a"), json!("b")));
    let record = desk.retract(&id).expect("it can be taken back");
    assert_eq!((record.state, record.ended_by.as_deref()), (MessageState::Retracted, Some("key:ada")));
    assert!(record.ended_at.is_some());
    assert_retracted(&mut client, &id);
    assert_eq!(bodies(&desk, "room:1"), ["b"]);
    assert_eq!(desk.retract(&id).expect("it changes nothing"), record);
    client.heartbeat();
    desk.end();
    let desk = Plan::on_disk(&path).start();
    assert_eq!(bodies(&desk, "room:1"), ["b"]);
    // A message of an earlier process is taken back as well.
    let mut client = desk.join("room:1");
    assert_eq!(client.body(), "b");
    desk.retract(&other).expect("it can be taken back");
    assert_retracted(&mut client, &other);
    assert!(bodies(&desk, "room:1").is_empty());
}

#[test]
fn many_who_take_it_back_at_once_say_it_once() {
    let desk = Plan::default().start();
    let mut client = desk.join("room:1");
    let id = desk.publish(kept(draft("room:1", "a"))).id;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| desk.retract(&id).expect("it is taken back"));
        }
    });
    assert_eq!(client.body(), "a");
    assert_retracted(&mut client, &id);
    client.heartbeat();
}

#[test]
fn what_was_not_sent_or_carries_no_id_can_not_be_taken_back() {
    let desk = Plan::default().start();
    let code = |id: &str| desk.retract(id).expect_err("it can't be taken back").code;
    let plain = desk.publish(draft("room:1", 1)).id;
    let waiting = desk.publish(scheduled(kept(draft("room:1", 2)), super::now() + 1_000_000)).id;
    assert_eq!([code(&plain), code(&waiting)], [ErrorCode::Conflict; 2]);
    desk.cancel(&waiting).expect("it waits");
    assert_eq!(code(&waiting), ErrorCode::Conflict);
    assert_eq!(code("0190-no-such-message"), ErrorCode::NotFound);
}

#[test]
fn a_message_that_can_not_be_taken_back_for_want_of_room_stays_in_its_place() {
    let desk = Plan { limits: &[("mailbox_bytes_max", "64KiB")], ..Plan::default() }.start();
    let ids = [1, 2, 3].map(|body| desk.publish(kept(draft("room:1", body))).id);
    let before = desk.record(&ids[0]);
    let still = desk.stand_still();
    desk.fill_mailbox();
    assert_eq!(desk.retract(&ids[0]).expect_err("there is no room").code, ErrorCode::Overloaded);
    assert_eq!(desk.record(&ids[0]), before);
    drop(still);
    assert_eq!(bodies(&desk, "room:1"), [1, 2, 3]);
    eventually("room", || desk.retract(&ids[0]).ok());
    assert_eq!(bodies(&desk, "room:1"), [2, 3]);
}

#[test]
fn what_is_kept_of_all_topics_together_is_bounded_and_room_comes_back() {
    let mut plan = Plan::default();
    plan.config.kept_bytes_max = 1000;
    let desk = plan.start();
    let mut ids = Vec::new();
    let refused = (0..100).find_map(|number| {
        let draft = kept(draft(&format!("room:{number}"), number));
        desk.try_publish(draft).map(|published| ids.push(published.id)).err()
    });
    let refused = refused.expect("at some time there is no room");
    assert_eq!(refused.code, ErrorCode::Overloaded);
    assert!(refused.sentence.contains("kept_bytes_max"), "{refused}");
    assert!((2..20).contains(&ids.len()), "{} were kept", ids.len());
    // What is not kept is sent all the same, and what is taken back makes room.
    desk.publish(draft("room:0", "now"));
    desk.retract(&ids[0]).expect("it can be taken back");
    desk.publish(kept(draft("room:0", "again")));
}

#[test]
fn joiners_get_each_message_once_while_others_are_published_and_taken_back() {
    let mut plan = Plan { shards: 2, ..Plan::default() };
    plan.config.kept_per_topic_max = 1000;
    let desk = plan.start();
    let first = desk.publish(kept(draft("room:1", "first"))).id;
    let mut clients = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            for body in 0..100 {
                let id = desk.publish(kept(draft("room:1", body))).id;
                if body % 2 == 0 {
                    desk.retract(&id).expect("it can be taken back");
                }
            }
        });
        let mut clients = Vec::new();
        while !publishing.is_finished() && clients.len() < 50 {
            clients.push(desk.join("room:1"));
        }
        publishing.join().expect("it has not panicked");
        clients
    });
    desk.publish(draft("room:1", "last"));
    for client in &mut clients {
        let mut there = Vec::new();
        loop {
            let event = client.event();
            let body = event.payload["body"].clone();
            match &*event.event {
                "retract" => there.retain(|(id, _)| *id != event.payload["id"]),
                _ if body == "last" => break,
                _ => there.push((event.payload["id"].clone(), body)),
            }
        }
        assert_eq!(there.remove(0), (json!(first), json!("first")));
        let heard: Vec<_> = there.into_iter().map(|(_, body)| body).collect();
        assert_eq!(heard, (0..50).map(|half| json!(2 * half + 1)).collect::<Vec<_>>());
    }
}
