//! What those do who run a server: publish, look around, put somebody off the line, and read what was done.
//!
//! The HTTP API and the back office are written against the three traits here, [`Publishing`], [`Inspection`] and
//! [`Records`]; the running server implements them. Their methods wait for shards and for the store, so they are for
//! threads of their own, never for a loop.

mod actor;
mod error;
mod guesses;
mod inspect;
mod message;
mod record;

use std::sync::Arc;

pub use actor::{Actor, ActorKind};
pub use error::{DeskError, ErrorCode};
pub use guesses::{Guesses, network_of};
pub use inspect::{
    ConnectionOrder, ConnectionPage, ConnectionQuery, ConnectionView, Readiness, TokenCheck, TopicPage,
    TopicQuery, TopicView, UserView,
};
pub use message::{
    Disconnect, DisconnectWho, Disconnected, Draft, Durability, IDEMPOTENCY_KEY_BYTES_MAX, Message,
    MessageState, Progress, Publish, PublishReply, Published, RawValueText, SCHEDULE_MAX, Target,
};
pub use record::{AuditEntry, AuditQuery, MessagePage, MessageQuery, StaffAccount};

use crate::auth::connect::Secret;
use crate::stats::Stats;

/// Milliseconds of the wall clock since 1970.
pub type UnixMillis = u64;

/// All that the API and the back office work with.
#[derive(Clone)]
pub struct Desk {
    /// Says something to clients.
    pub publishing: Arc<dyn Publishing>,
    /// Says who is there.
    pub inspection: Arc<dyn Inspection>,
    /// Says what was done.
    pub records: Arc<dyn Records>,
    /// Where it is counted who has tried to get in.
    pub guesses: Arc<Guesses>,
}

/// Says something to clients, and takes it back.
pub trait Publishing: Send + Sync {
    /// Publishes all drafts, in their order, or none: those without `send_at` at once, the others when their time has
    /// come. Answered when every shard has taken them and the durability asked for is reached.
    ///
    /// # Errors
    /// A draft is bad, a shard has too much to do, the server stops, or the store can't be written; nobody has got
    /// anything then. The
    /// idempotency key was used for something else, or by a request that is still under way.
    fn publish(&self, publish: Publish, actor: &Actor, at: UnixMillis) -> Result<PublishReply, DeskError>;

    /// Takes a message back: its subscribers get the event `retract` with `{"id": id}`, and who joins later does not get
    /// the message. A message that was taken back stays so, and a second call changes nothing.
    ///
    /// # Errors
    /// There is no such message, it was not sent, it carries no id in its payload, or the event can't be published; the
    /// message is as it was then.
    fn retract(&self, id: &str, actor: &Actor, at: UnixMillis) -> Result<Message, DeskError>;

    /// Cancels a message that is scheduled.
    ///
    /// # Errors
    /// There is no such message, or it is not waiting for its time any more.
    fn cancel(&self, id: &str, actor: &Actor, at: UnixMillis) -> Result<Message, DeskError>;

    /// Closes all sockets of a user, or of a socket id, on both transports.
    ///
    /// # Errors
    /// A shard has too much to do, the server stops, or the id is no id.
    fn disconnect(
        &self,
        disconnect: &Disconnect,
        actor: &Actor,
        at: UnixMillis,
    ) -> Result<Disconnected, DeskError>;

    /// How far a message has got, while its receipts are collected (`Draft::receipts`), and as it was at their end.
    fn progress(&self, id: &str) -> Option<Progress>;

    /// The topic that a user's own messages go to.
    fn topic_of(&self, user: &str) -> Option<String>;
}

/// Says who is there. What is said of several shards was true in each of them at slightly different times.
pub trait Inspection: Send + Sync {
    /// Open sockets, on both transports.
    fn connections(&self, query: &ConnectionQuery) -> ConnectionPage;

    /// Topics with their exact numbers of subscribers.
    fn topics(&self, query: &TopicQuery) -> TopicPage;

    /// The number of a topic's subscribers. `None` if a shard has not answered.
    fn subscribers(&self, topic: &str) -> Option<u64>;

    /// A user's sockets and the topics they have joined.
    fn user(&self, user: &str) -> UserView;

    /// The counters of all shards, added up.
    fn stats(&self) -> Stats;

    /// Whether clients are served, and if not, why.
    fn readiness(&self) -> Readiness;

    /// Whether a token would let its client in, and who that is.
    fn check_token(&self, token: &Secret) -> TokenCheck;

    /// All metrics in Prometheus' text format.
    fn metrics(&self) -> String;
}

/// Says what was done, and keeps accounts of staff.
pub trait Records: Send + Sync {
    /// One message.
    ///
    /// # Errors
    /// The store can't be read.
    fn message(&self, id: &str) -> Result<Option<Message>, DeskError>;

    /// Messages, the newest first.
    ///
    /// # Errors
    /// The store can't be read.
    fn messages(&self, query: &MessageQuery) -> Result<MessagePage, DeskError>;

    /// Adds an entry to the audit log. Returns when it is written.
    ///
    /// # Errors
    /// The store can't be written.
    fn append_audit(&self, entry: &AuditEntry) -> Result<(), DeskError>;

    /// Entries of the audit log, the newest first.
    ///
    /// # Errors
    /// The store can't be read.
    fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, DeskError>;

    /// An account of staff, by its name.
    ///
    /// # Errors
    /// The store can't be read.
    fn staff(&self, name: &str) -> Result<Option<StaffAccount>, DeskError>;

    /// Replaces the password hash of an account of staff; `false` if there is none of this name.
    ///
    /// # Errors
    /// The store can't be written.
    fn set_staff_password(&self, name: &str, hash: &Secret, at: UnixMillis) -> Result<bool, DeskError>;
}
