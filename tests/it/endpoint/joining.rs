//! Joins and leaves.

use hailer::channel::Ended;
use hailer::phoenix::Serializer;
use serde_json::json;

use super::dialogue::{Dialogue, FORMS, check, check_only, check_with};
use super::probe::{config, config_with, config_with_book};

#[test]
fn a_join_is_granted() {
    check(
        r#"
        a -> ["1","1","room:lobby","phx_join",{}]
        a <- ["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]
        "#,
    );
}

#[test]
fn the_response_is_what_the_channel_gives() {
    check(
        r#"
        a -> ["1","1","probe:1","phx_join",{"do":"respond","response":{"last":[1,null]}}]
        a <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{"last":[1,null]}}]
        a -> ["2","2","probe:2","phx_join",{"do":"respond","response":7}]
        a <- ["2","2","probe:2","phx_reply",{"status":"ok","response":7}]
        "#,
    );
}

#[test]
fn the_payload_of_a_join_may_be_any_value() {
    for payload in ["null", "1", "\"text\"", "[1,2]", "{\"a\":{}}", "1e400"] {
        check(&format!(
            r#"
            a -> ["1","1","room:lobby","phx_join",{payload}]
            a <- ["1","1","room:lobby","phx_reply",{{"status":"ok","response":{{}}}}]
            "#
        ));
    }
}

#[test]
fn a_refused_join_leaves_nothing_joined() {
    check(
        r#"
        a -> ["1","1","probe:1","phx_join",{"do":"refuse"}]
        a <- ["1","1","probe:1","phx_reply",{"status":"error","response":{"reason":"unauthorized"}}]
        a -> ["1","2","probe:1","echo",{}]
        a <- [null,"2","probe:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
        b -> ["1","1","probe:1","phx_join",{}]
        b <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
        b -> ["1","2","probe:1","shout",{}]
        b <- [null,null,"probe:1","shout",{}]
        "#,
    );
}

#[test]
fn joins_are_counted_by_what_became_of_them() {
    for form in FORMS {
        let mut dialogue = Dialogue::over(&config(), form);
        for (number, how) in ["", "refuse", "refuse", "crash", "panic", ""].iter().enumerate() {
            dialogue.send("a", &format!(r#"["1","1","probe:{number}","phx_join",{{"do":"{how}"}}]"#));
        }
        let stats = dialogue.server.stats();
        assert_eq!((stats.joins, stats.join_refused, stats.channel_crashes), (2, 2, 2));
        assert_eq!((stats.topics, stats.messages_in), (2, 6));
    }
}

#[test]
fn a_refused_join_may_be_tried_again() {
    check(
        r#"
        a -> ["1","1","probe:1","phx_join",{"do":"refuse"}]
        a <- ["1","1","probe:1","phx_reply",{"status":"error","response":{"reason":"unauthorized"}}]
        a -> ["2","2","probe:1","phx_join",{}]
        a <- ["2","2","probe:1","phx_reply",{"status":"ok","response":{}}]
        "#,
    );
}

#[test]
fn a_topic_without_a_channel_is_unmatched_and_has_no_join_ref() {
    for topic in
        ["nope", "", "room", "rooms:1", "Room:lobby", " room:lobby", "exact", "Exact ", "room\u{0}:1"]
    {
        let topic = json!(topic);
        check(&format!(
            r#"
            a -> ["1","1",{topic},"phx_join",{{}}]
            a <- [null,"1",{topic},"phx_reply",{{"status":"error","response":{{"reason":"unmatched topic"}}}}]
            "#
        ));
    }
}

#[test]
fn a_topic_matches_by_its_whole_name_or_a_prefix() {
    for topic in ["Exact", "room:", "room:lobby", "room:*", "room: ", "room:\u{0}\n\"\\", "room:ö/é"] {
        let topic = json!(topic);
        check(&format!(
            r#"
            a -> ["1","1",{topic},"phx_join",{{}}]
            a <- ["1","1",{topic},"phx_reply",{{"status":"ok","response":{{}}}}]
            b -> ["1","1",{topic},"phx_join",{{}}]
            b <- ["1","1",{topic},"phx_reply",{{"status":"ok","response":{{}}}}]
            a -> ["1","2",{topic},"new_msg",{{"body":1}}]
            a <- [null,null,{topic},"new_msg",{{"body":1}}]
            b <- [null,null,{topic},"new_msg",{{"body":1}}]
            "#
        ));
    }
}

#[test]
fn a_star_in_a_clients_topic_is_a_letter() {
    check(
        r#"
        a -> ["1","1","room:*","phx_join",{}]
        a <- ["1","1","room:*","phx_reply",{"status":"ok","response":{}}]
        b -> ["1","1","room:lobby","phx_join",{}]
        b <- ["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]
        b -> ["1","2","room:lobby","new_msg",{"body":"for the lobby"}]
        b <- [null,null,"room:lobby","new_msg",{"body":"for the lobby"}]
        "#,
    );
}

#[test]
fn topics_that_look_alike_are_different() {
    // An é as one character, and as an e with an accent of its own.
    let (one, two) = ("room:\u{e9}", "room:e\u{301}");
    check(&format!(
        r#"
        a -> ["1","1","room:\u00e9","phx_join",{{}}]
        a <- ["1","1","{one}","phx_reply",{{"status":"ok","response":{{}}}}]
        b -> ["1","1","room:e\u0301","phx_join",{{}}]
        b <- ["1","1","{two}","phx_reply",{{"status":"ok","response":{{}}}}]
        a -> ["1","2","{one}","new_msg",{{"body":1}}]
        a <- [null,null,"{one}","new_msg",{{"body":1}}]
        "#
    ));
}

#[test]
fn a_join_that_crashes_is_answered() {
    for how in ["crash", "panic"] {
        check(&format!(
            r#"
            a -> ["1","1","probe:1","phx_join",{{"do":"{how}"}}]
            a <- ["1","1","probe:1","phx_reply",{{"status":"error","response":{{"reason":"join crashed"}}}}]
            a -> ["1","2","probe:1","echo",{{}}]
            a <- [null,"2","probe:1","phx_reply",{{"status":"error","response":{{"reason":"unmatched topic"}}}}]
            a -> ["3","3","probe:1","phx_join",{{}}]
            a <- ["3","3","probe:1","phx_reply",{{"status":"ok","response":{{}}}}]
            "#
        ));
    }
}

#[test]
fn what_a_join_records_comes_after_its_reply() {
    check(
        r#"
        a -> ["1","1","probe:1","phx_join",{"do":"push"}]
        a <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
        a <- ["1",null,"probe:1","welcome",{"n":1}]
        b -> ["2","2","probe:1","phx_join",{"do":"broadcast"}]
        b <- ["2","2","probe:1","phx_reply",{"status":"ok","response":{}}]
        b <- [null,null,"probe:1","joined",{"n":1}]
        a <- [null,null,"probe:1","joined",{"n":1}]
        "#,
    );
}

#[test]
fn a_join_may_stop_at_once() {
    check(
        r#"
        a -> ["1","1","probe:1","phx_join",{"do":"stop"}]
        a <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
        a <- ["1","1","probe:1","phx_close",{}]
        "#,
    );
}

#[test]
fn one_channel_too_many_is_refused() {
    for form in FORMS {
        let mut dialogue = Dialogue::over(&config(), form);
        for number in 1..=100 {
            dialogue.play(&format!(
                r#"
                a -> ["{number}","{number}","room:{number}","phx_join",{{}}]
                a <- ["{number}","{number}","room:{number}","phx_reply",{{"status":"ok","response":{{}}}}]
                "#
            ));
        }
        dialogue.play(
            r#"
            a -> ["101","101","room:101","phx_join",{}]
            a <- ["101","101","room:101","phx_reply",{"status":"error","response":{"reason":"too many channels joined"}}]
            # Neither does a join that takes another's place count, nor is an unknown topic called too many.
            a -> ["102","102","room:7","phx_join",{}]
            a <- ["102","102","room:7","phx_reply",{"status":"ok","response":{}}]
            a <- ["7","7","room:7","phx_close",{}]
            a -> ["103","103","nope","phx_join",{}]
            a <- [null,"103","nope","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
            # Another socket has its own count, and one that is left may be had again.
            b -> ["1","1","room:101","phx_join",{}]
            b <- ["1","1","room:101","phx_reply",{"status":"ok","response":{}}]
            a -> ["8","104","room:8","phx_leave",{}]
            a <- ["8","104","room:8","phx_reply",{"status":"ok","response":{}}]
            a <- ["8","8","room:8","phx_close",{}]
            a -> ["105","105","room:101","phx_join",{}]
            a <- ["105","105","room:101","phx_reply",{"status":"ok","response":{}}]
            "#,
        );
        assert_eq!(dialogue.server.stats().too_many_channels, 1);
    }
}

#[test]
fn the_number_of_channels_is_a_limit() {
    check_with(
        &config_with(&[("channels_per_socket_max", "1")]),
        r#"
        a -> ["1","1","room:1","phx_join",{}]
        a <- ["1","1","room:1","phx_reply",{"status":"ok","response":{}}]
        a -> ["2","2","room:2","phx_join",{}]
        a <- ["2","2","room:2","phx_reply",{"status":"error","response":{"reason":"too many channels joined"}}]
        "#,
    );
}

#[test]
fn a_join_without_join_ref_lends_its_ref_to_what_comes_from_inside_the_channel() {
    check_only(
        Serializer::V2,
        r#"
        a -> [null,"1","probe:1","phx_join",{"do":"push"}]
        a <- [null,"1","probe:1","phx_reply",{"status":"ok","response":{}}]
        a <- ["1",null,"probe:1","welcome",{"n":1}]
        a -> [null,"2","probe:1","echo",{}]
        a <- ["1","2","probe:1","phx_reply",{"status":"ok","response":{}}]
        a -> [null,"3","probe:1","phx_leave",{}]
        a <- ["1","3","probe:1","phx_reply",{"status":"ok","response":{}}]
        a <- [null,null,"probe:1","phx_close",{}]
        a -> [null,"4","probe:1","phx_join",{}]
        a <- [null,"4","probe:1","phx_reply",{"status":"ok","response":{}}]
        a -> [null,"5","probe:1","crash",{}]
        a <- [null,null,"probe:1","phx_error",{"reason":"channel_crash"}]
        a -> [null,"6","probe:1","phx_join",{}]
        a <- [null,"6","probe:1","phx_reply",{"status":"ok","response":{}}]
        a -> [null,"7","probe:1","phx_join",{}]
        a <- [null,"7","probe:1","phx_reply",{"status":"ok","response":{}}]
        a <- [null,null,"probe:1","phx_close",{}]
        a -> [null,"8","probe:1","stop",{}]
        a <- [null,null,"probe:1","phx_close",{}]
        "#,
    );
}

#[test]
fn a_join_without_any_ref_is_answered() {
    check_only(
        Serializer::V2,
        r#"
        a -> [null,null,"probe:1","phx_join",{"do":"push"}]
        a <- [null,null,"probe:1","phx_reply",{"status":"ok","response":{}}]
        a <- [null,null,"probe:1","welcome",{"n":1}]
        a -> ["1","1","probe:1","echo",{}]
        a -> [null,"2","probe:1","echo",{}]
        a <- [null,"2","probe:1","phx_reply",{"status":"ok","response":{}}]
        "#,
    );
}

#[test]
fn a_client_of_v1_may_send_a_join_ref() {
    check_only(
        Serializer::V1,
        r#"
        a -> {"topic":"probe:1","event":"phx_join","payload":{},"ref":"1","join_ref":"1"}
        a <- {"topic":"probe:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}
        a -> {"topic":"probe:1","event":"echo","payload":7,"ref":"2","join_ref":"0"}
        a -> {"topic":"probe:1","event":"echo","payload":7,"ref":"3","join_ref":"1"}
        a <- {"topic":"probe:1","event":"phx_reply","payload":{"status":"ok","response":7},"ref":"3"}
        a -> {"topic":"probe:1","event":"echo","payload":8,"ref":"4"}
        a <- {"topic":"probe:1","event":"phx_reply","payload":{"status":"ok","response":8},"ref":"4"}
        a -> {"topic":"probe:1","event":"phx_leave","payload":{},"ref":"5"}
        a <- {"topic":"probe:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"5"}
        a <- {"topic":"probe:1","event":"phx_close","payload":{},"ref":"1"}
        "#,
    );
}

#[test]
fn a_second_join_takes_the_place_of_the_first_and_is_answered_before_the_first_is_closed() {
    for form in FORMS {
        let (config, book) = config_with_book();
        let mut dialogue = Dialogue::over(&config, form);
        dialogue.play(
            r#"
            a -> ["1","1","probe:1","phx_join",{}]
            a <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
            a -> ["1","2","probe:1","note","of the first"]
            a <- ["1","2","probe:1","phx_reply",{"status":"ok","response":null}]
            a -> ["3","3","probe:1","phx_join",{}]
            a <- ["3","3","probe:1","phx_reply",{"status":"ok","response":{}}]
            a <- ["1","1","probe:1","phx_close",{}]
            # A broadcast comes once, and what the first join remembered is gone.
            a -> ["3","4","probe:1","shout",{}]
            a <- [null,null,"probe:1","shout",{}]
            a -> ["3","5","probe:1","note","of the second"]
            a <- ["3","5","probe:1","phx_reply",{"status":"ok","response":null}]
            "#,
        );
        assert_eq!(book.take_ended(), [("probe:1".to_owned(), Ended::Replaced)]);
        assert_eq!(dialogue.server.stats().joins, 2);
        assert_eq!(dialogue.server.stats().topics, 1);
    }
}

#[test]
fn a_second_join_that_is_refused_ends_the_first_all_the_same() {
    for (how, reason) in [("refuse", "unauthorized"), ("crash", "join crashed"), ("panic", "join crashed")] {
        check(&format!(
            r#"
            a -> ["1","1","probe:1","phx_join",{{}}]
            a <- ["1","1","probe:1","phx_reply",{{"status":"ok","response":{{}}}}]
            a -> ["2","2","probe:1","phx_join",{{"do":"{how}"}}]
            a <- ["2","2","probe:1","phx_reply",{{"status":"error","response":{{"reason":"{reason}"}}}}]
            a <- ["1","1","probe:1","phx_close",{{}}]
            a -> ["2","3","probe:1","echo",{{}}]
            a <- [null,"3","probe:1","phx_reply",{{"status":"error","response":{{"reason":"unmatched topic"}}}}]
            "#
        ));
    }
}

#[test]
fn a_channel_that_is_left_closes() {
    for form in FORMS {
        let (config, book) = config_with_book();
        let mut dialogue = Dialogue::over(&config, form);
        dialogue.play(
            r#"
            b -> ["1","1","probe:1","phx_join",{}]
            b <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
            a -> ["1","1","probe:1","phx_join",{}]
            a <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
            a -> ["1","2","probe:1","phx_leave",{}]
            a <- ["1","2","probe:1","phx_reply",{"status":"ok","response":{}}]
            a <- ["1","1","probe:1","phx_close",{}]
            b <- [null,null,"probe:1","gone",{"why":"Left"}]
            a -> ["1","3","probe:1","echo",{}]
            a <- [null,"3","probe:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
            b -> ["1","2","probe:1","shout",{}]
            b <- [null,null,"probe:1","shout",{}]
            "#,
        );
        assert_eq!(book.take_ended(), [("probe:1".to_owned(), Ended::Left)]);
    }
}

#[test]
fn what_is_not_joined_is_left_with_an_ok_and_nothing_closes() {
    check(
        r#"
        a -> ["9","1","room:lobby","phx_leave",{}]
        a <- ["9","1","room:lobby","phx_reply",{"status":"ok","response":{}}]
        a -> ["9","2","nope","phx_leave",{}]
        a <- ["9","2","nope","phx_reply",{"status":"ok","response":{}}]
        a -> [null,"3","nope","phx_leave",{}]
        a <- [null,"3","nope","phx_reply",{"status":"ok","response":{}}]
        "#,
    );
}

#[test]
fn a_leave_without_join_ref_means_the_join_that_is_there() {
    check(
        r#"
        a -> ["1","1","room:lobby","phx_join",{}]
        a <- ["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]
        a -> [null,"2","room:lobby","phx_leave",{}]
        a <- ["1","2","room:lobby","phx_reply",{"status":"ok","response":{}}]
        a <- ["1","1","room:lobby","phx_close",{}]
        "#,
    );
}

#[test]
fn messages_of_an_earlier_join_are_dropped_in_silence() {
    let mut dialogue = Dialogue::new(&config(), Serializer::V2);
    dialogue.play(
        r#"
        a -> ["1","1","probe:1","phx_join",{}]
        a <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
        a -> ["2","2","probe:1","phx_join",{}]
        a <- ["2","2","probe:1","phx_reply",{"status":"ok","response":{}}]
        a <- ["1","1","probe:1","phx_close",{}]
        a -> ["1","3","probe:1","echo",{}]
        a -> ["1","4","probe:1","phx_leave",{}]
        a -> [2,"5","probe:1","echo",{}]
        a -> ["","6","probe:1","echo",{}]
        a -> ["1","7","probe:1","phx_close",{}]
        a -> ["2","8","probe:1","echo",{}]
        a <- ["2","8","probe:1","phx_reply",{"status":"ok","response":{}}]
        "#,
    );
    assert_eq!(dialogue.server.stats().stale_join_ref, 5);
}

#[test]
fn joins_in_any_number_leave_nothing_behind() {
    for form in FORMS {
        let mut dialogue = Dialogue::over(&config(), form);
        for round in 1..=300 {
            let join = format!(r#"["{round}","{round}","room:{round}","phx_join",{{}}]"#);
            let leave = format!(r#"["{round}","l{round}","room:{round}","phx_leave",{{}}]"#);
            dialogue.play(&format!("a -> {join}\na <- [\"{round}\",\"{round}\",\"room:{round}\",\"phx_reply\",{{\"status\":\"ok\",\"response\":{{}}}}]"));
            dialogue.play(&format!("a -> {leave}\na <- [\"{round}\",\"l{round}\",\"room:{round}\",\"phx_reply\",{{\"status\":\"ok\",\"response\":{{}}}}]\na <- [\"{round}\",\"{round}\",\"room:{round}\",\"phx_close\",{{}}]"));
        }
        assert_eq!(dialogue.server.stats().topics, 0);
        assert_eq!(dialogue.server.log_bytes(), 0);
    }
}
