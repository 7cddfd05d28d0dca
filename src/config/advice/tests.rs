use std::path::Path;

use crate::config::exposed;
use crate::config::tests::{api_key, keyed, loaded};

#[track_caller]
fn check_warning(file: &str, expected: &str) {
    let warnings: Vec<_> = loaded(file).warnings().iter().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|warning| warning.ends_with(expected)), "{expected}: {warnings:#?}");
}

#[test]
fn what_is_unwise_is_a_warning() {
    let safe = "[store]\npath = \"a\"\n";
    assert_eq!(loaded(&keyed(safe)).warnings(), []);
    check_warning(
        "check_origin = false\n",
        "check_origin: false lets every web page of the world connect as its visitor: list the origins",
    );
    check_warning(&format!("listen = \"0.0.0.0:1\"\n{}", keyed(safe)), "Put a proxy with TLS before it");
    check_warning(
        &keyed(""),
        "store.path: without it denied tokens, sent messages and the audit log are kept in memory: after a restart the \
         tokens are good again, and the rest is forgotten",
    );
    let auth = |line: &str, expected: &str| check_warning(&keyed(&format!("{line}\n{safe}")), expected);
    auth(
        "require_exp = false",
        "hailer.toml:3:1: auth.require_exp: false takes tokens that never run out: a stolen one is good for ever",
    );
    auth("typ = \"\"", "auth.typ: \"\" takes tokens of every type, refresh tokens too");
    auth(
        "allowed_drift = \"11s\"",
        "auth.allowed_drift: more than 10s hides a clock that is wrong, and keeps tokens alive that have run out",
    );
    auth(
        "expiry_grace = \"1h\"",
        "auth.expiry_grace: a socket whose token has run out goes on for more than five minutes",
    );
    auth(
        "refusal = \"polite\"",
        "auth.refusal: \"polite\" tells whoever asks why a token is not good, and costs an upgrade each time",
    );
    let accounts = |line: &str, expected: &str| {
        let table = "[accounts]\nsource = \"postgres\"\nquery = \"select $1\"\n";
        check_warning(&keyed(&format!("{safe}{table}{line}\n")), expected);
    };
    accounts(
        "url = \"a\"\nwhen_away = \"cached\"",
        "\"cached\" lets users in who were disabled while the database is away",
    );
    accounts(
        "url = \"a\"\ncache_lifetime = \"1h\"",
        "a user who is disabled may connect until it is over: more than ten minutes",
    );
    accounts(
        "url = \"a\"",
        "accounts.url: a secret in the configuration is easily copied along with it: use the …_file setting, or the environment",
    );
    accounts(
        "url_file = \"url\"",
        "accounts.url_file: the password goes to another host without TLS, which is not spoken to PostgreSQL: put a \
         pooler or a tunnel that does on this machine",
    );
    check_warning("[auth]\nsecret = \"a\"\n", "use the …_file setting, or the environment");
    check_warning(
        "[[auth.keys]]\nalgorithm = \"HS256\"\nsecret = \"a\"\n",
        "auth.keys[0].secret: a secret in the configuration is easily copied along with it: use file",
    );
}

#[test]
fn limits_that_contradict_each_other_are_warnings() {
    let check = |limit: &str, expected: &str| check_warning(&format!("[limits]\n{limit}\n"), expected);
    check(
        "frame_bytes_max = \"65KiB\"",
        "hailer.toml:2:1: limits.frame_bytes_max: a frame above message_bytes_max is refused all the same",
    );
    check(
        "outbox_bytes_max = 1024",
        "limits.outbox_bytes_max: a reply as large as message_bytes_max closes its client",
    );
    check(
        "topic_log_bytes_max = 4096",
        "limits.topic_log_bytes_max: a broadcast as large as message_bytes_max makes every subscriber a slow reader",
    );
    check(
        "message_bytes_max = \"1GiB\"",
        "limits.mailbox_bytes_max: a message as large as message_bytes_max finds no room",
    );
    check(
        "target_bytes_max = \"17KiB\"",
        "limits.target_bytes_max: a target above head_bytes_max is refused all the same",
    );
    check("poll_window = \"20s\"", "limits.poll_window: phoenix.js gives a poll up after 20s: choose less");
    check(
        "keep_alive_timeout = \"9s\"",
        "limits.keep_alive_timeout: a long-poll client's second connection ends within a poll_window, and each POST needs another",
    );
    check(
        "idle_timeout = \"30s\"",
        "limits.idle_timeout: phoenix.js sends a heartbeat every 30s: choose at least 35s, or idle clients are closed",
    );
    check(
        "drain_timeout = \"1s\"",
        "limits.drain_timeout: a stop ends before the close_timeout of its clients",
    );
}

#[test]
fn rules_that_are_unwise_are_warnings() {
    let check = |auth: &str, rule: &str, expected: &str| {
        check_warning(&keyed(&format!("{auth}[store]\npath = \"a\"\n[[topics]]\n{rule}\n")), expected);
    };
    let open = "pattern = \"a\"\njoin = \"anyone\"\npush = [{ event = \"*\", by = \"anyone\" }]";
    check(
        "anonymous = true\n",
        open,
        "topics[0].push: whoever reaches the server may write to whoever has joined",
    );
    check(
        "",
        open,
        "\"anyone\" is as \"user\" here: without auth.anonymous = true nobody connects without a token",
    );
    check(
        "",
        "pattern = \"a:{sub}\"\njoin = \"user\"",
        "\"user\" lets every user into every other's topic: \"owner\" is the user whom {sub} names",
    );
    check(
        "",
        "pattern = \"a\"\njoin = \"nobody\"\npush = [{ event = \"*\", by = \"user\" }]",
        "topics[0].push: nobody may join, so nobody can push",
    );
    check(
        "",
        "pattern = \"a\"\njoin = \"user\"\npayload_bytes_max = \"1MiB\"",
        "topics[0].payload_bytes_max: no payload is that large: limits.message_bytes_max is 65536",
    );
    let long = "x".repeat(256);
    check(
        "",
        &format!("pattern = \"{long}\"\njoin = \"user\""),
        "topics[0].pattern: no topic is that long: limits.topic_bytes_max is 255",
    );
}

#[test]
fn a_password_may_go_to_this_machine_or_over_tls() {
    let warned = |url: &str| {
        let file = format!("[accounts]\nsource = \"postgres\"\nquery = \"$1\"\nurl = '{url}'\n");
        let warnings = loaded(&keyed(&file)).warnings();
        warnings.iter().any(|warning| warning.message.contains("without TLS"))
    };
    for safe in [
        "postgres://u:p@localhost/app",
        "postgres://u:p@127.0.0.1:5432/app",
        "postgres://u:p@[::1]:5432/app",
        "postgres://u:p@%2Frun%2Fpostgresql/app",
        "postgres://u@db.example.com/app",
        "postgres:///app?host=/run/postgresql&password=p",
        "postgres://u:p@db.example.com/app?sslmode=require",
        "postgres://u:p@db.example.com/app?a=b&sslmode=verify-full",
        "host=/run/postgresql user=u password=p",
        "host=db.example.com user=u",
    ] {
        assert!(!warned(safe), "{safe}");
    }
    for unsafe_url in [
        "postgres://u:p@db.example.com/app",
        "postgres://u:p@localhost,db.example.com/app",
        "postgres://u:p@db.example.com/app?sslmode=prefer",
        "postgres://u:p@localhost.example.com/app",
        "postgres://u@db.example.com/app?password=p",
        "host=db.example.com user=u password=p",
    ] {
        assert!(warned(unsafe_url), "{unsafe_url}");
    }
}

#[test]
fn files_with_secrets_are_listed_and_their_modes_judged() {
    let files = |text: &str| {
        let loaded = loaded(text);
        let files = loaded.secret_files(Some(Path::new("hailer.toml")));
        files.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(files(""), [""; 0]);
    assert_eq!(files(&keyed("[store]\npath = \"db\"\n")), ["s", "db"]);
    assert_eq!(files("[auth]\nsecret = \"a\"\n"), ["hailer.toml"]);
    let keys = "[[auth.keys]]\nalgorithm = \"HS256\"\nfile = \"h\"\n[[auth.keys]]\nalgorithm = \"RS256\"\nfile = \"r\"\n";
    assert_eq!(files(keys), ["h"]);
    let check =
        |mode, expected: bool| assert_eq!(exposed(Path::new("f"), mode).is_some(), expected, "{mode:o}");
    check(0o100_600, false);
    check(0o100_400, false);
    check(0o100_640, true);
    check(0o100_604, true);
    assert_eq!(
        exposed(Path::new("f"), 0o100_644).unwrap(),
        "f: it holds secrets, and others may read it (mode 0644): chmod 600 f"
    );
}

#[test]
fn an_api_that_is_open_to_much_is_a_warning() {
    let check = |file: &str, expected: &str| check_warning(&format!("[api]\n{file}"), expected);
    let far = "listen = \"0.0.0.0:4001\"\n";
    check(
        far,
        "hailer.toml:2:1: api.listen: other machines reach this address without TLS: keys, passwords and messages can be \
         read on the way. Put a proxy with TLS before it, and set admin.tls = true",
    );
    check(
        far,
        "api.hosts: other machines reach this address, but no name that they call it by is listed: requests with one \
         are refused",
    );
    check(far, "api.metrics_open: whoever reaches this address may read how much the server does");
    let careful =
        format!("[api]\n{far}hosts = \"a.example.com\"\nmetrics_open = false\n[admin]\ntls = true\n");
    assert_eq!(loaded(&careful).warnings(), []);
    assert_eq!(loaded("[api]\nlisten = \"off\"\npayload_bytes_max = \"1GiB\"\n").warnings(), []);
    check(
        "[limits]\nrequest_bytes_max = \"1KiB\"\n",
        "api.payload_bytes_max: a payload above limits.request_bytes_max is refused all the same",
    );
    check(
        "payload_bytes_max = \"2MiB\"\n",
        "hailer.toml:2:1: api.payload_bytes_max: a payload as large as this makes every subscriber a slow reader: \
         limits.topic_log_bytes_max is less",
    );
    let mighty = "scopes = [\"publish\", \"disconnect\", \"read\"]\n";
    check_warning(
        &api_key("all", 1, mighty),
        "hailer.toml:4:1: api.keys[0].scopes: this key may do everything, on all topics: give each program a key of its \
         own, with the scopes and topics that it needs",
    );
    for modest in ["scopes = [\"publish\"]\n", &format!("{mighty}topics = [\"a\"]\n")] {
        assert_eq!(loaded(&api_key("a", 1, modest)).warnings(), []);
    }
    check_warning(
        "[admin]\nsession_idle = \"13h\"\n",
        "admin.session_idle: a session ends with session_lifetime all the same, which is less",
    );
}

#[test]
fn messages_that_reach_nobody_or_are_forgotten_are_warnings() {
    let check = |rest: &str, expected: &str| check_warning(&keyed(rest), expected);
    let nobody = "messages.user_topic: no rule of [[topics]] lets users join these topics, so that nobody gets what is \
                  sent to a user";
    check("[messages]\nuser_topic = \"own:{sub}\"\n", nobody);
    check("[[topics]]\npattern = \"news\"\njoin = \"user\"\n", nobody);
    check("[[topics]]\npattern = \"user:{sub}\"\njoin = \"nobody\"\n", nobody);
    for rule in ["user:{sub}", "user:*", "*"] {
        let join = if rule.contains('*') { "user" } else { "owner" };
        let admin = "[admin]\ndefault_topic = \"user:1\"\n";
        let rule = format!("[[topics]]\npattern = \"{rule}\"\njoin = \"{join}\"\n");
        let file = format!("[store]\npath = \"a\"\n{admin}{rule}");
        assert_eq!(loaded(&keyed(&file)).warnings(), [], "{rule}");
    }
    check(
        "[messages]\nlifetime_max = \"91d\"\n",
        "messages.lifetime_max: the record of a message may go before its lifetime is over; it can't be retracted then",
    );
}
