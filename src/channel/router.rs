//! Which channel serves a topic.

use std::fmt;
use std::sync::Arc;

use super::Channel;

/// A topic by its whole name, or a family of topics by a prefix: `room:lobby`, `room:*`.
///
/// As in `Phoenix.Socket.channel/3`, a `*` stands at the end alone. Names are compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPattern {
    text: Box<str>,
    prefix: bool,
}

/// Why a text is no topic pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternError {
    /// There is no text.
    Empty,
    /// A `*` stands elsewhere than at the end.
    StarNotLast,
    /// The topic `phoenix` belongs to the protocol (heartbeats).
    Reserved,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a topic pattern can't be empty",
            Self::StarNotLast => "a topic pattern may hold one *, at its end, as in room:*",
            Self::Reserved => "the topic \"phoenix\" belongs to the protocol",
        })
    }
}

impl std::error::Error for PatternError {}

impl TopicPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The text is empty, has a `*` before its end, or names the protocol's own topic.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (name, prefix) = match text.strip_suffix('*') {
            Some(name) => (name, true),
            None => (text, false),
        };
        match name {
            _ if text.is_empty() => Err(PatternError::Empty),
            _ if name.contains('*') => Err(PatternError::StarNotLast),
            crate::phoenix::TOPIC if !prefix => Err(PatternError::Reserved),
            _ => Ok(Self { text: name.into(), prefix }),
        }
    }

    /// Whether `topic` is this topic, or one of this family.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        if self.prefix { topic.starts_with(&*self.text) } else { topic == &*self.text }
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.prefix { "*" } else { "" })
    }
}

impl std::str::FromStr for TopicPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

/// What becomes of a subscriber that has fallen behind a topic's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowReader {
    /// Its connection is closed with code [`SLOW_READER`](crate::fault::SLOW_READER); the client comes back.
    #[default]
    Close,
    /// It goes on with what the log still holds, behind a push of the event `gap` with
    /// `{"missed": number of messages}`.
    Skip,
}

/// A place in the router's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteIndex(pub(crate) u16);

pub(crate) struct Route {
    pub(crate) pattern: TopicPattern,
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) slow_reader: SlowReader,
}

/// Topic patterns with their channels, first match wins.
#[derive(Default)]
pub struct Router {
    routes: Vec<Route>,
}

impl Router {
    /// No routes: every join is answered "unmatched topic".
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route behind the others, with slow readers closed.
    #[must_use]
    pub fn channel(self, pattern: TopicPattern, channel: impl Channel) -> Self {
        self.channel_with(pattern, Arc::new(channel), SlowReader::Close)
    }

    /// Adds a route behind the others; several routes may share one channel.
    ///
    /// # Panics
    /// There are 65,535 routes already.
    #[must_use]
    pub fn channel_with(
        mut self,
        pattern: TopicPattern,
        channel: Arc<dyn Channel>,
        slow_reader: SlowReader,
    ) -> Self {
        assert!(self.routes.len() < usize::from(u16::MAX), "a router has at most 65,535 routes");
        self.routes.push(Route { pattern, channel, slow_reader });
        self
    }

    pub(crate) fn find(&self, topic: &str) -> Option<RouteIndex> {
        let at = self.routes.iter().position(|route| route.pattern.matches(topic))?;
        u16::try_from(at).ok().map(RouteIndex)
    }

    pub(crate) fn route(&self, index: RouteIndex) -> &Route {
        &self.routes[usize::from(index.0)]
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.routes.iter().map(|route| route.pattern.to_string())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, topic: &str, expected: bool) {
        assert_eq!(TopicPattern::parse(pattern).unwrap().matches(topic), expected, "{pattern} {topic}");
    }

    #[test]
    fn a_pattern_matches_exactly_or_by_its_prefix() {
        check("room:lobby", "room:lobby", true);
        check("room:lobby", "room:lobby2", false);
        check("room:lobby", "Room:lobby", false);
        check("room:lobby", " room:lobby", false);
        check("room:*", "room:", true);
        check("room:*", "room:1", true);
        check("room:*", "room:*", true);
        check("room:*", "room", false);
        check("room:*", "rooms:1", false);
        check("*", "anything", true);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert_eq!(TopicPattern::parse(""), Err(PatternError::Empty));
        assert_eq!(TopicPattern::parse("a*b"), Err(PatternError::StarNotLast));
        assert_eq!(TopicPattern::parse("**"), Err(PatternError::StarNotLast));
        assert_eq!(TopicPattern::parse("phoenix"), Err(PatternError::Reserved));
        assert_eq!(TopicPattern::parse("room:*").unwrap().to_string(), "room:*");
    }
}
