//! How WebSockets end.

use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::support::peer::{CLOSE, PING, PONG, TEXT};
use crate::support::{Client, Hailer, Peer};

#[test]
fn the_clients_close_is_answered_with_its_code() {
    let hailer = Hailer::start(&[]);
    for code in [1000, 1001, 1011, 3000, 4999] {
        let mut client = Client::joined(hailer.address(), "room:lobby");
        client.close(Some(CloseFrame { code: CloseCode::from(code), reason: "bye".into() }));
        assert_eq!(client.closed(), Some((code, String::new())));
    }
    let mut client = Client::joined(hailer.address(), "room:lobby");
    client.close(None);
    assert_eq!(client.closed(), None);
}

#[test]
fn what_comes_after_a_close_frame_is_not_looked_at() {
    let mut hailer = Hailer::start(&[]);
    let mut listener = Client::joined(hailer.address(), "room:lobby");
    let mut peer = Peer::join(hailer.address());
    let mut bytes = Vec::new();
    hailer::testing::write_masked(&mut bytes, CLOSE, true, &1000u16.to_be_bytes());
    let late = br#"["1","2","room:lobby","new_msg",{"body":"late"}]"#;
    hailer::testing::write_masked(&mut bytes, TEXT, true, late);
    bytes.extend_from_slice(b"no frame at all");
    peer.send(&bytes);
    assert_eq!(peer.close_frame(), (1000, String::new()));
    peer.expect_end();
    listener.push("room:lobby", "new_msg", &serde_json::json!({"body": "in time"}));
    assert_eq!(listener.body(), "in time");
    let line = hailer.stop();
    assert!(line.contains("closed_by_client=1") && !line.contains("closed_bad_frame"), "{line}");
}

#[test]
fn a_silent_client_is_closed_with_a_code_that_lets_it_come_back() {
    let hailer = Hailer::start(&["--timeout", "1s"]);
    let mut client = Client::joined(hailer.address(), "room:lobby");
    let (code, reason) = client.closed().expect("a code");
    assert_ne!(code, 1000, "phoenix.js stays away after 1000");
    assert!(reason.contains("heartbeat"), "{reason}");
}

/// What is sent is answered by a close frame with this code and this in its reason.
fn check(bytes: &[u8], code: u16, reason: &str) {
    let mut hailer = Hailer::start(&[]);
    let mut peer = Peer::join(hailer.address());
    peer.send(bytes);
    let (found, text) = peer.close_frame();
    assert_eq!(found, code, "{bytes:?}: {text}");
    assert!(text.contains(reason), "{text}");
    // The peer needs no manners for the server to end the connection.
    peer.expect_end();
    drop(peer);
    let line = hailer.stop();
    assert!(line.contains("connections=0") && line.contains("closed_bad_"), "{line}");
}

fn text(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    hailer::testing::write_masked(&mut bytes, TEXT, true, text);
    bytes
}

#[test]
fn bad_json_is_closed_with_1007_and_what_to_do() {
    check(&text(b"{nonsense"), 1007, "JSON");
    check(&text(b"[1,2]"), 1007, "[join_ref, ref, topic, event, payload]");
    check(&text(b"{\"topic\":\"room:lobby\"}"), 1007, "expected a JSON array");
}

#[test]
fn an_unmasked_frame_is_closed_with_1002() {
    check(&[0x81, 2, b'[', b']'], 1002, "mask");
}

#[test]
fn a_frame_too_long_is_closed_with_1009_before_its_payload_comes() {
    let announced = (64 * 1024 + 1u64).to_be_bytes();
    check(&[&[0x82, 0x80 | 127], &announced[..], &[1, 2, 3, 4]].concat(), 1009, "frame_bytes_max");
    let absurd = u64::MAX.to_be_bytes();
    check(&[&[0x82, 0x80 | 127], &absurd[..], &[1, 2, 3, 4]].concat(), 1009, "frame_bytes_max");
}

#[test]
fn text_that_is_not_utf8_is_closed_with_1007() {
    check(&text(b"[\"\xff\"]"), 1007, "UTF-8");
}

#[test]
fn pings_are_answered() {
    let hailer = Hailer::start(&[]);
    let mut peer = Peer::join(hailer.address());
    for payload in [&b""[..], b"x", &[0xff; 125]] {
        peer.send_frame(PING, payload);
        let frame = peer.next_frame().expect("a pong");
        assert_eq!((frame.opcode, &*frame.payload), (PONG, payload));
    }
}

#[test]
fn a_peer_that_ends_its_own_side_with_its_close_frame_is_answered_and_forgotten() {
    let hailer = Hailer::start(&["--limit", "close_timeout=10m"]);
    let before = hailer.descriptors();
    let mut peers: Vec<Peer> = (0..10).map(|_| Peer::join(hailer.address())).collect();
    for peer in &mut peers {
        peer.send_frame(CLOSE, &1000u16.to_be_bytes());
        peer.half_close();
    }
    for peer in &mut peers {
        assert_eq!(peer.close_frame(), (1000, String::new()));
        peer.expect_end();
    }
    // The server has seen the peers' ends, so it has nothing to wait for.
    hailer.wait_for_descriptors(before);
}

#[test]
fn a_reset_leaves_nothing_behind() {
    let mut hailer = Hailer::start(&[]);
    let before = hailer.descriptors();
    for number in 0..100 {
        let mut peer = Peer::connect(hailer.address());
        match number % 4 {
            0 => {}
            1 => peer.send(b"GET / HT"),
            2 => peer.upgrade(crate::support::peer::PATH),
            _ => {
                peer.upgrade(crate::support::peer::PATH);
                peer.join_lobby();
                // The beginning of a frame.
                peer.send(&[0x81, 0x80 | 10, 1, 2, 3, 4, 5]);
            }
        }
        peer.reset();
    }
    hailer.wait_for_descriptors(before);
    let line = hailer.stop();
    assert!(hailer.log_line("stopping").contains("connections=0"), "{line}");
}
