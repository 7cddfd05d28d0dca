//! What was done.

use serde::{Deserialize, Serialize};

use super::UnixMillis;
use super::actor::Actor;
use super::message::{Message, MessageState};
use crate::auth::connect::Secret;

/// Which messages are listed.
#[derive(Debug, Clone, Default)]
pub struct MessageQuery {
    /// Those of this topic.
    pub topic: Option<String>,
    /// Those of this sender, as `staff:ada`; with a colon at the end, of all senders of a kind.
    pub sender: Option<String>,
    /// Those in this state.
    pub state: Option<MessageState>,
    /// Those whose payload, topic or user holds this text, in any case of letters.
    pub text: Option<String>,
    /// At most so many, 1 to 1,000.
    pub limit: usize,
    /// Where the page before ended ([`MessagePage::next`]).
    pub before: Option<u64>,
}

/// A page of messages, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagePage {
    /// The messages.
    pub messages: Vec<Message>,
    /// Where the next page begins; absent if this is the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<u64>,
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number, in the order of writing; 0 before it is written.
    pub number: u64,
    /// When.
    pub at: UnixMillis,
    /// Who, as `staff:ada`.
    pub actor: String,
    /// What: `publish`, `retract`, `cancel`, `disconnect`, `sign_in`, `sign_in_refused`, `sign_out`, `locked`, ….
    pub action: String,
    /// Of what: a message's id, a user, a topic.
    pub subject: String,
    /// More about it, in a few words.
    pub detail: String,
    /// The address that it came from, or nothing.
    pub address: String,
}

impl AuditEntry {
    /// An entry that is to be written: what an actor does, and from where.
    #[must_use]
    pub fn new(actor: &Actor, at: UnixMillis, action: &str, subject: &str, detail: String) -> Self {
        Self {
            number: 0,
            at,
            actor: actor.to_string(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail,
            address: actor.address.map(|address| address.to_string()).unwrap_or_default(),
        }
    }
}

/// Which entries of the audit log are listed.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Those of this actor.
    pub actor: Option<String>,
    /// Those of this action.
    pub action: Option<String>,
    /// Those before this number.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// An account of staff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaffAccount {
    /// Its name.
    pub name: String,
    /// The hash of its password, as argon2 writes it (PHC).
    pub password_hash: Secret,
    /// It may not sign in.
    pub disabled: bool,
    /// When it was made.
    pub created_at: UnixMillis,
}
