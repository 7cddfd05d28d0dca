//! Keys: what each may do, and what a key for some topics may learn or do about others.

use serde_json::{Value, json};

use super::world::{KEY, World, key_lines};

const PUBLISHER: &str = "hlr_M4rkedKeyThatPublishes0123456789abcdefghijk";
const DISCONNECTER: &str = "hlr_M4rkedKeyThatDisconnects0123456789abcdefghi";
const READER: &str = "hlr_M4rkedKeyThatReads0123456789abcdefghijklmno";
/// May do everything, in rooms.
const ROOMS: &str = "hlr_M4rkedKeyForRooms0123456789abcdefghijklmnop";

fn world() -> World {
    let keys = [
        key_lines("publisher", PUBLISHER, "scopes = [\"publish\"]"),
        key_lines("disconnecter", DISCONNECTER, "scopes = [\"disconnect\"]"),
        key_lines("reader", READER, "scopes = [\"read\"]"),
        key_lines("rooms", ROOMS, "scopes = [\"publish\", \"disconnect\", \"read\"]\ntopics = [\"room:*\"]"),
    ];
    World::start(&format!("[api]\nmetrics_open = false\n{}", keys.concat()), &[])
}

/// Every operation, and the scope that it needs.
const OPERATIONS: [(&str, &str, Option<&str>); 18] = [
    ("POST", "/api/v1/publish", Some("publish")),
    ("POST", "/api/v1/batch", Some("publish")),
    ("POST", "/api/broadcast", Some("publish")),
    ("POST", "/api/v1/retract", Some("publish")),
    ("POST", "/api/v1/cancel", Some("publish")),
    ("POST", "/api/v1/disconnect", Some("disconnect")),
    ("GET", "/api/v1/connections", Some("read")),
    ("GET", "/api/v1/topics", Some("read")),
    ("GET", "/api/v1/users/{id}", Some("read")),
    ("GET", "/api/v1/history", Some("read")),
    ("GET", "/api/v1/messages/{id}", Some("read")),
    ("GET", "/api/v1/token/check", Some("read")),
    ("POST", "/api/v1/token/check", Some("read")),
    ("GET", "/metrics", Some("read")),
    ("GET", "/api/v1/openapi.json", None),
    ("GET", "/live", None),
    ("GET", "/ready", None),
    ("GET", "/nowhere", None),
];

#[test]
fn the_table_holds_every_operation_of_the_contract() {
    let contract: Value = serde_json::from_str(include_str!("../../../../docs/openapi.json")).unwrap();
    for (path, operations) in contract["paths"].as_object().expect("there are paths") {
        for method in
            operations.as_object().unwrap().keys().filter(|method| ["get", "post"].contains(&&***method))
        {
            let known =
                OPERATIONS.iter().any(|(own, target, _)| own.eq_ignore_ascii_case(method) && target == path);
            assert!(known, "{method} {path}");
        }
    }
}

#[test]
fn a_key_does_what_its_scopes_name_and_nothing_else() {
    let world = world();
    let keys = [("publish", PUBLISHER), ("disconnect", DISCONNECTER), ("read", READER)];
    for (method, path, needed) in OPERATIONS {
        let target = path.replace("{id}", "nobody");
        for (scope, key) in keys {
            let response = world.call(key, method, &target, "{}");
            let lacks = response.status == 403 && response.body.contains("\"forbidden\"");
            assert_eq!(
                lacks,
                needed.is_some_and(|needed| needed != scope),
                "{scope} {method} {path}: {response:?}"
            );
            assert_ne!(response.status, 401, "{scope} {method} {path}: {response:?}");
        }
        for wrong in ["", "hlr_wrong", &KEY[..KEY.len() - 1], &KEY.to_lowercase()] {
            let response = world.call(wrong, method, &target, "{}");
            assert_eq!(
                [401, 429].contains(&response.status),
                needed.is_some(),
                "{method} {path}: {response:?}"
            );
        }
    }
    assert_eq!(world.published(), 0);
}

/// The request is refused because of the topic, or as if there were nothing.
#[track_caller]
fn check_refused(world: &World, method: &str, target: &str, body: &Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = world.call(ROOMS, method, target, &body);
    let expected = match response.status {
        403 => response.body.contains("\"topic_forbidden\""),
        404 => response.body.contains("\"not_found\""),
        _ => false,
    };
    assert!(expected, "{method} {target} {body}: {response:?}");
    assert!(!response.body.contains("S3cret"), "{response:?}");
}

#[test]
fn a_key_for_rooms_reaches_nobody_elsewhere_by_any_way() {
    let world = world();
    let mut victim = world.client("victim");
    for topic in ["room:lobby", "user:victim"] {
        assert_eq!(victim.join(topic)["status"], "ok");
    }
    let sent =
        json!({"user": "victim", "event": "new_msg", "payload": {"body": "S3cret"}, "expires_in": 600});
    let sent = world.done("POST", "/api/v1/publish", &sent.to_string())["id"].clone();
    assert_eq!(victim.event().payload["body"], "S3cret");
    let later = json!({"topic": "user:victim", "event": "new_msg", "payload": {"body": "S3cret"}, "send_at": super::super::users::unix_time() + 3600});
    let later = world.done("POST", "/api/v1/publish", &later.to_string())["id"].clone();
    let connections = world.done("GET", "/api/v1/connections?user=victim", "");
    let connection = connections["connections"][0]["id"].clone();

    let message = |target: Value| {
        let mut message = json!({"event": "new_msg", "payload": {"body": "forged"}});
        message.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
        message
    };
    let elsewhere =
        ["user:victim", "room", "Room:lobby", " room:lobby", "roo:m", "user:room:lobby", "admin:overview"];
    for topic in elsewhere {
        let bad = message(json!({"topic": topic}));
        check_refused(&world, "POST", "/api/v1/publish", &bad);
        // Beside what is allowed; nothing of it is done.
        let both = json!({"messages": [message(json!({"topic": "room:lobby"})), bad]});
        check_refused(&world, "POST", "/api/v1/batch", &both);
        check_refused(&world, "POST", "/api/broadcast", &both);
        let query = topic.replace(' ', "%20");
        check_refused(&world, "GET", &format!("/api/v1/history?topic={query}"), &Value::Null);
        check_refused(&world, "GET", &format!("/api/v1/connections?topic={query}"), &Value::Null);
        check_refused(&world, "GET", &format!("/api/v1/topics?prefix={query}"), &Value::Null);
    }
    check_refused(&world, "POST", "/api/v1/publish", &message(json!({"user": "victim"})));
    check_refused(
        &world,
        "POST",
        "/api/v1/batch",
        &json!({"messages": [message(json!({"user": "victim"}))]}),
    );
    for (who, id) in
        [("user", &json!("victim")), ("socket_id", &json!("user_socket:victim")), ("connection", &connection)]
    {
        check_refused(&world, "POST", "/api/v1/disconnect", &json!({who: id}));
    }
    for id in [&sent, &later] {
        check_refused(&world, "POST", "/api/v1/retract", &json!({"id": id}));
        check_refused(&world, "POST", "/api/v1/cancel", &json!({"id": id}));
        check_refused(&world, "GET", &format!("/api/v1/messages/{}", id.as_str().unwrap()), &Value::Null);
    }
    for target in
        ["history", "connections", "topics", "users/victim", "history?text=S3cret", "connections?user=victim"]
    {
        check_refused(&world, "GET", &format!("/api/v1/{target}"), &Value::Null);
    }
    // What it may see of a client in its own room holds nothing of other topics.
    let seen = world.call(ROOMS, "GET", "/api/v1/connections?topic=room:lobby", "");
    assert!(seen.status == 200 && !seen.body.contains("user:victim"), "{seen:?}");
    let seen = world.call(ROOMS, "GET", "/api/v1/topics?prefix=room:", "");
    assert!(seen.status == 200 && !seen.body.contains("user:"), "{seen:?}");

    // All is as it was, and what the key is for it does: the first that the victim gets is this.
    for (id, state) in [(&sent, "sent"), (&later, "scheduled")] {
        let target = format!("/api/v1/messages/{}", id.as_str().unwrap());
        assert_eq!(world.done("GET", &target, "")["message"]["state"], state);
    }
    let good =
        world.call(ROOMS, "POST", "/api/v1/publish", &message(json!({"topic": "room:lobby"})).to_string());
    assert_eq!(good.status, 200, "{good:?}");
    let event = victim.event();
    assert_eq!((&*event.topic, &event.payload["body"]), ("room:lobby", &json!("forged")));
    assert_eq!(world.published(), 3);
}

#[test]
fn the_idempotency_keys_of_one_key_say_nothing_to_another() {
    let world = world();
    let body = |text: &str| {
        json!({"topic": "room:lobby", "event": "e", "payload": text, "idempotency_key": "order-1"})
            .to_string()
    };
    let publish = |key: &str, text: &str| world.call(key, "POST", "/api/v1/publish", &body(text));
    let first = publish(PUBLISHER, "S3cret");
    let other = publish(ROOMS, "mine");
    assert_eq!((first.status, other.status), (200, 200));
    assert!(first.body != other.body && other.field("idempotent-replayed").is_none(), "{other:?}");
    let again = publish(PUBLISHER, "S3cret");
    assert_eq!((&again.body, again.field("idempotent-replayed")), (&first.body, Some("true")));
    assert_eq!(publish(PUBLISHER, "other").status, 422);
    assert_eq!(world.published(), 2);
}

#[test]
fn a_key_in_an_address_is_refused_with_the_header_that_is_for_it() {
    let world = world();
    for query in [&*format!("api_key={KEY}"), &format!("x={KEY}"), "key=1", "access_token=1", "TOKEN=1"] {
        for path in ["/api/v1/topics", "/metrics", "/api/v1/publish", "/nowhere"] {
            let response = world.call(KEY, "GET", &format!("{path}?{query}"), "");
            assert_eq!(response.status, 400, "{path}: {response:?}");
            assert!(
                response.body.contains("key_in_query") && response.body.contains("X-API-Key"),
                "{response:?}"
            );
            assert!(!response.body.contains("M4rked"), "{response:?}");
        }
    }
}

#[test]
fn guessing_keys_is_held_up_and_counted_and_a_good_key_is_let_in() {
    let world = world();
    let guess = |n: usize| world.call(&format!("hlr_M4rkedGuess{n}"), "GET", "/api/v1/topics", "");
    let statuses: Vec<u16> = (0..25).map(|n| guess(n).status).collect();
    assert_eq!((&statuses[..20], &statuses[20..]), (&[401; 20][..], &[429; 5][..]));
    assert!(guess(25).field("retry-after").is_some());
    assert_eq!(world.call(KEY, "GET", "/api/v1/topics", "").status, 200);
    let line = world.hailer.log_line("an address gives wrong API keys");
    assert!(line.contains("address=127.0.0.1") && !line.contains("M4rked"), "{line}");
    let metrics = world.call(KEY, "GET", "/metrics", "").body;
    assert!(metrics.contains("\nhailer_guesses_total{what=\"api_key\"} 26\n"), "{metrics}");
    assert!(metrics.contains("\nhailer_lockouts_total 1\n"), "{metrics}");
}
