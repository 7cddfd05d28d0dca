//! What clients push, and what they are answered.

use hailer::phoenix::Serializer;

use super::dialogue::{Dialogue, FORMS, check, check_only};
use super::probe::config;

/// The lines that join `a` to a topic, with join_ref "1".
fn joined(topic: &str, lines: &str) -> String {
    format!(
        r#"
        a -> ["1","1","{topic}","phx_join",{{}}]
        a <- ["1","1","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]
        {lines}
        "#
    )
}

#[test]
fn a_push_is_answered_if_the_channel_answers() {
    check(&joined(
        "probe:1",
        r#"
        a -> ["1","2","probe:1","echo",{"a":[1]}]
        a <- ["1","2","probe:1","phx_reply",{"status":"ok","response":{"a":[1]}}]
        a -> ["1","3","probe:1","ignore",{}]
        a -> ["1","4","probe:1","status",{}]
        a <- ["1","4","probe:1","phx_reply",{"status":"teapot","response":{}}]
        a -> ["1","5","probe:1","twice",{}]
        a <- ["1","5","probe:1","phx_reply",{"status":"ok","response":1}]
        "#,
    ));
}

#[test]
fn a_push_to_what_is_not_joined_is_unmatched() {
    check(
        r#"
        # Before the join, to a topic that nobody serves, after the leave.
        a -> ["1","1","probe:1","echo",{}]
        a <- [null,"1","probe:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
        a -> ["1","2","nope","echo",{}]
        a <- [null,"2","nope","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
        a -> ["3","3","probe:1","phx_join",{}]
        a <- ["3","3","probe:1","phx_reply",{"status":"ok","response":{}}]
        a -> ["3","4","probe:1","phx_leave",{}]
        a <- ["3","4","probe:1","phx_reply",{"status":"ok","response":{}}]
        a <- ["3","3","probe:1","phx_close",{}]
        a -> ["3","5","probe:1","echo",{}]
        a <- [null,"5","probe:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
        # What another socket has joined is not joined here.
        b -> ["1","1","probe:1","phx_join",{}]
        b <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
        a -> [null,"6","probe:1","shout",{}]
        a <- [null,"6","probe:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
        "#,
    );
}

#[test]
fn unmatched_topics_are_counted() {
    for form in FORMS {
        let mut dialogue = Dialogue::over(&config(), form);
        dialogue.play(
            r#"
            a -> ["1","1","nope","phx_join",{}]
            a <- [null,"1","nope","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
            a -> ["1","2","nope","echo",{}]
            a <- [null,"2","nope","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
            a -> ["1","3",null,"echo",{}]
            a <- [null,"3",null,"phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
            a -> [null,"4","phoenix","echo",{}]
            a <- [null,"4","phoenix","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
            "#,
        );
        assert_eq!(dialogue.server.stats().unmatched_topic, 4);
        assert_eq!(dialogue.server.stats().messages_in, 4);
    }
}

#[test]
fn a_ref_comes_back_as_it_was() {
    let long = "9".repeat(62);
    let refs = [
        "\"\"",
        "\"a b\"",
        "0",
        "-1",
        "1.0",
        "1e9",
        "true",
        "[1,\"2\"]",
        "{\"a\":1}",
        "null",
        r#""\u0031""#,
        &format!("\"{long}\""),
    ];
    for reference in refs {
        check(&joined(
            "probe:1",
            &format!(
                r#"
                a -> ["1",{reference},"probe:1","echo",{{}}]
                a <- ["1",{reference},"probe:1","phx_reply",{{"status":"ok","response":{{}}}}]
                a -> ["1",{reference},"nope","echo",{{}}]
                a <- [null,{reference},"nope","phx_reply",{{"status":"error","response":{{"reason":"unmatched topic"}}}}]
                a -> [null,{reference},"phoenix","heartbeat",{{}}]
                a <- [null,{reference},"phoenix","phx_reply",{{"status":"ok","response":{{}}}}]
                "#
            ),
        ));
    }
}

#[test]
fn a_join_ref_comes_back_as_it_was() {
    for reference in ["\"\"", "7", "\"seven\"", "true", "[1]"] {
        check(&format!(
            r#"
            a -> [{reference},"1","probe:1","phx_join",{{"do":"push"}}]
            a <- [{reference},"1","probe:1","phx_reply",{{"status":"ok","response":{{}}}}]
            a <- [{reference},null,"probe:1","welcome",{{"n":1}}]
            a -> [{reference},"2","probe:1","echo",{{}}]
            a <- [{reference},"2","probe:1","phx_reply",{{"status":"ok","response":{{}}}}]
            a -> [{reference},"3","probe:1","phx_leave",{{}}]
            a <- [{reference},"3","probe:1","phx_reply",{{"status":"ok","response":{{}}}}]
            a <- [{reference},{reference},"probe:1","phx_close",{{}}]
            "#
        ));
    }
}

#[test]
fn a_join_ref_of_another_kind_is_another_join_ref() {
    check_only(
        Serializer::V2,
        &joined(
            "probe:1",
            r#"
            a -> [1,"2","probe:1","echo",{}]
            a -> ["\u0031","3","probe:1","echo",{}]
            a <- ["1","3","probe:1","phx_reply",{"status":"ok","response":{}}]
            "#,
        ),
    );
}

#[test]
fn a_heartbeat_is_answered_without_any_join_and_without_a_join_ref() {
    for form in FORMS {
        let mut dialogue = Dialogue::over(&config(), form);
        dialogue.play(
            r#"
            a -> [null,"5","phoenix","heartbeat",{}]
            a <- [null,"5","phoenix","phx_reply",{"status":"ok","response":{}}]
            a -> ["1","6","phoenix","heartbeat",{"any":1}]
            a <- [null,"6","phoenix","phx_reply",{"status":"ok","response":{}}]
            a -> ["1",7,"phoenix","heartbeat",null]
            a <- [null,7,"phoenix","phx_reply",{"status":"ok","response":{}}]
            "#,
        );
        assert_eq!(dialogue.server.stats().heartbeats, 3);
    }
}

#[test]
fn other_events_of_the_protocols_own_topic_are_unmatched() {
    for event in ["phx_join", "Heartbeat", "echo", "phx_reply", ""] {
        check(&format!(
            r#"
            a -> ["1","1","phoenix","{event}",{{}}]
            a <- [null,"1","phoenix","phx_reply",{{"status":"error","response":{{"reason":"unmatched topic"}}}}]
            "#
        ));
    }
}

#[test]
fn a_topic_that_is_no_string_is_unmatched_and_repeated() {
    for topic in ["7", "null", "true", "-1.50", r#"{"a":[1,"b"]}"#, "[]", "1e999"] {
        for event in ["phx_join", "echo", "heartbeat"] {
            check(&format!(
                r#"
                a -> ["1","1",{topic},"{event}",{{}}]
                a <- [null,"1",{topic},"phx_reply",{{"status":"error","response":{{"reason":"unmatched topic"}}}}]
                "#
            ));
        }
    }
}

#[test]
fn events_of_the_protocol_are_refused_from_clients() {
    for event in [
        "phx_reply",
        "phx_close",
        "phx_error",
        "phx_",
        "phx_anything",
        "disconnect",
        "presence_state",
        "presence_diff",
    ] {
        for topic in ["probe:1", "room:lobby"] {
            for form in FORMS {
                let mut dialogue = Dialogue::over(&config(), form);
                let lines = format!(
                    r#"
                    a -> ["1","2","{topic}","{event}",{{"status":"ok","response":{{}}}}]
                    a <- ["1","2","{topic}","phx_reply",{{"status":"error","response":{{"reason":"reserved event"}}}}]
                    a -> [null,null,"{topic}","{event}",{{}}]
                    a <- ["1",null,"{topic}","phx_reply",{{"status":"error","response":{{"reason":"reserved event"}}}}]
                    # The channel is as it was.
                    a -> ["1","3","{topic}","phx_leave",{{}}]
                    a <- ["1","3","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]
                    a <- ["1","1","{topic}","phx_close",{{}}]
                    "#
                );
                dialogue.play(&joined(topic, &lines));
                assert_eq!(dialogue.server.stats().reserved_event, 2, "{event}");
            }
        }
    }
}

#[test]
fn a_reserved_event_where_nothing_is_joined_is_unmatched() {
    check(
        r#"
        a -> ["1","1","room:lobby","phx_close",{}]
        a <- [null,"1","room:lobby","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
        "#,
    );
}

#[test]
fn the_room_passes_on_the_body_and_drops_the_rest() {
    check(&joined(
        "room:lobby",
        r#"
        b -> ["7","7","room:lobby","phx_join",{}]
        b <- ["7","7","room:lobby","phx_reply",{"status":"ok","response":{}}]
        a -> ["1","2","room:lobby","new_msg",{"user":"eve","body":"hi","body2":1}]
        a <- [null,null,"room:lobby","new_msg",{"body":"hi"}]
        b <- [null,null,"room:lobby","new_msg",{"body":"hi"}]
        "#,
    ));
}

#[test]
fn a_body_is_any_value_and_comes_out_as_it_was_written() {
    let bodies = [
        "null",
        "false",
        "0",
        "-0",
        "1.0",
        "1E400",
        "123456789012345678901234567890",
        r#""""#,
        r#""\u0041\/""#,
        r#""\ud83d\ude00""#,
        "\"😀\"",
        r#"{ "b" : 1 , "a" : [ ] , "b" : 2 }"#,
        "[1,  2,\t3]",
        r#""</script>\u2028""#,
        r#"{"__proto__":{"x":1}}"#,
    ];
    for body in bodies {
        check(&joined(
            "room:lobby",
            &format!(
                r#"
                a -> ["1","2","room:lobby","new_msg",{{"body": {body} }}]
                a <- [null,null,"room:lobby","new_msg",{{"body":{body}}}]
                "#
            ),
        ));
    }
}

#[test]
fn a_payload_passes_as_it_was_written() {
    for payload in [r#"{ "a" : 1.50 , "a" : "\u00e9" }"#, "[ ]", "1e5", r#""\/""#, "{}"] {
        check(&joined(
            "probe:1",
            &format!(
                r#"
                a -> ["1","2","probe:1","echo", {payload} ]
                a <- ["1","2","probe:1","phx_reply",{{"status":"ok","response":{payload}}}]
                a -> ["1","3","probe:1","shout",{payload}]
                a <- [null,null,"probe:1","shout",{payload}]
                "#
            ),
        ));
    }
}

#[test]
fn what_is_no_message_for_the_room_is_answered_with_what_it_takes() {
    for payload in ["{}", "[]", "null", "\"hi\"", "7", r#"{"Body":1}"#, r#"["hi"]"#, r#"["hi",2]"#] {
        check(&joined(
            "room:lobby",
            &format!(
                r#"
                a -> ["1","2","room:lobby","new_msg",{payload}]
                a <- ["1","2","room:lobby","phx_reply",{{"status":"error","response":{{"reason":"new_msg needs an object with a body"}}}}]
                "#
            ),
        ));
    }
    for event in ["new_message", "NEW_MSG", "", "access_token", "presence", "heartbeat"] {
        check(&joined(
            "room:lobby",
            &format!(
                r#"
                a -> ["1","2","room:lobby","{event}",{{"body":"hi"}}]
                a <- ["1","2","room:lobby","phx_reply",{{"status":"error","response":{{"reason":"unknown event: this topic takes new_msg"}}}}]
                "#
            ),
        ));
    }
}

#[test]
fn white_space_and_more_elements_mean_nothing() {
    check_only(
        Serializer::V2,
        &joined(
            "probe:1",
            r#"
            a ->  [ "1" , "2" , "probe:1" , "echo" , { } , "sixth", [7] ]
            a <- ["1","2","probe:1","phx_reply",{"status":"ok","response":{ }}]
            "#,
        ),
    );
    check_only(
        Serializer::V1,
        r#"
        a -> {"ref":"1","payload":{},"more":[1],"event":"phx_join","topic":"probe:1"}
        a <- {"topic":"probe:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}
        "#,
    );
}

#[test]
fn names_may_be_written_with_escapes() {
    check(
        r#"
        a -> ["1","1","\u0072oom:lobby","phx\u005fjoin",{}]
        a <- ["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]
        a -> ["1","2","room:lobby","new\u005fmsg",{"b\u006fdy":1}]
        a <- [null,null,"room:lobby","new_msg",{"body":1}]
        "#,
    );
}

#[test]
fn what_one_channel_remembers_no_other_knows() {
    check(
        r#"
        a -> ["1","1","probe:1","phx_join",{}]
        a <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
        a -> ["2","2","probe:2","phx_join",{}]
        a <- ["2","2","probe:2","phx_reply",{"status":"ok","response":{}}]
        b -> ["1","1","probe:1","phx_join",{}]
        b <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
        a -> ["1","3","probe:1","note","one"]
        a <- ["1","3","probe:1","phx_reply",{"status":"ok","response":null}]
        a -> ["2","4","probe:2","note","two"]
        a <- ["2","4","probe:2","phx_reply",{"status":"ok","response":null}]
        b -> ["1","2","probe:1","note","three"]
        b <- ["1","2","probe:1","phx_reply",{"status":"ok","response":null}]
        a -> ["1","5","probe:1","note",0]
        a <- ["1","5","probe:1","phx_reply",{"status":"ok","response":"one"}]
        "#,
    );
}
