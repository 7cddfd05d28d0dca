//! How often somebody has tried to get in who may not.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of the API and the back office, for the metrics.
#[derive(Debug, Default)]
pub struct Guesses {
    wrong_keys: AtomicU64,
    wrong_passwords: AtomicU64,
    lockouts: AtomicU64,
}

impl Guesses {
    /// An API key that nobody has was given.
    pub fn wrong_key(&self) {
        self.wrong_keys.fetch_add(1, Ordering::Relaxed);
    }

    /// A sign-in to the back office was refused.
    pub fn wrong_password(&self) {
        self.wrong_passwords.fetch_add(1, Ordering::Relaxed);
    }

    /// An address or an account has to wait from here on.
    pub fn lockout(&self) {
        self.lockouts.fetch_add(1, Ordering::Relaxed);
    }

    /// Wrong keys, refused sign-ins, and how often an address or an account had to wait for them.
    #[must_use]
    pub fn counts(&self) -> [u64; 3] {
        [&self.wrong_keys, &self.wrong_passwords, &self.lockouts].map(|count| count.load(Ordering::Relaxed))
    }
}

/// What one guesser has, and is counted by: an IPv4 address, or the 64 bits that a network of IPv6 is given at least.
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}
