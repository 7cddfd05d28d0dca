//! What the kernel knows of a process's memory.

use std::fmt;

/// Memory of a process, in KiB, from `/proc/PID/smaps_rollup`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Resident, pages of the program's own file among them.
    pub(crate) rss: u64,
    /// Resident, and what is shared counted by its share.
    pub(crate) pss: u64,
    /// Resident and shared with nobody.
    pub(crate) private: u64,
    /// Resident and backed by no file: heap and stacks.
    pub(crate) anonymous: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Self {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(path).expect("the process lives");
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).expect("the kernel tells");
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
        };
        Self {
            rss: field("Rss:"),
            pss: field("Pss:"),
            private: field("Private_Clean:") + field("Private_Dirty:"),
            anonymous: field("Anonymous:"),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rss, pss, private, anonymous } = self;
        write!(f, "RSS {rss:6} KiB, PSS {pss:6} KiB, private {private:6} KiB, anonymous {anonymous:6} KiB")
    }
}
