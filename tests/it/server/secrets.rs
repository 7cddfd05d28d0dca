//! Secrets stay secret: everything is done with marked ones, and all that comes out is searched for them.

use std::process::Stdio;

use hailer::testing::upgrade_request;
use serde_json::json;

use super::users::unix_time;
use crate::support::Folder;
use crate::support::{Hailer, Peer};

/// Marks that no output may hold, whole or in part: the shortest piece that is searched for is ten bytes long.
const SECRET: &str =
    "M4rkedSecretOfTheServer-9f8e7d6c5b4a39281706f5e4d3c2b1a0-and-some-more-of-it-to-be-long";
const QUERY: &str = "M4rkedQueryValue-1a2b3c4d5e6f";
const COOKIE: &str = "M4rkedCookieValue-6f5e4d3c2b1a";
const JOIN: &str = "M4rkedJoinPayload-5e4d3c2b1a6f";
const BODY: &str = "M4rkedPostBody-4d3c2b1a6f5e";
const JTI: &str = "M4rkedTokenId-3c2b1a6f5e4d";
const URL: &str = "postgres://hailer:M4rkedPassword-2b1a6f5e4d3c@127.0.0.1:1/app";

fn token(subject: &str, now: u64, ttl: u64) -> String {
    super::users::token(SECRET, subject, JTI, now, ttl)
}

/// Fails if the text holds a mark, or a part of a token.
#[track_caller]
fn check(what: &str, text: &str, tokens: &[String]) {
    for mark in [SECRET, QUERY, COOKIE, JOIN, BODY, JTI, "M4rked"] {
        assert!(!text.contains(mark), "{what} holds {mark}: {text}");
    }
    for token in tokens {
        for (at, part) in token.split('.').enumerate().skip(1) {
            // The claims begin alike in all tokens; their rest and the signature are each token's own.
            let part = if at == 1 { &part[part.len() / 2..] } else { part };
            for piece in part.as_bytes().chunks_exact(10) {
                let piece = std::str::from_utf8(piece).expect("it is ASCII");
                assert!(!text.contains(piece), "{what} holds {piece} of a token: {text}");
            }
        }
    }
}

/// Sends a request; all that is answered.
fn answer(hailer: &Hailer, request: &str) -> String {
    let mut peer = Peer::connect(hailer.address());
    peer.send(request.as_bytes());
    peer.half_close();
    String::from_utf8_lossy(&peer.read_to_end()).into_owned()
}

/// Requests that carry marks everywhere, good and bad.
fn requests(good: &str, bad: &str) -> Vec<String> {
    use base64::Engine;
    let mut requests = Vec::new();
    for token in [good, bad] {
        let cookie = format!("Cookie: session={COOKIE}\r\n");
        let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(token);
        let upgrade = |target: &str, header: &str| {
            upgrade_request(target).replace("\r\n\r\n", &format!("\r\n{cookie}{header}\r\n"))
        };
        requests.push(upgrade(&format!("/socket/websocket?vsn=2.0.0&token={token}&x={QUERY}"), ""));
        requests.push(upgrade(&format!("/socket/websocket?token={token}&vsn=9.9.9"), ""));
        requests.push(upgrade(&format!("/socket/websocket?token={token}&x=%zz{QUERY}"), ""));
        requests.push(upgrade("/socket/websocket", &format!("Authorization: Bearer {token}\r\n")));
        let protocols = format!("Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.{encoded}\r\n");
        requests.push(upgrade("/socket/websocket", &protocols));
        requests.push(upgrade("/socket/websocket", &format!("{protocols}{protocols}")));
        requests.push(upgrade(
            &format!("/socket/websocket?token={token}"),
            &format!("Origin: https://evil.example/{QUERY}\r\n"),
        ));
        for (method, target) in [
            ("GET", format!("/socket/websocket?token={token}")),
            ("POST", format!("/socket/websocket?token={token}")),
            ("GET", format!("/socket/longpoll?token={token}&x={QUERY}&vsn=2.0.0")),
            ("GET", format!("/socket/longpoll?token={token}&vsn=7")),
            ("GET", format!("/nowhere?token={token}&x={QUERY}")),
            ("PUT", format!("/socket/longpoll?token={token}")),
            ("BREW", format!("/?token={token}")),
            ("GET", format!("/?token={token}{}", "x".repeat(13_000))),
        ] {
            requests.push(format!(
                "{method} {target} HTTP/1.1\r\nHost: a\r\n{cookie}X-Phoenix-AuthToken: {token}\r\n\r\n"
            ));
        }
        requests.push(format!("GET /?token={token} HTTP/1.1\r\nHost: a\r\nHost: {QUERY}\r\n\r\n"));
        requests.push(format!("GET /?token={token} HTTP/1.1\r\nBad header {QUERY}\r\n\r\n"));
        requests.push(format!(
            "POST /socket/longpoll?token={token} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{BODY}",
            BODY.len()
        ));
    }
    requests
}

/// What a client says on a live socket, and what is answered.
fn talk(hailer: &Hailer, good: &str, bad: &str) -> String {
    let mut peer = Peer::connect(hailer.address());
    peer.upgrade(&format!("/socket/websocket?vsn=2.0.0&token={good}"));
    let mut answers = String::new();
    for (event, payload) in [
        ("phx_join", json!({ "token": JOIN })),
        ("access_token", json!({ "access_token": bad })),
        ("access_token", json!({ "access_token": good })),
        ("access_token", json!({ "wrong": good })),
        ("new_msg", json!({ "wrong": JOIN })),
    ] {
        peer.send_text(&json!(["1", "1", "room:lobby", event, payload]).to_string());
        answers += &peer.message().to_string();
    }
    // What is no message at all ends the socket.
    peer.send_text(&format!("{{{JOIN}"));
    let (code, reason) = peer.close_frame();
    answers + &format!("{code} {reason}")
}

#[test]
fn marked_secrets_come_out_nowhere() {
    for level in ["trace", "info"] {
        let folder = Folder::new("secrets");
        folder.write("hailer.toml", "[auth]\nissuer = \"app\"\nsecret_file = \"secret\"\n", 0o600);
        folder.write("secret", &format!("{SECRET}\n"), 0o600);
        let serve = ["serve", "--config", "hailer.toml", "--listen", "127.0.0.1:0", "--log-level", level];
        let mut hailer = Hailer::run(folder.hailer(&serve));
        let now = unix_time();
        let good = token("ada", now, 600);
        let tokens =
            vec![good.clone(), token("ada", now - 900, 60), token("bob", now, 600), format!("{good}x")];
        for bad in &tokens[1..] {
            for request in requests(&good, bad) {
                check(&request, &answer(&hailer, &request), &tokens);
            }
            check("a socket", &talk(&hailer, &good, &tokens[3]), &tokens);
        }
        let process =
            std::fs::read_to_string(format!("/proc/{}/cmdline", hailer.pid())).expect("Linux has it");
        check("the command line", &process, &tokens);
        let stdout = hailer.stop();
        check("stdout", &stdout, &tokens);
        let log = hailer.log().join("\n");
        assert!(log.contains("WebSocket unauthorized: token expired"), "{log}");
        assert!(log.contains("long-poll unauthorized: "), "{log}");
        check("the log", &log, &tokens);
    }
}

#[test]
fn marked_secrets_are_in_no_error_of_the_program() {
    let folder = Folder::new("secrets");
    folder.write("short", "M4rkedButShort", 0o600);
    folder.write("jwks", &format!("{{\"keys\":[{{\"kty\":\"oct\",\"k\":\"{SECRET}\"}}]}}"), 0o600);
    folder.write("pem", &format!("-----BEGIN PUBLIC KEY-----\n{SECRET}\n-----END PUBLIC KEY-----\n"), 0o600);
    folder.write("secret", SECRET, 0o600);
    let key = |lines: &str| format!("[auth]\nsecret_file = \"secret\"\n{lines}");
    let configs = [
        "[auth]\nsecret_file = \"short\"\n".to_owned(),
        format!("[auth]\nsecret = \"{SECRET}\nalgorithm = 7\n"),
        format!("[auth]\nsecret = \"{SECRET}\"\nsecret_file = \"secret\"\n"),
        format!("[auth]\nsecret = [\"{SECRET}\"]\n"),
        format!("[auth]\nsecret = \"{SECRET}\"\nsecret_encoding = \"base64\"\n"),
        format!("[auth]\nsekret = \"{SECRET}\"\n"),
        "[auth]\njwks_file = \"jwks\"\n".to_owned(),
        "[[auth.keys]]\nalgorithm = \"RS256\"\nfile = \"pem\"\n".to_owned(),
        "[[auth.keys]]\nalgorithm = \"HS512\"\nfile = \"pem\"\n".to_owned(),
        key(&format!("[accounts]\nsource = \"postgres\"\nurl = \"{URL}\"\nquery = \"select 1\"\n")),
        key(&format!("[accounts]\nsource = \"postgres\"\nurl = \"{URL}\"\n")),
        key(&format!("[accounts]\nsource = \"postgres\"\nurl = \"{URL} oh\"\nquery = 7\n")),
    ];
    for config in configs {
        folder.write("hailer.toml", &config, 0o600);
        for command in ["serve", "check-config", "token"] {
            let mut args = vec![command, "--config", "hailer.toml"];
            args.extend(match command {
                "serve" => ["--listen", "256.0.0.1:0"].as_slice(),
                "token" => &["--sub", "a", "--ttl", "nonsense"],
                _ => &[],
            });
            let output = folder.hailer(&args).stdin(Stdio::null()).output().expect("the program starts");
            let said =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            check(&format!("{command} of {config}"), &said.concat(), &[]);
        }
        // In the environment they are secrets as well.
        let mut command = folder.hailer(&["check-config"]);
        command.env("HAILER_AUTH_SECRET", format!("{SECRET}\u{7f}")).env("HAILER_ACCOUNTS_URL", URL);
        let output = command.output().expect("the program starts");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        check("check-config of the environment", &said.concat(), &[]);
    }
}
