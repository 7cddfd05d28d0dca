//! What is published, and what becomes of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::UnixMillis;

/// How far ahead a message may be scheduled.
pub const SCHEDULE_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Bytes of an idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To all subscribers of a topic.
    Topic(String),
    /// To the topic of a user's own ([`Publishing::topic_of`](super::Publishing::topic_of)).
    User(String),
}

/// What is promised when a publish is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// It was given to every shard; no record is kept.
    None,
    /// The same; its record is written soon after, and lost if the process dies before.
    #[default]
    Memory,
    /// Its record was on the disk before anybody got it.
    Disk,
}

/// A message that is to be published.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Where it goes.
    pub target: Target,
    /// The event's name.
    pub event: String,
    /// The payload.
    pub payload: Box<RawValue>,
    /// What is promised.
    pub durability: Durability,
    /// For so long the message is also given to those who join the topic later. Without it only those get it who are
    /// there. It begins when the message is to be sent: one that was scheduled and could not be sent in all that time
    /// ([`MessageState::Expired`]) is not sent any more. Its end is put into the payload as `expires_at`, in milliseconds,
    /// unless the payload has one.
    pub lifetime: Option<Duration>,
    /// When it is sent; at once if that is past. A message whose time comes while no server runs is sent late, by the
    /// next one with the same store.
    pub send_at: Option<UnixMillis>,
    /// Whether the message's id is put into the payload, an object then, as `id`: so that a client can tell that it has
    /// it already, and which one is retracted. Always with a lifetime.
    pub with_id: bool,
    /// Whether it is counted who has received it. Costs a ping for each subscriber.
    pub receipts: bool,
    /// The message that this one repeats.
    pub resend_of: Option<String>,
}

impl Draft {
    /// A message to a topic, at once, without more.
    #[must_use]
    pub fn new(target: Target, event: impl Into<String>, payload: Box<RawValue>) -> Self {
        Self {
            target,
            event: event.into(),
            payload,
            durability: Durability::default(),
            lifetime: None,
            send_at: None,
            with_id: false,
            receipts: false,
            resend_of: None,
        }
    }
}

/// Messages that are published together.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The messages.
    pub drafts: Vec<Draft>,
    /// A request of the same actor with the same key within the key's lifetime is answered as the first one was, and
    /// publishes nothing.
    pub idempotency_key: Option<String>,
}

/// What has become of a draft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The message's id, by which it is found, retracted and cancelled.
    pub id: String,
    /// The topic that it went to.
    pub topic: String,
    /// Its place in the order of this process's broadcasts; absent if it is scheduled.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<u64>,
    /// Subscribers whose connections it was queued for; absent if it is scheduled, or if a shard did not say in time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subscribers: Option<u64>,
    /// The durability that was reached.
    pub durability: Durability,
    /// Whether it was sent or waits for its time.
    pub state: MessageState,
}

/// The answer to a [`Publish`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishReply {
    /// In the order of the drafts.
    pub messages: Vec<Published>,
    /// Whether this repeats an earlier answer, and nothing was published.
    pub replayed: bool,
}

/// What state a message is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// It waits for its time.
    Scheduled,
    /// It was published.
    Sent,
    /// It was taken back after it was published.
    Retracted,
    /// It was cancelled before its time.
    Cancelled,
    /// Its lifetime was over before it could be sent.
    Expired,
}

impl MessageState {
    /// All of them, in the order in which a message may come to them.
    pub const ALL: [Self; 5] = [Self::Scheduled, Self::Sent, Self::Retracted, Self::Cancelled, Self::Expired];

    /// The name, as records and requests have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Sent => "sent",
            Self::Retracted => "retracted",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// The record of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// The topic it goes to.
    pub topic: String,
    /// The user it was addressed to, if it was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
    /// The event's name.
    pub event: String,
    /// The payload as it was sent, JSON.
    pub payload: Box<RawValueText>,
    /// Who sent it, as `staff:ada` or `key:orders`.
    pub sender: String,
    /// What has become of it.
    pub state: MessageState,
    /// When it was written.
    pub created_at: UnixMillis,
    /// When it is or was to be sent, if it was scheduled.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub send_at: Option<UnixMillis>,
    /// When it was sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sent_at: Option<UnixMillis>,
    /// Until when later joiners get it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<UnixMillis>,
    /// When it was retracted or cancelled.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<UnixMillis>,
    /// Who retracted or cancelled it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_by: Option<String>,
    /// Its place in the order of the process that sent it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<u64>,
    /// Subscribers whose connections it was queued for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subscribers: Option<u64>,
    /// Those who have shown that they received it, when they were last counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub received: Option<u64>,
    /// Whether its payload carries its id, so that it can be retracted.
    pub with_id: bool,
    /// Whether it is counted who has received it.
    pub receipts: bool,
    /// The message that it repeats.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resend_of: Option<String>,
}

/// JSON as text, which is written as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawValueText(Box<RawValue>);

impl RawValueText {
    /// Takes JSON over.
    #[must_use]
    pub fn new(json: Box<RawValue>) -> Box<Self> {
        Box::new(Self(json))
    }

    /// The JSON.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for RawValueText {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for RawValueText {}

/// Who is to be put off the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// Whose sockets: a user's, or those of a socket id.
    pub who: DisconnectWho,
    /// Whether clients are told to come back (close code 1001) or to stay away (1000).
    pub reconnect: bool,
}

/// Whose sockets a [`Disconnect`] closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DisconnectWho {
    /// A user's.
    User(String),
    /// Those with this id, such as `user_socket:42`.
    SocketId(String),
    /// One socket, as [`ConnectionView::id`](super::ConnectionView::id) names it.
    Connection(String),
}

/// The answer to a [`Disconnect`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnected {
    /// The sockets that are closed.
    pub sockets: u64,
}

/// How far a message has got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Subscribers whose connections it was queued for.
    pub addressed: u64,
    /// Of these: it has been written to their connections.
    pub written: u64,
    /// Of these: they have shown that they have it.
    pub received: u64,
    /// Of the addressed: it has not been written, and they are still there.
    pub behind: u64,
    /// Of the addressed: their connections ended before they showed that they have it.
    pub gone: u64,
    /// Whether no more is counted: all have received it or are gone, or the time is over.
    pub done: bool,
}
