//! Whether a run was good, and whether its figures can be believed.

use super::super::outcome::{Deliveries, Latency, Outcome, PERCENTILES, SlowReaders};
use super::units::{NONE, bytes, count, percent, whole_micros};

/// Share of its time from which on the load tool is the bottleneck rather than the server.
const TOOL_SHARE_MAX: f64 = 0.9;
/// Share of the messages that may leave behind their place in the schedule.
const LATE_SHARE_MAX: f64 = 0.01;

/// The load tool's share of its processes' time.
pub(super) fn tool_share(outcome: &Outcome) -> Option<f64> {
    let seconds = outcome.measured_seconds * f64::from(outcome.generator_processes.max(1));
    (seconds > 0.0).then(|| outcome.generator.cpu_micros() as f64 / 1e6 / seconds)
}

/// What went wrong: none of it in a good run.
pub(super) fn faults(outcome: &Outcome) -> Vec<String> {
    let mut faults = Vec::new();
    let connecting = &outcome.connecting;
    if connecting.joined < connecting.wanted {
        let missing = connecting.wanted - connecting.joined;
        faults.push(format!("{} of {} clients did not come in", count(missing), count(connecting.wanted)));
    }
    let deliveries = &outcome.deliveries;
    for (number, what) in [
        (deliveries.lost, "lost"),
        (deliveries.doubled, "received twice or more"),
        (deliveries.out_of_order, "out of order"),
    ] {
        if number > 0 {
            faults.push(format!("{} deliveries {what}", count(number)));
        }
    }
    if let Some(returns) = outcome.returns.as_ref().filter(|returns| returns.back < returns.gone) {
        faults.push(format!(
            "{} of {} clients did not come back",
            count(returns.gone - returns.back),
            count(returns.gone)
        ));
    }
    faults.extend(outcome.errors.iter().map(|(what, number)| format!("{} × {what}", count(*number))));
    faults
}

/// Why the figures say less about the server than they seem to.
pub(super) fn warnings(outcome: &Outcome) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(share) = tool_share(outcome).filter(|share| *share > TOOL_SHARE_MAX) {
        warnings.push(format!(
            "the load tool itself used {} of its time: it was the bottleneck, give it more processes",
            percent(share)
        ));
    }
    if let Some(publishing) = outcome.publishing.as_ref().filter(|publishing| {
        publishing.wanted_per_second.is_some()
            && publishing.late as f64 > publishing.published as f64 * LATE_SHARE_MAX
    }) {
        warnings.push(format!(
            "the schedule was missed: {} of {} messages left late, the latest by {}",
            count(publishing.late),
            count(publishing.published),
            whole_micros(publishing.late_max_micros)
        ));
    }
    warnings
}

/// Loss, doubles and order in a sentence.
pub(super) fn order(deliveries: &Deliveries) -> String {
    let none_or = |number: u64| if number == 0 { "none".to_owned() } else { count(number) };
    format!(
        "{} lost, {} doubled, {} out of order",
        none_or(deliveries.lost),
        none_or(deliveries.doubled),
        none_or(deliveries.out_of_order)
    )
}

/// What came besides, in a sentence.
pub(super) fn pushed(deliveries: &Deliveries) -> String {
    let what = if deliveries.pushed == 1 { "message" } else { "messages" };
    format!("{} {what} that the topic keeps for who joins later", count(deliveries.pushed))
}

/// What became of those that stopped reading.
pub(super) fn slow(slow: &SlowReaders) -> String {
    let mut parts =
        vec![format!("{} caught up", count(slow.caught_up)), format!("{} behind", count(slow.behind))];
    parts.extend(slow.closed.iter().map(|(code, number)| format!("{} closed ({code})", count(*number))));
    let growth =
        slow.rss_growth_per_reader.map(|growth| format!("; the server grew by {} for each", bytes(growth)));
    format!("{}: {}{}", count(slow.readers), parts.join(", "), growth.unwrap_or_default())
}

/// The latencies that a run has, by name.
pub(super) fn latencies(outcome: &Outcome) -> Vec<(&'static str, &Latency)> {
    [
        ("upgrade", outcome.connecting.upgrade.as_ref()),
        ("join", outcome.connecting.join.as_ref()),
        ("delivery", outcome.deliveries.latency.as_ref()),
        ("last subscriber", outcome.deliveries.last.as_ref()),
        ("heartbeat", outcome.heartbeats.as_ref()),
        ("return", outcome.returns.as_ref().and_then(|returns| returns.latency.as_ref())),
    ]
    .into_iter()
    .filter_map(|(name, latency)| Some((name, latency?)))
    .filter(|(_, latency)| latency.count > 0)
    .collect()
}

/// A latency's cells: one for each of [`PERCENTILES`].
pub(super) fn cells(latency: &Latency) -> impl Iterator<Item = String> {
    (0..PERCENTILES.len())
        .map(|at| latency.percentiles.get(at).map_or_else(|| NONE.to_owned(), |micros| whole_micros(*micros)))
}

/// A run in a few words: what its labels say, or its scenario.
pub(super) fn name(outcome: &Outcome) -> String {
    let label = |name: &str| outcome.settings.get(name).filter(|value| !value.is_empty());
    let mut words = vec![label("case").unwrap_or(&outcome.scenario).clone()];
    words.extend(label("server").cloned());
    words.extend(label("round").map(|round| format!("round {round}")));
    words.join(", ")
}
