//! Guessing passwords: growing pauses for an account and for an address.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::desk::{UnixMillis, network_of};

/// Failures of one account before it has to wait.
const ACCOUNT_FAILURES_MAX: u32 = 5;
/// Failures from one address before it has to wait: an office of people shares one.
const ADDRESS_FAILURES_MAX: u32 = 20;
/// The first pause; each further failure doubles it.
const FIRST_PAUSE_MS: UnixMillis = 60 * 1000;
/// The longest pause.
const LONGEST_PAUSE_MS: UnixMillis = 60 * 60 * 1000;
/// After so long without a failure they are forgotten.
const MEMORY_MS: UnixMillis = 24 * 60 * 60 * 1000;
/// Accounts and addresses that are remembered.
const ENTRIES_MAX: usize = 10_000;

/// Who may try a password, and who has to wait.
pub(super) struct Lockout {
    accounts: Mutex<Table<[u8; 32]>>,
    addresses: Mutex<Table<IpAddr>>,
}

/// A try that is under way. It counts as a failure from its beginning, so that tries side by side don't get around the
/// limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Try {
    /// Whether a pause begins if it fails.
    pub(super) locks: bool,
}

impl Lockout {
    pub(super) fn new() -> Self {
        let accounts = Mutex::new(Table::new(ACCOUNT_FAILURES_MAX));
        Self { accounts, addresses: Mutex::new(Table::new(ADDRESS_FAILURES_MAX)) }
    }

    /// A try to sign in with this name begins, or how long it has to wait. Whether there is an account of that name makes
    /// no difference.
    pub(super) fn begin(&self, name: &str, address: IpAddr, at: UnixMillis) -> Result<Try, Duration> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let (account, address) = (account_key(name), network_of(address));
        let wait = accounts.wait(&account, at).max(addresses.wait(&address, at));
        if wait > 0 {
            return Err(Duration::from_millis(wait));
        }
        let by_account = accounts.count(account, at);
        let by_address = addresses.count(address, at);
        Ok(Try { locks: by_account || by_address })
    }

    /// The same without an account: what is guessed is a one-time link.
    pub(super) fn begin_nameless(&self, address: IpAddr, at: UnixMillis) -> Result<Try, Duration> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network_of(address);
        match addresses.wait(&address, at) {
            0 => Ok(Try { locks: addresses.count(address, at) }),
            wait => Err(Duration::from_millis(wait)),
        }
    }

    /// The try was right. The account begins anew; of the address only this try is forgotten, so that nobody wipes out
    /// guesses at others with an account of their own.
    pub(super) fn succeeded(&self, name: &str, address: IpAddr) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.entries.remove(&account_key(name));
        drop(accounts);
        self.succeeded_nameless(address);
    }

    /// The same for a one-time link.
    pub(super) fn succeeded_nameless(&self, address: IpAddr) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.take_back(&network_of(address));
    }
}

/// Names are of any length, and hashes are not.
fn account_key(name: &str) -> [u8; 32] {
    Sha256::digest(name.as_bytes()).into()
}

#[derive(Clone, Copy)]
struct Entry {
    failures: u32,
    last: UnixMillis,
    locked_until: UnixMillis,
}

struct Table<K> {
    entries: HashMap<K, Entry>,
    failures_max: u32,
}

impl<K: Hash + Eq + Copy> Table<K> {
    fn new(failures_max: u32) -> Self {
        Self { entries: HashMap::new(), failures_max }
    }

    /// How long this one has to wait.
    fn wait(&self, key: &K, at: UnixMillis) -> UnixMillis {
        self.entries.get(key).map_or(0, |entry| entry.locked_until.saturating_sub(at))
    }

    /// Counts a failure; whether a pause begins with it.
    fn count(&mut self, key: K, at: UnixMillis) -> bool {
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&key) {
            self.make_room(at);
        }
        let entry = self.entries.entry(key).or_insert(Entry { failures: 0, last: at, locked_until: 0 });
        if at.saturating_sub(entry.last) > MEMORY_MS {
            entry.failures = 0;
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.last = at;
        let Some(beyond) = entry.failures.checked_sub(self.failures_max) else { return false };
        let pause = FIRST_PAUSE_MS.checked_shl(beyond.min(16)).unwrap_or(LONGEST_PAUSE_MS);
        entry.locked_until = at.saturating_add(pause.min(LONGEST_PAUSE_MS));
        true
    }

    fn take_back(&mut self, key: &K) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.failures = entry.failures.saturating_sub(1);
            entry.locked_until = 0;
            if entry.failures == 0 {
                self.entries.remove(key);
            }
        }
    }

    /// Forgets what is old, or else the one with the fewest failures: who fills the table with names has to fail as often
    /// with each of them before a locked one is forgotten.
    fn make_room(&mut self, at: UnixMillis) {
        self.entries.retain(|_, entry| at.saturating_sub(entry.last) <= MEMORY_MS);
        if self.entries.len() >= ENTRIES_MAX {
            let weakest = self.entries.iter().min_by_key(|(_, entry)| (entry.failures, entry.last));
            if let Some(key) = weakest.map(|(key, _)| *key) {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const MINUTE: Duration = Duration::from_secs(60);

    fn fail(lockout: &Lockout, name: &str, at: UnixMillis, times: u32) {
        for _ in 0..times {
            lockout.begin(name, HERE, at).unwrap();
        }
    }

    #[test]
    fn an_account_waits_longer_with_each_failure_beyond_the_limit() {
        let lockout = Lockout::new();
        fail(&lockout, "ada", 0, 4);
        assert_eq!(lockout.begin("ada", HERE, 0), Ok(Try { locks: true }));
        assert_eq!(lockout.begin("ada", HERE, 0), Err(MINUTE));
        assert_eq!(lockout.begin("ada", HERE, 59_999), Err(Duration::from_millis(1)));
        let mut at = 60_000;
        for minutes in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(lockout.begin("ada", HERE, at), Ok(Try { locks: true }), "{minutes}");
            assert_eq!(lockout.begin("ada", HERE, at), Err(MINUTE * minutes));
            at += u64::from(minutes) * 60_000;
        }
        assert_eq!(lockout.begin("grace", HERE, at), Ok(Try { locks: false }));
    }

    #[test]
    fn success_ends_the_account_s_count_and_one_of_the_address() {
        let lockout = Lockout::new();
        for _ in 0..4 {
            fail(&lockout, "ada", 0, 4);
            lockout.begin("ada", HERE, 0).unwrap();
            lockout.succeeded("ada", HERE);
        }
        // Sixteen failures of the address are left, and four more lock it.
        for name in ["a", "b", "c"] {
            assert_eq!(lockout.begin(name, HERE, 0), Ok(Try { locks: false }));
        }
        assert_eq!(lockout.begin("d", HERE, 0), Ok(Try { locks: true }));
        assert_eq!(lockout.begin_nameless(HERE, 0), Err(MINUTE));
        let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(lockout.begin("a", elsewhere, 0), Ok(Try { locks: false }));
    }

    #[test]
    fn a_day_without_failures_is_forgiven() {
        let lockout = Lockout::new();
        fail(&lockout, "ada", 0, 5);
        assert_eq!(lockout.begin("ada", HERE, MEMORY_MS + 1), Ok(Try { locks: false }));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let lockout = Lockout::new();
        for n in 0..20 {
            let address = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n));
            lockout.begin_nameless(address, 0).unwrap();
        }
        let neighbour = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 9, 9, 9, 9));
        assert_eq!(lockout.begin_nameless(neighbour, 0), Err(MINUTE));
        let other = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1));
        assert!(lockout.begin_nameless(other, 0).is_ok());
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        assert_eq!(network_of(mapped), HERE);
    }

    #[test]
    fn a_flood_of_names_does_not_unlock_an_account() {
        let mut table: Table<[u8; 32]> = Table::new(ACCOUNT_FAILURES_MAX);
        for _ in 0..5 {
            table.count(account_key("ada"), 0);
        }
        for n in 0..ENTRIES_MAX + 200 {
            table.count(account_key(&n.to_string()), 1);
        }
        assert_eq!(table.entries.len(), ENTRIES_MAX);
        assert!(table.wait(&account_key("ada"), 1) > 0);
    }
}
