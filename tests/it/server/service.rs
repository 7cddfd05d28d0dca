//! Requests that are answered outside the loop.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use hailer::channel::Router;
use hailer::endpoint::Config;
use hailer::http::Status;
use hailer::limits::Limits;
use hailer::notification::Notification;
use hailer::server::{Server, ServerConfig};
use hailer::service::{Service, ServiceReply, ServiceRequest};

use crate::support::{Client, PATIENCE, Peer, eventually};

/// Says what it was asked; some paths do something else.
struct Parrot {
    /// What a request to `/wait` waits for.
    go: Mutex<Receiver<()>>,
}

impl Service for Parrot {
    fn call(&self, request: &ServiceRequest, at: u64) -> ServiceReply {
        assert!(at > 1_700_000_000_000, "it is told the time");
        match &*request.path {
            "/panic" => panic!("on purpose"),
            "/wait" => {
                let go = self.go.lock().expect("nobody has panicked with it");
                go.recv_timeout(PATIENCE).expect("it is told to go on");
            }
            _ => {}
        }
        let (method, query) = (request.method, &request.query);
        let host = request.header("host").unwrap_or_default();
        let body = String::from_utf8_lossy(&request.body);
        let text = format!("{method:?} {} {query} {host} {} {body}", request.path, request.peer);
        ServiceReply::new(Status::Accepted).header("x-odd", "1").body("text/plain", text.into_bytes())
    }
}

fn start(limits: &[(&str, &str)]) -> (Server, Sender<()>) {
    let (go, receiver) = channel();
    let mut bounds = Limits::default();
    limits.iter().for_each(|(name, value)| bounds.set(name, value).expect("it is a limit"));
    let router = Router::new().channel("room:*".parse().expect("it is a pattern"), Notification::default());
    let endpoint = Config {
        limits: Arc::new(bounds),
        service: Some(Arc::new(Parrot { go: Mutex::new(receiver) })),
        ..Config::new(router)
    };
    let listen = "127.0.0.1:0".parse().expect("it is an address");
    let config = ServerConfig { listen, shards: 1, service_threads: 2, ..ServerConfig::new(endpoint) };
    (Server::start(&config).expect("the server starts"), go)
}

fn open(server: &Server) -> Peer {
    Peer::connect(server.handle().local_addr())
}

#[test]
fn requests_are_answered_with_their_bodies_on_one_connection() {
    let (server, _go) = start(&[]);
    let mut peer = open(&server);
    peer.send(b"GET /api?a=1 HTTP/1.1\r\nHost: here\r\n\r\n");
    let response = peer.response();
    assert_eq!((response.status, response.body), (202, "Get /api a=1 here 127.0.0.1 ".to_owned()));
    assert!(response.head.contains("x-odd: 1\r\n"), "{}", response.head);
    let chunked =
        "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    peer.send(chunked.as_bytes());
    assert_eq!(peer.response().body, "Post /x  h 127.0.0.1 abcde");
    // Two at once are answered in their order.
    peer.send(
        b"PUT /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhiDELETE /2 HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    assert_eq!(peer.response().body, "Put /1  h 127.0.0.1 hi");
    assert_eq!(peer.response().body, "Delete /2  h 127.0.0.1 ");
    peer.send(b"HEAD /3 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let head = String::from_utf8_lossy(&peer.read_to_end()).into_owned();
    assert!(head.starts_with("HTTP/1.1 202 Accepted\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("content-length: 21\r\n"), "{head}");
    assert_eq!(server.handle().stats().calls, 5);
    server.shutdown().expect("it ends");
}

#[test]
fn the_loop_goes_on_while_a_request_waits() {
    let (server, go) = start(&[]);
    let address = server.handle().local_addr();
    let mut peer = open(&server);
    peer.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("the request", || (server.handle().stats().calls == 1).then_some(()));
    let mut client = Client::joined(address, "room:1");
    client.push("room:1", "new_msg", &serde_json::json!({"body": 1}));
    assert_eq!(client.body(), 1);
    // A client that goes while it waits is forgotten.
    let mut other = open(&server);
    other.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("the other request", || (server.handle().stats().calls == 2).then_some(()));
    drop(other);
    for _ in 0..2 {
        go.send(()).expect("somebody waits");
    }
    assert_eq!(peer.response().status, 202);
    server.shutdown().expect("it ends");
}

#[test]
fn a_request_that_makes_the_service_panic_is_answered_500() {
    let (server, _go) = start(&[]);
    let mut peer = open(&server);
    for _ in 0..5 {
        peer.send(b"GET /panic HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(peer.response().status, 500);
    }
    peer.send(b"GET /fine HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(peer.response().status, 202);
    server.shutdown().expect("it ends");
}

#[test]
fn what_waits_for_the_service_is_bounded() {
    let (server, go) = start(&[
        ("requests_waiting_max", "1"),
        ("request_bytes_max", "4096"),
        ("request_bytes_held_max", "5000"),
    ]);
    let mut waiting = open(&server);
    let mut head = "POST /wait HTTP/1.1\r\nHost: h\r\nContent-Length: 3000\r\n\r\n".to_owned();
    head.push_str(&"x".repeat(3000));
    waiting.send(head.as_bytes());
    eventually("the request", || (server.handle().stats().calls == 1).then_some(()));
    let refused = |request: String, name: &str, status: u16| {
        let mut peer = open(&server);
        peer.send(request.as_bytes());
        let answer = String::from_utf8_lossy(&peer.read_to_end()).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(name), "{answer}");
    };
    refused("GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "requests_waiting_max", 503);
    let post = |length: usize| {
        format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length))
    };
    refused(post(3000), "request_bytes_held_max", 503);
    refused(post(5000), "HTTP/1.1 413", 413);
    assert_eq!(server.handle().stats().calls_refused, 2);
    go.send(()).expect("somebody waits");
    assert_eq!(waiting.response().status, 202);
    // What was held is given back.
    for _ in 0..3 {
        let mut peer = open(&server);
        peer.send(post(4000).as_bytes());
        assert_eq!(peer.response().status, 202);
    }
    server.shutdown().expect("it ends");
}

#[test]
fn a_request_that_nobody_answers_in_time_is_answered_503() {
    let (server, go) = start(&[("request_timeout", "1s")]);
    let mut peer = open(&server);
    peer.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = peer.response();
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("request_timeout"));
    assert_eq!(server.handle().stats().calls_timed_out, 1);
    go.send(()).expect("somebody waits");
    // The late answer finds nobody, and the connection goes on.
    peer.send(b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(peer.response().body, "Get /next  h 127.0.0.1 ");
    server.shutdown().expect("it ends");
}
