//! How many messages an account sends in a minute.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::desk::UnixMillis;

const MINUTE_MS: UnixMillis = 60 * 1000;

/// When each account has sent within the last minute.
pub(super) struct SendRate {
    sent: Mutex<HashMap<Arc<str>, VecDeque<UnixMillis>>>,
    per_minute_max: usize,
}

impl SendRate {
    pub(super) fn new(per_minute_max: u32) -> Self {
        let per_minute_max = usize::try_from(per_minute_max).unwrap_or(usize::MAX);
        Self { sent: Mutex::new(HashMap::new()), per_minute_max }
    }

    /// One more, or how long the account has to wait.
    pub(super) fn take(&self, account: &Arc<str>, at: UnixMillis) -> Result<(), Duration> {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        // A time ahead of the clock is one from before the clock was set back.
        sent.retain(|_, times| {
            times.retain(|time| *time <= at && at - time < MINUTE_MS);
            !times.is_empty()
        });
        let times = sent.entry(Arc::clone(account)).or_default();
        if times.len() < self.per_minute_max {
            times.push_back(at);
            return Ok(());
        }
        let oldest = times.front().copied().unwrap_or(at);
        Err(Duration::from_millis(MINUTE_MS - (at - oldest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_so_many_in_any_minute() {
        let rate = SendRate::new(2);
        let (ada, grace) = (Arc::from("ada"), Arc::from("grace"));
        assert_eq!(rate.take(&ada, 1_000), Ok(()));
        assert_eq!(rate.take(&ada, 31_000), Ok(()));
        assert_eq!(rate.take(&ada, 31_000), Err(Duration::from_secs(30)));
        assert_eq!(rate.take(&grace, 31_000), Ok(()));
        assert_eq!(rate.take(&ada, 61_000), Ok(()));
        assert_eq!(rate.take(&ada, 61_000), Err(Duration::from_secs(30)));
        assert_eq!(rate.take(&ada, 1_000), Ok(()), "the clock was set back");
        assert_eq!(SendRate::new(0).take(&ada, 0), Err(Duration::from_secs(60)));
    }
}
