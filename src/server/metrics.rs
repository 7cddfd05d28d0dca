//! Metrics in the text format of OpenMetrics, which Prometheus reads. docs/metrics.md says what each means.
//!
//! Labels have few values, all of them written here: never a user, a topic or an address.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

#[cfg(feature = "accounts")]
use super::accounts::AccountsStats;
use super::inspect::StoreVitals;
use super::process::Process;
use crate::desk::UnixMillis;
use crate::endpoint::Holdings;
use crate::stats::{BUCKETS_MICROS, Histogram, Stats, Timings};

/// All that is told by one scrape.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub(super) shards: usize,
    pub(super) shards_answering: usize,
    pub(super) stats: Stats,
    /// Topics, each once however many shards have it.
    pub(super) topics: u64,
    /// The counters of the listener that answers requests.
    pub(super) calls: Stats,
    pub(super) timings: Timings,
    pub(super) holdings: Holdings,
    /// Broadcasts of the node, each once.
    pub(super) broadcasts: u64,
    pub(super) mail: usize,
    pub(super) mail_bytes: usize,
    #[cfg(feature = "accounts")]
    pub(super) accounts: Option<AccountsStats>,
    pub(super) denials: Option<usize>,
    pub(super) store: Option<StoreVitals>,
    pub(super) process: Process,
    pub(super) started: UnixMillis,
    pub(super) dropped_log_lines: Option<u64>,
    /// Wrong keys, refused sign-ins, lockouts.
    pub(super) guesses: [u64; 3],
}

/// The metrics as text.
pub(super) fn render(snapshot: Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    // Writing to a text fails only when a metric is built in a way that this crate does not build one.
    text::encode(&mut text, &registry).map(|()| text).unwrap_or_default()
}

/// One of the counters.
type Count = fn(&Stats) -> u64;

/// The labels of one of the rows of a metric, and its counter.
type Row = (&'static [(&'static str, &'static str)], Count);

const WEB_SOCKET: &[(&str, &str)] = &[("transport", "websocket")];
const LONG_POLL: &[(&str, &str)] = &[("transport", "longpoll")];

/// How sockets have ended.
const CLOSES: &[Row] = &[
    (&[("by", "client"), ("code", "none"), ("reason", "close_frame")], |stats| stats.closed_by_client),
    (&[("by", "client"), ("code", "none"), ("reason", "abrupt")], |stats| stats.closed_abruptly),
    (&[("by", "client"), ("code", "none"), ("reason", "no_poll")], |stats| stats.sessions_expired),
    (&[("by", "server"), ("code", "1000"), ("reason", "stay_away")], |stats| stats.closed_stay_away),
    (&[("by", "server"), ("code", "1001"), ("reason", "disconnected")], |stats| {
        stats.closed_disconnected.saturating_sub(stats.closed_stay_away)
    }),
    (&[("by", "server"), ("code", "1002"), ("reason", "bad_frame")], |stats| {
        stats.closed_bad_frame.saturating_sub(stats.closed_bad_text + stats.closed_too_big)
    }),
    (&[("by", "server"), ("code", "1002"), ("reason", "idle")], |stats| stats.closed_idle),
    (&[("by", "server"), ("code", "1007"), ("reason", "bad_message")], |stats| stats.closed_bad_message),
    (&[("by", "server"), ("code", "1007"), ("reason", "bad_text")], |stats| stats.closed_bad_text),
    (&[("by", "server"), ("code", "1009"), ("reason", "too_big")], |stats| stats.closed_too_big),
    (&[("by", "server"), ("code", "1011"), ("reason", "crashed")], |stats| stats.closed_crashed),
    (&[("by", "server"), ("code", "1012"), ("reason", "shutdown")], |stats| stats.closed_shutdown),
    (&[("by", "server"), ("code", "4001"), ("reason", "key_removed")], |stats| stats.closed_key_removed),
    (&[("by", "server"), ("code", "4001"), ("reason", "token_expired")], |stats| stats.closed_token_expired),
    (&[("by", "server"), ("code", "4003"), ("reason", "denied")], |stats| stats.closed_denied),
    (&[("by", "server"), ("code", "4008"), ("reason", "outbox_full")], |stats| stats.closed_outbox_full),
    (&[("by", "server"), ("code", "4008"), ("reason", "slow_reader")], |stats| stats.closed_slow_reader),
    (&[("by", "server"), ("code", "4008"), ("reason", "stalled")], |stats| stats.closed_stalled),
];

/// What was refused.
const REFUSALS: &[Row] = &[
    (&[("limit", "body_timeout"), ("reason", "slow_request")], |stats| stats.body_timeouts),
    (&[("limit", "channels_per_socket_max"), ("reason", "join")], |stats| stats.too_many_channels),
    (&[("limit", "connect_timeout"), ("reason", "undecided")], |stats| stats.connects_timed_out),
    (&[("limit", "connections_per_shard_max"), ("reason", "connection")], |stats| stats.accept_refused),
    (&[("limit", "connects_waiting_max"), ("reason", "overloaded")], |stats| stats.connects_overloaded),
    (&[("limit", "head_timeout"), ("reason", "slow_request")], |stats| stats.head_timeouts),
    (&[("limit", "mailbox_bytes_max"), ("reason", "broadcast")], |stats| stats.broadcasts_refused),
    (&[("limit", "receipts_tracked_max"), ("reason", "receipts")], |stats| stats.receipts_given_up),
    (&[("limit", "sessions_per_address_max"), ("reason", "session")], |stats| stats.sessions_without_room),
    (&[("limit", "none"), ("reason", "accounts_unavailable")], |stats| stats.connects_unavailable),
    (&[("limit", "none"), ("reason", "application")], |stats| stats.connects_refused_otherwise),
    (&[("limit", "none"), ("reason", "bad_message")], |stats| stats.messages_refused),
    (&[("limit", "none"), ("reason", "bad_request")], |stats| stats.http_refused),
    (&[("limit", "none"), ("reason", "bad_token")], |stats| stats.connects_bad_token),
    (&[("limit", "none"), ("reason", "bad_user")], |stats| stats.connects_bad_user),
    (&[("limit", "none"), ("reason", "denied")], |stats| stats.connects_denied),
    (&[("limit", "none"), ("reason", "invalid_payload")], |stats| stats.payloads_invalid),
    (&[("limit", "none"), ("reason", "join_by_channel")], |stats| stats.join_refused),
    (&[("limit", "none"), ("reason", "line")], |stats| stats.lines_refused),
    (&[("limit", "none"), ("reason", "no_token")], |stats| stats.connects_without_token),
    (&[("limit", "none"), ("reason", "origin")], |stats| stats.origins_refused),
    (&[("limit", "none"), ("reason", "renewal")], |stats| stats.renewals_refused),
    (&[("limit", "none"), ("reason", "reserved_event")], |stats| stats.reserved_event),
    (&[("limit", "none"), ("reason", "second_reply")], |stats| stats.replies_dropped),
    (&[("limit", "none"), ("reason", "subprotocol")], |stats| stats.subprotocols_refused),
    (&[("limit", "none"), ("reason", "unencodable_broadcast")], |stats| stats.broadcasts_unencodable),
    (&[("limit", "none"), ("reason", "unmatched_topic")], |stats| stats.unmatched_topic),
];

/// What the requests to the HTTP API and the back office were refused for.
const CALL_REFUSALS: &[Row] = &[
    (&[("limit", "request_timeout"), ("reason", "unanswered")], |stats| stats.calls_timed_out),
    (&[("limit", "requests_waiting_max"), ("reason", "overloaded")], |stats| stats.calls_refused),
];

/// Counters without labels: name, meaning, value.
const COUNTERS: &[(&str, &str, Count)] = &[
    ("hailer_tcp_accepts", "Connections accepted", |stats| stats.accepted),
    ("hailer_accept_pauses", "Pauses of accepting for want of a descriptor", |stats| stats.accept_paused),
    ("hailer_received_bytes", "Bytes read from clients", |stats| stats.bytes_in),
    ("hailer_sent_bytes", "Bytes written to clients", |stats| stats.bytes_out),
    ("hailer_received_messages", "Messages from clients", |stats| stats.messages_in),
    ("hailer_sent_messages", "Messages queued for clients", |stats| stats.messages_out),
    ("hailer_http_requests", "HTTP requests answered", |stats| stats.http_requests),
    ("hailer_polls", "Polls of long-poll", |stats| stats.polls),
    ("hailer_posts", "POSTs of long-poll", |stats| stats.posts),
    ("hailer_answers_repeated", "Answers to polls that broke and are repeated", |stats| {
        stats.answers_repeated
    }),
    ("hailer_handovers", "Connections handed to the shard of their session", |stats| stats.handed_over),
    ("hailer_heartbeats", "Heartbeats answered", |stats| stats.heartbeats),
    ("hailer_joins", "Joins granted", |stats| stats.joins),
    ("hailer_stale_messages", "Messages dropped for an old join_ref", |stats| stats.stale_join_ref),
    ("hailer_channel_crashes", "Callbacks of channels that failed", |stats| stats.channel_crashes),
    ("hailer_shard_broadcasts", "Broadcasts taken by shards, each once a shard", |stats| stats.broadcasts),
    ("hailer_pongs_coalesced", "Pongs left out for newer ones", |stats| stats.pongs_coalesced),
    ("hailer_connects_granted", "Clients let in after their tokens", |stats| stats.connects_granted),
    ("hailer_renewals", "Fresh tokens taken over by live sockets", |stats| stats.renewals),
    ("hailer_token_warnings", "Clients warned that a token runs out", |stats| stats.token_warnings),
];

/// Writes one metric after the other.
struct Page<'e>(DescriptorEncoder<'e>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: &impl EncodeCounterValue) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(value, None)
    }

    fn gauge(&mut self, name: &str, help: &str, value: &impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(value)
    }

    /// A gauge of which it may not be known how it stands.
    fn gauge_if(&mut self, name: &str, help: &str, value: Option<u64>) -> fmt::Result {
        value.map_or(Ok(()), |value| self.gauge(name, help, &value))
    }

    fn counters<'r>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (&'r [(&'r str, &'r str)], u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        rows.into_iter().try_for_each(|(labels, value)| {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    fn gauges(&mut self, name: &str, help: &str, rows: [(&[(&str, &str)], u64); 2]) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        rows.into_iter().try_for_each(|(labels, value)| metric.encode_family(&labels)?.encode_gauge(&value))
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        #[allow(clippy::cast_precision_loss)]
        let bounds = BUCKETS_MICROS.into_iter().map(|micros| micros as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(histogram.counts().iter().copied()).collect();
        let (sum, count) = (histogram.sum().as_secs_f64(), histogram.count());
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.encode_build(&mut page)?;
        self.encode_present(&mut page)?;
        self.encode_counted(&mut page)?;
        self.encode_timed(&mut page)?;
        #[cfg(feature = "accounts")]
        self.encode_accounts(&mut page)?;
        self.encode_store(&mut page)?;
        self.encode_process(&mut page)
    }
}

impl Snapshot {
    fn encode_build(&self, page: &mut Page<'_>) -> fmt::Result {
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        let help = "The version of Hailer";
        page.0.encode_descriptor("hailer_build", help, None, MetricType::Info)?.encode_info(&labels)?;
        page.gauge("hailer_shards", "Event loops", &(self.shards as u64))?;
        let help = "Event loops that have answered this scrape";
        page.gauge("hailer_shards_answering", help, &(self.shards_answering as u64))
    }

    /// What there is.
    fn encode_present(&self, page: &mut Page<'_>) -> fmt::Result {
        let stats = &self.stats;
        let rows = [(WEB_SOCKET, stats.web_sockets), (LONG_POLL, stats.sessions)];
        page.gauges("hailer_connections", "Open sockets: WebSockets, and sessions on long-poll", rows)?;
        page.gauge("hailer_tcp_connections", "Open TCP connections", &stats.connections)?;
        page.gauge("hailer_topics", "Topics with subscribers", &self.topics)?;
        let Holdings { outbox_bytes, log_bytes, subscriptions, behind } = self.holdings;
        for (name, help, value) in [
            ("hailer_subscriptions", "Joined channels", subscriptions),
            ("hailer_subscriptions_behind", "Joined channels with broadcasts still to be written", behind),
            ("hailer_topic_log_bytes", "Bytes of broadcasts held for those who are behind", log_bytes),
            ("hailer_outbox_bytes", "Bytes held for one connection each", outbox_bytes),
            ("hailer_mailbox_messages", "Messages in the mailboxes of the shards", self.mail),
            ("hailer_mailbox_bytes", "Bytes in the mailboxes of the shards", self.mail_bytes),
        ] {
            page.gauge(name, help, &(value as u64))?;
        }
        let denials = self.denials.map(|count| count as u64);
        page.gauge_if("hailer_denials", "Denied tokens and users that are remembered", denials)
    }

    /// What has happened.
    fn encode_counted(&self, page: &mut Page<'_>) -> fmt::Result {
        let (stats, calls) = (&self.stats, &self.calls);
        for (name, help, count) in COUNTERS {
            page.counter(name, help, &count(stats))?;
        }
        page.counter("hailer_broadcasts", "Broadcasts published", &self.broadcasts)?;
        page.counter("hailer_api_requests", "Requests to the HTTP API and the back office", &calls.calls)?;
        let opened = [(WEB_SOCKET, stats.upgraded), (LONG_POLL, stats.sessions_opened)];
        page.counters("hailer_sockets_opened", "Sockets opened", opened)?;
        let refused = [(WEB_SOCKET, stats.upgrade_refused), (LONG_POLL, stats.sessions_refused)];
        page.counters("hailer_sockets_refused", "Sockets refused, for whatever reason", refused)?;
        let slow: [(&[(&str, &str)], u64); 2] =
            [(&[("outcome", "closed")], stats.closed_slow_reader), (&[("outcome", "skipped")], stats.gaps)];
        page.counters("hailer_slow_readers", "Subscribers that a topic's log has moved past", slow)?;
        let closes = CLOSES.iter().map(|(labels, count)| (*labels, count(stats)));
        page.counters("hailer_closes", "Sockets that have ended", closes)?;
        let refusals = REFUSALS.iter().map(|(labels, count)| (*labels, count(stats)));
        let refusals = refusals.chain(CALL_REFUSALS.iter().map(|(labels, count)| (*labels, count(calls))));
        page.counters("hailer_refusals", "What was refused, by the limit and by the reason", refusals)?;
        let [keys, passwords, lockouts] = self.guesses;
        let wrong: [(&[(&str, &str)], u64); 2] =
            [(&[("what", "api_key")], keys), (&[("what", "password")], passwords)];
        page.counters("hailer_guesses", "Wrong API keys, and refused sign-ins to the back office", wrong)?;
        let help = "Addresses and accounts that had to wait for too many of them";
        page.counter("hailer_lockouts", help, &lockouts)?;
        let Some(dropped) = self.dropped_log_lines else { return Ok(()) };
        page.counter("hailer_log_lines_dropped", "Lines of the log that were not written", &dropped)
    }

    fn encode_timed(&self, page: &mut Page<'_>) -> fmt::Result {
        let help = "From publish to the last write in a shard";
        page.histogram("hailer_broadcast_duration_seconds", help, &self.timings.broadcasts)?;
        let help = "Turns of the event loops, without their waits";
        page.histogram("hailer_loop_turn_seconds", help, &self.timings.turns)
    }

    #[cfg(feature = "accounts")]
    fn encode_accounts(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(accounts) = &self.accounts else { return Ok(()) };
        let results = [
            ("found", accounts.found),
            ("unknown", accounts.unknown),
            ("disabled", accounts.disabled),
            ("unavailable", accounts.unavailable),
            ("overloaded", accounts.overloaded),
            ("timed_out", accounts.timed_out),
        ];
        let labels = results.map(|(result, _)| [("result", result)]);
        let rows = labels.iter().zip(results).map(|(labels, (_, count))| (labels.as_slice(), count));
        page.counters("hailer_accounts_answers", "Look-ups of users answered, by the answer", rows)?;
        for (name, help, count) in [
            ("hailer_accounts_lookups", "Look-ups of users", accounts.lookups),
            ("hailer_accounts_cached", "Look-ups answered from the cache", accounts.cached),
            ("hailer_accounts_shared", "Look-ups that shared the query of another", accounts.shared),
            ("hailer_accounts_queries", "Queries begun", accounts.queries),
            ("hailer_accounts_failures", "Queries that failed", accounts.failures),
            (
                "hailer_accounts_passed_while_away",
                "Users let in by an old answer",
                accounts.passed_while_away,
            ),
            ("hailer_accounts_outages", "Times that the accounts have gone away", accounts.times_away),
        ] {
            page.counter(name, help, &count)?;
        }
        page.gauge("hailer_accounts_away", "Whether the accounts are away", &u64::from(accounts.away))?;
        page.gauge("hailer_accounts_waiting", "Look-ups that wait", &(accounts.waiting as u64))?;
        page.gauge("hailer_accounts_cache_entries", "Users remembered", &(accounts.cache_entries as u64))
    }

    fn encode_store(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(store) = &self.store else { return Ok(()) };
        for (name, help, count) in [
            ("hailer_store_commits", "Transactions committed", store.commits),
            ("hailer_store_writes", "Records written", store.jobs),
            ("hailer_store_writes_refused", "Records refused because too many waited", store.jobs_refused),
            ("hailer_store_writes_failed", "Records that could not be written", store.jobs_failed),
        ] {
            page.counter(name, help, &count)?;
        }
        let (name, help) = ("hailer_store_commit_seconds", "Time that transactions have taken together");
        page.counter(name, help, &store.commit_time.as_secs_f64())?;
        page.gauge("hailer_store_waiting", "Records that wait to be written", &(store.waiting as u64))?;
        page.gauge("hailer_store_failing", "Whether the last write has failed", &u64::from(store.failing))
    }

    fn encode_process(&self, page: &mut Page<'_>) -> fmt::Result {
        let process = &self.process;
        if let Some(seconds) = process.cpu_seconds {
            page.counter("process_cpu_seconds", "Processor time used, user and system", &seconds)?;
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory", process.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory", process.virtual_bytes),
            ("process_open_fds", "Open descriptors", process.descriptors),
            ("process_max_fds", "Descriptors that may be open", process.descriptors_max),
            ("process_threads", "Threads", process.threads),
        ] {
            page.gauge_if(name, help, value)?;
        }
        #[allow(clippy::cast_precision_loss)]
        let started = self.started as f64 / 1000.0;
        page.gauge("process_start_time_seconds", "Start, in seconds since 1970", &started)
    }
}

#[cfg(test)]
mod tests;
