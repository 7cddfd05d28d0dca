//! Requests that are cut, slow, ambiguous or huge.

use serde_json::json;

use super::world::{KEY, World};
use crate::support::{Memory, Peer, crowd, descriptor_limit};

const AUTHORIZED: &str = "Host: localhost\r\nContent-Type: application/json\r\n";

fn head(more: &str) -> String {
    format!("POST /api/v1/publish HTTP/1.1\r\n{AUTHORIZED}Authorization: Bearer {KEY}\r\n{more}\r\n")
}

const BODY: &str = r#"{"topic":"room:lobby","event":"e","payload":1}"#;

#[test]
fn a_body_of_two_lengths_is_none_and_nothing_behind_it_is_a_request() {
    let world = World::start("", &[]);
    let smuggled = format!("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n{BODY}");
    let framings = [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\u{b}chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
    ];
    for framing in framings {
        let mut peer = Peer::connect(world.api);
        peer.send(format!("{}{smuggled}", head(framing)).as_bytes());
        let status = peer.response().status;
        assert!([400, 413, 501].contains(&status), "{framing:?}: {status}");
        peer.expect_end();
    }
    let chunks = [
        "+5\r\n",
        "5 \r\n",
        "0x5\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "5;a=b\n",
        "5\n",
        "\r\n",
        "-1\r\n",
        "5\r\nabcdeX",
    ];
    for chunk in chunks {
        let mut peer = Peer::connect(world.api);
        peer.send(format!("{}{chunk}{smuggled}", head("Transfer-Encoding: chunked\r\n")).as_bytes());
        assert!([400, 413].contains(&peer.response().status), "{chunk:?}");
        peer.expect_end();
    }
    assert_eq!(world.published(), 0);
    // Well-formed requests behind each other are two.
    let mut peer = Peer::connect(world.api);
    let good = format!("{}{BODY}", head(&format!("Content-Length: {}\r\n", BODY.len())));
    peer.send(format!("{good}GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    assert_eq!((peer.response().status, peer.response().body.contains("live")), (200, true));
    assert_eq!(world.published(), 1);
}

#[test]
fn a_slow_head_and_a_slow_body_end_with_their_time() {
    let limits = ["--limit", "head_timeout=1s", "--limit", "body_timeout=1s"];
    let world = World::start("", &limits);
    let (mut in_head, mut in_body, mut in_form) =
        (Peer::connect(world.api), Peer::connect(world.api), Peer::connect(world.api));
    in_head.send(&head("X: y").as_bytes()[..80]);
    in_body.send(format!("{}{}", head("Content-Length: 100\r\n"), &BODY[..9]).as_bytes());
    in_form.send(b"POST /admin/sign-in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nname=\r\n");
    for (peer, expected) in [(&mut in_head, 408), (&mut in_body, 408), (&mut in_form, 408)] {
        assert_eq!(peer.response().status, expected);
        peer.expect_end();
    }
    assert_eq!(world.published(), 0);
}

#[test]
fn ten_thousand_half_open_requests_leave_the_others_alone() {
    let _crowd = crowd();
    let half_open = 10_000.min(descriptor_limit().saturating_sub(1_000));
    let world = World::start("", &["--limit", "body_timeout=120s", "--limit", "head_timeout=120s"]);
    let begun = head("Content-Length: 1000\r\n");
    let peers: Vec<Peer> = (0..half_open)
        .map(|n| {
            let mut peer = Peer::connect(world.api);
            let cut = if n % 2 == 0 { begun.len() } else { begun.len() - 7 };
            peer.send(&begun.as_bytes()[..cut]);
            peer
        })
        .collect();
    assert_eq!(world.call(KEY, "POST", "/api/v1/publish", BODY).status, 200);
    let metrics = world.ask("GET", "/metrics", &[], "");
    assert_eq!(metrics.status, 200);
    let anonymous = Memory::of(world.hailer.pid()).anonymous;
    assert!(anonymous < 200 * 1024, "{anonymous} KiB for {half_open} requests");
    drop(peers);
}

#[test]
fn bodies_that_are_not_finished_are_bounded_together() {
    let held = ["--limit", "request_bytes_max=1MiB", "--limit", "request_bytes_held_max=2MiB"];
    let world = World::start("", &[&held[..], &["--limit", "body_timeout=120s"]].concat());
    let mut peers: Vec<Peer> = (0..8).map(|_| Peer::connect(world.api)).collect();
    let half = format!("{}{}", head("Content-Length: 1000000\r\n"), " ".repeat(900_000));
    // Whose piece goes past the bound is up to the order in which the server reads. One that is refused need not
    // take the rest.
    for peer in &mut peers {
        peer.try_send(half.as_bytes());
    }
    let response =
        crate::support::eventually("one is refused", || peers.iter_mut().find_map(Peer::response_if_any));
    assert_eq!((response.status, response.field("retry-after")), (503, Some("1")), "{response:?}");
    drop(peers);
    crate::support::eventually("there is room again", || {
        (world.call(KEY, "POST", "/api/v1/publish", BODY).status == 200).then_some(())
    });
    let mut peer = Peer::connect(world.api);
    peer.send(head("Content-Length: 1048577\r\n").as_bytes());
    assert_eq!(peer.response().status, 413);
}

#[test]
fn what_is_no_request_to_publish_publishes_nothing() {
    let world = World::start("", &[]);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let publish = |payload: &str| format!(r#"{{"topic":"room:lobby","event":"e","payload":{payload}}}"#);
    let many = |n: usize| format!(r#"{{"messages":[{}{}]}}"#, format!("{BODY},").repeat(n - 1), BODY);
    let check = |path: &str, body: &str, statuses: &[u16]| {
        let response = world.call(KEY, "POST", path, body);
        let shown = &body[..body.len().min(100)];
        assert!(statuses.contains(&response.status), "{shown}: {response:?}");
        // A body that is too large is refused before there is somebody who knows codes.
        let is_coded = response.body.contains("\"code\":\"");
        assert!(is_coded || response.status == 413, "{shown}: {response:?}");
    };
    for body in [
        &*publish(&nested(1_000_000)),
        &publish(&"[".repeat(1_000_000)),
        &publish(&nested(65)),
        &nested(100_000),
        &"{\"a\":".repeat(100_000),
        r#"{"topic":"room:lobby","topic":"room:other","event":"e","payload":1}"#,
        r#"{"topic":"room:lobby","\u0074opic":"room:other","event":"e","payload":1}"#,
        r#"{"topic":"room:lobby","event":"e","payload":1} {}"#,
        r#"{"topic":"room:lobby","event":"e","payload":"\ud800"}"#,
        r#"{"topic":"room:lobby","event":"e","payload":1e999999,"__proto__":{}}"#,
        r#"{"topic":"room:lobby","event":"phx_reply","payload":1}"#,
        r#"{"topic":"phoenix","event":"e","payload":1}"#,
        r#"{"topic":"room:\u0000","event":"e","payload":1}"#,
        r#"{"topic":"room:\r\nx","event":"e","payload":1}"#,
        r#"{"topic":["room:lobby"],"event":"e","payload":1}"#,
        r#"{"user":"ada","topic":"room:lobby","event":"e","payload":1}"#,
        "",
        "null",
        "\u{feff}{}",
    ] {
        check("/api/v1/publish", body, &[400, 413]);
    }
    check("/api/v1/publish", &publish(&format!("\"{}\"", "x".repeat(10_000_000))), &[413]);
    check("/api/v1/publish", &publish(&format!("\"{}\"", "x".repeat(70_000))), &[413]);
    check("/api/v1/batch", &many(1_000_000), &[413]);
    check("/api/v1/batch", &many(10_001), &[413]);
    check("/api/v1/batch", &format!(r#"{{"messages":[{}1]}}"#, "{},".repeat(2_000_000)), &[400]);
    check("/api/v1/batch", r#"{"messages":[]}"#, &[400]);
    check("/api/v1/batch", &format!(r#"{{"messages":[{BODY},{{}}]}}"#), &[400]);
    assert_eq!(world.published(), 0);
    let whole = json!({"topic": "room:lobby", "event": "e", "payload": 1}).to_string();
    for bytes in [&b"\xff\xfe"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"] {
        let body = [&whole.as_bytes()[..11], bytes, &whole.as_bytes()[11..]].concat();
        let mut peer = Peer::connect(world.api);
        peer.send(&[head(&format!("Content-Length: {}\r\n", body.len())).as_bytes(), &body].concat());
        assert_eq!(peer.response().status, 400, "{bytes:?}");
    }
    assert_eq!(world.published(), 0);
    assert_eq!(world.call(KEY, "POST", "/api/v1/publish", &publish(&nested(64))).status, 200);
}

#[test]
fn no_header_turns_a_request_into_another() {
    let world = World::start("", &[]);
    let bearer = format!("Bearer {KEY}");
    let json = ("content-type", "application/json");
    let key = ("authorization", &*bearer);
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        let response = world.ask("GET", "/api/v1/publish", &[key, json, (name, "POST")], "");
        assert_eq!(response.status, 405);
        assert_eq!(world.ask("POST", "/api/v1/topics", &[key, json, (name, "GET")], "{}").status, 405);
    }
    for name in ["x-original-url", "x-rewrite-url", "x-forwarded-path"] {
        assert_eq!(
            world.ask("GET", "/live", &[(name, "/api/v1/topics")], "").body.trim(),
            r#"{"live":true}"#
        );
    }
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        let response = world.ask(method, "/api/v1/publish", &[key, json], BODY);
        assert_eq!(response.status, 405, "{method}");
        assert!(!response.head.to_ascii_lowercase().contains("access-control"), "{response:?}");
    }
    for content_type in [
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "multipart/form-data",
        "",
    ] {
        let response = world.ask("POST", "/api/v1/publish", &[key, ("content-type", content_type)], BODY);
        assert_eq!(response.status, 415, "{content_type}");
    }
    // The address that locks out is that of the connection, whatever it says.
    let forwarded = |n: usize| {
        let from = format!("10.0.0.{n}");
        let headers = [("authorization", "Bearer hlr_x"), ("x-forwarded-for", &from), ("x-real-ip", &from)];
        world.ask("GET", "/api/v1/topics", &headers, "").status
    };
    assert_eq!((0..25).map(forwarded).filter(|status| *status == 429).count(), 5);
    for path in [
        "/admin/../api/v1/topics",
        "//admin//../api/v1/topics",
        "/admin%2fcompose",
        "/ADMIN",
        "/admin;/compose",
        "/live%00",
        "/api/v1/./topics",
    ] {
        assert_eq!(world.ask("GET", path, &[key], "").status, 404, "{path}");
    }
    assert_eq!(world.published(), 0);
}
