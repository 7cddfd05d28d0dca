//! What the doctor says, for people and as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::advice::{Remark, advice, remarks};
use super::bounds::{Bound, Kind, Level, Plan, What, bounds, first, grouped, shown};
use super::figures::{DELIVERY_MICROS, HEARTBEAT_SECONDS, KERNEL_BYTES};
use super::machine::{Machine, UNLIMITED};
use crate::load::report::hanging;

/// Width of the levels, and where what was found begins behind the numbers.
const MARK: usize = 8;
const FOUND: usize = 25;

/// A bound as it is told.
#[derive(Debug, Serialize)]
struct Told {
    bound: What,
    kind: Kind,
    /// `None` if it is unknown or there is no bound; `found` says which.
    clients: Option<u64>,
    level: Option<Level>,
    found: String,
    set: Vec<String>,
}

/// What each client costs, in bytes.
#[derive(Debug, Serialize)]
struct ClientBytes {
    user: u64,
    kernel: u64,
}

/// All that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether they fit; `None` if no number was asked about.
    fits: Option<bool>,
    clients_wanted: Option<u64>,
    /// What the first hard bound allows.
    clients_max: Option<u64>,
    first: Option<What>,
    shards: u64,
    client_bytes: ClientBytes,
    heartbeats_per_second: Option<u64>,
    /// Processor time of one message to all clients.
    broadcast_cpu_ms: Option<u64>,
    bounds: Vec<Told>,
    remarks: Vec<Remark>,
}

impl Report {
    pub(super) fn new(machine: &Machine, plan: &Plan) -> Self {
        let found = bounds(machine, plan);
        let first = first(&found);
        let (clients_max, what) = (first.and_then(|bound| bound.clients), first.map(|bound| bound.what));
        let goal = goal(&found, plan);
        let wanted = plan.clients;
        let clients = wanted.or(clients_max).filter(|clients| *clients != UNLIMITED);
        let told = found.iter().map(|bound| {
            let level = bound.level(wanted);
            // Without a number only what gives out first is in the way.
            let is_short = match wanted {
                Some(_) => matches!(level, Some(Level::Red | Level::Yellow)),
                None => Some(bound.what) == what,
            };
            // A fourth more than is wanted, so that what is set by the advice is no longer scarce.
            let spare = wanted.filter(|_| bound.kind == Kind::Hard).map_or(0, |wanted| wanted / 4);
            let goal = goal.filter(|_| is_short).map(|goal| goal.saturating_add(spare));
            let set = goal.map(|goal| advice(bound.what, goal, machine, plan));
            Told {
                bound: bound.what,
                kind: bound.kind,
                clients: bound.clients.filter(|clients| *clients != UNLIMITED),
                level,
                found: bound.found.clone(),
                set: set.unwrap_or_default(),
            }
        });
        Self {
            fits: wanted.map(|wanted| clients_max.is_none_or(|most| most >= wanted)),
            clients_wanted: wanted,
            clients_max: clients_max.filter(|clients| *clients != UNLIMITED),
            first: what,
            shards: plan.shards,
            client_bytes: ClientBytes { user: plan.user_bytes, kernel: KERNEL_BYTES },
            heartbeats_per_second: clients.map(|clients| clients.div_ceil(HEARTBEAT_SECONDS)),
            broadcast_cpu_ms: clients.map(|clients| clients.saturating_mul(DELIVERY_MICROS).div_ceil(1000)),
            bounds: told.collect(),
            remarks: remarks(machine, plan),
        }
    }

    /// The sentence about clients that don't fit.
    pub(super) fn failure(&self) -> Option<String> {
        let wanted = self.clients_wanted.filter(|_| self.fits == Some(false))?;
        Some(format!(
            "{} clients don't fit: {} {} out first, at {}",
            grouped(wanted),
            self.first.map_or("a bound", name),
            if self.first.is_some_and(is_plural) { "give" } else { "gives" },
            shown(self.clients_max),
        ))
    }

    /// The whole report, with colours for a terminal or without, in lines of at most `width` characters.
    pub(super) fn text(&self, colours: bool, width: usize) -> String {
        let mut text = hanging(&self.headline(), 0, 0, width) + "\n";
        text.push_str(&hanging(&self.costs(), 0, 0, width));
        text.push_str("\n\n");
        for told in &self.bounds {
            let clients = match told.clients {
                None if told.level == Some(Level::Unknown) => "unknown".to_owned(),
                clients => clients.map_or_else(|| "unlimited".to_owned(), grouped),
            };
            let kind = if told.kind == Kind::Soft { " (soft)" } else { "" };
            let mark = mark(told.level, colours);
            let found = format!("{}{kind}: {}", name(told.bound), told.found);
            let _ = writeln!(text, "{mark}{clients:>15}  {}", hanging(&found, FOUND, FOUND, width));
            told.set.iter().for_each(|set| push_advice(&mut text, set, width));
        }
        if !self.remarks.is_empty() {
            text.push('\n');
        }
        for Remark { level, about, found, advice } in &self.remarks {
            let found: String = found
                .chars()
                .map(|character| if character.is_control() { '\u{fffd}' } else { character })
                .collect();
            let found = hanging(&format!("{about}: {found}"), MARK, MARK, width);
            let _ = writeln!(text, "{}{found}", mark(Some(*level), colours));
            push_advice(&mut text, advice, width);
        }
        text
    }

    /// What clients cost.
    fn costs(&self) -> String {
        let mut text = String::new();
        let (user, kernel) = (grouped(self.client_bytes.user), grouped(self.client_bytes.kernel));
        let _ = write!(text, "Each takes {user} B of the server and {kernel} B of the kernel.");
        if let (Some(heartbeats), Some(millis)) = (self.heartbeats_per_second, self.broadcast_cpu_ms) {
            let clients = self.clients_wanted.or(self.clients_max);
            let _ = write!(
                text,
                " {} clients send {} heartbeats a second, and a message to all of them takes {} ms of processor \
                 time, spread over {} shards.",
                shown(clients),
                grouped(heartbeats),
                grouped(millis),
                self.shards
            );
        }
        text
    }

    fn headline(&self) -> String {
        let Some(first) = self.first else {
            return "Nothing of this machine can be read, so nothing is known.".to_owned();
        };
        let gives = if is_plural(first) { "give" } else { "gives" };
        let most = self.clients_max.map_or_else(|| "any number".to_owned(), grouped);
        let first = format!("{} {gives} out first, at {most} clients", name(first));
        match (self.clients_wanted, self.fits) {
            (Some(wanted), Some(true)) => format!("{} clients fit: {first}.", grouped(wanted)),
            (Some(wanted), _) => format!("{} clients don't fit: {first}.", grouped(wanted)),
            (None, _) => {
                let mut letters = first.chars();
                let capital = letters.next().map(|letter| letter.to_ascii_uppercase());
                format!("{}{}.", capital.map(String::from).unwrap_or_default(), letters.as_str())
            }
        }
    }
}

/// The number of clients that advice is for: those wanted, or as many as the next bound allows, since more would gain
/// nothing.
fn goal(bounds: &[Bound], plan: &Plan) -> Option<u64> {
    let hard = || bounds.iter().filter(|bound| bound.kind == Kind::Hard).filter_map(|bound| bound.clients);
    let least = hard().min();
    let next = hard().filter(|clients| Some(*clients) > least && *clients != UNLIMITED).min();
    plan.clients.or(next)
}

/// What is to be set, below what it is about. A command has the whole width, so that few are broken.
fn push_advice(text: &mut String, advice: &str, width: usize) {
    let _ = writeln!(text, "{:MARK$}-> {}", "", hanging(advice, MARK + 3, MARK + 3, width));
}

/// A level in a column of its own.
fn mark(level: Option<Level>, colours: bool) -> String {
    let (word, colour) = match level {
        None => ("", "0"),
        Some(Level::Green) => ("green", "32"),
        Some(Level::Yellow) => ("yellow", "33"),
        Some(Level::Red) => ("red", "31"),
        Some(Level::Unknown) => ("?", "2"),
    };
    if colours { format!("\u{1b}[{colour}m{word:<8}\u{1b}[0m") } else { format!("{word:<8}") }
}

/// What a bound is called in a sentence.
fn name(what: What) -> &'static str {
    match what {
        What::ProcessDescriptors => "descriptors of the process",
        What::NrOpen => "descriptors that a process may be given",
        What::FileMax => "open files of the machine",
        What::EpollWatches => "sockets that one user may watch",
        What::Memory => "memory of the machine",
        What::GroupMemory => "memory of the control group",
        What::CommitLimit => "memory that may be promised",
        What::AddressSpace => "address space of the process",
        What::Connections => "configured connections",
        What::Conntrack => "connections that the firewall tracks",
        What::MemoryUnderWay => "memory during a broadcast to all",
        What::TcpMemory => "the kernel's memory for bytes under way",
        What::SlowReaders => "memory when nobody reads",
        What::Heartbeats => "processor time for heartbeats",
        What::ProxyPorts => "ports of a proxy",
        What::Sessions => "sessions on long-poll",
        What::SessionsOfAnAddress => "sessions of one address",
    }
}

fn is_plural(what: What) -> bool {
    matches!(
        what,
        What::ProcessDescriptors
            | What::NrOpen
            | What::FileMax
            | What::EpollWatches
            | What::Connections
            | What::Conntrack
    )
}
