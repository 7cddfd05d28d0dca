//! The arguments of `hailer bench`.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::compare::Compare;
use crate::config::FILE_VARIABLE;
use crate::limits::Bound;
use crate::load::TOPIC;

const EXAMPLES: &str = "\
Examples:
  hailer bench fan-out --clients 10000 --pid $(pgrep -x hailer)
      one message at a time, the next when the last subscriber has it
  hailer bench fan-out --rate 300 --duration 10s --clients 2000
      messages by a schedule that does not wait
  hailer bench burst --burst 100
      a hundred messages in one piece
  hailer bench idle --clients 15000 --duration 60s
  hailer bench fan-out ws://127.0.0.1:9001/ --plain
      any server that sends a text to all who are connected

The clients join a topic that only a load test uses, room:bench, unless --topic names another. Whoever has \
joined that one gets the messages of the test.

A server measures itself best alone on its cores: taskset -c 0 hailer serve …, taskset -c 1 hailer bench …

Tokens come from --token-file, --tokens or the variable HAILER_BENCH_TOKEN, since other users of the machine see the \
arguments. The exit code is 1 if anything was lost, doubled, out of order or refused.";

/// A run, or what is made of several.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(in crate::cli) struct BenchCommand {
    #[command(subcommand)]
    pub(super) other: Option<Other>,
    #[command(flatten)]
    pub(super) bench: Option<Bench>,
}

/// What is no run.
#[derive(Debug, Subcommand)]
pub(super) enum Other {
    /// Compares the outcomes of runs
    Compare(Compare),
}

/// What is measured, and how.
#[derive(Debug, Clone, Args)]
pub(super) struct Bench {
    /// What the clients do
    #[arg(value_enum)]
    pub(super) scenario: Scenario,

    /// Where they connect; with Phoenix, /socket/websocket unless a path is given [default: where the server of --config
    /// listens, or else ws://127.0.0.1:4000]
    #[arg(value_name = "URL")]
    pub(super) given_url: Option<String>,

    /// The same, once it is known
    #[arg(skip)]
    pub(super) url: String,

    /// The configuration file of the server
    #[arg(long, value_name = "FILE", env = FILE_VARIABLE, hide_env_values = true)]
    pub(super) config: Option<PathBuf>,

    /// Speaks WebSocket alone: a text that one client sends is expected to come to all others
    #[arg(long)]
    pub(super) plain: bool,

    /// How many clients there are
    #[arg(long, short = 'c', value_name = "N", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) clients: u32,

    /// The topic that all clients join, and the messages go to
    #[arg(long, value_name = "TOPIC", default_value = TOPIC)]
    pub(super) topic: String,

    /// A topic that each client joins besides; {user} becomes its token's sub, {number} its number
    #[arg(long, value_name = "TOPIC")]
    pub(super) own_topic: Option<String>,

    /// A file with the token that all clients show
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    pub(super) token_file: Option<PathBuf>,

    /// A file with a token on each line, one for each client
    #[arg(long, value_name = "FILE")]
    pub(super) tokens: Option<PathBuf>,

    /// Processes that share the clients, for more than one may have descriptors; each connects from an address of its
    /// own if the server is on this machine
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(super) processes: u32,

    /// Which of the processes this is
    #[arg(long, hide = true)]
    pub(super) worker: Option<u32>,

    /// The number of the first client of this process
    #[arg(skip)]
    pub(super) first_client: u32,

    /// Local addresses to connect from, such as 127.0.0.1-127.0.0.4: each has some 28,000 ports
    #[arg(long, value_name = "IP[-IP]", value_parser = parse_sources)]
    pub(super) source: Option<Sources>,

    /// Clients that begin to connect in a second; 0 is as fast as it goes
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    pub(super) connect_rate: u32,

    /// Clients that may be connecting and joining at one time
    #[arg(long, value_name = "N", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) under_way: u32,

    /// Time between the answer to a heartbeat and the next one
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub(super) heartbeat: Duration,

    /// Bytes of a message as it is delivered, with Phoenix's envelope
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(super) bytes: usize,

    /// Publishes the next message when the last subscriber has the former (the default)
    #[arg(long, conflicts_with_all = ["rate"])]
    pub(super) closed: bool,

    /// Publishes so many messages a second, by a schedule that does not wait; latencies count from it
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    pub(super) rate: Option<f64>,

    /// Messages that are published in one piece
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) burst: Option<u32>,

    /// Messages to be measured
    #[arg(long, short = 'm', value_name = "N")]
    pub(super) messages: Option<u32>,

    /// How long it is measured
    #[arg(long, short = 'd', value_name = "TIME", value_parser = parse_time)]
    pub(super) duration: Option<Duration>,

    /// Messages before those that are measured
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) warm_up: u32,

    /// Time between the last join and what is measured
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_time)]
    pub(super) settle: Duration,

    /// Whether who publishes gets its own plain messages
    #[arg(long, value_enum, default_value_t = Echo::Auto)]
    pub(super) echo: Echo,

    /// Where plain messages are published, if elsewhere
    #[arg(long, value_name = "URL", requires = "plain")]
    pub(super) publish_url: Option<String>,

    /// Publishes over Hailer's HTTP API, such as http://127.0.0.1:4001
    #[arg(long, value_name = "URL", conflicts_with = "plain")]
    pub(super) publish_api: Option<String>,

    /// A file with the key of the API
    #[arg(long, value_name = "FILE", requires = "publish_api")]
    pub(super) api_key_file: Option<PathBuf>,

    /// Clients that come and go in a second (churn)
    #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = parse_rate)]
    pub(super) churn_rate: f64,

    /// Cuts all connections, rather than waiting for the server to be restarted (herd)
    #[arg(long)]
    pub(super) cut: bool,

    /// Of a hundred clients, those that stop reading (slow-readers)
    #[arg(long, value_name = "PERCENT", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(super) slow_percent: u32,

    /// Of a hundred clients, those that are on long-poll (mixed)
    #[arg(long, value_name = "PERCENT", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(super) poll_percent: u32,

    /// Does as much as each line on stdin says, and answers it on stdout with a line of JSON, for several runs that take
    /// turns: publishes so many messages (fan-out, burst), or has so many clients go and come back (idle)
    #[arg(long, conflicts_with_all = ["rate", "messages", "duration"])]
    pub(super) on_demand: bool,

    /// A process of the server, whose processor time and memory are told; repeatable
    #[arg(long, value_name = "PID")]
    pub(super) pid: Vec<u32>,

    /// Counts the server's system calls (with perf, which slows them down)
    #[arg(long, requires = "pid")]
    pub(super) system_calls: bool,

    /// How long anything may take without getting on
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    pub(super) patience: Duration,

    /// Writes the figures as JSON; "-" is stdout, which then has no text
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,

    /// Writes the figures as a page with charts
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,

    /// Something to tell the run by among others; repeatable
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_label)]
    pub(super) labels: Vec<(String, String)>,

    /// Doesn't tell on stderr how far it is
    #[arg(long, short = 'q')]
    pub(super) quiet: bool,
}

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    /// They stay, with heartbeats
    Idle,
    /// All get the messages of one
    FanOut,
    /// The same, with many messages in one piece
    Burst,
    /// Each has a topic of its own, and messages go to one client at a time
    Private,
    /// Others connect, join, leave and close beside them, at --churn-rate
    Churn,
    /// All lose their connections and come back as phoenix.js does
    Herd,
    /// A share of them stops reading while messages are published
    SlowReaders,
    /// They are on long-poll
    Longpoll,
    /// WebSockets and long-poll, messages at a rate, and others that come and go
    Mixed,
}

impl Scenario {
    /// How many clients are on long-poll.
    pub(super) fn pollers(self, bench: &Bench) -> u32 {
        match self {
            Self::Longpoll => bench.clients,
            Self::Mixed => (u64::from(bench.clients) * u64::from(bench.poll_percent) / 100) as u32,
            _ => 0,
        }
    }

    /// Whether there is something to publish, if a rate is given or not.
    pub(super) fn publishes(self, bench: &Bench) -> bool {
        match self {
            Self::Idle => false,
            Self::Churn => bench.rate.is_some(),
            Self::FanOut
            | Self::Burst
            | Self::Private
            | Self::Herd
            | Self::SlowReaders
            | Self::Longpoll
            | Self::Mixed => true,
        }
    }

    /// Whether a client of its own publishes, to the common topic.
    pub(super) fn has_publisher(self, bench: &Bench) -> bool {
        self.publishes(bench) && self != Self::Private && bench.publish_api.is_none()
    }

    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Whether who publishes a plain message gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Echo {
    /// Found out with a message
    Auto,
    Yes,
    No,
}

/// Local addresses, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sources {
    first: u32,
    count: u32,
}

impl Sources {
    /// The address of a process on the loopback device.
    pub(super) fn loopback(process: u32) -> Self {
        Self { first: u32::from(Ipv4Addr::LOCALHOST) + process, count: 1 }
    }

    /// The address of a client.
    pub(super) fn of(self, client: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.first.saturating_add(client % self.count))
    }
}

fn parse_sources(text: &str) -> Result<Sources, String> {
    let wrong = || "give an address, or two with - between, such as 127.0.0.1-127.0.0.4".to_owned();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let parse = |text: &str| text.trim().parse::<Ipv4Addr>().map(u32::from).map_err(|_| wrong());
    let (first, last) = (parse(first)?, parse(last)?);
    let count = last.checked_sub(first).and_then(|more| more.checked_add(1)).ok_or_else(wrong)?;
    Ok(Sources { first, count })
}

pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    Duration::parse(text)
        .filter(|time| *time <= Duration::from_secs(24 * 3_600))
        .ok_or_else(|| "give a time up to 24h, for example 500ms or 10s".to_owned())
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("give NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.001..=1_000_000.0).contains(rate));
    rate.ok_or_else(|| "give a number of messages a second, up to 1000000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_in_turn() {
        let sources = parse_sources("127.0.0.2-127.0.0.4").unwrap();
        let taken: Vec<String> = (0..4).map(|client| sources.of(client).to_string()).collect();
        assert_eq!(taken, ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.2"]);
        assert_eq!(parse_sources("10.0.0.7").unwrap().of(9).to_string(), "10.0.0.7");
        assert_eq!(Sources::loopback(2).of(5).to_string(), "127.0.0.3");
        for wrong in ["", "localhost", "127.0.0.4-127.0.0.2", "127.0.0.1-", "::1"] {
            assert!(parse_sources(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_times_and_labels_have_bounds() {
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "2000000", "nan", "fast"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
        assert!(parse_time("25h").is_err() && parse_time("250ms").is_ok());
        assert_eq!(parse_label("case=64 B=x"), Ok(("case".to_owned(), "64 B=x".to_owned())));
        assert!(parse_label("=x").is_err());
    }
}
