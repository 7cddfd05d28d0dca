//! What the machine says about itself. All of it is text that somebody else has written: what can't be read or
//! understood is unknown, and nothing more happens.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Stands for a limit that is not set.
pub(super) const UNLIMITED: u64 = u64::MAX;

/// Bytes of a file that are read; the files that are asked for are far smaller.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Folders in which a unit of systemd may be, with those that go before others first.
const UNIT_FOLDERS: [&str; 4] =
    ["etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];

/// What was found; `None` is unknown, and [`UNLIMITED`] is a limit that there is not.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Machine {
    /// These are the limits of a server that runs, rather than of one that is to be started.
    pub(super) runs: bool,
    pub(super) descriptors_soft: Option<u64>,
    pub(super) descriptors_hard: Option<u64>,
    pub(super) address_space_bytes: Option<u64>,
    /// `fs.nr_open`: what the limit of a process can be set to.
    pub(super) nr_open: Option<u64>,
    /// `fs.file-max`: open files of the whole machine.
    pub(super) file_max: Option<u64>,
    /// How many of these are open.
    pub(super) files_open: Option<u64>,
    pub(super) epoll_watches: Option<u64>,
    pub(super) memory_total_bytes: Option<u64>,
    pub(super) memory_available_bytes: Option<u64>,
    /// Memory that may still be promised, where `vm.overcommit_memory` is 2.
    pub(super) commit_room_bytes: Option<u64>,
    pub(super) overcommit: Option<u64>,
    /// Room that the control groups of the process leave.
    pub(super) group_room_bytes: Option<u64>,
    /// Processors that the process may run on.
    pub(super) processors: Option<u64>,
    /// Thousandths of a processor that the control groups allow.
    pub(super) quota_milli: Option<u64>,
    /// The third number of `net.ipv4.tcp_mem`.
    pub(super) tcp_pages: Option<u64>,
    pub(super) ports: Option<(u64, u64)>,
    pub(super) somaxconn: Option<u64>,
    pub(super) syn_backlog: Option<u64>,
    pub(super) syncookies: Option<u64>,
    pub(super) tw_reuse: Option<u64>,
    /// `net.core.wmem_max`, which `SO_SNDBUF` can't pass.
    pub(super) wmem_max: Option<u64>,
    /// The third number of `net.ipv4.tcp_rmem`. That of `tcp_wmem` does not matter where `SO_SNDBUF` is set.
    pub(super) tcp_rmem_max: Option<u64>,
    pub(super) congestion: Option<String>,
    pub(super) conntrack_max: Option<u64>,
    pub(super) conntrack_count: Option<u64>,
    pub(super) map_count: Option<u64>,
    pub(super) huge_pages: Option<String>,
    pub(super) io_uring_disabled: Option<u64>,
    /// The unit of systemd that the process runs in.
    pub(super) unit: Option<String>,
    /// `LimitNOFILE=` of the unit that is called hailer, if there is one.
    pub(super) unit_descriptors: Option<String>,
    /// What a running server has already: its resident memory and its open descriptors.
    pub(super) resident_bytes: u64,
    pub(super) descriptors_open: u64,
}

/// Reads the files of a machine below a folder that stands for `/`.
struct Files<'a>(&'a Path);

impl Files<'_> {
    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let mut bytes = Vec::new();
        let file = fs::File::open(self.0.join(path)).ok()?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The number at a place of a file that holds nothing but numbers.
    fn number_at(&self, path: impl AsRef<Path>, at: usize) -> Option<u64> {
        number(self.text(path)?.split_whitespace().nth(at)?)
    }

    fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.number_at(path, 0)
    }

    fn sysctl(&self, name: &str) -> Option<u64> {
        self.number(Path::new("proc/sys").join(name))
    }
}

/// A number, or what stands for none.
fn number(text: &str) -> Option<u64> {
    match text {
        "max" | "unlimited" | "infinity" | "-1" => Some(UNLIMITED),
        // A limit beyond 64 bits is none.
        digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().unwrap_or(UNLIMITED))
        }
        _ => None,
    }
}

/// The number behind `name` at the beginning of a line, in KiB as the kernel writes memory.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    number(line.split_whitespace().next()?)?.checked_mul(1024)
}

/// The soft and the hard value of a line of `/proc/PID/limits`.
fn limits(text: &str, name: &str) -> (Option<u64>, Option<u64>) {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let mut values = line.split_whitespace().map(number);
    (values.next().flatten(), values.next().flatten())
}

/// How many numbers a list such as `0-3,8` names.
fn listed(text: &str) -> Option<u64> {
    let mut count: u64 = 0;
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

/// The word in square brackets, as in `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// Reads the machine below `root`, as it is for the process that is called `self` or a number. What a running server
/// holds already is read for a number only.
pub(super) fn read(root: &Path, process: Option<u32>) -> Machine {
    let files = Files(root);
    let of = process.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let of = Path::new("proc").join(of);
    let status = files.text(of.join("status")).unwrap_or_default();
    let limits_text = files.text(of.join("limits")).unwrap_or_default();
    let (soft, hard) = limits(&limits_text, "Max open files");
    let groups = Groups::read(&files, &files.text(of.join("cgroup")).unwrap_or_default());
    let mut machine = Machine {
        runs: process.is_some(),
        descriptors_soft: soft,
        descriptors_hard: hard,
        address_space_bytes: limits(&limits_text, "Max address space").0,
        processors: processors(&files, &status),
        group_room_bytes: groups.room_bytes,
        quota_milli: groups.quota_milli,
        unit: groups.unit,
        unit_descriptors: unit_descriptors(&files),
        ..Machine::default()
    };
    if process.is_some() {
        machine.resident_bytes = kilobytes(&status, "VmRSS").unwrap_or(0);
        let entries = fs::read_dir(root.join(of).join("fd"));
        machine.descriptors_open = entries.map_or(0, |entries| entries.count() as u64);
    }
    machine.read_memory(&files);
    machine.read_kernel(&files);
    machine
}

impl Machine {
    /// Descriptors that a server may have. One that starts raises the soft limit to the hard one.
    pub(super) fn descriptors(&self) -> Option<u64> {
        if self.runs { self.descriptors_soft } else { self.descriptors_hard.or(self.descriptors_soft) }
    }

    /// How many shards a server has here unless a number is configured: what the standard library finds.
    pub(super) fn parallelism(&self) -> Option<u64> {
        let processors = self.processors?;
        let quota = self.quota_milli.map_or(UNLIMITED, |milli| (milli / 1000).max(1));
        Some(processors.min(quota).max(1))
    }

    fn read_memory(&mut self, files: &Files<'_>) {
        let memory = files.text("proc/meminfo").unwrap_or_default();
        self.memory_total_bytes = kilobytes(&memory, "MemTotal");
        self.memory_available_bytes = kilobytes(&memory, "MemAvailable");
        self.overcommit = files.sysctl("vm/overcommit_memory");
        self.commit_room_bytes = kilobytes(&memory, "CommitLimit")
            .zip(kilobytes(&memory, "Committed_AS"))
            .map(|(limit, promised)| limit.saturating_sub(promised));
        self.map_count = files.sysctl("vm/max_map_count");
        let huge = files.text("sys/kernel/mm/transparent_hugepage/enabled");
        self.huge_pages = huge.as_deref().and_then(chosen);
    }

    fn read_kernel(&mut self, files: &Files<'_>) {
        self.nr_open = files.sysctl("fs/nr_open");
        self.file_max = files.sysctl("fs/file-max");
        self.files_open = files.sysctl("fs/file-nr");
        self.epoll_watches = files.sysctl("fs/epoll/max_user_watches");
        self.io_uring_disabled = files.sysctl("kernel/io_uring_disabled");
        self.somaxconn = files.sysctl("net/core/somaxconn");
        self.wmem_max = files.sysctl("net/core/wmem_max");
        self.syn_backlog = files.sysctl("net/ipv4/tcp_max_syn_backlog");
        self.syncookies = files.sysctl("net/ipv4/tcp_syncookies");
        self.tw_reuse = files.sysctl("net/ipv4/tcp_tw_reuse");
        self.tcp_pages = files.number_at("proc/sys/net/ipv4/tcp_mem", 2);
        self.tcp_rmem_max = files.number_at("proc/sys/net/ipv4/tcp_rmem", 2);
        let ports = |at| files.number_at("proc/sys/net/ipv4/ip_local_port_range", at);
        self.ports = ports(0).zip(ports(1)).filter(|(first, last)| first <= last);
        let congestion = files.text("proc/sys/net/ipv4/tcp_congestion_control");
        self.congestion = congestion.filter(|name| !name.is_empty());
        self.conntrack_max = files.sysctl("net/netfilter/nf_conntrack_max");
        self.conntrack_count = files.sysctl("net/netfilter/nf_conntrack_count");
    }
}

/// Processors that the process may run on, or all there are.
fn processors(files: &Files<'_>, status: &str) -> Option<u64> {
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    allowed.and_then(listed).or_else(|| listed(&files.text("sys/devices/system/cpu/online")?))
}

/// What the last file says that sets it: the unit's own, and what `systemctl edit` has put beside it.
fn unit_descriptors(files: &Files<'_>) -> Option<String> {
    let of = |text: String| {
        let mut lines = text.lines().rev();
        lines.find_map(|line| Some(line.trim().strip_prefix("LimitNOFILE=")?.trim().to_owned()))
    };
    let folders = || UNIT_FOLDERS.iter().map(Path::new);
    let mut beside = folders().map(|folder| folder.join("hailer.service.d/override.conf"));
    let own = || folders().map(|folder| folder.join("hailer.service")).find_map(|path| files.text(path));
    beside.find_map(|path| files.text(path).and_then(of)).or_else(|| own().and_then(of))
}

/// What the control groups of a process allow it: the least that any group above it does.
#[derive(Default)]
struct Groups {
    room_bytes: Option<u64>,
    quota_milli: Option<u64>,
    unit: Option<String>,
}

impl Groups {
    /// `listed` is `/proc/PID/cgroup`: a line for each hierarchy, as `number:controllers:path`.
    fn read(files: &Files<'_>, listed: &str) -> Self {
        let mut groups = Self::default();
        for line in listed.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let has = |name| controllers.split(',').any(|controller| controller == name);
            if controllers.is_empty() {
                // Version 2; beside version 1 its files lie one folder deeper.
                for mount in ["sys/fs/cgroup", "sys/fs/cgroup/unified"] {
                    groups.take(mount, path, |folder| Self::version_2(files, folder));
                }
            }
            if has("memory") {
                groups.take("sys/fs/cgroup/memory", path, |folder| (Self::memory_1(files, folder), None));
            }
            if has("cpu") {
                for mount in ["sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"] {
                    groups.take(mount, path, |folder| (None, Self::quota_1(files, folder)));
                }
            }
            let unit = path.rsplit('/').find(|part| part.ends_with(".service"));
            groups.unit = groups.unit.or_else(|| unit.map(str::to_owned));
        }
        // Where the groups are listed and none of them sets a limit, there is none.
        if !listed.is_empty() {
            groups.room_bytes = groups.room_bytes.or(Some(UNLIMITED));
            groups.quota_milli = groups.quota_milli.or(Some(UNLIMITED));
        }
        groups
    }

    /// Asks every folder from the mount to the group. A container may see its own group as the mount itself, so a
    /// folder that is not there says nothing.
    fn take(&mut self, mount: &str, path: &str, of: impl Fn(&Path) -> (Option<u64>, Option<u64>)) {
        let mut folder = PathBuf::from(mount);
        let inner = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_)));
        for part in std::iter::once(None).chain(inner.map(Some)) {
            folder.extend(part);
            let (room, quota) = of(&folder);
            self.room_bytes = least(self.room_bytes, room);
            self.quota_milli = least(self.quota_milli, quota);
        }
    }

    fn version_2(files: &Files<'_>, folder: &Path) -> (Option<u64>, Option<u64>) {
        let used = files.number(folder.join("memory.current"));
        let stat = files.text(folder.join("memory.stat")).unwrap_or_default();
        let room = room(files.number(folder.join("memory.max")), used, &stat, "inactive_file ");
        let quota = files.number_at(folder.join("cpu.max"), 0);
        (room, milli(quota, files.number_at(folder.join("cpu.max"), 1)))
    }

    fn memory_1(files: &Files<'_>, folder: &Path) -> Option<u64> {
        let used = files.number(folder.join("memory.usage_in_bytes"));
        let stat = files.text(folder.join("memory.stat")).unwrap_or_default();
        room(files.number(folder.join("memory.limit_in_bytes")), used, &stat, "total_inactive_file ")
    }

    fn quota_1(files: &Files<'_>, folder: &Path) -> Option<u64> {
        let number = |name| files.number(folder.join(name));
        milli(number("cpu.cfs_quota_us"), number("cpu.cfs_period_us"))
    }
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// What a group may still take: its limit, without what it uses. Pages of files that nobody needs are given back.
fn room(limit: Option<u64>, used: Option<u64>, stat: &str, inactive: &str) -> Option<u64> {
    // Version 1 has no word for no limit, but the most that it can count.
    let limit = limit.filter(|limit| *limit < 1 << 62)?;
    let inactive = stat.lines().find_map(|line| number(line.strip_prefix(inactive)?)).unwrap_or(0);
    Some(limit.saturating_sub(used.unwrap_or(0).saturating_sub(inactive)))
}

/// A quota in a period as thousandths of a processor.
fn milli(quota: Option<u64>, period: Option<u64>) -> Option<u64> {
    let quota = quota.filter(|quota| *quota != UNLIMITED)?;
    quota.checked_mul(1000)?.checked_div(period?)
}
