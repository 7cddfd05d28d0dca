//! `check-config` says yes exactly where `serve` would start.

use std::net::TcpListener;
use std::process::{Command, Output};

use crate::support::{Folder, Hailer, hailer};

const KEYED: &str = "[auth]\nsecret_file = \"s\"\n";
const SECRET: &str = "mW4rKd-7Qz1xT9vB3nLs8pYc2gHf6jRa0uEoXi5tDkNqZwVbMlJyPhGsCfUeAdTr4I6o8S2x1L9k7\n";

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("output is text")
}

/// A folder with this configuration, and a good secret in the file `s`.
fn folder(config: &str) -> Folder {
    let folder = Folder::new("check-config");
    folder.write("hailer.toml", config, 0o600);
    folder.write("s", SECRET, 0o600);
    folder
}

/// The command in a folder, for ports that nobody else has.
fn command(folder: &Folder, name: &str, more: &[&str]) -> Command {
    let mut command = folder.hailer(&[name, "--config", "hailer.toml"]);
    let has = |flag| more.contains(&flag);
    if !has("--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    if !has("--api-listen") {
        command.args(["--api-listen", "127.0.0.1:0"]);
    }
    command.args(more);
    command
}

/// What `check-config` says; its verdict is the last line.
fn verdict(folder: &Folder, more: &[&str]) -> (Option<i32>, String) {
    let output = command(folder, "check-config", more).output().expect("the program starts");
    let said = stderr(&output);
    let last = said.lines().last().unwrap_or_default();
    let yes = output.status.code() == Some(0);
    assert_eq!(last.starts_with("ok: "), yes, "{said}");
    assert_eq!(last.starts_with("not ok: "), !yes, "{said}");
    (output.status.code(), said)
}

#[track_caller]
fn both_say_no(folder: &Folder, more: &[&str], words: &str) {
    let (code, said) = verdict(folder, more);
    assert!(said.contains(words), "{words}: {said}");
    let served = command(folder, "serve", more).output().expect("the program starts");
    let reason = stderr(&served);
    assert_eq!((code, served.status.code()), (Some(1), Some(1)), "{said}{reason}");
    let reason = reason.lines().find(|line| line.starts_with("hailer: ")).expect("a reason is given");
    assert!(said.lines().any(|line| line == reason), "both say the same: {reason}; {said}");
}

#[track_caller]
fn both_say_yes(folder: &Folder, more: &[&str], words: &str) {
    let before = listing(folder);
    let (code, said) = verdict(folder, more);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(words), "{words}: {said}");
    assert_eq!(listing(folder), before, "a check leaves nothing behind");
    Hailer::run(command(folder, "serve", more)).stop();
}

/// The names and lengths of what lies in a folder, without what SQLite keeps beside a store while it is open.
fn listing(folder: &Folder) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(&folder.0).expect("the folder is there");
    let name = |entry: std::fs::DirEntry| {
        let length = entry.metadata().expect("it is there").len();
        (entry.file_name().to_string_lossy().into_owned(), length)
    };
    let mut names: Vec<_> = entries.map(|entry| name(entry.expect("it is listed"))).collect();
    names.retain(|(name, _)| !name.ends_with("-wal") && !name.ends_with("-shm"));
    names.sort();
    names
}

#[test]
fn a_configuration_that_starts_is_ok_and_its_warnings_are_counted() {
    both_say_yes(&folder(""), &[], "ok: the server would start with this, 1 warning");
    let store = "[store]\npath = \"hailer.db\"\n";
    let good = folder(&format!("{KEYED}{store}"));
    both_say_yes(&good, &[], "note: there is no store at hailer.db yet: it will be made");
    // The server has made it.
    both_say_yes(&good, &[], "ok: the server would start with this, 0 warnings");
    both_say_yes(&folder(&format!("{KEYED}{store}[accounts]\nsource = \"store\"\n")), &[], "ok: ");
    both_say_yes(&folder(""), &["--api-listen", "off"], "ok: ");
    // Without a listener that would use it, nobody opens the store of the demo.
    both_say_yes(&folder("[store]\npath = \"gone/hailer.db\"\n"), &["--api-listen", "off"], "ok: ");
}

#[test]
fn accounts_in_postgresql_are_refused_by_a_program_without_it() {
    let accounts =
        "[accounts]\nsource = \"postgres\"\nurl = \"postgres://a@localhost/b\"\nquery = \"select $1\"\n";
    let folder = folder(&format!("{KEYED}{accounts}"));
    if cfg!(feature = "postgres") {
        let (code, said) = verdict(&folder, &[]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("note: whether the database of [accounts] answers"), "{said}");
    } else {
        both_say_no(&folder, &[], "--features postgres");
    }
}

#[test]
fn a_store_that_can_not_be_opened_is_a_problem() {
    for demo in ["", KEYED] {
        let of = |path: &str| folder(&format!("{demo}[store]\npath = \"{path}\"\n"));
        both_say_no(&of("gone/hailer.db"), &[], "its folder is missing");
        both_say_no(&of("."), &[], "is no file");
        both_say_no(&of("s/hailer.db"), &[], "is no file");
        let foreign = of("hailer.db");
        foreign.write("hailer.db", &"some text\n".repeat(500), 0o600);
        both_say_no(&foreign, &[], "is no store of Hailer");
        foreign.write("hailer.db", "", 0o600);
        both_say_no(&foreign, &[], "it is empty");
        assert_eq!(foreign.read("hailer.db"), "");
        let orphaned = of("hailer.db");
        orphaned.write("hailer.db-wal", "what was written last", 0o600);
        both_say_no(&orphaned, &[], "belongs to it");
    }
}

#[test]
fn a_folder_that_can_not_be_written_to_is_a_problem() {
    // /proc takes no new files, whoever asks.
    both_say_no(&folder("[store]\npath = \"/proc/hailer.db\"\n"), &[], "can't be opened");
}

#[test]
fn a_store_of_an_earlier_version_is_left_as_it_is() {
    let folder = folder(&format!("{KEYED}[store]\npath = \"hailer.db\"\n"));
    Hailer::run(command(&folder, "serve", &[])).stop();
    // To SQLite the version is a number in the file's header, at a fixed place (its file format, 1.3).
    let version = |set: Option<u32>| {
        let mut bytes = std::fs::read(folder.file("hailer.db")).expect("the store is there");
        if let Some(version) = set {
            bytes[60..64].copy_from_slice(&version.to_be_bytes());
            std::fs::write(folder.file("hailer.db"), &bytes).expect("it can be written");
        }
        u32::from_be_bytes(bytes[60..64].try_into().expect("four bytes"))
    };
    let current = version(None);
    version(Some(current + 1));
    both_say_no(&folder, &[], "a later version");
    version(Some(current - 1));
    let (code, said) = verdict(&folder, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("of an earlier version: it will be brought up to date"), "{said}");
    assert_eq!(version(None), current - 1);
}

#[test]
fn keys_that_are_no_keys_are_a_problem() {
    let jwks = folder("[auth]\njwks_file = \"jwks.json\"\n");
    both_say_no(&jwks, &[], "can't read jwks.json");
    for (text, words) in [
        ("", "jwks.json is empty"),
        ("{\"keys\": []}", "auth.jwks_file"),
        ("{}", "auth.jwks_file"),
        ("not JSON", "auth.jwks_file"),
    ] {
        jwks.write("jwks.json", text, 0o600);
        both_say_no(&jwks, &[], words);
    }
    let short = folder(KEYED);
    short.write("s", "short\n", 0o600);
    both_say_no(&short, &[], "auth.secret");
    std::fs::remove_file(short.file("s")).expect("it is there");
    both_say_no(&short, &[], "can't read s");
    let pem = folder("[[auth.keys]]\nalgorithm = \"RS256\"\nfile = \"s\"\n");
    both_say_no(&pem, &[], "auth.keys 1");
}

#[test]
fn an_address_that_the_machine_does_not_have_is_a_problem() {
    // TEST-NET-1 (RFC 5737) is no machine's.
    let keyed = folder(KEYED);
    both_say_no(&keyed, &["--listen", "192.0.2.7:4000"], "does not have the address 192.0.2.7");
    both_say_no(&keyed, &["--api-listen", "192.0.2.7:4000"], "does not have the address 192.0.2.7");
    let same = ["--listen", "127.0.0.1:4777", "--api-listen", "127.0.0.1:4777"];
    let (code, said) = verdict(&keyed, &same);
    assert_eq!(
        (code, command(&keyed, "serve", &same).output().expect("it starts").status.code()),
        (Some(2), Some(2))
    );
    assert!(said.contains("clients have this port already"), "{said}");
}

#[test]
fn a_running_server_of_the_same_configuration_is_no_problem() {
    let folder = folder(&format!("{KEYED}[store]\npath = \"hailer.db\"\n"));
    let running = Hailer::run(command(&folder, "serve", &[]));
    let (clients, api) = (running.address().to_string(), running.said("API on http://"));
    let (code, said) = verdict(&folder, &["--listen", &clients, "--api-listen", &api]);
    assert_eq!(code, Some(0), "{said}");
    for key in ["listen: ", "api.listen: "] {
        assert!(said.lines().any(|line| line.starts_with(&format!("note: {key}"))), "{said}");
    }
}

#[test]
fn a_check_accepts_no_connection() {
    // Whoever bound without listening keeps a second listener out only as long as the check lasts.
    let free =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port is free");
    let free = free.to_string();
    let folder = folder("");
    assert_eq!(verdict(&folder, &["--listen", &free]).0, Some(0));
    TcpListener::bind(&free).expect("the check has let go of the port");
}

#[test]
fn io_uring_that_is_refused_is_a_problem_and_not_one_of_ports() {
    for error in ["ENOSYS", "EPERM"] {
        for name in ["check-config", "serve"] {
            let mut command = Command::new("strace");
            let inject = format!("inject=io_uring_setup:error={error}");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e", &inject]);
            command.arg(hailer(&[]).get_program()).args([
                name,
                "--listen",
                "127.0.0.1:0",
                "--api-listen",
                "off",
            ]);
            let output = command.args(["--io-uring", "on"]).output().expect("strace runs");
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("hailer: io_uring = \"on\", but it can't be used"), "{said}");
            assert!(!said.contains("Ports below 1024"), "{said}");
        }
    }
}

#[test]
fn wrong_settings_end_with_a_verdict_too() {
    let folder = folder("listn = 1\nshards = 0\ncheck_origin = [\"https://a/path\"]\n");
    let (code, said) = verdict(&folder, &[]);
    assert_eq!(code, Some(1));
    assert!(said.ends_with("not ok: the server would not start with this, 3 problems\n"), "{said}");
}

#[test]
fn topics_that_nobody_may_join_are_warned_of() {
    let rule = "[[topics]]\npattern = \"room:*\"\njoin = \"user\"\n";
    let of = |settings: &str| verdict(&folder(&format!("{KEYED}{settings}")), &[]).1;
    let said =
        of(&format!("[admin]\ndefault_topic = \"news:all\"\ntopics = [\"room:a\", \"shop:b\"]\n{rule}"));
    for words in ["hailer.toml:4:1: admin.default_topic: ", "hailer.toml:5:1: admin.topics: ", "\"shop:b\""] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("\"room:a\""), "{said}");
    let said = of(&format!("anonymous = true\n{rule}"));
    assert!(said.contains("auth.anonymous: clients without a token may connect, but"), "{said}");
    let said = of(&format!("anonymous = true\n{}", rule.replace("user", "anyone")));
    assert!(!said.contains("auth.anonymous"), "{said}");
    let off = of(&format!("[admin]\nenabled = false\ndefault_topic = \"news:all\"\n{rule}"));
    assert!(!off.contains("default_topic"), "{off}");
}
