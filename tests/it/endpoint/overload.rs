//! More than a shard can take, or can write at once.

use hailer::channel::SendError;
use serde_json::json;

use super::dialogue::{BOTH, Dialogue, joined};
use super::probe::{config, config_with, config_with_book};

#[test]
fn a_full_mailbox_refuses_a_broadcast_for_everybody() {
    for serializer in BOTH {
        for shards in [1, 3] {
            let config = config_with(&[("mailbox_bytes_max", "64KiB")]);
            let mut dialogue = Dialogue::on_shards(&config, serializer, shards);
            dialogue.play(&joined("a b c", "probe:1"));
            let mut published = 0;
            let body = json!("x".repeat(1000));
            while dialogue.server.publish("probe:1", "news", body.clone()).is_ok() {
                published += 1;
            }
            assert!((30..64).contains(&published), "{published}");
            let refused = dialogue.server.publish("probe:1", "news", body.clone()).unwrap_err();
            assert_eq!(
                (refused.error, refused.value.len()),
                (SendError::Overloaded, 1002),
                "it is given back"
            );
            assert_eq!(dialogue.server.stats().broadcasts_refused, 2);
            dialogue.server.settle();
            for name in ["a", "b", "c"] {
                assert_eq!(dialogue.take(name).len(), published, "all or nobody");
            }
            dialogue.server.broadcast("probe:1", "news", json!(1)).unwrap();
            assert_eq!(dialogue.take("a").len(), 1);
        }
    }
}

#[test]
fn the_number_of_commands_in_a_mailbox_is_bounded() {
    let (mut config, book) = config_with_book();
    config.limits = config_with(&[("mailbox_commands_max", "1024")]).limits;
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config, serializer);
        dialogue.play(&joined("a", "probe:1"));
        dialogue.play(r#"a -> ["1","2","probe:1","handle",{}]"#);
        let handle = book.take_handle();
        for n in 0..1024 {
            match n % 3 {
                0 => handle.send("hello").unwrap(),
                1 => handle.push("news", json!(n).into()).unwrap(),
                _ => handle.broadcast("news", json!(n).into()).unwrap(),
            }
        }
        let refused = handle.send("hello").unwrap_err();
        assert_eq!((refused.error, refused.value), (SendError::Overloaded, "hello"), "it is given back");
        for refused in [
            handle.push("news", json!(123).into()),
            handle.broadcast("news", json!(123).into()),
            handle.broadcast_from("news", json!(123).into()),
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(
                (refused.error, refused.value.as_payload().as_json_str()),
                (SendError::Overloaded, Some("123"))
            );
        }
        dialogue.server.settle();
        assert_eq!(dialogue.take("a").len(), 1024);
        handle.send("hello").unwrap();
    }
}

#[test]
fn a_push_that_cannot_be_broadcast_is_answered_with_one_error() {
    let overloaded = r#""phx_reply",{"status":"error","response":{"reason":"overloaded"}}"#;
    for (event, payload, answers) in [
        ("shout", "\"LARGE\"", vec![overloaded]),
        ("shout_and_reply", "\"LARGE\"", vec![overloaded]),
        ("whisper_and_reply", "\"LARGE\"", vec![overloaded]),
        ("reply_and_shout", "\"LARGE\"", vec![r#""phx_reply",{"status":"ok","response":{}}"#]),
    ] {
        for serializer in BOTH {
            let config = config_with(&[
                ("mailbox_bytes_max", "64KiB"),
                ("frame_bytes_max", "1MiB"),
                ("message_bytes_max", "1MiB"),
            ]);
            let mut dialogue = Dialogue::on_shards(&config, serializer, 2);
            dialogue.play(&joined("a b", "probe:1"));
            let client = dialogue.client("a");
            let payload = payload.replace("LARGE", &"x".repeat(70_000));
            let push = dialogue.masked(&format!(r#"["1","2","probe:1","{event}",{payload}]"#));
            dialogue.server.send_bytes(client, &push);
            let lines: String =
                answers.iter().map(|answer| format!("a <- [\"1\",\"2\",\"probe:1\",{answer}]\n")).collect();
            dialogue.play(&lines);
            assert_eq!(dialogue.server.stats().broadcasts_refused, 1);
            // The channel lives on.
            dialogue.play(
                r#"
                a -> ["1","3","probe:1","shout",1]
                a <- [null,null,"probe:1","shout",1]
                b <- [null,null,"probe:1","shout",1]
                "#,
            );
        }
    }
}

#[test]
fn a_message_of_the_room_that_cannot_be_broadcast_is_answered() {
    for serializer in BOTH {
        let config = config_with(&[("mailbox_bytes_max", "64KiB")]);
        let mut dialogue = Dialogue::on_shards(&config, serializer, 2);
        dialogue.play(
            r#"
            a -> ["1","1","room:1","phx_join",{}]
            a <- ["1","1","room:1","phx_reply",{"status":"ok","response":{}}]
            b -> ["1","1","room:1","phx_join",{}]
            b <- ["1","1","room:1","phx_reply",{"status":"ok","response":{}}]
            "#,
        );
        // The mailbox of the other shard is full; that of the sender's own shard has been taken.
        let client = dialogue.client("a");
        let body = format!(r#"["1","2","room:1","new_msg",{{"body":"{}"}}]"#, "x".repeat(50_000));
        let push = dialogue.masked(&body);
        dialogue.server.feed(client, &push);
        dialogue.server.feed(client, &push);
        dialogue.server.settle();
        let got = dialogue.take("a");
        assert_eq!(got.len(), 2);
        assert!(got[1].contains(r#"{"status":"error","response":{"reason":"overloaded"}}"#), "{}", got[1]);
        assert_eq!(dialogue.take("b").len(), 1, "nobody has got the second");
    }
}

#[test]
fn a_publisher_that_outruns_the_fan_out_makes_no_healthy_reader_look_slow() {
    let limits = [("topic_log_bytes_max", "8192"), ("writes_per_turn", "2")];
    for serializer in BOTH {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut dialogue = Dialogue::new(&config_with(&limits), serializer);
        dialogue.play(&joined(&names.join(" "), "probe:1"));
        for name in names {
            let client = dialogue.client(name);
            dialogue.server.set_pace(client, 16 * 1024);
        }
        for n in 0..500 {
            dialogue.server.publish("probe:1", "news", json!({"n": n, "text": "x".repeat(200)})).unwrap();
        }
        let mut most = 0;
        while dialogue.server.turn() {
            most = most.max(dialogue.server.log_bytes());
        }
        assert!(most <= 2 * 8192, "the log has held {most} bytes");
        assert_eq!(dialogue.server.stats().closed_slow_reader, 0);
        for name in names {
            assert_eq!(dialogue.take(name).len(), 500, "{name}");
        }
    }
}

#[test]
fn a_publisher_that_never_pauses_makes_no_log_grow() {
    let limits = [("topic_log_bytes_max", "8192"), ("writes_per_turn", "2")];
    for serializer in BOTH {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut dialogue = Dialogue::new(&config_with(&limits), serializer);
        dialogue.play(&joined(&names.join(" "), "probe:1"));
        let mut published = 0;
        for turn in 0..2000 {
            for _ in 0..3 {
                let body = json!({"n": published, "text": "x".repeat(200)});
                dialogue.server.publish("probe:1", "news", body).unwrap();
                published += 1;
            }
            dialogue.server.turn();
            let held = dialogue.server.log_bytes();
            assert!(held <= 3 * 8192, "in turn {turn} the log holds {held} bytes");
        }
        dialogue.server.settle();
        assert_eq!(dialogue.server.stats().closed_slow_reader, 0);
        for name in names {
            assert_eq!(dialogue.take(name).len(), published, "{name}");
        }
    }
}

#[test]
fn a_push_amid_a_burst_from_outside_makes_no_healthy_reader_look_slow() {
    let limits = [("topic_log_bytes_max", "8192"), ("mail_per_turn", "8")];
    for serializer in BOTH {
        let names = ["a", "b", "c"];
        let mut dialogue = Dialogue::new(&config_with(&limits), serializer);
        dialogue.play(&joined(&names.join(" "), "probe:1"));
        let sender = dialogue.client("a");
        for name in names {
            let client = dialogue.client(name);
            dialogue.server.set_pace(client, 16 * 1024);
        }
        for n in 0..500 {
            dialogue.server.publish("probe:1", "news", json!({"n": n, "text": "x".repeat(200)})).unwrap();
        }
        let push = dialogue.masked(r#"["1","2","probe:1","shout_and_reply",{}]"#);
        dialogue.server.feed(sender, &push);
        dialogue.server.settle();
        assert_eq!(dialogue.server.stats().closed_slow_reader, 0);
        for name in names {
            let expected = if name == "a" { 502 } else { 501 };
            assert_eq!(dialogue.take(name).len(), expected, "{name}");
        }
    }
}

#[test]
fn what_is_left_of_many_calls_is_done_without_waiting_for_an_event() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        dialogue.play(&joined("a b", "probe:1"));
        let client = dialogue.client("a");
        let hide = dialogue.masked(r#"["1","2","probe:1","secret","hide"]"#);
        let show = dialogue.masked(r#"["1","2","probe:1","secret","show"]"#);
        let pushes = [hide.repeat(5000), show].concat();
        dialogue.server.send_bytes(client, &pushes);
        assert_eq!((dialogue.take("a").len(), dialogue.take("b").len()), (1, 1));
    }
}

#[test]
fn a_burst_of_pushes_of_a_client_that_reads_is_answered() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        let client = dialogue.client("a");
        let heartbeats = dialogue.masked(r#"[null,"1","phoenix","heartbeat",{}]"#).repeat(20_000);
        dialogue.server.send_bytes(client, &heartbeats);
        assert_eq!(dialogue.take("a").len(), 20_000);
        assert_eq!(dialogue.server.stats().closed_outbox_full, 0);
    }
}
