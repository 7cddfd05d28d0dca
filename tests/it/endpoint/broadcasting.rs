//! Broadcasts: to whom, in which order, how often.

use hailer::channel::PayloadBuf;
use hailer::phoenix::Serializer;
use serde_json::json;

use super::dialogue::{self, BOTH, Dialogue, check};
use super::probe::{config, config_with};

/// The lines that join each client to `probe:1`.
fn joined(clients: &str) -> String {
    dialogue::joined(clients, "probe:1")
}

#[test]
fn a_broadcast_reaches_all_subscribers_and_nobody_else() {
    check(&format!(
        r#"
        {}
        c -> ["1","1","probe:other","phx_join",{{}}]
        c <- ["1","1","probe:other","phx_reply",{{"status":"ok","response":{{}}}}]
        d -> [null,"1","phoenix","heartbeat",{{}}]
        d <- [null,"1","phoenix","phx_reply",{{"status":"ok","response":{{}}}}]
        a -> ["1","2","probe:1","shout",{{"n":1}}]
        a <- [null,null,"probe:1","shout",{{"n":1}}]
        b <- [null,null,"probe:1","shout",{{"n":1}}]
        "#,
        joined("a b")
    ));
}

#[test]
fn who_joins_later_gets_nothing_from_before() {
    check(&format!(
        r#"
        {}
        a -> ["1","2","probe:1","shout",1]
        a <- [null,null,"probe:1","shout",1]
        b -> ["1","1","probe:1","phx_join",{{}}]
        b <- ["1","1","probe:1","phx_reply",{{"status":"ok","response":{{}}}}]
        a -> ["1","3","probe:1","shout",2]
        a <- [null,null,"probe:1","shout",2]
        b <- [null,null,"probe:1","shout",2]
        "#,
        joined("a")
    ));
}

#[test]
fn actions_happen_in_their_order() {
    check(&format!(
        r#"
        {}
        a -> ["1","2","probe:1","shout_and_reply",{{}}]
        a <- [null,null,"probe:1","shout",{{}}]
        a <- ["1","2","probe:1","phx_reply",{{"status":"ok","response":{{}}}}]
        a -> ["1","3","probe:1","reply_and_shout",{{}}]
        a <- ["1","3","probe:1","phx_reply",{{"status":"ok","response":{{}}}}]
        a <- [null,null,"probe:1","shout",{{}}]
        "#,
        joined("a")
    ));
}

#[test]
fn messages_of_one_sender_come_in_their_order() {
    for serializer in BOTH {
        for shards in [1, 3] {
            let mut dialogue = Dialogue::on_shards(&config(), serializer, shards);
            dialogue.play(&joined("a b c"));
            let pushes: Vec<u8> = (0..100)
                .flat_map(|n| dialogue.masked(&format!(r#"["1","{n}","probe:1","shout",{n}]"#)))
                .collect();
            let sender = dialogue.client("a");
            dialogue.server.send_bytes(sender, &pushes);
            let expected = ["a", "b", "c"].map(|client| {
                let line = |n| format!("{client} <- [null,null,\"probe:1\",\"shout\",{n}]\n");
                (0..100).map(line).collect::<String>()
            });
            dialogue.play(&expected.concat());
        }
    }
}

#[test]
fn all_subscribers_of_all_shards_get_one_order() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::on_shards(&config(), serializer, 4);
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        dialogue.play(&joined(&names.join(" ")));
        // Every client says something in the same turn, and between them somebody outside does.
        for round in 0..20 {
            for name in names {
                let client = dialogue.client(name);
                let push = dialogue.masked(&format!(r#"["1","r","probe:1","shout","{name}{round}"]"#));
                dialogue.server.feed(client, &push);
            }
            dialogue.server.publish("probe:1", "shout", json!(round)).unwrap();
        }
        dialogue.server.settle();
        let first = dialogue.take("a");
        assert_eq!(first.len(), 20 * (names.len() + 1));
        for name in names {
            let theirs = if name == "a" { first.clone() } else { dialogue.take(name) };
            assert_eq!(theirs, first, "{name}");
            // What one sender said comes in the order in which it was said.
            let round_of =
                |line: &String| line.split('"').find_map(|part| part.strip_prefix(name)?.parse::<u32>().ok());
            assert!(theirs.iter().filter_map(round_of).eq(0..20), "{name}: {theirs:#?}");
        }
    }
}

#[test]
fn a_whisper_leaves_its_sender_out() {
    check(&format!(
        r#"
        {}
        a -> ["1","2","probe:1","whisper_and_reply",1]
        a <- ["1","2","probe:1","phx_reply",{{"status":"ok","response":{{}}}}]
        b <- [null,null,"probe:1","whisper",1]
        a -> ["1","3","probe:1","shout",2]
        a <- [null,null,"probe:1","shout",2]
        b <- [null,null,"probe:1","shout",2]
        "#,
        joined("a b")
    ));
}

#[test]
fn a_whisper_leaves_its_sender_out_on_every_shard() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::on_shards(&config(), serializer, 4);
        dialogue.play(&joined("a b c d e"));
        for (sender, number) in ["a", "b", "c", "d", "e"].iter().zip(0..) {
            let mut lines = format!("{sender} -> [\"1\",\"2\",\"probe:1\",\"whisper\",{number}]\n");
            for other in ["a", "b", "c", "d", "e"].iter().filter(|other| *other != sender) {
                lines += &format!("{other} <- [null,null,\"probe:1\",\"whisper\",{number}]\n");
            }
            dialogue.play(&lines);
        }
    }
}

#[test]
fn a_whisper_leaves_out_a_sender_that_is_alone() {
    check(&format!(
        r#"
        {}
        a -> ["1","2","probe:1","whisper",1]
        a -> ["1","3","probe:1","shout",2]
        a <- [null,null,"probe:1","shout",2]
        "#,
        joined("a")
    ));
}

#[test]
fn a_whisper_leaves_out_a_sender_that_is_behind() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        dialogue.play(&joined("a b"));
        let (a, b) = (dialogue.client("a"), dialogue.client("b"));
        // In one turn, so that none of it is written before all of it is said.
        let pushes: Vec<u8> =
            [("a", "shout", 1), ("a", "whisper", 2), ("a", "shout", 3), ("a", "whisper", 4)]
                .iter()
                .flat_map(|(_, event, n)| dialogue.masked(&format!(r#"["1","2","probe:1","{event}",{n}]"#)))
                .collect();
        dialogue.server.feed(a, &pushes);
        let answer = dialogue.masked(r#"["1","3","probe:1","whisper",5]"#);
        dialogue.server.feed(b, &answer);
        dialogue.server.settle();
        dialogue.play(
            r#"
            a <- [null,null,"probe:1","shout",1]
            a <- [null,null,"probe:1","shout",3]
            a <- [null,null,"probe:1","whisper",5]
            b <- [null,null,"probe:1","shout",1]
            b <- [null,null,"probe:1","whisper",2]
            b <- [null,null,"probe:1","shout",3]
            b <- [null,null,"probe:1","whisper",4]
            "#,
        );
    }
}

#[test]
fn a_whisper_leaves_out_a_sender_whose_window_is_shut_wherever_it_shuts() {
    let lines = r#"
        a <- [null,null,"probe:1","shout",1]
        a <- ["1","2","probe:1","phx_reply",{"status":"ok","response":{}}]
        a <- [null,null,"probe:1","shout",3]
        a <- ["1","2","probe:1","phx_reply",{"status":"ok","response":{}}]
        a <- ["1","2","probe:1","phx_reply",{"status":"ok","response":{}}]
        a <- [null,null,"probe:1","shout",6]
    "#;
    for serializer in BOTH {
        for window in 0..300 {
            let mut dialogue = Dialogue::new(&config(), serializer);
            dialogue.play(&joined("a b"));
            let (a, b) = (dialogue.client("a"), dialogue.client("b"));
            dialogue.server.set_window(a, Some(window));
            for (sender, event, n) in [
                (b, "shout", 1),
                (a, "whisper_and_reply", 2),
                (b, "shout", 3),
                (a, "whisper_and_reply", 4),
                (a, "whisper_and_reply", 5),
                (b, "shout", 6),
            ] {
                let push = dialogue.masked(&format!(r#"["1","2","probe:1","{event}",{n}]"#));
                dialogue.server.send_bytes(sender, &push);
            }
            dialogue.server.set_window(a, None);
            let other = dialogue.take("b");
            assert_eq!(other.len(), 6, "{other:?}");
            dialogue.play(lines);
        }
    }
}

#[test]
fn a_broadcast_to_another_topic_reaches_the_subscribers_of_that_topic() {
    check(&format!(
        r#"
        {}
        b -> ["2","2","probe:2","phx_join",{{}}]
        b <- ["2","2","probe:2","phx_reply",{{"status":"ok","response":{{}}}}]
        c -> ["2","2","probe:2","phx_join",{{}}]
        c <- ["2","2","probe:2","phx_reply",{{"status":"ok","response":{{}}}}]
        a -> ["1","2","probe:1","shout_to","probe:2"]
        b <- [null,null,"probe:2","shout",{{"from":"probe:1"}}]
        c <- [null,null,"probe:2","shout",{{"from":"probe:1"}}]
        a -> ["1","3","probe:1","shout_to","nobody is there"]
        "#,
        joined("a b")
    ));
}

#[test]
fn a_push_of_the_channel_reaches_its_client_alone_with_the_join_ref() {
    check(&format!(
        r#"
        {}
        a -> ["1","2","probe:1","push",{{"n":1}}]
        a <- ["1",null,"probe:1","pushed",{{"n":1}}]
        "#,
        joined("a b")
    ));
}

#[test]
fn a_broadcast_from_outside_reaches_both_serializers_in_their_forms() {
    let mut dialogue = Dialogue::new(&config(), Serializer::V2);
    dialogue.play(&joined("a"));
    let old = dialogue.server.connect_with(Serializer::V1);
    dialogue.server.join(old, "probe:1", json!({}));
    dialogue.server.broadcast("probe:1", "news", json!({"n": 1})).unwrap();
    dialogue.play(r#"a <- [null,null,"probe:1","news",{"n":1}]"#);
    let bytes = dialogue.server.take_bytes(old);
    let expected = br#"{"topic":"probe:1","event":"news","payload":{"n":1},"ref":null}"#;
    assert_eq!(&bytes[2..], expected);
    dialogue.server.push(old, "probe:1", "shout", json!(7));
    dialogue.play(r#"a <- [null,null,"probe:1","shout",7]"#);
    assert_eq!(dialogue.server.stats().broadcasts, 2);
}

#[test]
fn a_broadcast_to_a_topic_that_nobody_has_costs_nothing() {
    let mut dialogue = Dialogue::new(&config(), Serializer::V2);
    dialogue.play(&joined("a"));
    dialogue.server.broadcast("probe:2", "news", json!({})).unwrap();
    dialogue.server.broadcast("nope", "news", json!({})).unwrap();
    dialogue.play("");
    assert_eq!(dialogue.server.stats().broadcasts, 2);
    assert_eq!(dialogue.server.log_bytes(), 0);
}

#[test]
fn a_burst_costs_one_write_for_each_subscriber() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        dialogue.play(&joined("a b c"));
        let clients = ["a", "b", "c"].map(|name| dialogue.client(name));
        let before = clients.map(|client| dialogue.server.writes(client));
        for n in 0..50 {
            dialogue.server.publish("probe:1", "news", json!(n)).unwrap();
        }
        dialogue.server.settle();
        for (client, before) in clients.into_iter().zip(before) {
            assert_eq!(dialogue.server.writes(client), before + 1);
        }
        let expected = ["a", "b", "c"].map(|name| {
            let line = |n| format!("{name} <- [null,null,\"probe:1\",\"news\",{n}]\n");
            (0..50).map(line).collect::<String>()
        });
        dialogue.play(&expected.concat());
        assert_eq!(dialogue.server.log_bytes(), 0, "nobody waits for anything");
    }
}

#[test]
fn what_happens_to_a_connection_in_one_turn_is_one_write() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        dialogue.play(&joined("a b"));
        let (a, b) = (dialogue.client("a"), dialogue.client("b"));
        let before = dialogue.server.writes(a);
        let pushes: Vec<u8> = (0..10)
            .flat_map(|n| dialogue.masked(&format!(r#"["1","{n}","probe:1","shout_and_reply",{n}]"#)))
            .collect();
        dialogue.server.feed(a, &pushes);
        dialogue.server.feed(b, &pushes);
        dialogue.server.settle();
        assert_eq!(dialogue.server.writes(a), before + 1);
        assert_eq!(dialogue.take("a").len(), 30);
        assert_eq!(dialogue.take("b").len(), 30);
    }
}

#[test]
fn a_broadcast_to_many_is_written_in_slices() {
    let limits = [("writes_per_turn", "2"), ("mail_per_turn", "1")];
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config_with(&limits), serializer);
        dialogue.play(&joined("a b c d e"));
        let (a, e) = (dialogue.client("a"), dialogue.client("e"));
        for n in 0..3 {
            dialogue.server.publish("probe:1", "news", json!(n)).unwrap();
        }
        assert!(dialogue.server.turn(), "two of five are served");
        assert_eq!(dialogue.take("a"), [show(serializer, 0)]);
        assert!(dialogue.take("e").is_empty());
        // A heartbeat does not wait until the broadcast is through.
        let heartbeat = dialogue.masked(r#"[null,"7","phoenix","heartbeat",{}]"#);
        dialogue.server.feed(e, &heartbeat);
        dialogue.server.feed(a, &heartbeat);
        assert!(dialogue.server.turn());
        assert!(dialogue.take("e").iter().any(|line| line.contains("phoenix")));
        dialogue.server.settle();
        let rest: Vec<_> = dialogue.take("d");
        assert_eq!(rest, [show(serializer, 0), show(serializer, 1), show(serializer, 2)]);
    }
}

fn show(serializer: Serializer, n: u32) -> String {
    match serializer {
        Serializer::V1 => format!(r#"{{"topic":"probe:1","event":"news","payload":{n},"ref":null}}"#),
        Serializer::V2 => format!(r#"[null,null,"probe:1","news",{n}]"#),
    }
}

#[test]
fn an_intercepted_broadcast_goes_through_each_subscribers_channel() {
    check(&format!(
        r#"
        {}
        a -> ["1","2","probe:1","note","a's"]
        a <- ["1","2","probe:1","phx_reply",{{"status":"ok","response":null}}]
        b -> ["1","3","probe:1","secret",{{}}]
        a <- ["1",null,"probe:1","secret",{{"note":"a's"}}]
        b <- ["1",null,"probe:1","secret",{{"note":null}}]
        b -> ["1","4","probe:1","secret","hide"]
        "#,
        joined("a b")
    ));
}

#[test]
fn a_crash_over_an_intercepted_broadcast_ends_that_channel_alone() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        dialogue.play(&joined("a b"));
        dialogue.server.broadcast("probe:1", "secret", json!("crash")).unwrap();
        for name in ["a", "b"] {
            // The second to crash hears of the first one's end, or not, by the order of the calls.
            let got = dialogue.take(name);
            assert!(got.iter().any(|line| line.contains("phx_error")), "{got:?}");
        }
        assert_eq!(dialogue.server.stats().channel_crashes, 2);
        assert_eq!(dialogue.server.stats().topics, 0);
    }
}

#[test]
fn bytes_reach_the_clients_of_v2_alone() {
    let mut dialogue = Dialogue::new(&config(), Serializer::V2);
    dialogue.play(&joined("a"));
    let old = dialogue.server.connect_with(Serializer::V1);
    dialogue.server.join(old, "probe:1", json!({}));
    let bytes = || PayloadBuf::Binary((*b"\x00\xff").into());
    dialogue.server.broadcast("probe:1", "bin", bytes()).unwrap();
    let frames = dialogue.take_frames("a");
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].opcode, &*frames[0].payload), (0x2, &b"\x02\x07\x03probe:1bin\x00\xff"[..]));
    assert!(dialogue.server.take_bytes(old).is_empty());
    assert_eq!(dialogue.server.stats().broadcasts_unencodable, 1);
    // What V1 can carry still comes.
    dialogue.server.broadcast("probe:1", "news", json!({})).unwrap();
    assert!(!dialogue.server.take_bytes(old).is_empty());
}

#[test]
fn an_intercepted_broadcast_keeps_its_place_among_the_messages_of_a_packet() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        dialogue.play(&joined("a b"));
        let client = dialogue.client("a");
        // Who leaves after it has been said hears it, and who joins after it does not.
        let packet = [
            dialogue.masked(r#"["1","2","probe:1","secret",{}]"#),
            dialogue.masked(r#"["1","3","probe:1","phx_leave",{}]"#),
            dialogue.masked(r#"["4","4","probe:1","phx_join",{}]"#),
        ];
        dialogue.server.send_bytes(client, &packet.concat());
        dialogue.play(
            r#"
            a <- ["1",null,"probe:1","secret",{"note":null}]
            a <- ["1","3","probe:1","phx_reply",{"status":"ok","response":{}}]
            a <- ["1","1","probe:1","phx_close",{}]
            a <- ["4","4","probe:1","phx_reply",{"status":"ok","response":{}}]
            b <- ["1",null,"probe:1","secret",{"note":null}]
            b <- [null,null,"probe:1","gone",{"why":"Left"}]
            "#,
        );
    }
}
