//! Clients that take their bytes slowly, in part, or not at all.

use std::time::Duration;

use hailer::limits::Limits;
use hailer::phoenix::Serializer;
use hailer::testing::ClientId;
use serde_json::{Value, json};

use super::dialogue::{BOTH, Dialogue, joined};
use super::probe::{config, config_with};

#[test]
fn a_stalled_reader_owns_no_queue_and_holds_up_nobody() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        dialogue.play(&joined("a b", "room:1"));
        let (slow, quick) = (dialogue.client("a"), dialogue.client("b"));
        dialogue.server.set_window(slow, Some(10));
        for n in 0..1000 {
            dialogue.server.broadcast("room:1", "news", json!({"n": n})).unwrap();
            assert_eq!(dialogue.take("b").len(), 1);
        }
        let writes = dialogue.server.writes(slow);
        assert!(writes <= 4, "nothing is offered to it in vain: {writes} writes");
        assert_eq!(dialogue.server.outbox_bytes(slow), 0);
        let held = dialogue.server.log_bytes();
        assert!((30_000..100_000).contains(&held), "the log holds what it has not got, once: {held}");
        // Another one that is slow from the same place costs nothing more.
        dialogue.play(&joined("c", "room:1"));
        let third = dialogue.client("c");
        dialogue.server.set_window(third, Some(0));
        dialogue.server.broadcast("room:1", "news", json!({"n": 1000})).unwrap();
        assert!(dialogue.server.log_bytes() < held + 100);
        for client in [slow, third, quick] {
            assert_eq!(dialogue.server.closed(client), None);
        }
        dialogue.server.set_window(slow, None);
        dialogue.server.set_window(third, None);
        assert_eq!((dialogue.take("a").len(), dialogue.take("c").len()), (1001, 1));
        assert_eq!(dialogue.server.log_bytes(), 0, "what everybody has is forgotten");
        assert!(dialogue.server.writes(slow) <= writes + 3, "the rest is a write or two");
    }
}

/// A number of broadcasts of about a hundred bytes on `topic`, for a client that stops after `window` bytes.
fn overrun(serializer: Serializer, topic: &str, window: usize, broadcasts: u64) -> (Dialogue, ClientId) {
    let mut dialogue = Dialogue::new(&config_with(&[("topic_log_bytes_max", "4096")]), serializer);
    dialogue.play(&joined("a b", topic));
    let slow = dialogue.client("a");
    dialogue.server.set_window(slow, Some(window));
    for n in 0..broadcasts {
        let body = json!({"n": n, "text": "x".repeat(60)});
        dialogue.server.broadcast(topic, "news", body).unwrap();
    }
    assert_eq!(dialogue.take("b").len() as u64, broadcasts, "the other gets all");
    (dialogue, slow)
}

fn number(line: &str) -> Option<u64> {
    line.split_once(r#""n":"#)?.1.split(',').next()?.parse().ok()
}

#[test]
fn a_reader_beyond_the_log_is_closed_behind_the_frame_that_it_has_begun() {
    let reason = "the client reads too slowly: the topic's log has moved past it";
    for serializer in BOTH {
        // Two frames and a half.
        for window in 0..260 {
            let (mut dialogue, slow) = overrun(serializer, "room:1", window, 60);
            assert!(dialogue.server.log_bytes() <= 4096);
            assert_eq!(dialogue.server.stats().closed_slow_reader, 1);
            dialogue.server.set_window(slow, None);
            let got = dialogue.take("a");
            let (close, frames) = got.split_last().unwrap();
            assert_eq!(close, &format!("close 4008 {reason}"));
            let numbers: Vec<_> = frames.iter().map(|line| number(line)).collect();
            let whole = frames.iter().map(|line| line.len() + 2).take_while({
                let mut sum = 0;
                move |len| {
                    let begins = sum < window;
                    sum += len;
                    begins
                }
            });
            assert_eq!(numbers.len(), whole.count(), "no frame more than it had begun");
            assert!(numbers.into_iter().eq((0..).map(Some).take(frames.len())));
        }
    }
}

#[test]
fn a_reader_within_the_log_is_not_closed() {
    for serializer in BOTH {
        let (mut dialogue, slow) = overrun(serializer, "room:1", 0, 25);
        assert_eq!(dialogue.server.stats().closed_slow_reader, 0);
        dialogue.server.set_window(slow, None);
        assert_eq!(dialogue.take("a").len(), 25);
    }
}

#[test]
fn a_direct_frame_that_is_begun_is_whole_before_the_close() {
    for serializer in BOTH {
        for window in 0..60 {
            let mut dialogue = Dialogue::new(&config_with(&[("topic_log_bytes_max", "4096")]), serializer);
            dialogue.play(&joined("a b", "room:1"));
            let slow = dialogue.client("a");
            dialogue.server.set_window(slow, Some(window));
            dialogue.server.push(slow, "phoenix", "heartbeat", json!({}));
            for n in 0..100 {
                let body = json!({"n": n, "text": "x".repeat(60)});
                dialogue.server.broadcast("room:1", "news", body).unwrap();
            }
            dialogue.server.set_window(slow, None);
            let got = dialogue.take("a");
            let expected = if window == 0 { 1 } else { 2 };
            assert_eq!(got.len(), expected, "{got:#?}");
            assert!(got.last().unwrap().starts_with("close 4008 "), "{got:#?}");
        }
    }
}

/// Checks that numbered broadcasts are whole but for gaps that say how many are missing; the numbers missed.
fn check_gaps(lines: &[String], topic: &str, total: u64) -> u64 {
    let (mut next, mut missed) = (0, 0);
    for line in lines.iter().filter(|line| line.contains(topic)) {
        if line.contains(r#""gap""#) {
            let count =
                line.split_once(r#""missed":"#).unwrap().1.trim_end_matches(|c: char| !c.is_ascii_digit());
            let count: u64 = count.split('}').next().unwrap().parse().unwrap();
            next += count;
            missed += count;
        } else if let Some(n) = number(line) {
            assert_eq!(n, next, "{lines:#?}");
            next += 1;
        }
    }
    assert_eq!(next, total, "{lines:#?}");
    missed
}

#[test]
fn a_reader_that_may_skip_goes_on_behind_a_gap() {
    for serializer in BOTH {
        for window in 0..260 {
            let (mut dialogue, slow) = overrun(serializer, "skip:1", window, 100);
            assert_eq!(dialogue.server.stats().closed_slow_reader, 0);
            assert!(dialogue.server.stats().gaps >= 1);
            assert!(dialogue.server.log_bytes() <= 4096);
            dialogue.server.set_window(slow, None);
            let got = dialogue.take("a");
            let missed = check_gaps(&got, "skip:1", 100);
            assert!(missed > 30, "{missed}");
            // It goes on as if nothing had been.
            dialogue.play(
                r#"
                b -> ["1","9","skip:1","new_msg",{"body":"on"}]
                a <- [null,null,"skip:1","new_msg",{"body":"on"}]
                b <- [null,null,"skip:1","new_msg",{"body":"on"}]
                "#,
            );
            assert_eq!(dialogue.server.log_bytes(), 0);
        }
    }
}

#[test]
fn a_gap_is_one_push_however_often_the_reader_was_passed_over() {
    let (mut dialogue, slow) = overrun(Serializer::V2, "skip:1", 0, 200);
    assert!(dialogue.server.outbox_bytes(slow) < 300);
    dialogue.server.set_window(slow, None);
    let got = dialogue.take("a");
    let missed = check_gaps(&got, "skip:1", 200);
    assert_eq!(got[0], format!(r#"["1",null,"skip:1","gap",{{"missed":{missed}}}]"#));
    assert_eq!(got.len() as u64, 1 + 200 - missed);
}

#[test]
fn a_gap_of_one_topic_never_stands_inside_a_frame_of_another() {
    for serializer in BOTH {
        for window in 0..260 {
            let mut dialogue = Dialogue::new(&config_with(&[("topic_log_bytes_max", "4096")]), serializer);
            dialogue.play(&joined("a b", "skip:1"));
            dialogue.play(&joined("a b", "skip:2"));
            let slow = dialogue.client("a");
            dialogue.server.set_window(slow, Some(window));
            let body = |n: u64| json!({"n": n, "text": "x".repeat(60)});
            for n in 0..4 {
                dialogue.server.broadcast("skip:1", "news", body(n)).unwrap();
            }
            for n in 0..60 {
                dialogue.server.broadcast("skip:2", "news", body(n)).unwrap();
            }
            dialogue.server.set_window(slow, None);
            let got = dialogue.take("a");
            assert_eq!(check_gaps(&got, "skip:1", 4), 0);
            check_gaps(&got, "skip:2", 60);
        }
    }
}

#[test]
fn a_gap_of_one_topic_leaves_the_replies_of_others_in_their_order() {
    for serializer in BOTH {
        for window in (0..400).step_by(7) {
            let mut dialogue = Dialogue::new(&config_with(&[("topic_log_bytes_max", "4096")]), serializer);
            dialogue.play(&joined("a b", "skip:1"));
            dialogue.play(&joined("a b", "probe:skip:2"));
            let slow = dialogue.client("a");
            dialogue.server.set_window(slow, Some(window));
            for n in 0..100_u64 {
                let body = json!({"n": n, "text": "x".repeat(60)});
                dialogue.server.broadcast("skip:1", "news", body.clone()).unwrap();
                dialogue.server.broadcast("probe:skip:2", "news", body).unwrap();
                if n % 10 == 0 {
                    let echo = dialogue.masked(&format!(r#"["1","e{n}","probe:skip:2","echo",{{}}]"#));
                    dialogue.server.send_bytes(slow, &echo);
                }
            }
            dialogue.server.set_window(slow, None);
            let got = dialogue.take("a");
            check_gaps(&got, "\"skip:1\"", 100);
            check_gaps(&got, "\"probe:skip:2\"", 100);
            let replies: Vec<_> = got.iter().filter(|line| line.contains("phx_reply")).collect();
            assert_eq!(replies.len(), 10, "{got:#?}");
            for (reply, n) in replies.iter().zip((0..).step_by(10)) {
                assert!(reply.contains(&format!("\"e{n}\"")), "{replies:#?}");
            }
        }
    }
}

#[test]
fn a_reader_that_takes_nothing_is_closed() {
    check_stalled(|_, _| {});
}

#[test]
fn a_reader_that_takes_a_byte_at_a_time_is_closed() {
    check_stalled(|dialogue, client| dialogue.server.set_window(client, Some(1)));
}

/// A client with broadcasts and replies waiting, that does `each` second what is said, is closed in time.
#[track_caller]
fn check_stalled(each_second: impl Fn(&mut Dialogue, ClientId)) {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        dialogue.play(&joined("a b", "room:1"));
        let (slow, other) = (dialogue.client("a"), dialogue.client("b"));
        dialogue.server.set_window(slow, Some(20));
        for n in 0..30 {
            dialogue.server.broadcast("room:1", "news", json!(n)).unwrap();
        }
        dialogue.server.push(slow, "phoenix", "heartbeat", json!({}));
        let mut seconds = 0;
        while dialogue.server.stats().closed_stalled == 0 {
            dialogue.server.advance(Duration::from_secs(1));
            // It does send: what is counted is what it takes.
            dialogue.server.push(slow, "phoenix", "heartbeat", json!({}));
            dialogue.server.push(other, "phoenix", "heartbeat", json!({}));
            each_second(&mut dialogue, slow);
            seconds += 1;
            assert!(seconds < 40);
        }
        assert!(seconds >= 29, "{seconds}");
        dialogue.server.set_window(slow, None);
        let got = dialogue.take("a");
        let reason = "the client takes no bytes (stall_timeout)";
        assert_eq!(got.last().unwrap(), &format!("close 4008 {reason}"));
        assert!(got.len() < 10, "only what it had begun comes before the close: {got:#?}");
        assert_eq!(dialogue.server.closed(other), None);
        assert_eq!(dialogue.server.log_bytes(), 0);
    }
}

#[test]
fn a_stalled_reader_that_never_opens_its_window_is_given_up() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        dialogue.play(&joined("a", "room:1"));
        let slow = dialogue.client("a");
        dialogue.server.set_window(slow, Some(0));
        dialogue.server.broadcast("room:1", "news", json!(1)).unwrap();
        dialogue.server.advance(Duration::from_secs(32));
        assert_eq!(dialogue.server.stats().closed_stalled, 1);
        dialogue.server.advance(Duration::from_secs(6));
        assert!(dialogue.server.is_gone(slow));
        assert_eq!(dialogue.server.stats().connections, 0);
    }
}

#[test]
fn a_reader_that_takes_enough_is_not_stalled() {
    let limits = [("stall_timeout", "2s"), ("stall_bytes_min", "100")];
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config_with(&limits), serializer);
        dialogue.play(&joined("a", "room:1"));
        let slow = dialogue.client("a");
        dialogue.server.set_window(slow, Some(0));
        for n in 0..100 {
            dialogue.server.broadcast("room:1", "news", json!({"n": n})).unwrap();
        }
        for _ in 0..30 {
            dialogue.server.set_window(slow, Some(60));
            dialogue.server.advance(Duration::from_secs(1));
        }
        assert_eq!(dialogue.server.stats().closed_stalled, 0);
        // A second too slow.
        for _ in 0..4 {
            dialogue.server.set_window(slow, Some(45));
            dialogue.server.advance(Duration::from_secs(1));
        }
        assert_eq!(dialogue.server.stats().closed_stalled, 1);
    }
}

#[test]
fn a_reader_that_has_caught_up_has_its_whole_time_again() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        dialogue.play(&joined("a", "room:1"));
        let slow = dialogue.client("a");
        for _ in 0..5 {
            dialogue.server.set_window(slow, Some(0));
            dialogue.server.broadcast("room:1", "news", json!(1)).unwrap();
            dialogue.server.advance(Duration::from_secs(25));
            dialogue.server.push(slow, "phoenix", "heartbeat", json!({}));
            dialogue.server.set_window(slow, None);
        }
        assert_eq!(dialogue.server.stats().closed_stalled, 0);
        assert_eq!(dialogue.take("a").len(), 10);
    }
}

#[test]
fn a_client_that_does_not_read_its_replies_is_not_read_from_and_then_closed() {
    for serializer in BOTH {
        for window in [0, 1, 30, 100] {
            let mut dialogue = Dialogue::new(&config_with(&[("outbox_bytes_max", "4096")]), serializer);
            dialogue.play(&joined("a b", "probe:1"));
            let slow = dialogue.client("a");
            dialogue.server.set_window(slow, Some(window));
            for _ in 0..100 {
                dialogue.server.push(slow, "probe:1", "echo", json!("x".repeat(100)));
                // What is read is answered whole, so one answer may come on top.
                assert!(dialogue.server.outbox_bytes(slow) <= 4096 / 2 + 300);
            }
            dialogue.server.advance(Limits::default().stall_timeout + Duration::from_secs(2));
            assert_eq!(dialogue.server.stats().closed_stalled, 1);
            assert_eq!(dialogue.server.stats().closed_outbox_full, 0);
            dialogue.server.set_window(slow, None);
            let got = dialogue.take("a");
            assert_eq!(got.last().unwrap(), "close 4008 the client takes no bytes (stall_timeout)");
            assert!(got.len() <= 3, "the rest of what it had begun, and the close: {got:#?}");
            assert_eq!(dialogue.take("b").len(), 1, "it hears that the other has gone");
        }
    }
}

#[test]
fn a_client_that_reads_late_is_answered_everything_it_has_asked() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config_with(&[("outbox_bytes_max", "4096")]), serializer);
        dialogue.play(&joined("a", "probe:1"));
        let slow = dialogue.client("a");
        dialogue.server.set_window(slow, Some(0));
        (0..200).for_each(|_| {
            dialogue.server.push(slow, "phoenix", "heartbeat", json!({}));
        });
        dialogue.server.set_window(slow, None);
        assert_eq!(dialogue.take("a").len(), 200);
        assert_eq!(dialogue.server.stats().closed_outbox_full, 0);
    }
}

#[test]
fn a_slow_client_that_is_not_read_from_is_not_taken_for_one_that_says_nothing() {
    let mut dialogue = Dialogue::new(
        &config_with(&[("outbox_bytes_max", "20000"), ("idle_timeout", "60s"), ("stall_bytes_min", "100")]),
        Serializer::V2,
    );
    dialogue.play(&joined("a", "probe:1"));
    let slow = dialogue.client("a");
    dialogue.server.set_window(slow, Some(0));
    (0..400).for_each(|_| {
        dialogue.server.push(slow, "phoenix", "heartbeat", json!({}));
    });
    // It takes a little, again and again, and never gets below the half.
    for _ in 0..10 {
        dialogue.server.advance(Duration::from_secs(20));
        dialogue.server.set_window(slow, Some(200));
    }
    let stats = dialogue.server.stats();
    assert_eq!((stats.closed_idle, stats.closed_stalled), (0, 0));
    dialogue.server.set_window(slow, None);
    assert_eq!(dialogue.take("a").len(), 400);
}

#[test]
fn replies_to_a_client_that_is_behind_in_a_hundred_topics_each_counted_all_of_them() {
    let mut dialogue = Dialogue::new(&config(), Serializer::V2);
    let slow = dialogue.client("a");
    for number in 0..100 {
        dialogue.server.join(slow, &format!("probe:{number}"), json!({}));
    }
    dialogue.server.set_window(slow, Some(0));
    for number in 0..100 {
        dialogue.server.broadcast(&format!("probe:{number}"), "news", json!(1)).unwrap();
    }
    dialogue.server.push(slow, "phoenix", "heartbeat", json!({}));
    let once = dialogue.server.outbox_bytes(slow);
    for _ in 0..100 {
        dialogue.server.push(slow, "phoenix", "heartbeat", json!({}));
    }
    let each = (dialogue.server.outbox_bytes(slow) - once) / 100;
    assert!(each < 200, "a reply counts {each} bytes");
}

#[test]
fn pushes_from_other_threads_to_a_client_that_does_not_read_are_bounded() {
    let (mut config, book) = super::probe::config_with_book();
    config.limits = config_with(&[("outbox_bytes_max", "4096")]).limits;
    let mut dialogue = Dialogue::new(&config, Serializer::V2);
    dialogue.play(&joined("a", "probe:1"));
    let slow = dialogue.client("a");
    dialogue.server.push(slow, "probe:1", "handle", Value::Null);
    let handle = book.take_handle();
    dialogue.server.set_window(slow, Some(0));
    for _ in 0..100 {
        handle.push("news", json!("x".repeat(100)).into()).unwrap();
    }
    dialogue.server.settle();
    assert_eq!(dialogue.server.stats().closed_outbox_full, 1);
    assert!(dialogue.server.outbox_bytes(slow) < 4096);
}

#[test]
fn a_close_of_a_client_that_does_not_read_is_echoed_behind_the_frame_that_it_has_begun() {
    for serializer in BOTH {
        for window in 0..100 {
            let mut dialogue = Dialogue::new(&config(), serializer);
            dialogue.play(&joined("a b", "room:1"));
            let slow = dialogue.client("a");
            dialogue.server.set_window(slow, Some(window));
            for n in 0..100 {
                dialogue.server.broadcast("room:1", "news", json!({"n": n})).unwrap();
            }
            let close = dialogue.masked("close 1000");
            dialogue.server.send_bytes(slow, &close);
            assert_eq!(dialogue.server.log_bytes(), 0);
            assert!(dialogue.server.outbox_bytes(slow) < 300);
            dialogue.server.set_window(slow, None);
            let got = dialogue.take("a");
            assert_eq!(got.last().unwrap(), "close 1000");
            assert!(got.len() <= 4, "{got:#?}");
        }
    }
}
