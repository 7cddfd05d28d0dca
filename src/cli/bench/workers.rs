//! Several processes: the first publishes and tells, the others are clients alone.
//!
//! ```text
//!  publisher                                  worker
//!     │ ── starts it, with its number ─────────► │
//!     │ ◄──────────────────────────── entered ── │  its clients are in
//!     │ ── begin ──────────────────────────────► │
//!     │ ◄─────────────────────────── complete ── │  so many messages have come to all its clients
//!     │ ── end, with the number of messages ───► │
//!     │ ◄────────────────────────────── share ── │
//! ```
//!
//! Messages say when they were to leave, on the one clock that all processes of a machine have.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use mio::Waker;
use serde::{Deserialize, Serialize};

use super::args::{Bench, Scenario, Sources};
use super::engine::Engine;
use super::process::Watch;
use super::scenario;
use super::target::Target;
use crate::cli::Failure;
use crate::load::outcome::ProcessFigures;
use crate::load::share::{Entrance, Share, merge, merge_figures, merge_series};

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Entered(Entrance),
    Complete(u32),
    Share(Box<Share>),
    /// Why it can't go on.
    Failed(String),
}

/// What a worker is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Begin,
    End { messages: u32 },
}

/// One worker, as the publisher sees it.
struct Worker {
    child: Child,
    stdin: ChildStdin,
    entrance: Option<Entrance>,
    complete: u32,
    share: Option<Share>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has ended by itself, unless the run has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All workers.
pub(super) struct Workers {
    workers: Vec<Worker>,
    said: Receiver<(usize, Option<Said>)>,
    failure: Option<String>,
}

/// A process' part of a run.
pub(super) fn part(bench: &Bench, worker: u32) -> Result<Bench, Failure> {
    let processes = bench.processes;
    if processes == 1 {
        return Ok(bench.clone());
    }
    let usage = |message: &str| Failure { message: message.to_owned(), usage: true };
    if !matches!(bench.scenario, Scenario::Idle | Scenario::FanOut | Scenario::Burst) {
        return Err(usage("several processes can be idle, fan-out and burst"));
    }
    if bench.clients < processes {
        return Err(usage("there are fewer clients than processes"));
    }
    let border = |worker: u32| (u64::from(bench.clients) * u64::from(worker) / u64::from(processes)) as u32;
    let mut part = bench.clone();
    part.first_client = border(worker);
    part.clients = border(worker + 1) - border(worker);
    part.connect_rate = bench.connect_rate.div_ceil(processes);
    if bench.source.is_none() && Target::parse(&bench.url)?.address.ip().is_loopback() {
        part.source = Some(Sources::loopback(worker));
    }
    Ok(part)
}

impl Workers {
    /// Starts all but the first process, with the arguments of this one.
    pub(super) fn start(bench: &Bench, waker: &Arc<Waker>) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("can't start a further process: {error}");
        let program = std::env::current_exe().map_err(failed)?;
        let (says, said) = channel();
        let mut workers = Vec::new();
        for number in 1..bench.processes {
            let mut child = Command::new(&program)
                .args(std::env::args_os().skip(1))
                .args(["--worker", &number.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(failed)?;
            let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
                return Err("a further process has no pipes".to_owned());
            };
            let at = workers.len();
            listen(BufReader::new(stdout), says.clone(), Arc::clone(waker), move |said| (at, said))?;
            workers.push(Worker { child, stdin, entrance: None, complete: 0, share: None });
        }
        Ok(Self { workers, said, failure: None })
    }

    /// Takes what workers have said meanwhile.
    pub(super) fn take(&mut self) {
        while let Ok((at, said)) = self.said.try_recv() {
            let worker = &mut self.workers[at];
            match said {
                Some(Said::Entered(entrance)) => worker.entrance = Some(entrance),
                Some(Said::Complete(messages)) => worker.complete = messages,
                Some(Said::Share(share)) => worker.share = Some(*share),
                Some(Said::Failed(why)) => self.failure = Some(why),
                None if worker.share.is_none() => {
                    self.failure.get_or_insert_with(|| "a process of the load tool has ended".to_owned());
                }
                None => {}
            }
        }
    }

    /// Whether all clients of all workers have so many messages.
    pub(super) fn have(&self, messages: u32) -> bool {
        self.workers.iter().all(|worker| worker.complete >= messages)
    }

    /// Something that grows as they get on.
    pub(super) fn progress(&self) -> u64 {
        self.workers.iter().map(|worker| u64::from(worker.complete)).sum()
    }

    /// Why the run can't go on.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn tell(&mut self, told: &Told) -> Result<(), String> {
        let line = serde_json::to_string(told).map_err(|error| error.to_string())? + "\n";
        for worker in &mut self.workers {
            let written = worker.stdin.write_all(line.as_bytes()).and_then(|()| worker.stdin.flush());
            written.map_err(|error| format!("a process of the load tool has gone: {error}"))?;
        }
        Ok(())
    }
}

/// Reads lines on a thread of its own, and wakes the loop for each; the end of them is `None`.
pub(super) fn listen<T, M>(
    source: impl BufRead + Send + 'static,
    to: Sender<M>,
    waker: Arc<Waker>,
    wrap: impl Fn(Option<T>) -> M + Send + 'static,
) -> Result<(), String>
where
    T: for<'a> Deserialize<'a> + Send + 'static,
    M: Send + 'static,
{
    let work = move || {
        let values = source.lines().map_while(|line| serde_json::from_str(&line.ok()?).ok());
        for value in values.map(Some).chain([None]) {
            if to.send(wrap(value)).is_err() || waker.wake().is_err() {
                return;
            }
        }
    };
    let started = std::thread::Builder::new().name("listen".to_owned()).spawn(work);
    started.map(|_| ()).map_err(|error| format!("can't start a thread: {error}"))
}

impl Engine {
    /// Waits until the clients of all workers are in, and adds how they came.
    pub(super) fn wait_for_workers(&mut self, patience: Duration) -> Result<(), Failure> {
        let Some(workers) = &self.workers else { return Ok(()) };
        let all = workers.workers.len();
        let entered = |engine: &Self| {
            let workers = engine.workers.iter().flat_map(|workers| &workers.workers);
            workers.filter(|worker| worker.entrance.is_some()).count()
        };
        if !self.run(patience, |engine| entered(engine) as u64, |engine| entered(engine) == all)? {
            return Err(Failure::from("the clients of a further process do not get in".to_owned()));
        }
        let Some(workers) = &mut self.workers else { return Ok(()) };
        for entrance in workers.workers.iter().filter_map(|worker| worker.entrance.as_ref()) {
            self.joined_elsewhere += entrance.joined;
            self.core.upgrade.add_pairs(&entrance.upgrade);
            self.core.join.add_pairs(&entrance.join);
        }
        Ok(workers.tell(&Told::Begin)?)
    }

    /// Asks the workers for what they have measured, and adds it.
    pub(super) fn gather(&mut self, patience: Duration) -> Result<Option<ProcessFigures>, Failure> {
        let messages = self.core.ledger.next_number();
        let Some(workers) = &mut self.workers else { return Ok(None) };
        workers.tell(&Told::End { messages })?;
        let all = workers.workers.len();
        let given = |engine: &Self| {
            let workers = engine.workers.iter().flat_map(|workers| &workers.workers);
            workers.filter(|worker| worker.share.is_some()).count()
        };
        // Each of them may wait as long for what does not come.
        if !self.run(patience * 2, |engine| given(engine) as u64, |engine| given(engine) == all)? {
            return Err(Failure::from(
                "a process of the load tool does not tell what it has measured".to_owned(),
            ));
        }
        let workers = self.workers.take().map(|workers| workers.workers).unwrap_or_default();
        let shares: Vec<Share> = workers.into_iter().filter_map(|mut worker| worker.share.take()).collect();
        merge(&mut self.core.ledger, &shares);
        let mut figures = ProcessFigures::default();
        for share in &shares {
            merge_figures(&mut figures, &share.generator);
            merge_series(&mut self.series, &share.series);
            self.core.heartbeats.add_pairs(&share.heartbeats);
            for (what, count) in &share.errors {
                *self.core.errors.entry(what.clone()).or_default() += count;
            }
        }
        Ok(Some(figures))
    }
}

/// Is one of the workers, from its first client to its share.
pub(super) fn work(bench: &Bench, worker: u32) -> Result<(), Failure> {
    let result = try_to_work(bench, worker);
    if let Err(failure) = &result {
        say(&Said::Failed(failure.message.clone()))?;
    }
    result
}

fn try_to_work(bench: &Bench, worker: u32) -> Result<(), Failure> {
    let mut part = part(bench, worker)?;
    (part.pid, part.quiet) = (Vec::new(), true);
    let mut engine = scenario::prepare(&part, false)?;
    let (tells, told) = channel();
    listen(BufReader::new(std::io::stdin()), tells, engine.waker(), |told: Option<Told>| told)?;
    scenario::enter(&part, &mut engine)?;
    // What it learns of messages, it learns from those that come.
    engine.core.learns = true;
    let (upgrade, join) = (engine.core.upgrade.to_pairs(), engine.core.join.to_pairs());
    say(&Said::Entered(Entrance { joined: engine.core.joined, upgrade, join }))?;
    let mut own = Watch::new(vec![std::process::id()])?;
    let mut begin = own.snapshot()?;
    let (mut complete, mut messages) = (0, None);
    while messages.is_none() {
        engine.turn(u64::MAX)?;
        match told.try_recv() {
            Ok(Some(Told::Begin)) => begin = own.snapshot()?,
            Ok(Some(Told::End { messages: all })) => messages = Some(all),
            // Nobody is there to tell.
            Ok(None) => return Ok(()),
            Err(_) => {}
        }
        if engine.core.ledger.completed != complete {
            complete = engine.core.ledger.completed;
            say(&Said::Complete(complete))?;
        }
    }
    let messages = messages.unwrap_or_default();
    let received = |engine: &Engine| engine.core.ledger.checks.received;
    engine.run(part.patience, received, |engine| engine.core.ledger.completed >= messages)?;
    let audience = engine.core.joined;
    engine.core.ledger.learn_total(messages, audience);
    let mut share = Share::of(&engine.core.ledger, &engine.core.heartbeats);
    share.generator = own.snapshot()?.since(&begin);
    (share.series, share.errors) =
        (std::mem::take(&mut engine.series), std::mem::take(&mut engine.core.errors));
    say(&Said::Share(Box::new(share)))?;
    engine.close();
    Ok(())
}

fn say(said: &Said) -> Result<(), String> {
    let line = serde_json::to_string(said).map_err(|error| error.to_string())? + "\n";
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| format!("nobody listens: {error}"))
}
