//! Requests other than those that become a WebSocket.

use std::fmt::Write as _;

use hailer::testing::upgrade_request;

use crate::support::peer::PATH;
use crate::support::{Hailer, Peer};

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A request, the status of its answer, and a field of it.
type Case<'a> = (&'a str, u16, Option<(&'a str, &'a str)>);

fn check(cases: &[Case<'_>]) {
    let hailer = Hailer::start(&[]);
    for (request, status, field) in cases {
        let mut peer = Peer::connect(hailer.address());
        peer.send(request.as_bytes());
        let response = peer.response();
        let shown: String = request.chars().take(80).collect();
        assert_eq!(response.status, *status, "{shown:?}: {response:?}");
        if let Some((name, value)) = field {
            assert_eq!(response.field(name), Some(*value), "{shown:?}: {response:?}");
        }
        if *status >= 400 && !shown.starts_with("HEAD") {
            assert!(response.body.len() > 10, "{shown:?}: the answer says nothing: {response:?}");
        }
    }
}

#[test]
fn every_refusal_has_its_status() {
    let upgrade = upgrade_request(PATH);
    let with = |from: &str, to: &str| upgrade.replace(from, to);
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(13 * 1024));
    let large_head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(17 * 1024));
    let many_fields =
        (0..101).fold("GET / HTTP/1.1\r\nHost: localhost\r\n".to_owned(), |mut head, number| {
            let _ = write!(head, "X-{number}: 1\r\n");
            head
        }) + "\r\n";
    check(&[
        (GET, 200, Some(("content-type", "text/html; charset=utf-8"))),
        ("GET / HTTP/1.0\r\n\r\n", 200, Some(("connection", "close"))),
        ("nonsense\r\n\r\n", 400, Some(("connection", "close"))),
        ("GET / HTTP/1.1\r\n\r\n", 400, None),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, None),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, None),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}", 400, None),
        (&with("Upgrade: websocket\r\n", ""), 400, None),
        (&with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), 400, None),
        (&with("vsn=2.0.0", "vsn=9.9.9"), 403, None),
        (&with("vsn=2.0.0", "vsn=%"), 400, None),
        ("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, Some(("connection", "keep-alive"))),
        ("GET /socket HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, None),
        ("GET //socket/websockets HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, None),
        ("DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, Some(("allow", "GET, HEAD"))),
        (&with("GET ", "POST "), 405, Some(("allow", "GET"))),
        (&long_path, 414, None),
        (
            &with("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"),
            426,
            Some(("sec-websocket-version", "13")),
        ),
        (&large_head, 431, None),
        (&many_fields, 431, None),
        ("BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501, None),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, None),
        ("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505, None),
    ]);
}

#[test]
fn a_head_that_does_not_come_whole_is_answered_with_408() {
    let hailer = Hailer::start(&["--limit", "head_timeout=1s"]);
    let mut peer = Peer::connect(hailer.address());
    peer.send(b"GET / HTTP/1.1\r\nHost: loc");
    assert_eq!(peer.response().status, 408);
    peer.expect_end();
    // Who sends nothing at all gets no answer either.
    Peer::connect(hailer.address()).expect_end();
}

#[test]
fn a_head_that_trickles_in_gains_no_time() {
    let hailer = Hailer::start(&["--limit", "head_timeout=1s"]);
    let mut peer = Peer::connect(hailer.address());
    peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
    // The server ends it however long the peer could go on.
    while peer.try_send(b"a") {
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_head_sent_byte_by_byte_is_answered() {
    let hailer = Hailer::start(&[]);
    let mut peer = Peer::connect(hailer.address());
    for byte in upgrade_request(PATH).bytes() {
        peer.send(&[byte]);
    }
    assert_eq!(peer.response().status, 101);
    peer.join_lobby();
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let hailer = Hailer::start(&[]);
    let mut peer = Peer::connect(hailer.address());
    for _ in 0..200 {
        peer.send(GET.as_bytes());
        let response = peer.response();
        assert_eq!((response.status, response.field("connection")), (200, Some("keep-alive")));
    }
    peer.send(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let response = peer.response();
    assert_eq!((response.status, response.field("connection")), (404, Some("close")));
    peer.expect_end();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let hailer = Hailer::start(&[]);
    let mut peer = Peer::connect(hailer.address());
    let nothing = GET.replace("GET / ", "GET /nothing ");
    for _ in 0..20 {
        peer.send([GET, &nothing, &nothing, GET].concat().repeat(5).as_bytes());
        for _ in 0..5 {
            let statuses = [(); 4].map(|()| peer.response().status);
            assert_eq!(statuses, [200, 404, 404, 200]);
        }
    }
    // The upgrade may stand behind other requests.
    peer.send((GET.to_owned() + &upgrade_request(PATH)).as_bytes());
    assert_eq!([(); 2].map(|()| peer.response().status), [200, 101]);
    peer.join_lobby();
}

#[test]
fn a_client_that_ends_its_own_side_still_gets_its_answer() {
    let hailer = Hailer::start(&[]);
    for request in [GET, "GET / HTTP/1.0\r\n\r\n", &GET.repeat(3), "nonsense\r\n\r\n"] {
        // Bytes and end come in one turn or in two, so it is tried often.
        for _ in 0..20 {
            let mut peer = Peer::connect(hailer.address());
            peer.send(request.as_bytes());
            peer.half_close();
            for _ in 0..request.matches("\r\n\r\n").count() {
                let expected = if request.starts_with("GET") { 200 } else { 400 };
                assert_eq!(peer.response().status, expected);
            }
            peer.expect_end();
        }
    }
}

/// A browser shows neither the path nor what is said about it.
#[test]
fn a_client_at_a_wrong_path_is_named_in_the_log() {
    let hailer = Hailer::start(&[]);
    let long = format!("/{}/websocket", "x".repeat(500));
    for (target, shown) in [
        ("/live/websocket?token=s3cret", "\"/live/websocket\": clients connect to /socket/websocket"),
        ("//ws//socket/longpoll/", "\"//ws//socket/longpoll/\": clients"),
        ("/%0a\"\\/websocket", "\"/%0a\\\"\\\\/websocket\": clients"),
        (&long, &*format!("\"/{}\": clients", "x".repeat(199))),
    ] {
        let mut peer = Peer::connect(hailer.address());
        peer.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        assert_eq!(peer.response().status, 404, "{target}");
        assert!(hailer.log_line(shown).contains("peer=127.0.0.1"));
    }
    // What asks for a WebSocket is a client, wherever it asks.
    let mut peer = Peer::connect(hailer.address());
    peer.send(upgrade_request("/cable?token=s3cret").as_bytes());
    assert_eq!(peer.response().status, 404);
    hailer.log_line("\"/cable\": clients");
    // And a scanner is none.
    let mut peer = Peer::connect(hailer.address());
    peer.send(b"GET /wp-login.php HTTP/1.1\r\nHost: localhost\r\n\r\nGET /last/websocket HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hailer.log_line("/last/websocket");
    let log = hailer.log().join("\n");
    assert!(!log.contains("s3cret") && !log.contains("wp-login"), "{log}");
}
