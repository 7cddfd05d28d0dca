//! From a request to a WebSocket.

use hailer::endpoint::Config;
use hailer::http::Subprotocols;
use hailer::testing::{TestServer, upgrade_request, write_masked};

use super::http::{answer, check, check_body, request};
use super::probe::config;

/// The upgrade with one of its lines changed (or left out) is answered with this status and body.
#[track_caller]
fn check_upgrade(line: &str, by: &str, status: &str, body: &str) {
    let good = upgrade_request("/socket/websocket?vsn=2.0.0");
    let line = format!("{line}\r\n");
    assert!(good.contains(&line), "{line}");
    check_body(
        &good.replace(&line, &if by.is_empty() { String::new() } else { format!("{by}\r\n") }),
        status,
        body,
    );
}

#[test]
fn an_upgrade_is_answered_with_its_accept_key() {
    for target in [
        "/socket/websocket?vsn=2.0.0",
        "/socket/websocket/?vsn=2.0.0",
        "/socket/websocket?token=a&vsn=2.0.7&",
        "/socket/websocket?vsn=1.0.0",
        "/socket/websocket?vsn=9&vsn=2.0.0",
        "/socket/websocket?v%73n=2.0.0&a[b]=1",
        // Of no concern here, so none of it is judged.
        "/socket/websocket?vsn=2.0.0&city=Montr%E9al&sale=100%&%=%",
        "/socket/websocket",
    ] {
        check(
            &upgrade_request(target),
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
    }
}

#[test]
fn the_version_of_the_messages_is_1_if_none_is_named() {
    let mut server = TestServer::with_config(&config(), 1);
    let client = server.open();
    server.send_bytes(client, upgrade_request("/socket/websocket").as_bytes());
    server.take_bytes(client);
    server.send_text(client, r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}"#);
    let expected =
        br#"{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}"#;
    assert_eq!(&server.take_bytes(client)[2..], expected);
}

#[test]
fn a_version_of_the_messages_that_is_unknown_is_refused() {
    for vsn in ["2.1.0", "3.0.0", "2", "2.0", "", "abc", "2.0.0-rc.1", "02.0.0", "2.0.0 ", "1.0.0&vsn=2"] {
        check_body(
            &upgrade_request(&format!("/socket/websocket?vsn={}", vsn.replace(' ', "+"))),
            "403 Forbidden",
            "the parameter vsn names no serializer of this server: use 2.0.0 or 1.0.0\n",
        );
    }
    // It is refused before the headers are looked at, as in Phoenix.
    check_body(
        &request("GET /socket/websocket?vsn=9"),
        "403 Forbidden",
        "the parameter vsn names no serializer of this server: use 2.0.0 or 1.0.0\n",
    );
    check_body(
        &upgrade_request("/socket/websocket?a=1&vsn=%"),
        "400 Bad Request",
        "Write every % in the query as %25, or with two hex digits after it.\n",
    );
}

#[test]
fn what_is_no_upgrade_is_told_why() {
    let target = "GET /socket/websocket?vsn=2.0.0";
    check_body(&request(target), "400 Bad Request", "'connection' header must contain 'upgrade', got []");
    let connection = "Connection: keep-alive, Upgrade";
    check_upgrade(connection, "", "400 Bad Request", "'connection' header must contain 'upgrade', got []");
    check_upgrade(
        connection,
        "Connection: keep-alive",
        "400 Bad Request",
        r#"'connection' header must contain 'upgrade', got ["keep-alive"]"#,
    );
    let upgrade = "Upgrade: websocket";
    check_upgrade(upgrade, "", "400 Bad Request", "'upgrade' header must contain 'websocket', got []");
    check_upgrade(
        upgrade,
        "Upgrade: h2c",
        "400 Bad Request",
        r#"'upgrade' header must contain 'websocket', got ["h2c"]"#,
    );
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    check_upgrade(key, "", "400 Bad Request", "'sec-websocket-key' header is absent");
    let bad_key = "'sec-websocket-key' header must be 16 bytes in base64, once";
    check_upgrade(key, "Sec-WebSocket-Key: short", "400 Bad Request", bad_key);
    check_upgrade(key, &format!("{key}\r\n{key}"), "400 Bad Request", bad_key);
    let old = r#"GET /socket/websocket?vsn=2.0.0 HTTP/1.1"#;
    check_upgrade(
        old,
        "GET /socket/websocket?vsn=2.0.0 HTTP/1.0",
        "400 Bad Request",
        "HTTP version HTTP/1.0 unsupported",
    );
}

#[test]
fn a_version_of_the_protocol_that_is_unknown_is_told_the_known_one() {
    let good = upgrade_request("/socket/websocket?vsn=2.0.0");
    for version in ["8", "14", "13, 8"] {
        let body = format!("'sec-websocket-version' header must equal '13', got [\"{version}\"]");
        check(
            &good.replace("Version: 13", &format!("Version: {version}")),
            &format!(
                "HTTP/1.1 426 Upgrade Required\r\ncontent-type: text/plain; charset=utf-8\r\n\
                 sec-websocket-version: 13\r\nupgrade: websocket\r\nconnection: upgrade, keep-alive\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
    }
}

#[test]
fn headers_are_compared_without_case() {
    let good = upgrade_request("/socket/websocket?vsn=2.0.0");
    for (from, to) in [
        ("Connection: keep-alive, Upgrade", "CONNECTION: KEEP-ALIVE,UPGRADE"),
        ("Upgrade: websocket", "uPGRADE: WebSocket"),
        ("Connection: keep-alive, Upgrade", "Connection: keep-alive\r\nConnection: upgrade"),
    ] {
        let (_, _, answer) = answer(&config(), &good.replace(from, to));
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    }
}

#[test]
fn a_subprotocol_is_answered_if_it_is_ours_and_a_token_never() {
    let good = upgrade_request("/socket/websocket?vsn=2.0.0");
    for (offered, answered) in [
        ("phoenix", true),
        ("phoenix, base64url.bearer.phx.c2VjcmV0LXRva2Vu", true),
        ("base64url.bearer.phx.c2VjcmV0LXRva2Vu,phoenix", true),
        ("base64url.bearer.phx.c2VjcmV0LXRva2Vu", false),
        ("chat", false),
        ("Phoenix", false),
        ("chat, phoenix", true),
        ("a b, phoenix, c/d", true),
    ] {
        let head = good.replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Protocol: {offered}\r\n\r\n"));
        let (_, _, answer) = answer(&config(), &head);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert_eq!(answer.contains("\r\nsec-websocket-protocol: phoenix\r\n"), answered, "{offered}");
        assert_eq!(answer.contains("sec-websocket-protocol"), answered, "{offered}");
        assert!(!answer.contains("bearer") && !answer.contains("c2Vj"), "{answer}");
    }
    let two = "\r\nSec-WebSocket-Protocol: base64url.bearer.phx.YQ, base64url.bearer.phx.Yg\r\n\r\n";
    let body = "'sec-websocket-protocol' header must have at most one bearer token, in base64";
    check_body(&good.replace("\r\n\r\n", two), "400 Bad Request", body);
}

/// As Phoenix's option `subprotocols`: the server's order decides, and none in common is refused.
#[test]
fn a_listed_subprotocol_is_answered_and_others_are_refused() {
    let listed = Config { subprotocols: Subprotocols::new(&["v2.chat", "v1.chat"]).unwrap(), ..config() };
    let good = upgrade_request("/socket/websocket?vsn=2.0.0");
    let token = "base64url.bearer.phx.c2VjcmV0LXRva2Vu";
    for (offered, answered) in [
        ("v1.chat, v2.chat".to_owned(), Some(Some("v2.chat"))),
        ("v1.chat".to_owned(), Some(Some("v1.chat"))),
        ("v1.chat, phoenix".to_owned(), Some(Some("phoenix"))),
        (format!("phoenix, {token}"), Some(Some("phoenix"))),
        (format!("v1.chat, {token}"), Some(Some("v1.chat"))),
        (token.to_owned(), Some(None)),
        (String::new(), Some(None)),
        ("mqtt".to_owned(), None),
        ("V1.chat".to_owned(), None),
        (format!("mqtt, {token}"), None),
    ] {
        let head = good.replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Protocol: {offered}\r\n\r\n"));
        let (server, _, answer) = answer(&listed, &head);
        let field =
            answer.split("sec-websocket-protocol: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        match answered {
            Some(name) => {
                assert!(answer.starts_with("HTTP/1.1 101 ") && field == name, "{offered}: {answer}");
            }
            None => {
                assert!(answer.starts_with("HTTP/1.1 403 ") && field.is_none(), "{offered}: {answer}");
                assert!(answer.ends_with(
                    "no subprotocol in common; those of this server are phoenix, v2.chat, v1.chat\n"
                ));
                assert_eq!((server.stats().subprotocols_refused, server.stats().upgrade_refused), (1, 1));
            }
        }
        assert!(!answer.contains("bearer") && !answer.contains("c2Vj"), "{answer}");
    }
    assert!(answer(&listed, &good).2.starts_with("HTTP/1.1 101 "), "who offers none needs none");
    let plain = request("GET /socket/longpoll?vsn=2.0.0")
        .replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n");
    assert!(answer(&listed, &plain).2.starts_with("HTTP/1.1 200 "), "long-poll has none");
}

#[test]
fn extensions_are_never_accepted() {
    let good = upgrade_request("/socket/websocket?vsn=2.0.0");
    for offered in
        ["permessage-deflate; client_max_window_bits", "", "x; server_max_window_bits=8; a=\"b\"", ";;,"]
    {
        let head = good.replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Extensions: {offered}\r\n\r\n"));
        let (_, _, answer) = answer(&config(), &head);
        assert!(answer.starts_with("HTTP/1.1 101 ") && !answer.contains("xtensions"), "{answer}");
    }
}

#[test]
fn frames_in_the_packet_of_the_upgrade_are_read() {
    let mut whole = upgrade_request("/socket/websocket?vsn=2.0.0").into_bytes();
    write_masked(&mut whole, 0x1, true, br#"["1","1","room:1","phx_join",{}]"#);
    write_masked(&mut whole, 0x1, true, br#"["1","2","room:1","new_msg",{"body":1}]"#);
    for size in [whole.len(), whole.len() - 1, 200, 7, 1] {
        let mut server = TestServer::with_config(&config(), 1);
        let client = server.open();
        whole.chunks(size).for_each(|piece| server.send_bytes(client, piece));
        let bytes = server.take_bytes(client);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let (frames, used) = hailer::testing::read_frames(&bytes[end..]);
        assert_eq!(used, bytes.len() - end);
        let texts: Vec<_> = frames.iter().map(super::dialogue::show).collect();
        let expected = [
            r#"["1","1","room:1","phx_reply",{"status":"ok","response":{}}]"#,
            r#"[null,null,"room:1","new_msg",{"body":1}]"#,
        ];
        assert_eq!(texts, expected, "pieces of {size}");
    }
}

#[test]
fn upgrades_are_counted() {
    let mut server = TestServer::with_config(&config(), 1);
    server.connect();
    let client = server.open();
    let wrong = upgrade_request("/socket/websocket?vsn=3.0.0");
    server.send_bytes(client, wrong.as_bytes());
    server.send_bytes(client, wrong.replace("Version: 13", "Version: 8").as_bytes());
    server.send_bytes(client, upgrade_request("/socket/websocket?vsn=%").as_bytes());
    let good = upgrade_request("/socket/websocket");
    server.send_bytes(client, good.replace("Version: 13", "Version: 8").as_bytes());
    server.send_bytes(client, good.as_bytes());
    let stats = server.stats();
    assert_eq!((stats.upgraded, stats.upgrade_refused, stats.web_sockets), (2, 4, 2));
    assert_eq!((stats.http_requests, stats.http_refused, stats.accepted), (6, 0, 2));
}
