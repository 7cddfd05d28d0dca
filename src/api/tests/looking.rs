//! Looking around.

use super::*;

#[track_caller]
fn check_asked(target: &str, expected: &str) -> Value {
    let bench = Bench::new();
    let reply = bench.get_as(READER, target);
    assert_eq!(reply.status, Status::Ok, "{target}: {:?}", reply.body);
    assert_eq!(bench.desk.asked(), [expected], "{target}");
    body_of(&reply)
}

#[test]
fn connections_are_listed_as_asked() {
    let page = check_asked(
        "/api/v1/connections",
        "ConnectionQuery { user: None, topic: None, transport: None, order: Any, limit: 100, after: None }",
    );
    assert_eq!((&page["total"], &page["connections"][0]["id"]), (&9.into(), &"0.7".into()));
    check_asked(
        "/api/v1/connections?user=J%C3%BCrgen+K&topic=room:a%26b&transport=longpoll&limit=1000&after=0.7",
        "ConnectionQuery { user: Some(\"Jürgen K\"), topic: Some(\"room:a&b\"), transport: Some(LongPoll), order: Any, \
         limit: 1000, after: Some(\"0.7\") }",
    );
    for (name, order) in [("any", "Any"), ("oldest", "Oldest"), ("slowest", "Slowest")] {
        check_asked(
            &format!("/api/v1/connections?transport=websocket&order={name}&limit=1"),
            &format!(
                "ConnectionQuery {{ user: None, topic: None, transport: Some(WebSocket), order: {order}, limit: 1, \
                 after: None }}"
            ),
        );
    }
}

#[test]
fn topics_are_listed_as_asked() {
    let page = check_asked("/api/v1/topics", "TopicQuery { prefix: None, limit: 100 }");
    assert_eq!((&page["total"], &page["topics"][0]["subscribers"]), (&5.into(), &2.into()));
    check_asked("/api/v1/topics?prefix=room:&limit=7", "TopicQuery { prefix: Some(\"room:\"), limit: 7 }");
}

#[test]
fn the_history_is_listed_as_asked() {
    let page = check_asked(
        "/api/v1/history",
        "MessageQuery { topic: None, sender: None, state: None, text: None, limit: 100, before: None }",
    );
    assert_eq!((&page["next"], &page["messages"][0]["payload"]["body"]), (&7.into(), &"<b>".into()));
    check_asked(
        "/api/v1/history?topic=a&sender=key:orders&state=retracted&text=%22x%25&limit=5&before=7",
        "MessageQuery { topic: Some(\"a\"), sender: Some(\"key:orders\"), state: Some(Retracted), \
         text: Some(\"\\\"x%\"), limit: 5, before: Some(7) }",
    );
}

#[test]
fn a_parameter_that_is_wrong_is_named() {
    let bench = Bench::new();
    let check = |target: &str, field: &str, part: &str| {
        let reply = bench.get_as(READER, target);
        let message = bench.check_refused(&reply, Code::InvalidRequest, Some(field));
        assert!(message.contains(part), "{target}: {message}");
    };
    check("/api/v1/connections?usr=1", "usr", "\"user\"");
    check("/api/v1/connections?limit=1&limit=1", "limit", "twice");
    for wrong in ["", "0", "1001", "-1", "+1", "1.0", "a"] {
        check(&format!("/api/v1/topics?limit={}", wrong.replace('+', "%2B")), "limit", "");
    }
    check("/api/v1/connections?transport=tcp", "transport", "websocket, longpoll");
    check("/api/v1/connections?order=slow", "order", "any, oldest, slowest");
    check("/api/v1/connections?order=oldest&after=0.7", "after", "order");
    check("/api/v1/history?state=lost", "state", "retracted");
    check("/api/v1/history?before=9223372036854775808", "before", "whole number");
    check("/api/v1/topics?prefix=%00", "prefix", "control");
    check("/api/v1/topics?prefix=", "prefix", "empty");
    check("/api/v1/topics?prefix=%", "query", "%25");
    check("/api/v1/topics?prefix=%ff", "query", "UTF-8");
    check(&format!("/api/v1/topics?prefix={}", "a".repeat(256)), "prefix", "255");
    check("/api/v1/users/42?limit=1", "limit", "no parameters");
    check(&format!("/api/v1/topics?{}=1", "x".repeat(10_000)), &"x".repeat(64), "prefix");
}

#[test]
fn a_user_is_found_by_an_escaped_id() {
    let bench = Bench::new();
    for (path, user) in [("42", "42"), ("a%2Fb%3Fc", "a/b?c"), ("J%C3%BCrgen", "Jürgen"), ("a+b", "a+b")] {
        let reply = bench.get_as(READER, &format!("/api/v1/users/{path}"));
        let topic = format!("user:{user}");
        assert_eq!((&body_of(&reply)["user"], &body_of(&reply)["topic"]), (&user.into(), &topic.into()));
    }
    for path in ["%", "%4", "%zz", "%ff", "%00", "a%0Ab", &"a".repeat(256)] {
        let reply = bench.get_as(READER, &format!("/api/v1/users/{path}"));
        bench.check_refused(&reply, Code::InvalidRequest, Some("id"));
    }
}

#[test]
fn a_message_is_found_by_its_id() {
    let bench = Bench::new();
    let body = body_of(&bench.get_as(READER, "/api/v1/messages/m1"));
    assert_eq!((&body["message"]["id"], &body["progress"]["addressed"]), (&"m1".into(), &2.into()));
    let body = body_of(&bench.get_as(READER, "/api/v1/messages/s1"));
    assert!(body.get("progress").is_none());
    for id in ["m9", "%", "%00"] {
        let reply = bench.get_as(READER, &format!("/api/v1/messages/{id}"));
        bench.check_refused(&reply, Code::NotFound, Some("id"));
    }
}

#[test]
fn a_token_is_checked_from_body_or_header() {
    let bench = Bench::new();
    let get = |headers: &[(&str, &str)]| {
        let headers = [headers, &[("x-api-key", READER)]].concat();
        bench.call(&request(Method::Get, "/api/v1/token/check", &headers, ""))
    };
    let good = serde_json::json!({ "valid": true, "user": "42", "expires_at": 7 });
    assert_eq!(body_of(&get(&[("x-hailer-token", "good")])), good);
    assert_eq!(body_of(&get(&[("x-hailer-token", "old")]))["reason"], "token expired");
    let twice = &[("x-hailer-token", "good"), ("x-hailer-token", "old")];
    for headers in [&[][..], twice, &[("x-hailer-token", "")], &[("x-hailer-token", "a b")]] {
        bench.check_refused(&get(headers), Code::InvalidRequest, Some("x-hailer-token"));
    }
    let post = |body: &str| bench.post_as(READER, "/api/v1/token/check", body);
    assert_eq!(body_of(&post(r#"{"token":"good"}"#)), good);
    for body in ["{}", r#"{"token":7}"#, r#"{"token":""}"#] {
        bench.check_refused(&post(body), Code::InvalidRequest, Some("token"));
    }
}

#[test]
fn a_key_for_some_topics_sees_no_other() {
    let bench = Bench::new();
    let get = |target: &str| bench.get_as(LIMITED, target);
    let forbidden = |target: &str, field: &str| {
        bench.check_refused(&get(target), Code::TopicForbidden, Some(field));
        assert_eq!(bench.desk.asked(), [""; 0], "{target}");
    };
    forbidden("/api/v1/connections", "topic");
    forbidden("/api/v1/connections?topic=room:staff", "topic");
    forbidden("/api/v1/connections?user=42", "topic");
    forbidden("/api/v1/history", "topic");
    forbidden("/api/v1/history?topic=room:staff", "topic");
    forbidden("/api/v1/topics", "prefix");
    forbidden("/api/v1/topics?prefix=room:", "prefix");
    forbidden("/api/v1/users/nobody", "id");
    bench.check_refused(&get("/api/v1/messages/s1"), Code::NotFound, Some("id"));
    assert_eq!(get("/api/v1/messages/m1").status, Status::Ok);
    assert_eq!(get("/api/v1/history?topic=room:lobby").status, Status::Ok);

    let page = body_of(&get("/api/v1/topics?prefix=room:lobby"));
    assert_eq!((page["topics"].as_array().unwrap().len(), &page["total"]), (1, &1.into()));
    let page = body_of(&get("/api/v1/connections?topic=room:lobby"));
    assert_eq!(page["connections"][0]["topics"], serde_json::json!(["room:lobby", "user:42"]));
    assert_eq!(body_of(&get("/api/v1/users/42"))["online"], true);

    let lobby = key("lobby", LIMITED, &[Scope::Read], &["room:*"]);
    let bench = Bench::with(Config::new(vec![lobby]));
    let page = body_of(&bench.get_as(LIMITED, "/api/v1/connections?topic=room:lobby"));
    let connection = &page["connections"][0];
    assert_eq!(connection["topics"], serde_json::json!(["room:lobby"]));
    assert_eq!(connection["topic_count"], 1);
    bench.check_refused(&bench.get_as(LIMITED, "/api/v1/users/42"), Code::TopicForbidden, Some("id"));
}

#[test]
fn a_store_that_cannot_be_read_is_no_empty_one() {
    let bench = Bench::new();
    let error = crate::desk::DeskError::new(crate::desk::ErrorCode::StoreUnavailable, "The disk is gone.");
    bench.desk.script().error = Some(error);
    for target in ["/api/v1/history", "/api/v1/messages/m1"] {
        let reply = bench.get_as(READER, target);
        bench.check_refused(&reply, Code::StoreUnavailable, None);
    }
}
