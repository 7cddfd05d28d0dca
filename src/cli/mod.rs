//! The arguments of the `hailer` program, and what is run because of them.
//!
//! Exit codes: 0 done; 2 the arguments can't be understood; 1 anything else, with a sentence on stderr.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod api_key;
mod args;
mod bench;
mod check;
mod client;
mod connections;
mod deny;
mod descriptors;
mod disconnect;
mod doctor;
mod init;
mod log;
mod publish;
mod serve;
mod staff;
mod token;
mod top;
mod topics;
mod users;

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::config::{self, ConfigError, Flags, Inputs, Loaded, OTHER_VARIABLES};
use crate::limits::Limits;
use args::{Cli, Command};

/// Why a command has failed, for stderr.
struct Failure {
    /// Empty if it was said already.
    message: String,
    /// Whether the command line is to blame.
    usage: bool,
}

impl Failure {
    /// Writes it to stderr; the exit code.
    fn tell(&self) -> ExitCode {
        if !self.message.is_empty() {
            // There is nowhere left to say that stderr is closed.
            let _ = writeln!(std::io::stderr(), "{self}");
        }
        if self.usage { ExitCode::from(2) } else { ExitCode::FAILURE }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, usage: false }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { message: error.to_string(), usage: error.is_of_flags() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, line) in self.message.lines().enumerate() {
            write!(f, "{}hailer: {line}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => serve::run(cli.serve),
        Some(Command::Serve(serve)) => serve::run(serve),
        Some(Command::Init(init)) => init::run(&init.file).map_err(Failure::from),
        Some(Command::CheckConfig(serve)) => return check::run(serve),
        Some(Command::Doctor(doctor)) => doctor::run(&doctor),
        Some(Command::Token(token)) => token::run(token),
        Some(Command::Users(users)) => users::run(users).map_err(Failure::from),
        Some(Command::Staff(staff)) => staff::run(staff).map_err(Failure::from),
        Some(Command::Deny(deny)) => deny::run(deny).map_err(Failure::from),
        Some(Command::Publish(publish)) => publish::run(&publish),
        Some(Command::Disconnect(disconnect)) => disconnect::run(&disconnect),
        Some(Command::Connections(connections)) => connections::run(&connections),
        Some(Command::Topics(topics)) => topics::run(&topics),
        Some(Command::Top(top)) => top::run(&top),
        Some(Command::Bench(bench)) => bench::run(&bench),
        Some(Command::ApiKey(command)) => api_key::run(command),
        Some(Command::Version) => {
            print(&format!("hailer {}\n", env!("CARGO_PKG_VERSION"))).map_err(Failure::from)
        }
        Some(Command::Limits) => print(&limits_text()).map_err(Failure::from),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

/// Reads the configuration from the file, the environment and the flags.
fn load(file: Option<&Path>, flags: Flags) -> Result<Loaded, Failure> {
    load_with(file, flags, &|path| std::fs::read(path))
}

/// The same with another way to read the files that settings name.
fn load_with(
    file: Option<&Path>,
    flags: Flags,
    read: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
) -> Result<Loaded, Failure> {
    let text = file.map(read_text).transpose()?;
    let environment = environment()?;
    Ok(config::load(&Inputs { file: file.zip(text.as_deref()), environment: &environment, flags, read })?)
}

/// An address that is listened on, as a program on the same machine connects to it.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn read_text(path: &Path) -> Result<String, String> {
    let name = path.display();
    let bytes = std::fs::read(path).map_err(|error| {
        format!("can't read {name}: {error}. `hailer init {name}` writes a configuration")
    })?;
    // The error would hold the text.
    String::from_utf8(bytes).map_err(|_| format!("{name} is not text (UTF-8)"))
}

/// The variables that may be settings.
fn environment() -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for (name, value) in std::env::vars_os() {
        let is_setting = |name: &&str| name.starts_with("HAILER_") && !OTHER_VARIABLES.contains(name);
        let Some(name) = name.to_str().filter(is_setting) else { continue };
        let value = value.into_string().map_err(|_| format!("{name}: the value is not text (UTF-8)"))?;
        found.push((name.to_owned(), value));
    }
    found.sort();
    Ok(found)
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

/// A number of things: "1 topic", "2 topics".
fn count_of(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Says on stderr that something may not be meant so.
fn warn(sentence: &str) {
    // There is nowhere left to say that stderr is closed.
    let _ = writeln!(std::io::stderr(), "warning: {sentence}");
}

/// Bytes that nobody can guess.
fn fresh_bytes<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system gives no random bytes: {error}"))?;
    Ok(bytes)
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
