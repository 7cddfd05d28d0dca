//! Who is let in, and which requests are none.

use super::*;
use crate::auth::connect::Secret;

const TOPICS: &str = "/api/v1/topics";

#[track_caller]
fn check(headers: &[(&str, &str)], expected: Result<(), Code>) {
    let bench = Bench::new();
    let reply = bench.call(&request(Method::Get, TOPICS, headers, ""));
    match expected {
        Ok(()) => assert_eq!(reply.status, Status::Ok, "{headers:?}"),
        Err(code) => {
            bench.check_refused(&reply, code, None);
            let is_unknown = code == Code::Unauthorized;
            assert_eq!(header_of(&reply, "www-authenticate").is_some(), is_unknown, "{headers:?}");
        }
    }
}

#[test]
fn a_key_is_taken_from_the_headers_that_are_for_it() {
    let bearer = format!("Bearer {KEY}");
    let other = format!("Bearer {READER}");
    check(&[("authorization", &bearer)], Ok(()));
    check(&[("authorization", &bearer.replace("Bearer ", "bEARER  "))], Ok(()));
    check(&[("x-api-key", KEY)], Ok(()));
    check(&[("x-api-key", KEY), ("authorization", &bearer)], Ok(()));
    check(&[("x-api-key", ""), ("authorization", &bearer)], Ok(()));
    check(&[("x-api-key", KEY), ("authorization", "Basic YTpi")], Ok(()));
    check(&[("x-api-key", KEY), ("authorization", &other)], Err(Code::SeveralKeys));
    check(&[("x-api-key", KEY), ("x-api-key", READER)], Err(Code::SeveralKeys));
    check(&[], Err(Code::Unauthorized));
    check(&[("authorization", KEY)], Err(Code::Unauthorized));
    check(&[("authorization", "Bearer ")], Err(Code::Unauthorized));
    check(&[("authorization", "Bearer nonsense")], Err(Code::Unauthorized));
    check(&[("x-api-key", &KEY[1..])], Err(Code::Unauthorized));
    check(&[("x-api-key", &format!("{KEY}A"))], Err(Code::Unauthorized));
    check(&[("apikey", KEY)], Err(Code::Unauthorized));
    check(&[("cookie", &bearer)], Err(Code::Unauthorized));
}

#[test]
fn nobody_is_let_in_where_there_are_no_keys() {
    let bench = Bench::with(Config::new(Vec::new()));
    bench.check_refused(&bench.get_as("", TOPICS), Code::Unauthorized, None);
    bench.check_refused(&bench.get_as(KEY, TOPICS), Code::Unauthorized, None);
}

#[test]
fn a_key_in_an_address_is_refused_with_the_header_that_is_for_it() {
    let bench = Bench::new();
    let check = |target: &str, field: &str| {
        for method in [Method::Get, Method::Post, Method::Delete] {
            let reply = bench.call(&request(method, target, &[("x-api-key", KEY)], "{}"));
            let message = bench.check_refused(&reply, Code::KeyInQuery, Some(field));
            assert!(message.contains("Authorization: Bearer") && message.contains("X-API-Key"), "{message}");
            assert!(!String::from_utf8_lossy(&reply.body).contains("secret"), "{target}");
        }
    };
    for name in ["key", "api_key", "apikey", "token", "access_token", "x-api-key", "authorization"] {
        check(&format!("{TOPICS}?{name}=secret"), name);
        check(&format!("{TOPICS}?limit=5&{}=secret", name.to_uppercase()), name);
    }
    check(&format!("{TOPICS}?prefix=hlr_secret"), "query");
    check(&format!("{TOPICS}?hlr_secret"), "query");
    check("/api/v1/publish?%6Bey=secret", "key");
    check("/api/v1/token/check?token=secret", "token");
    check("/metrics?token=secret", "token");
    check("/nowhere?token=secret", "token");
}

#[test]
fn a_scope_is_needed_for_what_it_names() {
    let bench = Bench::new();
    let check = |reply: &ServiceReply, scope: &str| {
        let message = bench.check_refused(reply, Code::Forbidden, None);
        assert!(message.contains(&format!("\"{scope}\"")), "{message}");
    };
    assert_eq!(bench.get_as(READER, TOPICS).status, Status::Ok);
    for path in ["publish", "batch", "retract", "cancel"] {
        check(&bench.post_as(READER, &format!("/api/v1/{path}"), "{}"), "publish");
    }
    check(&bench.post_as(READER, "/api/broadcast", "{}"), "publish");
    check(&bench.post_as(READER, "/api/v1/disconnect", "{}"), "disconnect");
    let publisher = key("publisher", READER, &[Scope::Publish, Scope::Disconnect], &[]);
    let bench = Bench::with(Config { metrics_open: false, ..Config::new(vec![publisher]) });
    let targets = ["connections", "topics", "users/42", "history", "messages/m1", "token/check"];
    for target in targets.map(|target| format!("/api/v1/{target}")) {
        bench.check_refused(&bench.get_as(READER, &target), Code::Forbidden, None);
    }
    bench.check_refused(&bench.get_as(READER, "/metrics"), Code::Forbidden, None);
}

#[test]
fn guessing_is_answered_429_and_recorded_once() {
    let bench = Bench::with(Config { failures_per_minute_max: 2, ..Config::new(keys()) });
    let mut wrong = request(Method::Get, TOPICS, &[("x-api-key", "hlr_guess")], "");
    for _ in 0..2 {
        bench.check_refused(&bench.call(&wrong), Code::Unauthorized, None);
    }
    for _ in 0..3 {
        let reply = bench.call(&wrong);
        bench.check_refused(&reply, Code::TooManyFailures, None);
        assert_eq!(header_of(&reply, "retry-after"), Some("60"));
    }
    let audited = std::mem::take(&mut bench.desk.script().audited);
    let [entry] = &audited[..] else { panic!("{audited:?}") };
    assert_eq!((&*entry.action, &*entry.subject, &*entry.actor), ("locked", "10.0.0.1", "local:unknown"));
    assert_eq!(entry.at, AT);
    assert!(!format!("{audited:?}").contains("hlr_guess"));

    assert_eq!(bench.get_as(KEY, TOPICS).status, Status::Ok, "a good key is no guess");
    let keyless = bench.call(&request(Method::Get, TOPICS, &[], ""));
    bench.check_refused(&keyless, Code::Unauthorized, None);
    let later = bench.api.call(&wrong, AT + 60_000);
    bench.check_refused(&later, Code::Unauthorized, None);
    wrong.peer = IpAddr::from([10, 0, 0, 2]);
    bench.check_refused(&bench.call(&wrong), Code::Unauthorized, None);
}

#[test]
fn supabases_header_is_for_supabases_path() {
    let bench = Bench::new();
    let body = r#"{"messages":[{"topic":"room:a","event":"e","payload":{}}]}"#;
    let post = |path: &str, headers: &[(&str, &str)]| {
        let headers = [headers, &[("content-type", "application/json")]].concat();
        bench.call(&request(Method::Post, path, &headers, body)).status
    };
    let bearer = format!("Bearer {KEY}");
    assert_eq!(post("/api/broadcast", &[("apikey", KEY)]), Status::Accepted);
    assert_eq!(post("/api/broadcast", &[("apikey", KEY), ("authorization", &bearer)]), Status::Accepted);
    assert_eq!(post("/api/broadcast", &[("apikey", KEY), ("authorization", "")]), Status::Accepted);
    assert_eq!(post("/api/broadcast", &[("apikey", READER), ("authorization", &bearer)]), Status::BadRequest);
    assert_eq!(post("/api/v1/batch", &[("apikey", KEY)]), Status::Unauthorized);
}

#[test]
fn paths_and_methods_are_exact() {
    let bench = Bench::new();
    let call = |method, path: &str| bench.call(&request(method, path, &[("x-api-key", KEY)], ""));
    let nowhere = [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/publish/",
        "/API/v1/publish",
        "/api//v1/publish",
        "/api/v2/publish",
        "/api/v1/users",
        "/api/v1/users/",
        "/api/v1/users/a/b",
        "/api/v1/messages/",
        "/api/v1/%70ublish",
        "/livez",
        "*",
    ];
    for path in nowhere {
        bench.check_refused(&call(Method::Get, path), Code::NotFound, None);
        bench.check_refused(&call(Method::Post, path), Code::NotFound, None);
    }
    let wrong = [
        (Method::Get, "/api/v1/publish", "POST"),
        (Method::Head, "/api/broadcast", "POST"),
        (Method::Options, "/api/v1/publish", "POST"),
        (Method::Post, "/api/v1/topics", "GET, HEAD"),
        (Method::Delete, "/api/v1/users/42", "GET, HEAD"),
        (Method::Put, "/api/v1/token/check", "GET, HEAD, POST"),
        (Method::Trace, "/live", "GET, HEAD"),
        (Method::Patch, "/metrics", "GET, HEAD"),
    ];
    for (method, path, allow) in wrong {
        let reply = call(method, path);
        bench.check_refused(&reply, Code::MethodNotAllowed, None);
        assert_eq!(header_of(&reply, "allow"), Some(allow), "{path}");
        let names = reply.headers.iter().map(|(name, _)| *name);
        assert!(!names.into_iter().any(|name| name.starts_with("access-control")), "no page may call");
    }
}

#[test]
fn head_is_answered_as_get_is() {
    let bench = Bench::new();
    for path in ["/live", "/ready", "/metrics", "/api/v1/openapi.json", "/api/v1/topics", "/api/v1/users/%"] {
        let [get, head] = [Method::Get, Method::Head]
            .map(|method| bench.call(&request(method, path, &[("x-api-key", KEY)], "")));
        assert_eq!(get, head, "{path}");
    }
}

#[test]
fn a_body_must_be_announced_as_json() {
    let bench = Bench::new();
    let body = r#"{"topic":"room:a","event":"e","payload":1}"#;
    let check = |types: &[&str], expected: Status| {
        let mut headers = vec![("x-api-key", KEY)];
        headers.extend(types.iter().map(|value| ("content-type", *value)));
        let reply = bench.call(&request(Method::Post, "/api/v1/publish", &headers, body));
        assert_eq!(reply.status, expected, "{types:?}");
    };
    check(&["application/json"], Status::Ok);
    check(&["Application/JSON; charset=UTF-8"], Status::Ok);
    check(&["application/json;charset=\"utf-8\""], Status::Ok);
    check(&["application/json; profile=\"https://example.com/v1\"; charset=utf-8"], Status::Ok);
    let foreign = ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"];
    for foreign in
        foreign.into_iter().chain(["application/jsonp", "application/json; charset=latin1", "json"])
    {
        check(&[foreign], Status::UnsupportedMediaType);
    }
    check(&[], Status::UnsupportedMediaType);
    check(&["application/json", "text/plain"], Status::UnsupportedMediaType);
}

#[test]
fn health_and_metrics_are_open_unless_they_are_not() {
    let bench = Bench::new();
    let get = |path: &str| bench.call(&request(Method::Get, path, &[], ""));
    assert_eq!(body_of(&get("/live")), serde_json::json!({ "live": true }));
    assert_eq!(body_of(&get("/ready")), serde_json::json!({ "ready": true, "problems": [] }));
    let metrics = get("/metrics");
    assert_eq!(&*metrics.body, b"# EOF\n");
    assert!(header_of(&metrics, "content-type").unwrap().starts_with("application/openmetrics-text"));
    assert_eq!(&*get("/api/v1/openapi.json").body, OPENAPI.as_bytes());
    bench.check_refused(&get("/live?x=1"), Code::InvalidRequest, Some("x"));

    bench.desk.script().not_ready = true;
    let reply = get("/ready");
    assert_eq!((reply.status, header_of(&reply, "retry-after")), (Status::ServiceUnavailable, Some("1")));
    assert_eq!(body_of(&reply)["problems"][0], "The server is shutting down.");
    assert_eq!(get("/live").status, Status::Ok, "a process that shuts down is alive");

    let bench = Bench::with(Config { metrics_open: false, ..Config::new(keys()) });
    let reply = bench.call(&request(Method::Get, "/metrics", &[], ""));
    bench.check_refused(&reply, Code::Unauthorized, None);
    assert_eq!(bench.get_as(READER, "/metrics").status, Status::Ok);
}

#[test]
fn hashes_of_keys_are_read_as_they_are_written() {
    let hash = Key::hash_of(&Secret::new("abc"));
    // FIPS 180-2, appendix B.1.
    let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(Key::show_hash(&hash), text);
    assert_eq!(Key::parse_hash(text), Ok(hash));
    assert_eq!(Key::parse_hash(&format!("sha256:{}", text[7..].to_uppercase())), Ok(hash));
    let wrong = ["", "sha256:", &text[7..], &text[..70], &format!("{text}0"), &text.replace("ba", "+a"), KEY];
    for wrong in wrong {
        assert_eq!(Key::parse_hash(wrong), Err(BadKeyHash), "{wrong}");
    }
    assert!(!BadKeyHash.to_string().contains("hlr_"));
}

#[test]
fn scopes_are_read_as_they_are_written() {
    for scope in Scope::ALL {
        assert_eq!(scope.to_string().parse(), Ok(*scope));
    }
    assert_eq!("Publish".parse::<Scope>(), Err(UnknownScope));
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?}", Config::new(keys()));
    assert!(shown.contains("limited") && !shown.contains("hash"), "{shown}");
}

#[test]
fn a_header_that_is_not_utf_8_is_judged_where_it_is_read() {
    let bench = Bench::new();
    let call = |path: &str, name: &str, value: &[u8]| {
        let body = r#"{"topic":"room:a","event":"e","payload":1}"#;
        let headers = [("x-api-key", KEY), ("content-type", "application/json")];
        let mut request = request(Method::Post, path, &headers, body);
        request.headers.retain(|(known, _)| known != name);
        request.headers.push((name.to_owned(), value.to_vec()));
        bench.call(&request)
    };
    let publish = "/api/v1/publish";
    for (name, value) in [
        ("x-city", &b"Montr\xe9al"[..]),
        ("cookie", b"a=b; town=Z\xfcrich"),
        ("authorization", b"Basic \xe9"),
        ("user-agent", b"\xff"),
    ] {
        assert_eq!(call(publish, name, value).status, Status::Ok, "{name}");
    }
    for (name, value, status) in [
        ("x-api-key", &b"hlr_\xe9"[..], Status::Unauthorized),
        ("content-type", b"application/json\xe9", Status::UnsupportedMediaType),
        // Were it none, the message would go out again.
        ("idempotency-key", b"\xe9", Status::BadRequest),
    ] {
        assert_eq!(call(publish, name, value).status, status, "{name}");
    }
    let status = call(publish, "authorization", b"Bearer \xe9").status;
    assert_eq!(status, Status::BadRequest, "two different keys");
}
