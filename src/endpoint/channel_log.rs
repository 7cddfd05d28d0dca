//! Lines of the log about what the application's code does wrong. A client can cause one after the other, so they are
//! within a budget.

use std::time::Instant;

use tracing::{debug, error, warn};

use super::admission::LogBudget;
use crate::auth::Identity;
use crate::guard::excerpt;

/// What the application was called for.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The method, or what was dropped.
    pub(super) code: &'static str,
    pub(super) topic: &'a str,
    pub(super) event: Option<&'a str>,
    pub(super) identity: Option<&'a Identity>,
}

/// Writes such lines.
#[derive(Default)]
pub(super) struct ChannelLog {
    budget: LogBudget,
}

impl ChannelLog {
    /// The application's code has failed.
    pub(super) fn crashed(&mut self, place: &Place<'_>, failure: &str, now: Instant) {
        let Some(left_out) = self.take(now) else {
            debug!(code = place.code, "the application's code has crashed");
            return;
        };
        let (topic, event, user) = place.excerpts();
        let (topic, event, user) = (&*topic, event.as_deref(), user.as_deref());
        error!(
            code = place.code,
            topic, event, user, failure, left_out, "the application's code has crashed"
        );
    }

    /// A message was answered twice.
    pub(super) fn answered_twice(&mut self, place: &Place<'_>, now: Instant) {
        let Some(left_out) = self.take(now) else { return };
        let (topic, event, user) = place.excerpts();
        let (topic, event, user) = (&*topic, event.as_deref(), user.as_deref());
        warn!(topic, event, user, left_out, "a second reply to one message was dropped");
    }

    /// Whether one more line may be written, and how many were left out since the last, if any.
    fn take(&mut self, now: Instant) -> Option<Option<u64>> {
        self.budget.take(now).map(|left_out| Some(left_out).filter(|left_out| *left_out > 0))
    }
}

impl Place<'_> {
    /// Topic, event and user, which may be longer than a line should be.
    fn excerpts(&self) -> (String, Option<String>, Option<String>) {
        let user = self.identity.map(Identity::user).filter(|user| !user.is_empty());
        (excerpt(self.topic), self.event.map(excerpt), user.map(excerpt))
    }
}
