//! What the kernel knows of itself.

use std::collections::BTreeMap;

/// Objects in the kernel's caches, from `/proc/slabinfo`, which only root may read.
pub(crate) struct Slabs(Option<BTreeMap<String, (i64, i64)>>);

impl Slabs {
    pub(crate) fn read() -> Self {
        let Ok(text) = std::fs::read_to_string("/proc/slabinfo") else { return Self(None) };
        let cache = |line: &str| {
            let mut fields = line.split_whitespace();
            let name = fields.next()?.to_owned();
            let active = fields.next()?.parse().ok()?;
            let size = fields.nth(1)?.parse().ok()?;
            Some((name, (active, size)))
        };
        Self(Some(text.lines().filter_map(cache).collect()))
    }

    /// What each of `count` connections has cost since `before`, at each of its two ends: bytes of objects,
    /// and which objects.
    pub(crate) fn growth_since(&self, before: &Self, count: usize) -> Option<(u64, String)> {
        let (before, after) = (before.0.as_ref()?, self.0.as_ref()?);
        let count = i64::try_from(count).ok()?.max(1);
        let mut bytes = 0;
        let mut names = Vec::new();
        for (name, (active, size)) in after {
            let grown = active - before.get(name).map_or(0, |(active, _)| *active);
            // Other programs of the machine make and free objects meanwhile. Both ends take the same, so
            // an odd object is not theirs, nor is a part of one; a few may still be in use by the kernel.
            let each = (grown + count / 5) / (2 * count);
            if each > 0 {
                bytes += each * size;
                names.push(format!("{each} {name} of {size}"));
            }
        }
        Some((u64::try_from(bytes).ok()?, names.join(", ")))
    }
}

/// How many descriptors this process may have open.
pub(crate) fn descriptor_limit() -> usize {
    descriptor_limits(std::process::id()).0
}

/// How many descriptors a server may have open that this process starts.
pub(crate) fn hard_descriptor_limit() -> usize {
    descriptor_limits(std::process::id()).1
}

/// How many descriptors a process may have open: the soft limit, and the hard one.
pub(crate) fn descriptor_limits(pid: u32) -> (usize, usize) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    let mut limits = line.split_whitespace().map(|limit| limit.parse().unwrap_or(1024));
    (limits.next().unwrap_or(1024), limits.next().unwrap_or(1024))
}

/// Packets that the machine's CPUs have dropped because too many waited for them, which on loopback happens when a CPU
/// has too much to do. TCP sends again what it wants to have arrived.
pub(crate) fn dropped_packets() -> usize {
    let text = std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    let dropped = |line: &str| usize::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    text.lines().filter_map(dropped).sum()
}
