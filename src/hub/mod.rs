//! Who is subscribed to what in one shard, and how far each has got.
//!
//! A topic has a stream for each wire form that is really subscribed: a [`Log`] of encoded frames and a dense
//! array of subscribers, each of them a cursor into the log. A broadcast is one append per stream; the
//! endpoint's flush then walks the subscribers that are behind.

mod log;
mod subscribers;
mod topic;

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Instant;

use crate::channel::{RouteIndex, TopicName};
use crate::prepared::{PreparedBroadcast, WireForm};
use crate::tables::{Hashes, Slots};

pub(crate) use log::{Log, LogBounds, Position};
pub(crate) use subscribers::{Subscriber, Subscribers};
pub(crate) use topic::Topic;

/// A topic with at least one subscriber in this shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicId(u32);

/// One stream of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamKey {
    pub(crate) topic: TopicId,
    pub(crate) form: WireForm,
}

#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) log: Log,
    pub(crate) subscribers: Subscribers,
    /// Subscribers whose cursor is not at the log's end.
    pub(crate) behind: usize,
    /// Where the walk under way goes on.
    pub(crate) walked: usize,
    /// Queued for a walk.
    dirty: bool,
    /// A subscriber that is behind may have been moved to before `walked`, or the log has grown since.
    walk_again: bool,
    /// Queued for [`Hub::poll_trim`].
    trim: bool,
    /// Its readers were not judged when it was last trimmed, so it may hold more than it is to.
    pub(crate) excused: bool,
}

impl Stream {
    /// Notes that a subscriber that was behind has got to the end; the last one frees the log.
    pub(crate) fn caught_up(&mut self) {
        self.behind = self.behind.saturating_sub(1);
        if self.behind == 0 {
            self.log.clear();
        }
    }

    /// Moves a subscriber's cursor forward.
    pub(crate) fn advance(&mut self, index: u32, to: Position) {
        let Some(subscriber) = self.subscribers.get_mut(index as usize) else { return };
        if subscriber.cursor < to {
            subscriber.cursor = to;
            if to == self.log.end() {
                self.caught_up();
            }
        }
    }

    pub(crate) fn cursor(&self, index: u32) -> Position {
        self.subscribers.get(index as usize).map_or(self.log.end(), |subscriber| subscriber.cursor)
    }
}

/// A stream that is to be walked over.
#[derive(Debug, Clone, Copy)]
struct Dirty {
    key: StreamKey,
    /// When the oldest broadcast of the walk was published.
    since: Instant,
}

/// What an append has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Streams that can't carry the payload.
    pub(crate) unencodable: usize,
    /// Subscribers for whom it was appended.
    pub(crate) subscribers: u64,
}

/// Slow readers are those that have been offered everything and are still far behind. When more was appended in
/// one go than the budgets of a turn allow, they are given one flush more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Judgement {
    #[default]
    Due,
    /// The next flush passes without.
    Suspended,
    /// It has; it can't be suspended again before the next one.
    Overdue,
}

#[derive(Default)]
pub(crate) struct Hub {
    topics: Slots<Topic, 16>,
    /// The topics by the hashes of their names, which are in the topics: there may be one for each user.
    names: Hashes,
    hasher: RandomState,
    dirty: VecDeque<Dirty>,
    /// When the oldest broadcast was published that the walk under way has come too early for.
    next_since: Option<Instant>,
    /// When the broadcasts were published that the last flush has offered to everybody.
    pub(crate) offered: Vec<Instant>,
    trims: Vec<StreamKey>,
    /// Bytes in all logs that make the endpoint write before it takes in more.
    pub(crate) backlogged: bool,
    /// Whether the next flush that is through judges slow readers.
    pub(crate) judgement: Judgement,
}

impl Hub {
    pub(crate) fn lookup(&self, name: &str) -> Option<TopicId> {
        let hash = self.hasher.hash_one(name);
        self.names.find(hash, |id| &*self.topics[*id as usize].name == name).map(TopicId)
    }

    pub(crate) fn topic(&self, id: TopicId) -> &Topic {
        &self.topics[id.0 as usize]
    }

    pub(crate) fn topic_count(&self) -> usize {
        self.topics.len()
    }

    pub(crate) fn stream(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.topics.get_mut(key.topic.0 as usize)?.stream_mut(key.form)
    }

    pub(crate) fn stream_ref(&self, key: StreamKey) -> Option<&Stream> {
        self.topics.get(key.topic.0 as usize)?.stream(key.form)
    }

    /// The topics in places from `from` on, at most so many places, and whether there may be more behind them.
    pub(crate) fn topics_from(
        &self,
        from: usize,
        places_max: usize,
    ) -> (impl Iterator<Item = &Topic>, Option<usize>) {
        let places = self.topics.capacity();
        let end = from.saturating_add(places_max).min(places);
        ((from..end).filter_map(|place| self.topics.get(place)), (end < places).then_some(end))
    }

    /// Subscribes the connection in `slot` from here on; the index is the subscription's place in its stream. `known` is
    /// what [`lookup`](Self::lookup) says of the name.
    pub(crate) fn subscribe(
        &mut self,
        known: Option<TopicId>,
        name: &TopicName,
        route: RouteIndex,
        form: WireForm,
        slot: u32,
    ) -> (TopicId, u32) {
        debug_assert_eq!(known, self.lookup(name), "{name} is no longer what it was");
        let id = known.unwrap_or_else(|| self.insert_topic(name, route, form));
        let stream = self.topics[id.0 as usize].stream_or_insert(form);
        let index = u32::try_from(stream.subscribers.len()).expect("slots are 32 bits wide");
        stream.subscribers.push(Subscriber { cursor: stream.log.end(), slot });
        (id, index)
    }

    fn insert_topic(&mut self, name: &TopicName, route: RouteIndex, form: WireForm) -> TopicId {
        let hash = self.hasher.hash_one(&**name);
        let key = self.topics.insert(Topic::new(name.clone(), route, form));
        let id = TopicId(u32::try_from(key).expect("topics have subscribers, whose slots are 32 bits wide"));
        let (topics, hasher) = (&self.topics, &self.hasher);
        self.names.insert_unique(hash, id.0, |id| hasher.hash_one(&*topics[id as usize].name));
        id
    }

    /// The connections that are subscribed to a topic, in whatever form.
    pub(crate) fn subscriber_slots(&self, topic: TopicId) -> Vec<u32> {
        let streams = self.topic(topic).streams();
        streams.flat_map(|(_, stream)| stream.subscribers.iter().map(|subscriber| subscriber.slot)).collect()
    }

    /// Ends a subscription: the connection, if any, whose subscription has moved to the index that became
    /// free. A topic without subscribers is forgotten.
    pub(crate) fn unsubscribe(&mut self, key: StreamKey, index: u32) -> Option<u32> {
        let topic = self.topics.get_mut(key.topic.0 as usize)?;
        let stream = topic.stream_mut(key.form)?;
        let at = index as usize;
        if at >= stream.subscribers.len() {
            return None;
        }
        let gone = stream.subscribers.swap_remove(at);
        if gone.cursor != stream.log.end() {
            stream.caught_up();
        }
        let moved = stream.subscribers.get(at).map(|subscriber| subscriber.slot);
        if at < stream.walked {
            stream.walk_again = true;
        }
        if stream.subscribers.is_empty() && topic.forget_empty() {
            let (topics, hasher) = (&self.topics, &self.hasher);
            let hash_of = |id: u32| hasher.hash_one(&*topics[id as usize].name);
            self.names.remove(hash_of(key.topic.0), key.topic.0, hash_of);
            self.topics.remove(key.topic.0 as usize);
        }
        moved
    }

    /// Appends a broadcast that was published at `since` to the streams of its topic.
    pub(crate) fn append(
        &mut self,
        id: TopicId,
        broadcast: &PreparedBroadcast,
        bounds: LogBounds,
        since: Instant,
    ) -> Appended {
        let mut appended = Appended::default();
        for form in WireForm::ALL {
            let key = StreamKey { topic: id, form };
            let Some(stream) = self.topics[id.0 as usize].stream_mut(form) else {
                continue;
            };
            let Some(frame) = broadcast.frame(form) else {
                appended.unencodable += 1;
                continue;
            };
            stream.log.append(frame, bounds);
            stream.behind = stream.subscribers.len();
            appended.subscribers += stream.subscribers.len() as u64;
            if stream.log.exceeds(bounds) {
                self.backlogged = true;
            }
            self.mark_dirty(key, since);
        }
        appended
    }

    fn mark_dirty(&mut self, key: StreamKey, since: Instant) {
        if let Some(stream) = self.topics[key.topic.0 as usize].stream_mut(key.form) {
            if stream.walked > 0 {
                stream.walk_again = true;
                self.next_since.get_or_insert(since);
            }
            if !std::mem::replace(&mut stream.dirty, true) {
                self.dirty.push_back(Dirty { key, since });
            }
        }
    }

    /// The stream whose walk is next or under way.
    pub(crate) fn front_dirty(&mut self) -> Option<StreamKey> {
        while let Some(Dirty { key, .. }) = self.dirty.front().copied() {
            if self.stream_ref(key).is_some_and(|stream| stream.dirty) {
                return Some(key);
            }
            self.dirty.pop_front();
            self.next_since = None;
        }
        None
    }

    /// Ends the walk over the front stream: it goes to the back of the queue if some were passed over.
    pub(crate) fn finish_walk(&mut self) {
        let Some(Dirty { key, since }) = self.dirty.pop_front() else { return };
        let next_since = self.next_since.take();
        let Some(stream) = self.stream(key) else { return };
        stream.walked = 0;
        let again = std::mem::take(&mut stream.walk_again);
        stream.dirty = again;
        let trim = !again && stream.behind > 0 && !std::mem::replace(&mut stream.trim, true);
        if !again || next_since.is_some() {
            self.offered.push(since);
        }
        if again {
            self.dirty.push_back(Dirty { key, since: next_since.unwrap_or(since) });
        } else if trim {
            self.trims.push(key);
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Bytes held by all logs.
    pub(crate) fn log_bytes(&self) -> usize {
        let streams = self.topics.iter().flat_map(|(_, topic)| topic.streams());
        streams.map(|(_, stream)| stream.log.len()).sum()
    }

    /// A stream with subscribers that are behind after everybody was offered everything.
    pub(crate) fn poll_trim(&mut self) -> Option<StreamKey> {
        loop {
            let key = self.trims.pop()?;
            if let Some(stream) = self.stream(key)
                && std::mem::take(&mut stream.trim)
            {
                return Some(key);
            }
        }
    }

    #[cfg(debug_assertions)]
    pub(crate) fn subscriber_count(&self) -> usize {
        let streams = self.topics.iter().flat_map(|(_, topic)| topic.streams());
        streams.map(|(_, stream)| stream.subscribers.len()).sum()
    }

    /// Gives readers one flush more before they are judged, unless they have had that already.
    pub(crate) fn suspend_judgement(&mut self) {
        if self.judgement == Judgement::Due {
            self.judgement = Judgement::Suspended;
        }
    }

    /// Everything that must hold, in debug builds.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.names.len(), self.topics.len(), "a topic has one name");
        for (key, topic) in self.topics.iter() {
            assert!(topic.streams().next().is_some(), "{} has no subscriber", topic.name);
            assert_eq!(self.lookup(&topic.name).map(|id| id.0 as usize), Some(key));
            for (_, stream) in topic.streams() {
                let end = stream.log.end();
                let behind = stream.subscribers.iter().filter(|subscriber| subscriber.cursor < end).count();
                assert_eq!(behind, stream.behind, "{}: subscribers behind", topic.name);
                assert!(!stream.subscribers.is_empty(), "{}: an empty stream", topic.name);
                assert!(stream.behind > 0 || stream.log.len() == 0, "{}: a log nobody waits for", topic.name);
                for subscriber in stream.subscribers.iter() {
                    assert!(
                        (stream.log.start()..=end).contains(&subscriber.cursor),
                        "{}: a cursor outside the log",
                        topic.name
                    );
                }
            }
        }
    }
    /// After a flush that has offered everybody everything, in debug builds: no log is beyond its limit.
    #[cfg(debug_assertions)]
    pub(crate) fn check_trimmed(&self, log_bytes_max: usize) {
        for (_, stream) in self.topics.iter().flat_map(|(_, topic)| topic.streams()) {
            let len = stream.log.len();
            assert!(stream.excused || len <= log_bytes_max, "a log of {len} bytes");
        }
    }
}
