//! `hailer bench`: very many clients in one loop, and what they see of a server.

mod api;
mod args;
mod churn;
mod compare;
mod connect;
mod core;
mod demand;
mod engine;
mod herd;
mod pollers;
mod private;
mod process;
mod progress;
mod publish;
mod scenario;
mod slow;
mod target;
mod workers;

pub(super) use args::BenchCommand;

use std::fs;
use std::path::Path;

use super::Failure;
use crate::load::outcome::Outcome;
use crate::load::report;
use args::{Bench, Other};

/// Microseconds of the clock that all processes of a machine share.
fn clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0) * 1_000_000 + nanos.unwrap_or(0) / 1_000
}

pub(super) fn run(command: &BenchCommand) -> Result<(), Failure> {
    match (&command.other, &command.bench) {
        (Some(Other::Compare(compare)), _) => compare::run(compare),
        (None, Some(bench)) => run_scenario(&Bench { url: target::url(bench)?, ..bench.clone() }),
        (None, None) => {
            Err(Failure { message: "give a scenario: hailer bench --help".to_owned(), usage: true })
        }
    }
}

fn run_scenario(bench: &Bench) -> Result<(), Failure> {
    if let Some(worker) = bench.worker {
        return workers::work(bench, worker);
    }
    let outcome = scenario::run(bench)?;
    tell(bench, &outcome)?;
    verdict(&outcome)
}

/// Writes what the run has come to where it was asked for.
fn tell(bench: &Bench, outcome: &Outcome) -> Result<(), Failure> {
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|error| format!("can't write {}: {error}", path.display()))
    };
    if let Some(path) = &bench.html {
        write(path, &report::html(outcome))?;
    }
    let json = bench.json.as_ref().map(|path| (path, path.as_os_str() == "-"));
    if let Some((path, on_stdout)) = json {
        let text = serde_json::to_string_pretty(outcome).map_err(|error| error.to_string())? + "\n";
        if on_stdout {
            return Ok(super::print(&text)?);
        }
        write(path, &text)?;
    }
    Ok(super::print(&report::text(outcome))?)
}

/// A sentence about what went wrong, if something did.
fn verdict(outcome: &Outcome) -> Result<(), Failure> {
    let deliveries = &outcome.deliveries;
    let mut wrong: Vec<String> = [
        (deliveries.lost, "lost"),
        (deliveries.doubled, "doubled"),
        (deliveries.out_of_order, "out of order"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    wrong.extend(outcome.errors.iter().map(|(what, count)| format!("{count} × {what}")));
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::from(format!("not all went well: {}", wrong.join("; "))))
}
