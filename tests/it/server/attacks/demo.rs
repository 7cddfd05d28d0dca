//! The open demo: what it gives away is given to the terminal that it was started on, for this run.

use std::net::{SocketAddr, TcpStream};

use crate::support::peer::PATH;
use crate::support::{Hailer, Peer, hailer};

/// The demo with the addresses it chooses by itself but for their ports.
fn demo() -> (Hailer, SocketAddr, String, String) {
    let mut command = hailer(&["serve", "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"]);
    command.env_remove("HAILER_API_LISTEN");
    let demo = Hailer::run(command);
    let api = demo.said("API on http://").parse().expect("it is an address");
    let link = demo.said("Back office at http://");
    let token = link.split_once('#').and_then(|(_, rest)| rest.split_whitespace().next()).expect("a token");
    let (token, key) = (token.to_owned(), demo.said("API key of this run: "));
    (demo, api, token, key)
}

/// Asks the API with a key: the status.
fn ask(api: SocketAddr, key: &str) -> u16 {
    let mut peer = Peer::connect(api);
    let head = format!("GET /api/v1/topics HTTP/1.1\r\nhost: {api}\r\nauthorization: Bearer {key}\r\n\r\n");
    peer.send(head.as_bytes());
    peer.response().status
}

/// Uses a one-time link: the status.
fn enter(api: SocketAddr, token: &str) -> u16 {
    let mut peer = Peer::connect(api);
    let content = "content-type: application/x-www-form-urlencoded";
    let body = format!("token={token}");
    let head = format!("POST /admin/welcome HTTP/1.1\r\nhost: {api}\r\norigin: http://{api}\r\n{content}");
    peer.send(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    peer.response().status
}

#[test]
fn every_run_has_a_key_and_a_link_of_its_own() {
    let (_one, api, token, key) = demo();
    let (_two, other_api, other_token, other_key) = demo();
    assert!(key.starts_with("hlr_") && key.len() == 47 && token.len() == 43, "{} {}", key.len(), token.len());
    assert!(key != other_key && token != other_token);
    assert_eq!((ask(api, &key), ask(other_api, &key)), (200, 401));
    assert_eq!((enter(other_api, &token), enter(api, &token)), (422, 303));
    // A link is good once.
    assert_eq!(enter(api, &token), 422);
}

/// Asks for a socket under a host's name, from a page of an origin or from none: the status.
fn connect(address: SocketAddr, path: &str, host: &str, origin: Option<&str>) -> String {
    let mut peer = Peer::connect(address);
    let origin = origin.map(|origin| format!("origin: {origin}\r\n")).unwrap_or_default();
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let upgrade = if path.contains("longpoll") { "" } else { upgrade };
    peer.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{origin}{upgrade}\r\n").as_bytes());
    let response = peer.response();
    // Long-poll says it in the body.
    if response.body.contains("403") { "403".to_owned() } else { response.status.to_string() }
}

#[test]
fn a_page_whose_name_leads_here_does_not_connect_to_the_demo() {
    let (hailer, ..) = demo();
    let (address, port) = (hailer.address(), hailer.address().port());
    let poll = "/socket/longpoll?vsn=2.0.0";
    for host in
        ["evil.example".to_owned(), format!("evil.example:{port}"), "localhost.evil.example".to_owned()]
    {
        let own = format!("http://{host}");
        for origin in [Some(&*own), None, Some("http://localhost")] {
            assert_eq!(connect(address, PATH, &host, origin), "403", "{host} {origin:?}");
            assert_eq!(connect(address, poll, &host, origin), "403", "{host} {origin:?}");
        }
    }
    let line = hailer.log_line("a name with a dot");
    assert!(line.contains("check_origin"), "{line}");
    for host in [format!("localhost:{port}"), format!("app.localhost:{port}"), address.to_string()] {
        let own = format!("http://{host}");
        for origin in [Some(&*own), None, Some("http://localhost:3000")] {
            assert_eq!(connect(address, PATH, &host, origin), "101", "{host} {origin:?}");
            assert_eq!(connect(address, poll, &host, origin), "200", "{host} {origin:?}");
        }
    }
}

#[test]
fn a_demo_with_check_origin_goes_by_any_name() {
    let mut command = hailer(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("HAILER_CHECK_ORIGIN", "http://tunnel.example");
    let hailer = Hailer::run(command);
    let status = |origin| connect(hailer.address(), PATH, "tunnel.example", Some(origin));
    assert_eq!(status("http://tunnel.example"), "101");
    assert_eq!(status("http://evil.example"), "403");
}

#[test]
fn by_itself_the_demo_listens_on_this_machine_alone() {
    let output = crate::support::hailer_output(&["check-config"]);
    let report = String::from_utf8(output.stdout).expect("it is text");
    assert!(report.contains("listen = \"127.0.0.1:4000\""), "{report}");
    let mut command = hailer(&["check-config"]);
    let output = command.env_remove("HAILER_API_LISTEN").output().expect("the program starts");
    let report = String::from_utf8(output.stdout).expect("it is text");
    assert!(report.contains("listen = \"127.0.0.1:4001\""), "{report}");
    // Neither listener of a running one is there for another address of this machine.
    let (hailer, api, ..) = demo();
    for address in [hailer.address(), api] {
        assert!(address.ip().is_loopback());
        assert!(TcpStream::connect(("127.0.0.2", address.port())).is_err(), "{address}");
    }
}
