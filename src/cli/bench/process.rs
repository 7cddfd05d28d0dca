//! What processes have used, from `/proc`.
//!
//! Processor time comes from each thread's `schedstat`, in nanoseconds. How much of it was spent in the kernel is
//! only told in ticks of 10 ms, by `stat`: the parts are exact to about a tick, their sum is exact to a microsecond.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::process::{Child, Command, Stdio};

use crate::load::outcome::ProcessFigures;

/// `USER_HZ` is 100 on all of Linux' architectures that this is built for: it is part of the ABI.
const NANOS_PER_TICK: u64 = 10_000_000;

/// How often `perf` is started until it is believed that it can't count.
const STARTS_MAX: u32 = 3;

/// Processes whose figures are read, summed.
#[derive(Debug)]
pub(super) struct Watch {
    processes: Vec<Process>,
    counter: Option<Counter>,
    trouble: Option<String>,
}

/// What is cheap to read, for a look each second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Glance {
    /// Processor time since the processes began, user and kernel, in microseconds.
    pub(super) cpu_micros: u64,
    /// Resident memory, in bytes.
    pub(super) rss_bytes: u64,
}

impl Watch {
    /// Watches processes that run.
    ///
    /// # Errors
    /// If there is none of an id, it may not be looked at, or the system has no `/proc` like Linux'.
    pub(super) fn new(mut pids: Vec<u32>) -> Result<Self, String> {
        if !cfg!(target_os = "linux") {
            return Err("figures of processes are read from Linux' /proc: leave --pid out".to_owned());
        }
        pids.sort_unstable();
        pids.dedup();
        let mut processes: Vec<Process> = pids.into_iter().map(Process::new).collect();
        for process in &mut processes {
            process.read()?;
        }
        Ok(Self { processes, counter: None, trouble: None })
    }

    /// Counts system calls as well, by `perf`; it slows each of them down by some hundred nanoseconds. Snapshots tell
    /// those since this call, but for the ones made while a snapshot is taken.
    ///
    /// # Errors
    /// If there is no `perf`, or it may not do so: then snapshots tell none.
    pub(super) fn count_system_calls(&mut self) -> Result<(), String> {
        let pids: Vec<String> = self.processes.iter().map(|process| process.pid.to_string()).collect();
        self.counter = Some(Counter::new(pids.join(","))?);
        Ok(())
    }

    /// Everything that has been used since the processes began. Takes long where a process has much memory, and where
    /// system calls are counted: it is meant for the borders of what is measured.
    ///
    /// # Errors
    /// If a process has ended.
    pub(super) fn snapshot(&mut self) -> Result<ProcessFigures, String> {
        let counted = self.counter.as_mut().map(Counter::stop);
        let mut sum = ProcessFigures::default();
        for process in &mut self.processes {
            let read = process.read()?;
            sum.user_micros += read.user_nanos / 1_000;
            sum.system_micros += read.system_nanos / 1_000;
            sum.voluntary_switches += read.voluntary_switches;
            sum.involuntary_switches += read.involuntary_switches;
            sum.rss_bytes += read.rss_bytes;
            sum.pss_bytes += process.pss()?;
        }
        if let (Some(counter), Some(counted)) = (self.counter.as_mut(), counted) {
            match counted.and_then(|count| counter.start().map(|()| count)) {
                Ok(count) => sum.system_calls = Some(count),
                Err(error) => {
                    self.trouble = Some(error);
                    self.counter = None;
                }
            }
        }
        Ok(sum)
    }

    /// Why snapshots don't tell system calls any more, where they were to.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// What changes from second to second.
    ///
    /// # Errors
    /// If a process has ended.
    pub(super) fn glance(&mut self) -> Result<Glance, String> {
        let mut sum = Glance { cpu_micros: 0, rss_bytes: 0 };
        for process in &mut self.processes {
            let read = process.read()?;
            sum.cpu_micros += (read.user_nanos + read.system_nanos) / 1_000;
            sum.rss_bytes += read.rss_bytes;
        }
        Ok(sum)
    }
}

/// A process, and what was read of it last.
#[derive(Debug)]
struct Process {
    pid: u32,
    threads: HashMap<u32, Thread>,
    user_nanos: u64,
    system_nanos: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
}

/// What a thread had used when it was seen last.
#[derive(Debug, Clone, Copy, Default)]
struct Thread {
    nanos: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
}

/// What a process has used.
#[derive(Debug)]
struct Reading {
    user_nanos: u64,
    system_nanos: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
    rss_bytes: u64,
}

impl Process {
    fn new(pid: u32) -> Self {
        Self {
            pid,
            threads: HashMap::new(),
            user_nanos: 0,
            system_nanos: 0,
            voluntary_switches: 0,
            involuntary_switches: 0,
        }
    }

    fn read(&mut self) -> Result<Reading, String> {
        let rss_bytes = bytes_of(&self.text("status")?, "VmRSS")
            // A process that nobody has waited for yet is still listed, without memory.
            .ok_or_else(|| format!("process {} has ended", self.pid))?;
        let (user_ticks, system_ticks) = ticks(&self.text("stat")?)
            .ok_or_else(|| format!("/proc/{}/stat can't be understood", self.pid))?;
        let of_threads = self.read_threads()?;
        // Threads that come and go between two looks are in the ticks alone.
        let total = of_threads.max((user_ticks + system_ticks) * NANOS_PER_TICK);
        self.split(total, user_ticks, system_ticks);
        Ok(Reading {
            user_nanos: self.user_nanos,
            system_nanos: self.system_nanos,
            voluntary_switches: self.voluntary_switches,
            involuntary_switches: self.involuntary_switches,
            rss_bytes,
        })
    }

    /// Divides `total` as the ticks are divided, but takes neither part back.
    fn split(&mut self, total: u64, user_ticks: u64, system_ticks: u64) {
        let total = total.max(self.user_nanos + self.system_nanos);
        let share = match user_ticks + system_ticks {
            0 => 0.5,
            all => user_ticks as f64 / all as f64,
        };
        let user = (total as f64 * share) as u64;
        self.user_nanos = user.clamp(self.user_nanos, total - self.system_nanos);
        self.system_nanos = total - self.user_nanos;
    }

    /// Sums the threads up, those that are gone included, and gives their time in nanoseconds.
    fn read_threads(&mut self) -> Result<u64, String> {
        let folder = format!("/proc/{}/task", self.pid);
        let entries = fs::read_dir(&folder).map_err(|error| self.trouble(&folder, &error))?;
        for entry in entries.flatten() {
            let Some(tid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // Either file is gone where the thread ends meanwhile: it keeps what it had.
            let (Ok(schedstat), Ok(status)) = (
                fs::read_to_string(entry.path().join("schedstat")),
                fs::read_to_string(entry.path().join("status")),
            ) else {
                continue;
            };
            let first = schedstat.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
            let Some(nanos) = first else { continue };
            self.see(
                tid,
                Thread {
                    nanos,
                    voluntary_switches: number(&status, "voluntary_ctxt_switches").unwrap_or(0),
                    involuntary_switches: number(&status, "nonvoluntary_ctxt_switches").unwrap_or(0),
                },
            );
        }
        let sum = |part: fn(&Thread) -> u64| self.threads.values().map(part).sum();
        let (voluntary, involuntary) =
            (sum(|thread| thread.voluntary_switches), sum(|thread| thread.involuntary_switches));
        (self.voluntary_switches, self.involuntary_switches) = (voluntary, involuntary);
        Ok(sum(|thread| thread.nanos))
    }

    /// Keeps what a thread has used. One that has used less than before is another one with the same id.
    fn see(&mut self, tid: u32, thread: Thread) {
        if let Some(known) = self.threads.insert(tid, thread)
            && thread.nanos < known.nanos
        {
            // No thread has the id 0: those whose ids were taken again are summed up there.
            let gone = self.threads.entry(0).or_default();
            gone.nanos += known.nanos;
            gone.voluntary_switches += known.voluntary_switches;
            gone.involuntary_switches += known.involuntary_switches;
        }
    }

    /// The proportional share of memory, in bytes; 0 where it may not be read.
    fn pss(&self) -> Result<u64, String> {
        match fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)) {
            Ok(text) => Ok(bytes_of(&text, "Pss").unwrap_or(0)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(0),
            Err(error) => Err(self.trouble("smaps_rollup", &error)),
        }
    }

    fn text(&self, name: &str) -> Result<String, String> {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid)).map_err(|error| self.trouble(name, &error))
    }

    fn trouble(&self, name: &str, error: &std::io::Error) -> String {
        match error.kind() {
            ErrorKind::NotFound => format!("there is no process {}", self.pid),
            // ESRCH, for which there is no kind: the process ended while the file was open.
            _ if error.raw_os_error() == Some(libc::ESRCH) => format!("process {} has ended", self.pid),
            _ => format!("can't read {name} of process {}: {error}", self.pid),
        }
    }
}

/// The value of a line `name: value`.
fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The value of a line `name: value kB`.
fn bytes_of(text: &str, name: &str) -> Option<u64> {
    Some(number(text, name)? * 1_024)
}

/// User and system ticks of a `stat`.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    // The second field is the program's name in brackets, which may hold blanks and brackets itself; behind it, the
    // 14th and 15th fields of all are those asked for.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Counts system calls of processes by `perf stat`.
///
/// `perf` counts until the command that it is given ends. That is `cat`, which ends with its stdin: so `perf` goes
/// without a signal, and also goes when this process is killed.
#[derive(Debug)]
struct Counter {
    pids: String,
    counted: u64,
    running: Option<Child>,
}

impl Counter {
    fn new(pids: String) -> Result<Self, String> {
        let mut counter = Self { pids, counted: 0, running: None };
        counter.start()?;
        Ok(counter)
    }

    /// `perf` gives up where a thread ends between being listed and being counted: then it tries again.
    fn start(&mut self) -> Result<(), String> {
        let mut last = self.try_start();
        for _ in 1..STARTS_MAX {
            if last.is_ok() {
                break;
            }
            last = self.try_start();
        }
        last
    }

    fn try_start(&mut self) -> Result<(), String> {
        let mut child = Command::new("perf")
            .args(["stat", "-e", "raw_syscalls:sys_enter", "-x", ",", "-p", &self.pids, "--", "cat"])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("system calls can't be counted: perf: {error}"))?;
        // `perf` starts its command when it counts: what `cat` gives back says so.
        let mut back = [0];
        let written = child.stdin.as_mut().map(|stdin| stdin.write_all(b"\n"));
        let read = child.stdout.as_mut().map(|stdout| stdout.read_exact(&mut back));
        if !matches!((written, read), (Some(Ok(())), Some(Ok(())))) {
            return Err(refused(&said(child)));
        }
        self.running = Some(child);
        Ok(())
    }

    /// Ends counting for now and gives what was counted all told.
    fn stop(&mut self) -> Result<u64, String> {
        let child = self.running.take().ok_or("system calls can't be counted: perf does not run")?;
        let said = said(child);
        let count = said.lines().find_map(|line| {
            let mut fields = line.split(',');
            let count = fields.next()?.parse::<u64>().ok()?;
            fields.any(|field| field == "raw_syscalls:sys_enter").then_some(count)
        });
        self.counted += count.ok_or_else(|| refused(&said))?;
        Ok(self.counted)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(child) = self.running.take() {
            said(child);
        }
    }
}

fn refused(said: &str) -> String {
    let first = said.lines().map(str::trim).find(|line| !line.is_empty());
    format!("system calls can't be counted: perf says: {}", first.unwrap_or("nothing"))
}

/// Lets `perf` end, and gives what it wrote to stderr.
fn said(mut child: Child) -> String {
    drop(child.stdin.take());
    let mut text = String::new();
    if let Some(stderr) = child.stderr.as_mut() {
        // Text that can't be read is no reason to leave the child unwaited for.
        let _ = stderr.read_to_string(&mut text);
    }
    let _ = child.wait();
    text
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn watch_self() -> Watch {
        Watch::new(vec![std::process::id()]).expect("the test's own process is there")
    }

    /// Counts up until the process has used some more user time, for which a test's deadline is long enough.
    fn burn(watch: &mut Watch, until: impl Fn(&ProcessFigures) -> bool) -> ProcessFigures {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            for number in 0..2_000_000_u64 {
                std::hint::black_box(number);
            }
            let figures = watch.snapshot().expect("the process runs");
            if until(&figures) {
                return figures;
            }
            assert!(std::time::Instant::now() < deadline, "it doesn't come: {figures:?}");
        }
    }

    #[test]
    fn working_costs_user_time() {
        let mut watch = watch_self();
        let before = watch.snapshot().expect("the process runs");
        let after = burn(&mut watch, |now| now.user_micros >= before.user_micros + 20_000);
        assert!(after.cpu_micros() - before.cpu_micros() >= 20_000);
        assert!(after.rss_bytes >= 100_000 && after.pss_bytes >= 100_000, "{after:?}");
        assert!(after.rss_bytes >= after.pss_bytes, "{after:?}");
        assert_eq!(after.system_calls, None, "nobody asked for them");
        let glance = watch.glance().expect("the process runs");
        assert!(glance.cpu_micros >= after.cpu_micros(), "{glance:?} behind {after:?}");
        assert!(glance.rss_bytes >= 100_000);
    }

    #[test]
    fn waiting_costs_context_switches() {
        let mut watch = watch_self();
        let before = watch.snapshot().expect("the process runs");
        // A thread that waits, over and over, and is gone before the next look's end or not: neither is taken back.
        let (ask, asked) = std::sync::mpsc::channel::<()>();
        let (answer, answered) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            while asked.recv().is_ok() {
                answer.send(()).expect("somebody waits");
            }
        });
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            ask.send(()).expect("somebody listens");
            answered.recv().expect("an answer comes");
            let now = watch.snapshot().expect("the process runs");
            if now.voluntary_switches > before.voluntary_switches {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "no switch is seen: {now:?}");
        }
        drop(ask);
        other.join().expect("it ends");
    }

    #[test]
    fn figures_never_go_back_when_threads_end() {
        let mut watch = watch_self();
        let mut last = watch.snapshot().expect("the process runs");
        for _ in 0..50 {
            std::thread::spawn(|| (0..300_000_u64).for_each(|number| _ = std::hint::black_box(number)))
                .join()
                .expect("it ends");
            let now = watch.snapshot().expect("the process runs");
            assert!(now.user_micros >= last.user_micros, "{now:?} behind {last:?}");
            assert!(now.system_micros >= last.system_micros, "{now:?} behind {last:?}");
            assert!(now.voluntary_switches >= last.voluntary_switches, "{now:?} behind {last:?}");
            assert!(now.involuntary_switches >= last.involuntary_switches, "{now:?} behind {last:?}");
            last = now;
        }
    }

    #[test]
    fn a_thread_that_is_gone_and_one_with_its_id_both_count() {
        let mut process = Process::new(1);
        let thread = |nanos| Thread { nanos, voluntary_switches: nanos / 10, involuntary_switches: 1 };
        for nanos in [500, 800, 200, 300] {
            process.see(7, thread(nanos));
        }
        let sum = |part: fn(&Thread) -> u64| process.threads.values().map(part).sum::<u64>();
        assert_eq!(sum(|thread| thread.nanos), 800 + 300);
        assert_eq!(sum(|thread| thread.voluntary_switches), 80 + 30);
    }

    #[test]
    fn time_is_split_as_the_ticks_are_and_neither_part_goes_back() {
        let mut process = Process::new(1);
        let parts = |process: &Process| (process.user_nanos, process.system_nanos);
        process.split(1_000, 1, 3);
        assert_eq!(parts(&process), (250, 750));
        process.split(1_200, 1, 5);
        assert_eq!(parts(&process), (250, 950));
        process.split(1_300, 9, 1);
        assert_eq!(parts(&process), (350, 950));
        process.split(1_000, 9, 1);
        assert_eq!(parts(&process), (350, 950));
    }

    #[test]
    fn a_program_s_name_may_hold_anything() {
        let stat = "42 (a) b (c) R 1 42 42 0 -1 4194304 100 0 0 0 17 4 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some((17, 4)));
        assert_eq!(ticks("42 (short) R 1"), None);
        assert_eq!(bytes_of("Name:\tx\nVmRSS:\t     12 kB\n", "VmRSS"), Some(12_288));
        assert_eq!(
            number("nonvoluntary_ctxt_switches:\t5\nvoluntary_ctxt_switches:\t3", "voluntary_ctxt_switches"),
            Some(3)
        );
    }

    #[test]
    fn a_process_that_is_not_there_is_told() {
        // Ids stay far below this: PID_MAX_LIMIT is 4,194,304.
        let error = Watch::new(vec![std::process::id(), 4_194_305]).expect_err("there is none");
        assert_eq!(error, "there is no process 4194305");
        let mut ended = Command::new("true").stdin(Stdio::piped()).spawn().expect("it runs");
        let mut watch = Watch::new(vec![std::process::id()]).expect("the test's own process is there");
        watch.processes.push(Process::new(ended.id()));
        ended.wait().expect("it ends");
        assert!(watch.snapshot().is_err());
        assert!(watch.glance().is_err());
    }

    #[test]
    fn system_calls_are_counted_where_they_can_be() {
        let mut watch = watch_self();
        if let Err(error) = watch.count_system_calls() {
            // No perf here, or no right to use it: it is said, and snapshots do without.
            assert!(error.starts_with("system calls can't be counted: perf"), "{error}");
            assert_eq!(watch.snapshot().expect("the process runs").system_calls, None);
            return;
        }
        let calls = |watch: &mut Watch| {
            let snapshot = watch.snapshot().expect("the process runs");
            snapshot.system_calls.unwrap_or_else(|| panic!("{:?}", watch.trouble()))
        };
        let before = calls(&mut watch);
        for _ in 0..500 {
            // Opening fails with one system call.
            assert!(fs::File::open("/proc/no such file").is_err());
        }
        let after = calls(&mut watch);
        assert!(after >= before + 500, "{before} then {after}");
        assert!(calls(&mut watch) >= after, "counts add up over snapshots");
    }
}
