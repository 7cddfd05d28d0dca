//! The frames of RFC 6455, good and bad, as the endpoint takes them.

use std::time::Duration;

use hailer::testing::{TestServer, write_masked};
use serde_json::json;

use super::dialogue::{BOTH, Dialogue};
use super::probe::{config, config_with};

/// A client's frame.
fn frame(opcode: u8, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_masked(&mut bytes, opcode, last, payload);
    bytes
}

/// The bytes close the connection with this code; another client notices nothing.
#[track_caller]
fn check_bad(bytes: &[u8], code: u16, reason: &str) {
    check_bad_with(&[], bytes, code, reason);
}

#[track_caller]
fn check_bad_with(limits: &[(&str, &str)], bytes: &[u8], code: u16, reason: &str) {
    for serializer in BOTH {
        // Whole, and byte by byte.
        for size in [bytes.len(), 1] {
            let mut dialogue = Dialogue::new(&config_with(limits), serializer);
            dialogue.play(
                r#"
                b -> ["1","1","room:1","phx_join",{}]
                b <- ["1","1","room:1","phx_reply",{"status":"ok","response":{}}]
                "#,
            );
            let client = dialogue.client("a");
            bytes.chunks(size).for_each(|piece| dialogue.server.send_bytes(client, piece));
            // What follows a close means nothing.
            let more = dialogue.masked(r#"[null,"1","phoenix","heartbeat",{}]"#);
            dialogue.server.send_bytes(client, &more);
            assert_eq!(dialogue.take("a"), [format!("close {code} {reason}")]);
            let stats = dialogue.server.stats();
            assert_eq!((stats.closed_bad_frame, stats.web_sockets), (1, 1));
            dialogue.play(
                r#"
                b -> ["1","2","room:1","new_msg",{"body":1}]
                b <- [null,null,"room:1","new_msg",{"body":1}]
                "#,
            );
            dialogue.server.hang_up(client);
            assert!(dialogue.server.is_gone(client));
            assert_eq!(dialogue.server.stats().connections, 1);
        }
    }
}

#[test]
fn a_frame_that_breaks_the_rules_closes() {
    let unmasked = b"\x81\x02[]";
    check_bad(unmasked, 1002, "a client must mask its frames");
    for bits in [0x40, 0x20, 0x10, 0x70] {
        let mut bytes = frame(0x1, true, b"[]");
        bytes[0] |= bits;
        check_bad(&bytes, 1002, "a reserved bit is set but no extension was negotiated");
    }
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        check_bad(&frame(opcode, true, b""), 1002, "unknown opcode");
    }
    for opcode in [0x8, 0x9, 0xa] {
        check_bad(&frame(opcode, false, b""), 1002, "a control frame must not be fragmented");
        check_bad(&frame(opcode, true, &[b'x'; 126]), 1002, "a control frame carries at most 125 bytes");
    }
    check_bad(&frame(0x0, true, b"x"), 1002, "a continuation frame without a message to continue");
    let twice = [frame(0x1, false, b"["), frame(0x1, true, b"]")].concat();
    check_bad(&twice, 1002, "a new message began before the fragmented one ended");
    check_bad(
        b"\x81\xfe\x00\x05\x00\x00\x00\x00[1,2]",
        1002,
        "the payload length must be written in the fewest bytes",
    );
}

#[test]
fn a_close_frame_that_breaks_the_rules_closes() {
    let reason = "a close frame carries nothing, or a code of two bytes and a reason";
    check_bad(&frame(0x8, true, b"\x03"), 1002, reason);
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        check_bad(
            &frame(0x8, true, &code.to_be_bytes()),
            1002,
            "the close code must not stand in a close frame",
        );
    }
    check_bad(&frame(0x8, true, b"\x03\xe8\xff"), 1007, "the reason in a close frame must be UTF-8");
}

#[test]
fn text_that_is_not_utf8_closes_as_soon_as_it_is_seen() {
    let reason = "a text message must be UTF-8";
    for bad in [&b"\xff"[..], b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"[\"\xe2\x82"]
    {
        check_bad(&frame(0x1, true, bad), 1007, reason);
    }
    let split = [frame(0x1, false, b"\xe2\x82"), frame(0x0, true, b"x")].concat();
    check_bad(&split, 1007, reason);
    // The rest of the frame is not waited for.
    let long = [0x81, 0xfe, 0xff, 0xff, 0, 0, 0, 0, b'a', 0xff];
    check_bad(&long, 1007, reason);
}

#[test]
fn a_frame_is_refused_from_its_announced_length() {
    let reason = "the frame is longer than the limit frame_bytes_max";
    let announced = |len: u64| [&[0x81, 0xff][..], &len.to_be_bytes(), &[0; 4]].concat();
    for len in [64 * 1024 + 1, 1 << 32, 1 << 63, u64::MAX] {
        // Without the mask's key the header is not whole; with a forbidden length that does not matter.
        check_bad(&announced(len), 1009, reason);
    }
    check_bad_with(&[("frame_bytes_max", "200")], &frame(0x2, true, &[0; 201])[..8], 1009, reason);
    check_bad_with(
        &[("frame_bytes_max", "200")],
        &frame(0x0, true, &[0; 100])[..6],
        1002,
        "a continuation frame without a message to continue",
    );
}

#[test]
fn a_message_of_fragments_is_bounded_in_bytes_and_number() {
    let begin = frame(0x2, false, &[0; 100]);
    let too_long = [begin, frame(0x0, true, &[0; 101])].concat();
    check_bad_with(
        &[("message_bytes_max", "200")],
        &too_long[..too_long.len() - 101],
        1009,
        "the message is longer than the limit message_bytes_max",
    );
    let too_many =
        [frame(0x1, false, b""), frame(0x0, false, b""), frame(0x0, false, b""), frame(0x0, true, b"")];
    check_bad_with(
        &[("fragments_max", "3")],
        &too_many.concat(),
        1009,
        "the message has more fragments than the limit fragments_max",
    );
}

#[test]
fn fragments_with_pings_between_them_are_one_message() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        let client = dialogue.client("a");
        let whole = dialogue.masked(r#"[null,"1","phoenix","heartbeat","é😀"]"#);
        let text: Vec<u8> =
            whole[6..].iter().zip(whole[2..6].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        let mut bytes = frame(0x1, false, b"");
        for byte in &text {
            bytes.extend(frame(0x0, false, &[*byte]));
            bytes.extend(frame(0x9, true, &[*byte]));
        }
        bytes.extend(frame(0x0, true, b""));
        bytes.chunks(7).for_each(|piece| dialogue.server.send_bytes(client, piece));
        let pongs = dialogue.take_frames("a");
        assert_eq!(pongs.len(), text.len() + 1);
        assert!(pongs.iter().zip(&text).all(|(pong, byte)| pong.payload == [*byte]));
        let stats = dialogue.server.stats();
        assert_eq!((stats.heartbeats, stats.messages_in, stats.closed_bad_frame), (1, 1, 0));
    }
}

#[test]
fn a_dialogue_cut_into_any_pieces_is_the_same() {
    for serializer in BOTH {
        let mut whole: Option<Vec<String>> = None;
        for size in (1..40).chain([1000]) {
            let mut dialogue = Dialogue::new(&config(), serializer);
            let client = dialogue.client("a");
            let bytes: Vec<u8> = [
                r#"["1","1","probe:1","phx_join",{}]"#,
                "ping p",
                r#"["1","2","probe:1","shout_and_reply",{"a":[1]}]"#,
                r#"["1","3","probe:1","phx_leave",{}]"#,
                "close 1001",
            ]
            .iter()
            .flat_map(|line| dialogue.masked(line))
            .collect();
            bytes.chunks(size).for_each(|piece| dialogue.server.send_bytes(client, piece));
            let got = dialogue.take("a");
            assert_eq!(got.len(), 7, "{got:#?}");
            assert_eq!(*whole.get_or_insert_with(|| got.clone()), got, "pieces of {size}");
        }
    }
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    for payload in [&b""[..], b"hello", &[0xff; 125]] {
        let mut server = TestServer::with_config(&config(), 1);
        let client = server.connect();
        server.send_bytes(client, &frame(0x9, true, payload));
        let expected = [&[0x8a, u8::try_from(payload.len()).unwrap()], payload].concat();
        assert_eq!(server.take_bytes(client), expected);
        // A pong that nobody asked for means nothing.
        server.send_bytes(client, &frame(0xa, true, payload));
        assert!(server.take_bytes(client).is_empty());
        assert_eq!(server.closed(client), None);
    }
}

#[test]
fn a_flood_of_pings_is_answered_in_few_pongs() {
    let mut server = TestServer::with_config(&config(), 1);
    let client = server.connect();
    let pings: Vec<u8> = (0..1000_u32).flat_map(|n| frame(0x9, true, &n.to_be_bytes())).collect();
    server.send_bytes(client, &pings);
    let (pongs, _) = hailer::testing::read_frames(&server.take_bytes(client));
    assert_eq!(pongs.len(), 16);
    assert_eq!(pongs[15].payload, 999_u32.to_be_bytes(), "the most recent ping is answered");
    assert_eq!(server.stats().pongs_coalesced, 1000 - 16);
    // Each turn begins anew.
    server.send_bytes(client, &pings);
    assert_eq!(server.stats().pongs_coalesced, 2 * (1000 - 16));
}

#[test]
fn a_flood_of_pings_of_a_client_that_does_not_read_is_bounded() {
    let mut server = TestServer::with_config(&config_with(&[("pongs_waiting_max", "3")]), 1);
    let client = server.connect();
    server.set_window(client, Some(0));
    for n in 0..1000_u32 {
        server.send_bytes(client, &frame(0x9, true, &n.to_be_bytes()));
        assert!(server.outbox_bytes(client) <= 3 * 64);
    }
    server.set_window(client, None);
    let (pongs, _) = hailer::testing::read_frames(&server.take_bytes(client));
    let payloads: Vec<_> = pongs.into_iter().map(|pong| pong.payload).collect();
    assert_eq!(payloads, [0_u32, 1, 999].map(|n| n.to_be_bytes().to_vec()));
}

#[test]
fn a_ping_is_answered_though_all_pongs_before_it_are_written_but_not_all_else() {
    let mut server = TestServer::with_config(&config_with(&[("pongs_waiting_max", "2")]), 1);
    let client = server.connect();
    server.join(client, "probe:1", json!({}));
    server.set_window(client, Some(0));
    for n in 0..2_u8 {
        server.send_bytes(client, &frame(0x9, true, &[n]));
    }
    server.push(client, "probe:1", "echo", json!("a reply that waits"));
    server.set_window(client, Some(2 * 3));
    server.send_bytes(client, &frame(0x9, true, b"2"));
    server.set_window(client, None);
    let (frames, _) = hailer::testing::read_frames(&server.take_bytes(client));
    let pongs: Vec<_> =
        frames.iter().filter(|frame| frame.opcode == 0xa).map(|frame| &*frame.payload).collect();
    assert_eq!(pongs, [&[0], &[1], &b"2"[..]]);
}

#[test]
fn a_client_that_is_silent_is_closed_and_only_its_own_bytes_count() {
    for serializer in BOTH {
        let mut dialogue = Dialogue::new(&config(), serializer);
        dialogue.play(
            r#"
            a -> ["1","1","probe:1","phx_join",{}]
            a <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
            b -> ["1","1","probe:1","phx_join",{}]
            b <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
            c -> ["1","1","probe:1","phx_join",{}]
            c <- ["1","1","probe:1","phx_reply",{"status":"ok","response":{}}]
            "#,
        );
        let pinging = dialogue.client("b");
        // A byte of a frame that never comes whole is a byte.
        let trickling = dialogue.client("c");
        dialogue.server.send_bytes(trickling, &[0x81, 0xfe, 0x10, 0x00, 0, 0, 0, 0]);
        for second in 0..62 {
            dialogue.server.broadcast("probe:1", "news", json!(second)).unwrap();
            if second % 20 == 0 {
                dialogue.server.send_bytes(pinging, &frame(0xa, true, b""));
                dialogue.server.send_bytes(trickling, b"x");
            }
            dialogue.server.advance(Duration::from_secs(1));
        }
        let got = dialogue.take("a");
        let reason = "nothing came from the client within idle_timeout: send heartbeats";
        assert_eq!(got.last().unwrap(), &format!("close 1002 {reason}"));
        assert!((60..=62).contains(&(got.len() - 1)), "{}", got.len());
        assert_eq!(dialogue.server.stats().closed_idle, 1);
        assert_eq!(dialogue.server.closed(pinging), None);
        assert_eq!(dialogue.server.closed(trickling), None);
    }
}

#[test]
fn a_connection_in_use_lives_for_ever() {
    let mut server = TestServer::with_config(&config_with(&[("idle_timeout", "1s")]), 1);
    let client = server.connect();
    for _ in 0..1000 {
        server.advance(Duration::from_millis(900));
        server.push(client, "phoenix", "heartbeat", json!({}));
    }
    assert_eq!(server.closed(client), None);
    server.advance(Duration::from_millis(1500));
    assert_eq!(server.closed(client).unwrap().code, Some(1002));
}

#[test]
fn a_clients_close_is_echoed() {
    for code in [1000_u16, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 4999] {
        for serializer in BOTH {
            let mut dialogue = Dialogue::new(&config(), serializer);
            let client = dialogue.client("a");
            let mut bytes = frame(0x8, true, &[&code.to_be_bytes()[..], "no more".as_bytes()].concat());
            bytes.extend(dialogue.masked(r#"["1","1","room:1","phx_join",{}]"#));
            dialogue.server.send_bytes(client, &bytes);
            dialogue.play(&format!("a <- close {code}"));
            let stats = dialogue.server.stats();
            assert_eq!((stats.closed_by_client, stats.web_sockets, stats.joins), (1, 0, 0));
            assert!(!dialogue.server.is_gone(client), "it is for the client to end the connection");
            dialogue.server.hang_up(client);
            assert!(dialogue.server.is_gone(client));
            assert_eq!(dialogue.server.stats().closed_abruptly, 0);
        }
    }
}

#[test]
fn a_close_without_a_code_is_echoed_without_a_code() {
    let mut server = TestServer::with_config(&config(), 1);
    let client = server.connect();
    server.send_bytes(client, &frame(0x8, true, b""));
    assert_eq!(server.take_bytes(client), b"\x88\x00");
}

#[test]
fn a_client_that_does_not_end_the_connection_after_the_close_is_given_up() {
    let mut server = TestServer::with_config(&config(), 1);
    let client = server.connect();
    server.send_bytes(client, &frame(0x8, true, &1000_u16.to_be_bytes()));
    server.advance(Duration::from_secs(4));
    assert!(!server.is_gone(client));
    server.advance(Duration::from_secs(2));
    assert!(server.is_gone(client));
}

#[test]
fn a_client_that_does_not_answer_a_close_is_given_up() {
    let mut server = TestServer::with_config(&config_with(&[("close_timeout", "2s")]), 1);
    let (client, other) = (server.connect(), server.connect());
    server.advance(Duration::from_secs(61));
    assert_eq!(server.closed(client).unwrap().code, Some(1002));
    // Data after the server's close is not answered, and gains no time.
    server.send_text(client, r#"[null,"1","phoenix","heartbeat",{}]"#);
    server.advance(Duration::from_secs(1));
    server.send_text(client, r#"[null,"2","phoenix","heartbeat",{}]"#);
    assert!(!server.is_gone(client));
    // One that answers is not counted as one that ended abruptly.
    server.send_bytes(other, &frame(0x8, true, &1002_u16.to_be_bytes()));
    server.hang_up(other);
    assert!(server.is_gone(other));
    server.advance(Duration::from_millis(1300));
    assert!(server.is_gone(client));
    assert!(server.received(client).is_empty());
    let stats = server.stats();
    assert_eq!((stats.heartbeats, stats.closed_abruptly, stats.closed_idle), (0, 1, 2));
}

#[test]
fn a_client_that_sends_rubbish_while_it_is_being_closed_gets_no_second_close() {
    let mut server = TestServer::with_config(&config(), 1);
    let client = server.connect();
    server.advance(Duration::from_secs(61));
    let (frames, _) = hailer::testing::read_frames(&server.take_bytes(client));
    assert_eq!(frames.len(), 1);
    server.send_bytes(client, b"\x81\x00");
    assert!(server.take_bytes(client).is_empty());
    assert_eq!(server.stats().closed_bad_frame, 0);
}

#[test]
fn only_the_frames_of_one_client_are_its_own() {
    let mut server = TestServer::with_config(&config(), 2);
    let clients: Vec<_> = (0..4).map(|n| server.connect_with(BOTH[n % 2])).collect();
    server.send_bytes(clients[0], b"\xff\xff");
    server.send_bytes(clients[1], &frame(0x1, false, b"[1,"));
    for client in &clients[2..] {
        let answer = server.push(*client, "phoenix", "heartbeat", json!({}));
        assert!(server.take_reply(*client, &answer).is_some());
    }
    assert_eq!(server.closed(clients[1]), None);
}
