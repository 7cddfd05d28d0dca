//! Where the server's log goes: to stderr, written by a thread of its own.
//!
//! A write to stderr may block for ever: behind a pipe whose reader hangs, or on a terminal that was stopped with
//! Ctrl-S. A line of log is worth less than the clients of a shard, so a line that finds no room in the queue is dropped
//! and counted, and neither the loops nor the end of the process wait for stderr.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, ErrorKind, IsTerminal, Stderr, Write};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tracing::error;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::Failure;
use crate::config::LogLevel;

/// What a line counts at least against the bytes that may wait, so that these bound the number of lines as well.
const LINE_BYTES_MIN: usize = 128;
/// Places in the queue at most. They take memory before there is a line in them.
const LINES_MAX: usize = 64 * 1024;
/// How long the end of the process waits at most until the last lines are written.
const FLUSH_TIME: Duration = Duration::from_secs(1);
/// A write that has taken longer waits for a reader that may never come.
const STUCK_TIME: Duration = Duration::from_millis(500);

/// The log of this process. Dropping it waits for the last lines, unless they can't be written.
pub(super) struct Log(Lines);

/// What the thread that writes shares with those that log.
struct Shared {
    /// Bytes of lines that may wait.
    bytes_max: usize,
    /// What a line counts at least.
    line_bytes_min: usize,
    /// How many lines may wait because of that.
    lines_max: usize,
    waiting: AtomicUsize,
    /// Lines for which there was no room.
    refused: AtomicU64,
    /// Lines that stderr has not taken.
    failed: AtomicU64,
    began: Instant,
    /// When the write under way began, in milliseconds behind `began` and at least 1; 0 if there is none.
    writing: AtomicU64,
    flushed: Mutex<bool>,
    has_flushed: Condvar,
}

impl Shared {
    fn new(bytes_max: usize) -> Self {
        let line_bytes_min = LINE_BYTES_MIN.max(bytes_max / LINES_MAX);
        Self {
            bytes_max,
            line_bytes_min,
            lines_max: bytes_max / line_bytes_min,
            waiting: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            began: Instant::now(),
            writing: AtomicU64::new(0),
            flushed: Mutex::new(false),
            has_flushed: Condvar::new(),
        }
    }

    fn cost(&self, line: &[u8]) -> usize {
        line.len().max(self.line_bytes_min)
    }

    fn dropped(&self) -> u64 {
        self.refused.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether the write under way takes so long that it may never end.
    fn is_stuck(&self) -> bool {
        let since = self.writing.load(Ordering::Relaxed);
        since > 0 && u128::from(self.millis().saturating_sub(since)) >= STUCK_TIME.as_millis()
    }
}

/// The way into the queue.
#[derive(Clone)]
struct Lines {
    queue: NonBlocking,
    shared: Arc<Shared>,
}

impl Lines {
    /// Queues a line if there is room for it.
    fn push(&self, line: &[u8]) {
        let cost = self.shared.cost(line);
        let waiting = self.shared.waiting.fetch_add(cost, Ordering::Relaxed);
        if waiting.saturating_add(cost) > self.shared.bytes_max {
            self.shared.waiting.fetch_sub(cost, Ordering::Relaxed);
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // The queue has a place for each line that has room, so only a thread that has ended does not take it.
        let _ = self.queue.clone().write_all(line);
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Log {
    /// Has everything logged to stderr from here on, panics among it. At most `bytes_max` bytes wait to be written.
    pub(super) fn to_stderr(level: LogLevel, bytes_max: usize) -> Self {
        let shared = Arc::new(Shared::new(bytes_max));
        let output = Output { shared: Arc::clone(&shared), to: io::stderr(), reported: 0, since_reported: 0 };
        let builder = NonBlockingBuilder::default().lossy(true).thread_name("hailer-log");
        // One place more, for what `flush` sends behind the last line.
        let (queue, guard) = builder.buffered_lines_limit(shared.lines_max + 1).finish(output);
        // Its end would wait for a second whatever happens, and may print to a stdout that blocks as well.
        std::mem::forget(guard);
        let lines = Lines { queue, shared };
        let log = tracing_subscriber::fmt().with_writer(lines.clone()).with_max_level(filter(level));
        // What can't be written is lost; reporting that on the same stderr would panic.
        let log = log.with_ansi(io::stderr().is_terminal()).with_target(false).log_internal_errors(false);
        // Only a second call could fail, and there is none.
        let _ = log.try_init();
        // The standard library's own hook writes to stderr from the thread that panics, which may be a loop's.
        std::panic::set_hook(Box::new(log_panic));
        Self(lines)
    }

    /// The number of lines that were dropped so far.
    pub(super) fn dropped_lines(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let (shared, counter) = (Arc::clone(&self.0.shared), self.0.queue.error_counter());
        move || shared.dropped() + counter.dropped_lines() as u64
    }

    /// Writes why the process fails behind all other lines, whatever the level is. What is left of the failure is how the
    /// process exits.
    pub(super) fn fail(&self, failure: &Failure) -> Failure {
        self.0.push(format!("{failure}\n").as_bytes());
        Failure { message: String::new(), usage: failure.usage }
    }

    /// Waits until everything is written, unless stderr takes nothing.
    fn flush(&self) {
        let Lines { queue, shared } = &self.0;
        // The thread writes nothing for an empty line, but notes that it has come to it.
        let _ = queue.clone().write_all(&[]);
        let deadline = Instant::now() + FLUSH_TIME;
        let mut flushed = shared.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        while !*flushed && !shared.is_stuck() && Instant::now() < deadline {
            let waited = shared.has_flushed.wait_timeout(flushed, STUCK_TIME / 20);
            flushed = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Logs a panic, with a backtrace where the environment asks for one. The message is escaped: it may hold what a client
/// has sent.
fn log_panic(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let (text, string) = (info.payload().downcast_ref::<&str>(), info.payload().downcast_ref::<String>());
    let message = text.copied().or(string.map(String::as_str)).unwrap_or("a panic without a message");
    let at = info.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        error!(thread, at, ?backtrace, "panicked: {message:?}");
    } else {
        error!(thread, at, "panicked: {message:?}");
    }
}

/// What the thread does with lines.
struct Output {
    shared: Arc<Shared>,
    to: Stderr,
    /// Dropped lines that the log has reported.
    reported: u64,
    /// Lines that were written since.
    since_reported: usize,
}

impl Output {
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.shared.writing.store(self.shared.millis().max(1), Ordering::Relaxed);
        let result = loop {
            if bytes.is_empty() {
                break Ok(());
            }
            match self.to.write(bytes) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another program with the same pipe or terminal may have made it so.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if let Err(error) = poll(&mut [PollFd::new(&self.to, PollFlags::OUT)], None) {
                        break Err(error.into());
                    }
                }
                Err(error) => break Err(error),
            }
        };
        self.shared.writing.store(0, Ordering::Relaxed);
        result
    }

    /// Says how many lines were dropped since that was said last.
    fn report_dropped(&mut self) {
        let dropped = self.shared.dropped();
        let count = dropped - self.reported;
        if count == 0 {
            return;
        }
        let mut line = String::new();
        // A text takes everything.
        let _ = SystemTime.format_time(&mut Writer::new(&mut line));
        let lines = if count == 1 { "line was" } else { "lines were" };
        line.push_str(&format!(
            "  WARN {count} log {lines} dropped: stderr took no more (log_bytes_waiting_max)\n"
        ));
        if self.put(line.as_bytes()).is_ok() {
            self.reported = dropped;
        }
        self.since_reported = 0;
    }
}

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line)?;
        Ok(line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        if line.is_empty() {
            self.report_dropped();
            *self.shared.flushed.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.shared.has_flushed.notify_all();
            return Ok(());
        }
        let written = self.put(line);
        self.shared.waiting.fetch_sub(self.shared.cost(line), Ordering::Relaxed);
        if written.is_err() {
            self.shared.failed.fetch_add(1, Ordering::Relaxed);
        }
        self.since_reported += 1;
        // Where more comes than can be written the queue is never empty. By now everything is written that waited when
        // it was said last.
        if self.since_reported > self.shared.lines_max {
            self.report_dropped();
        }
        Ok(())
    }

    /// The queue is empty.
    fn flush(&mut self) -> io::Result<()> {
        self.report_dropped();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// Set for a process of its own: the log and the panic hook are those of a whole process.
    const CHILD: &str = "HAILER_TEST_LOG_CHILD";

    /// This test as a process of its own, with its stderr.
    fn child(test: &str, stderr: impl Into<Stdio>) -> std::process::Child {
        let program = std::env::current_exe().expect("the program is known");
        let mut command = Command::new(program);
        let name = format!("{}::{test}", module_path!().split_once("::").expect("it is in a crate").1);
        command.args(["--exact", &name, "--nocapture"]).env(CHILD, "1").env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().expect("it starts")
    }

    /// Panics as application code may on a loop, with what a client has sent in its message.
    fn panic_and_log() {
        let log = Log::to_stderr(LogLevel::Info, 64 * 1024);
        let panicking = std::thread::Builder::new().name("hailer-shard-7".to_owned());
        let panicking = panicking.spawn(|| panic!("no \n2026-12-01T00:00:00Z  INFO forged\u{1b}[2J"));
        assert!(panicking.expect("a thread starts").join().is_err());
        tracing::info!("the loop goes on");
        drop(log);
        std::process::exit(7);
    }

    #[test]
    fn a_panic_is_one_line_of_the_log() {
        if std::env::var_os(CHILD).is_some() {
            panic_and_log();
        }
        let output =
            child("a_panic_is_one_line_of_the_log", Stdio::piped()).wait_with_output().expect("it ends");
        let text = String::from_utf8(output.stderr).expect("the log is text");
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            matches!(lines[..], [panic, next] if next.ends_with("the loop goes on") && [
            "Z ERROR panicked: \"no \\n2026-12-01T00:00:00Z  INFO forged\\u{1b}[2J\"",
            "thread=\"hailer-shard-7\"",
            "src/cli/log.rs",
        ].iter().all(|part| panic.contains(part))),
            "{text}"
        );
        assert_eq!(output.status.code(), Some(7));
    }

    #[test]
    fn a_panic_does_not_block_where_the_log_does() {
        if std::env::var_os(CHILD).is_some() {
            panic_and_log();
        }
        let (_reader, mut writer) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("a mode can be set");
        while writer.write(&[b'x'; 4096]).is_ok() {}
        while writer.write(b"x").is_ok() {}
        rustix::io::ioctl_fionbio(&writer, false).expect("a mode can be set");
        let mut child = child("a_panic_does_not_block_where_the_log_does", writer);
        let deadline = Instant::now() + Duration::from_secs(60);
        let status = loop {
            match child.try_wait().expect("it can be waited for") {
                Some(status) => break status,
                None if Instant::now() >= deadline => {
                    let _ = child.kill();
                    panic!("it has not ended");
                }
                None => std::thread::park_timeout(Duration::from_millis(5)),
            }
        };
        assert_eq!(status.code(), Some(7));
    }

    #[test]
    fn no_more_waits_than_there_is_room_for() {
        for bytes_max in [64 * 1024, 1024 * 1024, 1 << 30] {
            let shared = Shared::new(bytes_max);
            assert!(shared.lines_max <= LINES_MAX && shared.lines_max * shared.cost(b"") <= bytes_max);
            assert_eq!(shared.cost(&[b'x'; 100_000]), 100_000);
        }
    }
}
