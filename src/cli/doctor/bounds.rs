//! How many clients each bound of the machine and of the configuration allows. Facts in, findings out.

use serde::Serialize;

use super::figures::{
    DESCRIPTORS_BESIDE, DESCRIPTORS_OF_A_SHARD, HEARTBEAT_MICROS, HEARTBEAT_PART, HEARTBEAT_SECONDS,
    KERNEL_BYTES, MEMORY_BESIDE_BYTES, MEMORY_SPARE_PART, PAGES_UNDER_WAY, SEND_BUFFER_FACTOR,
    UNDER_WAY_BYTES, WATCHES_OF_A_SHARD,
};
use super::machine::{Machine, UNLIMITED};
use crate::limits::Limits;

/// What is to be held against the machine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) shards: u64,
    pub(super) limits: Limits,
    /// Memory of the server for each client.
    pub(super) user_bytes: u64,
    /// How many clients there are to be, if that was said.
    pub(super) clients: Option<u64>,
}

impl Plan {
    /// Memory that the server and the kernel need for each idle client.
    pub(super) fn client_bytes(&self) -> u64 {
        self.user_bytes.saturating_add(KERNEL_BYTES)
    }

    /// Descriptors for other things than clients.
    pub(super) fn descriptors_beside(&self) -> u64 {
        DESCRIPTORS_OF_A_SHARD.saturating_mul(self.shards).saturating_add(DESCRIPTORS_BESIDE)
    }
}

/// What gives out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    ProcessDescriptors,
    NrOpen,
    FileMax,
    EpollWatches,
    Memory,
    GroupMemory,
    CommitLimit,
    AddressSpace,
    Connections,
    Conntrack,
    MemoryUnderWay,
    TcpMemory,
    SlowReaders,
    Heartbeats,
    ProxyPorts,
    Sessions,
    SessionsOfAnAddress,
}

/// Whether a further client is refused behind the bound, or something else gets worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// No client gets in beyond it.
    Hard,
    /// It matters in some deployments, or at some moments.
    Soft,
}

/// How a bound stands to the number of clients that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    Green,
    /// Less than a fifth is left, or a soft bound gives out.
    Yellow,
    /// A hard bound gives out.
    Red,
    /// What it depends on can't be read.
    Unknown,
}

/// A bound with the number of clients it allows: `None` is unknown, and [`UNLIMITED`] any number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) what: What,
    pub(super) kind: Kind,
    pub(super) clients: Option<u64>,
    /// What the number comes from.
    pub(super) found: String,
}

impl Bound {
    /// How it stands to `wanted`; without a number there is nothing to compare with.
    pub(super) fn level(&self, wanted: Option<u64>) -> Option<Level> {
        let Some(clients) = self.clients else { return Some(Level::Unknown) };
        let wanted = wanted?;
        Some(match self.kind {
            Kind::Hard if clients < wanted => Level::Red,
            Kind::Hard if clients < wanted.saturating_add(wanted / 5) => Level::Yellow,
            Kind::Soft if clients < wanted => Level::Yellow,
            _ => Level::Green,
        })
    }
}

/// Every bound, the one that gives out first before the others; those that are unknown last.
pub(super) fn bounds(machine: &Machine, plan: &Plan) -> Vec<Bound> {
    let mut bounds = descriptors(machine, plan).to_vec();
    bounds.extend(memory(machine, plan));
    bounds.extend(network(machine, plan));
    bounds.extend(configured(plan));
    bounds.sort_by_key(|bound| bound.clients.map_or((true, 0), |clients| (false, clients)));
    bounds
}

/// The hard bound that gives out first.
pub(super) fn first(bounds: &[Bound]) -> Option<&Bound> {
    let known = bounds.iter().filter(|bound| bound.kind == Kind::Hard && bound.clients.is_some());
    known.min_by_key(|bound| bound.clients)
}

fn hard(what: What, clients: Option<u64>, found: String) -> Bound {
    Bound { what, kind: Kind::Hard, clients, found }
}

fn soft(what: What, clients: Option<u64>, found: String) -> Bound {
    Bound { what, kind: Kind::Soft, clients, found }
}

/// A number in groups of three, "unlimited" or "unknown".
pub(super) fn shown(number: Option<u64>) -> String {
    match number {
        None => "unknown".to_owned(),
        Some(UNLIMITED) => "unlimited".to_owned(),
        Some(number) => grouped(number),
    }
}

/// A number in groups of three.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as people say them.
pub(super) fn size(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match bytes {
        UNLIMITED => "unlimited".to_owned(),
        0..MIB => format!("{} KiB", grouped(bytes / 1024)),
        _ if bytes < 10 * 1024 * MIB => format!("{} MiB", grouped(bytes / MIB)),
        _ => format!("{} GiB", grouped(bytes / MIB / 1024)),
    }
}

fn size_shown(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unknown".to_owned(), size)
}

/// `number` without `taken`, but no limit stays no limit.
fn without(number: Option<u64>, taken: u64) -> Option<u64> {
    number.map(|number| if number == UNLIMITED { UNLIMITED } else { number.saturating_sub(taken) })
}

fn descriptors(machine: &Machine, plan: &Plan) -> [Bound; 4] {
    let beside = plan.descriptors_beside();
    let others = machine.files_open.map(|open| open.saturating_sub(machine.descriptors_open));
    let files =
        machine.file_max.zip(others).map(|(max, others)| without(Some(max), others.saturating_add(beside)));
    let Machine { descriptors_soft, descriptors_hard, nr_open, file_max, epoll_watches, .. } = machine;
    let limit = machine.descriptors();
    let hard_limit = if limit == *descriptors_soft { "hard" } else { "raised at start to" };
    [
        hard(
            What::ProcessDescriptors,
            without(limit, beside),
            format!(
                "RLIMIT_NOFILE {}, {hard_limit} {}; {beside} are for other things",
                shown(*descriptors_soft),
                shown(*descriptors_hard)
            ),
        ),
        hard(What::NrOpen, without(*nr_open, beside), format!("fs.nr_open {}", shown(*nr_open))),
        hard(
            What::FileMax,
            files.flatten(),
            format!("fs.file-max {}, open elsewhere {}", shown(*file_max), shown(others)),
        ),
        hard(
            What::EpollWatches,
            without(*epoll_watches, plan.shards.saturating_mul(WATCHES_OF_A_SHARD)),
            format!("fs.epoll.max_user_watches {}", shown(*epoll_watches)),
        ),
    ]
}

/// What a running server and its connections have taken already is theirs.
fn with_taken(room: Option<u64>, machine: &Machine) -> Option<u64> {
    let taken = machine.resident_bytes.saturating_add(machine.descriptors_open.saturating_mul(KERNEL_BYTES));
    room.map(|room| room.saturating_add(taken))
}

/// Memory that the server and its connections may have.
pub(super) fn room(machine: &Machine) -> Option<u64> {
    let group = with_taken(machine.group_room_bytes, machine);
    group.into_iter().chain(with_taken(machine.memory_available_bytes, machine)).min()
}

/// Clients that `room` holds at `each` bytes, a part of it left for what comes and goes.
fn fitting(room: Option<u64>, each: u64, beside: u64) -> Option<u64> {
    room.map(|room| match room {
        UNLIMITED => UNLIMITED,
        room => (room - room / MEMORY_SPARE_PART).saturating_sub(beside) / each.max(1),
    })
}

fn memory(machine: &Machine, plan: &Plan) -> Vec<Bound> {
    let each = plan.client_bytes();
    let available = with_taken(machine.memory_available_bytes, machine);
    let group = with_taken(machine.group_room_bytes, machine);
    let room = room(machine);
    let beside = MEMORY_BESIDE_BYTES;
    let mut bounds = vec![
        hard(
            What::Memory,
            fitting(available, each, beside),
            format!(
                "{} of {} available, {} B for each client",
                size_shown(available),
                size_shown(machine.memory_total_bytes),
                grouped(each)
            ),
        ),
        hard(
            What::GroupMemory,
            fitting(group, each, beside),
            match group {
                Some(UNLIMITED) => "no control group sets a limit".to_owned(),
                group => format!("the control groups leave {}", size_shown(group)),
            },
        ),
        soft(
            What::MemoryUnderWay,
            fitting(room, each.saturating_add(UNDER_WAY_BYTES), beside),
            format!(
                "a small message that is under way to everybody takes {} B more for each",
                grouped(UNDER_WAY_BYTES)
            ),
        ),
    ];
    let address_space = machine.address_space_bytes;
    if address_space != Some(UNLIMITED) {
        // Stacks and arenas are promised long before they are used, so as much again is left for them.
        bounds.push(hard(
            What::AddressSpace,
            fitting(address_space, plan.user_bytes.saturating_mul(2), beside),
            format!("RLIMIT_AS {}", size_shown(address_space)),
        ));
    }
    if machine.overcommit == Some(2) {
        bounds.push(hard(
            What::CommitLimit,
            fitting(machine.commit_room_bytes, plan.user_bytes, beside),
            format!(
                "vm.overcommit_memory 2: {} may still be promised",
                size_shown(machine.commit_room_bytes)
            ),
        ));
    }
    let buffer = (plan.limits.send_buffer_bytes as u64).saturating_mul(SEND_BUFFER_FACTOR);
    bounds.push(soft(
        What::SlowReaders,
        fitting(room, each.saturating_add(buffer), beside),
        format!("if all stop reading at once, send_buffer_bytes lets each hold {} more", size(buffer)),
    ));
    bounds
}

fn network(machine: &Machine, plan: &Plan) -> Vec<Bound> {
    let pages = machine.tcp_pages;
    let ports = machine.ports.map(|(first, last)| (last - first).saturating_add(1));
    let range =
        machine.ports.map_or_else(|| "unknown".to_owned(), |(first, last)| format!("{first} to {last}"));
    let (processors, quota) = (machine.processors, machine.quota_milli);
    let milli = processors.map(|processors| processors.saturating_mul(1000).min(quota.unwrap_or(UNLIMITED)));
    // The processors' microseconds between two heartbeats of a client, in which one heartbeat takes its time.
    let each = HEARTBEAT_MICROS * HEARTBEAT_PART;
    let heartbeats = milli.map(|milli| milli.saturating_mul(1000 * HEARTBEAT_SECONDS) / each);
    let mut bounds = vec![
        soft(
            What::TcpMemory,
            pages.map(|pages| if pages == UNLIMITED { pages } else { pages / PAGES_UNDER_WAY }),
            format!(
                "net.ipv4.tcp_mem ends at {} pages, one for each that a message is under way to",
                shown(pages)
            ),
        ),
        soft(
            What::Heartbeats,
            heartbeats,
            format!(
                "a heartbeat each {HEARTBEAT_SECONDS} s at {HEARTBEAT_MICROS} µs may take a quarter of {} processors",
                milli.map_or_else(|| "unknown".to_owned(), thousandths)
            ),
        ),
        soft(
            What::ProxyPorts,
            ports,
            format!(
                "behind a proxy, for each address that it connects from: net.ipv4.ip_local_port_range {range}"
            ),
        ),
    ];
    if let Some(max) = machine.conntrack_max {
        let count = machine.conntrack_count;
        let found = format!("net.netfilter.nf_conntrack_max {}, in use {}", shown(Some(max)), shown(count));
        let own = machine.descriptors_open;
        let clients = without(Some(max), count.unwrap_or(0).saturating_sub(own));
        // The module can be there without a rule that makes it track anything.
        let of = if count == Some(0) { soft } else { hard };
        bounds.push(of(What::Conntrack, clients, found));
    }
    let sessions = plan.limits.sessions_per_shard_max as u64;
    let of_address = plan.limits.sessions_per_address_max as u64;
    bounds.push(soft(
        What::Sessions,
        Some(sessions.saturating_mul(plan.shards)),
        format!("on long-poll: sessions_per_shard_max {}, {} shards", grouped(sessions), plan.shards),
    ));
    bounds.push(soft(
        What::SessionsOfAnAddress,
        Some(of_address.saturating_mul(plan.shards)),
        format!("on long-poll behind one address: sessions_per_address_max {}", grouped(of_address)),
    ));
    bounds
}

/// Thousandths as a decimal number.
pub(super) fn thousandths(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn configured(plan: &Plan) -> [Bound; 1] {
    let each = plan.limits.connections_per_shard_max as u64;
    [hard(
        What::Connections,
        Some(each.saturating_mul(plan.shards)),
        format!("connections_per_shard_max {}, {} shards", grouped(each), plan.shards),
    )]
}
