//! Commands that change what the server of the configuration takes no notice of say so.

use crate::support::Folder;

const KEYED: &str = "[auth]\nsecret_file = \"s\"\n[store]\npath = \"hailer.db\"\n";
const SECRET: &str = "mW4rKd-7Qz1xT9vB3nLs8pYc2gHf6jRa0uEoXi5tDkNqZwVbMlJyPhGsCfUeAdTr4I6o8S2x1L9k7\n";

fn folder(config: &str) -> Folder {
    let folder = Folder::new("no-effect");
    folder.write("hailer.toml", config, 0o600);
    folder.write("s", SECRET, 0o600);
    folder
}

/// Runs a command that must succeed; what it says on stderr.
#[track_caller]
fn said(folder: &Folder, command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let output = folder.hailer(&words).env_remove("HAILER_API_LISTEN").output().expect("the program starts");
    let said = String::from_utf8(output.stderr).expect("output is text");
    assert_eq!(output.status.code(), Some(0), "{command}: {said}");
    said
}

#[track_caller]
fn check(folder: &Folder, command: &str, expected: Option<&str>) {
    let said = said(folder, command);
    match expected {
        Some(words) => {
            assert!(said.starts_with("warning: ") && said.contains(words), "{command}: {said}");
            assert_eq!(said.lines().count(), 1, "{command}: {said}");
        }
        None => assert_eq!(said, "", "{command}"),
    }
}

#[test]
fn users_who_are_disabled_although_nobody_is_looked_up_are_warned_of() {
    let without = folder(KEYED);
    check(&without, "users add bob --config hailer.toml", Some("it looks no user up"));
    check(&without, "users disable bob --config hailer.toml", Some("source = \"store\""));
    check(&without, "users enable bob --config hailer.toml", Some("no effect"));
    check(&without, "users remove bob --config hailer.toml", Some("no effect"));
    // Without a configuration nothing is known of a server.
    check(&without, "users add bob --store hailer.db", None);
    check(&without, "users list --config hailer.toml", None);
    let with = folder(&format!("{KEYED}[accounts]\nsource = \"store\"\n"));
    check(&with, "users add bob --config hailer.toml", None);
    check(&with, "users disable bob --config hailer.toml", None);
    check(&with, "users disable bob --config hailer.toml --store ./hailer.db", None);
    check(&with, "users add bob --config hailer.toml --store other.db", Some("its store is hailer.db"));
    let postgres =
        "[accounts]\nsource = \"postgres\"\nurl = \"postgres://a@localhost/b\"\nquery = \"select $1\"\n";
    let postgres = folder(&format!("{KEYED}{postgres}"));
    check(&postgres, "users add bob --config hailer.toml", Some("in PostgreSQL"));
}

#[test]
fn denials_that_no_server_reads_are_warned_of() {
    let keyed = folder(KEYED);
    check(&keyed, "deny add --sub bob --config hailer.toml", None);
    check(&keyed, "deny add --sub bob --config hailer.toml --store other.db", Some("its store is hailer.db"));
    let bare = folder("[auth]\nsecret_file = \"s\"\n");
    check(&bare, "deny add --sub bob --config hailer.toml --store hailer.db", Some("has no store"));
    let demo = folder("[store]\npath = \"hailer.db\"\n");
    check(&demo, "deny add --sub bob --config hailer.toml", Some("asks nobody for a token"));
}

#[test]
fn staff_without_a_back_office_is_warned_of() {
    let add = "staff add ada --config hailer.toml";
    for (config, expected) in [
        (KEYED.to_owned(), None),
        (format!("{KEYED}[api]\nlisten = \"off\"\n"), Some("api.listen = \"off\"")),
        (format!("{KEYED}[admin]\nenabled = false\n"), Some("admin.enabled = false")),
    ] {
        let folder = folder(&config);
        folder.write("password", "a long and good password\n", 0o600);
        let stdin = std::fs::File::open(folder.file("password")).expect("it is there");
        let words: Vec<&str> = add.split(' ').collect();
        let mut command = folder.hailer(&words);
        let output =
            command.env_remove("HAILER_API_LISTEN").stdin(stdin).output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(expected.is_none(), said.is_empty(), "{said}");
        assert!(expected.is_none_or(|words| said.contains(words)), "{said}");
    }
}

#[test]
fn a_key_for_an_api_that_is_off_is_warned_of() {
    let off = folder(&format!("{KEYED}[api]\nlisten = \"off\"\n"));
    let told = said(&off, "api-key orders --config hailer.toml");
    assert!(
        told.contains("warning: this has no effect on the server of hailer.toml: it has no API"),
        "{told}"
    );
    let told = said(&off, "api-key orders");
    assert!(!told.contains("warning"), "{told}");
    let lines =
        told.lines().skip_while(|line| !line.starts_with("[[api.keys]]")).collect::<Vec<_>>().join("\n");
    let has_one = folder(&format!("{KEYED}{lines}\n"));
    let told = said(&has_one, "api-key orders --config hailer.toml");
    assert!(told.contains("has a key of the name orders already"), "{told}");
    let told = said(&has_one, "api-key others --config hailer.toml");
    assert!(!told.contains("warning"), "{told}");
}

#[test]
fn a_token_that_the_server_would_refuse_is_warned_of() {
    let keyed = folder(KEYED);
    check(&keyed, "token --sub ada --config hailer.toml", None);
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/ed25519.pem"), keyed.file("key.pem"))
        .expect("it is there");
    let other = "token --sub ada --config hailer.toml --key key.pem --algorithm EdDSA";
    check(&keyed, other, Some("the server of this configuration would refuse this token"));
    let public = folder("[[auth.keys]]\nalgorithm = \"EdDSA\"\nfile = \"public.pem\"\n");
    for (from, to) in [("ed25519.pub.pem", "public.pem"), ("ed25519.pem", "key.pem")] {
        let from = format!("{}/tests/keys/{from}", env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(from, public.file(to)).expect("it is there");
    }
    check(&public, other, None);
    let output =
        public.hailer(&["token", "--sub", "ada", "--config", "hailer.toml"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("public ones, which verify tokens and can't sign them"), "{said}");
}
