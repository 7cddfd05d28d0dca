//! Commands find the API by the configuration that the server has.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::{Client, Folder, Hailer};

/// A folder with a server of this configuration, whose API has the port in the place of PORT, and the port.
fn start(config: &str) -> (Folder, Hailer, u16) {
    let folder = Folder::new("api-found");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let port = free.expect("a port is free").port();
    folder.write("hailer.toml", &config.replace("PORT", &port.to_string()), 0o600);
    let mut serve = folder.hailer(&["serve", "--config", "hailer.toml", "--listen", "127.0.0.1:0"]);
    let hailer = Hailer::run({
        serve.env_remove("HAILER_API_LISTEN");
        serve
    });
    folder.write("key", &hailer.said("API key of this run: "), 0o600);
    (folder, hailer, port)
}

/// Runs a command with the key: exit code, stdout, stderr.
fn run(folder: &Folder, words: &str, variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let words: Vec<&str> = words.split(' ').chain(["--key-file", "key"]).collect();
    let mut command = folder.hailer(&words);
    let output = command.env_remove("HAILER_API_LISTEN").envs(variables.iter().copied()).output();
    let output = output.expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it is text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_command_finds_the_api_of_the_configuration() {
    for listen in ["127.0.0.1:PORT", "0.0.0.0:PORT", "localhost:PORT"] {
        let (folder, hailer, _) = start(&format!("[api]\nlisten = \"{listen}\"\n"));
        let mut client = Client::joined(hailer.address(), "room:lobby");
        let (code, said, why) = run(&folder, "publish room:lobby hello --config hailer.toml", &[]);
        assert_eq!(code, Some(0), "{said}{why}");
        assert_eq!(client.body(), "hello");
        for command in ["topics", "connections", "top --once --interval 100ms", "disconnect ada"] {
            let (code, said, why) = run(&folder, &format!("{command} --config hailer.toml"), &[]);
            assert_eq!(code, Some(0), "{command}: {said}{why}");
        }
        let (code, said, why) = run(&folder, "topics", &[("HAILER_CONFIG", "hailer.toml")]);
        assert_eq!(code, Some(0), "{said}{why}");
    }
}

#[test]
fn what_is_said_on_the_command_line_goes_before_the_configuration() {
    let (folder, _hailer, port) = start("[api]\nlisten = \"127.0.0.1:PORT\"\n");
    let api = format!("http://127.0.0.1:{port}");
    // Nobody has the port 1.
    folder.write("other.toml", "[api]\nlisten = \"127.0.0.1:1\"\n", 0o600);
    let check = |words: &str, variables: &[(&str, &str)], good: bool| {
        let (code, said, why) = run(&folder, words, variables);
        assert_eq!(code, Some(i32::from(!good)), "{words}: {said}{why}");
    };
    check(&format!("topics --config other.toml --api {api}"), &[], true);
    check("topics --config other.toml", &[("HAILER_API", &api)], true);
    check("topics --config hailer.toml --api http://127.0.0.1:1", &[], false);
    check("topics --config other.toml", &[], false);
    let listen = format!("127.0.0.1:{port}");
    check("topics --config other.toml", &[("HAILER_API_LISTEN", &listen)], true);
    check("topics", &[("HAILER_API_LISTEN", &listen)], true);
}

#[test]
fn a_configuration_without_an_api_is_said_to_have_none() {
    let folder = Folder::new("api-found");
    folder.write("key", "hlr_abc", 0o600);
    folder.write("off.toml", "[api]\nlisten = \"off\"\n", 0o600);
    folder.write("any.toml", "[api]\nlisten = \"127.0.0.1:0\"\n", 0o600);
    for (file, words) in [("off.toml", "has no API"), ("any.toml", "a port that the system chooses")] {
        let (code, _, why) = run(&folder, &format!("topics --config {file}"), &[]);
        assert_eq!(code, Some(1), "{why}");
        assert!(why.contains(words) && why.contains("--api URL"), "{why}");
    }
}

#[test]
fn who_uses_the_api_need_not_be_able_to_read_the_secrets_of_the_server() {
    let (folder, _hailer, port) = start("[api]\nlisten = \"127.0.0.1:PORT\"\n");
    let config = format!("[auth]\nsecret_file = \"out-of-reach\"\n[api]\nlisten = \"127.0.0.1:{port}\"\n");
    folder.write("hailer.toml", &config, 0o600);
    let (code, said, why) = run(&folder, "topics --config hailer.toml --json", &[]);
    assert_eq!((code, serde_json::from_str::<Value>(&said).is_err()), (Some(0), true), "{said}{why}");
}
