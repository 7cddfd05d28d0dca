//! What to set, so that a bound allows a number of clients; and what else is worth a remark.

use serde::Serialize;

use super::bounds::{Level, Plan, What, grouped, room, shown, size, thousandths};
use super::figures::{
    HEARTBEAT_MICROS, HEARTBEAT_PART, HEARTBEAT_SECONDS, MEMORY_BESIDE_BYTES, MEMORY_SPARE_PART,
    PAGES_UNDER_WAY, SEND_BUFFER_FACTOR,
};
use super::machine::{Machine, UNLIMITED};

/// Ports that a range which leaves the well-known ones alone has at most.
const PORTS_MAX: u64 = 65_535 - 1_024 + 1;

/// The least that `send_buffer_bytes` can be.
const SEND_BUFFER_LEAST: u64 = 4096;

/// Bytes that the kernel may keep of what one client sends; far more than a client of such a server has to say.
const RECEIVE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What to do so that `what` allows `clients`, each a command, a line of a file or a sentence.
pub(super) fn advice(what: What, clients: u64, machine: &Machine, plan: &Plan) -> Vec<String> {
    let descriptors = rounded(clients.saturating_add(plan.descriptors_beside()));
    let sysctl = |name: &str, value: u64| format!("sysctl -w {name}={value}");
    let per_shard = clients.div_ceil(plan.shards.max(1));
    let limit = |name: &str, value: u64| format!("[limits] {name} = {value}");
    match what {
        What::ProcessDescriptors => of_process(descriptors, machine),
        What::NrOpen => vec![sysctl("fs.nr_open", descriptors)],
        What::FileMax => {
            let open = machine.files_open.unwrap_or(0);
            vec![sysctl("fs.file-max", descriptors.saturating_add(rounded(open)))]
        }
        What::EpollWatches => vec![sysctl("fs.epoll.max_user_watches", descriptors)],
        What::Memory | What::MemoryUnderWay => vec![format!(
            "{} of memory for {} clients, or further machines",
            size(needed(clients, plan.client_bytes())),
            grouped(clients)
        )],
        What::GroupMemory => {
            let bytes = size(needed(clients, plan.client_bytes()));
            vec![format!(
                "MemoryMax= of the unit, --memory of the container, or limits.memory of the pod: {bytes}"
            )]
        }
        What::CommitLimit => vec![sysctl("vm.overcommit_memory", 0)],
        What::AddressSpace => vec!["LimitAS=infinity".to_owned(), "ulimit -v unlimited".to_owned()],
        What::Connections => vec![limit("connections_per_shard_max", per_shard)],
        What::Conntrack => vec![
            sysctl("net.netfilter.nf_conntrack_max", descriptors),
            format!("sysctl -w net.netfilter.nf_conntrack_buckets={}", descriptors / 4),
            "or don't track the server's port: nft add rule … tcp dport PORT notrack".to_owned(),
        ],
        What::TcpMemory => vec![tcp_memory(clients)],
        What::SlowReaders => vec![limit("send_buffer_bytes", send_buffer(clients, machine, plan))],
        What::Heartbeats => {
            let micros = u128::from(clients) * u128::from(HEARTBEAT_MICROS * HEARTBEAT_PART);
            let processors = micros.div_ceil(u128::from(1_000_000 * HEARTBEAT_SECONDS));
            let processors = u64::try_from(processors).unwrap_or(UNLIMITED);
            vec![format!("{} processors, a shard on each", grouped(processors))]
        }
        What::ProxyPorts => {
            let mut set =
                vec!["sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\" at the proxy".to_owned()];
            let addresses = clients.div_ceil(PORTS_MAX);
            if addresses > 1 {
                set.push(format!(
                    "and {} addresses at it, or as many ports of the server",
                    grouped(addresses)
                ));
            }
            set
        }
        What::Sessions => vec![limit("sessions_per_shard_max", per_shard)],
        What::SessionsOfAnAddress => vec![limit("sessions_per_address_max", per_shard)],
    }
}

/// Up to two digits that are not zero, so that a setting is one that people remember.
fn rounded(number: u64) -> u64 {
    let mut unit: u64 = 1;
    while number / unit >= 100 {
        unit *= 10;
    }
    number.div_ceil(unit).saturating_mul(unit)
}

/// Memory for so many clients, with what is left for what comes and goes.
fn needed(clients: u64, each: u64) -> u64 {
    let bytes = clients.saturating_mul(each).saturating_add(MEMORY_BESIDE_BYTES);
    bytes.saturating_add(bytes / (MEMORY_SPARE_PART - 1))
}

/// The limit of a process is set where it is started; a unit and a container have places of their own.
fn of_process(descriptors: u64, machine: &Machine) -> Vec<String> {
    let mut advice = Vec::new();
    if machine.nr_open.is_some_and(|most| most < descriptors) {
        advice.push(format!("sysctl -w fs.nr_open={descriptors}"));
    }
    let unit = machine.unit.as_deref().unwrap_or("hailer.service");
    let unit: String = unit.chars().filter(|character| !character.is_control()).collect();
    advice.push(format!("LimitNOFILE={descriptors} below [Service] (systemctl edit {unit})"));
    let whom = match machine.descriptors_hard {
        Some(hard) if hard >= descriptors => "",
        _ => " (as root)",
    };
    advice.push(format!("without systemd: ulimit -n {descriptors}{whom} before the server starts"));
    advice.push(format!("in a container: --ulimit nofile={descriptors}:{descriptors}"));
    advice
}

/// Twice what the clients need at least, with the two lower marks where Linux has them by default: at a half and at
/// three quarters.
fn tcp_memory(clients: u64) -> String {
    let most = rounded(clients.saturating_mul(PAGES_UNDER_WAY * 2));
    format!("sysctl -w net.ipv4.tcp_mem=\"{} {} {most}\"", most / 2, most / 4 * 3)
}

/// What each of so many clients may hold when none of them reads; the least that the limit can be if that is too much.
fn send_buffer(clients: u64, machine: &Machine, plan: &Plan) -> u64 {
    let room = room(machine).unwrap_or(0);
    let spare = (room - room / MEMORY_SPARE_PART).saturating_sub(MEMORY_BESIDE_BYTES) / clients.max(1);
    let bytes = spare.saturating_sub(plan.client_bytes()) / SEND_BUFFER_FACTOR;
    (bytes / 1024 * 1024).max(SEND_BUFFER_LEAST)
}

/// Something that sets no number of clients, but that a server with many of them suffers from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Remark {
    pub(super) level: Level,
    pub(super) about: &'static str,
    pub(super) found: String,
    #[serde(rename = "set")]
    pub(super) advice: String,
}

/// Everything worth a remark; what is in order is left out.
pub(super) fn remarks(machine: &Machine, plan: &Plan) -> Vec<Remark> {
    let mut remarks = storms(machine, plan);
    remarks.extend(processors(machine, plan));
    remarks.extend(kernel(machine, plan));
    remarks
}

fn yellow(about: &'static str, found: String, advice: impl Into<String>) -> Remark {
    Remark { level: Level::Yellow, about, found, advice: advice.into() }
}

fn unknown(about: &'static str) -> Remark {
    let advice = "look at it yourself: it can't be read here".to_owned();
    Remark { level: Level::Unknown, about, found: "unknown".to_owned(), advice }
}

/// What a herd of clients that come back meets.
fn storms(machine: &Machine, plan: &Plan) -> Vec<Remark> {
    let backlog = plan.limits.listen_backlog as u64;
    let mut remarks = Vec::new();
    match machine.somaxconn {
        Some(most) if most < backlog => remarks.push(yellow(
            "net.core.somaxconn",
            format!("{} cuts listen_backlog {}", grouped(most), grouped(backlog)),
            format!("sysctl -w net.core.somaxconn={backlog}"),
        )),
        Some(_) => {}
        None => remarks.push(unknown("net.core.somaxconn")),
    }
    if machine.syncookies == Some(0) && machine.syn_backlog.is_some_and(|most| most < backlog) {
        remarks.push(yellow(
            "net.ipv4.tcp_max_syn_backlog",
            format!("{} without tcp_syncookies drops connections of a herd", shown(machine.syn_backlog)),
            format!("sysctl -w net.ipv4.tcp_syncookies=1 net.ipv4.tcp_max_syn_backlog={backlog}"),
        ));
    }
    if machine.tw_reuse == Some(0) {
        remarks.push(yellow(
            "net.ipv4.tcp_tw_reuse",
            "0: a proxy on this machine waits a minute for each port that it has used".to_owned(),
            "sysctl -w net.ipv4.tcp_tw_reuse=1",
        ));
    }
    remarks
}

fn processors(machine: &Machine, plan: &Plan) -> Vec<Remark> {
    let Some(parallel) = machine.parallelism() else { return vec![unknown("processors")] };
    let mut remarks = Vec::new();
    if plan.shards != parallel {
        remarks.push(yellow(
            "shards",
            format!("{} shards for {} processors", grouped(plan.shards), grouped(parallel)),
            format!("shards = {parallel}, or none configured"),
        ));
    }
    let quota = machine
        .quota_milli
        .filter(|milli| machine.processors.is_some_and(|all| *milli < all.saturating_mul(1000)));
    if let Some(milli) = quota {
        remarks.push(yellow(
            "the control groups' quota of processor time",
            format!(
                "{} processors: a burst beyond it stands still until the next period",
                thousandths(milli)
            ),
            "CPUQuota= of the unit, --cpus of the container, or no limits.cpu of the pod; rather pin it",
        ));
    }
    remarks
}

fn kernel(machine: &Machine, plan: &Plan) -> Vec<Remark> {
    let mut remarks = Vec::new();
    if machine.congestion.as_deref() == Some("bbr") {
        remarks.push(yellow(
            "net.ipv4.tcp_congestion_control",
            "bbr: a send costs 3 to 10 % more processor time than with cubic".to_owned(),
            "sysctl -w net.ipv4.tcp_congestion_control=cubic, unless lossy networks need bbr",
        ));
    }
    if machine.huge_pages.as_deref() == Some("always") {
        remarks.push(yellow(
            "transparent huge pages",
            "always: memory that was given back in parts stays resident".to_owned(),
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ));
    }
    if machine.map_count.is_some_and(|count| count < 65_530) {
        remarks.push(yellow(
            "vm.max_map_count",
            format!("{}, less than Linux has by default", shown(machine.map_count)),
            "sysctl -w vm.max_map_count=65530",
        ));
    }
    if machine.io_uring_disabled.is_some_and(|disabled| disabled > 0) {
        remarks.push(yellow(
            "kernel.io_uring_disabled",
            format!("{}: the server writes with one call for each client", shown(machine.io_uring_disabled)),
            "sysctl -w kernel.io_uring_disabled=0, if those who run the machine agree",
        ));
    }
    let buffer = plan.limits.send_buffer_bytes as u64;
    if let Some(most) = machine.wmem_max.filter(|most| *most < buffer) {
        remarks.push(yellow(
            "net.core.wmem_max",
            format!("{} cuts send_buffer_bytes {}", grouped(most), grouped(buffer)),
            format!("sysctl -w net.core.wmem_max={}", buffer.saturating_mul(SEND_BUFFER_FACTOR)),
        ));
    }
    if let Some(most) = machine.tcp_rmem_max.filter(|most| *most > RECEIVE_BYTES_MAX) {
        remarks.push(yellow(
            "net.ipv4.tcp_rmem",
            format!("the kernel may keep {} of what one client sends faster than it is read", size(most)),
            "sysctl -w net.ipv4.tcp_rmem=\"4096 16384 1048576\"",
        ));
    }
    remarks.extend(unit(machine));
    remarks
}

/// A service does not have the limits of the shell that this command runs in.
fn unit(machine: &Machine) -> Option<Remark> {
    let limit = machine.unit_descriptors.as_deref().filter(|_| machine.unit.is_none())?;
    // A soft and a hard value have a colon between them; the server raises the one to the other.
    let hard: u64 = limit.rsplit(':').next()?.parse().ok()?;
    (Some(hard) != machine.descriptors()).then(|| {
        yellow(
            "LimitNOFILE",
            format!("hailer.service sets {}, which is not what this command was started with", grouped(hard)),
            "ask about the running server: hailer doctor --pid \"$(systemctl show -P MainPID hailer)\"",
        )
    })
}
