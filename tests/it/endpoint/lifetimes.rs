//! How channels end, and what reaches them from other threads.

use std::time::Duration;

use hailer::channel::{Ended, SendError, Stopped};
use hailer::phoenix::Serializer;
use serde_json::json;

use super::dialogue::{BOTH, Dialogue, FORMS, Transport, check};
use super::probe::{Book, config, config_with, config_with_book};

/// The lines that join `a` and `b` to `probe:1`, with join_ref "1".
const JOINED: &str = r#"
    a -> ["1","1","probe:1","phx_join",{}]
    a <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
    b -> ["1","1","probe:1","phx_join",{}]
    b <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
"#;

/// Lines of `a` and `b`, both joined, end one channel of `probe:1` for `expected` reason, once.
#[track_caller]
fn check_end(lines: &str, expected: Ended) {
    for form in FORMS {
        let (config, book) = config_with_book();
        let mut dialogue = Dialogue::over(&config, form);
        dialogue.play(JOINED);
        dialogue.play(lines);
        assert_eq!(book.take_ended(), [("probe:1".to_owned(), expected)]);
        dialogue.play(
            r#"
            a -> [null,"9","probe:1","echo",{}]
            a <- [null,"9","probe:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
            b -> ["1","9","probe:1","shout",{}]
            b <- [null,null,"probe:1","shout",{}]
            "#,
        );
        dialogue.server.settle();
        assert!(book.take_ended().is_empty());
    }
}

#[test]
fn a_channel_that_stops_closes() {
    check_end(
        r#"
        a -> ["1","2","probe:1","stop",{}]
        a <- ["1","1","probe:1","phx_close",{}]
        b <- [null,null,"probe:1","gone",{"why":"Stopped"}]
        "#,
        Ended::Stopped,
    );
    check_end(
        r#"
        a -> ["1","2","probe:1","reply_and_stop",{}]
        a <- ["1","2","probe:1","phx_reply",{"status":"ok","response":{}}]
        a <- ["1","1","probe:1","phx_close",{}]
        b <- [null,null,"probe:1","gone",{"why":"Stopped"}]
        "#,
        Ended::Stopped,
    );
}

#[test]
fn nothing_comes_from_a_channel_after_its_end() {
    check_end(
        r#"
        a -> ["1","2","probe:1","stop_and_reply",{}]
        a <- ["1","1","probe:1","phx_close",{}]
        b <- [null,null,"probe:1","gone",{"why":"Stopped"}]
        "#,
        Ended::Stopped,
    );
}

#[test]
fn a_channel_that_crashes_errs() {
    check_end(
        r#"
        a -> ["1","2","probe:1","no such event",{}]
        a <- ["1","1","probe:1","phx_error",{"reason":"channel_crash"}]
        b <- [null,null,"probe:1","gone",{"why":"Crashed"}]
        "#,
        Ended::Crashed,
    );
}

#[test]
fn what_a_callback_recorded_before_it_failed_is_not_done() {
    for how in ["shout_and_crash", "shout_and_panic"] {
        check_end(
            &format!(
                r#"
                a -> ["1","2","probe:1","{how}",{{}}]
                a <- ["1","1","probe:1","phx_error",{{"reason":"channel_crash"}}]
                b <- [null,null,"probe:1","gone",{{"why":"Crashed"}}]
                "#
            ),
            Ended::Crashed,
        );
    }
}

#[test]
fn a_crash_ends_no_other_channel_and_is_counted() {
    for form in FORMS {
        let mut dialogue = Dialogue::over(&config(), form);
        dialogue.play(
            r#"
            a -> ["1","1","probe:1","phx_join",{}]
            a <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
            a -> ["2","2","probe:2","phx_join",{}]
            a <- ["2","2","probe:2","phx_reply",{"status":"ok","response":{}}]
            a -> ["1","3","probe:1","crash",{}]
            a <- ["1","1","probe:1","phx_error",{"reason":"channel_crash"}]
            a -> ["2","4","probe:2","echo",{}]
            a <- ["2","4","probe:2","phx_reply",{"status":"ok","response":{}}]
            # The client joins again, as phoenix.js does.
            a -> ["5","5","probe:1","phx_join",{}]
            a <- ["5","5","probe:1","phx_reply",{"status":"ok","response":{}}]
            "#,
        );
        assert_eq!(dialogue.server.stats().channel_crashes, 1);
    }
}

#[test]
fn a_panic_in_terminate_harms_nobody() {
    for form in FORMS {
        let mut dialogue = Dialogue::over(&config(), form);
        dialogue.play(JOINED);
        dialogue.play(
            r#"
            a -> ["1","2","probe:1","note","panic"]
            a <- ["1","2","probe:1","phx_reply",{"status":"ok","response":null}]
            a -> ["1","3","probe:1","phx_leave",{}]
            a <- ["1","3","probe:1","phx_reply",{"status":"ok","response":{}}]
            a <- ["1","1","probe:1","phx_close",{}]
            b -> ["1","2","probe:1","echo",{}]
            b <- ["1","2","probe:1","phx_reply",{"status":"ok","response":{}}]
            a -> ["4","4","probe:1","phx_join",{}]
            a <- ["4","4","probe:1","phx_reply",{"status":"ok","response":{}}]
            "#,
        );
        assert_eq!(dialogue.server.stats().channel_crashes, 1);
    }
}

/// `a`, with two channels, is disconnected by `end`: nothing is sent about the channels, each ends once.
#[track_caller]
fn check_disconnect(end: impl Fn(&mut Dialogue)) {
    for serializer in BOTH {
        let (config, book) = config_with_book();
        let mut dialogue = Dialogue::new(&config, serializer);
        dialogue.play(JOINED);
        dialogue.play(
            r#"
            a -> ["2","2","probe:2","phx_join",{}]
            a <- ["2","2","probe:2","phx_reply",{"status":"ok","response":{}}]
            "#,
        );
        end(&mut dialogue);
        let mut ended = book.take_ended();
        ended.sort_by(|one, two| one.0.cmp(&two.0));
        let expected = ["probe:1", "probe:2"].map(|topic| (topic.to_owned(), Ended::Disconnected));
        assert_eq!(ended, expected);
        dialogue.play(r#"b <- [null,null,"probe:1","gone",{"why":"Disconnected"}]"#);
        assert_eq!(dialogue.server.stats().topics, 1);
        dialogue.server.advance(dialogue.server.limits().close_timeout * 2);
        assert!(book.take_ended().is_empty(), "each ends once");
    }
}

#[test]
fn a_connection_that_ends_ends_its_channels() {
    check_disconnect(|dialogue| {
        let client = dialogue.client("a");
        dialogue.server.hang_up(client);
        assert!(dialogue.take("a").is_empty());
        assert_eq!(dialogue.server.stats().closed_abruptly, 1);
    });
}

#[test]
fn a_close_ends_the_channels() {
    check_disconnect(|dialogue| {
        let (client, close) = (dialogue.client("a"), dialogue.masked("close 1000"));
        dialogue.server.send_bytes(client, &close);
        assert_eq!(dialogue.take("a"), ["close 1000"]);
        assert_eq!(dialogue.server.stats().closed_by_client, 1);
    });
}

#[test]
fn a_fault_ends_the_channels() {
    check_disconnect(|dialogue| {
        let client = dialogue.client("a");
        dialogue.server.send_text(client, "no message");
        assert_eq!(dialogue.take("a"), ["close 1007 the message is not valid JSON"]);
    });
}

#[test]
fn a_connection_that_breaks_while_it_is_written_to_ends_its_channels() {
    check_disconnect(|dialogue| {
        let client = dialogue.client("a");
        dialogue.server.cut(client);
        dialogue.server.broadcast("probe:2", "news", json!(1)).unwrap();
        assert!(dialogue.server.is_gone(client));
        assert_eq!(dialogue.server.stats().closed_abruptly, 1);
    });
}

#[test]
fn a_connection_that_breaks_while_it_is_answered_ends_its_channels() {
    check_disconnect(|dialogue| {
        let client = dialogue.client("a");
        dialogue.server.cut(client);
        dialogue.server.push(client, "probe:1", "echo", json!(1));
        assert!(dialogue.server.is_gone(client));
        assert_eq!(dialogue.server.stats().closed_abruptly, 1);
    });
}

#[test]
fn the_end_of_the_server_ends_the_channels() {
    for serializer in BOTH {
        let (config, book) = config_with_book();
        let mut dialogue = Dialogue::new(&config, serializer);
        dialogue.play(JOINED);
        dialogue.server.drain();
        let ended = book.take_ended();
        assert_eq!(ended, [(); 2].map(|()| ("probe:1".to_owned(), Ended::Disconnected)));
        assert_eq!(dialogue.take("a").last().unwrap(), "close 1012");
    }
}

#[test]
fn a_session_that_nobody_polls_ends_its_channels() {
    for serializer in BOTH {
        let (config, book) = config_with_book();
        let mut dialogue = Dialogue::over(&config, (serializer, Transport::LongPoll));
        dialogue.play(JOINED);
        let client = dialogue.client("a");
        dialogue.server.hang_up(client);
        let mut heard = Vec::new();
        for _ in 0..12 {
            dialogue.server.advance(Duration::from_secs(5));
            heard.extend(dialogue.take("b"));
        }
        assert_eq!(book.take_ended(), [("probe:1".to_owned(), Ended::Disconnected)]);
        assert_eq!(heard.len(), 1, "{heard:#?}");
        assert!(heard[0].contains("Disconnected"), "{heard:#?}");
        assert_eq!(dialogue.server.stats().sessions, 1);
    }
}

/// Joins `a` and has its channel's handle given out.
fn with_handle(form: (Serializer, Transport)) -> (Dialogue, std::sync::Arc<Book>) {
    let (config, book) = config_with_book();
    let mut dialogue = Dialogue::over(&config, form);
    dialogue.play(JOINED);
    dialogue.play(r#"a -> ["1","2","probe:1","handle",{}]"#);
    (dialogue, book)
}

#[test]
fn a_handle_reaches_its_channel_from_another_thread() {
    for form in FORMS {
        let (mut dialogue, book) = with_handle(form);
        let handle = book.take_handle();
        assert_eq!(handle.topic(), "probe:1");
        let sender = handle.clone();
        std::thread::spawn(move || {
            sender.push("news", json!({"n": 1}).into()).unwrap();
            sender.broadcast("news", json!({"n": 2}).into()).unwrap();
            sender.broadcast_from("news", json!({"n": 3}).into()).unwrap();
            sender.send("hello").unwrap();
        })
        .join()
        .unwrap();
        dialogue.server.settle();
        dialogue.play(
            r#"
            a <- ["1",null,"probe:1","news",{"n":1}]
            a <- [null,null,"probe:1","news",{"n":2}]
            a <- ["1",null,"probe:1","info",{"text":"hello"}]
            b <- [null,null,"probe:1","news",{"n":2}]
            b <- [null,null,"probe:1","news",{"n":3}]
            "#,
        );
    }
}

#[test]
fn there_is_nothing_to_answer_in_handle_info() {
    for form in FORMS {
        let (mut dialogue, book) = with_handle(form);
        book.take_handle().send("reply").unwrap();
        dialogue.server.settle();
        dialogue.play("");
    }
}

#[test]
fn a_crash_in_handle_info_ends_the_channel() {
    for form in FORMS {
        let (mut dialogue, book) = with_handle(form);
        book.take_handle().send("crash").unwrap();
        dialogue.server.settle();
        dialogue.play(
            r#"
            a <- ["1","1","probe:1","phx_error",{"reason":"channel_crash"}]
            b <- [null,null,"probe:1","gone",{"why":"Crashed"}]
            "#,
        );
        assert_eq!(book.take_ended(), [("probe:1".to_owned(), Ended::Crashed)]);
    }
}

#[test]
fn what_is_sent_to_a_channel_that_has_ended_is_dropped() {
    let ends = [
        ("phx_leave", 2),
        ("stop", 1),
        ("crash", 1),
        // A later join of the same topic is another channel.
        ("phx_join", 2),
    ];
    for form in FORMS {
        for (event, answers) in ends {
            let (mut dialogue, book) = with_handle(form);
            let handle = book.take_handle();
            let join_ref = if event == "phx_join" { "3" } else { "1" };
            dialogue.send("a", &format!(r#"["{join_ref}","3","probe:1","{event}",{{}}]"#));
            assert_eq!(dialogue.take("a").len(), answers, "{event}");
            dialogue.take("b");
            handle.push("news", json!(1).into()).unwrap();
            handle.send("hello").unwrap();
            dialogue.server.settle();
            dialogue.play("");
            // A broadcast needs no channel.
            handle.broadcast("news", json!(2).into()).unwrap();
            dialogue.server.settle();
            assert_eq!(dialogue.take("b").len(), 1, "{event}");
        }
    }
}

#[test]
fn what_is_sent_to_a_client_that_has_gone_reaches_nobody_in_its_place() {
    for serializer in BOTH {
        let (config, book) = config_with_book();
        let mut dialogue = Dialogue::new(&config, serializer);
        dialogue.play(JOINED);
        dialogue.play(r#"a -> ["1","2","probe:1","handle",{}]"#);
        let (handle, client) = (book.take_handle(), dialogue.client("a"));
        dialogue.server.hang_up(client);
        dialogue.take("b");
        // The next connection has the same place.
        dialogue.play(
            r#"
            c -> ["1","1","probe:1","phx_join",{}]
            c <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
            "#,
        );
        let (old, new) = (dialogue.server.connection_id(client), dialogue.client("c"));
        assert_eq!(old.slot(), dialogue.server.connection_id(new).slot());
        handle.push("news", json!(1).into()).unwrap();
        handle.send("hello").unwrap();
        handle.broadcast_from("news", json!(2).into()).unwrap();
        dialogue.server.settle();
        dialogue.play(
            r#"
            b <- [null,null,"probe:1","news",2]
            c <- [null,null,"probe:1","news",2]
            "#,
        );
    }
}

#[test]
fn an_answer_may_be_given_later() {
    for form in FORMS {
        let (config, book) = config_with_book();
        let mut dialogue = Dialogue::over(&config, form);
        dialogue.play(JOINED);
        dialogue.play(
            r#"
            a -> ["1","2","probe:1","defer",{}]
            a -> ["1",{"any":"ref"},"probe:1","defer",{}]
            a -> ["1",null,"probe:1","defer",{}]
            a -> ["1","5","probe:1","echo",{}]
            a <- ["1","5","probe:1","phx_reply",{"status":"ok","response":{}}]
            "#,
        );
        book.take_deferred().ok(json!({"late": true}).into()).unwrap();
        book.take_deferred().error(json!(7).into()).unwrap();
        book.take_deferred().reply("teapot", json!(8).into()).unwrap();
        dialogue.server.settle();
        dialogue.play(
            r#"
            a <- ["1","2","probe:1","phx_reply",{"status":"ok","response":{"late":true}}]
            a <- ["1",{"any":"ref"},"probe:1","phx_reply",{"status":"error","response":7}]
            a <- ["1",null,"probe:1","phx_reply",{"status":"teapot","response":8}]
            "#,
        );
    }
}

#[test]
fn a_later_answer_of_a_channel_that_has_ended_is_dropped() {
    for form in FORMS {
        let (config, book) = config_with_book();
        let mut dialogue = Dialogue::over(&config, form);
        dialogue.play(JOINED);
        dialogue.play(
            r#"
            a -> ["1","2","probe:1","defer",{}]
            a -> ["3","3","probe:1","phx_join",{}]
            a <- ["3","3","probe:1","phx_reply",{"status":"ok","response":{}}]
            a <- ["1","1","probe:1","phx_close",{}]
            b <- [null,null,"probe:1","gone",{"why":"Replaced"}]
            "#,
        );
        book.take_deferred().ok(json!({}).into()).unwrap();
        dialogue.server.settle();
        dialogue.play("");
    }
}

#[test]
fn a_push_whose_later_answer_is_never_given_waits_in_vain() {
    for form in FORMS {
        let (config, book) = config_with_book();
        let mut dialogue = Dialogue::over(&config, form);
        dialogue.play(JOINED);
        dialogue.play(
            r#"
            a -> ["1","2","probe:1","defer",{}]
            a -> ["1","3","probe:1","defer_twice",{}]
            a -> ["1","4","probe:1","forget",{}]
            a <- ["1","4","probe:1","phx_reply",{"status":"error","response":{"reason":"unanswered"}}]
            "#,
        );
        drop(book.take_deferred());
        // As long as one of two is there, it may still answer.
        drop(book.take_deferred());
        dialogue.server.settle();
        dialogue.play(
            r#"a <- ["1","2","probe:1","phx_reply",{"status":"error","response":{"reason":"unanswered"}}]"#,
        );
        drop(book.take_deferred());
        dialogue.server.settle();
        dialogue.play(
            r#"a <- ["1","3","probe:1","phx_reply",{"status":"error","response":{"reason":"unanswered"}}]"#,
        );
        assert_eq!(dialogue.server.stats().replies_dropped, 0);
    }
}

#[test]
fn an_answer_is_lost_in_a_full_mailbox() {
    let (mut config, book) = config_with_book();
    config.limits = config_with(&[("mailbox_commands_max", "1024"), ("mailbox_bytes_max", "64KiB")]).limits;
    for form in FORMS {
        let mut dialogue = Dialogue::over(&config, form);
        dialogue.play(JOINED);
        dialogue.play(
            r#"
            a -> ["1","2","probe:1","handle",{}]
            a -> ["1","3","probe:1","defer",{}]
            a -> ["1","4","probe:1","defer",{}]
            "#,
        );
        let handle = book.take_handle();
        while handle.send(0).is_ok() {}
        book.take_deferred().ok(json!("late").into()).unwrap();
        drop(book.take_deferred());
        dialogue.server.settle();
        dialogue.play(
            r#"
            a <- ["1","3","probe:1","phx_reply",{"status":"ok","response":"late"}]
            a <- ["1","4","probe:1","phx_reply",{"status":"error","response":{"reason":"unanswered"}}]
            "#,
        );
    }
}

#[test]
fn one_push_gets_two_replies() {
    for form in FORMS {
        let (config, book) = config_with_book();
        let mut dialogue = Dialogue::over(&config, form);
        dialogue.play(JOINED);
        let mut dropped = 0;
        let mut check = |dialogue: &mut Dialogue, more: u64| {
            dialogue.server.settle();
            dialogue.play("");
            dropped += more;
            assert_eq!(dialogue.server.stats().replies_dropped, dropped);
        };
        dialogue.play(
            r#"
            a -> ["1","2","probe:1","twice",{}]
            a <- ["1","2","probe:1","phx_reply",{"status":"ok","response":1}]
            "#,
        );
        check(&mut dialogue, 1);
        // In the callback, and then later; a later answer that is given up is no second one.
        dialogue.play(
            r#"
            a -> ["1","3","probe:1","reply_and_defer",{}]
            a <- ["1","3","probe:1","phx_reply",{"status":"ok","response":{}}]
            a -> ["1","4","probe:1","reply_and_defer",{}]
            a <- ["1","4","probe:1","phx_reply",{"status":"ok","response":{}}]
            "#,
        );
        check(&mut dialogue, 0);
        book.take_deferred().ok(json!("late").into()).unwrap();
        check(&mut dialogue, 1);
        drop(book.take_deferred());
        check(&mut dialogue, 0);
        // Twice later.
        dialogue.play(r#"a -> ["1","5","probe:1","defer_twice",{}]"#);
        book.take_deferred().error(json!("first").into()).unwrap();
        book.take_deferred().ok(json!("second").into()).unwrap();
        dialogue.server.settle();
        dialogue.play(r#"a <- ["1","5","probe:1","phx_reply",{"status":"error","response":"first"}]"#);
        check(&mut dialogue, 1);
        // Later, and before the callback's own, since that has waited for a broadcast.
        dialogue.play(
            r#"
            a -> ["1","6","probe:1","defer_shout_and_reply",{}]
            a <- ["1","6","probe:1","phx_reply",{"status":"ok","response":"deferred"}]
            a <- [null,null,"probe:1","shout",{}]
            b <- [null,null,"probe:1","shout",{}]
            "#,
        );
        check(&mut dialogue, 1);
        // Messages without a ref are each a message of their own.
        dialogue.play(
            r#"
            a -> ["1",null,"probe:1","echo",{}]
            a <- ["1",null,"probe:1","phx_reply",{"status":"ok","response":{}}]
            a -> ["1",null,"probe:1","echo",{}]
            a <- ["1",null,"probe:1","phx_reply",{"status":"ok","response":{}}]
            a -> ["1","2","probe:1","echo",{}]
            a <- ["1","2","probe:1","phx_reply",{"status":"ok","response":{}}]
            "#,
        );
        check(&mut dialogue, 0);
        // Behind the end of the channel no reply goes out, and nothing is wrong.
        dialogue.play(
            r#"
            a -> ["1","7","probe:1","reply_and_defer",{}]
            a <- ["1","7","probe:1","phx_reply",{"status":"ok","response":{}}]
            a -> ["1","8","probe:1","phx_leave",{}]
            a <- ["1","8","probe:1","phx_reply",{"status":"ok","response":{}}]
            a <- ["1","1","probe:1","phx_close",{}]
            b <- [null,null,"probe:1","gone",{"why":"Left"}]
            "#,
        );
        book.take_deferred().ok(json!("late").into()).unwrap();
        check(&mut dialogue, 0);
    }
}

#[test]
fn a_client_crashes_its_channel_with_a_payload_of_another_shape() {
    let invalid = r#"{"status":"error","response":{"reason":"invalid payload"}}"#;
    for form in FORMS {
        let (config, book) = config_with_book();
        let mut dialogue = Dialogue::over(&config, form);
        dialogue.play(&format!(
            r#"
            a -> ["1","1","probe:1","phx_join",{{"do":"read"}}]
            a <- ["1","1","probe:1","phx_reply",{invalid}]
            {JOINED}
            a -> ["1","2","probe:1","shout_to",{{"no":"text"}}]
            a <- ["1","2","probe:1","phx_reply",{invalid}]
            a -> ["1",null,"probe:1","shout_to",7]
            a <- ["1",null,"probe:1","phx_reply",{invalid}]
            # What was recorded before is not done, and it is answered once.
            a -> ["1","3","probe:1","act_and_read",{{}}]
            a <- ["1","3","probe:1","phx_reply",{invalid}]
            # As the cause of another error.
            a -> ["1","4","probe:1","read_and_wrap",{{}}]
            a <- ["1","4","probe:1","phx_reply",{invalid}]
            # The channel lives on.
            a -> ["1","5","probe:1","echo",{{}}]
            a <- ["1","5","probe:1","phx_reply",{{"status":"ok","response":{{}}}}]
            "#
        ));
        dialogue.server.settle();
        dialogue.play("");
        let stats = dialogue.server.stats();
        assert_eq!((stats.payloads_invalid, stats.channel_crashes, stats.replies_dropped), (5, 0, 0));
        assert!(book.take_ended().is_empty());
    }
}

#[test]
fn a_payload_of_the_application_s_own_that_can_t_be_read_is_a_crash() {
    for form in FORMS {
        let (mut dialogue, book) = with_handle(form);
        book.take_handle().send("read").unwrap();
        dialogue.server.settle();
        dialogue.play(
            r#"
            a <- ["1","1","probe:1","phx_error",{"reason":"channel_crash"}]
            b <- [null,null,"probe:1","gone",{"why":"Crashed"}]
            "#,
        );
        let stats = dialogue.server.stats();
        assert_eq!((stats.payloads_invalid, stats.channel_crashes), (0, 1));
    }
}

#[test]
fn nothing_that_is_sent_to_a_server_that_has_ended_is_said_to_be_sent() {
    let (config, book) = config_with_book();
    let mut dialogue = Dialogue::new(&config, Serializer::V2);
    dialogue.play(JOINED);
    dialogue.play(
        r#"
        a -> ["1","2","probe:1","handle",{}]
        a -> ["1","3","probe:1","defer",{}]
        a -> ["1","4","probe:1","defer",{}]
        "#,
    );
    let (handle, deferred) = (book.take_handle(), book.take_deferred());
    drop(dialogue);
    assert_eq!(handle.push("news", json!(1).into()).unwrap_err().error, SendError::Stopped);
    assert_eq!(handle.broadcast("news", json!(1).into()).unwrap_err().error, SendError::Stopped);
    assert_eq!(handle.broadcast_from("news", json!(1).into()).unwrap_err().error, SendError::Stopped);
    let refused = handle.send("hello").unwrap_err();
    assert_eq!((refused.error, refused.value), (SendError::Stopped, "hello"));
    assert_eq!(deferred.ok(json!(1).into()), Err(Stopped));
    drop(book.take_deferred());
}

#[test]
fn what_was_broadcast_before_an_end_comes_before_it() {
    check(&format!(
        r#"
        {JOINED}
        a -> ["1","2","probe:1","shout_and_reply",{{}}]
        a <- [null,null,"probe:1","shout",{{}}]
        a <- ["1","2","probe:1","phx_reply",{{"status":"ok","response":{{}}}}]
        b <- [null,null,"probe:1","shout",{{}}]
        "#
    ));
    // In one turn: each of the endings finds broadcasts that the client has not been sent yet.
    for serializer in BOTH {
        for (event, tail) in [("phx_leave", 2), ("stop", 1), ("crash", 1), ("phx_join", 2)] {
            let mut dialogue = Dialogue::new(&config(), serializer);
            dialogue.play(JOINED);
            let (a, b) = (dialogue.client("a"), dialogue.client("b"));
            let shouts: Vec<u8> = (0..3)
                .flat_map(|n| dialogue.masked(&format!(r#"["1","s","probe:1","shout",{n}]"#)))
                .collect();
            let end = dialogue.masked(&format!(r#"["1","e","probe:1","{event}",{{}}]"#));
            dialogue.server.feed(b, &shouts);
            dialogue.server.feed(a, &end);
            dialogue.server.feed(b, &shouts);
            dialogue.server.settle();
            let got = dialogue.take("a");
            let shouts = got.iter().filter(|line| line.contains("\"shout\"")).count();
            let again = if event == "phx_join" { 3 } else { 0 };
            assert_eq!((shouts, got.len()), (3 + again, 3 + again + tail), "{event}: {got:#?}");
            assert!(got[..3].iter().all(|line| line.contains("\"shout\"")), "{event}: {got:#?}");
        }
    }
}
