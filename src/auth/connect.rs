//! The hook that decides who may connect (Phoenix: `connect/3` and `id/1` of `Phoenix.Socket`).

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use super::token::TokenRefusal;
use super::{Identity, UnixTime};

/// A text that must not reach a log, an error or a metric.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// How a client connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A WebSocket.
    WebSocket,
    /// Long-poll.
    LongPoll,
}

/// A client that wants to connect, or a socket whose token is renewed.
#[derive(Debug)]
pub struct ConnectRequest {
    /// Where the token was found first: phoenix.js's `authToken` (the bearer subprotocol on a WebSocket, the
    /// header `X-Phoenix-AuthToken` on long-poll), `Authorization: Bearer`, the token's parameter.
    pub token: Option<Secret>,
    /// The other parameters of the query, decoded, in their order; `vsn` is left out, and so is what can't be decoded.
    /// They may hold secrets of the application's own.
    pub params: Vec<(String, Secret)>,
    /// The `Cookie` header, for sites of one origin that know their users by a session. What other applications of the
    /// domain have put there that is not UTF-8 is replaced by U+FFFD.
    pub cookie: Option<Secret>,
    /// How it connects.
    pub transport: Transport,
    /// Where it connects from; unknown for a live WebSocket.
    pub peer: Option<IpAddr>,
    /// Whether a live socket gives a new token, rather than a client connecting.
    pub renewal: bool,
}

/// Why a client may not connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no token.
    NoToken,
    /// The token is not good.
    Token(TokenRefusal),
    /// The token's user is not among the accounts.
    UnknownUser,
    /// The user's account is disabled.
    DisabledUser,
    /// The token, or all of its user's of that time, were denied.
    Denied,
    /// Nobody can say at present: the accounts are away, or slow.
    Unavailable,
    /// Too many wait already (`connects_waiting_max`, or the accounts' queue).
    Overloaded,
    /// No decision was made within `connect_timeout`.
    TimedOut,
    /// The application's own reason.
    Application(Cow<'static, str>),
}

/// What a refused client that can be told is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The same token can't be accepted later: stay away.
    StayAway,
    /// Come back with a fresh token.
    Renew,
    /// Come back later; the token may be good.
    Retry,
}

impl Refusal {
    /// The reason in words, for a client that can be told.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::NoToken => "no token",
            Self::Token(refusal) => refusal.error().reason(),
            Self::UnknownUser => "unknown user",
            Self::DisabledUser => "user disabled",
            Self::Denied => "token denied",
            Self::Unavailable => "accounts unavailable",
            Self::Overloaded => "too many connect",
            Self::TimedOut => "no decision in time",
            Self::Application(reason) => reason,
        }
    }

    /// The reason in full, with the settings that it depends on: for those who run the server, and no client.
    #[must_use]
    pub fn explanation(&self) -> Cow<'_, str> {
        let settings = match self {
            Self::Token(refusal) => return Cow::Owned(refusal.to_string()),
            Self::NoToken => "auth.token_param; auth.anonymous lets such clients in",
            Self::UnknownUser | Self::DisabledUser | Self::Unavailable => "accounts.source",
            Self::Denied => "hailer deny list",
            Self::Overloaded => "limits.connects_waiting_max, accounts.queue_max",
            Self::TimedOut => "limits.connect_timeout",
            Self::Application(reason) => return Cow::Borrowed(reason),
        };
        Cow::Owned(format!("{} ({settings})", self.reason()))
    }

    /// What the client is to do.
    #[must_use]
    pub fn advice(&self) -> Advice {
        match self {
            Self::Token(refusal) if refusal.error().is_of_time() => Advice::Renew,
            Self::Denied => Advice::Renew,
            Self::Unavailable | Self::Overloaded | Self::TimedOut => Advice::Retry,
            Self::NoToken
            | Self::Token(_)
            | Self::UnknownUser
            | Self::DisabledUser
            | Self::Application(_) => Advice::StayAway,
        }
    }
}

/// What was decided.
pub type Verdict = Result<Identity, Refusal>;

/// Where the verdict goes, from any thread. Dropped without one, it refuses the client as
/// [`Refusal::Unavailable`].
pub struct Answer(Option<Box<dyn FnOnce(Verdict) + Send>>);

impl Answer {
    /// Calls `deliver` with the verdict.
    #[must_use]
    pub fn new(deliver: impl FnOnce(Verdict) + Send + 'static) -> Self {
        Self(Some(Box::new(deliver)))
    }

    /// Lets the client in, or not.
    pub fn send(mut self, verdict: Verdict) {
        if let Some(deliver) = self.0.take() {
            deliver(verdict);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(deliver) = self.0.take() {
            deliver(Err(Refusal::Unavailable));
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}

/// Decides who may connect. Runs on threads of its own, never on an event loop: it may compute and wait.
pub trait Connect: Send + Sync + 'static {
    /// Decides about one client, now or later. `now` is the wall clock.
    fn connect(&self, request: ConnectRequest, now: UnixTime, answer: Answer);
}
