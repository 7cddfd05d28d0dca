//! Who may connect, and what those are told who may not.

use std::sync::Arc;
use std::time::Duration;

use hailer::auth::connect::{Secret, Transport as Over};
use hailer::endpoint::{Admission, Config};
use hailer::limits::Limits;
use hailer::phoenix::Serializer;
use hailer::stats::Stats;
use hailer::testing::{ClientId, Credentials, TestServer};
use serde_json::json;

use super::dialogue::{FORMS, Transport};
use super::doorman::{Doorman, config, connect, server, try_connect};

const FORM: (Serializer, Transport) = (Serializer::V2, Transport::WebSocket);

/// A server that refuses politely.
fn polite() -> TestServer {
    let config = config(&Arc::default());
    let admission = config.admission.clone().map(|admission| Admission { polite_refusal: true, ..admission });
    TestServer::with_config(&Config { admission, ..config }, 1)
}

fn with_limits(limits: &[(&str, &str)]) -> TestServer {
    let mut changed = Limits::default();
    for (name, value) in limits {
        changed.set(name, value).unwrap();
    }
    TestServer::with_config(&Config { limits: Arc::new(changed), ..config(&Arc::default()) }, 1)
}

#[test]
fn a_client_with_a_good_token_connects_on_every_transport() {
    for form in FORMS {
        let mut server = server();
        let client = connect(&mut server, form, "ada");
        assert_eq!(server.join(client, "room:lobby", json!({}))["status"], "ok", "{form:?}");
        assert_eq!(server.stats().connects_granted, 1);
    }
}

/// What a refused client gets, and what is counted.
#[track_caller]
fn check_refused(token: &str, web_socket: &str, long_poll: &str, counter: fn(&Stats) -> u64) {
    for (transport, expected) in [(Transport::WebSocket, web_socket), (Transport::LongPoll, long_poll)] {
        let mut server = server();
        let refused = try_connect(&mut server, (Serializer::V2, transport), token).unwrap_err();
        assert!(refused.starts_with(expected), "{token:?} over {transport:?}: {refused}");
        assert_eq!(counter(&server.stats()), 1, "{token:?}");
        assert_eq!(server.stats().connects_granted, 0);
        assert!(!refused.contains("ada"), "the token is repeated: {refused}");
    }
}

#[test]
fn a_refused_client_is_answered_as_phoenix_does() {
    let (status, body) = ("HTTP/1.1 403 Forbidden\r\n", r#"{"status":403}"#);
    check_refused("", status, body, |stats| stats.connects_without_token);
    check_refused("ada,exp=1", status, body, |stats| stats.connects_bad_token);
    check_refused("ada,unknown", status, body, |stats| stats.connects_bad_user);
    check_refused("ada,disabled", status, body, |stats| stats.connects_bad_user);
    check_refused("ada,denied", status, body, |stats| stats.connects_denied);
    check_refused("ada,own", status, body, |stats| stats.connects_refused_otherwise);
    let (status, body) = ("HTTP/1.1 503 Service Unavailable\r\n", r#"{"status":500}"#);
    check_refused("ada,away", status, body, |stats| stats.connects_unavailable);
    check_refused("ada,dropped", status, body, |stats| stats.connects_unavailable);
}

#[test]
fn a_refused_web_socket_has_an_empty_body_and_the_connection_goes_on() {
    let mut server = server();
    let client = server.begin_connect(Serializer::V2, Credentials::default());
    let answer = server.finish_connect(client).unwrap_err();
    assert!(answer.contains("\r\ncontent-length: 0\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    drop(server.take_bytes(client));
    let again = "GET /socket/websocket?token=ada&vsn=2.0.0 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    server.send_bytes(client, again.as_bytes());
    server.finish_connect(client).unwrap();
}

/// The code and reason that a politely refused client sees.
#[track_caller]
fn check_polite(token: &str, code: u16, reason: &str) {
    let mut server = polite();
    let client = connect(&mut server, FORM, token);
    let closed = server.closed(client).expect("it is closed");
    assert_eq!((closed.code, &*closed.reason), (Some(code), reason), "{token}");
    assert_eq!(server.stats().connects_granted, 0);
}

#[test]
fn a_polite_refusal_is_a_web_socket_closed_with_a_code_and_a_reason() {
    check_polite("", 1000, "no token");
    check_polite("ada,disabled", 1000, "user disabled");
    check_polite("ada,exp=1", 4001, "token expired");
    check_polite("ada,denied", 4001, "token denied");
    check_polite("ada,away", 1013, "accounts unavailable");
}

#[test]
fn a_politely_refused_client_is_never_a_subscriber() {
    let mut server = polite();
    let client = connect(&mut server, FORM, "");
    server.send_text(client, r#"["1","1","room:lobby","phx_join",{}]"#);
    assert!(server.received(client).is_empty());
    assert_eq!((server.stats().joins, server.stats().web_sockets), (0, 0));
}

/// Where the token comes from, in which order.
#[track_caller]
fn check_source(query: &str, headers: &str, expected: Option<&str>) {
    for over in [Over::WebSocket, Over::LongPoll] {
        let doorman = Arc::new(Doorman::default());
        let mut server = TestServer::with_config(&config(&doorman), 1);
        let credentials = Credentials { query, headers };
        match over {
            Over::WebSocket => server.begin_connect(Serializer::V2, credentials),
            Over::LongPoll => server.begin_long_poll(Serializer::V2, credentials),
        };
        let asked = doorman.asked.lock().unwrap();
        let is_other = |name: &str| headers.starts_with(name);
        // Each transport has a header of its own; the other's is no token.
        let expected = match over {
            Over::WebSocket if is_other("X-Phoenix") => Some("fromquery"),
            Over::LongPoll if is_other("Sec-") => Some("fromquery"),
            _ => expected,
        };
        let token = asked[0].token.as_ref().map(Secret::expose);
        assert_eq!((token, asked[0].transport), (expected, over), "{query} {headers}");
        assert!(!format!("{:?}", asked[0]).contains("from"), "a token is shown");
    }
}

#[test]
fn a_token_is_taken_from_the_auth_token_then_the_authorization_then_the_query() {
    check_source("", "", None);
    check_source("token=", "", None);
    check_source("token=fromquery", "", Some("fromquery"));
    check_source("token=first&a=1&token=fromquery", "", Some("fromquery"));
    check_source("token=from%71uery", "", Some("fromquery"));
    check_source("a=%&token=fromquery&city=Montr%E9al", "", Some("fromquery"));
    // Of one that can't be decoded no other takes the place.
    check_source("token=fromquery&token=%ff", "", Some(""));
    check_source("a=1", "Authorization: Bearer fromheader\r\n", Some("fromheader"));
    check_source("token=fromquery", "Authorization: bearer  fromheader\r\n", Some("fromheader"));
    check_source("token=fromquery", "Authorization: Basic YTpi\r\n", Some("fromquery"));
    check_source("token=fromquery", "X-Phoenix-AuthToken: fromheader\r\n", Some("fromheader"));
    // "fromheader" in base64 without padding.
    let protocol = "Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.ZnJvbWhlYWRlcg\r\n";
    check_source("token=fromquery", protocol, Some("fromheader"));
}

/// What is asked about a client with these bytes among its headers, over either transport.
fn asked(query: &str, headers: &[u8]) -> Vec<(Option<String>, Option<String>)> {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let ask = |(path, further): (&str, &str)| {
        let doorman = Arc::new(Doorman::default());
        let mut server = TestServer::with_config(&config(&doorman), 1);
        let client = server.open();
        let line = format!("GET /socket/{path}?vsn=2.0.0&{query} HTTP/1.1\r\nHost: a\r\n{further}");
        server.send_bytes(client, &[line.as_bytes(), headers, b"\r\n"].concat());
        let asked = doorman.asked.lock().unwrap();
        let text = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
        (text(&asked[0].token), text(&asked[0].cookie))
    };
    [("websocket", upgrade), ("longpoll", "")].into_iter().map(ask).collect()
}

/// A token that is no text is a wrong one. Were it none, the next source would count.
#[test]
fn a_token_that_is_not_utf_8_is_a_wrong_one_and_not_none() {
    for (headers, expected) in [
        (&b"Authorization: Bearer \xe9\r\n"[..], Some("")),
        (b"Authorization: Bearer ada\xe9\r\n", Some("")),
        (b"Authorization: Basic \xe9\r\n", Some("fromquery")),
        (b"Authorization: \xe9\r\n", Some("fromquery")),
        (b"X-Other: \xe9\r\n", Some("fromquery")),
    ] {
        for (token, _) in asked("token=fromquery", headers) {
            assert_eq!(token.as_deref(), expected, "{headers:?}");
        }
    }
    let header = b"X-Phoenix-AuthToken: \xe9\r\n";
    assert_eq!(asked("token=fromquery", header)[1].0.as_deref(), Some(""), "long-poll has it");
}

#[test]
fn a_cookie_that_is_not_utf_8_costs_the_cookies_beside_it_nothing() {
    for (headers, expected) in [
        (&b"Cookie: town=Z\xfcrich; session=abc\r\n"[..], "town=Z\u{fffd}rich; session=abc"),
        (b"Cookie: session=abc; n=\x93\x8c\r\n", "session=abc; n=\u{fffd}\u{fffd}"),
        // A proxy that speaks HTTP/2 to its clients may pass on a field for each.
        (b"Cookie: town=\xff\r\nCookie: session=abc\r\n", "town=\u{fffd}; session=abc"),
    ] {
        for (_, cookie) in asked("", headers) {
            assert_eq!(cookie.as_deref(), Some(expected));
        }
    }
    assert!(asked("", b"").iter().all(|(_, cookie)| cookie.is_none()));
}

#[test]
fn of_several_bearer_tokens_none_is_asked_about() {
    let doorman = Arc::new(Doorman::default());
    let mut server = TestServer::with_config(&config(&doorman), 1);
    let headers = "Sec-WebSocket-Protocol: base64url.bearer.phx.YQ, base64url.bearer.phx.Yg\r\n";
    let client = server.begin_connect(Serializer::V2, Credentials { query: "token=ada", headers });
    let answer = server.finish_connect(client).unwrap_err();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(doorman.asked.lock().unwrap().is_empty());
}

#[test]
fn the_bearer_subprotocol_is_answered_with_phoenix_alone() {
    let mut server = server();
    // "ada" in base64.
    let headers = "Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.YWRh\r\n";
    let client = server.begin_connect(Serializer::V2, Credentials { query: "", headers });
    let answer = String::from_utf8(server.take_bytes(client)).unwrap();
    assert!(answer.contains("\r\nsec-websocket-protocol: phoenix\r\n"), "{answer}");
    assert!(!answer.contains("YWRh"), "{answer}");
}

#[test]
fn an_unauthorised_plain_get_is_403_and_an_authorised_one_400() {
    for (token, expected) in [("", "HTTP/1.1 403 "), ("ada", "HTTP/1.1 400 ")] {
        let mut server = server();
        let client = server.open();
        let request = format!("GET /socket/websocket?token={token}&vsn=2.0.0 HTTP/1.1\r\nHost: a\r\n\r\n");
        server.send_bytes(client, request.as_bytes());
        let answer = String::from_utf8(server.take_bytes(client)).unwrap();
        assert!(answer.starts_with(expected), "{token:?}: {answer}");
        // The connection may carry another request.
        server.send_bytes(client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(server.take_bytes(client).starts_with(b"HTTP/1.1 404 "));
    }
}

/// A client about which it is not yet decided.
fn undecided(server: &mut TestServer) -> ClientId {
    server.hold_connects(true);
    let client = server.begin_connect(Serializer::V2, Credentials { query: "token=ada", headers: "" });
    assert!(server.finish_connect(client).unwrap_err().is_empty(), "nothing is said before the decision");
    client
}

#[test]
fn what_comes_behind_the_request_waits_for_the_decision() {
    let mut server = server();
    let client = undecided(&mut server);
    server.send_text(client, r#"["1","1","room:lobby","phx_join",{}]"#);
    server.hold_connects(false);
    server.finish_connect(client).unwrap();
    assert_eq!(server.received(client)[0].payload["status"], "ok");
}

#[test]
fn a_client_that_goes_before_the_decision_leaves_nothing() {
    for end in [TestServer::reset, TestServer::hang_up] {
        let mut server = server();
        let client = undecided(&mut server);
        end(&mut server, client);
        server.hold_connects(false);
        assert!(server.is_gone(client));
        assert_eq!((server.stats().connections, server.stats().web_sockets), (0, 0));
    }
}

#[test]
fn a_client_that_has_ended_its_side_is_still_told_the_decision() {
    let mut server = server();
    server.hold_connects(true);
    let client = server.begin_connect(Serializer::V2, Credentials::default());
    let poller = server.begin_long_poll(Serializer::V2, Credentials { query: "token=ada", headers: "" });
    server.hang_up(client);
    server.hang_up(poller);
    server.hold_connects(false);
    assert!(server.finish_connect(client).unwrap_err().starts_with("HTTP/1.1 403 "));
    assert_eq!(server.finish_long_poll(poller), Ok(()));
}

#[test]
fn a_client_that_sends_more_than_a_head_before_the_decision_is_ended() {
    let mut server = with_limits(&[("head_bytes_max", "1024")]);
    let client = undecided(&mut server);
    server.send_bytes(client, &[0; 2048]);
    server.hold_connects(false);
    assert_eq!(server.stats().connects_granted, 0);
    server.advance(server.limits().close_timeout + Duration::from_secs(1));
    assert!(server.is_gone(client));
}

#[test]
fn a_decision_that_takes_longer_than_connect_timeout_is_a_refusal() {
    let mut server = with_limits(&[("connect_timeout", "2s")]);
    let client = undecided(&mut server);
    server.advance(Duration::from_secs(3));
    let answer = server.finish_connect(client).unwrap_err();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    // The decision comes after all, and is no longer asked for.
    server.hold_connects(false);
    assert_eq!((server.stats().connects_timed_out, server.stats().connects_granted), (1, 0));
}

#[test]
fn the_decision_about_an_earlier_request_is_not_that_about_a_later_one() {
    let mut server = with_limits(&[("connect_timeout", "2s")]);
    let client = undecided(&mut server);
    server.advance(Duration::from_secs(3));
    drop(server.take_bytes(client));
    // The next request on the same connection brings no token.
    server.send_bytes(client, b"GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: a\r\n\r\n");
    server.hold_connects(false);
    let answer = String::from_utf8(server.take_bytes(client)).unwrap();
    assert!(answer.ends_with(r#"{"status":403}"#), "{answer}");
}

#[test]
fn more_undecided_clients_than_connects_waiting_max_are_refused() {
    let mut server = with_limits(&[("connects_waiting_max", "2")]);
    let waiting = [undecided(&mut server), undecided(&mut server)];
    for form in FORMS {
        let refused = try_connect(&mut server, form, "ada").unwrap_err();
        assert!(refused.starts_with("HTTP/1.1 503 ") || refused == r#"{"status":500}"#, "{refused}");
    }
    assert_eq!(server.stats().connects_overloaded, 4);
    server.hold_connects(false);
    for client in waiting {
        server.finish_connect(client).unwrap();
    }
    connect(&mut server, FORM, "ada");
}

#[test]
fn clients_that_ask_and_go_don_t_fill_the_queue() {
    let mut server = with_limits(&[("connects_waiting_max", "2")]);
    for _ in 0..2 {
        let client = undecided(&mut server);
        server.reset(client);
    }
    for form in FORMS {
        assert!(try_connect(&mut server, form, "ada").is_err());
    }
    assert_eq!((server.stats().connects_overloaded, server.stats().connections), (4, 4));
    server.hold_connects(false);
    connect(&mut server, FORM, "ada");
}

#[test]
fn a_server_that_stops_waits_for_no_decision() {
    let mut server = server();
    let client = undecided(&mut server);
    server.drain();
    assert!(server.is_gone(client));
    server.hold_connects(false);
    assert_eq!(server.stats().connections, 0);
}

#[test]
fn channels_know_their_user() {
    for form in FORMS {
        let mut server = server();
        let client = connect(&mut server, form, "ada,staff");
        server.join(client, "probe:1", json!({}));
        let asked = server.push(client, "probe:1", "who", json!({}));
        assert_eq!(
            server.take_reply(client, &asked).unwrap()["response"],
            json!({"user": "ada", "staff": true, "account": {"name": "Ada"}, "assigned": 7}),
        );
    }
}

#[test]
fn a_hook_may_let_a_client_in_without_a_user() {
    let mut server = server();
    let client = connect(&mut server, FORM, "x,nobody");
    assert_eq!(server.join(client, "room:lobby", json!({}))["response"], json!({"reason": "unauthorized"}));
    server.join(client, "probe:1", json!({}));
    let asked = server.push(client, "probe:1", "who", json!({}));
    assert_eq!(server.take_reply(client, &asked).unwrap()["response"], json!(null));
}
