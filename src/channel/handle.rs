//! Reaching a client's channel from other threads.

use std::fmt;
use std::sync::Arc;

use super::{Info, PayloadBuf, TopicName};
use crate::phoenix::RefBuf;

/// A client's socket on this node: the shard that has it, its place there, and which of the sockets that
/// have stood in that place it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SocketKey {
    pub(crate) shard: u16,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// One join of one socket; a later join of the same topic is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JoinKey {
    pub(crate) socket: SocketKey,
    pub(crate) serial: u32,
}

/// What a handle asks of the shard that has the socket.
pub(crate) enum Command {
    Push { event: Box<str>, payload: PayloadBuf },
    Reply { message_ref: Option<RefBuf>, status: &'static str, response: PayloadBuf },
    Info(Info),
}

/// The shard's mailbox is full: nothing was sent, try again later. The limits are `mailbox_bytes_max` and
/// `mailbox_commands_max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overloaded;

impl fmt::Display for Overloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a shard's mailbox is full (mailbox_bytes_max, mailbox_commands_max): try again later")
    }
}

impl std::error::Error for Overloaded {}

/// How a handle reaches the shards.
pub(crate) trait Post: Send + Sync {
    fn post(&self, to: JoinKey, command: Command) -> Result<(), Overloaded>;
    fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: PayloadBuf,
        from: Option<SocketKey>,
    ) -> Result<(), Overloaded>;
}

/// A client's channel, for use from any thread after the callback has returned.
///
/// What is sent to a channel that has ended meanwhile is dropped silently, as a message to a dead process
/// is in Phoenix.
#[derive(Clone)]
pub struct ChannelHandle {
    pub(super) post: Arc<dyn Post>,
    pub(super) to: JoinKey,
    pub(super) topic: TopicName,
}

impl ChannelHandle {
    /// The topic that was joined.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Pushes an event to this client alone.
    ///
    /// # Errors
    /// The shard has too much to do.
    pub fn push(&self, event: &str, payload: PayloadBuf) -> Result<(), Overloaded> {
        self.post.post(self.to, Command::Push { event: event.into(), payload })
    }

    /// Broadcasts an event to all subscribers of the topic.
    ///
    /// # Errors
    /// A shard has too much to do; nobody has got the event.
    pub fn broadcast(&self, event: &str, payload: PayloadBuf) -> Result<(), Overloaded> {
        self.post.broadcast(&self.topic, event, payload, None)
    }

    /// Broadcasts an event to all subscribers of the topic but this client.
    ///
    /// # Errors
    /// A shard has too much to do; nobody has got the event.
    pub fn broadcast_from(&self, event: &str, payload: PayloadBuf) -> Result<(), Overloaded> {
        self.post.broadcast(&self.topic, event, payload, Some(self.to.socket))
    }

    /// Has the channel's [`handle_info`](super::Channel::handle_info) called with `info`.
    ///
    /// # Errors
    /// The shard has too much to do.
    pub fn send(&self, info: impl std::any::Any + Send) -> Result<(), Overloaded> {
        self.post.post(self.to, Command::Info(Box::new(info)))
    }
}

impl fmt::Debug for ChannelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelHandle").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// The right to answer one message later, from any thread (Phoenix: `socket_ref/1` and `reply/2`).
///
/// Dropped without an answer, it leaves the client's push to time out.
#[must_use = "the client waits for this reply"]
pub struct DeferredReply {
    pub(super) post: Arc<dyn Post>,
    pub(super) to: JoinKey,
    pub(super) message_ref: Option<RefBuf>,
}

impl DeferredReply {
    /// Answers with status "ok".
    ///
    /// # Errors
    /// The shard has too much to do.
    pub fn ok(self, response: PayloadBuf) -> Result<(), Overloaded> {
        self.reply("ok", response)
    }

    /// Answers with status "error".
    ///
    /// # Errors
    /// The shard has too much to do.
    pub fn error(self, response: PayloadBuf) -> Result<(), Overloaded> {
        self.reply("error", response)
    }

    /// Answers with any status.
    ///
    /// # Errors
    /// The shard has too much to do.
    pub fn reply(self, status: &'static str, response: PayloadBuf) -> Result<(), Overloaded> {
        self.post.post(self.to, Command::Reply { message_ref: self.message_ref, status, response })
    }
}
