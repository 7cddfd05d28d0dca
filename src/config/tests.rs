use std::io;
use std::path::Path;

use super::load::{path, plain_settings, variable};
use super::report::limit_rows;
use super::*;
use crate::auth::connect::Secret;
use crate::auth::rights::Who;
use crate::auth::token::Algorithm;
use crate::desk::Durability;

/// A secret that must be met nowhere but in the settings themselves.
const MARK: &str = "marked-secret-0123456789";

fn read(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("gone") => Err(io::Error::from(io::ErrorKind::NotFound)),
        Some("empty") => Ok(b"\n".to_vec()),
        Some("binary") => Ok(vec![0xff]),
        Some("two-lines") => Ok(format!("{MARK}\n\n").into_bytes()),
        Some("url") => Ok(format!("postgres://hailer:{MARK}@db.example.com/app\n").into_bytes()),
        _ => Ok(format!("{MARK}\n").into_bytes()),
    }
}

pub(super) fn load_all(
    file: &str,
    environment: &[(&str, &str)],
    flags: Flags,
) -> Result<Loaded, ConfigError> {
    let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let file = Some((Path::new("hailer.toml"), file));
    load(&Inputs { file, environment: &environment, flags, read: &read })
}

#[track_caller]
pub(super) fn loaded(file: &str) -> Loaded {
    match load_all(file, &[], Flags::default()) {
        Ok(loaded) => loaded,
        Err(error) => panic!("{file}\n{error}"),
    }
}

#[track_caller]
pub(super) fn check_error(file: &str, expected: &str) {
    match load_all(file, &[], Flags::default()) {
        Ok(_) => panic!("this is taken: {file}"),
        Err(error) => assert_eq!(error.to_string(), expected, "{file}"),
    }
}

/// A file with a key, so that the rest of it counts.
pub(super) fn keyed(rest: &str) -> String {
    format!("[auth]\nsecret_file = \"s\"\n{rest}")
}

/// A key of the API whose hash is made of `seed`, with further lines.
pub(super) fn api_key(name: &str, seed: u8, lines: &str) -> String {
    let hash = KeyHash([seed; 32]);
    format!("[[api.keys]]\nname = \"{name}\"\nhash = \"{hash}\"\n{lines}")
}

#[test]
fn nothing_at_all_is_the_open_demo() {
    let loaded = loaded("");
    assert_eq!(loaded.settings, Settings::default());
    assert!(loaded.settings.is_demo() && loaded.settings.topics.is_empty());
    assert_eq!(loaded.warnings(), []);
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let file = "listen = \"127.0.0.1:1\"\n[limits]\nidle_timeout = \"70s\"\n";
    let environment = [("HAILER_LISTEN", "127.0.0.1:2"), ("HAILER_LIMITS_IDLE_TIMEOUT", "80s")];
    let flags = Flags {
        listen: "127.0.0.1:3".parse().ok(),
        timeout: Some(Duration::from_secs(90)),
        ..Flags::default()
    };
    let check = |environment: &[(&str, &str)], flags: Flags, port: u16, timeout: u64| {
        let settings = load_all(file, environment, flags).unwrap().settings;
        assert_eq!(settings.listen.port(), port);
        assert_eq!(settings.limits.idle_timeout, Duration::from_secs(timeout));
    };
    check(&[], Flags::default(), 1, 70);
    check(&environment, Flags::default(), 2, 80);
    check(&environment, flags.clone(), 3, 90);
    check(&[], flags, 3, 90);
}

#[test]
fn every_flag_is_taken_and_named_as_a_place() {
    let flags = Flags {
        listen: "127.0.0.1:3".parse().ok(),
        api_listen: Some(ApiListen::Off),
        shards: Some(3),
        topics: vec![TopicPattern::parse("room:*").unwrap()],
        timeout: Some(Duration::from_secs(90)),
        slow_readers: Some(SlowReader::Skip),
        io_uring: Some(IoUring::On),
        limits: vec![("frame_bytes_max".to_owned(), "1KiB".to_owned())],
        log_level: Some(LogLevel::Debug),
        check_origin: Some(CheckOrigin::Off),
    };
    let loaded = load_all("", &[], flags).unwrap();
    let settings = &loaded.settings;
    assert_eq!((settings.shards, settings.slow_readers), (Some(3), SlowReader::Skip));
    assert_eq!((settings.log_level, &settings.check_origin), (LogLevel::Debug, &CheckOrigin::Off));
    assert_eq!((settings.limits.frame_bytes_max, settings.demo_topics.len()), (1024, 1));
    assert_eq!(settings.api.listen.address(), None);
    assert_eq!(settings.io_uring, IoUring::On);
    let places: Vec<_> = loaded.places.iter().map(|(key, place)| format!("{key} {place}")).collect();
    assert_eq!(
        places,
        [
            "api.listen --api-listen",
            "check_origin --check-origin",
            "demo_topics --topic",
            "io_uring --io-uring",
            "limits.frame_bytes_max --limit",
            "limits.idle_timeout --timeout",
            "listen --listen",
            "log_level --log-level",
            "shards --shards",
            "slow_readers --slow-readers",
        ]
    );
}

#[test]
fn a_whole_file_is_read() {
    let loaded = loaded(WHOLE);
    let settings = &loaded.settings;
    assert_eq!(settings.listen, "127.0.0.1:4005".parse().unwrap());
    let origins = ["https://example.com", "//*.example.org"].map(str::to_owned).to_vec();
    assert_eq!(settings.check_origin, CheckOrigin::List(origins));
    assert_eq!(settings.subprotocols, ["v2.chat", "v1.chat"]);
    assert_eq!(settings.limits.message_bytes_max, 1024 * 1024);
    let auth = &settings.auth;
    assert_eq!(auth.secret, Some(Secret::new(MARK)));
    assert_eq!(
        (&*auth.issuer, &*auth.audience),
        (&["a".to_owned(), "b".to_owned()][..], &["my_app".to_owned()][..])
    );
    assert_eq!(auth.expiry_warning, Duration::from_secs(4 * 604_800));
    assert_eq!((auth.refusal, auth.algorithm), (RefusalStyle::Polite, SecretAlgorithm::Hs256));
    let key = &auth.keys[0];
    assert_eq!((key.kid.as_deref(), key.algorithm), (Some("2026-11"), Algorithm::RS256));
    assert_eq!((key.text.expose(), auth.keys[1].text.expose()), (MARK, "another secret"));
    assert_eq!(settings.accounts.url.as_ref().map(Secret::expose), Some("postgres:///app"));
    let (api, admin, messages) = (&settings.api, &settings.admin, &settings.messages);
    assert_eq!(api.listen.address(), "0.0.0.0:0".parse().ok());
    assert_eq!((&*api.hosts, api.threads, api.metrics_open), (&["a.example.com".to_owned()][..], 2, false));
    assert_eq!((api.payload_bytes_max, api.failures_per_minute_max), (1024, 3));
    let [orders, reader] = &api.keys[..] else { panic!("two keys: {:?}", api.keys) };
    assert_eq!(
        (&*orders.name, orders.hash.0[0], &*orders.scopes),
        ("orders", 0xab, &[KeyScope::Publish][..])
    );
    let patterns: Vec<_> = orders.topics.iter().map(ToString::to_string).collect();
    assert_eq!(patterns, ["room:*", "user:{sub}", "news"]);
    assert_eq!((&*reader.scopes, reader.topics.len()), (&[KeyScope::Read, KeyScope::Disconnect][..], 0));
    assert_eq!((admin.enabled, &*admin.title, admin.topics.len()), (false, "Our shop", 2));
    assert_eq!((admin.tls, admin.session_idle), (true, Duration::from_secs(60)));
    assert_eq!((&*messages.user_topic, messages.default_durability), ("u:{sub}:own", Durability::Disk));
    assert_eq!((messages.lifetime_max, messages.records_max), (Duration::from_secs(7 * 86_400), 10));
    let rule = &settings.topics[0];
    let staff = Who::Claim { name: "staff".into(), value: true.into() };
    let right = |event: &str, by| PushRight { event: event.to_owned(), by };
    assert_eq!(rule.push, [right("new_msg", staff), right("*", Who::Nobody)]);
    assert_eq!((rule.payload_bytes_max, rule.pushes_per_minute), (Some(4096), Some(60)));
    assert_eq!((&settings.topics[1].join, settings.topics[1].auto_join), (&Who::Owner, true));
}

const WHOLE: &str = r#"
listen = "127.0.0.1:4005"
shards = 0x2
log_level = "warn"
socket_path = "/my/socket"
subprotocols = ["v2.chat", "v1.chat"]
host = "example.com"
check_origin = ["https://example.com", "//*.example.org"]
require_origin = true
slow_readers = "skip"
io_uring = "off"

[limits]
message_bytes_max = "1MiB"
frame_bytes_max = 1_000

[auth]
secret_file = "s"
secret_encoding = "base64"
algorithm = "HS256"
jwks_file = "jwks.json"
issuer = ["a", "b"]
audience = "my_app"
typ = ""
require_typ = true
allowed_drift = "60s"
require_exp = false
anonymous = true
token_param = "jwt"
socket_id = "users_socket:{sub}"
refusal = "polite"
expiry_warning = "4w"
expiry_grace = "1s"
threads = 3

[[auth.keys]]
kid = "2026-11"
algorithm = "RS256"
file = "public.pem"

[[auth.keys]]
algorithm = "HS512"
secret = "another secret"

[store]
path = "hailer.db"

[accounts]
source = "postgres"
url = "postgres:///app"
query = "select id from users where id = $1"
threads = 4
queue_max = 10
deadline = "2s"
cache_lifetime = 120
cache_entries_max = 7
when_away = "cached"

[api]
listen = "0.0.0.0:0"
hosts = "a.example.com"
threads = 2
metrics_open = false
idempotency_lifetime = "1m"
messages_per_request_max = 100
payload_bytes_max = "1KiB"
failures_per_minute_max = 3

[[api.keys]]
name = "orders"
hash = "sha256:aba1cea525770ced3fbb41c12ce6bfe78f2f305875792c2715236d9e74148279"
scopes = ["publish"]
topics = ["room:*", "user:{sub}", "news"]

[[api.keys]]
name = "reader"
hash = "sha256:FCF3A9B26A7B63E44663F1838E8B37C1332B163A26EEA863840EF6BC93C937EE"
scopes = ["read", "disconnect"]

[admin]
enabled = false
title = "Our shop"
default_topic = "room:all"
topics = ["room:a", "room:b"]
tls = true
session_idle = "1m"
session_lifetime = "1h"
sends_per_minute_max = 5

[messages]
user_topic = "u:{sub}:own"
default_durability = "disk"
kept_per_topic_max = 2
kept_bytes_max = "1MiB"
lifetime_max = "7d"
keep_records = "8d"
records_max = 10
store_queue_max = 11
receipts_time = "9s"

[[topics]]
pattern = "room:lobby"
join = "user"
push = [
  { event = "new_msg", by = { claim = "staff", value = true } },
  { event = "*", by = "nobody" },
]
slow_readers = "close"
payload_bytes_max = "4KiB"
pushes_per_minute = 60

[[topics]]
pattern = "user:{sub}"
join = "owner"
auto_join = true
"#;

#[test]
fn a_key_without_rules_has_those_of_the_lobby_and_of_each_user() {
    assert_eq!(loaded(&keyed("")).settings.topics, TopicRule::defaults());
    let own = keyed("[[topics]]\npattern = \"news\"\njoin = \"user\"\n");
    assert_eq!(loaded(&own).settings.topics.len(), 1);
}

#[test]
fn a_secret_file_loses_one_line_feed_at_its_end() {
    let secret = |file: &str| {
        let loaded = loaded(&format!("[auth]\nsecret_file = \"{file}\"\n"));
        loaded.settings.auth.secret.unwrap().expose().to_owned()
    };
    assert_eq!(secret("one-line"), MARK);
    assert_eq!(secret("two-lines"), format!("{MARK}\n"));
}

#[test]
fn a_later_secret_puts_an_earlier_file_out_of_force() {
    let file = "[auth]\nsecret_file = \"gone\"\n";
    let loaded = load_all(file, &[("HAILER_AUTH_SECRET", "other")], Flags::default()).unwrap();
    assert_eq!(loaded.settings.auth.secret, Some(Secret::new("other")));
    assert_eq!(loaded.settings.auth.secret_file, None);
    let file = "[auth]\nsecret = \"other\"\n";
    let loaded = load_all(file, &[("HAILER_AUTH_SECRET_FILE", "s")], Flags::default()).unwrap();
    assert_eq!(loaded.settings.auth.secret, Some(Secret::new(MARK)));
    assert!(!loaded.places.contains_key("auth.secret"));
}

#[test]
fn paths_of_the_file_are_relative_to_its_folder() {
    let text = "[auth]\nsecret_file = \"a\"\njwks_file = \"/b\"\n[[auth.keys]]\nalgorithm = \"RS256\"\nfile = \"c\"\n";
    let environment = [("HAILER_STORE_PATH".to_owned(), "d".to_owned())];
    let file = Some((Path::new("/etc/hailer/hailer.toml"), text));
    let inputs = Inputs { file, environment: &environment, ..Inputs::new(&read) };
    let settings = load(&inputs).unwrap().settings;
    let auth = &settings.auth;
    let shown = [&auth.secret_file, &auth.jwks_file, &auth.keys[0].file, &settings.store.path];
    let shown = shown.map(|path| path.as_ref().and_then(|path| path.to_str()).unwrap());
    assert_eq!(shown, ["/etc/hailer/a", "/b", "/etc/hailer/c", "d"]);
}

#[test]
fn every_plain_setting_has_a_variable() {
    let whole = load_all(WHOLE, &[], Flags::default()).unwrap();
    let rows = [
        ("", whole.settings.rows()),
        ("limits", limit_rows(&whole.settings.limits)),
        ("auth", whole.settings.auth.rows()),
        ("store", whole.settings.store.rows()),
        ("accounts", whole.settings.accounts.rows()),
        ("api", whole.settings.api.rows()),
        ("admin", whole.settings.admin.rows()),
        ("messages", whole.settings.messages.rows()),
    ];
    let mut environment = Vec::new();
    for (table, rows) in rows {
        for row in rows {
            // A secret is given by its file here.
            let Some(value) = row.value.filter(|_| path(table, row.key) != "auth.secret") else { continue };
            let value = value.replace(['[', ']', '"'], "").replace(", ", ",");
            environment.push((variable(table, row.key), value.replace("hidden", "postgres:///app")));
        }
    }
    assert!(environment.contains(&("HAILER_LIMITS_MESSAGE_BYTES_MAX".to_owned(), "1048576".to_owned())));
    let settings = load(&Inputs { environment: &environment, ..Inputs::new(&read) }).unwrap().settings;
    let mut expected = whole.settings;
    expected.auth.keys.clear();
    expected.api.keys.clear();
    expected.topics = TopicRule::defaults();
    assert_eq!(settings, expected);
}

#[test]
fn a_wrong_variable_is_an_error_and_an_unknown_one_a_notice() {
    let check = |name: &str, value: &str, expected: &str| {
        let error = load_all("", &[(name, value)], Flags::default()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(
        "HAILER_LISTEN",
        "here",
        "HAILER_LISTEN: expected an IP address, or localhost, and a port, such as \"127.0.0.1:4000\" or \"[::1]:4000\"",
    );
    check("HAILER_REQUIRE_ORIGIN", "yes", "HAILER_REQUIRE_ORIGIN: expected true or false");
    check("HAILER_SHARDS", "", "HAILER_SHARDS: expected a number from 1 to 1024");
    check("HAILER_AUTH_SECRET", "", "HAILER_AUTH_SECRET: expected a text that is not empty");
    check(
        "HAILER_LIMITS_IDLE_TIMEOUT",
        "1ms",
        "HAILER_LIMITS_IDLE_TIMEOUT: expected a value such as 100 or \"10s\", at least 1s",
    );
    check("HAILER_AUTH_SECRET_FILE", "gone", "HAILER_AUTH_SECRET_FILE: can't read gone: entity not found");
    let both = [("HAILER_AUTH_SECRET", "a"), ("HAILER_AUTH_SECRET_FILE", "s")];
    let error = load_all("", &both, Flags::default()).unwrap_err();
    assert_eq!(error.to_string(), "HAILER_AUTH_SECRET_FILE: give this or secret, not both");

    let environment = [
        ("HAILER_LISTN", "x"),
        ("HAILER_PORT_4000_TCP_ADDR", "x"),
        ("HAILER_CONFIG", "x"),
        ("HAILER_API", "x"),
        ("HAILER_API_KEY", "x"),
        ("PATH", "x"),
        ("hailer_listen", "x"),
    ];
    let loaded = load_all("", &environment, Flags::default()).unwrap();
    let notices: Vec<_> = loaded.notices().iter().map(ToString::to_string).collect();
    let expected = [
        "HAILER_LISTN: there is no such setting; did you mean HAILER_LISTEN?",
        "HAILER_PORT_4000_TCP_ADDR: there is no such setting",
    ];
    assert_eq!(notices, expected);
    assert_eq!(loaded.warnings(), loaded.notices());
}

#[test]
fn files_that_hold_no_secret_are_errors() {
    let check = |file: &str, expected: &str| {
        check_error(
            &format!("[auth]\nsecret_file = \"{file}\"\n"),
            &format!("hailer.toml:2:1: auth.secret_file: {expected}"),
        );
    };
    check("gone", "can't read gone: entity not found");
    check("empty", "empty is empty");
    check("binary", "binary is not text (UTF-8); give other bytes in base64");
}

#[test]
fn a_report_can_be_read_again_and_says_where_settings_come_from() {
    let no_secrets = WHOLE
        .replace("secret = \"another secret\"", "file = \"x\"")
        .replace("url = \"postgres:///app\"", "url_file = \"url\"");
    for file in ["", &keyed(""), &no_secrets] {
        let first = loaded(file);
        let report = first.report();
        let second = loaded(&report);
        assert_eq!(first.settings, second.settings, "{report}");
    }
    let flags = Flags { shards: Some(2), ..Flags::default() };
    let environment = [("HAILER_HOST", "example.com")];
    let loaded = load_all("\nrequire_origin = true\n", &environment, flags).unwrap();
    let report = loaded.report();
    for (line, place) in [
        ("listen = \"127.0.0.1:4000\"", "default"),
        ("shards = 2", "--shards"),
        ("host = \"example.com\"", "HAILER_HOST"),
        ("require_origin = true", "hailer.toml:2:1"),
    ] {
        assert!(
            report.lines().any(|found| found.starts_with(line) && found.ends_with(&format!("# {place}"))),
            "{report}"
        );
    }
}

#[test]
fn no_secret_is_met_in_reports_warnings_errors_and_debug_output() {
    let files = [
        format!("[auth]\nsecret = \"{MARK}\"\n[store]\npath = \"a\"\n"),
        format!("[[auth.keys]]\nalgorithm = \"HS256\"\nsecret = \"{MARK}\"\n"),
        keyed(&format!(
            "[accounts]\nsource = \"postgres\"\nquery = \"$1\"\nurl = \"postgres://u:{MARK}@a/b\"\n"
        )),
        keyed("jwks_file = \"j\"\n[accounts]\nsource = \"postgres\"\nquery = \"$1\"\nurl_file = \"url\"\n"),
        // In the wrong place, of the wrong kind, in a broken file.
        format!("[auth]\nsecret = \"{MARK}\"\nsecret_file = \"a\"\n"),
        format!("[auth]\nalgorithm = \"{MARK}\"\n"),
        format!("[auth]\nsecret = [\"{MARK}\"]\n"),
        format!("[auth]\nsecret = {MARK}\n"),
        format!("[auth]\nsecret = \"{MARK}\n"),
        format!("[auth]\nsecret = '{MARK}' '{MARK}'\n"),
        format!("[auth]\nsecret = \"\\q{MARK}\"\n"),
        format!("[auth]\nsecrets = \"{MARK}\"\n"),
        format!("auth = \"{MARK}\"\n"),
        format!("auth.secret = \"{MARK}\"\nauth.secret = \"{MARK}\"\n"),
        format!("[limits]\nidle_timeout = \"{MARK}\"\n"),
        format!("listen = \"{MARK}\"\ncheck_origin = \"{MARK}\"\nhost = \"{MARK} \"\n"),
        keyed(&format!("[[topics]]\npattern = \"a\"\njoin = \"{MARK}\"\n")),
        format!("[[api.keys]]\nname = \"a\"\nhash = \"hlr_{MARK}\"\nscopes = [\"{MARK}\"]\n"),
        format!("[[api.keys]]\nname = \"a\"\nhash = \"sha256:{MARK}\"\nkey = \"{MARK}\"\n"),
        format!("[api]\nlisten = \"{MARK}\"\nkeys = [\"{MARK}\"]\n"),
    ];
    for file in files {
        let environment = [("HAILER_SHARDS", "1"), ("HAILER_AUTH_SECRT", MARK)];
        let said = match load_all(&file, &environment, Flags::default()) {
            Ok(loaded) => format!("{} {:?} {loaded:?}", loaded.report(), loaded.warnings()),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!said.contains(MARK), "{file}\n{said}");
    }
    for name in ["LISTEN", "LOG_LEVEL", "LIMITS_IDLE_TIMEOUT", "AUTH_ALGORITHM", "ACCOUNTS_THREADS"] {
        let error = load_all("", &[(&format!("HAILER_{name}"), MARK)], Flags::default()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(MARK), "{name}");
    }
}

#[test]
fn the_template_has_every_setting_and_is_a_safe_start() {
    let text = template("hailer.secret");
    let loaded = loaded(&text);
    let mut expected = Settings::default();
    expected.auth.secret_file = Some("hailer.secret".into());
    expected.auth.secret = Some(Secret::new(MARK));
    expected.store.path = Some("hailer.db".into());
    expected.topics = TopicRule::defaults();
    assert_eq!(loaded.settings, expected);
    assert_eq!(loaded.warnings(), []);
    for line in text.lines() {
        assert!(line.len() <= 120, "{line}");
    }
}

/// Every example and default of the template, brought into force alone.
#[test]
fn what_is_commented_out_in_the_template_is_good_as_it_stands() {
    let text = template("s");
    let lines: Vec<&str> = text.lines().collect();
    let settings: Vec<usize> = (0..lines.len())
        .filter(|at| {
            let name =
                lines[*at].strip_prefix("# ").and_then(|line| line.split_once(" = ")).map(|(name, _)| name);
            name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
        })
        .collect();
    let of_lists = AuthKey::KEYS.len() + ApiKey::KEYS.len() + TopicRule::KEYS.len();
    let known = plain_settings().count() + of_lists;
    // Five are set: both addresses, the origins, the secret's file and the store.
    assert_eq!(settings.len() + 5, known);
    for at in settings {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        lines[at] = lines[at][2..].to_owned();
        let header = (0..at)
            .rev()
            .find(|at| lines[*at].trim_start_matches("# ").starts_with('['))
            .map(|at| &mut lines[at]);
        if let Some(header) = header {
            *header = header.trim_start_matches("# ").to_owned();
        }
        if let Err(error) = load_all(&lines.join("\n"), &[], Flags::default()) {
            // Some settings need another beside them, which is said; but each is read.
            let said = error.to_string();
            let needs = ["is missing", "give ", "Give ", "not both", "needs "];
            assert!(needs.iter().any(|need| said.contains(need)), "{}\n{said}", lines[at]);
        }
    }
}

#[test]
fn the_reference_has_every_setting_with_its_default() {
    let reference = include_str!("../../docs/configuration.md");
    for line in reference_lines() {
        assert!(reference.contains(&line), "docs/configuration.md lacks this line:\n{line}");
    }
    let rows = reference.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, reference_lines().len(), "docs/configuration.md has lines of settings that are no more");
}

#[test]
fn the_examples_of_the_reference_are_good() {
    let reference = include_str!("../../docs/configuration.md");
    let examples: Vec<_> =
        reference.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        let anonymous = example.contains("join = \"anyone\"");
        let key = format!("[auth]\nsecret_file = \"s\"\nanonymous = {anonymous}\n");
        let key = if example.contains("[auth]") { "" } else { &key };
        // An excerpt need not have the topic that the back office begins with.
        let admin = if example.contains("room:lobby") { "" } else { "[admin]\nenabled = false\n" };
        let loaded = loaded(&format!("{key}{example}[store]\npath = \"a\"\n{admin}"));
        assert_eq!(loaded.warnings(), [], "{example}");
    }
}

/// The lines of the reference's tables.
fn reference_lines() -> Vec<String> {
    let settings = Settings::default();
    let tables = [
        settings.rows(),
        limit_rows(&settings.limits),
        settings.auth.rows(),
        AuthKey::default().rows(),
        settings.store.rows(),
        settings.accounts.rows(),
        settings.api.rows(),
        ApiKey::default().rows(),
        settings.admin.rows(),
        settings.messages.rows(),
        TopicRule::default().rows(),
    ];
    let line = |row: table::Row| {
        let default = row.value.map_or_else(String::new, |value| format!("`{value}`"));
        format!("| `{}` | {default} | {} |", row.key, row.about.replace('|', "\\|"))
    };
    tables.into_iter().flatten().map(line).collect()
}

#[test]
fn localhost_is_an_address_in_the_file_as_it_is_on_the_command_line() {
    let file = "listen = \"localhost:4100\"\n[api]\nlisten = \"localhost:0\"\n";
    let loaded = load_all(file, &[], Flags::default()).unwrap();
    assert_eq!(loaded.settings.listen.to_string(), "127.0.0.1:4100");
    assert_eq!(
        loaded.settings.api.listen.address().map(|address| address.to_string()).as_deref(),
        Some("127.0.0.1:0")
    );
    for wrong in
        ["localhost", "localhost:", "localhost:99999", "Localhost:1", "example.com:80", "my-localhost:80"]
    {
        assert!(load_all(&format!("listen = \"{wrong}\"\n"), &[], Flags::default()).is_err(), "{wrong}");
    }
}
