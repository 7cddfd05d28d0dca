//! Requests and their answers.

use std::sync::Arc;
use std::time::Duration;

use hailer::endpoint::{Config, Page, PlainMessage, PlainSocket};
use hailer::testing::{ClientId, TestServer, upgrade_request};

use super::probe::{config, config_with};

const PAGE: Page = Page { path: "/page", content_type: "text/plain", body: b"a page" };

struct Echo;

impl PlainSocket for Echo {
    fn handle(&self, message: PlainMessage<'_>, send: &mut dyn FnMut(PlainMessage<'_>)) {
        send(message);
    }
}

fn with_page(limits: &[(&str, &str)]) -> Config {
    Config { pages: Arc::new([PAGE]), ..config_with(limits) }
}

pub(super) fn answer(config: &Config, request: &str) -> (TestServer, ClientId, String) {
    let mut server = TestServer::with_config(config, 1);
    let client = server.open();
    server.send_bytes(client, request.as_bytes());
    let answer = String::from_utf8(server.take_bytes(client)).expect("the answer is text");
    (server, client, answer)
}

pub(super) fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// The request is answered with exactly this.
#[track_caller]
pub(super) fn check(request: &str, expected: &str) {
    assert_eq!(answer(&with_page(&[]), request).2, expected, "{request}");
}

/// The request is answered with this status and body.
#[track_caller]
pub(super) fn check_body(request: &str, status: &str, body: &str) {
    let (_, _, answer) = answer(&with_page(&[]), request);
    let (head, got) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {request:?}"));
    let line = head.lines().next().unwrap_or_default();
    assert_eq!((line, got), (format!("HTTP/1.1 {status}").as_str(), body), "{request}");
    assert!(head.contains(&format!("\r\ncontent-length: {}", body.len())), "{head}");
}

#[test]
fn a_page_is_served_and_its_head_alone() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncache-control: no-cache\r\n\
         content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
         referrer-policy: no-referrer\r\nx-content-type-options: nosniff\r\nconnection: keep-alive\r\n\
         content-length: 6\r\n\r\n";
    check(&request("GET /page"), &format!("{head}a page"));
    check(&request("GET /page?a=b"), &format!("{head}a page"));
    check(&request("HEAD /page"), head);
}

#[test]
fn other_paths_and_methods_are_refused() {
    let nothing = "there is nothing at this path; clients connect to /socket/websocket\n";
    for path in [
        "/",
        "/socket",
        "/socket/",
        "//socket",
        "/Socket/websocket",
        "/socket/web%73ocket",
        "/socket/./websocket",
        "/socket/../socket/websocket",
        "/socket%2Fwebsocket",
        "//socket/%2Fwebsocket",
        "/socket/websocket;a",
        "/page/..",
        "/socket/websocketx",
        "*",
    ] {
        let method = if path == "*" { "OPTIONS" } else { "GET" };
        check_body(&request(&format!("{method} {path}")), "404 Not Found", nothing);
    }
    check_body(&request("POST /page"), "405 Method Not Allowed", "this path takes GET, HEAD\n");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        check_body(
            &request(&format!("{method} /socket/websocket")),
            "405 Method Not Allowed",
            "this path takes GET\n",
        );
    }
    let (_, _, answer) = answer(&config(), &request("HEAD /socket/websocket"));
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("\r\nallow: GET\r\n"), "{answer}");
    assert!(answer.ends_with("content-length: 20\r\n\r\n"), "{answer}");
    let (_, _, answer) = self::answer(&config(), &request("HEAD /nothing"));
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

/// A proxy adds the user's name, a city or the subject of a certificate; another application has set a cookie.
#[test]
fn a_header_that_is_not_utf_8_keeps_no_client_out() {
    let fields: [&[u8]; 8] = [
        "X-Authentik-Name: Céline".as_bytes(),
        b"X-City: Montr\xe9al",
        b"Cookie: a=b; town=Z\xfcrich",
        b"Cookie: n=\x93\x8c\x8b\x9e",
        b"X-SSL-Client-S-DN: CN=Jos\xe9",
        b"X-Authentik-Name: C\xc3",
        b"Authorization: Basic \xe9",
        b"Accept-Language: \xff",
    ];
    let long_poll = request("GET /socket/longpoll?vsn=2.0.0");
    for field in fields {
        for (head, expected) in [
            (upgrade_request("/socket/websocket?vsn=2.0.0"), "HTTP/1.1 101 "),
            (long_poll.clone(), "HTTP/1.1 200 "),
            (request("OPTIONS /socket/longpoll"), "HTTP/1.1 200 "),
            (request("GET /page"), "HTTP/1.1 200 "),
            (request("GET /nothing"), "HTTP/1.1 404 "),
        ] {
            let whole = [head.strip_suffix("\r\n").unwrap().as_bytes(), field, b"\r\n\r\n"].concat();
            for size in [whole.len(), 1] {
                let mut server = TestServer::with_config(&with_page(&[]), 1);
                let client = server.open();
                whole.chunks(size).for_each(|piece| server.send_bytes(client, piece));
                let answer = String::from_utf8(server.take_bytes(client)).unwrap();
                assert!(answer.starts_with(expected), "{field:?}: {answer}");
                assert!(head != long_poll || answer.contains(r#""status":410"#), "{field:?}: {answer}");
            }
        }
    }
}

/// A slash too many in a page's address or in `proxy_pass` leads where it does with Phoenix, by any form of target.
#[test]
fn a_slash_too_many_leads_to_the_same_path() {
    let spellings = |path: &str| {
        let all = [
            path.to_owned(),
            format!("{path}/"),
            format!("/{path}"),
            path.replace('/', "//"),
            format!("{path}///"),
        ];
        let absolute = all.clone().map(|path| format!("http://localhost{path}"));
        all.into_iter().chain(absolute)
    };
    for path in spellings("/socket/websocket") {
        let (_, _, answer) = answer(&config(), &upgrade_request(&format!("{path}?vsn=2.0.0")));
        assert!(answer.starts_with("HTTP/1.1 101 "), "{path}: {answer}");
    }
    for path in spellings("/socket/longpoll") {
        let (mut server, client, first) = answer(&config(), &request(&format!("GET {path}?vsn=2.0.0")));
        assert!(first.contains(r#"{"status":410,"token":""#), "{path}: {first}");
        let token = first.split(r#""token":""#).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let heartbeat = r#"[null,"1","phoenix","heartbeat",{}]"#;
        let head = format!("POST {path}?vsn=2.0.0&token={token} HTTP/1.1\r\nHost: localhost\r\n");
        let post = format!("{head}Content-Length: {}\r\n\r\n{heartbeat}", heartbeat.len());
        server.send_bytes(client, post.as_bytes());
        let second = String::from_utf8(server.take_bytes(client)).unwrap();
        assert!(second.ends_with(r#"{"status":200}"#), "{path}: {second}");
    }
    for path in spellings("/page") {
        let (_, _, answer) = answer(&with_page(&[]), &request(&format!("GET {path}")));
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("a page"), "{path}: {answer}");
    }
    let deep = Config { socket_path: "/my//socket/".into(), ..config() };
    for path in ["/my/socket/websocket", "//my//socket//websocket"] {
        assert!(answer(&deep, &upgrade_request(path)).2.starts_with("HTTP/1.1 101 "), "{path}");
    }
}

/// What is asked for by name is not echoed where it can't be a name.
#[test]
fn a_preflight_for_headers_that_are_no_text_names_none() {
    let mut server = TestServer::with_config(&config(), 1);
    let client = server.open();
    let head =
        b"OPTIONS /socket/longpoll HTTP/1.1\r\nHost: a\r\nAccess-Control-Request-Headers: x-\xe9\r\n\r\n";
    server.send_bytes(client, head);
    let answer = String::from_utf8(server.take_bytes(client)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("allow-headers"), "{answer}");
}

#[test]
fn a_plain_socket_has_a_path_of_its_own() {
    let config = Config { plain: Some(("/echo".into(), Arc::new(Echo))), ..config() };
    let (mut server, client, answer) = answer(&config, &upgrade_request("//echo/"));
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    server.send_text(client, "no Phoenix here");
    server.send_binary(client, b"\xff");
    assert_eq!(server.take_bytes(client), b"\x81\x0fno Phoenix here\x82\x01\xff");
    assert_eq!(server.stats().messages_in, 2);
}

/// A head that is refused closes the connection.
#[track_caller]
fn check_refused(limits: &[(&str, &str)], head: &[u8], status: &str, names: &str) {
    for size in [head.len(), 1] {
        let mut server = TestServer::with_config(&config_with(limits), 1);
        let client = server.open();
        head.chunks(size).for_each(|piece| server.send_bytes(client, piece));
        let answer = String::from_utf8(server.take_bytes(client)).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(body.contains(names) && body.ends_with(".\n"), "{body}");
        assert_eq!((server.stats().http_refused, server.stats().http_requests), (1, 0));
        // Nothing that comes behind is taken for a request.
        server.send_bytes(client, request("GET /").as_bytes());
        assert!(server.take_bytes(client).is_empty());
        server.hang_up(client);
        assert!(server.is_gone(client));
    }
}

#[test]
fn a_head_is_bounded() {
    let long = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(bytes));
    let status = "431 Request Header Fields Too Large";
    check_refused(&[("head_bytes_max", "1024")], long(1024).as_bytes(), status, "head_bytes_max");
    check_refused(&[], long(16 * 1024).as_bytes(), status, "head_bytes_max");
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(16));
    check_refused(&[("headers_max", "16")], many.as_bytes(), status, "headers_max");
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(256));
    check_refused(&[("target_bytes_max", "256")], target.as_bytes(), "414 URI Too Long", "target_bytes_max");
}

#[test]
fn a_head_at_its_bounds_is_answered() {
    let limits = [("head_bytes_max", "1024"), ("headers_max", "16"), ("target_bytes_max", "256")];
    let start = format!("GET /{} HTTP/1.1\r\nHost: a\r\n{}", "x".repeat(255), "X: y\r\n".repeat(14));
    let whole = format!("{start}Y: {}\r\n\r\n", "y".repeat(1024 - start.len() - 7));
    assert_eq!(whole.len(), 1024);
    let (server, _, answer) = answer(&config_with(&limits), &whole);
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(server.stats().http_refused, 0);
    // A token of several kB in the address works.
    let target = format!("/socket/websocket?vsn=2.0.0&token={}", "t".repeat(8 * 1024));
    let (_, _, answer) = self::answer(&config(), &upgrade_request(&target));
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let head = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
    for (fields, names) in [
        ("X: y", "Host"),
        ("Host: a\r\nHost: a", "Host"),
        ("Host: a b", "Host"),
        ("Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", "not both"),
        ("Host: a\r\nContent-Length: 1\r\nContent-Length: 1", "only one Content-Length"),
        ("Host: a\r\nContent-Length: +1", "decimal digits"),
        ("Host: a\r\n folded: x", "white space"),
        ("Host : a", "Name: value"),
        ("Host: a\r\nX: \u{1}", "control bytes"),
        ("Host: a\nX: y", "CR LF"),
    ] {
        check_refused(&[], head(fields).as_bytes(), "400 Bad Request", names);
    }
    check_refused(
        &[],
        head("Host: a\r\nTransfer-Encoding: gzip").as_bytes(),
        "501 Not Implemented",
        "chunked",
    );
    check_refused(&[], b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505 HTTP Version Not Supported", "HTTP/1.1");
    check_refused(&[], b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "501 Not Implemented", "method");
    check_refused(&[], b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request", "same");
    check_refused(&[], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400 Bad Request", "http://");
}

#[test]
fn a_head_that_does_not_come_whole_is_given_up() {
    let mut server = TestServer::with_config(&config(), 1);
    let (slow, silent) = (server.open(), server.open());
    // A byte each second gains no time.
    for byte in b"GET / HTTP" {
        server.send_bytes(slow, &[*byte]);
        server.advance(Duration::from_millis(990));
    }
    assert!(server.take_bytes(slow).is_empty());
    server.advance(Duration::from_millis(400));
    let answer = String::from_utf8(server.take_bytes(slow)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nthe request did not come whole within head_timeout\n"), "{answer}");
    assert!(server.is_gone(silent) && server.take_bytes(silent).is_empty());
    assert_eq!(server.stats().head_timeouts, 2);
}

#[test]
fn a_kept_connection_is_given_up_when_nothing_comes() {
    let mut server = TestServer::with_config(&with_page(&[]), 1);
    let client = server.open();
    for _ in 0..3 {
        server.send_bytes(client, request("GET /page").as_bytes());
        assert!(server.take_bytes(client).ends_with(b"a page"));
        server.advance(Duration::from_secs(124));
        assert!(!server.is_gone(client));
    }
    server.advance(Duration::from_secs(2));
    assert!(server.is_gone(client));
    assert!(server.take_bytes(client).is_empty());
    assert_eq!(server.stats().head_timeouts, 0, "an idle connection is no slow one");
}

#[test]
fn a_proxy_that_keeps_connections_for_two_minutes_loses_no_request_to_their_end() {
    let mut server = TestServer::with_config(&with_page(&[]), 1);
    let client = server.open();
    // Longer than AWS's load balancer and nginx keep one by default (60 s), Traefik (90 s) and Caddy (2 m).
    for seconds in [0, 60, 90, 120] {
        server.advance(Duration::from_secs(seconds));
        server.send_bytes(client, request("GET /page").as_bytes());
        assert!(server.take_bytes(client).ends_with(b"a page"), "after {seconds} s");
    }
}

#[test]
fn a_further_head_has_its_own_time() {
    let mut server = TestServer::with_config(&with_page(&[]), 1);
    let client = server.open();
    server.send_bytes(client, request("GET /page").as_bytes());
    server.take_bytes(client);
    server.advance(Duration::from_secs(25));
    server.send_bytes(client, b"GET");
    server.advance(Duration::from_secs(9));
    assert!(!server.is_gone(client));
    server.advance(Duration::from_secs(2));
    assert!(server.take_bytes(client).starts_with(b"HTTP/1.1 408 "));
    assert_eq!(server.stats().head_timeouts, 1);
}

#[test]
fn a_page_that_is_still_being_taken_is_not_idle() {
    const LARGE: Page = Page { path: "/large", content_type: "text/plain", body: &[b'x'; 100_000] };
    let config = Config { pages: Arc::new([LARGE]), ..config() };
    let mut server = TestServer::with_config(&config, 1);
    let client = server.open();
    server.set_window(client, Some(0));
    server.send_bytes(client, request("GET /large").as_bytes());
    for _ in 0..10 {
        server.set_window(client, Some(8_000));
        server.advance(Duration::from_secs(9));
    }
    assert!(!server.is_gone(client), "it takes 800 bytes a second");
    server.set_window(client, None);
    let answer = server.take_bytes(client);
    assert!(answer.len() > 100_000 && answer.ends_with(b"xxx"));
    server.advance(Duration::from_secs(126));
    assert!(server.is_gone(client));
}

#[test]
fn requests_may_come_in_one_packet() {
    let whole =
        request("GET /page").repeat(3) + &request("GET /nothing") + &upgrade_request("/socket/websocket");
    for size in [whole.len(), 50, 1] {
        let mut server = TestServer::with_config(&with_page(&[]), 1);
        let client = server.open();
        whole.as_bytes().chunks(size).for_each(|piece| server.send_bytes(client, piece));
        let answer = String::from_utf8(server.take_bytes(client)).unwrap();
        let lines: Vec<_> = answer.lines().filter_map(|line| line.split("HTTP/1.1 ").nth(1)).collect();
        let expected = ["200 OK", "200 OK", "200 OK", "404 Not Found", "101 Switching Protocols"];
        assert_eq!(lines, expected, "pieces of {size}");
    }
}

#[test]
fn a_client_that_sends_requests_and_reads_no_answers_is_cut_off() {
    let mut server = TestServer::with_config(&with_page(&[("outbox_bytes_max", "4096")]), 1);
    let client = server.open();
    server.set_window(client, Some(0));
    for _ in 0..100 {
        server.send_bytes(client, request("GET /page").as_bytes());
        assert!(server.outbox_bytes(client) < 4096 + 1024);
    }
    server.set_window(client, None);
    let answers = String::from_utf8(server.take_bytes(client)).unwrap();
    let whole = answers.matches("a page").count();
    assert!((5..50).contains(&whole), "{whole}");
    assert!(answers.ends_with("a page"), "the answers until then are whole");
    server.send_bytes(client, request("GET /page").as_bytes());
    assert!(server.take_bytes(client).is_empty());
}

#[test]
fn a_connection_answers_so_many_requests_and_no_more() {
    let mut server = TestServer::with_config(&with_page(&[("requests_per_connection_max", "3")]), 1);
    let client = server.open();
    server.send_bytes(client, request("GET /page").repeat(5).as_bytes());
    let answer = String::from_utf8(server.take_bytes(client)).unwrap();
    assert_eq!(answer.matches("a page").count(), 3);
    assert_eq!(answer.matches("connection: keep-alive").count(), 2);
    assert!(answer.rfind("connection: close") > answer.rfind("connection: keep-alive"));
    assert_eq!(server.stats().http_requests, 3);
    server.hang_up(client);
    assert!(server.is_gone(client));
}

#[test]
fn a_connection_closes_when_the_client_wants_it_or_a_body_is_in_the_way() {
    for head in [
        "GET /page HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /page HTTP/1.0\r\n\r\n",
        "GET /page HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
        "GET /page HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let (mut server, client, answer) = answer(&with_page(&[]), head);
        assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("a page"), "{answer}");
        server.send_bytes(client, request("GET /page").as_bytes());
        assert!(server.take_bytes(client).is_empty(), "{head}");
        // The client has time to read before the connection is given up.
        server.advance(Duration::from_secs(4));
        assert!(!server.is_gone(client));
        server.advance(Duration::from_secs(2));
        assert!(server.is_gone(client));
    }
    let (_, _, answer) = answer(&with_page(&[]), "GET /page HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(answer.contains("\r\nconnection: keep-alive\r\n"), "{answer}");
}

#[test]
fn a_client_that_has_ended_its_own_side_still_gets_its_answer() {
    for line in ["GET /page", "GET /nothing"] {
        for close in ["", "Connection: close\r\n"] {
            let head = format!("{line} HTTP/1.1\r\nHost: a\r\n{close}\r\n");
            let mut server = TestServer::with_config(&with_page(&[]), 1);
            let client = server.open();
            server.feed(client, head.as_bytes());
            server.hang_up(client);
            let answer = String::from_utf8(server.take_bytes(client)).unwrap();
            assert!(answer.starts_with("HTTP/1.1 "), "{head}: {answer:?}");
            server.advance(Duration::from_secs(6));
            assert!(server.is_gone(client));
        }
    }
}

#[test]
fn one_connection_too_many_is_refused() {
    let mut server = TestServer::with_config(&config_with(&[("connections_per_shard_max", "2")]), 1);
    let first = server.open();
    server.connect();
    assert_eq!(server.try_open(), None);
    assert_eq!((server.stats().accept_refused, server.stats().connections), (1, 2));
    server.hang_up(first);
    assert!(server.try_open().is_some());
}

#[test]
fn a_connection_that_ends_inside_a_head_is_forgotten() {
    let whole = upgrade_request("/socket/websocket");
    for end in 0..whole.len() {
        let mut server = TestServer::with_config(&config(), 1);
        let client = server.open();
        server.send_bytes(client, &whole.as_bytes()[..end]);
        server.hang_up(client);
        assert!(server.is_gone(client) && server.take_bytes(client).is_empty());
        assert_eq!(server.stats().connections, 0);
        assert_eq!(server.stats().closed_abruptly, 0, "no WebSocket was open");
    }
}
