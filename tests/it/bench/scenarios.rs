//! Each scenario against the real server.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use super::Run;
use crate::support::{Folder, Hailer, hailer};

fn url(hailer: &Hailer) -> String {
    format!("ws://{}", hailer.address())
}

/// A run of a scenario against a server of its own.
#[track_caller]
fn run(scenario: &str, args: &[&str]) -> super::Figures {
    let hailer = Hailer::start(&["--shards", "2", "--topic", "user:*"]);
    let (url, pid) = (url(&hailer), hailer.pid().to_string());
    Run::of(&[&[scenario, &url, "--json", "-", "--pid", &pid], args].concat()).good()
}

#[test]
fn every_subscriber_gets_every_message_of_a_closed_loop() {
    let figures = run("fan-out", &["--clients", "60", "--messages", "20", "--warm-up", "3"]);
    assert_eq!(figures.at("/scenario"), "fan-out");
    assert_eq!(figures.at("/protocol"), "phoenix");
    assert_eq!(figures.number("/connecting/joined"), 60);
    assert_eq!(figures.number("/publishing/published"), 20);
    // Who publishes has joined as well.
    assert_eq!(figures.number("/deliveries/received"), 61 * 23);
    assert_eq!(figures.number("/deliveries/latency/count"), 61 * 20);
    assert_eq!(figures.number("/deliveries/last/count"), 20);
    assert_eq!(figures.number("/connecting/upgrade/count"), 61);
    assert_eq!(figures.number("/connecting/join/count"), 61);
    assert!(figures.at("/server/micros_per_delivery").as_f64().is_some_and(|micros| micros > 0.0));
    assert!(figures.number("/server/measured/rss_bytes") > 0);
    assert!(figures.number("/generator/rss_bytes") > 0);
}

#[test]
fn a_schedule_publishes_as_many_messages_as_it_has_places() {
    let args = ["--clients", "10", "--rate", "500", "--messages", "100", "--warm-up", "0", "--bytes", "512"];
    let figures = run("fan-out", &args);
    assert_eq!(figures.number("/publishing/published"), 100);
    assert_eq!(figures.at("/publishing/wanted_per_second"), 500.0);
    assert_eq!(figures.number("/deliveries/received"), 11 * 100);
}

#[test]
fn bursts_come_whole_and_in_order() {
    let args = ["--clients", "20", "--burst", "50", "--messages", "120", "--warm-up", "0"];
    let figures = run("burst", &args);
    assert_eq!(figures.number("/publishing/published"), 120);
    assert_eq!(figures.number("/deliveries/received"), 21 * 120);
}

/// A run that does what it is told.
struct OnDemand {
    bench: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl OnDemand {
    fn start(args: &[&str]) -> Self {
        let always = ["--settle", "10ms", "--on-demand", "--quiet", "--json", "-"];
        let mut bench = hailer(&[&["bench"], args, &always].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdin = bench.stdin.take().expect("it is piped");
        let stdout = BufReader::new(bench.stdout.take().expect("it is piped"));
        Self { bench, stdin, stdout }
    }

    fn ask(&mut self, count: u32) -> Value {
        writeln!(self.stdin, "{count}").expect("it reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it answers");
        let served: Value = serde_json::from_str(&line).expect("it is JSON");
        assert!(served["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{line}");
        assert!(served["server_cpu_micros"].as_u64().is_some_and(|micros| micros > 0), "{line}");
        served
    }

    /// The figures of all of it.
    fn end(mut self) -> super::Figures {
        drop(self.stdin);
        let figures = super::Figures(serde_json::from_reader(self.stdout).expect("figures come behind"));
        assert!(self.bench.wait().expect("it ends").success());
        figures
    }
}

#[test]
fn messages_are_published_as_they_are_demanded() {
    let server = Hailer::start(&["--shards", "2"]);
    let (url, pid) = (url(&server), server.pid().to_string());
    let args = ["fan-out", &url, "--clients", "10", "--warm-up", "0", "--pid", &pid];
    let mut on_demand = OnDemand::start(&args);
    for messages in [2, 5] {
        let served = on_demand.ask(messages);
        assert_eq!((&served["deliveries"], &served["clients"]), (&json!(messages * 11), &json!(0)));
    }
    let figures = on_demand.end();
    assert_eq!(figures.number("/publishing/published"), 7);
    assert_eq!(figures.number("/deliveries/received"), 7 * 11);
}

#[test]
fn clients_go_and_come_back_as_it_is_demanded() {
    let server = Hailer::start(&["--shards", "2"]);
    let (url, pid) = (url(&server), server.pid().to_string());
    let mut on_demand = OnDemand::start(&["idle", &url, "--clients", "30", "--pid", &pid]);
    for (wanted, clients) in [(20, 20), (1_000, 30)] {
        let served = on_demand.ask(wanted);
        assert_eq!((&served["clients"], &served["deliveries"]), (&json!(clients), &json!(0)));
    }
    let figures = on_demand.end();
    assert_eq!(figures.number("/connecting/joined"), 30);
    assert_eq!(figures.errors(), BTreeMap::new());
    let told = figures.at("/settings").as_object().expect("an object");
    assert_eq!((&told["on-demand"], told.get("warm-up")), (&json!("yes"), None), "nothing is published");
}

#[test]
fn idle_clients_send_heartbeats() {
    let figures = run("idle", &["--clients", "15", "--duration", "1s", "--heartbeat", "200ms"]);
    assert!(figures.number("/heartbeats/count") >= 15, "{:#}", figures.0);
    assert!(figures.at("/publishing").is_null());
    assert!(!figures.at("/series").as_array().expect("a list").is_empty());
}

#[test]
fn a_private_message_comes_to_its_user_alone() {
    let args = ["--clients", "20", "--messages", "50", "--warm-up", "0", "--own-topic", "user:{n}"];
    let figures = run("private", &args);
    assert_eq!(figures.number("/deliveries/received"), 50);
}

#[test]
fn others_come_and_go_beside_those_that_stay() {
    let args =
        ["--clients", "10", "--churn-rate", "100", "--rate", "50", "--messages", "20", "--duration", "400ms"];
    let figures = run("churn", &args);
    let returns = figures.number("/returns/back");
    assert!(returns > 10, "{returns}");
    assert_eq!(figures.number("/returns/gone"), returns);
}

#[test]
fn a_herd_that_was_cut_comes_back_and_hears_again() {
    let figures = run("herd", &["--clients", "40", "--cut", "--messages", "4", "--warm-up", "2"]);
    assert_eq!(figures.number("/returns/gone"), 41);
    assert_eq!(figures.number("/returns/back"), 41);
    assert_eq!(figures.number("/deliveries/received"), 41 * 6);
    assert!(figures.at("/server/micros_per_join").as_f64().is_some_and(|micros| micros > 0.0));
    assert!(figures.at("/server/micros_per_delivery").is_null(), "coming back is no delivery");
}

#[test]
fn a_herd_comes_back_after_a_restart() {
    let mut first = Hailer::start(&[]);
    let (address, url) = (first.address().to_string(), url(&first));
    let args = ["bench", "herd", &url, "--json", "-", "-c", "20", "--settle", "10ms", "-m", "3"];
    let mut command = hailer(&args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut told =
        BufReader::new(child.stderr.take().expect("stderr is a pipe")).lines().map_while(Result::ok);
    assert!(told.any(|line| line.starts_with("measuring")), "all are in");
    first.stop();
    let _second = Hailer::run(hailer(&["serve", "--listen", &address]));
    let told: Vec<String> = told.collect();
    let output = child.wait_with_output().expect("the program ends");
    let stdout = String::from_utf8(output.stdout).expect("it is text");
    let run = Run { code: output.status.code(), stdout, stderr: told.join("\n") };
    let figures = run.good();
    assert_eq!(figures.number("/returns/gone"), 21);
    assert_eq!(figures.number("/returns/back"), 21);
    assert_eq!(figures.number("/deliveries/received"), 21 * 8);
}

#[test]
fn it_is_told_what_became_of_slow_readers() {
    // The log holds three messages of 16 KiB, and one reader in five can't have more waiting.
    let hailer =
        Hailer::start(&["--limit", "topic_log_bytes_max=64KiB", "--limit", "send_buffer_bytes=4096"]);
    let args = ["slow-readers", &url(&hailer), "--json", "-", "--clients", "20", "--slow-percent", "20"];
    let run = Run::of(&[&args[..], &["--bytes", "16384", "--messages", "300"]].concat());
    let figures = run.good();
    assert_eq!(figures.number("/slow/readers"), 4);
    assert_eq!(figures.number("/slow/closed/4008"), 4, "{:#}", figures.0);
    assert_eq!(figures.number("/slow/caught_up"), 0);
}

#[test]
fn clients_on_long_poll_get_everything() {
    let figures = run("longpoll", &["--clients", "12", "--messages", "10", "--warm-up", "0"]);
    assert_eq!(figures.number("/connecting/joined"), 12);
    assert_eq!(figures.number("/deliveries/received"), 13 * 10);
}

#[test]
fn a_mixed_load_has_all_of_it() {
    let args = [
        "--clients",
        "20",
        "--poll-percent",
        "25",
        "--churn-rate",
        "50",
        "--rate",
        "40",
        "--duration",
        "500ms",
    ];
    let figures = run("mixed", &args);
    assert_eq!(figures.number("/connecting/joined"), 20);
    assert!(figures.number("/returns/back") > 0);
    assert!(figures.number("/publishing/published") > 0);
}

#[test]
fn several_processes_tell_one_story() {
    for (scenario, args) in [
        ("fan-out", &["--warm-up", "2"][..]),
        ("burst", &["--burst", "5", "--warm-up", "0"]),
        ("fan-out", &["--rate", "200", "--warm-up", "0"]),
    ] {
        let common = ["--clients", "31", "--messages", "20", "--processes", "3"];
        let figures = run(scenario, &[&common, args].concat());
        assert_eq!(figures.number("/connecting/joined"), 31);
        assert_eq!(figures.number("/connecting/join/count"), 32);
        assert_eq!(figures.number("/deliveries/latency/count"), 32 * 20);
        assert_eq!(figures.number("/deliveries/last/count"), 20);
        assert_eq!(figures.number("/generator_processes"), 3);
    }
    let idle = ["--clients", "9", "--processes", "3", "--duration", "500ms", "--heartbeat", "100ms"];
    assert!(run("idle", &idle).number("/heartbeats/count") >= 9);
}

#[test]
fn messages_are_published_over_the_api() {
    let hailer = Hailer::start(&["--topic", "user:*", "--api-listen", "127.0.0.1:0"]);
    let (api, key) = (hailer.said("API on "), hailer.said("API key of this run: "));
    let folder = Folder::new("bench-api");
    folder.write("key", &key, 0o600);
    let (url, key_file) = (url(&hailer), folder.file("key").to_string_lossy().into_owned());
    let over_api = ["--json", "-", "--publish-api", &api, "--api-key-file", &key_file, "-c", "10"];
    let fan_out =
        [&["fan-out", &url], &over_api[..], &["-m", "30", "--burst", "7", "--warm-up", "1"]].concat();
    assert_eq!(Run::of(&fan_out).good().number("/deliveries/received"), 10 * 31);
    let private = [&["private", &url], &over_api[..], &["-m", "20", "--warm-up", "0"]].concat();
    assert_eq!(Run::of(&private).good().number("/deliveries/received"), 20);
    // Without a key nothing is published, and that is said.
    let refused =
        Run::of(&["fan-out", &url, "--publish-api", &api, "-c", "2", "--json", "-", "--patience", "1s"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("the API answers with 401"), "{}", refused.stderr);
}

#[test]
fn tokens_come_from_a_file_or_the_environment_and_are_shown_nowhere() {
    let folder = Folder::new("bench-tokens");
    assert!(folder.hailer(&["init"]).output().expect("the program starts").status.success());
    let config = folder.file("hailer.toml").to_string_lossy().into_owned();
    let token = |user: &str| {
        let output = hailer(&["token", "--config", &config, "--sub", user, "--claim", "staff=true"]).output();
        let text = String::from_utf8(output.expect("the program starts").stdout).expect("it is text");
        text.trim().to_owned()
    };
    let server = Hailer::start(&["--config", &config]);
    let url = url(&server);
    let tokens = [token("alice"), token("bob"), token("carol")];
    folder.write("tokens", &tokens.join("\n"), 0o600);
    let file = folder.file("tokens").to_string_lossy().into_owned();
    let common = ["fan-out", &url, "--topic", "room:lobby", "--json", "-", "-c", "6", "-m", "3"];
    let each = Run::of(&[&common[..], &["--tokens", &file, "--own-topic", "user:{user}"]].concat());
    assert_eq!(each.good().number("/connecting/joined"), 6);
    let one = Run::with(&common, &[("HAILER_BENCH_TOKEN", &tokens[0])]);
    one.good();
    for run in [each, one] {
        let said = run.stdout + &run.stderr;
        assert!(tokens.iter().all(|token| !said.contains(token.as_str())), "{said}");
    }
    let none = Run::of(&common);
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("status 403"), "{}", none.stderr);
}

#[test]
fn files_are_written_and_the_text_tells_the_same() {
    let server = Hailer::start(&[]);
    let folder = Folder::new("bench-files");
    let path = |name: &str| folder.file(name).to_string_lossy().into_owned();
    let (json, html) = (path("run.json"), path("run.html"));
    let url = url(&server);
    let args = ["fan-out", &url, "-c", "5", "-m", "4", "--json", &json, "--html", &html];
    let run = Run::of(&[&args[..], &["--label", "server=hailer"]].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.contains("none lost"), "{}", run.stdout);
    let figures: Value = serde_json::from_str(&folder.read("run.json")).expect("it is JSON");
    assert_eq!(figures["settings"]["server"], "hailer");
    assert!(folder.read("run.html").to_lowercase().starts_with("<!doctype html>"));
    let compared = hailer(&["bench", "compare", &json]).output().expect("the program starts");
    assert!(compared.status.success() && !compared.stdout.is_empty(), "{compared:?}");
}
