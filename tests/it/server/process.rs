//! The program as a process: its arguments, its signals, its exit codes.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use crate::support::peer::{PATH, read_close};
use crate::support::{API_OFF, Client, Hailer, Peer, hailer, hailer_output};

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("output is text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("output is text")
}

#[test]
fn a_signal_closes_all_clients_with_1012_and_the_process_ends_well() {
    for signal in ["TERM", "INT"] {
        let mut hailer = Hailer::start(&["--shards", "2"]);
        let mut clients: Vec<Client> =
            (0..20).map(|_| Client::joined(hailer.address(), "room:lobby")).collect();
        let mut idle = Peer::connect(hailer.address());
        idle.send(b"GET / HTTP/1.1\r\nHost: hailer\r\n\r\n");
        assert_eq!(idle.response().status, 200);
        let mut unjoined = Peer::open(hailer.address());
        hailer.signal(signal);
        for client in &mut clients {
            assert_eq!(client.closed(), Some((1012, String::new())));
        }
        assert_eq!(unjoined.close_frame().0, 1012);
        drop(unjoined);
        idle.expect_end();
        assert_eq!(hailer.wait().code(), Some(0));
        let line = hailer.log_line("stopped");
        assert!(line.contains("connections=0") && line.contains("closed_shutdown=21"), "{line}");
    }
}

#[test]
fn the_drain_ends_although_a_client_does_not_answer() {
    let mut hailer = Hailer::start(&["--limit", "drain_timeout=1s", "--limit", "close_timeout=10m"]);
    let mut deaf = Peer::join(hailer.address());
    hailer.signal("TERM");
    assert_eq!(hailer.wait().code(), Some(0));
    assert_eq!(deaf.close_frame().0, 1012);
    assert!(hailer.log_line("stopped").contains("connections=1"));
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let mut hailer = Hailer::start(&["--limit", "drain_timeout=10m", "--limit", "close_timeout=10m"]);
    let mut deaf = Peer::join(hailer.address());
    hailer.signal("TERM");
    assert_eq!(deaf.close_frame().0, 1012);
    hailer.signal("TERM");
    assert_eq!(hailer.wait().code(), Some(0));
    hailer.log_line("stopping at once");
}

#[test]
fn a_signal_right_after_the_first_line_ends_the_process_well() {
    // The shell's own `kill` is at once; starting a program for it would give the server time.
    let script = r#"exec 3< <(exec "$0" serve --listen 127.0.0.1:0 --log-level off)
                    server=$!; read -r -u 3 line; kill -TERM $server; wait $server"#;
    for _ in 0..20 {
        let program = hailer(&[]).get_program().to_owned();
        let mut command = Command::new("bash");
        command.args(["-c", script]).arg(program).envs(API_OFF);
        let status = command.status().expect("bash runs");
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn nobody_is_accepted_while_the_server_stops() {
    // Each shard stops by itself, so there is only one.
    let limits = ["--shards", "1", "--limit", "drain_timeout=10m", "--limit", "close_timeout=10m"];
    let mut hailer = Hailer::start(&limits);
    let mut deaf = Peer::join(hailer.address());
    hailer.signal("TERM");
    assert_eq!(deaf.close_frame().0, 1012);
    assert!(std::net::TcpStream::connect(hailer.address()).is_err());
    deaf.reset();
    assert_eq!(hailer.wait().code(), Some(0));
}

#[test]
fn a_taken_port_is_a_sentence_that_says_what_to_do() {
    let first = Hailer::start(&["--shards", "2"]);
    let other = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    for taken in [first.address(), other.local_addr().expect("it is bound")] {
        for shards in ["1", "2"] {
            let taken = taken.to_string();
            let output = hailer_output(&["serve", "--listen", &taken, "--shards", shards]);
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{text}");
            let line = text.lines().find(|line| line.starts_with("hailer: ")).expect("a sentence");
            assert!(line.contains(&taken) && line.contains("--listen"), "{line}");
        }
    }
}

#[test]
fn a_port_that_is_not_permitted_is_a_sentence_that_says_what_to_do() {
    let ports = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let least = std::fs::read_to_string(ports).unwrap_or_default();
    if least.trim().parse().is_ok_and(|least: u16| least <= 80) {
        println!("skipped: here everybody may listen on port 80 ({ports})");
        return;
    }
    // Root is permitted everything, so the program runs as somebody else.
    let program = hailer(&[]).get_program().to_owned();
    let script = r#"if [ "$(id -u)" = 0 ]; then set -- setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; fi
                    exec "$@""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(program).args(["--listen", "127.0.0.1:80", "--log-level", "off"]);
    command.envs(API_OFF);
    let output = command.output().expect("sh runs");
    let text = stderr(&output);
    if matches!(output.status.code(), Some(126 | 127)) {
        println!("skipped: nobody else may run the program here: {text}");
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("hailer: can't listen on 127.0.0.1:80: not permitted"), "{text}");
    assert!(text.contains("--listen"), "{text}");
}

#[test]
fn a_foreign_address_is_a_sentence_that_says_what_to_do() {
    // 192.0.2.0/24 belongs to documentation (RFC 5737).
    let mut command = hailer(&["--listen", "192.0.2.1:4000"]);
    // Without a key it would not be shown to other machines anyway.
    command.env(
        "HAILER_AUTH_SECRET",
        "q8Zr-5mWk2Tx9Vb4Ns7Lp1Hc6Jf3Gd0RyUoEiAaSzXnCvBtMqDwFkPgHjKlZrYxTs8Q2w5E7u9I4o1P6",
    );
    let output = command.output().expect("the program starts");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("192.0.2.1") && text.contains("0.0.0.0"), "{text}");
}

#[test]
fn wrong_arguments_exit_with_2() {
    let wrong: [&[&str]; 6] = [
        &["--no-such-option"],
        &["serve", "--shards", "0"],
        &["serve", "--listen", "here"],
        &["--limit", "frame_byte_max=1"],
        &["--topic", "a*b"],
        &["frobnicate"],
    ];
    for args in wrong {
        let output = hailer_output(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("--help") || stderr(&output).contains("did you mean"), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn version_limits_and_help_are_printed() {
    for args in [["version"], ["--version"]] {
        let output = hailer_output(&args);
        assert_eq!(stdout(&output), format!("hailer {}\n", env!("CARGO_PKG_VERSION")));
        assert_eq!(output.status.code(), Some(0));
    }
    let limits = stdout(&hailer_output(&["limits"]));
    for (name, value, _) in hailer::limits::Limits::default().table() {
        let line = limits.lines().find(|line| line.starts_with(name)).expect("every limit has a line");
        assert!(line.contains(&value), "{line}");
    }
    for args in [&["--help"][..], &["serve", "--help"], &["help"]] {
        let help = stdout(&hailer_output(args));
        assert!(help.contains("Examples:") && help.contains("hailer serve --topic 'room:*'"), "{help}");
    }
}

#[test]
fn limits_are_printed_to_a_reader_that_goes_away() {
    let mut child = hailer(&["limits"]).stdout(Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn the_server_outlives_the_reader_of_its_log() {
    let mut command = hailer(&["serve", "--listen", "127.0.0.1:0", "--log-level", "trace"]);
    // The shell's `head` ends after the first line, and every further line fails to be written.
    let script = "exec \"$0\" \"$@\" 2> >(head -n 1 >&2)";
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let program = command.get_program().to_owned();
    command = Command::new("bash");
    command.args(["-c", script]).arg(program).args(args).stdin(Stdio::null()).envs(API_OFF);
    let mut hailer = Hailer::run(command);
    for _ in 0..50 {
        let mut client = Client::joined(hailer.address(), "room:lobby");
        client.heartbeat();
        let mut bad = Peer::open(hailer.address());
        bad.send(&[0xff, 0xff]);
        assert_eq!(bad.close_frame().0, 1002);
    }
    hailer.signal("TERM");
    assert_eq!(hailer.wait().code(), Some(0));
}

#[test]
fn a_restarted_server_takes_the_same_port() {
    let mut first = Hailer::start(&["--shards", "2"]);
    let address = first.address();
    let mut client = Client::joined(address, "room:lobby");
    first.signal("TERM");
    assert_eq!(client.closed().map(|(code, _)| code), Some(1012));
    assert_eq!(first.wait().code(), Some(0));
    // The server has ended the connection first, so it is in TIME_WAIT on its side.
    let second = Hailer::run(hailer(&["--listen", &address.to_string(), "--shards", "2"]));
    assert_eq!(second.address(), address);
    Client::joined(address, "room:lobby").heartbeat();
}

#[test]
fn a_close_frame_that_waits_behind_messages_is_still_read() {
    let mut hailer = Hailer::start(&[]);
    let mut peer = Peer::connect(hailer.address());
    peer.upgrade(PATH);
    peer.join_lobby();
    for number in 0..1000 {
        peer.send_text(&format!(r#"["1","2","room:lobby","new_msg",{{"body":{number}}}]"#));
    }
    // All are handled once the last has an answer somewhere.
    let mut other = Client::joined(hailer.address(), "room:lobby");
    peer.send_text(r#"["1","2","room:lobby","new_msg",{"body":1000}]"#);
    while other.body() != 1000 {}
    hailer.signal("TERM");
    for number in 0..=1000 {
        assert_eq!(peer.message()[4]["body"], number);
    }
    let frame = peer.next_frame().expect("the close frame");
    assert_eq!(read_close(&frame).0, 1012);
    drop((peer, other));
    assert_eq!(hailer.wait().code(), Some(0));
}
