//! Messages that are kept for those who join later, until their time is over.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use crate::channel::PayloadBuf;

/// What a message has on the wire besides its topic, event and payload: refs, punctuation and the frame's head.
const MESSAGE_OVERHEAD: usize = 64;

/// The lists of all topics.
#[derive(Debug, Default)]
struct Topics {
    lists: HashMap<Box<str>, Vec<Kept>>,
    /// What they hold.
    bytes: usize,
}

/// A message that later joiners get.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its id.
    pub id: Box<str>,
    /// The event's name.
    pub event: Box<str>,
    /// The payload.
    pub payload: PayloadBuf,
    /// From then on nobody gets it any more.
    pub until: Instant,
    /// The place of its broadcast in the node's order; 0 for one that this process has not broadcast.
    sequence: u64,
}

/// The kept messages of all topics, oldest first. It is asked at joins alone.
#[derive(Debug, Default)]
pub struct Board {
    topics: RwLock<Topics>,
}

impl Kept {
    /// A message that is kept until then.
    #[must_use]
    pub fn new(id: &str, event: &str, payload: PayloadBuf, until: Instant) -> Self {
        Self { id: id.into(), event: event.into(), payload, until, sequence: 0 }
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn held(&self) -> usize {
        size_of::<Self>() + self.id.len() + self.event.len() + self.payload.len()
    }

    /// Bytes that it may come to on the wire, but for the topic. On long-poll, a quote of its JSON is two.
    fn cost(&self) -> usize {
        MESSAGE_OVERHEAD + self.event.len() + 2 * self.payload.len()
    }
}

impl Board {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps messages of topics and broadcasts them, in one step: a client that joins meanwhile gets each of them once,
    /// from the board or as a broadcast. `publish` broadcasts them, perhaps among others, and gives the place of the
    /// first in the node's order; the number beside a message is how many broadcasts it stands behind the first. At
    /// most `max` messages are kept for a topic; beyond it the oldest is given up.
    ///
    /// # Errors
    /// What `publish` fails with; nothing is kept then.
    pub fn keep_all<E>(
        &self,
        entries: Vec<(u64, &str, Kept)>,
        max: usize,
        publish: impl FnOnce() -> Result<u64, E>,
    ) -> Result<u64, E> {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let first = publish()?;
        for (behind, topic, kept) in entries {
            topics.remove(topic, &kept.id);
            topics.push(topic, Kept { sequence: first + behind, ..kept }, max);
        }
        Ok(first)
    }

    /// The same for one message.
    ///
    /// # Errors
    /// What `publish` fails with; nothing is kept then.
    pub fn keep<E>(
        &self,
        topic: &str,
        kept: Kept,
        max: usize,
        publish: impl FnOnce() -> Result<u64, E>,
    ) -> Result<u64, E> {
        self.keep_all(vec![(0, topic, kept)], max, publish)
    }

    /// Keeps a message that was broadcast by an earlier process, behind those that are there. Beyond `max` messages of
    /// the topic the oldest is given up, as it was by that process.
    pub fn restore(&self, topic: &str, kept: Kept, max: usize) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.push(topic, kept, max);
    }

    /// Gives up a message and broadcasts that it is taken back, in one step: whoever joins meanwhile gets both or
    /// neither. `publish` broadcasts it.
    ///
    /// # Errors
    /// What `publish` fails with; the message stays where it is then, with its place.
    pub fn take_back<T, E>(
        &self,
        topic: &str,
        id: &str,
        publish: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let published = publish()?;
        topics.remove(topic, id);
        Ok(published)
    }

    /// Gives up a message; whether it was kept.
    pub fn remove(&self, topic: &str, id: &str) -> bool {
        self.topics.write().unwrap_or_else(PoisonError::into_inner).remove(topic, id)
    }

    /// Gives up what nobody gets any more.
    pub fn forget_expired(&self, now: Instant) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let Topics { lists, bytes } = &mut *topics;
        lists.retain(|_, list| {
            list.retain(|kept| {
                let stays = now < kept.until;
                *bytes -= if stays { 0 } else { kept.held() };
                stays
            });
            !list.is_empty()
        });
        if lists.is_empty() {
            *topics = Topics::default();
        }
    }

    /// The messages that a client gets which joins the topic, oldest first. `taken` is the last broadcast of the
    /// node that its shard has taken; what was broadcast behind that comes as a broadcast. Of more than `room` bytes
    /// the newest are given, the first of which may go beyond it.
    #[must_use]
    pub fn for_joiner(&self, topic: &str, taken: u64, now: Instant, room: usize) -> Vec<Kept> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let list = topics.lists.get(topic).map(Vec::as_slice).unwrap_or_default();
        let mut left = room;
        let for_all = list.iter().rev().filter(|kept| kept.sequence <= taken && now < kept.until);
        let fitting = for_all.take_while(|kept| {
            let fits = left > 0;
            left = left.saturating_sub(topic.len() + kept.cost());
            fits
        });
        let mut given: Vec<_> = fitting.cloned().collect();
        given.reverse();
        given
    }

    /// Messages kept in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).lists.values().map(Vec::len).sum()
    }

    /// Bytes that they take, but for what the table of topics does.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Topics {
    /// Keeps one more message of a topic, and the oldest no longer if there are too many.
    fn push(&mut self, topic: &str, kept: Kept, max: usize) {
        let list = self.lists.entry(topic.into()).or_default();
        if list.len() >= max.max(1) {
            self.bytes -= list.remove(0).held();
        }
        self.bytes += kept.held();
        list.push(kept);
    }

    /// Keeps a message no longer; whether it was kept.
    fn remove(&mut self, topic: &str, id: &str) -> bool {
        let Some(list) = self.lists.get_mut(topic) else { return false };
        let Some(at) = list.iter().position(|kept| &*kept.id == id) else { return false };
        self.bytes -= list.remove(at).held();
        if list.is_empty() {
            self.lists.remove(topic);
        }
        true
    }
}
