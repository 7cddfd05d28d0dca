//! What is said of many times.

use std::time::Duration;

/// The middle, the slowest of a hundred and the slowest of all.
pub(crate) fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    let [p50, p99, max] = [50, 99, 100].map(|percent| at(percent).copied().unwrap_or_default());
    format!("p50 {p50:.2?}, p99 {p99:.2?}, max {max:.2?} ({} deliveries)", times.len())
}
