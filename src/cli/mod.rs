//! The arguments of the `hailer` program, and what is run because of them.
//!
//! Exit codes: 0 done; 2 the arguments can't be understood; 1 anything else, with a sentence on stderr.

#![allow(clippy::disallowed_methods)]

mod args;
mod serve;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::limits::Limits;
use args::{Cli, Command};

/// Runs the program with the arguments of the process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => serve::run(cli.serve),
        Some(Command::Serve(serve)) => serve::run(serve),
        Some(Command::Version) => print(&format!("hailer {}\n", env!("CARGO_PKG_VERSION"))),
        Some(Command::Limits) => print(&limits_text()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // There is nowhere left to say that stderr is closed.
            let _ = writeln!(std::io::stderr(), "hailer: {message}");
            ExitCode::FAILURE
        }
    }
}

fn limits_text() -> String {
    let table = Limits::default().table();
    let width = |column: fn(&(&str, String, &str)) -> usize| table.iter().map(column).max().unwrap_or(0);
    let (names, values) = (width(|row| row.0.len()), width(|row| row.1.len()));
    let lines =
        table.iter().map(|(name, value, about)| format!("{name:names$}  {value:>values$}  {about}\n"));
    format!(
        "Set one with: hailer serve --limit NAME=VALUE (bytes: 64KiB, 1MiB; times: 250ms, 10s)\n\n{}",
        lines.collect::<String>()
    )
}

/// Writes to stdout; a reader that has gone (`hailer limits | head`) is no failure.
fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("can't write to stdout: {error}"))
        }
        _ => Ok(()),
    }
}
