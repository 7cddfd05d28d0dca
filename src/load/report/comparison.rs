//! Several servers in the same rounds, side by side.
//!
//! A run says by its settings whose it is: `server`, `round` and `case`. Single figures drift with the machine from
//! round to round, so a ratio to the base server is taken within each round, and the median of those is told.

use std::collections::BTreeMap;
use std::fmt::Write;

use maud::{Markup, html};

use super::super::outcome::{Outcome, PERCENTILES};
use super::html::page;
use super::units::{bytes, micros, three};
use super::verdict::{faults, name, warnings};

/// A figure that servers are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Processor time of the server for each delivery.
    CpuPerDelivery,
    /// Deliveries in a second.
    DeliveriesPerSecond,
    /// The 99th percentile of the deliveries' latencies.
    P99,
    /// Processor time of the server for each client that came in.
    CpuPerJoin,
    /// Resident memory of the server for each client.
    MemoryPerClient,
}

impl Figure {
    /// All of them, in the order they are told.
    pub const ALL: [Self; 5] =
        [Self::CpuPerDelivery, Self::DeliveriesPerSecond, Self::P99, Self::CpuPerJoin, Self::MemoryPerClient];

    /// What stands above its table.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::CpuPerDelivery => "Server CPU per delivery",
            Self::DeliveriesPerSecond => "Deliveries a second",
            Self::P99 => "Latency of deliveries, 99th percentile",
            Self::CpuPerJoin => "Server CPU per client that came in",
            Self::MemoryPerClient => "Server memory per client",
        }
    }

    /// The figure of a run, if it has one.
    #[must_use]
    pub fn of(self, outcome: &Outcome) -> Option<f64> {
        let server = outcome.server.as_ref();
        let figure = match self {
            Self::CpuPerDelivery => server?.micros_per_delivery,
            Self::DeliveriesPerSecond => {
                (outcome.deliveries.received > 0).then_some(outcome.deliveries.per_second)
            }
            Self::P99 => {
                let at = PERCENTILES.iter().position(|percent| *percent == 99.0)?;
                outcome.deliveries.latency.as_ref()?.percentiles.get(at).map(|micros| *micros as f64)
            }
            Self::CpuPerJoin => server?.micros_per_join,
            Self::MemoryPerClient => server?.rss_per_client,
        };
        figure.filter(|figure| figure.is_finite())
    }

    fn form(self, value: f64) -> String {
        match self {
            Self::CpuPerDelivery | Self::P99 | Self::CpuPerJoin => micros(value),
            Self::DeliveriesPerSecond => three(value),
            Self::MemoryPerClient => bytes(value.round()),
        }
    }

    fn is_better(self, one: f64, other: f64) -> bool {
        if self == Self::DeliveriesPerSecond { one > other } else { one < other }
    }
}

/// A median with the range it comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Half of the values are at most this.
    pub median: f64,
    /// The least one.
    pub min: f64,
    /// The greatest one.
    pub max: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// Of values in any order; of none there is none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[half - 1], values[half])
        } else {
            values[half]
        };
        Some(Self { median, min, max, count: values.len() })
    }
}

/// What one server has come to in one case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// The figure itself.
    pub figure: Spread,
    /// The figure by the base server's of the same round.
    pub ratio: Option<Spread>,
}

/// Runs of several servers, by case and round.
#[derive(Debug)]
pub struct Comparison<'a> {
    cases: Vec<&'a str>,
    servers: Vec<&'a str>,
    /// By case, server and round.
    runs: BTreeMap<(&'a str, &'a str, String), &'a Outcome>,
    base: Option<&'a str>,
}

impl<'a> Comparison<'a> {
    /// Puts runs in order: cases and servers as they were run, the base server first.
    ///
    /// Without a label, the server is the target, the case is the scenario, and the rounds are counted.
    ///
    /// # Errors
    /// If two runs are of the same server, case and round, or none is of the base server.
    pub fn of(outcomes: &'a [Outcome], base: Option<&str>) -> Result<Self, String> {
        let mut ordered: Vec<&Outcome> = outcomes.iter().collect();
        ordered.sort_by_key(|outcome| outcome.started_unix);
        let (mut cases, mut servers, mut runs) = (Vec::new(), Vec::new(), BTreeMap::new());
        for outcome in ordered {
            let label = |name: &str| outcome.settings.get(name).map(String::as_str);
            let case = label("case").unwrap_or(&outcome.scenario);
            let server = label("server").unwrap_or(&outcome.target);
            let round = label("round").map_or_else(
                || runs.keys().filter(|(of, by, _)| (*of, *by) == (case, server)).count().to_string(),
                str::to_owned,
            );
            for (names, name) in [(&mut cases, case), (&mut servers, server)] {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            if runs.insert((case, server, round.clone()), outcome).is_some() {
                return Err(format!("two runs are of {server} in round {round} of {case:?}"));
            }
        }
        let base = match base {
            None => None,
            Some(name) => {
                let at = servers.iter().position(|server| *server == name);
                let at =
                    at.ok_or_else(|| format!("no run is of {name:?}: there are {}", servers.join(", ")))?;
                let base = servers.remove(at);
                servers.insert(0, base);
                Some(base)
            }
        };
        Ok(Self { cases, servers, runs, base })
    }

    /// The cases, as they were run.
    #[must_use]
    pub fn cases(&self) -> &[&'a str] {
        &self.cases
    }

    /// The servers, the base first.
    #[must_use]
    pub fn servers(&self) -> &[&'a str] {
        &self.servers
    }

    /// What a server has come to in a case, if any of its runs has the figure.
    #[must_use]
    pub fn cell(&self, figure: Figure, case: &str, server: &str) -> Option<Cell> {
        let rounds: Vec<(&str, f64)> = self.rounds(figure, case, server).collect();
        let ratios = self.base.map_or_else(Vec::new, |base| {
            let of_base: BTreeMap<&str, f64> = self.rounds(figure, case, base).collect();
            rounds
                .iter()
                .filter_map(|(round, value)| of_base.get(round).map(|base| value / base))
                .filter(|ratio| ratio.is_finite())
                .collect()
        });
        let figure = Spread::of(rounds.into_iter().map(|(_, value)| value).collect())?;
        Some(Cell { figure, ratio: Spread::of(ratios) })
    }

    fn rounds(&self, figure: Figure, case: &str, server: &str) -> impl Iterator<Item = (&str, f64)> {
        self.runs
            .iter()
            .filter(move |((of, by, _), _)| *of == case && *by == server)
            .filter_map(move |((_, _, round), outcome)| Some((round.as_str(), figure.of(outcome)?)))
    }

    /// The figures that any run has, with the cases in which one has it.
    fn told(&self) -> Vec<(Figure, Vec<&'a str>)> {
        let has = |figure, case: &str| {
            self.servers.iter().any(|server| self.rounds(figure, case, server).next().is_some())
        };
        Figure::ALL
            .into_iter()
            .map(|figure| (figure, self.cases.iter().copied().filter(|case| has(figure, case)).collect()))
            .filter(|(_, cases): &(_, Vec<_>)| !cases.is_empty())
            .collect()
    }

    /// The best median of a row, where one is better than another.
    fn best(&self, figure: Figure, case: &str) -> Option<f64> {
        let cells = || self.servers.iter().filter_map(|server| self.cell(figure, case, server));
        let medians = || cells().map(|cell| cell.figure.median);
        let best = medians().reduce(|best, one| if figure.is_better(one, best) { one } else { best })?;
        medians().any(|one| one != best).then_some(best)
    }

    /// What went wrong in single runs, or makes them doubtful.
    fn notes(&self) -> Vec<String> {
        let runs = self.runs.values();
        let notes = runs.map(|outcome| (name(outcome), [faults(outcome), warnings(outcome)].concat()));
        notes
            .filter(|(_, notes)| !notes.is_empty())
            .map(|(name, notes)| format!("{name}: {}", notes.join("; ")))
            .collect()
    }

    /// What is said of the numbers before any of them.
    fn preface(&self) -> String {
        let figures = "Each figure is the median of its rounds, whose number stands in brackets where it is not the same everywhere";
        match self.base {
            Some(base) => format!(
                "{figures}; behind it its ratio to {base}, taken within each round: the median, and the least to the greatest."
            ),
            None => format!("{figures}."),
        }
    }

    /// The number of rounds, where all have the same.
    fn same_rounds(&self) -> Option<usize> {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (case, server, _) in self.runs.keys() {
            *counts.entry((case, server)).or_default() += 1;
        }
        let first = *counts.values().next()?;
        counts.values().all(|count| *count == first).then_some(first)
    }

    /// A cell's figure, its ratio, and the ratio's range, as people read them.
    fn written(&self, figure: Figure, server: &str, cell: &Cell) -> (String, Option<String>, Option<String>) {
        let mut value = figure.form(cell.figure.median);
        if self.same_rounds() != Some(cell.figure.count) {
            // Writing to a string doesn't fail.
            let _ = write!(value, " ({})", cell.figure.count);
        }
        let ratio = cell.ratio.filter(|_| self.base != Some(server));
        let range = ratio.filter(|ratio| ratio.count > 1);
        (
            value,
            ratio.map(|ratio| format!("{:.2}\u{a0}×", ratio.median)),
            range.map(|ratio| format!("({:.2}–{:.2})", ratio.min, ratio.max)),
        )
    }

    /// One table for each figure, a row for each case, a column for each server; the best of a row is in bold.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = escaped(&self.preface());
        // Writing to a string doesn't fail.
        for (figure, cases) in self.told() {
            let _ = write!(text, "\n\n### {}\n\n| case |", figure.title());
            for server in &self.servers {
                let _ = write!(text, " {} |", escaped(server));
            }
            let _ = write!(text, "\n|---|{}", "---:|".repeat(self.servers.len()));
            for case in cases {
                let best = self.best(figure, case);
                let _ = write!(text, "\n| {} |", escaped(case));
                for server in &self.servers {
                    let cell = self.cell(figure, case, server);
                    let cell = cell.map(|cell| self.markdown_cell(figure, server, &cell, best));
                    let _ = write!(text, " {} |", cell.unwrap_or_default());
                }
            }
        }
        let notes = self.notes();
        if !notes.is_empty() {
            text.push_str("\n\n### Runs with something to mind\n");
            for note in notes {
                let _ = write!(text, "\n- {}", escaped(&note));
            }
        }
        text.push('\n');
        text
    }

    fn markdown_cell(&self, figure: Figure, server: &str, cell: &Cell, best: Option<f64>) -> String {
        let (value, ratio, range) = self.written(figure, server, cell);
        let mut text = if best == Some(cell.figure.median) { format!("**{value}**") } else { value };
        for (between, part) in [(", ", ratio), (" ", range)] {
            if let Some(part) = part {
                text.push_str(between);
                text.push_str(&part);
            }
        }
        text
    }

    /// The same as a page that needs nothing else.
    #[must_use]
    pub fn html(&self) -> String {
        let notes = self.notes();
        let body = html! {
            h1 { "Servers compared" }
            p.quiet {
                (self.preface())
                @if let Some(rounds) = self.same_rounds() { " Rounds: " (rounds) "." }
            }
            @if !notes.is_empty() {
                div.verdict.odd role="note" { strong { "Mind" } ul { @for note in &notes { li { (note) } } } }
            }
            @for (figure, cases) in self.told() { (self.table(figure, &cases)) }
        };
        page("Servers compared – hailer bench", &body).into_string()
    }

    fn table(&self, figure: Figure, cases: &[&str]) -> Markup {
        html! {
            div.wide tabindex="0" role="region" aria-label=(figure.title()) { table {
                caption { (figure.title()) }
                thead { tr {
                    th scope="col" { "Case" }
                    @for server in &self.servers { th.number scope="col" { (server) } }
                } }
                tbody {
                    @for case in cases {
                        @let best = self.best(figure, case);
                        tr {
                            th scope="row" { (case) }
                            @for server in &self.servers {
                                @if let Some(cell) = self.cell(figure, case, server) {
                                    @let (value, ratio, range) = self.written(figure, server, &cell);
                                    td.number.best[best == Some(cell.figure.median)] {
                                        (value)
                                        @if let Some(ratio) = ratio {
                                            small { (ratio) @if let Some(range) = range { " " span { (range) } } }
                                        }
                                    }
                                } @else { td.number { "–" } }
                            }
                        }
                    }
                }
            } }
        }
    }
}

/// A name in a Markdown table: what would end the cell, or begin a tag, is written so that it doesn't.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}
