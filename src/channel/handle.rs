//! Reaching a client's channel from other threads.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Info, PayloadBuf, Refused, Stopped, TopicName};
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
    Push {
        event: Box<str>,
        payload: PayloadBuf,
    },
    Reply {
        pending: Arc<PendingReply>,
        status: &'static str,
        response: PayloadBuf,
    },
    /// All rights to answer the message with this ref were dropped.
    Unanswered {
        message_ref: Option<RefBuf>,
    },
    Info(Info),
}

/// How a handle reaches the shards.
pub(crate) trait Post: Send + Sync {
    fn post(&self, to: JoinKey, command: Command) -> Result<(), Refused<Command>>;
    /// The same for a reply, for which there is always room: there are no more of them than messages that clients have
    /// sent, each of which has found room.
    fn reply(&self, to: JoinKey, command: Command) -> Result<(), Stopped>;
    fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: PayloadBuf,
        from: Option<SocketKey>,
    ) -> Result<(), Refused<PayloadBuf>>;
}

/// A client's channel, for use from any thread after the callback has returned.
///
/// What is sent to a channel that has ended meanwhile is dropped silently, as a message to a dead process
/// is in Phoenix. What is refused is given back: the shard is [overloaded](super::SendError::Overloaded), or has
/// [stopped](super::SendError::Stopped).
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
    /// The shard has too much to do, or has stopped.
    pub fn push(&self, event: &str, payload: PayloadBuf) -> Result<(), Refused<PayloadBuf>> {
        let command = Command::Push { event: event.into(), payload };
        self.post.post(self.to, command).map_err(|refused| {
            refused.map(|command| match command {
                Command::Push { payload, .. } => payload,
                _ => unreachable!("what is refused is what was sent"),
            })
        })
    }

    /// Broadcasts an event to all subscribers of the topic.
    ///
    /// # Errors
    /// A shard has too much to do, or all have stopped; no client has got the event.
    pub fn broadcast(&self, event: &str, payload: PayloadBuf) -> Result<(), Refused<PayloadBuf>> {
        self.post.broadcast(&self.topic, event, payload, None)
    }

    /// Broadcasts an event to all subscribers of the topic but this client.
    ///
    /// # Errors
    /// A shard has too much to do, or all have stopped; no client has got the event.
    pub fn broadcast_from(&self, event: &str, payload: PayloadBuf) -> Result<(), Refused<PayloadBuf>> {
        self.post.broadcast(&self.topic, event, payload, Some(self.to.socket))
    }

    /// Has the channel's [`handle_info`](super::Channel::handle_info) called with `info`.
    ///
    /// # Errors
    /// The shard has too much to do, or has stopped.
    pub fn send<T: Any + Send>(&self, info: T) -> Result<(), Refused<T>> {
        self.post.post(self.to, Command::Info(Info::new(info))).map_err(|refused| {
            refused.map(|command| match command {
                Command::Info(info) => *info.downcast().expect("what is refused is what was sent"),
                _ => unreachable!("what is refused is what was sent"),
            })
        })
    }
}

impl fmt::Debug for ChannelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelHandle").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// A message that is to be answered later; shared by those who may do so.
///
/// When the last of them is gone and the message has no answer, the client gets an error.
pub(crate) struct PendingReply {
    post: Arc<dyn Post>,
    to: JoinKey,
    message_ref: Option<RefBuf>,
    answered: AtomicBool,
}

impl PendingReply {
    pub(super) fn new(post: &Arc<dyn Post>, to: JoinKey, message_ref: Option<RefBuf>) -> Arc<Self> {
        Arc::new(Self { post: Arc::clone(post), to, message_ref, answered: AtomicBool::new(false) })
    }

    pub(crate) fn message_ref(&self) -> Option<&RefBuf> {
        self.message_ref.as_ref()
    }

    /// Takes the right to answer the message; false if it has been answered. Called in the shard's thread alone.
    pub(crate) fn take(&self) -> bool {
        !self.answered.swap(true, Ordering::Relaxed)
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        if !*self.answered.get_mut() {
            let message_ref = self.message_ref.take();
            // Where the shard has stopped, so has the client's connection.
            let _ = self.post.reply(self.to, Command::Unanswered { message_ref });
        }
    }
}

/// The right to answer one message later, from any thread (Phoenix: `socket_ref/1` and `reply/2`).
///
/// A reply is always taken, however full the shard's mailbox is: there are no more replies than messages that clients
/// have sent. A message has one reply; of several, the first counts. Dropped without an answer, this answers with status
/// "error" and `{"reason":"unanswered"}`.
#[must_use = "the client waits for this reply"]
pub struct DeferredReply {
    pub(super) pending: Arc<PendingReply>,
}

impl DeferredReply {
    /// Answers with status "ok".
    ///
    /// # Errors
    /// The shard has stopped, and its clients' connections have ended.
    pub fn ok(self, response: PayloadBuf) -> Result<(), Stopped> {
        self.reply("ok", response)
    }

    /// Answers with status "error".
    ///
    /// # Errors
    /// The shard has stopped, and its clients' connections have ended.
    pub fn error(self, response: PayloadBuf) -> Result<(), Stopped> {
        self.reply("error", response)
    }

    /// Answers with any status.
    ///
    /// # Errors
    /// The shard has stopped, and its clients' connections have ended.
    pub fn reply(self, status: &'static str, response: PayloadBuf) -> Result<(), Stopped> {
        let Self { pending } = self;
        let (post, to) = (Arc::clone(&pending.post), pending.to);
        post.reply(to, Command::Reply { pending, status, response })
    }
}
