//! Addresses that guess keys.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::desk::{UnixMillis, network_of};

/// For so long failures are counted together, and an address is refused at most.
const WINDOW: UnixMillis = 60_000;

/// Addresses that are remembered. Those that come when so many guess at once are refused without being counted.
const ADDRESSES_MAX: usize = 10_000;

/// What a wrong key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It is refused as unknown.
    Counted,
    /// There were too many within a minute, and nothing more is said about keys from there for so many seconds.
    TooMany {
        /// Until the address may try again.
        seconds: u64,
        /// Whether this is the one with which it begins.
        begins: bool,
    },
}

/// Counts wrong keys by address.
#[derive(Debug)]
pub(super) struct Lockout {
    failures_max: u32,
    addresses: Mutex<HashMap<IpAddr, Window>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    since: UnixMillis,
    failures: u32,
}

impl Window {
    /// A clock that was set back ends a window, so that nobody is refused until it has caught up.
    const fn holds(self, at: UnixMillis) -> bool {
        self.since <= at && at - self.since < WINDOW
    }
}

impl Lockout {
    pub(super) fn new(failures_max: u32) -> Self {
        Self { failures_max, addresses: Mutex::default() }
    }

    /// A wrong key came from there.
    pub(super) fn fail(&self, address: IpAddr, at: UnixMillis) -> Failure {
        let network = network_of(address);
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= ADDRESSES_MAX && !addresses.contains_key(&network) {
            addresses.retain(|_, window| window.holds(at));
            if addresses.len() >= ADDRESSES_MAX {
                return Failure::Counted;
            }
        }
        let window = addresses.entry(network).or_insert(Window { since: at, failures: 0 });
        if !window.holds(at) {
            *window = Window { since: at, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
        if window.failures <= self.failures_max {
            return Failure::Counted;
        }
        let seconds = (WINDOW - (at - window.since)).div_ceil(1000);
        Failure::TooMany { seconds, begins: window.failures == self.failures_max.saturating_add(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: UnixMillis = 1_800_000_000_000;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_refused_for_the_rest_of_the_minute() {
        let lockout = Lockout::new(2);
        let check = |from: &str, at, expected| assert_eq!(lockout.fail(address(from), at), expected, "{at}");
        check("10.0.0.1", AT, Failure::Counted);
        check("10.0.0.1", AT + 1000, Failure::Counted);
        check("10.0.0.1", AT + 1001, Failure::TooMany { seconds: 59, begins: true });
        check("::ffff:10.0.0.1", AT + 59_999, Failure::TooMany { seconds: 1, begins: false });
        check("10.0.0.2", AT + 59_999, Failure::Counted);
        check("10.0.0.1", AT + 60_000, Failure::Counted);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let lockout = Lockout::new(1);
        assert_eq!(lockout.fail(address("2001:db8::1"), AT), Failure::Counted);
        let failure = Failure::TooMany { seconds: 60, begins: true };
        assert_eq!(lockout.fail(address("2001:db8::ffff:2"), AT), failure);
        assert_eq!(lockout.fail(address("2001:db8:0:1::1"), AT), Failure::Counted);
    }

    #[test]
    fn a_clock_that_is_set_back_ends_it() {
        let lockout = Lockout::new(0);
        assert_eq!(lockout.fail(address("::1"), AT), Failure::TooMany { seconds: 60, begins: true });
        assert_eq!(lockout.fail(address("::1"), AT - 1), Failure::TooMany { seconds: 60, begins: true });
    }

    #[test]
    fn many_addresses_take_no_more_memory_than_the_bound() {
        let lockout = Lockout::new(1);
        let len = || lockout.addresses.lock().unwrap().len();
        for number in 0..=ADDRESSES_MAX as u32 {
            assert_eq!(lockout.fail(IpAddr::from(number.to_be_bytes()), AT), Failure::Counted);
        }
        assert_eq!(len(), ADDRESSES_MAX);
        assert!(
            matches!(lockout.fail(address("0.0.0.0"), AT), Failure::TooMany { .. }),
            "known ones are held"
        );
        lockout.fail(address("10.9.9.9"), AT + WINDOW);
        assert_eq!(len(), 1, "what is over is forgotten");
    }
}
