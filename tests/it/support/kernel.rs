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

    /// What each of `count` connections has cost since `before`: the caches that have grown by an object or
    /// more for each, and their bytes for each, both ends together.
    pub(crate) fn growth_since(&self, before: &Self, count: usize) -> Option<(u64, String)> {
        let (before, after) = (before.0.as_ref()?, self.0.as_ref()?);
        let count = i64::try_from(count).ok()?.max(1);
        let mut bytes = 0;
        let mut names = Vec::new();
        for (name, (active, size)) in after {
            let grown = active - before.get(name).map_or(0, |(active, _)| *active);
            // Other programs of the machine make and free objects meanwhile, but hardly so many of one kind.
            if grown * 10 >= count * 9 {
                bytes += grown * size / count;
                names.push(format!("{name} {:.1}x{size}", grown as f64 / count as f64));
            }
        }
        Some((u64::try_from(bytes).ok()?, names.join(", ")))
    }
}

/// How many descriptors this process, and each it starts, may have open.
pub(crate) fn descriptor_limit() -> usize {
    let text = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok()).unwrap_or(1024)
}
