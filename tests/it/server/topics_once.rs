//! A topic is counted once, however many shards have subscribers of it.

use crate::support::{Client, Hailer, eventually, hailer};

fn run(demo: &Hailer, words: &[&str]) -> String {
    let (api, key) = (demo.said("API on "), demo.said("API key of this run: "));
    let words = [words, &["--api", &api]].concat();
    let output = hailer(&words).env("HAILER_API_KEY", key).output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text")
}

/// The number of topics, and the sum of those of the shards, as the metrics have them.
fn metric(demo: &Hailer, name: &str) -> u64 {
    let api = demo.said("API on ");
    let text = ureq::get(&format!("{api}/metrics")).call().expect("it answers").body_mut().read_to_string();
    let text = text.expect("it is text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.expect("the metric is there").trim().parse::<f64>().expect("it is a number") as u64
}

#[test]
fn a_topic_on_four_shards_is_one_topic() {
    let demo = Hailer::start(&["--shards", "4", "--api-listen", "127.0.0.1:0", "--topic", "room:*"]);
    let mut lobby: Vec<Client> = (0..32).map(|_| Client::joined(demo.address(), "room:lobby")).collect();
    assert_eq!(metric(&demo, "hailer_topics"), 1);
    assert!(run(&demo, &["topics"]).ends_with("1 listed of 1\n"));
    let screen = run(&demo, &["top", "--once", "--interval", "100ms"]);
    assert!(screen.contains(" 1 topic "), "{screen}");
    // One that is on few shards beside it.
    lobby.push(Client::joined(demo.address(), "room:other"));
    eventually("the second topic", || (metric(&demo, "hailer_topics") == 2).then_some(()));
    drop(lobby);
    eventually("the end of both", || (metric(&demo, "hailer_topics") == 0).then_some(()));
}
