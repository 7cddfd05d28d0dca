//! `hailer doctor`
//!
//! [`machine`] reads, [`bounds`] and [`advice`] judge, [`report`] writes; what a client costs stands in [`figures`].

mod advice;
mod bounds;
mod figures;
mod machine;
mod report;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, value_parser};

use super::Failure;
use super::args::ConfigFile;
use crate::config::{Flags, Loaded};
use bounds::Plan;
use figures::{OPEN_USER_BYTES, TOKEN_USER_BYTES};
use machine::Machine;
use report::Report;

const EXAMPLES: &str = "\
Examples:
  hailer doctor                            what gives out first, and when
  hailer doctor --config hailer.toml --clients 1000000
                                           whether a million fits, and what to set
  hailer doctor --pid \"$(systemctl show -P MainPID hailer)\"
                                           with the limits of a running server

Exit code: 0 if --clients fit (or connections_per_shard_max of every shard, if that is configured), else 1. What \
can't be read is called unknown and stands in nobody's way.";

/// What is asked about.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Doctor {
    #[command(flatten)]
    file: ConfigFile,
    /// How many clients there are to be [default: connections_per_shard_max of every shard, if that is configured]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=1_000_000_000_000))]
    clients: Option<u64>,
    /// Memory of the server for each client [default: as measured, 184 without tokens, 622 with them]
    #[arg(long, value_name = "B", value_parser = value_parser!(u64).range(1..=1_000_000_000))]
    user_bytes: Option<u64>,
    /// The running server whose limits count, rather than those that this command was started with
    #[arg(long, value_name = "PID", value_parser = value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// The folder in which proc and sys are, for a container that sees those of its host elsewhere
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Prints what was found; clients that don't fit are a failure.
pub(super) fn run(doctor: &Doctor) -> Result<(), Failure> {
    let loaded = super::load(doctor.file.config.as_deref(), Flags::default())?;
    let machine = machine::read(&doctor.root, doctor.pid);
    if let Some(pid) = doctor.pid.filter(|_| machine.descriptors_soft.is_none()) {
        return Err(Failure::from(format!(
            "can't read the limits of process {pid}: does it run, and is it yours?"
        )));
    }
    let plan = plan(doctor, &loaded, &machine);
    let report = Report::new(&machine, &plan);
    if doctor.json {
        super::print(&super::client::json(&report)?)?;
    } else {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        super::print(&report.text(colours, width()))?;
    }
    report.failure().map_or(Ok(()), |message| Err(Failure::from(message)))
}

/// Characters of a line: those of the terminal. A file or another program gets whole lines.
fn width() -> usize {
    let size = std::io::stdout().is_terminal().then(ratatui::crossterm::terminal::size);
    let columns = size.and_then(Result::ok).map_or(usize::MAX, |(columns, _)| usize::from(columns));
    columns.clamp(60, usize::MAX)
}

/// What the configuration and the arguments come to on this machine.
fn plan(doctor: &Doctor, loaded: &Loaded, machine: &Machine) -> Plan {
    let settings = &loaded.settings;
    let shards = settings.shards.map(u64::from).or(machine.parallelism()).unwrap_or(1);
    let limits = settings.limits.clone();
    // The default bounds nothing that a machine could hold, so it is nobody's wish.
    let is_chosen = loaded.places.contains_key("limits.connections_per_shard_max");
    let chosen = is_chosen.then(|| (limits.connections_per_shard_max as u64).saturating_mul(shards));
    let measured = if settings.is_demo() { OPEN_USER_BYTES } else { TOKEN_USER_BYTES };
    Plan {
        shards,
        limits,
        user_bytes: doctor.user_bytes.unwrap_or(measured),
        clients: doctor.clients.or(chosen),
    }
}
