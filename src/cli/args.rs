//! The arguments.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::channel::TopicPattern;
use crate::limits::{Bound, Limits};

const EXAMPLES: &str = "\
Examples:
  hailer                                   the demo on http://127.0.0.1:4000
  hailer serve --listen 0.0.0.0:8080       reachable from other machines
  hailer serve --topic 'room:*'            any room besides room:lobby
  hailer serve --timeout 90s --shards 4
  hailer serve --limit message_bytes_max=1MiB --limit frame_bytes_max=1MiB
  hailer limits                            every limit with its default";

/// A live-notification server that speaks the Phoenix Channels protocol.
#[derive(Debug, Parser)]
#[command(name = "hailer", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Runs the server (the default)
    #[command(after_help = EXAMPLES)]
    Serve(Serve),
    /// Lists every limit with its default
    Limits,
    /// Prints the version
    Version,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Address to listen on; port 0 takes any free port
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:4000", value_parser = parse_address)]
    pub(super) listen: SocketAddr,

    /// Event loops, one thread each [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) shards: Option<u16>,

    /// A topic that can be joined besides room:lobby: a name, or a prefix with * at its end; repeatable
    #[arg(long = "topic", value_name = "PATTERN")]
    pub(super) topics: Vec<TopicPattern>,

    /// Time without a byte from a client after which its WebSocket is closed
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_timeout)]
    pub(super) timeout: Duration,

    /// What becomes of a subscriber that falls behind a topic's log
    #[arg(long, value_name = "POLICY", default_value = "close")]
    pub(super) slow_readers: SlowReaders,

    /// Sets a limit; repeatable (see `hailer limits`)
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = parse_limit)]
    pub(super) limits: Vec<(String, String)>,

    /// How much is logged to stderr
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: LogLevel,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SlowReaders {
    /// Close it with code 4008; the client comes back
    Close,
    /// Let it go on behind the gap, with the event `gap` to say how many messages it has missed
    Skip,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let wrong = || "give IP:PORT, for example 127.0.0.1:4000, with a port from 0 to 65535".to_owned();
    text.to_socket_addrs().map_err(|_| wrong())?.next().ok_or_else(wrong)
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    Duration::parse(text)
        .filter(|time| *time >= Duration::from_secs(1))
        .ok_or_else(|| "give a time of at least a second, for example 60s or 2m".to_owned())
}

/// Checks the name and the value, so that a wrong one is a usage error.
fn parse_limit(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE, for example message_bytes_max=1MiB")?;
    Limits::default().set(name, value).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_command() {
        let cli = Cli::try_parse_from(["hailer", "--listen", "127.0.0.1:0", "--topic", "room:*"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.topics.len(), 1);
    }

    #[test]
    fn wrong_values_are_usage_errors() {
        let wrong: [&[&str]; 7] = [
            &["--listen", "127.0.0.1:99999"],
            &["--listen", "nonsense"],
            &["--shards", "0"],
            &["--topic", "a*b"],
            &["--timeout", "soon"],
            &["--limit", "frame_byte_max=1"],
            &["--log-level", "loud"],
        ];
        for args in wrong {
            let error = Cli::try_parse_from(["hailer", "serve"].iter().chain(args)).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
    }
}
