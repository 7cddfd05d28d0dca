//! The real program.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{PATIENCE, eventually};

/// The program that is tested: that of this build, unless `HAILER_BIN` names another.
fn binary() -> OsString {
    std::env::var_os("HAILER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_hailer").into())
}

/// The program with these arguments, to be changed and started. Its API, whose port is the same by default in every
/// server, is off unless an argument says otherwise.
pub(crate) fn hailer(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null()).envs(API_OFF);
    command
}

/// The variable that keeps a server from opening the API, for commands that become the program.
pub(crate) const API_OFF: [(&str, &str); 1] = [("HAILER_API_LISTEN", "off")];

/// Runs the program to its end.
pub(crate) fn hailer_output(args: &[&str]) -> Output {
    hailer(args).output().expect("the program starts")
}

/// Lines that another thread reads.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Lines {
    fn collect(source: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let to = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                to.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                to.0.1.notify_all();
            }
        });
        lines
    }

    fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first line with `text` in it, as soon as it is there.
    fn wait_for(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no line with {text:?} in the log: {lines:#?}");
            lines = self.0.1.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A running `hailer serve` on a port of its own. It is killed when dropped.
pub(crate) struct Hailer {
    child: Child,
    address: SocketAddr,
    log: Lines,
    /// Ends when the process does.
    stdout: Receiver<String>,
    /// What it has said besides where it listens, as far as that was looked at.
    said: RefCell<Vec<String>>,
}

impl Hailer {
    /// Starts `hailer serve --listen 127.0.0.1:0` with further arguments, and waits until it listens.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::run(hailer(&[&["serve", "--listen", "127.0.0.1:0"], args].concat()))
    }

    /// The same with a limit of open files.
    pub(crate) fn start_with_descriptors(descriptors: usize, args: &[&str]) -> Self {
        let script = format!("ulimit -n {descriptors}; exec \"$0\" serve --listen 127.0.0.1:0 \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(binary()).args(args).stdin(Stdio::null()).envs(API_OFF);
        Self::run(command)
    }

    /// Runs a command that becomes the program.
    pub(crate) fn run(command: Command) -> Self {
        Self::run_with_stderr(command, Stdio::piped())
    }

    /// The same with its log going elsewhere.
    pub(crate) fn run_with_stderr(mut command: Command, stderr: Stdio) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("the program starts");
        // A command keeps its ends of pipes.
        drop(command);
        let log = child.stderr.take().map(Lines::collect).unwrap_or_default();
        let (sender, stdout) = channel();
        let source = child.stdout.take().expect("stdout is a pipe");
        std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                // A test that has ended reads no more.
                let _ = sender.send(line);
            }
        });
        let line = stdout.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("the program says nothing; its log: {:#?}", log.all())
        });
        let address = line
            .split_once("http://")
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or_else(|| panic!("no address in {line:?}"));
        Self { child, address, log, stdout, said: RefCell::default() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What stands behind `prefix` on the line of its output that begins so, as soon as it is there.
    pub(crate) fn said(&self, prefix: &str) -> String {
        let mut said = self.said.borrow_mut();
        loop {
            if let Some(rest) = said.iter().find_map(|line| line.strip_prefix(prefix)) {
                return rest.to_owned();
            }
            match self.stdout.recv_timeout(PATIENCE) {
                Ok(line) => said.push(line),
                Err(_) => panic!("no line with {prefix:?}: {said:?}"),
            }
        }
    }

    /// Everything that was logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.all()
    }

    /// The first line of the log with `text` in it, as soon as it is there.
    pub(crate) fn log_line(&self, text: &str) -> String {
        self.log.wait_for(text)
    }

    /// Sends a signal, named as `kill` names it.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Suspends the process, and waits until each of its threads stands still: the signal may come while one of
    /// them is at work.
    pub(crate) fn suspend(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.pid());
        let stands = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // The state stands behind the name, which is in parentheses.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        eventually("the process stands still", || {
            let mut tasks = std::fs::read_dir(&tasks).expect("the process is there").map_while(Result::ok);
            tasks.all(stands).then_some(())
        });
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.stdout.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the process has not ended: {:#?}", self.log()),
            }
        }
        eventually("the end of the process", || self.child.try_wait().expect("the child can be waited for"))
    }

    /// Stops the server by a signal; it must end well. The last line of its log is returned.
    pub(crate) fn stop(&mut self) -> String {
        self.signal("TERM");
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{:#?}", self.log());
        self.log_line("stopped")
    }

    /// Descriptors that the process has open.
    pub(crate) fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(folder).expect("the process lives").count()
    }

    /// What the process has computed so far, in hundredths of a second.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the process lives");
        // The program's name, in parentheses, may hold anything; user and system time are fields 14 and 15.
        let fields = stat.rsplit_once(')').expect("a name in parentheses").1.split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }

    /// What the threads of the process have computed so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the process lives");
        let nanos = |path: PathBuf| {
            // A thread may have ended since.
            let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            text.split_whitespace().next().map_or(0, |nanos| nanos.parse().expect("a number"))
        };
        Duration::from_nanos(threads.map(|thread| nanos(thread.expect("it is listed").path())).sum())
    }

    /// Waits until the process has so many descriptors open.
    pub(crate) fn wait_for_descriptors(&self, expected: usize) {
        let mut last = 0;
        eventually(&format!("{expected} descriptors"), || {
            let now = self.descriptors();
            if now != last && std::env::var_os("HAILER_VERBOSE").is_some() {
                println!("{now} descriptors, {expected} expected");
            }
            last = now;
            (now == expected).then_some(())
        });
    }
}

impl Drop for Hailer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("the log of the program: {:#?}", self.log());
        }
    }
}

/// A counter of a line of the log.
pub(crate) fn counter(line: &str, name: &str) -> usize {
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.map_or(0, |value| value.parse().expect("a counter is a number"))
}
