//! A client's session, on whatever transport: its serializer and its channels.

use std::sync::Arc;

use crate::auth::Identity;
use crate::channel::Assigns;
use crate::hub::TopicId;
use crate::phoenix::{Ref, RefBuf, Serializer};
use crate::prepared::WireForm;

/// A client's session (Phoenix: `Phoenix.Socket`).
pub(crate) struct Socket {
    pub(crate) serializer: Serializer,
    pub(crate) form: WireForm,
    /// A fresh token of the client's is being looked at.
    pub(crate) renewing: bool,
    /// The client has been told that its token is about to run out.
    pub(crate) warned: bool,
    pub(crate) joins: Joins,
    /// The user behind it.
    pub(crate) identity: Option<Arc<Identity>>,
}

impl Socket {
    pub(crate) fn new(serializer: Serializer, form: WireForm, identity: Option<Arc<Identity>>) -> Self {
        Self { serializer, form, renewing: false, warned: false, joins: Joins::default(), identity }
    }
}

/// One joined channel.
pub(crate) struct Join {
    pub(crate) topic: TopicId,
    /// The subscription's place in its stream.
    pub(crate) index: u32,
    /// Tells this join from an earlier or later one of the same topic.
    pub(crate) serial: u32,
    /// What the client calls this join.
    pub(crate) join_ref: Option<RefBuf>,
    /// The client gave no join_ref, so the join's own ref stands in for it in pushes and replies.
    pub(crate) implied: bool,
    /// The server has joined it by itself; the client has not asked.
    pub(crate) by_server: bool,
    pub(crate) assigns: Assigns,
}

impl Join {
    /// What the client itself calls this join: what `phx_close` and `phx_error` carry.
    pub(crate) fn given_ref(&self) -> Option<Ref<'_>> {
        self.join_ref.as_ref().filter(|_| !self.implied).map(RefBuf::as_ref)
    }
}

/// The channels of a socket; usually one or two.
#[derive(Default)]
pub(crate) struct Joins(Vec<Join>);

impl Joins {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Join> {
        self.0.iter()
    }

    pub(crate) fn by_topic(&self, topic: TopicId) -> Option<&Join> {
        self.0.iter().find(|join| join.topic == topic)
    }

    pub(crate) fn by_topic_mut(&mut self, topic: TopicId) -> Option<&mut Join> {
        self.0.iter_mut().find(|join| join.topic == topic)
    }

    pub(crate) fn by_serial_mut(&mut self, serial: u32) -> Option<&mut Join> {
        self.0.iter_mut().find(|join| join.serial == serial)
    }

    /// Adds a join. The list grows by one at a time: nearly every socket has one channel, and a list that
    /// doubles would hold room for four.
    pub(crate) fn push(&mut self, join: Join) {
        if self.0.len() < 8 {
            self.0.reserve_exact(1);
        }
        self.0.push(join);
    }

    pub(crate) fn remove(&mut self, topic: TopicId) -> Option<Join> {
        let at = self.0.iter().position(|join| join.topic == topic)?;
        let join = self.0.swap_remove(at);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        Some(join)
    }

    /// The most recent join.
    pub(crate) fn last_topic(&self) -> Option<TopicId> {
        self.0.last().map(|join| join.topic)
    }
}

impl IntoIterator for Joins {
    type Item = Join;
    type IntoIter = std::vec::IntoIter<Join>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
