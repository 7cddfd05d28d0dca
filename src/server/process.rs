//! What the system says about this process (Linux: `/proc/self`). Elsewhere nothing is known.

use std::fs;

/// Ticks of the processor times in `/proc`, of which every Linux that Rust runs on has a hundred in a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the process uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Process {
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) descriptors: Option<u64>,
    pub(super) descriptors_max: Option<u64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let (status, stat, limits) = (read("status"), read("stat"), read("limits"));
        Self {
            resident_bytes: kilobytes(&status, "VmRSS"),
            virtual_bytes: kilobytes(&status, "VmSize"),
            threads: field(&status, "Threads").and_then(|value| value.parse().ok()),
            cpu_seconds: cpu_seconds(&stat),
            descriptors: descriptors(),
            descriptors_max: descriptors_max(&limits),
        }
    }
}

/// The first word behind `name:` in `/proc/self/status`.
fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    field(status, name)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The times in user and system mode: fields 14 and 15, counted behind the program's name, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11).map(str::parse::<u32>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

/// Open descriptors. Linux tells their number as the size of the folder since 6.2; before, they are counted, which
/// takes long where there are many.
fn descriptors() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    // The folder is read through a descriptor of its own.
    fs::read_dir("/proc/self/fd").ok().map(|entries| (entries.count() as u64).saturating_sub(1))
}

/// The soft limit; unlimited is none.
fn descriptors_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_linux_are_understood() {
        let status = "Name:\thailer\nVmSize:\t  123456 kB\nVmRSS:\t    2048 kB\nThreads:\t9\n";
        assert_eq!(kilobytes(status, "VmRSS"), Some(2048 * 1024));
        assert_eq!(field(status, "Threads"), Some("9"));
        assert_eq!(kilobytes(status, "VmSwap"), None);
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 12345 6 7";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("nothing"), None);
        let limits =
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024     524288    files\n";
        assert_eq!(descriptors_max(limits), Some(1024));
        assert_eq!(descriptors_max("Max open files  unlimited  unlimited  files"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_known() {
        let before = Process::read();
        let files: Vec<_> =
            (0..32).map(|_| fs::File::open("/proc/self/stat").expect("it is there")).collect();
        let after = Process::read();
        // Other tests of this process open and close files as well, but not so many.
        assert!(after.descriptors > before.descriptors.map(|count| count + 8), "{before:?} {after:?}");
        drop(files);
        assert!(after.resident_bytes > Some(1024 * 1024), "{after:?}");
        assert!(after.threads >= Some(1) && after.cpu_seconds >= Some(0.0), "{after:?}");
        assert!(after.descriptors < after.descriptors_max, "{after:?}");
    }
}
