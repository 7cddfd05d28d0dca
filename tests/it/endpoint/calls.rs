//! Requests that are answered outside the loop, at whatever time and in whatever order.

use std::sync::Arc;
use std::time::Duration;

use hailer::endpoint::Config;
use hailer::http::{Method, Status};
use hailer::service::{Service, ServiceReply, ServiceRequest};
use hailer::testing::{ClientId, TestServer};

use super::probe::config_with;

/// Says what it was asked.
struct Parrot;

impl Service for Parrot {
    fn call(&self, request: &ServiceRequest, at: u64) -> ServiceReply {
        assert_eq!(at % 1000, 0, "the clock of the kit shows whole seconds");
        let reply = ServiceReply::new(Status::Ok);
        match &*request.path {
            "/odd" => reply
                .header("x-odd", "a\r\nx-smuggled: 1".to_owned())
                .header("x-even", "b")
                .body("text/plain", b"odd".as_slice()),
            "/nothing" => ServiceReply::new(Status::NoContent),
            "/large" => reply.body("text/plain", vec![b'x'; 1_000_000]),
            _ => {
                let text = format!("{:?} {} ", request.method, request.path);
                reply.body("text/plain", [text.as_bytes(), &request.body].concat())
            }
        }
    }
}

fn serve(limits: &[(&str, &str)]) -> TestServer {
    let service = Some(Arc::new(Parrot) as Arc<dyn Service>);
    TestServer::with_config(&Config { service, ..config_with(limits) }, 1)
}

/// The same, with answers that wait for the test.
fn hold(limits: &[(&str, &str)]) -> TestServer {
    let mut server = serve(limits);
    server.hold_calls(true);
    server
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
}

fn post(path: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn open_and_send(server: &mut TestServer, bytes: &[u8]) -> ClientId {
    let client = server.open();
    server.send_bytes(client, bytes);
    client
}

/// Takes the statuses and bodies of the whole answers that have come.
#[track_caller]
fn answers(server: &mut TestServer, client: ClientId) -> Vec<(u16, String)> {
    let bytes = server.take_bytes(client);
    let (mut rest, mut answers) = (std::str::from_utf8(&bytes).expect("answers are text"), Vec::new());
    while !rest.is_empty() {
        let (head, behind) = rest.split_once("\r\n\r\n").expect("a head is whole");
        let length = head.split_once("content-length: ").map_or("0", |(_, length)| length);
        let length: usize = length.lines().next().expect("a line").parse().expect("a length");
        answers.push((head[9..12].parse().expect("a status"), behind[..length].to_owned()));
        rest = &behind[length..];
    }
    answers
}

#[track_caller]
fn check(server: &mut TestServer, client: ClientId, expected: &[(u16, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
    assert_eq!(answers(server, client), expected);
}

#[test]
fn a_request_is_whole_however_it_comes() {
    let chunked = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let all = [&get("/a")[..], &post("/b", "body"), chunked, &get("/d")].concat();
    let expected = [(200, "Get /a "), (200, "Post /b body"), (200, "Post /c abcde"), (200, "Get /d ")];
    for piece in [1, 2, 7, all.len()] {
        let mut server = serve(&[]);
        let client = server.open();
        all.chunks(piece).for_each(|piece| server.send_bytes(client, piece));
        check(&mut server, client, &expected);
        assert_eq!(server.closed(client), None);
        assert_eq!(server.stats().calls, 4);
    }
}

#[test]
fn the_service_sees_the_request_as_it_was_sent() {
    let mut server = hold(&[]);
    let request =
        b"PUT /p%20a?q=%20&r HTTP/1.1\r\nHost: h\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: 2\r\n\r\n\0\xff";
    open_and_send(&mut server, request);
    let request = server.held_calls().next().expect("it has left the loop");
    assert_eq!(request.method, Method::Put);
    assert_eq!((&*request.path, &*request.query, &request.body[..]), ("/p%20a", "q=%20&r", &b"\0\xff"[..]));
    assert_eq!((request.header("host"), request.header("x-two")), (Some("h"), None));
}

/// One spelling reaches the service, so that what routes a request and what decides who may make it see the same.
#[test]
fn the_service_sees_one_spelling_of_a_path() {
    for (path, expected) in [
        ("//admin", "/admin"),
        ("/admin/", "/admin"),
        ("//admin//compose/", "/admin/compose"),
        ("/", "/"),
        ("//", "/"),
        ("//evil.example", "/evil.example"),
        ("/api/v1/users/a%2F%2Fb", "/api/v1/users/a%2F%2Fb"),
        ("/live/../admin", "/live/../admin"),
        ("http://h//live", "/live"),
    ] {
        let mut server = hold(&[]);
        open_and_send(&mut server, format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let request = server.held_calls().next().expect("it has left the loop");
        assert_eq!(request.path, expected, "{path}");
    }
}

#[test]
fn what_is_pipelined_waits_for_the_answers_before_it() {
    let mut server = hold(&[]);
    let client = open_and_send(&mut server, &[get("/1"), post("/2", "xy"), get("/3")].concat());
    for (nth, answer) in ["Get /1 ", "Post /2 xy", "Get /3 "].into_iter().enumerate() {
        assert_eq!(server.held_calls().len(), 1, "one request of a connection at a time");
        assert_eq!(server.stats().calls, 1 + nth as u64);
        check(&mut server, client, &[]);
        server.answer_call(0);
        check(&mut server, client, &[(200, answer)]);
    }
}

#[test]
fn answers_of_several_connections_come_in_any_order() {
    let mut server = hold(&[]);
    let clients = ["/0", "/1", "/2"].map(|path| open_and_send(&mut server, &get(path)));
    for at in [2, 0, 1] {
        let wanted = format!("/{at}");
        let index = server.held_calls().position(|request| request.path == wanted).expect("it waits");
        server.answer_call(index);
        check(&mut server, clients[at], &[(200, &format!("Get {wanted} "))]);
    }
}

#[test]
fn who_has_said_all_and_waits_is_answered_and_then_closed() {
    let mut server = hold(&[]);
    let client = open_and_send(&mut server, &get("/a"));
    server.hang_up(client);
    assert!(!server.is_gone(client));
    server.answer_call(0);
    let answer = String::from_utf8(server.take_bytes(client)).unwrap();
    assert!(answer.ends_with("\r\n\r\nGet /a ") && answer.contains("connection: close\r\n"), "{answer}");
    assert!(server.is_gone(client));
}

#[test]
fn an_answer_to_a_client_that_is_gone_reaches_nobody_else() {
    let mut server = hold(&[]);
    let gone = open_and_send(&mut server, &get("/gone"));
    server.reset(gone);
    // It has the place of the other, and waits too.
    let idle = server.open();
    server.answer_call(0);
    assert_eq!(server.take_bytes(idle), b"");
    server.send_bytes(idle, &get("/idle"));
    let next = open_and_send(&mut server, &get("/next"));
    server.reset(idle);
    let third = open_and_send(&mut server, &get("/third"));
    // The first of them is for the one that is gone.
    (0..3).for_each(|_| server.answer_call(0));
    check(&mut server, next, &[(200, "Get /next ")]);
    check(&mut server, third, &[(200, "Get /third ")]);
}

#[test]
fn an_answer_that_comes_too_late_is_not_taken_for_that_of_the_next_request() {
    let mut server = hold(&[("request_timeout", "2s")]);
    let client = open_and_send(&mut server, &[get("/1"), get("/2")].concat());
    server.advance(Duration::from_secs(3));
    check(&mut server, client, &[(503, "no answer in time (request_timeout)\n")]);
    assert_eq!(server.stats().calls_timed_out, 1);
    assert_eq!(server.held_calls().len(), 2);
    server.answer_call(0);
    check(&mut server, client, &[]);
    server.answer_call(0);
    check(&mut server, client, &[(200, "Get /2 ")]);
}

#[test]
fn whoever_waits_when_the_server_ends_is_answered_and_then_closed() {
    let mut server = hold(&[]);
    let client = open_and_send(&mut server, &[get("/1"), get("/2")].concat());
    let idle = open_and_send(&mut server, b"GET /half");
    server.drain();
    assert!(server.is_gone(idle));
    assert!(!server.is_gone(client), "it still waits for its answer");
    server.answer_call(0);
    let answer = String::from_utf8(server.take_bytes(client)).unwrap();
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("Get /1 "), "{answer}");
    server.hang_up(client);
    assert!(server.is_gone(client) && server.held_calls().len() == 0);
}

#[test]
fn a_connection_carries_so_many_requests_and_no_more() {
    let mut server = serve(&[("requests_per_connection_max", "2")]);
    let client = open_and_send(&mut server, &[get("/1"), post("/2", "b"), get("/3")].concat());
    check(&mut server, client, &[(200, "Get /1 "), (200, "Post /2 b")]);
    server.hang_up(client);
    assert!(server.is_gone(client));
}

#[test]
fn an_idle_connection_is_closed_when_its_time_is_up() {
    let mut server = serve(&[("keep_alive_timeout", "5s")]);
    let client = open_and_send(&mut server, &get("/1"));
    server.advance(Duration::from_secs(4));
    assert!(!server.is_gone(client));
    server.advance(Duration::from_secs(2));
    assert!(server.is_gone(client));
}

#[test]
fn a_head_is_answered_without_the_body() {
    let mut server = serve(&[]);
    let both = [&b"HEAD /h HTTP/1.1\r\nHost: h\r\n\r\n"[..], &get("/g")].concat();
    let client = open_and_send(&mut server, &both);
    let answer = String::from_utf8(server.take_bytes(client)).unwrap();
    let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 8"), "{head}");
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("\r\n\r\nGet /g "), "{rest}");
    // So it is when nobody answers in time.
    let mut server = hold(&[("request_timeout", "1s")]);
    let client = open_and_send(&mut server, b"HEAD /h HTTP/1.1\r\nHost: h\r\n\r\n");
    server.advance(Duration::from_secs(2));
    let answer = String::from_utf8(server.take_bytes(client)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn a_client_that_asks_before_it_sends_a_body_is_told_to_go_on() {
    let head = "POST /e HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n";
    let mut server = serve(&[("request_bytes_max", "1KiB")]);
    let client = open_and_send(&mut server, format!("{head}Content-Length: 2\r\n\r\n").as_bytes());
    assert_eq!(server.take_bytes(client), b"HTTP/1.1 100 Continue\r\n\r\n");
    server.send_bytes(client, b"hi");
    check(&mut server, client, &[(200, "Post /e hi")]);
    let client = open_and_send(&mut server, format!("{head}Content-Length: 1025\r\n\r\n").as_bytes());
    let [(status, _)] = &answers(&mut server, client)[..] else { panic!("there is one answer") };
    assert_eq!(*status, 413, "it is told before it sends");
    let client = open_and_send(&mut server, format!("{head}Content-Length: 0\r\n\r\n").as_bytes());
    check(&mut server, client, &[(200, "Post /e ")]);
}

#[test]
fn a_body_over_the_limit_is_refused_however_it_is_framed() {
    for body in ["Content-Length: 1025\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n401\r\n"] {
        let mut server = serve(&[("request_bytes_max", "1KiB")]);
        let request = format!("POST /b HTTP/1.1\r\nHost: h\r\n{body}");
        let client = open_and_send(&mut server, request.as_bytes());
        let [(status, _)] = &answers(&mut server, client)[..] else { panic!("there is one answer") };
        assert_eq!(*status, 413);
        assert_eq!((server.stats().calls, server.held_calls().len()), (0, 0));
    }
}

/// Whether a whole kilobyte may be held, which is all there is.
#[track_caller]
fn check_nothing_is_held(server: &mut TestServer, after: &str) {
    let client = open_and_send(server, &post("/all", &"x".repeat(1024)));
    let whole = server.held_calls().last().is_some_and(|request| request.body.len() == 1024);
    assert!(whole, "after {after}: {:?}", String::from_utf8_lossy(&server.take_bytes(client)));
    let last = server.held_calls().len() - 1;
    server.answer_call(last);
    server.reset(client);
}

#[test]
fn what_a_body_holds_is_given_back_in_every_way_it_may_end() {
    let head = "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 600\r\n\r\n";
    let half = format!("{head}{}", "x".repeat(500)).into_bytes();
    let whole = format!("{head}{}", "x".repeat(600)).into_bytes();
    let limits = [
        ("request_bytes_held_max", "1KiB"),
        ("request_timeout", "2s"),
        ("body_timeout", "2s"),
        ("requests_waiting_max", "1"),
    ];
    let mut server = hold(&limits);
    let server = &mut server;
    type End = fn(&mut TestServer, ClientId);
    let halves: [(&str, End); 4] = [
        ("a reset in the body", |server, client| server.reset(client)),
        ("an end in the body", |server, client| server.hang_up(client)),
        ("a body that is too slow", |server, _| server.advance(Duration::from_secs(3))),
        ("a body that is broken off by the limit", |server, client| {
            let other = open_and_send(server, &post("/x", &"x".repeat(525)));
            check(server, other, &[(503, "too much waits (request_bytes_held_max)\n")]);
            server.reset(client);
        }),
    ];
    for (name, end) in halves {
        let client = open_and_send(server, &half);
        end(server, client);
        check_nothing_is_held(server, name);
    }
    let wholes: [(&str, End); 4] = [
        ("an answer", |server, _| server.answer_call(0)),
        ("a reset, and then the answer", |server, client| {
            server.reset(client);
            server.answer_call(0);
        }),
        ("a timeout, and then the answer", |server, _| {
            server.advance(Duration::from_secs(3));
            server.answer_call(0);
        }),
        ("another for which no place is left", |server, _| {
            let other = open_and_send(server, &post("/x", "y"));
            check(server, other, &[(503, "too many wait (requests_waiting_max)\n")]);
            server.answer_call(0);
        }),
    ];
    for (name, end) in wholes {
        let client = open_and_send(server, &whole);
        assert_eq!(server.held_calls().len(), 1);
        end(server, client);
        check_nothing_is_held(server, name);
    }
    let chunks = "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense";
    open_and_send(server, chunks.as_bytes());
    check_nothing_is_held(server, "chunks that are none");
}

#[test]
fn a_client_that_is_gone_holds_its_body_until_the_answer() {
    let mut server = hold(&[("request_bytes_held_max", "1KiB")]);
    let client = open_and_send(&mut server, &post("/1", &"x".repeat(1024)));
    server.reset(client);
    let other = open_and_send(&mut server, &post("/2", "y"));
    check(&mut server, other, &[(503, "too much waits (request_bytes_held_max)\n")]);
    server.answer_call(0);
    check_nothing_is_held(&mut server, "the answer");
}

#[test]
fn a_field_that_would_break_the_answer_is_left_out() {
    let mut server = serve(&[]);
    let client = open_and_send(&mut server, &get("/odd"));
    let answer = String::from_utf8(server.take_bytes(client)).unwrap();
    assert!(!answer.contains("smuggled") && !answer.contains("x-odd"), "{answer}");
    assert!(answer.contains("x-even: b\r\n") && answer.ends_with("\r\n\r\nodd"), "{answer}");
}

#[test]
fn an_answer_without_content_has_no_length() {
    let mut server = serve(&[]);
    let client = open_and_send(&mut server, &[get("/nothing"), get("/a")].concat());
    let answer = String::from_utf8(server.take_bytes(client)).unwrap();
    let (first, second) = answer.split_once("\r\n\r\n").unwrap();
    assert!(first.starts_with("HTTP/1.1 204 ") && !first.contains("content-length"), "{first}");
    assert!(second.starts_with("HTTP/1.1 200 ") && second.ends_with("Get /a "), "{second}");
}

#[test]
fn an_answer_larger_than_the_outbox_arrives_whole_to_a_slow_client() {
    let mut server = serve(&[("outbox_bytes_max", "1KiB")]);
    let client = server.open();
    server.set_window(client, Some(1000));
    server.send_bytes(client, &get("/large"));
    let mut received = server.take_bytes(client);
    assert_eq!(received.len(), 1000);
    while received.len() < 1_000_000 {
        server.set_window(client, Some(100_000));
        received.extend(server.take_bytes(client));
    }
    let body = received.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert!(received[body..].len() == 1_000_000 && received[body..].iter().all(|byte| *byte == b'x'));
    server.set_window(client, None);
    server.send_bytes(client, &get("/a"));
    check(&mut server, client, &[(200, "Get /a ")]);
}

#[test]
fn who_asks_on_without_reading_large_answers_is_closed_behind_them() {
    let mut server = serve(&[("outbox_bytes_max", "1KiB")]);
    let client = server.open();
    server.set_window(client, Some(0));
    (0..100).for_each(|_| server.send_bytes(client, &get("/large")));
    assert!(server.outbox_bytes(client) < 3_000_000, "{} bytes wait", server.outbox_bytes(client));
    assert!(server.stats().calls < 3);
}

#[test]
fn a_waiting_request_does_not_let_its_client_send_without_end() {
    let mut server = hold(&[("head_bytes_max", "1KiB")]);
    let client = open_and_send(&mut server, &get("/1"));
    let mut sent = 0;
    while !server.is_gone(client) && sent < 100_000 {
        server.send_bytes(client, &[b'x'; 500]);
        sent += 500;
        server.advance(Duration::from_secs(1));
    }
    assert!(sent < 100_000, "it was ended");
    server.answer_call(0);
    assert_eq!(server.stats().connections, 0);
}
