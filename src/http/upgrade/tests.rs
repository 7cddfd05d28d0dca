use super::super::parse_head;
use super::*;
use crate::limits::Limits;

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const GOOD: [&str; 4] = ["Connection: Upgrade", "Upgrade: websocket", KEY, "Sec-WebSocket-Version: 13"];

fn head(line: &str, fields: &[&str]) -> String {
    format!("{line}\r\nHost: a\r\n{}\r\n\r\n", fields.join("\r\n"))
}

fn with_request<T>(head: &str, view: impl FnOnce(&Request<'_>) -> T) -> T {
    view(&parse_head(head.as_bytes(), &Limits::default()).expect("the head is good"))
}

/// The good handshake with the field of the same name replaced by `fields`, or these added.
fn changed(fields: &[&str]) -> String {
    let name = |field: &str| field.split(':').next().unwrap().to_ascii_lowercase();
    let mut all: Vec<&str> =
        GOOD.into_iter().filter(|good| !fields.iter().any(|field| name(field) == name(good))).collect();
    all.extend(fields.iter().filter(|field| !field.ends_with(": absent")));
    head("GET /socket/websocket?vsn=2.0.0 HTTP/1.1", &all)
}

#[track_caller]
fn refuse(head: &str, expected: UpgradeError, body: &str) {
    with_request(head, |request| {
        let error = check(request).expect_err("it is refused");
        assert_eq!(error, expected, "{head}");
        assert_eq!(error.body(request), body);
    });
}

/// The subprotocol that is answered where none is configured.
fn answer<'a>(request: &Request<'a>) -> Option<&'static str> {
    let subprotocols = super::super::Subprotocols::default();
    let chosen = subprotocols.choose(&request.headers).expect("none is required");
    chosen.map(|name| {
        assert_eq!(&**name, "phoenix");
        "phoenix"
    })
}

fn accept(head: &str) {
    with_request(head, |request| {
        assert!(check(request).is_ok(), "{head}: {:?}", check(request));
    });
}

#[test]
fn the_handshake_of_the_standard_is_answered() {
    with_request(&changed(&[]), |request| {
        let handshake = check(request).unwrap();
        assert_eq!(handshake.key, "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(handshake.accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut out = Vec::new();
        write_101(&mut out, &handshake.accept(), answer(request));
        let expected = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
            sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    });
}

#[test]
fn the_answer_names_the_protocol() {
    let mut out = Vec::new();
    write_101(&mut out, "x", Some("phoenix"));
    assert!(out.ends_with(b"accept: x\r\nsec-websocket-protocol: phoenix\r\n\r\n"));
    out.clear();
    write_101(&mut out, "x", Some("a\r\nb: c"));
    assert!(out.ends_with(b"accept: x\r\n\r\n"));
}

#[test]
fn lists_and_letter_case_are_accepted() {
    accept(&changed(&["Connection: keep-alive, Upgrade"]));
    accept(&changed(&["CONNECTION: UPGRADE", "upgrade: WebSocket"]));
    accept(&changed(&["Connection: keep-alive", "Connection: upgrade"]));
    accept(&changed(&["Upgrade: h2c, websocket"]));
    accept(&changed(&["Content-Length: 0"]));
    accept(&changed(&["Sec-WebSocket-Extensions:"]));
    accept(&changed(&["Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99; x; x, =,,"]));
    accept(&changed(&["Sec-WebSocket-Key: ABCDEFGHIJKLMNOPQRSTUV=="]));
}

#[test]
fn refusals_read_as_those_of_phoenix() {
    use UpgradeError as E;
    let connection = "'connection' header must contain 'upgrade', got ";
    refuse(&changed(&["Connection: absent"]), E::Connection, &format!("{connection}[]"));
    refuse(&changed(&["Connection: keep-alive"]), E::Connection, &format!("{connection}[\"keep-alive\"]"));
    refuse(
        &changed(&["Connection: a, b", "Connection: upgraded"]),
        E::Connection,
        &format!("{connection}[\"a, b\", \"upgraded\"]"),
    );
    let upgrade = "'upgrade' header must contain 'websocket', got ";
    refuse(&changed(&["Upgrade: absent"]), E::Upgrade, &format!("{upgrade}[]"));
    refuse(&changed(&["Upgrade: h2c"]), E::Upgrade, &format!("{upgrade}[\"h2c\"]"));
    refuse(&changed(&["Upgrade:"]), E::Upgrade, &format!("{upgrade}[\"\"]"));
    let key = "'sec-websocket-key' header is absent";
    refuse(&changed(&["Sec-WebSocket-Key: absent"]), E::KeyMissing, key);
    let version = "'sec-websocket-version' header must equal '13', got ";
    for (fields, got) in [
        (&["Sec-WebSocket-Version: absent"][..], "[]"),
        (&["Sec-WebSocket-Version: 8"], "[\"8\"]"),
        (&["Sec-WebSocket-Version: 13, 8"], "[\"13, 8\"]"),
        (&["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"], "[\"13\", \"13\"]"),
    ] {
        refuse(&changed(fields), E::WebSocketVersion, &format!("{version}{got}"));
    }
    let old = head("GET / HTTP/1.0", &GOOD);
    refuse(&old, E::Version, "HTTP version HTTP/1.0 unsupported");
    refuse(&head("POST / HTTP/1.1", &GOOD), E::Method, "");
    refuse(&head("HEAD / HTTP/1.0", &["X: y"]), E::Method, "");
}

#[test]
fn what_the_peer_sent_is_quoted_only_if_harmless() {
    for value in ["<script>", "a\"b", "a\\b", "a&b", "#{x}", "é", "a\tb", &"x".repeat(61)] {
        let head = changed(&[&format!("Upgrade: {value}")]);
        let expected = "'upgrade' header must contain 'websocket', got [...]";
        refuse(&head, UpgradeError::Upgrade, expected);
    }
    let longest = "x".repeat(60);
    let expected = format!("'upgrade' header must contain 'websocket', got [\"{longest}\"]");
    refuse(&changed(&[&format!("Upgrade: {longest}")]), UpgradeError::Upgrade, &expected);
    let many = vec!["Upgrade: x"; 20];
    refuse(&changed(&many), UpgradeError::Upgrade, "'upgrade' header must contain 'websocket', got [...]");
}

#[test]
fn the_key_must_look_like_one() {
    let text = "'sec-websocket-key' header must be 16 bytes in base64, once";
    for key in [
        "",
        "x",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZTE=",
        "dGhlIHNhbXBsZSBub2-jZQ==",
    ] {
        refuse(&changed(&[&format!("Sec-WebSocket-Key: {key}")]), UpgradeError::KeyInvalid, text);
    }
    refuse(&changed(&[KEY, KEY]), UpgradeError::KeyInvalid, text);
}

#[test]
fn a_body_is_refused() {
    let text = "a websocket upgrade must not have a body";
    refuse(&changed(&["Content-Length: 1"]), UpgradeError::Body, text);
    refuse(&changed(&["Transfer-Encoding: chunked"]), UpgradeError::Body, text);
}

#[test]
fn subprotocols_are_read() {
    let plain = |phoenix| (Protocols::default(), phoenix);
    let bearer = |phoenix, bearer| (Protocols { bearer: Some(bearer) }, phoenix);
    for (fields, expected) in [
        (&["X: y"][..], Ok(plain(false))),
        (&["Sec-WebSocket-Protocol:"], Ok(plain(false))),
        (&["Sec-WebSocket-Protocol: , ,"], Ok(plain(false))),
        (&["Sec-WebSocket-Protocol: phoenix"], Ok(plain(true))),
        (&["Sec-WebSocket-Protocol: Phoenix, mqtt"], Ok(plain(false))),
        (&["Sec-WebSocket-Protocol: mqtt", "sec-websocket-protocol: phoenix"], Ok(plain(true))),
        (&["Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.YWJj"], Ok(bearer(true, "YWJj"))),
        (
            &["Sec-WebSocket-Protocol: base64url.bearer.phx.a/+=", "Sec-WebSocket-Protocol: phoenix"],
            Ok(bearer(true, "a/+=")),
        ),
        (&["Sec-WebSocket-Protocol: base64url.bearer.phx.YWJj"], Ok(bearer(false, "YWJj"))),
        (&["Sec-WebSocket-Protocol: base64url.bearer.phx."], Ok(bearer(false, ""))),
        (
            &["Sec-WebSocket-Protocol: base64url.bearer.phx.a, base64url.bearer.phx.a"],
            Err(UpgradeError::Protocols),
        ),
        (&["Sec-WebSocket-Protocol: base64url.bearer.phx.a\"b"], Err(UpgradeError::Protocols)),
        (&["Sec-WebSocket-Protocol: base64url.bearer.phx.é, phoenix"], Err(UpgradeError::Protocols)),
        (&["Sec-WebSocket-Protocol: phoenix, a b"], Ok(plain(true))),
        (&["Sec-WebSocket-Protocol: a/b"], Ok(plain(false))),
        (&["Sec-WebSocket-Protocol: é, phoenix"], Ok(plain(true))),
    ] {
        with_request(&changed(fields), |request| {
            let found = check(request).map(|handshake| (handshake.protocols, answer(request).is_some()));
            assert_eq!(found, expected, "{fields:?}");
        });
    }
}

#[test]
fn a_bearer_token_is_decoded_from_either_alphabet() {
    for (encoded, expected) in [
        ("", Some("")),
        ("YQ", Some("a")),
        ("YQ==", Some("a")),
        ("YWJj", Some("abc")),
        ("Pz8/", Some("???")),
        ("Pz8_", Some("???")),
        ("fn5+", Some("~~~")),
        ("fn5-", Some("~~~")),
        ("w6k=", Some("é")),
        ("Y", None),
        ("YQ=", Some("a")),
        ("YR", None),
        ("Y Q", None),
        ("Pz_/", None),
        ("/w==", None),
    ] {
        assert_eq!(bearer_token(encoded).as_deref(), expected, "{encoded}");
    }
}

#[test]
fn the_token_is_not_shown() {
    let fields = ["Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.c2VjcmV0"];
    with_request(&changed(&fields), |request| {
        let handshake = check(request).unwrap();
        let shown = format!("{request:?} {handshake:?}");
        assert!(!shown.contains("c2VjcmV0"), "{shown}");
    });
}

#[test]
fn a_refusal_is_written_whole() {
    with_request(&changed(&["Sec-WebSocket-Version: 8"]), |request| {
        let mut out = Vec::new();
        check(request).unwrap_err().write(request, &mut out, true);
        let expected = "HTTP/1.1 426 Upgrade Required\r\ncontent-type: text/plain; charset=utf-8\r\n\
            sec-websocket-version: 13\r\nupgrade: websocket\r\nconnection: upgrade, keep-alive\r\n\
            content-length: 61\r\n\r\n'sec-websocket-version' header must equal '13', got [\"8\"]";
        let expected = expected.replace("61", &expected.split("\r\n\r\n").nth(1).unwrap().len().to_string());
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    });
    with_request(&head("POST / HTTP/1.1", &GOOD), |request| {
        let mut out = Vec::new();
        UpgradeError::Method.write(request, &mut out, false);
        let expected = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    });
}
