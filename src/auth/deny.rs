//! Tokens that are refused although they are good: of users who were put off the line.

use super::UnixTime;

/// Which tokens are refused, and for how long. A token is meant if all that is given applies to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Denial {
    /// Tokens of this user (`sub`).
    pub subject: Option<String>,
    /// Tokens issued (`iat`) before this time. `None`: whenever they were issued.
    pub issued_before: Option<UnixTime>,
    /// The token with this id (`jti`).
    pub token_id: Option<String>,
    /// When the denial is over: the time at which such tokens have run out.
    pub until: UnixTime,
}
