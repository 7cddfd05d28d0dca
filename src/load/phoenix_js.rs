//! When phoenix.js does what.

use std::time::Duration;

/// Time between the answer to a heartbeat, or the opening, and the next heartbeat, and time until one is given up.
pub const HEARTBEAT: Duration = Duration::from_secs(30);

const RECONNECT_MILLIS: [u64; 9] = [10, 50, 100, 150, 200, 250, 500, 1_000, 2_000];
const RECONNECT_MILLIS_LAST: u64 = 5_000;
const REJOIN_MILLIS: [u64; 3] = [1_000, 2_000, 5_000];
const REJOIN_MILLIS_LAST: u64 = 10_000;

/// How long a socket waits before it connects for the `tries`-th time, counted from 1 (`reconnectAfterMs`).
#[must_use]
pub fn reconnect_after(tries: u32) -> Duration {
    after(&RECONNECT_MILLIS, RECONNECT_MILLIS_LAST, tries)
}

/// How long a channel waits before it joins for the `tries`-th time, counted from 1 (`rejoinAfterMs`). When its socket
/// opens, it joins at once.
#[must_use]
pub fn rejoin_after(tries: u32) -> Duration {
    after(&REJOIN_MILLIS, REJOIN_MILLIS_LAST, tries)
}

fn after(table: &[u64], last: u64, tries: u32) -> Duration {
    let at = usize::try_from(tries).unwrap_or(usize::MAX).wrapping_sub(1);
    Duration::from_millis(table.get(at).copied().unwrap_or(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_client() {
        let reconnects: Vec<u128> = (1..=11).map(|tries| reconnect_after(tries).as_millis()).collect();
        assert_eq!(reconnects, [10, 50, 100, 150, 200, 250, 500, 1_000, 2_000, 5_000, 5_000]);
        let rejoins: Vec<u128> = (1..=5).map(|tries| rejoin_after(tries).as_millis()).collect();
        assert_eq!(rejoins, [1_000, 2_000, 5_000, 10_000, 10_000]);
    }
}
