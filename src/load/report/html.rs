//! Runs as a page that needs nothing else: no script, no other file.

use maud::{DOCTYPE, Markup, PreEscaped, html as markup};

use super::super::outcome::{Outcome, PERCENTILES, Sample};
use super::chart::{Axis, Chart, Line, Scale};
use super::text::{server_lines, tool};
use super::units::{NONE, bytes, count, micros, percent, percentile, three, whole_micros};
use super::verdict::{cells, faults, latencies, name, order, pushed, slow, warnings};

/// The look of all pages of the load tool.
const STYLE: &str = include_str!("style.css");

/// The page of one run.
#[must_use]
pub fn html(outcome: &Outcome) -> String {
    page(&format!("{} – hailer bench", name(outcome)), &run(0, outcome, "h1")).into_string()
}

/// The page of several runs, with an overview.
#[must_use]
pub fn html_of(outcomes: &[Outcome]) -> String {
    let body = markup! {
        h1 { (count(outcomes.len() as u64)) " runs" }
        (overview(outcomes))
        @for (at, outcome) in outcomes.iter().enumerate() { (run(at, outcome, "h2")) }
    };
    page("hailer bench", &body).into_string()
}

/// A whole page.
pub(super) fn page(title: &str, body: &Markup) -> Markup {
    markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    }
}

fn overview(outcomes: &[Outcome]) -> Markup {
    let or_none = |figure: Option<f64>, form: fn(f64) -> String| figure.map_or_else(|| NONE.to_owned(), form);
    let p99 = PERCENTILES.iter().position(|percent| *percent == 99.0).unwrap_or_default();
    markup! {
        div.wide tabindex="0" role="region" aria-label="All runs" { table {
            thead { tr {
                th scope="col" { "Run" }
                @for head in ["Clients", "Deliveries a second", "p99", "CPU per delivery", "CPU per client in", "Memory per client", "Faults"] {
                    th.number scope="col" { (head) }
                }
            } }
            tbody {
                @for (at, outcome) in outcomes.iter().enumerate() {
                    @let server = outcome.server.as_ref();
                    @let latency = outcome.deliveries.latency.as_ref();
                    tr {
                        th scope="row" { a href={ "#run-" (at) } { (name(outcome)) } }
                        td.number { (count(outcome.connecting.joined)) }
                        td.number { (three(outcome.deliveries.per_second)) }
                        td.number { (latency.and_then(|one| one.percentiles.get(p99)).map_or_else(|| NONE.to_owned(), |one| whole_micros(*one))) }
                        td.number { (or_none(server.and_then(|one| one.micros_per_delivery), micros)) }
                        td.number { (or_none(server.and_then(|one| one.micros_per_join), micros)) }
                        td.number { (or_none(server.and_then(|one| one.rss_per_client), bytes)) }
                        td.number { (faults(outcome).len()) }
                    }
                }
            }
        } }
    }
}

fn run(at: usize, outcome: &Outcome, heading: &str) -> Markup {
    let (faults, warnings) = (faults(outcome), warnings(outcome));
    markup! {
        section id={ "run-" (at) } {
            @if heading == "h1" { h1 { (name(outcome)) } } @else { h2 { (name(outcome)) } }
            p.quiet {
                (outcome.scenario) " over " (outcome.protocol) " to " code { (outcome.target) } ", " (three(outcome.seconds)) " s"
                @if let Some(moment) = moment(outcome.started_unix) { ", begun " time datetime=(moment) { (moment) } }
            }
            @if faults.is_empty() {
                p.verdict.good { "Nothing went wrong: " (order(&outcome.deliveries)) "." }
            } @else {
                div.verdict.bad role="note" { strong { "Failed" } ul { @for fault in &faults { li { (fault) } } } }
            }
            @if !warnings.is_empty() {
                div.verdict.odd role="note" { strong { "Mind" } ul { @for warning in &warnings { li { (warning) } } } }
            }
            (tiles(outcome))
            (latency(outcome))
            (charts(at, outcome))
            (details(outcome))
        }
    }
}

/// The figures that are looked for first.
fn tiles(outcome: &Outcome) -> Markup {
    let mut tiles = vec![(
        "clients",
        count(outcome.connecting.joined),
        format!("{} a second", three(outcome.connecting.per_second)),
    )];
    let deliveries = &outcome.deliveries;
    if deliveries.received > 0 {
        tiles.push((
            "deliveries a second",
            three(deliveries.per_second),
            format!("{} in all", count(deliveries.received)),
        ));
    }
    if let Some(server) = &outcome.server {
        let system = server.measured.system_micros as f64 / server.measured.cpu_micros().max(1) as f64;
        if let Some(cost) = server.micros_per_delivery {
            tiles.push((
                "server CPU per delivery",
                micros(cost),
                format!("{} in the kernel", percent(system)),
            ));
        }
        if let Some(cost) = server.micros_per_join {
            tiles.push(("server CPU per client in", micros(cost), "connect, upgrade, join".to_owned()));
        }
        if let Some(memory) = server.rss_per_client {
            tiles.push((
                "server memory per client",
                bytes(memory),
                format!("{} in the end", bytes(server.measured.rss_bytes as f64)),
            ));
        }
        if let Some(calls) = server.system_calls_per_delivery {
            tiles.push((
                "system calls per delivery",
                three(calls),
                format!("{} in all", count(server.measured.system_calls.unwrap_or(0))),
            ));
        }
    }
    markup! {
        dl.tiles {
            @for (name, value, more) in tiles {
                div { dt { (name) } dd { strong { (value) } span.quiet { (more) } } }
            }
        }
    }
}

fn latency(outcome: &Outcome) -> Markup {
    let latencies = latencies(outcome);
    if latencies.is_empty() {
        return markup! {};
    }
    markup! {
        div.wide tabindex="0" role="region" aria-label="Latencies" { table {
            caption { "Latency" }
            thead { tr {
                th scope="col" { "From … to" }
                th.number scope="col" { "Number" }
                th.number scope="col" { "Mean" }
                @for percent in PERCENTILES { th.number scope="col" { (percentile(percent)) } }
            } }
            tbody {
                @for (name, latency) in &latencies {
                    tr {
                        th scope="row" { (name) }
                        td.number { (count(latency.count)) }
                        td.number { (micros(latency.mean)) }
                        @for cell in cells(latency) { td.number { (cell) } }
                    }
                }
            }
        } }
    }
}

fn by_percentile(at: usize, outcome: &Outcome) -> Option<Markup> {
    let lines = latencies(outcome).into_iter().map(|(name, latency)| Line {
        name: name.to_owned(),
        points: (0..).map(f64::from).zip(latency.percentiles.iter().map(|micros| *micros as f64)).collect(),
    });
    Chart {
        id: format!("latency-{at}"),
        title: "Latency by percentile",
        places: Some(PERCENTILES.map(percentile).to_vec()),
        axis: Axis { scale: Scale::Log, form: micros },
        lines: lines.collect(),
    }
    .draw()
}

/// A sample with the seconds since the one before.
fn steps(samples: &[Sample]) -> impl Iterator<Item = (&Sample, f64)> {
    let before = std::iter::once(0.0).chain(samples.iter().map(|sample| sample.at));
    samples
        .iter()
        .zip(before)
        .map(|(sample, before)| (sample, sample.at - before))
        .filter(|(_, step)| *step > 0.0)
}

fn charts(at: usize, outcome: &Outcome) -> Markup {
    let line = |name: &str, value: fn(&Sample, f64) -> f64| Line {
        name: name.to_owned(),
        points: steps(&outcome.series).map(|(sample, step)| (sample.at, value(sample, step))).collect(),
    };
    let chart = |id: &str, title: &'static str, scale, form, lines| {
        Chart { id: format!("{id}-{at}"), title, places: None, axis: Axis { scale, form }, lines }.draw()
    };
    let any = |value: fn(&Sample) -> u64| outcome.series.iter().any(|sample| value(sample) > 0);
    let mut charts = vec![
        by_percentile(at, outcome),
        chart(
            "clients",
            "Clients that are in",
            Scale::Linear,
            three,
            vec![line("clients", |one, _| one.clients as f64)],
        ),
    ];
    if any(|sample| sample.deliveries) {
        charts.push(chart(
            "deliveries",
            "Deliveries a second",
            Scale::Linear,
            three,
            vec![line("deliveries", |one, step| one.deliveries as f64 / step)],
        ));
        let lines =
            vec![line("p50", |one, _| one.p50_micros as f64), line("p99", |one, _| one.p99_micros as f64)];
        charts.push(chart("times", "Latency of deliveries over time", Scale::Log, micros, lines));
    }
    if any(|sample| sample.server_cpu_micros) {
        charts.push(chart(
            "cpu",
            "Server CPU, share of a core",
            Scale::Linear,
            percent,
            vec![line("CPU", |one, step| one.server_cpu_micros as f64 / 1e6 / step)],
        ));
    }
    if any(|sample| sample.server_rss_bytes) {
        charts.push(chart(
            "memory",
            "Server memory, resident",
            Scale::Binary,
            bytes,
            vec![line("memory", |one, _| one.server_rss_bytes as f64)],
        ));
    }
    markup! {
        div.charts { @for chart in charts.into_iter().flatten() { (chart) } }
        @if !outcome.series.is_empty() { (samples(&outcome.series)) }
    }
}

fn samples(series: &[Sample]) -> Markup {
    markup! {
        details {
            summary { "Second by second, as a table" }
            div.wide tabindex="0" role="region" aria-label="Second by second" { table {
                thead { tr {
                    th.number scope="col" { "Second" }
                    @for head in ["Clients", "Deliveries", "p50", "p99", "Server CPU", "Server memory"] {
                        th.number scope="col" { (head) }
                    }
                } }
                tbody {
                    @for sample in series {
                        tr {
                            th.number scope="row" { (format!("{:.1}", sample.at)) }
                            td.number { (count(sample.clients)) }
                            td.number { (count(sample.deliveries)) }
                            td.number { (whole_micros(sample.p50_micros)) }
                            td.number { (whole_micros(sample.p99_micros)) }
                            td.number { (micros(sample.server_cpu_micros as f64)) }
                            td.number { (bytes(sample.server_rss_bytes as f64)) }
                        }
                    }
                }
            } }
        }
    }
}

/// All figures in words, and the settings they were got with.
fn details(outcome: &Outcome) -> Markup {
    markup! {
        div.pairs {
            table {
                caption { "Figures" }
                tbody {
                    @if let Some(publishing) = &outcome.publishing {
                        tr { th scope="row" { "published" } td {
                            (count(publishing.published)) " messages, " (three(publishing.per_second)) " a second"
                            @if let Some(wanted) = publishing.wanted_per_second { " of " (three(wanted)) " wanted" }
                        } }
                    }
                    @if outcome.deliveries.expected > 0 {
                        tr { th scope="row" { "delivered" } td {
                            (count(outcome.deliveries.received)) " of " (count(outcome.deliveries.expected)) ": " (order(&outcome.deliveries))
                        } }
                    }
                    @if outcome.deliveries.pushed > 0 {
                        tr { th scope="row" { "left out" } td { (pushed(&outcome.deliveries)) } }
                    }
                    @if let Some(returns) = &outcome.returns {
                        tr { th scope="row" { "returned" } td { (count(returns.back)) " of " (count(returns.gone)) } }
                    }
                    @if let Some(stopped) = &outcome.slow {
                        tr { th scope="row" { "stopped reading" } td { (slow(stopped)) } }
                    }
                    @if let Some(server) = &outcome.server {
                        @for (name, value) in server_lines(server) { tr { th scope="row" { (name) } td { (value) } } }
                    }
                    tr { th scope="row" { "load tool" } td { (tool(outcome)) } }
                }
            }
            @if !outcome.settings.is_empty() {
                table {
                    caption { "Settings" }
                    tbody { @for (name, value) in &outcome.settings { tr { th scope="row" { (name) } td { code { (value) } } } } }
                }
            }
        }
    }
}

/// A moment as the standards write it.
fn moment(unix: u64) -> Option<String> {
    let moment = time::OffsetDateTime::from_unix_timestamp(i64::try_from(unix).ok()?).ok()?;
    (unix > 0).then(|| moment.format(&time::format_description::well_known::Rfc3339).ok()).flatten()
}
