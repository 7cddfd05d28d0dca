//! A run as a person reads it at its end.

use std::fmt::Write;

use super::super::outcome::{Outcome, PERCENTILES, ServerFigures};
use super::hanging;
use super::units::{NONE, bytes, count, micros, percent, percentile, three, whole_micros};
use super::verdict::{cells, faults, latencies, order, pushed, slow, tool_share, warnings};

/// Width of the names at the beginning of the lines.
const NAMES: usize = 16;
/// Width of a line.
const LINE: usize = 80;
/// Width of a latency.
const LATENCY: usize = 9;

/// What the run has come to, in lines of at most 80 characters.
#[must_use]
pub fn text(outcome: &Outcome) -> String {
    let mut text = format!(
        "{} over {} to {}, {} s\n\n",
        outcome.scenario,
        if outcome.protocol.is_empty() { "WebSocket" } else { &outcome.protocol },
        outcome.target,
        three(outcome.seconds)
    );
    for (name, value) in lines(outcome) {
        push(&mut text, name, &value);
    }
    push_latencies(&mut text, outcome);
    if let Some(server) = &outcome.server {
        text.push('\n');
        for (name, value) in server_lines(server) {
            push(&mut text, name, &value);
        }
    }
    push(&mut text, "load tool", &tool(outcome));
    let faults = faults(outcome);
    let warnings = warnings(outcome);
    if !(faults.is_empty() && warnings.is_empty()) {
        text.push('\n');
    }
    for (kind, sentences) in [("failed", faults), ("warning", warnings)] {
        for sentence in sentences {
            push(&mut text, kind, &sentence);
        }
    }
    text
}

fn push(text: &mut String, name: &str, value: &str) {
    // Writing to a string doesn't fail.
    let _ = writeln!(text, "{name:NAMES$}{}", hanging(value, NAMES, NAMES, LINE));
}

fn lines(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let connecting = &outcome.connecting;
    let mut lines = vec![(
        "clients",
        format!(
            "{} of {} in {} s, {} a second",
            count(connecting.joined),
            count(connecting.wanted),
            three(connecting.seconds),
            three(connecting.per_second)
        ),
    )];
    if let Some(publishing) = &outcome.publishing {
        let wanted = publishing.wanted_per_second;
        let of = wanted.map_or_else(String::new, |wanted| format!(" of {} wanted", three(wanted)));
        lines.push((
            "published",
            format!(
                "{} messages, {}{of} a second",
                count(publishing.published),
                three(publishing.per_second)
            ),
        ));
    }
    let deliveries = &outcome.deliveries;
    if deliveries.expected > 0 || deliveries.received > 0 {
        lines.push((
            "delivered",
            format!(
                "{} of {}, {} a second",
                count(deliveries.received),
                count(deliveries.expected),
                three(deliveries.per_second)
            ),
        ));
        lines.push(("", order(deliveries)));
    }
    if deliveries.pushed > 0 {
        lines.push(("left out", pushed(deliveries)));
    }
    if let Some(returns) = &outcome.returns {
        lines.push(("returned", format!("{} of {}", count(returns.back), count(returns.gone))));
    }
    if let Some(stopped) = &outcome.slow {
        lines.push(("stopped reading", slow(stopped)));
    }
    lines
}

fn push_latencies(text: &mut String, outcome: &Outcome) {
    let latencies = latencies(outcome);
    if latencies.is_empty() {
        return;
    }
    let heads: String =
        PERCENTILES.map(|percent| format!("{:>LATENCY$}", percentile(percent))).into_iter().collect();
    text.push('\n');
    push(text, "latency", &heads);
    for (name, latency) in latencies {
        let row: String = cells(latency).map(|cell| format!("{cell:>LATENCY$}")).collect();
        push(text, name, &row);
    }
}

/// The server's figures, as name and value.
pub(super) fn server_lines(server: &ServerFigures) -> Vec<(&'static str, String)> {
    let or_none = |figure: Option<f64>, form: fn(f64) -> String| figure.map_or_else(|| NONE.to_owned(), form);
    let measured = &server.measured;
    let mut lines = vec![
        (
            "server CPU",
            format!(
                "{} per delivery, {} per client that came in",
                or_none(server.micros_per_delivery, micros),
                or_none(server.micros_per_join, micros)
            ),
        ),
        (
            "",
            format!(
                "{} while measured: {} user, {} system",
                micros(measured.cpu_micros() as f64),
                micros(measured.user_micros as f64),
                micros(measured.system_micros as f64)
            ),
        ),
        (
            "server memory",
            format!(
                "{} per client (PSS {}), {} in the end",
                or_none(server.rss_per_client, bytes),
                or_none(server.pss_per_client, bytes),
                bytes(measured.rss_bytes as f64)
            ),
        ),
        (
            "switches",
            format!(
                "{} voluntary, {} involuntary",
                count(measured.voluntary_switches),
                count(measured.involuntary_switches)
            ),
        ),
    ];
    if let Some(calls) = measured.system_calls {
        let each = server
            .system_calls_per_delivery
            .map_or_else(String::new, |each| format!(", {} per delivery", three(each)));
        lines.push(("system calls", format!("{}{each}", count(calls))));
    }
    lines
}

/// The load tool's own figures.
pub(super) fn tool(outcome: &Outcome) -> String {
    let share = tool_share(outcome).map_or_else(|| NONE.to_owned(), percent);
    let processes = match outcome.generator_processes {
        0 | 1 => String::new(),
        more => format!(" in {more} processes"),
    };
    let mut text = format!("CPU {share} of its time{processes}");
    if let Some(publishing) = outcome.publishing.as_ref().filter(|one| one.wanted_per_second.is_some()) {
        // Writing to a string doesn't fail.
        let _ = write!(text, ", {} messages behind the schedule", count(publishing.late));
        if publishing.late > 0 {
            let _ = write!(text, ", the latest by {}", whole_micros(publishing.late_max_micros));
        }
    }
    text
}
