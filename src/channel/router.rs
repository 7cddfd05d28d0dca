//! Which channel serves a topic.

use std::fmt;
use std::sync::Arc;

use super::Channel;
use crate::guard::Guarded;

/// What stands for a user's id in a pattern.
const USER: &str = "{sub}";

/// A topic by its whole name, a family of topics by a prefix, or the topics of single users: `room:lobby`,
/// `room:*`, `user:{sub}`.
///
/// As in `Phoenix.Socket.channel/3`, a `*` stands at the end alone. `{sub}` stands for any text that is not
/// empty; whether it is the client's own id is for the channel to ask. Names are compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPattern {
    text: Box<str>,
    rest: Rest,
}

/// What follows the fixed beginning of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rest {
    Nothing,
    Anything,
    /// A user's id, and this behind it.
    User(Box<str>),
}

/// Why a text is no topic pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternError {
    /// There is no text.
    Empty,
    /// A `*` stands elsewhere than at the end.
    StarNotLast,
    /// There is more than one `{sub}`, or one beside a `*`.
    SeveralHoles,
    /// The topic `phoenix` belongs to the protocol (heartbeats).
    Reserved,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a topic pattern can't be empty",
            Self::StarNotLast => "a topic pattern may hold one *, at its end, as in room:*",
            Self::SeveralHoles => "a topic pattern may hold one {sub}, and no * beside it, as in user:{sub}",
            Self::Reserved => "the topic \"phoenix\" belongs to the protocol",
        })
    }
}

impl std::error::Error for PatternError {}

impl TopicPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The text is empty, has a `*` before its end, has several `{sub}`, or names the protocol's own topic.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if let Some((before, behind)) = text.split_once(USER) {
            let several = before.contains('*') || behind.contains('*') || behind.contains(USER);
            return if several {
                Err(PatternError::SeveralHoles)
            } else {
                Ok(Self { text: before.into(), rest: Rest::User(behind.into()) })
            };
        }
        let (name, rest) = match text.strip_suffix('*') {
            Some(name) => (name, Rest::Anything),
            None => (text, Rest::Nothing),
        };
        match name {
            _ if name.contains('*') => Err(PatternError::StarNotLast),
            crate::phoenix::TOPIC if rest == Rest::Nothing => Err(PatternError::Reserved),
            _ => Ok(Self { text: name.into(), rest }),
        }
    }

    /// Whether `topic` is this topic, or one of this family.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        match &self.rest {
            Rest::Nothing => topic == &*self.text,
            Rest::Anything => topic.starts_with(&*self.text),
            Rest::User(_) => self.user_in(topic).is_some(),
        }
    }

    /// The user that `topic` names where the pattern has `{sub}`. `None` if the pattern has none, or does not
    /// match.
    #[must_use]
    pub fn user_in<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let Rest::User(behind) = &self.rest else { return None };
        let user = topic.strip_prefix(&*self.text)?.strip_suffix(&**behind)?;
        (!user.is_empty()).then_some(user)
    }

    /// The topic of one user, or the topic itself if the pattern is a whole name. `None` for a family of
    /// topics, and for an empty user where one is asked for.
    #[must_use]
    pub fn topic_of(&self, user: &str) -> Option<String> {
        match &self.rest {
            Rest::Nothing => Some(self.text.to_string()),
            Rest::User(behind) if !user.is_empty() => Some(format!("{}{user}{behind}", self.text)),
            Rest::User(_) | Rest::Anything => None,
        }
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rest {
            Rest::Nothing => f.write_str(&self.text),
            Rest::Anything => write!(f, "{}*", self.text),
            Rest::User(behind) => write!(f, "{}{USER}{behind}", self.text),
        }
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
    /// Dropped with the last shard.
    pub(crate) channel: Guarded<Arc<dyn Channel>>,
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
        self.routes.push(Route { pattern, channel: Guarded::new(channel), slow_reader });
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
        check("user:{sub}", "user:ada", true);
        check("user:{sub}", "user:", false);
        check("user:{sub}", "user", false);
        check("user:{sub}:orders", "user:a:b:orders", true);
        check("user:{sub}:orders", "user::orders", false);
        check("user:{sub}:orders", "user:ada:order", false);
        check("aa{sub}aa", "aaa", false);
    }

    #[test]
    fn a_pattern_with_a_user_names_and_finds_its_topics() {
        let own = TopicPattern::parse("user:{sub}").unwrap();
        assert_eq!((own.user_in("user:ada"), own.user_in("room:ada")), (Some("ada"), None));
        assert_eq!((own.topic_of("ada").as_deref(), own.topic_of("")), (Some("user:ada"), None));
        let lobby = TopicPattern::parse("room:lobby").unwrap();
        assert_eq!((lobby.user_in("room:lobby"), lobby.topic_of("").as_deref()), (None, Some("room:lobby")));
        assert_eq!(TopicPattern::parse("room:*").unwrap().topic_of("ada"), None);
        assert_eq!(TopicPattern::parse("a:{sub}:b").unwrap().to_string(), "a:{sub}:b");
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert_eq!(TopicPattern::parse(""), Err(PatternError::Empty));
        assert_eq!(TopicPattern::parse("a*b"), Err(PatternError::StarNotLast));
        assert_eq!(TopicPattern::parse("**"), Err(PatternError::StarNotLast));
        assert_eq!(TopicPattern::parse("phoenix"), Err(PatternError::Reserved));
        assert_eq!(TopicPattern::parse("{sub}:{sub}"), Err(PatternError::SeveralHoles));
        assert_eq!(TopicPattern::parse("{sub}:*"), Err(PatternError::SeveralHoles));
        assert_eq!(TopicPattern::parse("room:*").unwrap().to_string(), "room:*");
    }
}
