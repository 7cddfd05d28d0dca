//! The number of descriptors that this process may have.

use std::fmt;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What to ask for where the hard limit is none: a system that has one all the same cuts it.
const UNLIMITED: u64 = 1 << 20;

/// The limit before and after; `None` is no limit.
#[derive(Debug)]
pub(super) struct Raised {
    pub(super) from: Shown,
    pub(super) to: Shown,
}

/// How a limit is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown(Option<u64>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(limit) => limit.fmt(f),
            None => f.write_str("unlimited"),
        }
    }
}

/// Raises the soft limit of open files to the hard one, for this process and those that it starts. `None`: it is there
/// already.
///
/// # Errors
/// The system refuses; everything stays as it was.
pub(super) fn raise_limit() -> io::Result<Option<Raised>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return Ok(None);
    }
    let wanted = Some(maximum.unwrap_or(UNLIMITED));
    if current.is_none_or(|current| Some(current) >= wanted) {
        return Ok(None);
    }
    setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum })?;
    let to = getrlimit(Resource::Nofile).current;
    Ok(Some(Raised { from: Shown(current), to: Shown(to) }))
}
