//! Texts of others in the log: none of them becomes a line or a colour of its own.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hailer::auth::connect::{Answer, Connect, ConnectRequest};
use hailer::auth::{Identity, IdentityParts, UnixTime};
use hailer::channel::{Channel, ChannelError, Context, Ended, JoinError, PayloadBuf, Router};
use hailer::endpoint::{Admission, Config};
use hailer::phoenix::Payload;
use hailer::testing::TestServer;
use serde_json::json;

use super::super::users::{token, unix_time};
use super::world::{KEY, PASSWORD, SECRET, World, key_lines};
use crate::support::Peer;

/// What would end a line, forge one, hide it or colour it.
const HOSTILE: &str =
    "x\r\n2026-01-01T00:00:00Z  INFO forged\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{2028}\u{0}";

#[test]
fn what_others_send_forges_no_line_of_the_log() {
    let named =
        key_lines("a\u{202e}b", "hlr_M4rkedKeyOfOddName0123456789abcdefghijklmno", "scopes = [\"read\"]");
    let mut world = World::start_with(&named, &["--log-level", "trace"], |folder| {
        World::staff(folder, &["add", "\u{202e}eve"], PASSWORD);
    });
    // As texts in JSON: topics, events, users, ids.
    for (path, body) in [
        ("publish", json!({"topic": HOSTILE, "event": "e", "payload": 1})),
        ("publish", json!({"topic": "room:lobby", "event": HOSTILE, "payload": HOSTILE})),
        ("publish", json!({"user": HOSTILE, "event": "e", "payload": 1})),
        ("publish", json!({"topic": "room:lobby", "event": "e", "payload": 1, "idempotency_key": HOSTILE})),
        ("publish", json!({HOSTILE: 1})),
        ("retract", json!({"id": HOSTILE})),
        ("disconnect", json!({"user": HOSTILE})),
        ("disconnect", json!({"connection": HOSTILE})),
        ("token/check", json!({"token": HOSTILE})),
    ] {
        let response = world.call(KEY, "POST", &format!("/api/v1/{path}"), &body.to_string());
        // Whoever asks how good a token is gets an answer in any case.
        assert!(response.status == 400 || path == "token/check", "{body}: {response:?}");
        assert!(!response.head.contains("forged"), "{response:?}");
    }
    // As they come in an address.
    let escaped = super::world::form(&[("x", HOSTILE)])[2..].to_owned();
    for target in [
        "/api/v1/users/",
        "/api/v1/messages/",
        "/api/v1/topics?prefix=",
        "/api/v1/history?text=",
        "/admin/",
        "/x?",
    ] {
        world.call(KEY, "GET", &format!("{target}{escaped}"), "");
    }
    // As they come in a head, where no control byte may stand.
    for head in [
        &*format!("GET /{HOSTILE} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        "GET /live HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a\u{1b}[31m\r\n\r\n",
        "GET /live HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a\rb\r\n\r\n",
        "GET /live HTTP/1.1\r\nHost: localhost\r\n\u{1b}[31m: x\r\n\r\n",
        "\u{1b}[31m /live HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let mut peer = Peer::connect(world.api);
        peer.send(head.as_bytes());
        assert!([400, 501].contains(&peer.response().status), "{head:?}");
    }
    // As a user's id in a token, and as topics and events on a socket.
    let mut peer = Peer::connect(world.hailer.address());
    let user = token(SECRET, "a\u{202e}\u{2028}b", "id", unix_time(), 600);
    peer.upgrade(&format!("/socket/websocket?vsn=2.0.0&token={user}"));
    for (topic, event) in [
        (HOSTILE, "phx_join"),
        ("room:lobby", "phx_join"),
        ("room:lobby", HOSTILE),
        ("room:lobby", "phx_\r\nforged\u{1b}[2J"),
    ] {
        peer.send_text(&json!(["1", "1", topic, event, {}]).to_string());
        peer.message();
    }
    world.try_sign_in(HOSTILE, "x");
    world.sign_in("\u{202e}eve", PASSWORD);
    world.hailer.stop();
    for line in world.hailer.log() {
        assert!(!line.chars().any(|c| c.is_control() || "\u{2028}\u{2029}\u{202e}".contains(c)), "{line:?}");
        let (time, level) = line.split_once(' ').expect("a time stands first");
        let levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"];
        assert!(
            time.ends_with('Z') && levels.iter().any(|known| level.trim_start().starts_with(known)),
            "{line:?}"
        );
        assert!(!time.starts_with("2026-01-01"), "{line:?}");
    }
    assert!(world.hailer.log().iter().any(|line| line.contains("forged")), "it was logged, and escaped");
}

/// Fails whatever it is asked for, as an application's channel may.
struct Failing;

impl Channel for Failing {
    fn join(&self, _: &str, _: Payload<'_>, _: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        Ok(PayloadBuf::empty())
    }

    fn handle_in(&self, _: &str, _: Payload<'_>, _: &mut Context<'_>) -> Result<(), ChannelError> {
        panic!("on purpose")
    }

    fn terminate(&self, _: Ended, _: &mut Context<'_>) {
        panic!("on purpose")
    }
}

/// A log that is kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged while `run` talks to a server of the channel.
fn log_of(channel: impl Channel, run: impl FnOnce(&mut TestServer)) -> String {
    let kept = Kept::default();
    let to = kept.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || to.clone()).finish();
    tracing::subscriber::with_default(log, || {
        let connect = Arc::new(EveryoneIsAda);
        let router = Router::new().channel("*".parse().expect("it is a pattern"), channel);
        let admission = Some(Admission::new(connect));
        run(&mut TestServer::with_config(&Config { admission, ..Config::new(router) }, 1));
    });
    let text = kept.0.lock().expect("no panic with it").clone();
    String::from_utf8(text).expect("a log is text")
}

struct EveryoneIsAda;

impl Connect for EveryoneIsAda {
    fn connect(&self, _: ConnectRequest, _: UnixTime, answer: Answer) {
        answer.send(Ok(Identity::new(IdentityParts { user: "ada", ..Default::default() })));
    }
}

#[test]
fn a_client_that_crashes_its_channel_fills_the_log() {
    let text = log_of(Failing, |server| {
        let client = server.connect();
        for _ in 0..100 {
            server.join(client, "room:1", json!({}));
            server.push(client, "room:1", &"event".repeat(10), json!({}));
        }
        server.advance(Duration::from_secs(1));
        server.join(client, "room:1", json!({}));
        server.push(client, "room:1", "event", json!({}));
        assert_eq!(server.stats().channel_crashes, 202);
    });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 22, "{text}");
    for part in [
        r#"code="handle_in""#,
        r#"topic="room:1""#,
        r#"event="eventeventevent"#,
        r#"user="ada""#,
        r#"failure="panicked: on purpose""#,
    ] {
        assert!(lines[0].contains(part), "{part} in {}", lines[0]);
    }
    assert!(!lines[0].contains("left_out") && lines[20].contains("left_out=180"), "{}", lines[20]);
}

/// Fails with whatever the client has sent.
struct Repeating;

impl Channel for Repeating {
    fn join(&self, _: &str, _: Payload<'_>, _: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        Ok(PayloadBuf::empty())
    }

    fn handle_in(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        match event {
            "panic" => panic!("{payload:?}"),
            "fail" => Err(format!("{payload:?}"))?,
            "read" => _ = payload.deserialize::<u32>()?,
            _ => {
                cx.reply_ok(PayloadBuf::empty());
                cx.reply_ok(PayloadBuf::empty());
            }
        }
        Ok(())
    }
}

#[test]
fn a_crash_is_a_line_as_long_as_a_client_likes() {
    let text = log_of(Repeating, |server| {
        let client = server.connect();
        for event in ["panic", "fail"] {
            server.join(client, "room:1", json!({}));
            server.push(client, "room:1", event, json!("x".repeat(50_000)));
        }
    });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines.iter().all(|line| line.len() < 1000 && line.contains("xxx") && line.contains('…')),
        "{text}"
    );
}

#[test]
fn what_a_client_gets_wrong_is_an_error_in_the_log() {
    let text = log_of(Repeating, |server| {
        let client = server.connect();
        server.join(client, "room:1", json!({}));
        for _ in 0..100 {
            server.push(client, "room:1", "read", json!("hunter2"));
        }
        assert_eq!(server.stats().payloads_invalid, 100);
    });
    assert_eq!(text, "");
}

#[test]
fn a_second_reply_is_given_without_a_word_in_the_log() {
    let text = log_of(Repeating, |server| {
        let client = server.connect();
        server.join(client, "room:1", json!({}));
        for _ in 0..100 {
            server.push(client, "room:1", "twice", json!({}));
        }
        assert_eq!(server.stats().replies_dropped, 100);
    });
    assert_eq!(text.lines().count(), 20, "{text}");
    for part in ["WARN", r#"topic="room:1""#, r#"event="twice""#, r#"user="ada""#] {
        assert!(text.lines().all(|line| line.contains(part)), "{part} in {text}");
    }
}

#[test]
fn a_topic_forges_no_line_when_its_channel_crashes() {
    let text = log_of(Failing, |server| {
        let client = server.connect();
        assert_eq!(server.join(client, HOSTILE, json!({}))["status"], "ok");
        server.push(client, HOSTILE, "event", json!({}));
    });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.iter().filter(|line| line.contains("forged")).count(), 2, "{text}");
    assert!(lines.iter().all(|line| line.contains("ERROR") && !line.starts_with("2026-01-01")), "{text}");
    assert!(!text.replace('\n', "").chars().any(|c| c.is_control() || c == '\u{2028}'), "{text:?}");
}
