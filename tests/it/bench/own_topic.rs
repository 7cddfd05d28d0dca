//! Load tests leave customers alone, and what is kept for them is no fault of the server.

use serde_json::json;

use super::Run;
use crate::support::{Client, Folder, Hailer, hailer};

const RUN: [&str; 6] = ["--clients", "20", "--messages", "5", "--warm-up", "2"];

/// The demo with its API, on ports of their own.
fn demo(more: &[&str]) -> Hailer {
    Hailer::start(&[&["--api-listen", "127.0.0.1:0", "--shards", "2"], more].concat())
}

fn url(hailer: &Hailer) -> String {
    format!("ws://{}", hailer.address())
}

/// Publishes a message that is kept for who joins later.
fn keep(demo: &Hailer, topic: &str) {
    let (api, key) = (demo.said("API on "), demo.said("API key of this run: "));
    let words = ["publish", topic, "maintenance at noon", "--expires-in", "10m", "--api", &api];
    let output = hailer(&words).env("HAILER_API_KEY", key).output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn messages_of_a_load_test_do_not_reach_customers_in_the_lobby() {
    let demo = demo(&[]);
    let mut customer = Client::joined(demo.address(), "room:lobby");
    for scenario in ["fan-out", "longpoll", "churn"] {
        let more = if scenario == "churn" { &["--rate", "20", "--duration", "1s"][..] } else { &RUN[2..] };
        let url = url(&demo);
        let args = [&[scenario, &url, "--json", "-", "--clients", "20"], more].concat();
        Run::of(&args).good();
    }
    customer.push("room:lobby", "new_msg", &json!({"body": "hello"}));
    assert_eq!(customer.body(), "hello", "it is the first message that the customer gets");
    // Whoever names the lobby means it.
    Run::of(&[&["fan-out", &url(&demo), "--json", "-", "--topic", "room:lobby"], &RUN[..]].concat()).good();
    assert!(customer.body().as_str().is_some_and(|body| body.starts_with('w')));
}

#[test]
fn messages_that_a_topic_keeps_are_counted_apart_and_fail_no_run() {
    for topic in ["room:bench", "room:lobby"] {
        let demo = demo(&[]);
        keep(&demo, topic);
        keep(&demo, topic);
        for (scenario, clients) in [("fan-out", 21), ("longpoll", 21), ("mixed", 21)] {
            let url = url(&demo);
            let args = [&[scenario, &url, "--topic", topic], &RUN[..]].concat();
            let args = [&args[..], &["--churn-rate", "1"]].concat();
            let figures = Run::of(&[&args[..], &["--json", "-"]].concat()).good();
            // Those that come and go get them as well.
            let pushed = figures.number("/deliveries/pushed");
            assert!(
                pushed == 2 * clients || scenario == "mixed" && pushed > 2 * clients,
                "{scenario}: {pushed}"
            );
        }
        let told = Run::of(&[&["fan-out", &url(&demo), "--topic", topic], &RUN[..]].concat());
        assert_eq!(told.code, Some(0), "{} {}", told.stdout, told.stderr);
        let line = "left out        42 messages that the topic keeps for who joins later";
        assert!(told.stdout.lines().any(|found| found == line), "{}", told.stdout);
    }
}

#[test]
fn a_server_that_refuses_the_topic_is_answered_with_the_rule_that_lets_it() {
    let folder = Folder::new("bench-topic");
    assert!(folder.hailer(&["init"]).output().expect("the program starts").status.success());
    let token = folder.hailer(&["token", "--config", "hailer.toml", "--sub", "ada"]).output();
    let token = String::from_utf8(token.expect("the program starts").stdout).expect("it is text");
    let variables = [("HAILER_BENCH_TOKEN", token.trim())];
    let serve = ["serve", "--config", "hailer.toml", "--listen", "127.0.0.1:0"];
    let refusing = Hailer::run(folder.hailer(&serve));
    for scenario in ["fan-out", "idle", "longpoll"] {
        let run = Run::with(&[scenario, &url(&refusing), "--clients", "3", "--duration", "1s"], &variables);
        assert_eq!(run.code, Some(1), "{} {}", run.stdout, run.stderr);
        for words in ["room:bench", "unauthorized", "--topic", "[[topics]]"] {
            assert!(run.stderr.contains(words), "{scenario}: {words}: {}", run.stderr);
        }
    }
    let run = Run::with(&[&["fan-out", &url(&refusing)], &RUN[..]].concat(), &variables);
    let rule: Vec<&str> = run
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("hailer: "))
        .skip_while(|line| *line != "[[topics]]")
        .take(4)
        .collect();
    let config = folder.read("hailer.toml");
    folder.write("hailer.toml", &format!("{config}\n{}\n", rule.join("\n")), 0o600);
    let serving = Hailer::run(folder.hailer(&serve));
    Run::with(&[&["fan-out", &url(&serving), "--json", "-"], &RUN[..]].concat(), &variables).good();
}

#[test]
fn clients_connect_where_the_server_of_the_configuration_listens() {
    let folder = Folder::new("bench-config");
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let port = free.expect("a port is free").port();
    let config = format!("listen = \"localhost:{port}\"\nsocket_path = \"/live\"\n");
    folder.write("hailer.toml", &config, 0o600);
    let _serving = Hailer::run(folder.hailer(&["serve", "--config", "hailer.toml"]));
    let words = [&["bench", "fan-out", "--config", "hailer.toml", "--settle", "10ms"], &RUN[..]].concat();
    let output = folder.hailer(&words).output().expect("the program starts");
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}{why}");
    assert!(said.contains(&format!("to ws://127.0.0.1:{port}/live/websocket")), "{said}");
}
