//! From which pages clients may come: attacks that begin on a page of somebody else.

use std::sync::Arc;

use hailer::auth::origin::{OriginCheck, OriginPolicy};
use hailer::endpoint::Config;
use hailer::testing::TestServer;

use super::doorman::{Doorman, config};

fn server(policy: OriginPolicy, require_origin: bool, doorman: &Arc<Doorman>) -> TestServer {
    let origins = Arc::new(OriginCheck { policy, require_origin });
    TestServer::with_config(&Config { origins, ..config(doorman) }, 1)
}

fn list(entries: &[&str]) -> OriginPolicy {
    OriginPolicy::List(entries.iter().map(|entry| entry.parse().expect("it is an entry")).collect())
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Whether a request with these headers is let in, by both transports.
#[track_caller]
fn check(policy: &OriginPolicy, headers: &str, allowed: bool) {
    for require_origin in [false, true] {
        let allowed = allowed && (!require_origin || headers.contains("Origin: "));
        let doorman = Arc::new(Doorman::default());
        let mut server = server(policy.clone(), require_origin, &doorman);
        let client = server.open();
        for (method, path, further) in [
            ("GET", "websocket", UPGRADE),
            ("GET", "longpoll", ""),
            ("POST", "longpoll", "Content-Length: 0\r\n"),
            ("OPTIONS", "longpoll", ""),
        ] {
            let client = if path == "websocket" { server.open() } else { client };
            let request = format!(
                "{method} /socket/{path}?token=ada&vsn=2.0.0 HTTP/1.1\r\nHost: example.com\r\n{headers}{further}\r\n"
            );
            server.send_bytes(client, request.as_bytes());
            let answer = String::from_utf8(server.take_bytes(client)).unwrap();
            let status = &answer[9..12];
            let expected = match (method, path) {
                ("GET", "websocket") if allowed => status == "101",
                (_, "websocket") => status == "403" && answer.ends_with("\r\n\r\n"),
                ("GET", _) if allowed => answer.contains(r#"{"status":410,"token":""#),
                ("POST", _) if allowed => answer.ends_with(r#"{"status":410}"#),
                ("OPTIONS", _) if allowed => answer.contains("access-control-allow-methods"),
                _ => status == "200" && answer.ends_with(r#"{"status":403}"#),
            };
            assert!(expected, "{method} {path} {headers:?} {policy:?}: {answer}");
            // Any page may read the answer, and none is answered by name or with credentials.
            assert!(!answer.contains("allow-credentials"), "{answer}");
            assert!(path == "websocket" || answer.contains("access-control-allow-origin: *"), "{answer}");
        }
        if !allowed {
            assert!(doorman.asked.lock().unwrap().is_empty(), "nobody is asked about a token from elsewhere");
            assert_eq!(server.stats().origins_refused, 4);
        }
    }
}

#[test]
fn a_page_of_somebody_else_may_not_connect() {
    let own = OriginPolicy::Conn;
    check(&own, "", true);
    check(&own, "Origin: http://example.com\r\n", true);
    check(&own, "Origin: https://example.com\r\n", true);
    check(&own, "Origin: https://EXAMPLE.com\r\n", true);
    for origin in [
        "https://evil.com",
        "https://example.com.evil.com",
        "https://evil-example.com",
        "https://example.com:8443",
        "http://example.com:443",
        "https://sub.example.com",
        "null",
        "file://",
        "https://example.com@evil.com",
        "https://example.com/",
        "example.com",
        "",
    ] {
        check(&own, &format!("Origin: {origin}\r\n"), false);
    }
    check(&own, "Origin: https://example.com\r\nOrigin: https://evil.com\r\n", false);
}

#[test]
fn listed_pages_may_connect_and_wildcards_match_whole_labels() {
    let listed = list(&["https://app.example.com", "//*.example.org", "http://dev.local:3000", "null"]);
    check(&listed, "Origin: https://app.example.com\r\n", true);
    check(&listed, "Origin: https://a.b.example.org:8080\r\n", true);
    check(&listed, "Origin: http://example.org\r\n", true);
    check(&listed, "Origin: http://dev.local:3000\r\n", true);
    check(&listed, "Origin: null\r\n", true);
    for origin in [
        "http://app.example.com",
        "https://evil-example.org",
        "https://example.org.evil.com",
        "https://xexample.org",
        "http://dev.local",
        "https://dev.local:3000",
        "file://",
        "https://example.com",
    ] {
        check(&listed, &format!("Origin: {origin}\r\n"), false);
    }
}

#[test]
fn the_check_can_be_switched_off() {
    for origin in ["https://evil.com", "null", "file://"] {
        check(&OriginPolicy::Off, &format!("Origin: {origin}\r\n"), true);
    }
}

/// An origin that can't be read is not the same as none: programs have none, and need none.
#[test]
fn an_origin_that_is_not_utf_8_is_a_foreign_one() {
    for (policy, allowed) in
        [(OriginPolicy::Conn, false), (list(&["https://example.com"]), false), (OriginPolicy::Off, true)]
    {
        for origin in [&b"https://z\xfcrich.example"[..], b"\xff", b"http://example.com\xe9"] {
            let mut server = server(policy.clone(), false, &Arc::new(Doorman::default()));
            let client = server.open();
            let line = b"GET /socket/websocket?token=ada&vsn=2.0.0 HTTP/1.1\r\nHost: example.com\r\nOrigin: ";
            server.send_bytes(client, &[&line[..], origin, b"\r\n", UPGRADE.as_bytes(), b"\r\n"].concat());
            let answer = String::from_utf8(server.take_bytes(client)).unwrap();
            let expected = if allowed { "HTTP/1.1 101 " } else { "HTTP/1.1 403 " };
            assert!(answer.starts_with(expected), "{origin:?} {policy:?}: {answer}");
        }
    }
}
