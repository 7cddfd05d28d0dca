//! What one of several processes has measured, and how it becomes a part of the whole.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::outcome::{ProcessFigures, Sample};
use super::times::Times;

/// Times as values and how often each is there.
pub type Pairs = Vec<(u64, u64)>;

/// How the clients of a process came in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Entrance {
    /// Clients that are in.
    pub joined: u32,
    /// From the connect to the answered upgrade.
    pub upgrade: Pairs,
    /// From the push of the join to its reply.
    pub join: Pairs,
}

/// What a process has measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Share {
    /// Messages times its subscribers.
    pub expected: u64,
    /// Those that came.
    pub received: u64,
    /// Those that came again.
    pub doubled: u64,
    /// Those that came behind a later one.
    pub out_of_order: u64,
    /// Arrivals that are measured.
    pub measured: u64,
    /// Messages that were for somebody else.
    pub foreign: u64,
    /// Pushes to one client alone.
    #[serde(default)]
    pub pushed: u64,
    /// From leaving to each subscriber.
    pub latency: Pairs,
    /// Heartbeats, to the reply.
    pub heartbeats: Pairs,
    /// The measured messages that all its subscribers have: the number, when it was to leave, when the last one got it.
    pub complete: Vec<(u32, u64, u64)>,
    /// What the process has used.
    pub generator: ProcessFigures,
    /// What was seen once a second.
    pub series: Vec<Sample>,
    /// What went wrong.
    pub errors: BTreeMap<String, u64>,
}

impl Share {
    /// That of a ledger, without what belongs to the process.
    #[must_use]
    pub fn of(ledger: &Ledger, heartbeats: &Times) -> Self {
        Self {
            expected: ledger.expected,
            received: ledger.checks.received,
            doubled: ledger.checks.doubled,
            out_of_order: ledger.checks.out_of_order,
            measured: ledger.measured,
            foreign: ledger.foreign,
            pushed: ledger.pushed,
            latency: ledger.latency.to_pairs(),
            heartbeats: heartbeats.to_pairs(),
            complete: ledger.complete().collect(),
            ..Self::default()
        }
    }
}

/// Adds the shares of other processes to the ledger of the one that publishes. The last subscriber of a message is then
/// the last of all processes.
pub fn merge(ledger: &mut Ledger, shares: &[Share]) {
    let mut last: HashMap<u32, (u64, u64, usize)> =
        ledger.complete().map(|(number, micros, last)| (number, (micros, last, 0))).collect();
    for share in shares {
        ledger.expected += share.expected;
        ledger.checks.received += share.received;
        ledger.checks.doubled += share.doubled;
        ledger.checks.out_of_order += share.out_of_order;
        ledger.measured += share.measured;
        ledger.foreign += share.foreign;
        ledger.pushed += share.pushed;
        ledger.latency.add_pairs(&share.latency);
        for (number, _, came) in &share.complete {
            if let Some((_, last, processes)) = last.get_mut(number) {
                *last = (*last).max(*came);
                *processes += 1;
            }
        }
    }
    ledger.last.clear();
    for (micros, last, processes) in last.into_values() {
        if processes == shares.len() {
            ledger.last.record(last.saturating_sub(micros));
        }
    }
}

/// Adds what another process saw once a second: numbers are summed, percentiles are the worst of all.
pub fn merge_series(series: &mut [Sample], other: &[Sample]) {
    for (own, other) in series.iter_mut().zip(other) {
        own.clients += other.clients;
        own.deliveries += other.deliveries;
        own.p50_micros = own.p50_micros.max(other.p50_micros);
        own.p99_micros = own.p99_micros.max(other.p99_micros);
    }
}

/// Adds what another process has used.
pub fn merge_figures(own: &mut ProcessFigures, other: &ProcessFigures) {
    own.user_micros += other.user_micros;
    own.system_micros += other.system_micros;
    own.voluntary_switches += other.voluntary_switches;
    own.involuntary_switches += other.involuntary_switches;
    own.rss_bytes += other.rss_bytes;
    own.pss_bytes += other.pss_bytes;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::message::Kind;

    #[test]
    fn several_processes_tell_what_one_would_have_told() {
        let mut publisher = Ledger::default();
        let mut worker = Ledger::default();
        let (mut near, mut far) = ([0; 2], [0; 3]);
        for number in 0..10u64 {
            let stamp = publisher.publish(Kind::Measured, number * 1_000, 2);
            for (at, next) in near.iter_mut().enumerate() {
                publisher.arrive(at as u32, next, stamp, number * 1_000 + 50, None);
            }
            for (at, next) in far.iter_mut().enumerate() {
                // The last message does not come to the last client.
                if (number, at) != (9, 2) {
                    worker.arrive(at as u32, next, stamp, number * 1_000 + 100 * (at as u64 + 1), Some(3));
                }
            }
        }
        worker.learn_total(10, 3);
        let share = Share::of(&worker, &Times::default());
        let text = serde_json::to_string(&share).unwrap();
        merge(&mut publisher, &[serde_json::from_str(&text).unwrap()]);
        assert_eq!((publisher.expected, publisher.checks.received, publisher.lost()), (50, 49, 1));
        assert_eq!((publisher.measured, publisher.latency.count()), (49, 49));
        let last = publisher.last.latency().unwrap();
        assert_eq!((last.count, last.percentiles[0], last.percentiles[6]), (9, 300, 300));
    }

    #[test]
    fn what_was_seen_each_second_is_summed() {
        let sample = |clients, p99_micros| Sample { clients, p99_micros, deliveries: 5, ..Sample::default() };
        let mut series = [sample(1, 7), sample(2, 9)];
        merge_series(&mut series, &[sample(3, 8)]);
        let seen = series.map(|sample| (sample.clients, sample.deliveries, sample.p99_micros));
        assert_eq!(seen, [(4, 10, 8), (2, 5, 9)]);
    }
}
