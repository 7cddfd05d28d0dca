//! Connections that are to go to the shard that has their session.

use std::sync::Arc;

use hailer::channel::Router;
use hailer::endpoint::Config;
use hailer::limits::Limits;
use hailer::testing::TestServer;

#[test]
fn a_peer_that_reads_nothing_can_not_send_without_end_to_another_shard() {
    let mut limits = Limits::default();
    limits.body_bytes_max = 10_000;
    let most = limits.head_bytes_max + limits.body_bytes_max;
    let config = Config { limits: Arc::new(limits), ..Config::new(Router::new()) };
    let mut server = TestServer::with_config(&config, 2);

    let opener = server.open();
    server.send_bytes(opener, b"GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nhost: x\r\n\r\n");
    let answer = String::from_utf8(server.take_bytes(opener)).unwrap();
    let token = answer.split(r#""token":""#).nth(1).and_then(|rest| rest.split('"').next()).unwrap();

    let client = server.open();
    server.set_window(client, Some(0));
    server.send_bytes(client, b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n");
    let head =
        format!("POST /socket/longpoll?token={token} HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n");
    server.send_bytes(client, head.as_bytes());
    assert_eq!(server.stats().handed_over, 1);
    // What a whole request may be waits until the first answer is read.
    server.send_bytes(client, &[b' '; 9_999]);
    assert!(!server.is_gone(client));
    let mut sent = head.len() + 9_999;
    while !server.is_gone(client) {
        assert!(sent <= most, "{sent} bytes are kept");
        server.send_bytes(client, &[b'x'; 1_000]);
        sent += 1_000;
    }
}
