//! Who does something.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What kind of name an [`Actor`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// An account of staff, in the back office.
    Staff,
    /// An API key.
    Key,
    /// The server itself: what was scheduled.
    Server,
    /// A command on the server's machine, or nobody who is known.
    Local,
}

/// Who does something, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// What kind of name it has.
    pub kind: ActorKind,
    /// The name of the account or of the key.
    pub name: String,
    /// The address that the request came from.
    pub address: Option<IpAddr>,
}

/// `staff:ada`, `key:orders`: how records name an actor.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ActorKind::Staff => "staff",
            ActorKind::Key => "key",
            ActorKind::Server => "server",
            ActorKind::Local => "local",
        };
        write!(f, "{kind}:{}", self.name)
    }
}
