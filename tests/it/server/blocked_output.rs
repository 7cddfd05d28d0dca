//! Readers of stderr and stdout that hang: the server starts, serves and ends all the same.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hailer::testing::upgrade_request;
use rustix::io::ioctl_fionbio;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, tcflow, tcgetattr};

use crate::support::peer::PATH;
use crate::support::{Client, Hailer, PATIENCE, Peer, eventually, hailer};

const SERVE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--shards", "2"];

/// The default of `drain_timeout`, within which a server has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes until nothing more is taken, and leaves a writer that blocks.
fn fill(mut writer: impl Write + AsFd) {
    ioctl_fionbio(&writer, true).expect("a mode can be set");
    for size in [4096, 1] {
        let bytes = vec![b'x'; size];
        let error = loop {
            if let Err(error) = writer.write(&bytes) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
    ioctl_fionbio(&writer, false).expect("a mode can be set");
}

/// A pipe that is full, and not read yet.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    fill(&writer);
    (reader, writer)
}

fn refused(address: SocketAddr) {
    let mut page = Peer::connect(address);
    let origin = "\r\nOrigin: https://elsewhere.example\r\n\r\n";
    page.send(upgrade_request(PATH).replace("\r\n\r\n", origin).as_bytes());
    assert_eq!(page.response().status, 403);
}

/// Whether a server serves while lines are logged, and ends in time at a signal.
fn check_served_and_ended(mut server: Hailer) {
    let mut clients: Vec<Client> = (0..8).map(|_| Client::joined(server.address(), "room:lobby")).collect();
    // Each of the shards says something of one of these.
    (0..16).for_each(|_| refused(server.address()));
    clients.iter_mut().for_each(Client::heartbeat);
    Client::joined(server.address(), "room:lobby").heartbeat();
    let signalled = Instant::now();
    server.signal("TERM");
    assert_eq!(clients[0].closed().map(|(code, _)| code), Some(1012));
    drop(clients);
    assert_eq!(server.wait().code(), Some(0));
    assert!(signalled.elapsed() < DRAIN_TIMEOUT, "{:?}", signalled.elapsed());
}

#[test]
fn a_reader_of_the_log_that_hangs_freezes_no_shard_and_no_end() {
    for level in ["info", "trace"] {
        let (_reader, writer) = full_pipe();
        let command = hailer(&[&SERVE[..], &["--log-level", level]].concat());
        check_served_and_ended(Hailer::run_with_stderr(command, writer.into()));
    }
    let (socket, _other) = UnixStream::pair().expect("two sockets");
    fill(&socket);
    check_served_and_ended(Hailer::run_with_stderr(hailer(&SERVE), OwnedFd::from(socket).into()));
}

#[test]
fn a_log_that_goes_nowhere_ends_nothing() {
    let full = File::options().write(true).open("/dev/full").expect("it is there");
    check_served_and_ended(Hailer::run_with_stderr(hailer(&SERVE), full.into()));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    check_served_and_ended(Hailer::run_with_stderr(hailer(&SERVE), writer.into()));
}

/// A terminal whose output was stopped, as by Ctrl-S; the first end is to be kept.
fn stopped_terminal() -> (OwnedFd, File) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&controller).expect("it is ours");
    unlockpt(&controller).expect("it is ours");
    let name = ptsname(&controller, Vec::new()).expect("it has a name");
    let name = name.to_str().expect("it is text");
    let mut options = File::options();
    let terminal = options.read(true).write(true).custom_flags(libc::O_NOCTTY).open(name);
    let terminal = terminal.expect("it can be opened");
    tcflow(&terminal, Action::OOff).expect("output can be stopped");
    (controller, terminal)
}

#[test]
fn a_terminal_that_is_stopped_freezes_no_shard_and_no_end() {
    let (_controller, terminal) = stopped_terminal();
    check_served_and_ended(Hailer::run_with_stderr(hailer(&SERVE), terminal.into()));
}

#[test]
fn top_ends_at_a_signal_although_its_terminal_takes_nothing() {
    let server = Hailer::start(&["--api-listen", "127.0.0.1:0"]);
    let (api, key) = (server.said("API on "), server.said("API key of this run: "));
    let (_controller, terminal) = stopped_terminal();
    let again = || terminal.try_clone().expect("a descriptor is left");
    let mut command = hailer(&["top", "--api", &api]);
    command.env("HAILER_API_KEY", key).stdin(again()).stdout(again()).stderr(Stdio::null());
    let before = tcgetattr(&terminal).expect("it is a terminal").local_modes;
    let mut program = Program::start(command);
    // It draws from here on.
    let modes = || tcgetattr(&terminal).expect("it is a terminal").local_modes;
    eventually("a terminal for single keys", || (modes() != before).then_some(()));
    program.signal("TERM");
    program.ended();
    assert_eq!(modes(), before);
}

#[test]
fn a_second_signal_ends_a_process_at_once_whose_log_blocks() {
    let (_reader, writer) = full_pipe();
    let limits = ["--limit", "drain_timeout=10m", "--limit", "close_timeout=10m"];
    let mut server = Hailer::run_with_stderr(hailer(&[&SERVE[..], &limits[..]].concat()), writer.into());
    let mut deaf = Peer::join(server.address());
    server.signal("TERM");
    assert_eq!(deaf.close_frame().0, 1012);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

/// A process that may hang. It is killed when dropped.
struct Program(Child);

impl Program {
    fn start(mut command: Command) -> Self {
        Self(command.spawn().expect("the program starts"))
    }

    /// Sends a signal, named as `kill` names it.
    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits for its end, which is to come in time.
    fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        let status =
            eventually("the end of the process", || self.0.try_wait().expect("it can be waited for"));
        assert!(begun.elapsed() < DRAIN_TIMEOUT, "{:?}", begun.elapsed());
        status
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines of a pipe, which another thread reads to its end.
fn lines_of(reader: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines() {
            // A full pipe holds no line. A test that has failed reads no more.
            let _ = sender.send(line.expect("it is text").trim_start_matches('x').to_owned());
        }
    });
    lines
}

#[track_caller]
fn line_with(lines: &Receiver<String>, text: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let line = lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        let line = line.unwrap_or_else(|_| panic!("no line with {text:?}"));
        if line.contains(text) {
            return line;
        }
    }
}

#[test]
fn why_a_server_does_not_start_is_no_reason_to_hang() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    for level in ["info", "off"] {
        let (_reader, writer) = full_pipe();
        let mut command = hailer(&["serve", "--listen", &address, "--log-level", level]);
        command.stderr(writer).stdout(Stdio::null());
        assert_eq!(Program::start(command).ended().code(), Some(1));
    }
}

#[test]
fn a_full_stdout_holds_up_neither_the_start_nor_the_end() {
    let (mut reader, writer) = full_pipe();
    let mut command = hailer(&SERVE);
    command.stdout(writer).stderr(Stdio::piped());
    let mut program = Program::start(command);
    let lines = lines_of(program.0.stderr.take().expect("it is a pipe"));
    let line = line_with(&lines, "listening");
    let address =
        line.split_once("address=").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    let address: SocketAddr = address.expect("the log says where");
    Client::joined(address, "room:lobby").heartbeat();
    program.signal("TERM");
    line_with(&lines, "stopped");
    assert_eq!(program.ended().code(), Some(0));
    // Nothing had room in it, and nothing else was written to it.
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("it is read to its end");
    assert!(bytes.iter().all(|byte| *byte == b'x'));
}

/// A request to a path where there is nothing: two lines of log at level debug.
const GET: &str = "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Sends requests that are logged.
fn chatter(address: SocketAddr, requests: usize) {
    let mut peer = Peer::connect(address);
    for _ in 0..requests / 100 {
        peer.send(GET.repeat(100).as_bytes());
        (0..100).for_each(|_| assert_eq!(peer.response().status, 404));
    }
}

fn dropped_lines(api: SocketAddr) -> u64 {
    let mut peer = Peer::connect(api);
    peer.send(format!("GET /metrics HTTP/1.1\r\nHost: {api}\r\n\r\n").as_bytes());
    let metrics = peer.response().body;
    let value = metrics.lines().find_map(|line| line.strip_prefix("hailer_log_lines_dropped_total "));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no such metric in {metrics}"))
}

#[test]
fn log_lines_that_are_dropped_are_counted_and_the_log_says_so_later() {
    let (reader, writer) = full_pipe();
    let args =
        ["--api-listen", "127.0.0.1:0", "--log-level", "debug", "--limit", "log_bytes_waiting_max=64KiB"];
    let mut server = Hailer::run_with_stderr(hailer(&[&SERVE[..], &args[..]].concat()), writer.into());
    let api = server.said("API on http://").parse().expect("it is an address");
    assert_eq!(dropped_lines(api), 0);
    chatter(server.address(), 2000);
    assert!(dropped_lines(api) > 500, "{}", dropped_lines(api));
    let lines = lines_of(reader);
    // What is logged once the pipe is read again comes whole.
    eventually("a log that is read", || {
        let before = dropped_lines(api);
        chatter(server.address(), 100);
        (dropped_lines(api) == before).then_some(())
    });
    let dropped = dropped_lines(api);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let lines: Vec<String> = lines.iter().collect();
    let reported = lines.iter().filter_map(|line| {
        let (count, _) = line.split_once(" WARN ")?.1.split_once(" log line")?;
        count.parse::<u64>().ok()
    });
    assert_eq!(reported.sum::<u64>(), dropped, "{lines:#?}");
    assert!(lines.last().is_some_and(|line| line.contains("stopped")), "{lines:#?}");
}

#[test]
fn a_log_that_does_not_block_but_refuses_loses_no_part_of_a_line() {
    let (reader, writer) = full_pipe();
    // As another program may have made it that has the same pipe.
    ioctl_fionbio(&writer, true).expect("a mode can be set");
    let command = hailer(&[&SERVE[..], &["--log-level", "debug"]].concat());
    let mut server = Hailer::run_with_stderr(command, writer.into());
    chatter(server.address(), 1000);
    let lines = lines_of(reader);
    let mut requests = 0;
    while requests < 1000 {
        let line = lines.recv_timeout(PATIENCE).expect("all requests are logged");
        assert!(["Z  INFO ", "Z DEBUG ", "Z  WARN "].iter().any(|level| line.contains(level)), "{line}");
        requests += usize::from(line.contains("answering a request"));
    }
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}
