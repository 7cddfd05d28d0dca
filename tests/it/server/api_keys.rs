//! `hailer api-key`: keys are made, and the configuration gets their hashes.

use std::io::Write;
use std::process::Stdio;

use crate::support::Folder;
use crate::support::{hailer, hailer_output};

/// Makes a key: the key, and the lines for the configuration.
#[track_caller]
fn made(args: &[&str]) -> (String, String) {
    let output = hailer_output(&[&["api-key"], args].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is text");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let key = stdout.strip_suffix('\n').expect("a line").to_owned();
    assert!(!stderr.contains(&key), "the key is said once: {stderr}");
    let at = stderr.find("[[api.keys]]").expect("there are lines");
    (key, stderr[at..].to_owned())
}

/// What `--hash` says of a text on stdin: exit code, stdout, stderr.
fn hashed(text: &str) -> (Option<i32>, String, String) {
    let mut command = hailer(&["api-key", "--hash"]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    child.stdin.take().expect("stdin is a pipe").write_all(text.as_bytes()).expect("it is read");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_key_is_printed_once_and_the_configuration_gets_its_hash() {
    let (key, lines) =
        made(&["orders", "--scope", "publish", "--scope", "read", "--topic", "room:*", "--topic", "u:{sub}"]);
    let random = key.strip_prefix("hlr_").expect("a prefix");
    assert!(
        random.len() == 43
            && random.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
        "{key}"
    );
    let (code, hash, _) = hashed(&format!("{key}\r\n"));
    assert_eq!(code, Some(0));
    let expected = format!(
        "[[api.keys]]\nname = \"orders\"\nhash = \"{}\"\nscopes = [\"publish\", \"read\"]\ntopics = [\"room:*\", \"u:{{sub}}\"]\n",
        hash.trim_end()
    );
    assert_eq!(lines, expected);

    let (other, others) = made(&["a \"b\""]);
    assert_ne!(key, other);
    assert!(others.contains("scopes = [\"publish\"]") && !others.contains("topics"), "{others}");

    let folder = Folder::new("api-keys");
    folder.write("hailer.toml", &format!("{lines}\n{others}"), 0o600);
    let output =
        folder.hailer(&["check-config", "--config", "hailer.toml"]).output().expect("the program starts");
    let report = String::from_utf8(output.stdout).expect("output is text");
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert!(report.contains(hash.trim_end()) && report.contains("u:{sub}"), "{report}");
}

#[test]
fn the_hash_is_sha_256() {
    // `printf %s hlr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA | sha256sum`
    let (code, stdout, _) = hashed(&format!("hlr_{}\n", "A".repeat(43)));
    assert_eq!(
        (code, &*stdout),
        (Some(0), "sha256:fa83881a2e2747d884b144b6c163ecafd28da379160d7256d3bef3ef5f6b4672\n")
    );
}

#[test]
fn what_is_no_key_has_no_hash() {
    let check = |text: &str, expected: &str| {
        let (code, stdout, stderr) = hashed(text);
        assert_eq!((code, &*stdout), (Some(1), ""));
        assert!(stderr.contains(expected), "{stderr}");
        assert!(text.trim().is_empty() || !stderr.contains(text.trim()), "{stderr}");
    };
    check("", "expected one key");
    check("two words and some more so that it is long enough", "expected one key");
    check("short-password", "could be guessed");
}

#[test]
fn wrong_arguments_make_no_key() {
    for args in [
        &[][..],
        &["a", "--scope", "all"],
        &["a", "--topic", "a*b"],
        &["a", "--hash"],
        &["--hash", "--scope", "read"],
        &[""],
        &["a\nb"],
    ] {
        let output = hailer_output(&[&["api-key"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}
