//! Publishing, taking back, putting off the line.

use super::*;
use crate::desk::{DeskError, Draft, ErrorCode, Target};

const PUBLISH: &str = "/api/v1/publish";
const BATCH: &str = "/api/v1/batch";

/// The draft that a body becomes.
#[track_caller]
fn draft(body: &str) -> Draft {
    let bench = Bench::new();
    let reply = bench.post_as(KEY, PUBLISH, body);
    assert!(reply.status.code() < 300, "{:?}", body_of(&reply));
    assert_eq!(bench.desk.asked(), [format!("publish 1 as key:all at {AT}")]);
    bench.desk.script().published.remove(0).drafts.remove(0)
}

#[test]
fn a_message_is_published_as_it_is_written() {
    let bench = Bench::new();
    let body = r#" {"topic":"room:lobby" , "event":"new_msg", "payload": {"a" : [1.0, "\u00e9"]} } "#;
    let reply = bench.post_as(KEY, PUBLISH, body);
    assert_eq!(reply.status, Status::Ok);
    let expected = serde_json::json!({
        "id": "m0", "topic": "room:lobby", "offset": 0, "subscribers": 2, "durability": "memory", "state": "sent",
    });
    assert_eq!(body_of(&reply), expected);
    assert_eq!(header_of(&reply, "idempotent-replayed"), None);
    let draft = draft(body);
    assert_eq!(draft.target, Target::Topic("room:lobby".to_owned()));
    assert_eq!((&*draft.event, draft.payload.get()), ("new_msg", r#"{"a" : [1.0, "\u00e9"]}"#));
    assert_eq!((draft.lifetime, draft.send_at, draft.with_id, draft.receipts), (None, None, false, false));
}

#[test]
fn every_field_of_a_message_is_read() {
    let draft = draft(
        r#"{"user":"J\u00fcrgen","event":"e\u0021","payload":{},"durability":"disk","expires_in":60,
            "send_at":1800000001,"with_id":false,"receipts":true,"idempotency_key":"k"}"#,
    );
    assert_eq!(draft.target, Target::User("Jürgen".to_owned()));
    assert_eq!((&*draft.event, draft.durability), ("e!", Durability::Disk));
    assert_eq!((draft.lifetime, draft.send_at), (Some(Duration::from_secs(60)), Some(AT + 1000)));
    assert!(draft.with_id, "a lifetime needs an id");
    assert!(draft.receipts);
}

#[test]
fn a_whole_number_may_be_written_as_a_float() {
    for number in ["60", "60.0", "6e1", "600E-1"] {
        let body = format!(r#"{{"topic":"a","event":"e","payload":{{}},"expires_in":{number}}}"#);
        assert_eq!(draft(&body).lifetime, Some(Duration::from_secs(60)), "{number}");
    }
}

#[test]
fn payloads_are_any_json() {
    for payload in ["{}", "[]", "null", "0", "-1e400", r#""\ud83d\ude00""#, r#"{"a":1,"a":2}"#] {
        let body = format!(r#"{{"topic":"a","event":"e","payload":{payload}}}"#);
        assert_eq!(draft(&body).payload.get(), payload);
    }
}

#[test]
fn the_default_durability_is_the_settings() {
    let bench = Bench::with(Config { default_durability: Durability::None, ..Config::new(keys()) });
    let reply = bench.post_as(KEY, PUBLISH, r#"{"topic":"a","event":"e","payload":1}"#);
    assert_eq!(body_of(&reply)["durability"], "none");
}

#[test]
fn a_scheduled_message_is_accepted() {
    let bench = Bench::new();
    let reply = bench.post_as(KEY, PUBLISH, r#"{"topic":"a","event":"e","payload":1,"send_at":1800000001}"#);
    assert_eq!((reply.status, &body_of(&reply)["state"]), (Status::Accepted, &"scheduled".into()));
}

#[test]
fn what_is_wrong_in_a_message_is_named() {
    let bench = Bench::new();
    let invalid = |body: &str, field: &str, part: &str| {
        let reply = bench.post_as(KEY, PUBLISH, body);
        let message = bench.check_refused(&reply, Code::InvalidRequest, Some(field));
        assert!(message.contains(part), "{body}: {message}");
        // The same in a batch, behind a good one.
        if !body.contains("idempotency_key") {
            let batch = format!(r#"{{"messages":[{{"topic":"a","event":"e","payload":1}},{body}]}}"#);
            let reply = bench.post_as(KEY, BATCH, &batch);
            let field = format!("messages[1].{field}");
            let again = bench.check_refused(&reply, Code::InvalidRequest, Some(&field));
            assert_eq!(again, message);
        }
    };
    invalid("{}", "topic", "\"user\"");
    invalid(r#"{"topic":"a","user":"b","event":"e","payload":1}"#, "user", "exclude");
    invalid(r#"{"topic":"a","payload":1}"#, "event", "missing");
    invalid(r#"{"topic":"a","event":"e"}"#, "payload", "missing");
    invalid(r#"{"topik":"a"}"#, "topik", "\"topic\"");
    invalid(r#"{"topic":"a","topic":"a"}"#, "topic", "twice");
    invalid(r#"{"topic":"a","to\u0070ic":"a"}"#, "topic", "twice");
    invalid(r#"{"topic":1}"#, "topic", "a string");
    invalid(r#"{"topic":null,"event":"e","payload":1}"#, "topic", "a string");
    invalid(r#"{"topic":""}"#, "topic", "empty");
    invalid(r#"{"topic":"a\u0000"}"#, "topic", "control");
    invalid(r#"{"topic":"a\nb"}"#, "topic", "control");
    invalid(r#"{"topic":"phoenix"}"#, "topic", "protocol");
    invalid(&format!(r#"{{"topic":"{}"}}"#, "é".repeat(128)), "topic", "255");
    invalid(r#"{"user":""}"#, "user", "empty");
    for event in ["phx_join", "phx_", "disconnect", "presence_state", "presence_diff"] {
        invalid(&format!(r#"{{"topic":"a","event":"{event}","payload":1}}"#), "event", "protocol");
    }
    let with = |more: &str| format!(r#"{{"topic":"a","event":"e","payload":1,{more}}}"#);
    invalid(&with(r#""durability":"ram""#), "durability", "\"disk\"");
    invalid(&with(r#""with_id":1"#), "with_id", "true or false");
    invalid(&with(r#""receipts":"yes""#), "receipts", "true or false");
    for wrong in ["0", "-1", "1.5", "\"60\"", "2592001", "1e99", "null", "true", "[]"] {
        invalid(&with(&format!(r#""expires_in":{wrong}"#)), "expires_in", "from 1 to 2592000");
    }
    for wrong in ["1800000000000", "1831622401"] {
        invalid(&with(&format!(r#""send_at":{wrong}"#)), "send_at", "milliseconds");
    }
    invalid(&with(r#""send_at":-1"#), "send_at", "whole number");
    invalid(&with(r#""with_id":true"#), "payload", "an object");
    invalid(&with(r#""expires_in":5"#), "payload", "an object");
    invalid(&with(r#""idempotency_key":"""#), "idempotency_key", "empty");
    invalid(&with(r#""idempotency_key":7"#), "idempotency_key", "a string");
    let lone = r#"{"topic":"a","event":"e","payload":["\ud800"]}"#;
    invalid(lone, "payload", "surrogates");
    invalid(r#"{"topic":"\ud800","event":"e","payload":1}"#, "topic", "a string");
}

#[test]
fn a_payload_has_bounds() {
    let bench = Bench::with(Config { payload_bytes_max: 10, json_depth_max: 3, ..Config::new(keys()) });
    let post = |payload: &str| {
        bench.post_as(KEY, PUBLISH, &format!(r#"{{"topic":"a","event":"e","payload":{payload}}}"#))
    };
    assert_eq!(post(r#""12345678""#).status, Status::Ok);
    bench.desk.asked();
    bench.check_refused(&post(r#""123456789""#), Code::TooLarge, Some("payload"));
    assert_eq!(post("[[[]]]").status, Status::Ok);
    bench.desk.asked();
    bench.check_refused(&post("[[[[]]]]"), Code::InvalidRequest, Some("payload"));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    bench.check_refused(&post(&deep), Code::TooLarge, Some("payload"));
}

#[test]
fn what_is_no_json_is_refused() {
    let bench = Bench::new();
    let post = |body: &[u8]| {
        let headers = [("x-api-key", KEY), ("content-type", "application/json")];
        let mut request = request(Method::Post, BATCH, &headers, "");
        request.body = body.to_vec();
        bench.call(&request)
    };
    for body in ["", " ", "{", "{}{}", "{} x", "nul", "{'a':1}", r#"{"messages":[}"#, r#"{"messages":[],}"#] {
        bench.check_refused(&post(body.as_bytes()), Code::InvalidJson, None);
    }
    bench.check_refused(&post(b"{\"messages\":\"\xff\"}"), Code::InvalidJson, None);
    bench.check_refused(&post(br#"{"\ud800":1}"#), Code::InvalidJson, None);
    for body in ["[]", "1", "null", "\"{}\""] {
        bench.check_refused(&post(body.as_bytes()), Code::InvalidRequest, None);
    }
    bench.check_refused(&post(b"{}"), Code::InvalidRequest, Some("messages"));
    bench.check_refused(&post(br#"{"messages":{}}"#), Code::InvalidRequest, Some("messages"));
    bench.check_refused(&post(br#"{"messages":[]}"#), Code::InvalidRequest, Some("messages"));
    bench.check_refused(&post(br#"{"messages":null}"#), Code::InvalidRequest, Some("messages"));
    bench.check_refused(&post(br#"{"messages":[7]}"#), Code::InvalidRequest, Some("messages[0]"));
    let good = r#"{"topic":"a","event":"e","payload":1}"#;
    let list = format!(r#"{{"messages":[{good},{good},[]]}}"#);
    bench.check_refused(&post(list.as_bytes()), Code::InvalidRequest, Some("messages[2]"));
    let twice = format!(r#"{{"messages":[{good}],"messages":[{good}]}}"#);
    bench.check_refused(&post(twice.as_bytes()), Code::InvalidRequest, Some("messages"));
    let nested = r#"{"messages":[{"messages":[]}]}"#;
    bench.check_refused(&post(nested.as_bytes()), Code::InvalidRequest, Some("messages[0].messages"));
    let unknown = format!(r#"{{"{}":1}}"#, "x".repeat(100_000));
    bench.check_refused(&post(unknown.as_bytes()), Code::InvalidRequest, Some(&"x".repeat(64)));
}

#[test]
fn no_prefix_of_a_body_is_published() {
    let bench = Bench::new();
    let body = r#"{"messages":[{"topic":"a","event":"e","payload":{"a":[1,"\n"]}}],"idempotency_key":"k"}"#;
    for end in 0..body.len() {
        let reply = bench.post_as(KEY, BATCH, &body[..end]);
        bench.check_refused(&reply, Code::InvalidJson, None);
    }
    assert_eq!(bench.post_as(KEY, BATCH, body).status, Status::Ok);
}

#[test]
fn a_batch_is_published_whole_and_in_its_order() {
    let bench = Bench::new();
    let body = r#"{"idempotency_key":"k","messages":[
        {"topic":"room:b","event":"e","payload":1},{"user":"42","event":"e","payload":2},
        {"topic":"room:a","event":"e","payload":3,"send_at":1800000009}]}"#;
    let reply = bench.post_as(KEY, BATCH, body);
    assert_eq!(reply.status, Status::Ok);
    let topics: Vec<_> =
        body_of(&reply)["messages"].as_array().unwrap().iter().map(|m| m["topic"].clone()).collect();
    assert_eq!(topics, ["room:b", "user:42", "room:a"]);
    assert_eq!(body_of(&reply)["replayed"], false);
    let publish = bench.desk.script().published.remove(0);
    let payloads: Vec<_> = publish.drafts.iter().map(|draft| draft.payload.get()).collect();
    assert_eq!((payloads, publish.idempotency_key.as_deref()), (vec!["1", "2", "3"], Some("k")));
    bench.desk.asked();

    let four = format!(r#"{{"messages":[{}]}}"#, [r#"{"topic":"a","event":"e","payload":1}"#; 4].join(","));
    let message = bench.check_refused(&bench.post_as(KEY, BATCH, &four), Code::TooLarge, Some("messages"));
    assert!(message.contains('3'), "{message}");
}

#[test]
fn an_idempotency_key_is_taken_from_body_or_header() {
    let bench = Bench::new();
    let check = |in_body: Option<&str>, in_header: &[&str], expected: Result<Option<&str>, Code>| {
        for path in [PUBLISH, BATCH, "/api/broadcast"] {
            let more = match in_body {
                Some(_) if path == "/api/broadcast" => continue,
                Some(key) => format!(r#","idempotency_key":"{key}""#),
                None => String::new(),
            };
            let message = r#""topic":"a","event":"e","payload":1"#;
            let body = match path {
                PUBLISH => format!("{{{message}{more}}}"),
                _ => format!(r#"{{"messages":[{{{message}}}]{more}}}"#),
            };
            let mut headers = vec![("x-api-key", KEY), ("content-type", "application/json")];
            headers.extend(in_header.iter().map(|value| ("idempotency-key", *value)));
            let reply = bench.call(&request(Method::Post, path, &headers, &body));
            match expected {
                Ok(key) => {
                    assert!(reply.status.code() < 300, "{:?}", reply.body);
                    let publish = bench.desk.script().published.remove(0);
                    assert_eq!(publish.idempotency_key.as_deref(), key);
                    bench.desk.asked();
                }
                Err(code) => _ = bench.check_refused(&reply, code, Some("idempotency_key")),
            }
        }
    };
    let long = "k".repeat(256);
    check(None, &[], Ok(None));
    check(Some("a"), &[], Ok(Some("a")));
    check(None, &["a"], Ok(Some("a")));
    check(Some("a"), &["a"], Ok(Some("a")));
    check(None, &["a", "a"], Ok(Some("a")));
    check(Some("a"), &["b"], Err(Code::InvalidRequest));
    check(None, &["a", "b"], Err(Code::InvalidRequest));
    check(None, &[""], Err(Code::InvalidRequest));
    check(None, &["a b"], Err(Code::InvalidRequest));
    check(None, &["é"], Err(Code::InvalidRequest));
    check(None, &[&long], Err(Code::InvalidRequest));
}

#[test]
fn a_repeated_answer_says_so() {
    let bench = Bench::new();
    bench.desk.script().replayed = true;
    let message = r#"{"topic":"a","event":"e","payload":1}"#;
    let list = format!(r#"{{"messages":[{message}]}}"#);
    for (path, body) in [(PUBLISH, message), (BATCH, &list), ("/api/broadcast", &list)] {
        let reply = bench.post_as(KEY, path, body);
        assert_eq!(header_of(&reply, "idempotent-replayed"), Some("true"), "{path}");
    }
}

#[test]
fn errors_of_the_desk_have_a_status_each() {
    let bench = Bench::new();
    let check = |code, expected: Code, retry_after: Option<&str>| {
        let error = DeskError { field: Some("messages[0].topic".to_owned()), ..DeskError::new(code, "No.") };
        bench.desk.script().error = Some(error);
        let message = r#"{"topic":"a","event":"e","payload":1}"#;
        let reply = bench.post_as(KEY, PUBLISH, message);
        let error = &body_of(&reply)["error"];
        assert_eq!((&error["code"], &error["field"]), (&expected.as_str().into(), &"topic".into()));
        assert_eq!((reply.status, header_of(&reply, "retry-after")), (expected.status(), retry_after));
        let reply = bench.post_as(KEY, BATCH, &format!(r#"{{"messages":[{message}]}}"#));
        assert_eq!(body_of(&reply)["error"]["field"], "messages[0].topic");
    };
    check(ErrorCode::Invalid, Code::InvalidRequest, None);
    check(ErrorCode::TooLarge, Code::TooLarge, None);
    check(ErrorCode::Conflict, Code::Conflict, None);
    check(ErrorCode::IdempotencyMismatch, Code::IdempotencyMismatch, None);
    check(ErrorCode::IdempotencyInProgress, Code::IdempotencyInProgress, Some("1"));
    check(ErrorCode::Overloaded, Code::Overloaded, Some("1"));
    check(ErrorCode::StoreUnavailable, Code::StoreUnavailable, Some("5"));
    bench.desk.script().error = Some(DeskError::new(ErrorCode::NotFound, "No."));
    let reply = bench.post_as(KEY, "/api/v1/retract", r#"{"id":"m9"}"#);
    assert_eq!(body_of(&reply)["error"]["code"], "not_found");
}

#[test]
fn supabases_callers_get_what_they_know() {
    let bench = Bench::new();
    let body = r#"{"messages":[{"topic":"room:a","event":"new_msg","payload":{"a":1},"private":true}]}"#;
    let reply = bench.post_as(KEY, "/api/broadcast", body);
    assert_eq!((reply.status, &*reply.body), (Status::Accepted, &b""[..]));
    let draft = bench.desk.script().published.remove(0).drafts.remove(0);
    assert_eq!(draft.target, Target::Topic("room:a".to_owned()));
    assert_eq!((&*draft.event, draft.payload.get()), ("new_msg", r#"{"a":1}"#));
    bench.desk.asked();
    let invalid = |message: &str, field: &str| {
        let reply = bench.post_as(KEY, "/api/broadcast", &format!(r#"{{"messages":[{message}]}}"#));
        bench.check_refused(&reply, Code::InvalidRequest, Some(field));
    };
    invalid(r#"{"event":"e","payload":{}}"#, "messages[0].topic");
    invalid(r#"{"topic":"a","event":"e","payload":{},"private":1}"#, "messages[0].private");
    invalid(r#"{"topic":"a","event":"e","payload":{},"receipts":true}"#, "messages[0].receipts");
    invalid("", "messages");
}

#[test]
fn a_key_for_some_topics_publishes_to_no_other() {
    let bench = Bench::new();
    let forbidden = |path: &str, body: &str, field: Option<&str>| {
        bench.check_refused(&bench.post_as(LIMITED, path, body), Code::TopicForbidden, field);
    };
    let allowed = |path: &str, body: &str| {
        let reply = bench.post_as(LIMITED, path, body);
        assert!(reply.status.code() < 300, "{path} {body}: {:?}", reply.body);
        bench.desk.asked();
    };
    let to = |target: &str| format!(r#"{{{target},"event":"e","payload":1}}"#);
    allowed(PUBLISH, &to(r#""topic":"room:lobby""#));
    allowed(PUBLISH, &to(r#""topic":"user:42""#));
    allowed(PUBLISH, &to(r#""user":"42""#));
    forbidden(PUBLISH, &to(r#""topic":"room:lobby2""#), Some("topic"));
    forbidden(PUBLISH, &to(r#""user":"nobody""#), Some("user"));
    for path in [BATCH, "/api/broadcast"] {
        let both =
            format!(r#"{{"messages":[{},{}]}}"#, to(r#""topic":"room:lobby""#), to(r#""topic":"room:b""#));
        forbidden(path, &both, Some("messages[1].topic"));
    }
    allowed("/api/v1/retract", r#"{"id":"m1"}"#);
    for path in ["/api/v1/retract", "/api/v1/cancel"] {
        for id in ["s1", "m9"] {
            let reply = bench.post_as(LIMITED, path, &format!(r#"{{"id":"{id}"}}"#));
            bench.check_refused(&reply, Code::NotFound, Some("id"));
            assert!(!bench.desk.asked().iter().any(|asked| asked.starts_with("retract")));
        }
    }
    allowed("/api/v1/disconnect", r#"{"user":"42"}"#);
    forbidden("/api/v1/disconnect", r#"{"user":"nobody"}"#, Some("user"));
    forbidden("/api/v1/disconnect", r#"{"socket_id":"user_socket:42"}"#, None);
    forbidden("/api/v1/disconnect", r#"{"connection":"0.7"}"#, None);
}

#[test]
fn messages_are_taken_back() {
    let bench = Bench::new();
    let reply = bench.post_as(KEY, "/api/v1/retract", r#"{"id":"m1"}"#);
    assert_eq!(bench.desk.asked(), ["retract m1 as key:all"]);
    assert_eq!(body_of(&reply)["message"]["state"], "retracted");
    assert_eq!(body_of(&reply)["progress"]["received"], 1);
    let reply = bench.post_as(KEY, "/api/v1/cancel", r#"{"id":"m2"}"#);
    assert_eq!(bench.desk.asked(), ["cancel m2 as key:all"]);
    assert_eq!(body_of(&reply)["message"]["state"], "cancelled");
    assert!(body_of(&reply).get("progress").is_none());
    for body in ["{}", r#"{"id":7}"#, r#"{"id":""}"#, r#"{"id":"a\u0000"}"#] {
        let reply = bench.post_as(KEY, "/api/v1/cancel", body);
        bench.check_refused(&reply, Code::InvalidRequest, Some("id"));
    }
}

#[test]
fn clients_are_put_off_the_line() {
    let bench = Bench::new();
    let check = |body: &str, expected: &str| {
        let reply = bench.post_as(KEY, "/api/v1/disconnect", body);
        assert_eq!(body_of(&reply), serde_json::json!({ "sockets": 2 }), "{body}");
        assert_eq!(bench.desk.asked(), [format!("disconnect {expected} as key:all")]);
    };
    check(r#"{"user":"42"}"#, r#"User("42") true"#);
    check(r#"{"user":"42","reconnect":false}"#, r#"User("42") false"#);
    check(r#"{"socket_id":"user_socket:42"}"#, r#"SocketId("user_socket:42") true"#);
    check(r#"{"connection":"0.7","reconnect":true}"#, r#"Connection("0.7") true"#);
    let invalid = |body: &str, field: &str| {
        let reply = bench.post_as(KEY, "/api/v1/disconnect", body);
        bench.check_refused(&reply, Code::InvalidRequest, Some(field));
    };
    invalid("{}", "user");
    invalid(r#"{"user":"42","connection":"0.7"}"#, "connection");
    invalid(r#"{"user":42}"#, "user");
    invalid(r#"{"usr":"42"}"#, "usr");
    invalid(r#"{"user":"42","reconnect":1}"#, "reconnect");
}

#[test]
fn what_has_no_record_of_its_own_is_audited_before_it_is_done() {
    let bench = Bench::new();
    let acts = [
        ("retract", r#"{"id":"m1"}"#, "m1", ""),
        ("cancel", r#"{"id":"m1"}"#, "m1", ""),
        ("disconnect", r#"{"user":"42"}"#, "42", "user, come back"),
        ("disconnect", r#"{"connection":"0.7","reconnect":false}"#, "0.7", "connection, stay away"),
    ];
    let audited = || std::mem::take(&mut bench.desk.script().audited);
    for (action, body, subject, detail) in acts {
        let path = format!("/api/v1/{action}");
        assert_eq!(bench.post_as(KEY, &path, body).status, Status::Ok);
        let [entry] = &audited()[..] else { panic!("{action}") };
        assert_eq!((&*entry.action, &*entry.subject, &*entry.detail), (action, subject, detail));
        assert_eq!((&*entry.actor, &*entry.address, entry.at), ("key:all", "10.0.0.1", AT));

        bench.desk.script().error = Some(DeskError::new(ErrorCode::Overloaded, "No."));
        assert_eq!(bench.post_as(KEY, &path, body).status, Status::ServiceUnavailable);
        let [_, failed] = &audited()[..] else { panic!("{action}") };
        assert_eq!((failed.action.clone(), &*failed.detail), (format!("{action}_failed"), "overloaded"));
        bench.desk.script().error = None;
        bench.desk.asked();

        bench.desk.script().log_fails = true;
        bench.check_refused(&bench.post_as(KEY, &path, body), Code::StoreUnavailable, None);
        assert_eq!(bench.desk.asked(), [""; 0], "{action} without an entry");
        bench.desk.script().log_fails = false;
    }
    bench.post_as(KEY, PUBLISH, r#"{"topic":"a","event":"e","payload":1}"#);
    assert!(audited().is_empty(), "a message is its own record");
}

#[test]
fn ten_thousand_messages_are_one_publish() {
    let bench = Bench::with(Config::new(keys()));
    let message = |at| format!(r#"{{"user":"{at}","event":"new_msg","payload":{{"body":"Hello, {at}"}}}}"#);
    let list: Vec<String> = (0..10_000).map(message).collect();
    let reply = bench.post_as(KEY, BATCH, &format!(r#"{{"messages":[{}]}}"#, list.join(",")));
    assert_eq!(reply.status, Status::Ok);
    assert_eq!(bench.desk.asked(), [format!("publish 10000 as key:all at {AT}")]);
    assert_eq!(body_of(&reply)["messages"][9_999]["topic"], "user:9999");
}
