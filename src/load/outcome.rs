//! What a run has come to, as plain figures: what is written as JSON and what the report shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Percentiles that are told, in percent.
pub const PERCENTILES: [f64; 7] = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 100.0];

/// Everything that one run of `hailer bench` has measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// `phoenix` or `plain`.
    pub protocol: String,
    /// Where the clients connected to, without a query.
    pub target: String,
    /// The settings of the run, as they would be given on the command line.
    pub settings: BTreeMap<String, String>,
    /// Seconds since 1970 when it began.
    pub started_unix: u64,
    /// How long it took, all told.
    pub seconds: f64,
    /// How long that took which is measured: publishing, or holding where nothing is published.
    pub measured_seconds: f64,
    /// Connecting and joining.
    pub connecting: Connecting,
    /// What was published; `None` where the scenario publishes nothing.
    pub publishing: Option<Publishing>,
    /// What has arrived, checked message by message.
    pub deliveries: Deliveries,
    /// Heartbeats of the idle clients, from sending to the reply.
    pub heartbeats: Option<Latency>,
    /// Clients that went and came back: churn, reconnect herd.
    pub returns: Option<Returns>,
    /// Clients that stopped reading.
    #[serde(default)]
    pub slow: Option<SlowReaders>,
    /// The load generator itself, all its processes, while it measured.
    pub generator: ProcessFigures,
    /// Number of processes that it consisted of; each has one thread that matters.
    pub generator_processes: u32,
    /// The server, if its process is known.
    pub server: Option<ServerFigures>,
    /// What was seen once a second.
    pub series: Vec<Sample>,
    /// What went wrong, by what it was, with its number; empty in a good run.
    pub errors: BTreeMap<String, u64>,
}

/// How the clients came in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Connecting {
    /// Clients that were to come.
    pub wanted: u64,
    /// Clients that were connected and, with Phoenix, joined.
    pub joined: u64,
    /// From the first connect to the last join.
    pub seconds: f64,
    /// Joined clients in a second.
    pub per_second: f64,
    /// From the connect to the answered upgrade.
    pub upgrade: Option<Latency>,
    /// From the push of the join to its reply.
    pub join: Option<Latency>,
}

/// How publishing went.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Publishing {
    /// Messages published in the time that is measured.
    pub published: u64,
    /// Messages in a second; `None` in a closed loop.
    pub wanted_per_second: Option<f64>,
    /// Messages in a second as it was.
    pub per_second: f64,
    /// Messages that left later than their place in the schedule by more than a millisecond.
    pub late: u64,
    /// How late the latest left, in microseconds.
    pub late_max_micros: u64,
}

/// What has arrived.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Deliveries {
    /// Messages times the subscribers that were to get them.
    pub expected: u64,
    /// Messages that arrived where they were to.
    pub received: u64,
    /// Expected and not received.
    pub lost: u64,
    /// Received more than once.
    pub doubled: u64,
    /// Received behind a later one.
    pub out_of_order: u64,
    /// Received besides, and left out of all other figures: what the server pushed to one client, such as messages that
    /// are kept for who joins later.
    #[serde(default)]
    pub pushed: u64,
    /// Received in a second.
    pub per_second: f64,
    /// From publishing (its place in the schedule in an open loop) to each subscriber.
    pub latency: Option<Latency>,
    /// The same to the last subscriber of each message.
    pub last: Option<Latency>,
}

/// Clients that went and came back.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Returns {
    /// How many times a client was gone.
    pub gone: u64,
    /// How many times one was back, joined.
    pub back: u64,
    /// From going to being back.
    pub latency: Option<Latency>,
}

/// Clients that stopped reading while messages were published, and read again when all were.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SlowReaders {
    /// How many there were.
    pub readers: u64,
    /// Those that got every message after all.
    pub caught_up: u64,
    /// Those that are still connected and have missed some.
    pub behind: u64,
    /// Those that the server has closed, by the close code; `none` without one.
    pub closed: BTreeMap<String, u64>,
    /// What the server's resident memory has grown by while they did not read, for each of them, in bytes.
    pub rss_growth_per_reader: Option<f64>,
}

/// Times in microseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// A value for each of [`PERCENTILES`], the last one the greatest.
    pub percentiles: Vec<u64>,
}

/// A process between the beginning and the end of what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ProcessFigures {
    /// Processor time in user mode, in microseconds.
    pub user_micros: u64,
    /// Processor time in the kernel, in microseconds.
    pub system_micros: u64,
    /// Context switches the process asked for.
    pub voluntary_switches: u64,
    /// Context switches it did not.
    pub involuntary_switches: u64,
    /// System calls, where they can be counted.
    pub system_calls: Option<u64>,
    /// Resident memory at the end, in bytes.
    pub rss_bytes: u64,
    /// Proportional share of memory at the end, in bytes; 0 where it may not be read.
    pub pss_bytes: u64,
}

/// The server's process, and what it comes to for one of each.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ServerFigures {
    /// Between the beginning and the end of publishing, or of holding where nothing is published.
    pub measured: ProcessFigures,
    /// While the clients connected and joined.
    pub connecting: ProcessFigures,
    /// Processor time for each delivery in that time, user and system, in microseconds.
    pub micros_per_delivery: Option<f64>,
    /// Processor time for each client that came in, user and system, in microseconds.
    pub micros_per_join: Option<f64>,
    /// Resident memory for each client, in bytes: what it was with all of them less what it was before.
    pub rss_per_client: Option<f64>,
    /// Proportional share of memory for each client, in bytes.
    pub pss_per_client: Option<f64>,
    /// System calls for each delivery.
    pub system_calls_per_delivery: Option<f64>,
}

/// What was seen at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the beginning.
    pub at: f64,
    /// Clients that were in.
    pub clients: u64,
    /// Deliveries since the last sample.
    pub deliveries: u64,
    /// The median of their times, in microseconds.
    pub p50_micros: u64,
    /// The 99th percentile of their times, in microseconds.
    pub p99_micros: u64,
    /// Processor time of the server since the last sample, in microseconds.
    pub server_cpu_micros: u64,
    /// Resident memory of the server, in bytes.
    pub server_rss_bytes: u64,
}
