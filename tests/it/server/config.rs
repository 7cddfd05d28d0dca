//! The configuration as an operator meets it: `init`, `check-config`, `serve`, `token`.

use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use crate::support::Folder;
use crate::support::Hailer;

/// A secret that must be met in no output. As long as HS512 wants it, and no word that anybody would refuse.
const MARK: &str = "mW4rKd-7Qz1xT9vB3nLs8pYc2gHf6jRa0uEoXi5tDkNqZwVbMlJyPhGsCfUeAdTr4I6o8S2x1L9k7";

/// Runs the program to its end: exit code, stdout, stderr.
fn run(folder: &Folder, args: &[&str]) -> (Option<i32>, String, String) {
    said(&folder.hailer(args).output().expect("the program starts"))
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The header and the claims of a token, which may be signed by anybody.
fn parts(token: &str) -> (Value, Value) {
    let part = |at: usize| {
        let text = token.trim().split('.').nth(at).expect("three parts");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64")).expect("JSON")
    };
    (part(0), part(1))
}

#[test]
fn what_init_writes_is_checked_and_served() {
    let folder = Folder::new("config");
    let (code, stdout, stderr) = run(&folder, &["init"]);
    assert_eq!(code, Some(0), "{stderr}");
    for next in
        ["hailer serve --config hailer.toml", "hailer token --config hailer.toml --sub alice --ttl 1h"]
    {
        assert!(stdout.lines().any(|line| line.trim() == next), "{stdout}");
    }
    assert_eq!((folder.mode("hailer.toml"), folder.mode("hailer.secret")), (0o600, 0o600));
    let secret = folder.read("hailer.secret");
    assert_eq!(URL_SAFE_NO_PAD.decode(secret.trim_end()).expect("base64").len(), 64);

    let (code, report, warnings) = run(&folder, &["check-config", "--config", "hailer.toml"]);
    assert_eq!(code, Some(0), "{warnings}");
    assert!(report.contains("secret_file = \"hailer.secret\""), "{report}");
    assert!(!(stdout + &report + &warnings).contains(secret.trim_end()));

    let serve = ["serve", "--config", "hailer.toml", "--listen", "127.0.0.1:0"];
    let mut hailer = Hailer::run(folder.hailer(&serve));
    hailer.stop();
    assert!(!hailer.log().iter().any(|line| line.contains("open demo")), "{:#?}", hailer.log());
}

#[test]
fn init_leaves_alone_what_is_there() {
    for there in ["my.toml", "my.secret"] {
        let folder = Folder::new("config");
        folder.write(there, "mine", 0o600);
        let (code, _, stderr) = run(&folder, &["init", "my.toml"]);
        assert_eq!(code, Some(1));
        assert!(stderr.starts_with(&format!("hailer: {there} is there already")), "{stderr}");
        assert_eq!(folder.read(there), "mine");
        assert_eq!(std::fs::read_dir(&folder.0).expect("the folder is there").count(), 1);
    }
    let folder = Folder::new("config");
    let (code, _, stderr) = run(&folder, &["init", "my.secret"]);
    assert_eq!((code, &*stderr), (Some(1), "hailer: my.secret is no name for a configuration\n"));
    let (code, _, stderr) = run(&folder, &["init", "gone/hailer.toml"]);
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("hailer: can't write gone/hailer.secret: "), "{stderr}");
}

#[test]
fn the_secrets_of_two_inits_differ() {
    let folder = Folder::new("config");
    run(&folder, &["init", "a.toml"]);
    run(&folder, &["init", "b.toml"]);
    assert_ne!(folder.read("a.secret"), folder.read("b.secret"));
}

#[test]
fn without_a_configuration_it_is_the_open_demo_and_says_so() {
    let hailer = Hailer::start(&[]);
    let line = hailer.log_line("open demo");
    let expected = "no [auth] is configured: this is the open demo, everyone who can reach it may write";
    assert!(line.ends_with(expected), "{line}");
}

#[test]
fn the_open_demo_is_not_shown_to_other_machines() {
    let folder = Folder::new("config");
    let check = |mut command: Command| {
        let (code, stdout, stderr) = said(&command.output().expect("the program starts"));
        assert_eq!((code, &*stdout), (Some(1), ""));
        assert!(stderr.contains("without a key everybody who reaches it may write"), "{stderr}");
        assert!(stderr.contains("hailer init"), "{stderr}");
    };
    check(folder.hailer(&["--listen", "0.0.0.0:0"]));
    check(folder.hailer(&["serve", "--listen", "[::]:0"]));
    let mut command = folder.hailer(&["serve"]);
    command.env("HAILER_LISTEN", "0.0.0.0:0");
    check(command);
    folder.write("far.toml", "listen = \"0.0.0.0:0\"\n", 0o600);
    check(folder.hailer(&["serve", "--config", "far.toml"]));
    check(folder.hailer(&["check-config", "--config", "far.toml"]));
}

#[test]
fn a_wrong_configuration_is_told_with_its_places_and_nothing_starts() {
    let folder = Folder::new("config");
    folder.write("hailer.toml", "listn = 1\n[auth]\nsecret_file = \"gone\"\n", 0o600);
    for command in ["serve", "check-config"] {
        let (code, stdout, stderr) = run(&folder, &[command, "--config", "hailer.toml"]);
        assert_eq!((code, &*stdout), (Some(1), ""));
        let problems = "hailer: hailer.toml:1:1: listn: there is no such setting; did you mean \"listen\"?\n\
             hailer: hailer.toml:3:1: auth.secret_file: can't read gone: No such file or directory (os error 2)\n";
        let verdict = match command {
            "serve" => "",
            _ => "not ok: the server would not start with this, 2 problems\n",
        };
        assert_eq!(stderr, format!("{problems}{verdict}"));
    }
    let (code, _, stderr) = run(&folder, &["serve", "--config", "other.toml"]);
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("hailer: can't read other.toml: No such file or directory"), "{stderr}");
    assert!(stderr.contains("hailer init other.toml"), "{stderr}");
    std::fs::write(folder.0.join("bytes.toml"), [0xff]).expect("the folder can be written to");
    let (code, _, stderr) = run(&folder, &["serve", "--config", "bytes.toml"]);
    assert_eq!((code, &*stderr), (Some(1), "hailer: bytes.toml is not text (UTF-8)\n"));
}

#[test]
fn topics_on_the_command_line_beside_a_key_are_a_usage_error() {
    let folder = Folder::new("config");
    run(&folder, &["init"]);
    let (code, _, stderr) = run(&folder, &["serve", "--config", "hailer.toml", "--topic", "room:*"]);
    assert_eq!(code, Some(2));
    assert!(stderr.starts_with("hailer: --topic: ") && stderr.contains("[[topics]]"), "{stderr}");
}

#[test]
fn the_environment_names_the_file_and_goes_before_it() {
    let folder = Folder::new("config");
    folder.write("my.toml", "shards = 3\nlog_level = \"debug\"\n", 0o600);
    let mut command = folder.hailer(&["check-config"]);
    command.env("HAILER_CONFIG", "my.toml").env("HAILER_SHARDS", "2").env("HAILER_SHARD", "2");
    let (code, report, warnings) = said(&command.output().expect("the program starts"));
    assert_eq!(code, Some(0), "{warnings}");
    let line = |name: &str| report.lines().find(|line| line.starts_with(name)).expect("it is in the report");
    assert!(line("shards").starts_with("shards = 2 ") && line("shards").ends_with("# HAILER_SHARDS"));
    assert!(line("log_level").ends_with("# my.toml:2:1"), "{report}");
    let unknown = "warning: HAILER_SHARD: there is no such setting; did you mean HAILER_SHARDS?";
    assert!(warnings.lines().any(|line| line == unknown), "{warnings}");

    let mut command = folder.hailer(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("HAILER_CONFIG", "my.toml").env("HAILER_SHARDS", "2");
    assert!(Hailer::run(command).log_line("listening").contains("shards=2"));
    let mut command = folder.hailer(&["serve", "--listen", "127.0.0.1:0", "--shards", "1"]);
    command.env("HAILER_CONFIG", "my.toml").env("HAILER_SHARDS", "2");
    assert!(Hailer::run(command).log_line("listening").contains("shards=1"));
}

#[test]
fn no_secret_is_in_what_check_config_says() {
    let folder = Folder::new("config");
    let rest = format!(
        "[accounts]\nsource = \"postgres\"\nquery = \"select $1\"\nurl = \"postgres://u:{MARK}@a/b\"\n"
    );
    folder.write("file.toml", &format!("[auth]\nsecret = \"{MARK}\"\n{rest}"), 0o644);
    folder.write(
        "wrong.toml",
        &format!("[auth]\nsecret = \"{MARK}\"\ntyp = [\"{MARK}\"]\n[limits]\n{rest}"),
        0o600,
    );
    folder.write("broken.toml", &format!("[auth]\nsecret = \"{MARK}\" {MARK}\n"), 0o600);
    // A program without PostgreSQL does not start with it.
    let served = if cfg!(feature = "postgres") { 0 } else { 1 };
    for (file, code) in [("file.toml", served), ("wrong.toml", 1), ("broken.toml", 1)] {
        let mut command = folder.hailer(&["check-config", "--config", file]);
        command.env("HAILER_AUTH_SECRT", MARK);
        let (found, stdout, stderr) = said(&command.output().expect("the program starts"));
        assert_eq!(found, Some(code), "{stderr}");
        assert!(!stdout.contains(MARK) && !stderr.contains(MARK), "{file}: {stdout}{stderr}");
    }
    let (_, report, warnings) = run(&folder, &["check-config", "--config", "file.toml"]);
    assert!(report.lines().any(|line| line.starts_with("secret = \"[hidden]\" ")), "{report}");
    assert!(
        warnings.contains("file.toml: it holds secrets, and others may read it (mode 0644)"),
        "{warnings}"
    );
    assert!(warnings.contains("the password goes to another host without TLS"), "{warnings}");
    let mut command = folder.hailer(&["check-config"]);
    command.env("HAILER_AUTH_SECRET", MARK).env("HAILER_LISTEN", "nowhere");
    let (code, stdout, stderr) = said(&command.output().expect("the program starts"));
    assert_eq!(code, Some(1));
    assert!(!stdout.contains(MARK) && !stderr.contains(MARK), "{stdout}{stderr}");
}

#[test]
fn a_token_has_guardians_claims_and_is_signed_with_the_configured_secret() {
    let folder = Folder::new("config");
    let text = "[auth]\nsecret_file = \"s\"\nissuer = [\"my_app\", \"old_app\"]\naudience = \"my_clients\"\n";
    folder.write("hailer.toml", text, 0o600);
    folder.write("s", &format!("{MARK}\n"), 0o600);
    let claims = ["--claim", "staff=true", "--claim", "name=Ada L", "--claim", "tags=[\"a\"]"];
    let args =
        [&["token", "--config", "hailer.toml", "--sub", "alice", "--ttl", "10m"][..], &claims].concat();
    let (code, stdout, stderr) = run(&folder, &args);
    assert_eq!((code, &*stderr), (Some(0), ""));
    let token = stdout.strip_suffix('\n').expect("one line");
    let mut validation = Validation::new(Algorithm::HS512);
    validation.set_issuer(&["my_app"]);
    validation.set_audience(&["my_clients"]);
    let key = DecodingKey::from_secret(MARK.as_bytes());
    let mut claims =
        jsonwebtoken::decode::<Value>(token, &key, &validation).expect("the token is good").claims;
    assert_eq!(parts(token).0, json!({ "alg": "HS512", "typ": "JWT" }));
    let mut take = |name: &str| claims.as_object_mut().expect("an object").remove(name).expect("it is there");
    let (iat, nbf, exp) = (take("iat"), take("nbf"), take("exp"));
    let number = |value: &Value| value.as_u64().expect("a whole number");
    assert_eq!((number(&nbf) + 1, number(&exp)), (number(&iat), number(&iat) + 600));
    let jti = take("jti");
    let jti: Vec<&str> = jti.as_str().expect("a text").split('-').collect();
    assert_eq!(jti.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    assert!(jti[2].starts_with('4') && jti[3].starts_with(['8', '9', 'a', 'b']), "{jti:?}");
    let rest = json!({
        "sub": "alice", "typ": "access", "iss": "my_app", "aud": "my_clients",
        "staff": true, "name": "Ada L", "tags": ["a"],
    });
    assert_eq!(claims, rest);
}

#[test]
fn a_token_is_signed_with_another_key_on_request() {
    let folder = Folder::new("config");
    // PKCS #8 around 32 bytes, which are an Ed25519 key whatever they are (RFC 8410, 7).
    let mut key = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    key.extend([7; 32]);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(key));
    folder.write("key.pem", &pem, 0o600);
    let args = ["token", "--sub", "alice", "--key", "key.pem", "--algorithm", "EdDSA", "--kid", "2026-11"];
    let (code, token, stderr) = run(&folder, &args);
    assert_eq!((code, &*stderr), (Some(0), ""));
    let (header, claims) = parts(&token);
    assert_eq!(header, json!({ "alg": "EdDSA", "kid": "2026-11", "typ": "JWT" }));
    assert_eq!(
        (&claims["sub"], &claims["typ"], claims.get("iss")),
        (&json!("alice"), &json!("access"), None)
    );

    let (code, _, stderr) =
        run(&folder, &["token", "--sub", "a", "--key", "key.pem", "--algorithm", "RS256"]);
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("hailer: key.pem: this private key can't sign with RS256"), "{stderr}");
}

#[test]
fn a_key_of_several_signs_with_its_own_id() {
    let folder = Folder::new("config");
    let keys =
        "[[auth.keys]]\nkid = \"b\"\nalgorithm = \"HS384\"\nsecret_encoding = \"base64\"\nfile = \"s\"\n";
    folder.write("hailer.toml", keys, 0o600);
    folder.write("s", &STANDARD.encode(MARK), 0o600);
    let (code, token, stderr) = run(&folder, &["token", "--config", "hailer.toml", "--sub", "alice"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(parts(&token).0, json!({ "alg": "HS384", "kid": "b", "typ": "JWT" }));
    let key = DecodingKey::from_secret(MARK.as_bytes());
    let validation = Validation::new(Algorithm::HS384);
    assert!(jsonwebtoken::decode::<Value>(token.trim(), &key, &validation).is_ok());
}

#[test]
fn without_a_secret_there_is_no_token() {
    let folder = Folder::new("config");
    let (code, stdout, stderr) = run(&folder, &["token", "--sub", "alice"]);
    assert_eq!((code, &*stdout), (Some(1), ""));
    assert!(stderr.contains("auth.secret_file") && stderr.contains("--key FILE"), "{stderr}");
    for wrong in [&["--ttl", "0s"][..], &["--claim", "staff"], &["--key", "k"], &["--algorithm", "none"]] {
        let (code, _, _) = run(&folder, &[&["token", "--sub", "alice"], wrong].concat());
        assert_eq!(code, Some(2), "{wrong:?}");
    }
}
