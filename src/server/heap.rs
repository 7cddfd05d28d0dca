//! Memory that has become free goes back to the system.
//!
//! glibc keeps what small blocks leave free for later: of 15,000 users with topics of their own who have left, all of
//! their memory stayed resident. It gives back what it is told to, by the one call that this file makes.

#![cfg_attr(all(target_os = "linux", target_env = "gnu"), allow(unsafe_code))]

#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::time::Instant;

use tracing::debug;

/// Fewer connections than this at their peak are no crowd.
const CROWD_MIN: usize = 512;

/// How many connections there have been at once, since memory was last given back.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    peak: usize,
}

impl Crowd {
    /// Notes how many connections there are; whether most of a crowd has left since it was last said so.
    pub(super) fn has_left(&mut self, open: usize) -> bool {
        self.peak = self.peak.max(open);
        let has_left = self.peak >= CROWD_MIN && open <= self.peak / 4;
        if has_left {
            self.peak = open;
        }
        has_left
    }
}

/// Has the allocator give free memory back. It takes milliseconds for each hundred megabytes that are free.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn trim() {
    let begun = Instant::now();
    // SAFETY: the call takes a number, and locks what it touches.
    unsafe { libc::malloc_trim(0) };
    debug!(took = ?begun.elapsed(), "a crowd has left: its memory is given back");
}

/// Other allocators give free memory back by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn trim() {
    debug!("a crowd has left");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_leaves_by_quarters() {
        let mut crowd = Crowd::default();
        let most = 4 * CROWD_MIN;
        let open = [0, CROWD_MIN - 1, 0, most, most / 4 + 1, most / 4, most / 4 - 1, most / 16, 10, 0];
        let left = open.map(|open| crowd.has_left(open));
        assert_eq!(left, [false, false, false, false, false, true, false, true, false, false]);
    }
}
