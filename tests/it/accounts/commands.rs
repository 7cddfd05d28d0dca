//! `hailer users` and `hailer deny`, as a person or a script runs them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use hailer::server::store::Store;
use serde_json::{Value, json};

use super::support::Folder;
use crate::support::{hailer, hailer_output};

/// Runs the program with a store.
fn run(path: &Path, args: &[&str]) -> Output {
    hailer_output(&[args, &["--store", &*path.to_string_lossy()]].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is text")
}

/// The command succeeds; what it prints.
#[track_caller]
fn done(path: &Path, args: &[&str]) -> String {
    let output = run(path, args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The command ends with this code and a sentence that holds these words; nothing else is printed.
#[track_caller]
fn fails(path: &Path, args: &[&str], code: i32, words: &str) {
    let output = run(path, args);
    let sentence = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {sentence}");
    assert!(sentence.contains(words), "{args:?}: {sentence}");
    assert!(output.stdout.is_empty(), "{args:?}: {}", text(&output.stdout));
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

#[test]
fn users_are_added_listed_and_changed() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    assert_eq!(done(&path, &["users", "add", "ada", "--name", "Ada Lovelace"]), "user ada added\n");
    done(&path, &["users", "add", "bob"]);
    assert_eq!(done(&path, &["users", "disable", "bob"]), "user bob disabled\n");
    let list = done(&path, &["users", "list"]);
    let words: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((words.len(), words[0][0], words[0][1], words[0][5]), (2, "ada", "enabled", "Lovelace"));
    assert_eq!((words[1][0], words[1][1]), ("bob", "disabled"));
    let show = done(&path, &["users", "show", "ada"]);
    assert!(show.contains("name     Ada Lovelace\n") && show.contains("state    enabled\n"), "{show}");
    assert_eq!(done(&path, &["users", "enable", "bob"]), "user bob enabled\n");
    assert_eq!(done(&path, &["users", "remove", "ada"]), "user ada removed\n");
    fails(&path, &["users", "show", "ada"], 1, "there is no user ada");
    done(&path, &["users", "remove", "bob"]);
    assert_eq!(done(&path, &["users", "list"]), "no users\n");
}

#[test]
fn users_are_listed_as_json() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    assert_eq!(
        objects(&done(&path, &["users", "add", "ada", "--json"])),
        [json!({"id": "ada", "done": "added"})]
    );
    let mut store = Store::open(&path).unwrap();
    for number in 0..2500 {
        store.add_user(&format!("user-{number:04}"), None, 7).unwrap();
    }
    let users = objects(&done(&path, &["users", "list", "--json"]));
    assert_eq!(users.len(), 2501, "all pages");
    assert_eq!(
        users[2500],
        json!({"id": "user-2499", "name": null, "disabled": false, "created": 7, "changed": 7})
    );
    assert_eq!(objects(&done(&path, &["users", "show", "user-2499", "--json"])), users[2500..]);
    store.remove_user("ada").unwrap();
}

#[test]
fn tokens_are_denied_listed_and_let_in_again() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let said = done(&path, &["deny", "add", "--sub", "ada", "--issued-before", "2026-11-23T10:00:00Z"]);
    assert!(
        said.starts_with("denial 1: all tokens of ada issued before 2026-11-23 10:00:00Z until "),
        "{said}"
    );
    done(&path, &["deny", "add", "--jti", "t-1", "--for", "1h"]);
    done(&path, &["deny", "add", "--sub", "bob", "--issued-before", "now", "--json"]);
    let list = done(&path, &["deny", "list"]);
    assert!(list.contains("the token t-1\n") && list.lines().count() == 3, "{list}");
    let denials = objects(&done(&path, &["deny", "list", "--json"]));
    let number = |denial: usize, name: &str| denials[denial][name].as_u64().expect("a number");
    assert_eq!((number(0, "issued_before"), &denials[0]["sub"]), (1_795_428_000, &json!("ada")));
    // With what clocks may differ, by default 10 s.
    assert_eq!(number(0, "until") - number(0, "created"), 4 * 7 * 86_400 + 10);
    assert_eq!(number(1, "until") - number(1, "created"), 3610);
    assert_eq!((&denials[1]["sub"], &denials[1]["jti"]), (&Value::Null, &json!("t-1")));
    // Tokens of the same second are meant as well, by a clock that is ahead too.
    assert_eq!(number(2, "issued_before"), number(2, "created") + 11);
    assert_eq!(done(&path, &["deny", "remove", "1", "3"]), "denial 1 removed\ndenial 3 removed\n");
    fails(&path, &["deny", "remove", "1"], 1, "there is no denial 1");
    done(&path, &["deny", "remove", "2"]);
    assert_eq!(done(&path, &["deny", "list"]), "nothing is denied\n");
}

#[test]
fn mistakes_are_told() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    for args in
        [&["users", "list"][..], &["users", "disable", "ada"], &["deny", "list"], &["deny", "remove", "1"]]
    {
        fails(&path, args, 1, "`hailer users add` makes one");
    }
    assert!(folder.names().is_empty(), "a mistyped path does not become a store");
    done(&path, &["users", "add", "ada"]);
    fails(&path, &["users", "add", "ada"], 1, "there is a user ada already");
    fails(&path, &["users", "add", ""], 1, "can't be empty");
    fails(&path, &["users", "add", "a\nb"], 1, "control characters");
    for verb in ["show", "enable", "disable", "remove"] {
        fails(&path, &["users", verb, "eve"], 1, "there is no user eve");
    }
    fails(&path, &["users"], 2, "Usage");
    fails(&path, &["users", "add"], 2, "<ID>");
    fails(&path, &["deny", "add"], 2, "--sub");
    fails(&path, &["deny", "add", "--jti", "t-1", "--issued-before", "now"], 2, "--sub");
    fails(&path, &["deny", "add", "--sub", "ada", "--issued-before", "soon"], 2, "2026-11-23T10:00:00Z");
    fails(&path, &["deny", "add", "--sub", "ada", "--for", "ever"], 2, "4w");
    fails(&path, &["deny", "remove", "x"], 2, "NUMBER");
    fails(folder.path(), &["users", "add", "ada"], 1, "is no file");
    let foreign = folder.file("notes.txt");
    fs::write(&foreign, "mine").unwrap();
    fails(&foreign, &["users", "add", "ada"], 1, "is no store");
    assert_eq!(fs::read(&foreign).unwrap(), b"mine");
    let output = hailer(&["users", "list"]).env_remove("HAILER_STORE_PATH").output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--store"));
}

#[test]
fn the_environment_names_the_store() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let code = |args: &[&str]| {
        let output = hailer(args).env("HAILER_STORE_PATH", &path).output().expect("it runs");
        output.status.code()
    };
    assert_eq!(code(&["users", "add", "ada"]), Some(0));
    // An id may look like an option.
    assert_eq!(code(&["users", "add", "-x"]), Some(2));
    assert_eq!(code(&["users", "add", "--", "-x"]), Some(0));
    assert_eq!(Store::open(&path).unwrap().users(None, 9).unwrap().len(), 2);
}

#[test]
fn what_a_command_writes_another_process_sees() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let mut store = Store::open(&path).unwrap();
    done(&path, &["users", "add", "ada"]);
    assert!(store.changed().unwrap() && !store.changed().unwrap());
    done(&path, &["users", "list"]);
    assert!(!store.changed().unwrap(), "reading is no news");
    done(&path, &["users", "disable", "ada"]);
    assert!(store.changed().unwrap());
    assert!(store.user("ada").unwrap().expect("she was added").disabled);
    done(&path, &["deny", "add", "--sub", "ada"]);
    assert!(store.changed().unwrap());
    assert_eq!(store.denials(0).unwrap().len(), 1);
}

#[test]
fn what_was_acknowledged_outlives_a_kill() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let mut acknowledged = Vec::new();
    let add = |id: &str| {
        let mut command = hailer(&["users", "add", id, "--store", &path.to_string_lossy()]);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs")
    };
    // The first processes make the store, and each is killed somewhere on its way.
    for round in 0..60u32 {
        let id = format!("user-{round}");
        let mut child = add(&id);
        // How far it gets is for the scheduler to say; every fourth is let through.
        for _ in 0..(round * 37) % 200 {
            std::thread::yield_now();
        }
        if !round.is_multiple_of(4) {
            child.kill().expect("it is a child");
        }
        let output = child.wait_with_output().expect("it ends");
        if text(&output.stdout).contains("added") {
            acknowledged.push(id);
        }
    }
    assert!(acknowledged.len() >= 15, "{acknowledged:?}");
    let store = Store::open(&path).expect("it is sound");
    for id in acknowledged {
        assert!(store.user(&id).unwrap().is_some(), "{id}");
    }
}

/// Makes a command run as somebody who may not write everywhere.
fn unprivileged(program: &Path) -> Command {
    if fs::metadata("/proc/self").expect("the kernel tells").uid() != 0 {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    command
}

#[test]
fn a_folder_that_may_not_be_written_is_told() {
    let folder = Folder::new();
    let program = folder.file("hailer");
    fs::copy(hailer(&[]).get_program(), &program).expect("the program can be copied");
    let closed = folder.file("closed");
    fs::create_dir(&closed).unwrap();
    let path = closed.join("hailer.db");
    drop(Store::open(&path).unwrap());
    let check = |path: &Path, args: &[&str]| {
        let output = unprivileged(&program).args(args).arg("--store").arg(path).output().expect("it runs");
        let sentence = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{sentence}");
        assert!(sentence.contains("can't be opened") && sentence.contains("to whom"), "{sentence}");
    };
    fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
    for mode in [0o444, 0o666, 0o000] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        check(&path, &["users", "list"]);
        check(&path, &["users", "add", "ada"]);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
    }
    check(&closed.join("other.db"), &["users", "add", "ada"]);
    fs::set_permissions(&closed, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert!(Store::open(&path).is_ok());
}
