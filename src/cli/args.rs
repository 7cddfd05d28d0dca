//! The arguments.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::UnknownArgumentValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::api_key::ApiKeyCommand;
use super::bench::BenchCommand;
use super::check;
use super::connections::Connections;
use super::deny::Deny;
use super::disconnect::Disconnect;
use super::doctor::Doctor;
use super::publish::Publish;
use super::staff::Staff;
use super::top::Top;
use super::topics::Topics;
use super::users::Users;
use crate::auth::token::Algorithm;
use crate::channel::{SlowReader, TopicPattern};
use crate::config::{self, ApiListen, CheckOrigin, Flags};
use crate::limits::{Bound, IoUring, Limits};

const EXAMPLES: &str = "\
Examples:
  hailer                                   the open demo on http://127.0.0.1:4000
  hailer init                              writes hailer.toml with a fresh secret
  hailer serve --config hailer.toml        only clients with a token
  hailer serve --config hailer.toml --listen 0.0.0.0:8080
                                           for other machines as well
  hailer serve --topic 'room:*'            the demo with any room
  hailer serve --timeout 90s --shards 4
  hailer serve --limit message_bytes_max=1MiB --limit frame_bytes_max=1MiB
  hailer token --config hailer.toml --sub alice --ttl 1h --claim staff=true
  hailer check-config --config hailer.toml
  hailer api-key orders --scope publish    a key of the HTTP API
  hailer publish room:lobby 'maintenance in 5 minutes'
  hailer top                               what the server does, live
  hailer limits                            every limit with its default";

/// A live-notification server that speaks the Phoenix Channels protocol.
#[derive(Debug, Parser)]
#[command(name = "hailer", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(max_term_width = 100)]
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
    /// Writes a commented configuration, and a fresh secret beside it
    Init(Init),
    /// Prints the configuration in force, what is unwise about it, and whether the server would start with it
    #[command(after_help = check::HELP)]
    CheckConfig(Serve),
    /// Says how many clients this machine holds, what gives out first, and what to set
    Doctor(Doctor),
    /// Makes a token for development
    Token(Token),
    /// Adds, lists and changes the users of the store
    #[command(subcommand)]
    Users(Users),
    /// Adds, lists and changes the accounts that may sign in to the back office
    #[command(subcommand)]
    Staff(Staff),
    /// Denies tokens, and lists what is denied
    #[command(subcommand)]
    Deny(Deny),
    /// Publishes a message, through the API of a running server
    Publish(Publish),
    /// Closes the sockets of a user, through the API of a running server
    Disconnect(Disconnect),
    /// Lists who is connected to a running server
    Connections(Connections),
    /// Lists the topics of a running server, with their numbers of subscribers
    Topics(Topics),
    /// Shows what a running server does, each second
    Top(Top),
    /// Measures a server: clients by the thousand, every message checked
    Bench(Box<BenchCommand>),
    /// Makes a key of the API
    ApiKey(ApiKeyCommand),
    /// Lists every limit with its default
    Limits,
    /// Prints the version
    Version,
}

#[derive(Debug, Clone, Args)]
pub(super) struct ConfigFile {
    /// The configuration file; without it there is none
    #[arg(long, value_name = "FILE", env = config::FILE_VARIABLE, hide_env_values = true)]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) file: ConfigFile,

    /// Address to listen on; port 0 takes any free port [default: 127.0.0.1:4000]
    #[arg(long, value_name = "IP:PORT", value_parser = parse_address)]
    pub(super) listen: Option<SocketAddr>,

    /// What other servers have for `--listen`, so that the answer names it
    #[arg(long, aliases = ["bind", "host", "address", "addr"], hide = true, value_name = "PORT")]
    #[arg(value_parser = UnknownArgumentValueParser::suggest_arg("--listen")
        .and_suggest("the address and the port are one: --listen 127.0.0.1:4000"))]
    pub(super) port: Option<String>,

    /// Address of the HTTP API and the back office, or "off" [default: 127.0.0.1:4001]
    #[arg(long, value_name = "IP:PORT", value_parser = parse_api_listen)]
    pub(super) api_listen: Option<ApiListen>,

    /// Event loops, one thread each [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) shards: Option<u16>,

    /// A topic of the open demo besides room:lobby: a name, or a prefix with * at its end; repeatable
    #[arg(long = "topic", value_name = "PATTERN")]
    pub(super) topics: Vec<TopicPattern>,

    /// Time without a byte from a client after which its WebSocket is closed [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    pub(super) timeout: Option<Duration>,

    /// What becomes of a subscriber that falls behind a topic's log [default: close]
    #[arg(long, value_name = "POLICY")]
    pub(super) slow_readers: Option<SlowReaders>,

    /// Whether broadcasts are sent by io_uring, many with one system call [default: auto]
    #[arg(long, value_name = "USE")]
    pub(super) io_uring: Option<IoUringUse>,

    /// Which web pages may connect: conn, true, false, or origins with commas between them [default: conn]
    #[arg(long, value_name = "ORIGINS", value_parser = CheckOrigin::parse)]
    pub(super) check_origin: Option<CheckOrigin>,

    /// Sets a limit; repeatable (see `hailer limits`)
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = parse_limit)]
    pub(super) limits: Vec<(String, String)>,

    /// How much is logged to stderr [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<LogLevel>,
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Where to write; the secret goes into a file beside it. What is there is left alone
    #[arg(value_name = "FILE", default_value = "hailer.toml")]
    pub(super) file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(flatten)]
    pub(super) file: ConfigFile,

    /// The user's id
    #[arg(long, value_name = "USER")]
    pub(super) sub: String,

    /// How long the token is good, such as 30s, 1h, 4w
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_timeout)]
    pub(super) ttl: Duration,

    /// A further claim; JSON if it reads as such, else a text; repeatable
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = parse_claim)]
    pub(super) claims: Vec<(String, serde_json::Value)>,

    /// A private key in PEM to sign with, rather than the configured secret
    #[arg(long, value_name = "FILE", requires = "algorithm")]
    pub(super) key: Option<PathBuf>,

    /// The algorithm of --key: RS256, PS256, ES256, EdDSA, …
    #[arg(long, value_name = "NAME", requires = "key")]
    pub(super) algorithm: Option<Algorithm>,

    /// The id of --key, for the token's header
    #[arg(long, value_name = "ID", requires = "key")]
    pub(super) kid: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SlowReaders {
    /// Close it with code 4008; the client comes back
    Close,
    /// Let it go on behind the gap, with the event `gap` to say how many messages it has missed
    Skip,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum IoUringUse {
    /// Where the system has it and lets the process use it
    Auto,
    /// Don't start without it
    On,
    /// Send them one by one
    Off,
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

impl Serve {
    /// What the command line says of settings.
    pub(super) fn flags(self) -> Flags {
        Flags {
            listen: self.listen,
            api_listen: self.api_listen,
            shards: self.shards,
            topics: self.topics,
            timeout: self.timeout,
            slow_readers: self.slow_readers.map(|policy| match policy {
                SlowReaders::Close => SlowReader::Close,
                SlowReaders::Skip => SlowReader::Skip,
            }),
            io_uring: self.io_uring.map(|wanted| match wanted {
                IoUringUse::Auto => IoUring::Auto,
                IoUringUse::On => IoUring::On,
                IoUringUse::Off => IoUring::Off,
            }),
            limits: self.limits,
            log_level: self.log_level.map(|level| match level {
                LogLevel::Off => config::LogLevel::Off,
                LogLevel::Error => config::LogLevel::Error,
                LogLevel::Warn => config::LogLevel::Warn,
                LogLevel::Info => config::LogLevel::Info,
                LogLevel::Debug => config::LogLevel::Debug,
                LogLevel::Trace => config::LogLevel::Trace,
            }),
            check_origin: self.check_origin,
        }
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let wrong = || "give IP:PORT, for example 127.0.0.1:4000, with a port from 0 to 65535".to_owned();
    // What the file takes means the same here; other names are looked up.
    if let Some(address) = config::address(text) {
        return Ok(address);
    }
    text.to_socket_addrs().map_err(|_| wrong())?.next().ok_or_else(wrong)
}

fn parse_api_listen(text: &str) -> Result<ApiListen, String> {
    if text == "off" { Ok(ApiListen::Off) } else { parse_address(text).map(ApiListen::At) }
}

pub(super) fn parse_timeout(text: &str) -> Result<Duration, String> {
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

/// A value that is no JSON is a text, so that names need no quotes within quotes.
fn parse_claim(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("give NAME=VALUE, for example staff=true")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
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
        let wrong: [&[&str]; 9] = [
            &["--api-listen", "on"],
            &["--listen", "127.0.0.1:99999"],
            &["--listen", "nonsense"],
            &["--shards", "0"],
            &["--topic", "a*b"],
            &["--timeout", "soon"],
            &["--limit", "frame_byte_max=1"],
            &["--log-level", "loud"],
            &["--check-origin", "https://example.com/path"],
        ];
        for args in wrong {
            let error = Cli::try_parse_from(["hailer", "serve"].iter().chain(args)).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
    }
}
