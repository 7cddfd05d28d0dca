//! From `[[topics]]` to channels.

use std::sync::Arc;

use super::SettingsError;
use crate::auth::rights::Rights;
use crate::board::Board;
use crate::channel::{Channel, Router, SlowReader, TopicPattern};
use crate::config::{Settings, TopicRule};
use crate::notification::{Closed, Notification, Restricted, Rule};

/// The topics of the demo that are always there: that of its page, and that of `hailer bench`.
const DEMO_TOPICS: [&str; 2] = ["room:lobby", crate::load::TOPIC];

/// The channels, and what sockets join by themselves.
pub(super) fn router(
    settings: &Settings,
    board: &Arc<Board>,
) -> Result<(Router, Vec<TopicPattern>), SettingsError> {
    if settings.is_demo() {
        return demo(settings, board).map(|router| (router, Vec::new()));
    }
    let (mut router, mut auto_join) = (Router::new(), Vec::new());
    for rule in &settings.topics {
        let pattern = pattern(&rule.pattern)?;
        if rule.auto_join {
            auto_join.push(pattern.clone());
        }
        let slow_readers = rule.slow_readers.unwrap_or(settings.slow_readers);
        let channel =
            Arc::new(Restricted::new(restrict(rule, pattern.clone())).with_board(Arc::clone(board)));
        router = router.channel_with(pattern, channel, slow_readers);
    }
    // A client is not to learn which topics there are.
    let everything = pattern("*")?;
    Ok((router.channel_with(everything, Arc::new(Closed), SlowReader::Close), auto_join))
}

fn demo(settings: &Settings, board: &Arc<Board>) -> Result<Router, SettingsError> {
    let channel: Arc<dyn Channel> = Arc::new(Notification::with_board(Arc::clone(board)));
    let mut router = Router::new();
    let own = DEMO_TOPICS.into_iter().map(pattern);
    for pattern in own.chain(settings.demo_topics.iter().cloned().map(Ok)) {
        router = router.channel_with(pattern?, Arc::clone(&channel), settings.slow_readers);
    }
    Ok(router)
}

fn pattern(text: &str) -> Result<TopicPattern, SettingsError> {
    TopicPattern::parse(text).map_err(|error| SettingsError(format!("[[topics]] {text}: {error}")))
}

fn restrict(rule: &TopicRule, pattern: TopicPattern) -> Rule {
    let event = |name: &str| (name != "*").then(|| name.into());
    let push = rule.push.iter().map(|right| (event(&right.event), right.by.clone()));
    Rule {
        pattern,
        rights: Rights { join: rule.join.clone(), push: push.collect() },
        payload_bytes_max: rule.payload_bytes_max,
        pushes_per_minute: rule.pushes_per_minute,
    }
}
