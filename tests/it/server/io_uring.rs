//! Broadcasts by io_uring, and without it where it can't be had.

use std::process::Command;

use serde_json::json;

use crate::support::{Client, Hailer, Peer, hailer, hailer_output};

const READERS: usize = 40;

/// Has several readers, one of which is slow, get some messages, all of them in order. The publisher waits each time it
/// has pushed so many of them `together`.
fn broadcast_to_many(hailer: &Hailer, messages: usize, together: usize) {
    let mut publisher = Client::joined(hailer.address(), "room:lobby");
    let mut readers: Vec<Peer> = (0..READERS).map(|_| Peer::join(hailer.address())).collect();
    let mut slow = Peer::connect_narrow(hailer.address());
    slow.upgrade(crate::support::peer::PATH);
    slow.join_lobby();
    let filler = "x".repeat(20_000);
    for number in 0..messages {
        publisher.push("room:lobby", "new_msg", &json!({"body": [number, filler]}));
        if number % together == together - 1 {
            (number + 1 - together..=number).for_each(|number| assert_eq!(publisher.body()[0], number));
        }
    }
    for reader in readers.iter_mut().chain([&mut slow]) {
        for number in 0..messages {
            assert_eq!(reader.message()[4]["body"][0], number);
        }
    }
}

/// The program, some system call of which fails.
fn with_failing(injection: &str, args: &[&str]) -> Hailer {
    let mut command = Command::new("strace");
    // The program stays the child of this process, so that its end is seen and its signals arrive.
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=io_uring_setup,io_uring_enter", "-e"]);
    let program = hailer(&[]);
    command.arg(format!("inject={injection}")).arg(program.get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--shards", "1"]).args(args);
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Hailer::run(command)
}

fn lines_with(hailer: &Hailer, text: &str) -> usize {
    hailer.log().iter().filter(|line| line.contains(text)).count()
}

#[test]
fn broadcasts_arrive_in_order_by_io_uring_and_one_by_one() {
    for wanted in ["on", "off", "auto"] {
        let mut hailer = Hailer::start(&["--shards", "1", "--io-uring", wanted]);
        broadcast_to_many(&hailer, 12, 1);
        broadcast_to_many(&hailer, 24, 12);
        assert!(!hailer.stop().contains("closed_slow_reader"));
        assert_eq!(lines_with(&hailer, "io_uring"), 0, "{:#?}", hailer.log());
    }
}

#[test]
fn where_io_uring_is_refused_broadcasts_go_without_and_that_is_said_once() {
    let hailer = with_failing("io_uring_setup:error=EPERM", &["--io-uring", "auto"]);
    broadcast_to_many(&hailer, 5, 1);
    assert_eq!(lines_with(&hailer, "io_uring can't be used"), 1, "{:#?}", hailer.log());
}

#[test]
fn a_profile_that_refuses_the_use_of_the_ring_is_seen_at_the_start() {
    let hailer = with_failing("io_uring_enter:error=EPERM", &["--io-uring", "auto"]);
    broadcast_to_many(&hailer, 5, 1);
    assert_eq!(lines_with(&hailer, "io_uring can't be used"), 1, "{:#?}", hailer.log());
}

#[test]
fn a_server_that_needs_io_uring_does_not_start_without_it() {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=io_uring_setup:error=ENOSYS"]);
    command.arg(hailer(&[]).get_program()).args(["serve", "--listen", "127.0.0.1:0", "--api-listen", "off"]);
    let output = command.args(["--io-uring", "on"]).output().expect("strace runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("io_uring = \"on\", but it can't be used"), "{said}");
}

#[test]
fn a_ring_that_fails_later_loses_nothing() {
    // Calls are counted by threads; the first of each is made at the start, to see that the ring can be used.
    let hailer = with_failing("io_uring_enter:error=ENOMEM:when=3+", &["--io-uring", "on"]);
    broadcast_to_many(&hailer, 10, 1);
    assert_eq!(lines_with(&hailer, "io_uring has failed"), 1, "{:#?}", hailer.log());
}

#[test]
fn a_wrong_setting_is_refused_and_the_right_ones_are_named() {
    let output = hailer_output(&["serve", "--io-uring", "maybe"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("auto"), "{output:?}");
}
