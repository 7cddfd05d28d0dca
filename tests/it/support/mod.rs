//! What the tests of the running program share: the program, and peers of several kinds.
//!
//! Nothing here waits for a fixed time: whatever is waited for has [`PATIENCE`], and a test that runs out of it
//! fails.

mod client;
mod disk;
mod folder;
mod kernel;
pub(crate) mod members;
mod memory;
mod patient;
pub(crate) mod peer;
pub(crate) mod pollers;
mod process;
pub(crate) mod swarm;
mod times;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use client::Client;
pub(crate) use disk::Disk;
pub(crate) use folder::Folder;
pub(crate) use kernel::{Slabs, descriptor_limit, descriptor_limits, dropped_packets, hard_descriptor_limit};
pub(crate) use memory::Memory;
pub(crate) use patient::PatientStream;
pub(crate) use peer::Peer;
pub(crate) use process::{API_OFF, Hailer, counter, hailer, hailer_output};
pub(crate) use times::percentiles;

/// How long anything may take that happens at once on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Held by a test that needs most of the descriptors this process may have: one at a time.
pub(crate) fn crowd() -> MutexGuard<'static, ()> {
    static CROWD: Mutex<()> = Mutex::new(());
    CROWD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks again and again until `found` gives a value.
pub(crate) fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        // The interval decides how soon the end is noticed, nothing else.
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
