//! What a callback knows of its client, and where it records what is to be done.

use std::sync::Arc;
use std::time::Instant;

use super::handle::{ChannelHandle, DeferredReply, JoinKey, PendingReply, Post, SocketKey};
use super::{Assigns, PayloadBuf, TopicName};
use crate::auth::Identity;
use crate::phoenix::{Ref, RefBuf};

/// What a callback has recorded, in the order in which it is done.
pub(crate) enum Action {
    Reply { status: &'static str, response: PayloadBuf },
    Push { event: Box<str>, payload: PayloadBuf },
    Broadcast { topic: Option<Box<str>>, event: Box<str>, payload: PayloadBuf, from: Option<SocketKey> },
    Stop,
}

/// Who called, and about what.
pub(crate) struct Origin<'a> {
    pub(crate) topic: &'a TopicName,
    pub(crate) join: JoinKey,
    /// The message that is being handled; its ref may be null.
    pub(crate) message_ref: Option<Option<Ref<'a>>>,
    pub(crate) post: &'a Arc<dyn Post>,
    /// The user behind the socket.
    pub(crate) identity: Option<&'a Identity>,
    /// The last of the node's broadcasts that the shard has taken.
    pub(crate) taken: u64,
    /// Bytes that may wait for the client besides what does.
    pub(crate) room: usize,
    pub(crate) now: Instant,
}

/// A client's channel, as its callbacks see it.
///
/// Nothing recorded here happens before the callback has returned; then it happens in order.
pub struct Context<'a> {
    origin: Origin<'a>,
    assigns: &'a mut Assigns,
    actions: &'a mut Vec<Action>,
    /// The message that is being handled, if it is to be answered later.
    pending: Option<Arc<PendingReply>>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(origin: Origin<'a>, assigns: &'a mut Assigns, actions: &'a mut Vec<Action>) -> Self {
        Self { origin, assigns, actions, pending: None }
    }

    /// The message that was handled, if it is to be answered later.
    pub(crate) fn into_pending(self) -> Option<Arc<PendingReply>> {
        self.pending
    }

    /// The topic of this channel.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.origin.topic
    }

    /// The user of this client (Phoenix: `socket.assigns.current_user`), as the token and the look-up have it.
    /// `None` where nobody is asked for a token, or this client was let in without one.
    #[must_use]
    pub fn current_user(&self) -> Option<&'a Identity> {
        self.origin.identity
    }

    /// When this is handled, for measuring how much time passes between two calls.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.origin.now
    }

    /// The place, in the node's order, of the last broadcast that this client's shard has taken. In `join`: what
    /// lies behind it reaches the client as a broadcast, and what lies before it does not.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.origin.taken
    }

    /// Bytes that can safely be pushed to this client at once. Half of the limit `outbox_bytes_max` less what waits
    /// for the client already; a client for which more waits than the limit is closed.
    #[must_use]
    pub fn room(&self) -> usize {
        self.origin.room
    }

    /// What this channel keeps for this client, from join to terminate.
    #[must_use]
    pub fn assigns(&self) -> &Assigns {
        self.assigns
    }

    /// What this channel keeps for this client, to be changed.
    pub fn assigns_mut(&mut self) -> &mut Assigns {
        self.assigns
    }

    /// Answers the message with any status. Outside `handle_in` there is nothing to answer, and the call
    /// does nothing. A message has one reply: a second one is dropped and logged.
    pub fn reply(&mut self, status: &'static str, response: PayloadBuf) {
        if self.origin.message_ref.is_some() {
            self.actions.push(Action::Reply { status, response });
        }
    }

    /// Answers the message with status "ok".
    pub fn reply_ok(&mut self, response: PayloadBuf) {
        self.reply("ok", response);
    }

    /// Answers the message with status "error" and `{"reason": reason}`.
    pub fn reply_error(&mut self, reason: &str) {
        self.reply("error", PayloadBuf::reason(reason));
    }

    /// Takes over the answer of this message, to be given later from any thread. `None` outside `handle_in`.
    #[must_use = "dropped, it answers the message with an error"]
    pub fn defer_reply(&mut self) -> Option<DeferredReply> {
        let message_ref = self.origin.message_ref?;
        let pending = self.pending.get_or_insert_with(|| {
            PendingReply::new(self.origin.post, self.origin.join, message_ref.map(RefBuf::from))
        });
        Some(DeferredReply { pending: Arc::clone(pending) })
    }

    /// Pushes an event to this client alone.
    pub fn push(&mut self, event: &str, payload: PayloadBuf) {
        self.actions.push(Action::Push { event: event.into(), payload });
    }

    /// Broadcasts an event to all subscribers of this topic, this client among them.
    pub fn broadcast(&mut self, event: &str, payload: PayloadBuf) {
        self.actions.push(Action::Broadcast { topic: None, event: event.into(), payload, from: None });
    }

    /// Broadcasts an event to all subscribers of this topic but this client.
    pub fn broadcast_from(&mut self, event: &str, payload: PayloadBuf) {
        let from = Some(self.origin.join.socket);
        self.actions.push(Action::Broadcast { topic: None, event: event.into(), payload, from });
    }

    /// Broadcasts an event to all subscribers of another topic.
    pub fn broadcast_to(&mut self, topic: &str, event: &str, payload: PayloadBuf) {
        let topic = Some(topic.into());
        self.actions.push(Action::Broadcast { topic, event: event.into(), payload, from: None });
    }

    /// Ends this client's channel normally: the client gets `phx_close` and does not join again by itself.
    pub fn stop(&mut self) {
        self.actions.push(Action::Stop);
    }

    /// This channel, for use from other threads.
    #[must_use]
    pub fn handle(&self) -> ChannelHandle {
        ChannelHandle {
            post: Arc::clone(self.origin.post),
            to: self.origin.join,
            topic: self.origin.topic.clone(),
        }
    }
}
