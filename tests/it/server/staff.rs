//! `hailer staff`, as a person or a script runs it.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use hailer::auth::connect::Secret;
use hailer::auth::password::verify;
use hailer::desk::{AuditEntry, AuditQuery};
use hailer::server::store::Store;
use serde_json::{Value, json};

use crate::support::Folder;
use crate::support::hailer;

const PASSWORD: &str = "M4rked correct horse";
const CONFIG: &str = "[store]\npath = \"hailer.db\"\n";

fn folder() -> Folder {
    let folder = Folder::new("staff");
    folder.write("hailer.toml", CONFIG, 0o600);
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is text")
}

/// Runs the program with the configuration, and gives it this on stdin.
fn run(folder: &Folder, args: &[&str], stdin: &[u8]) -> Output {
    let mut command = folder.hailer(&[&["staff"], args, &["--config", "hailer.toml"]].concat());
    // A back office that is off would be warned of.
    command.env_remove("HAILER_API_LISTEN");
    command.env_remove("SUDO_USER").env("LOGNAME", "operator");
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the program starts");
    // Most commands don't read it.
    let _ = child.stdin.take().expect("it is a pipe").write_all(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(!said.contains("M4rked") && !said.contains("$argon2"), "{args:?}: {said}");
    output
}

/// The command succeeds; what it prints.
#[track_caller]
fn done(folder: &Folder, args: &[&str], stdin: &str) -> String {
    let output = run(folder, args, stdin.as_bytes());
    assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The command fails with a sentence that holds these words, and changes nothing.
#[track_caller]
fn fails(folder: &Folder, args: &[&str], stdin: &[u8], words: &str) {
    let before = audit(folder);
    let output = run(folder, args, stdin);
    let sentence = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {sentence}");
    assert!(sentence.contains(words) && output.stdout.is_empty(), "{args:?}: {sentence}");
    assert_eq!(audit(folder), before, "{args:?}");
}

fn store(folder: &Folder) -> Store {
    Store::open_existing(folder.0.join("hailer.db")).expect("there is a store")
}

fn audit(folder: &Folder) -> Vec<AuditEntry> {
    let query = AuditQuery { limit: 100, ..AuditQuery::default() };
    Store::open(folder.0.join("hailer.db")).expect("it opens").audit(&query).expect("it is readable")
}

fn has_password(folder: &Folder, name: &str, password: &str) -> bool {
    let account = store(folder).staff(name).unwrap().expect("there is such an account");
    verify(&Secret::new(password), &account.password_hash)
}

#[test]
fn accounts_are_added_listed_and_changed() {
    let folder = folder();
    let other = "M4rked battery staple";
    assert_eq!(done(&folder, &["add", "ada"], &format!("{PASSWORD}\n")), "staff ada added\n");
    assert_eq!(done(&folder, &["add", "Bob B."], &format!("{PASSWORD}\r\nmore")), "staff Bob B. added\n");
    assert!(has_password(&folder, "ada", PASSWORD) && has_password(&folder, "Bob B.", PASSWORD));
    let hashes = ["ada", "Bob B."].map(|name| store(&folder).staff(name).unwrap().unwrap().password_hash);
    assert_ne!(hashes[0], hashes[1], "each has a salt of its own");
    assert_eq!(done(&folder, &["password", "ada"], other), "staff ada has another password\n");
    assert!(has_password(&folder, "ada", other) && !has_password(&folder, "ada", PASSWORD));
    assert_eq!(done(&folder, &["disable", "ada"], ""), "staff ada disabled\n");
    let list = done(&folder, &["list"], "");
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines[0].starts_with("Bob B.  enabled   2"), "{list}");
    assert!(lines[1].starts_with("ada     disabled  2") && lines.len() == 2, "{list}");
    assert_eq!(done(&folder, &["enable", "ada"], ""), "staff ada enabled\n");
    let said = done(&folder, &["remove", "Bob B.", "--json"], "");
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), json!({"name": "Bob B.", "done": "removed"}));
    let ada: Value = serde_json::from_str(&done(&folder, &["list", "--json"], "")).unwrap();
    let created = ada["created"].as_u64().expect("a time");
    assert_eq!(ada, json!({"name": "ada", "disabled": false, "created": created}));
    done(&folder, &["remove", "ada"], "");
    assert!(done(&folder, &["list"], "").starts_with("no staff"));

    let entries = audit(&folder);
    let actions: Vec<_> = entries.iter().rev().map(|entry| (&*entry.action, &*entry.subject)).collect();
    let expected = [
        ("staff_add", "ada"),
        ("staff_add", "Bob B."),
        ("staff_password", "ada"),
        ("staff_disable", "ada"),
        ("staff_enable", "ada"),
        ("staff_remove", "Bob B."),
        ("staff_remove", "ada"),
    ];
    assert_eq!(actions, expected);
    for entry in entries {
        assert_eq!((&*entry.actor, &*entry.address), ("local:operator", ""));
        assert!(entry.at / 1000 >= created, "{entry:?}");
    }
}

#[test]
fn what_cannot_be_is_a_sentence_and_changes_nothing() {
    let folder = folder();
    done(&folder, &["add", "ada"], PASSWORD);
    fails(&folder, &["add", "ada"], b"M4rked another one", "there is an account of staff ada already");
    fails(&folder, &["add", "bob"], b"M4rked", "at least 12 characters");
    fails(&folder, &["add", "bob"], b"", "no password on stdin");
    fails(&folder, &["add", "bob"], b"\n", "at least 12 characters");
    fails(&folder, &["add", "bob"], b"M4rked \xff and more", "UTF-8");
    fails(&folder, &["add", "bob"], b"M4rked\tcorrect horse", "control characters");
    fails(&folder, &["add", "M4rked correct horse"], PASSWORD.to_lowercase().as_bytes(), "account's name");
    fails(&folder, &["add", "bob "], PASSWORD.as_bytes(), "can't begin or end with a space");
    fails(&folder, &["add", ""], PASSWORD.as_bytes(), "can't be empty");
    for command in ["password", "disable", "enable", "remove"] {
        fails(&folder, &[command, "eve"], PASSWORD.as_bytes(), "there is no account of staff eve");
    }
    fails(&folder, &["password", "ada"], b"short", "at least 12 characters");
    assert!(has_password(&folder, "ada", PASSWORD));
    assert_eq!(store(&folder).all_staff().unwrap().len(), 1);
    // A password is no argument, where everybody could read it.
    let output = run(&folder, &["add", "bob", "correct horse"], b"");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn without_a_store_there_is_no_staff() {
    let folder = Folder::new("staff");
    folder.write("hailer.toml", "", 0o600);
    for args in [&["list"][..], &["add", "ada"]] {
        let output = run(&folder, args, PASSWORD.as_bytes());
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("store.path"), "{}", text(&output.stderr));
    }
    folder.write("hailer.toml", CONFIG, 0o600);
    let output = run(&folder, &["list"], b"");
    assert!(text(&output.stderr).contains("there is no store"), "{}", text(&output.stderr));
}

/// Runs `hailer staff add` at a terminal and types these lines, each when it is asked for; what the terminal shows.
fn typed(folder: &Folder, name: &str, lines: [&str; 2]) -> Option<(bool, String)> {
    let program = hailer(&[]).get_program().to_string_lossy().into_owned();
    let command = format!("'{program}' staff add {name} --config hailer.toml");
    // Nobody else ends a program that asks for something else.
    let mut script = Command::new("timeout");
    script
        .args(["60", "script", "--quiet", "--return", "--command", &command, "/dev/null"])
        .current_dir(&folder.0);
    let started = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child =
        started.inspect_err(|error| println!("skipped: no terminal without script: {error}")).ok()?;
    let mut keyboard = child.stdin.take().expect("it is a pipe");
    let mut screen = child.stdout.take().expect("it is a pipe");
    let mut shown = Vec::new();
    let mut asked = ["Password: ", "The same again: "].into_iter().zip(lines);
    let mut next = asked.next();
    let mut byte = [0];
    while screen.read(&mut byte).is_ok_and(|read| read > 0) {
        shown.push(byte[0]);
        if let Some((_, line)) = next.filter(|(question, _)| shown.ends_with(question.as_bytes())) {
            keyboard.write_all(format!("{line}\r").as_bytes()).expect("the terminal is there");
            next = asked.next();
        }
    }
    assert!(next.is_none(), "it has not asked twice: {}", text(&shown));
    Some((child.wait().expect("it ends").success(), text(&shown)))
}

#[test]
fn a_password_is_typed_twice_at_a_terminal() {
    let folder = folder();
    let Some((added, screen)) = typed(&folder, "ada", [PASSWORD, PASSWORD]) else { return };
    assert!(added && screen.contains("staff ada added"), "{screen}");
    assert!(has_password(&folder, "ada", PASSWORD));
    let (added, screen) =
        typed(&folder, "bob", [PASSWORD, "M4rked another one"]).expect("it has just worked");
    assert!(!added && screen.contains("differ"), "{screen}");
    assert_eq!(store(&folder).staff("bob").unwrap(), None);
}
