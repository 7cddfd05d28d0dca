//! Secrets of the API and the back office: everything is done with marked ones, right and wrong, and all that comes out
//! is searched for them.

use std::collections::BTreeSet;

use serde_json::json;

use super::world::{KEY, PASSWORD, SECRET, World, form, hidden};
use crate::support::{Client, Peer};

const IDEMPOTENCY: &str = "M4rkedIdempotencyKey-1a2b3c4d";
const WRONG_KEY: &str = "hlr_M4rkedWrongKey0123456789abcdefghijklmnopqrs";
const BODY: &str = "M4rkedMessageBody-2b3c4d5e";

/// What may come out nowhere; pieces of it as well.
struct Marks(BTreeSet<String>);

impl Marks {
    fn add(&mut self, secret: &str) {
        // The cookie's name, and what all keys begin with, are no secrets.
        let secret = secret.rsplit_once('=').map_or(secret, |(_, value)| value).trim_start_matches("hlr_");
        assert!(secret.len() >= 16, "{secret} is too short to be told from other text");
        self.0.extend(
            secret.as_bytes().chunks_exact(16).map(|piece| String::from_utf8_lossy(piece).into_owned()),
        );
    }

    #[track_caller]
    fn check(&self, what: &str, text: &str) {
        assert!(!text.contains("M4rked"), "{what} holds a mark: {text}");
        for piece in &self.0 {
            assert!(!text.contains(piece.as_str()), "{what} holds {piece}: {text}");
        }
    }
}

/// Asks the API for all kinds of things, well and badly; everything it answers.
fn use_api(world: &World) -> Vec<(String, String)> {
    let mut answers = Vec::new();
    let publish =
        json!({"topic": "room:lobby", "event": "e", "payload": {"x": 1}, "idempotency_key": IDEMPOTENCY});
    let other =
        json!({"topic": "room:lobby", "event": "e", "payload": {"x": 2}, "idempotency_key": IDEMPOTENCY});
    let bodies = [
        publish.to_string(),
        publish.to_string(),
        other.to_string(),
        format!("{{\"{BODY}\": 1}}"),
        format!("{{\"topic\": \"{BODY}"),
        format!("{{\"topic\": {{\"{BODY}\": 1}}}}"),
        json!({"token": BODY}).to_string(),
        format!("\u{1}{BODY}"),
    ];
    let paths = [
        "/api/v1/publish",
        "/api/v1/batch",
        "/api/v1/disconnect",
        "/api/v1/retract",
        "/api/v1/token/check",
        "/api/broadcast",
    ];
    for key in [KEY, WRONG_KEY] {
        for path in paths {
            for body in &bodies {
                let response = world.call(key, "POST", path, body);
                // A field that nobody knows is named to whoever sent it, and to nobody else.
                let told = response.body.replace(BODY, "");
                answers.push((format!("{path} {body}"), format!("{}{told}", response.head)));
            }
        }
        for target in ["connections", "topics", "users/1", "history", "messages/1", "token/check", "nothing"]
        {
            let response = world.call(key, "GET", &format!("/api/v1/{target}"), "");
            answers.push((target.to_owned(), format!("{}{}", response.head, response.body)));
            for query in [
                format!("?key={key}"),
                format!("?x={key}"),
                format!("?token={key}"),
                format!("?limit=%zz{key}"),
            ] {
                let response = world.call(key, "GET", &format!("/api/v1/{target}{query}"), "");
                answers.push((format!("{target}{query}"), format!("{}{}", response.head, response.body)));
            }
        }
        let headers =
            [("x-api-key", key), ("authorization", &*format!("Bearer {key}x")), ("x-hailer-token", BODY)];
        for headers in [&headers[..], &[("x-hailer-token", BODY), ("x-api-key", KEY)]] {
            let response = world.ask("GET", "/api/v1/token/check", headers, "");
            answers.push((format!("{headers:?}"), format!("{}{}", response.head, response.body)));
        }
    }
    answers
}

/// Goes through the back office, well and badly; the marks that come of it are added.
fn use_office(world: &World, marks: &mut Marks) -> Vec<(String, String)> {
    let mut answers = Vec::new();
    for (name, password) in
        [("ada", "M4rked wrong password"), (PASSWORD, PASSWORD), ("M4rked name", "x"), ("", PASSWORD)]
    {
        let answer = world.try_sign_in(name, password);
        // The name stands in the form again, for whoever has typed it.
        answers.push(("a wrong sign-in".to_owned(), answer.body.replace(&format!("value=\"{name}\""), "")));
    }
    let welcome = world.post("/admin/welcome", "", &[("token", "M4rkedWrongLink-0123456789")]);
    answers.push(("a wrong link".to_owned(), welcome.head + &welcome.body));
    let cookie = world.sign_in("ada", PASSWORD);
    marks.add(&cookie);
    let csrf = world.csrf(&cookie);
    marks.add(&csrf);
    let fields = [
        ("csrf", &*csrf),
        ("to", "everyone"),
        ("severity", "info"),
        ("lifetime_unit", "none"),
        ("when", "now"),
        ("body", BODY),
    ];
    let preview = world.post("/admin/compose/preview", &cookie, &fields);
    let nonce = hidden(&preview.body, "nonce");
    let sent = world.post("/admin/compose/send", &cookie, &[&fields[..], &[("nonce", &*nonce)]].concat());
    assert_eq!(sent.status, 303, "{sent:?}");
    let wrong = [
        ("csrf", &*csrf),
        ("old", "M4rked wrong"),
        ("new", "M4rked new password"),
        ("again", "M4rked new password"),
    ];
    let changed = world.post("/admin/account/password", &cookie, &wrong);
    answers.push(("a wrong password".to_owned(), changed.head + &changed.body.replace(&csrf, "")));
    let forged = world.post("/admin/compose/send", &cookie, &[("csrf", "M4rkedForgedToken")]);
    answers.push(("a forged form".to_owned(), forged.head + &forged.body.replace(&csrf, "")));
    let export = world.post("/admin/audit/export", &cookie, &[("csrf", &csrf)]);
    assert!(export.body.contains(",sign_in,") && export.body.contains(",published,"), "{export:?}");
    answers.push(("the export".to_owned(), export.head + &export.body));
    let audit = world.page("/admin/audit", &cookie);
    answers.push(("the audit log".to_owned(), audit.head + &audit.body.replace(&csrf, "")));
    let (status, mut socket) =
        world.socket(&[("origin", &format!("http://{}", world.api)), ("cookie", &cookie)]);
    assert_eq!(status, 101);
    socket.send_text(r#"["1","1","admin:overview","phx_join",{}]"#);
    answers.push(("the socket".to_owned(), socket.message().to_string()));
    let target = format!("/admin/nothing?cookie={cookie}&csrf={csrf}");
    let nowhere = world.page(&target, &cookie);
    answers.push(("no page".to_owned(), nowhere.head + &nowhere.body.replace(&csrf, "")));
    answers
}

/// Command lines and environments of a process and of those that it has started.
fn processes(pid: u32) -> String {
    let mut text = String::new();
    let read =
        |path: String| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).replace('\0', "\n");
    text += &read(format!("/proc/{pid}/cmdline"));
    text += &read(format!("/proc/{pid}/environ"));
    for child in read(format!("/proc/{pid}/task/{pid}/children")).split_whitespace() {
        text += &processes(child.parse().expect("a process has a number"));
    }
    text
}

#[test]
fn marked_secrets_of_keys_and_staff_come_out_nowhere() {
    for level in ["trace", "info"] {
        let mut world = World::start_with("", &["--log-level", level], |folder| {
            World::staff(folder, &["add", "ada"], PASSWORD);
        });
        let mut marks = Marks(BTreeSet::new());
        for secret in [KEY, WRONG_KEY, IDEMPOTENCY, SECRET] {
            marks.add(secret);
        }
        let mut answers = use_api(&world);
        answers.extend(use_office(&world, &mut marks));
        let metrics = world.ask("GET", "/metrics", &[], "");
        assert!(metrics.body.contains("# EOF"));
        answers.push(("the metrics".to_owned(), metrics.body));
        answers.push((
            "the API's description".to_owned(),
            world.ask("GET", "/api/v1/openapi.json", &[], "").body,
        ));
        for (what, answer) in &answers {
            marks.check(what, answer);
        }
        marks.check("a process", &processes(world.hailer.pid()));
        world.hailer.stop();
        let log = world.hailer.log().join("\n");
        assert!(log.contains("listening") && log.contains("gives wrong API keys"), "{log}");
        marks.check("the log", &log);
        // What was sent is in the store, but no key, password, cookie or token that opens anything.
        for name in ["hailer.db", "hailer.db-wal"] {
            let bytes = std::fs::read(world.folder.0.join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).replace(BODY, "").replace(IDEMPOTENCY, "");
            assert!(!text.contains("M4rked"), "{name}");
        }
    }
}

#[test]
fn what_the_demo_says_once_it_says_nowhere_else() {
    let hailer = crate::support::Hailer::start(&["--api-listen", "127.0.0.1:0", "--log-level", "trace"]);
    let api: std::net::SocketAddr = hailer.said("API on http://").parse().expect("it is an address");
    let link = hailer.said("Back office at http://");
    let token = link
        .split_once('#')
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .expect("a token")
        .to_owned();
    let key = hailer.said("API key of this run: ");
    let mut marks = Marks(BTreeSet::new());
    marks.add(&token);
    marks.add(&key);
    let mut said = String::new();
    let content = "content-type: application/x-www-form-urlencoded";
    for body in [form(&[("token", &token)]), form(&[("token", &token)])] {
        let mut peer = Peer::connect(api);
        let len = body.len();
        peer.send(
            format!("POST /admin/welcome HTTP/1.1\r\nhost: {api}\r\norigin: http://{api}\r\n{content}\r\ncontent-length: {len}\r\n\r\n{body}")
                .as_bytes(),
        );
        let response = peer.response();
        said += &(response.head + &response.body);
    }
    let mut peer = Peer::connect(api);
    let target = format!("/api/v1/topics?prefix={token}");
    peer.send(
        format!("GET {target} HTTP/1.1\r\nhost: {api}\r\nauthorization: Bearer {key}\r\n\r\n").as_bytes(),
    );
    assert_eq!(peer.response().status, 200);
    let mut client = Client::joined(hailer.address(), "room:lobby");
    client.heartbeat();
    marks.check("an answer", &said);
    marks.check("a process", &processes(hailer.pid()));
    let mut hailer = hailer;
    hailer.stop();
    marks.check("the log", &hailer.log().join("\n"));
}
