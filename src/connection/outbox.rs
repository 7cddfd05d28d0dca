//! What waits to be written to one connection, besides the topics it is subscribed to.

use std::collections::VecDeque;

use crate::hub::{Position, TopicId};

/// Bytes for one connection alone.
#[derive(Debug)]
pub(crate) enum Bytes {
    Owned(Box<[u8]>),
    Static(&'static [u8]),
    Gap(Box<Gap>),
    /// Copied from a topic's log, and no sign of a client that does not read: what a client that takes bytes
    /// is still to get of a topic that has ended for it, or the rest of one frame.
    Copied(Box<[u8]>),
}

/// The notice of a gap, kept apart from other frames so that it grows while it waits: a reader that takes
/// nothing has one for each of its topics, however often it is passed over.
#[derive(Debug)]
pub(crate) struct Gap {
    pub(crate) topic: TopicId,
    /// The broadcasts that it tells of.
    pub(crate) missed: usize,
    pub(crate) frame: Box<[u8]>,
}

impl Bytes {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) | Self::Copied(bytes) => bytes,
            Self::Static(bytes) => bytes,
            Self::Gap(gap) => &gap.frame,
        }
    }

    /// What the bytes count against `outbox_bytes_max`.
    fn held(&self) -> usize {
        match self {
            Self::Owned(bytes) => bytes.len() + size_of::<Entry>(),
            Self::Static(_) | Self::Copied(_) => size_of::<Entry>(),
            Self::Gap(gap) => gap.frame.len() + size_of::<Gap>() + size_of::<Entry>(),
        }
    }
}

impl From<Box<[u8]>> for Bytes {
    fn from(bytes: Box<[u8]>) -> Self {
        Self::Owned(bytes)
    }
}

/// One step of what a connection has still to be sent, in the order in which things happened.
#[derive(Debug)]
pub(crate) enum Entry {
    /// The topic's log is to be sent up to here before what follows.
    Until { topic: TopicId, position: Position },
    /// The topic's log goes on here: what lies before is not for this connection.
    Skip { topic: TopicId, position: Position },
    /// Bytes for this connection alone.
    Frame(Bytes),
}

/// Direct frames, and the places in the topics' logs that come before them.
///
/// Empty, it is one null pointer. A slow reader's backlog of broadcasts stays in the logs: what comes before a
/// direct frame is named by its place, not copied.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Option<Box<Waiting>>);

#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) entries: VecDeque<Entry>,
    /// Bytes of the first frame that are sent already; the first entry is a frame while this is not 0.
    pub(crate) sent: usize,
    /// The first entry goes on inside a frame whose beginning was sent from a topic's log.
    goes_on: bool,
    /// The first entries that an answer under way carries: they stay until it is known to have arrived.
    carried: usize,
    /// Where the last pong is among the entries, so that a ping costs the same however much waits.
    last_pong: Option<usize>,
    /// How far the logs of topics are named already, by topic: nothing is named twice.
    marks: Vec<(TopicId, Position)>,
    held: usize,
}

impl Waiting {
    /// The first entries that nothing may come before and that can't be taken back: the rest of a frame that
    /// is partly sent, or what an answer carries.
    fn begun(&self) -> usize {
        usize::from(self.sent > 0 || self.goes_on).max(self.carried)
    }
}

impl Outbox {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What waits, as compared with `outbox_bytes_max`.
    pub(crate) fn held(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.held)
    }

    pub(crate) fn waiting(&self) -> Option<&Waiting> {
        self.0.as_deref()
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        let waiting = self.0.get_or_insert_default();
        waiting.held += held(&entry);
        waiting.entries.push_back(entry);
    }

    pub(crate) fn push_front(&mut self, entry: Entry) {
        let waiting = self.0.get_or_insert_default();
        debug_assert_eq!(waiting.begun(), 0, "nothing may come before a frame that is partly sent");
        waiting.held += held(&entry);
        waiting.entries.push_front(entry);
        waiting.last_pong = waiting.last_pong.map(|at| at + 1);
    }

    /// Adds the rest of a frame whose beginning was sent from a topic's log.
    pub(crate) fn put_rest(&mut self, rest: Box<[u8]>) {
        self.push_front(Entry::Frame(Bytes::Copied(rest)));
        self.go_on();
    }

    /// Notes that the first entry goes on inside a frame whose beginning was sent from a topic's log.
    pub(crate) fn go_on(&mut self) {
        if let Some(waiting) = &mut self.0 {
            waiting.goes_on = true;
        }
    }

    /// Has a topic's log sent up to `position` before what is pushed next.
    pub(crate) fn mark(&mut self, topic: TopicId, position: Position) {
        let waiting = self.0.get_or_insert_default();
        match waiting.marks.binary_search_by_key(&topic, |(marked, _)| *marked) {
            Ok(at) if waiting.marks[at].1 >= position => return,
            Ok(at) => waiting.marks[at].1 = position,
            Err(at) => waiting.marks.insert(at, (topic, position)),
        }
        self.push(Entry::Until { topic, position });
    }

    /// Forgets how far a topic was named: its id may soon be that of another.
    pub(crate) fn unmark(&mut self, topic: TopicId) {
        if let Some(waiting) = &mut self.0 {
            waiting.marks.retain(|(marked, _)| *marked != topic);
        }
    }

    /// Adds a pong.
    pub(crate) fn push_pong(&mut self, frame: Box<[u8]>) {
        self.push(Entry::Frame(Bytes::Owned(frame)));
        if let Some(waiting) = &mut self.0 {
            waiting.last_pong = Some(waiting.entries.len() - 1);
        }
    }

    /// Puts `frame` in the place of the last pong that waits and has not begun to be sent. Returns false if there
    /// is none.
    pub(crate) fn replace_pong(&mut self, frame: &[u8]) -> bool {
        let Some(waiting) = &mut self.0 else { return false };
        let begun = waiting.begun();
        let Some(at) = waiting.last_pong.filter(|at| *at >= begun) else { return false };
        let Some(Entry::Frame(pong)) = waiting.entries.get_mut(at) else { return false };
        let bytes = Bytes::Owned(frame.into());
        waiting.held = waiting.held - pong.held() + bytes.held();
        *pong = bytes;
        true
    }

    /// The notice of a gap in a topic that waits and is not partly sent.
    fn gap(&self, topic: TopicId) -> Option<(usize, &Gap)> {
        let waiting = self.waiting()?;
        let entries = waiting.entries.iter().enumerate().skip(waiting.begun());
        entries.into_iter().find_map(|(at, entry)| match entry {
            Entry::Frame(Bytes::Gap(gap)) if gap.topic == topic => Some((at, &**gap)),
            _ => None,
        })
    }

    /// How many broadcasts of a topic the client is to be told of by the notice that waits.
    pub(crate) fn missed(&self, topic: TopicId) -> usize {
        self.gap(topic).map_or(0, |(_, gap)| gap.missed)
    }

    /// Puts the notice of a gap where the first of the missing broadcasts would have come, in the place of a
    /// notice that waits.
    pub(crate) fn put_gap(&mut self, gap: Gap) {
        let topic = gap.topic;
        let waits = self.gap(topic).map(|(at, _)| at);
        let waiting = self.0.get_or_insert_default();
        let at = waits.unwrap_or_else(|| {
            let names = |entry: &Entry| matches!(entry, Entry::Until { topic: named, .. } if *named == topic);
            let later = waiting.entries.iter().skip(waiting.carried).position(names);
            later.map_or(waiting.entries.len(), |at| waiting.carried + at)
        });
        let entry = Entry::Frame(Bytes::Gap(Box::new(gap)));
        waiting.held += held(&entry);
        match waits.and_then(|at| waiting.entries.get_mut(at)) {
            Some(old) => waiting.held -= held(&std::mem::replace(old, entry)),
            None => {
                waiting.entries.insert(at, entry);
                waiting.last_pong = waiting.last_pong.map(|pong| if pong < at { pong } else { pong + 1 });
            }
        }
    }

    /// How many broadcasts of a topic between two places this connection is not to get: one for each skip.
    pub(crate) fn skips_between(&self, topic: TopicId, from: Position, to: Position) -> usize {
        let mut until = from;
        let mut skips = 0;
        for entry in self.waiting().into_iter().flat_map(|waiting| &waiting.entries) {
            match entry {
                Entry::Until { topic: named, position } if *named == topic => until = *position,
                Entry::Skip { topic: named, position } if *named == topic => {
                    skips += usize::from(from <= until && until < *position && *position <= to);
                }
                _ => {}
            }
        }
        skips
    }

    /// Removes the first entry; the last one frees the memory.
    pub(crate) fn pop(&mut self) {
        if let Some(waiting) = &mut self.0 {
            if let Some(entry) = waiting.entries.pop_front() {
                waiting.held -= held(&entry);
            }
            (waiting.sent, waiting.goes_on) = (0, false);
            waiting.carried = waiting.carried.saturating_sub(1);
            waiting.last_pong = waiting.last_pong.and_then(|at| at.checked_sub(1));
            if waiting.entries.is_empty() {
                self.0 = None;
            }
        }
    }

    /// Counts `n` bytes of the first frame as sent, and removes it when it is sent whole.
    pub(crate) fn advance(&mut self, n: usize) {
        let Some(waiting) = &mut self.0 else { return };
        waiting.sent += n;
        if let Some(Entry::Frame(bytes)) = waiting.entries.front()
            && waiting.sent >= bytes.as_slice().len()
        {
            self.pop();
        }
    }

    /// Notes that an answer carries everything that waits, or (`false`) that no answer is under way.
    pub(crate) fn carry(&mut self, everything: bool) {
        if let Some(waiting) = &mut self.0 {
            waiting.carried = if everything { waiting.entries.len() } else { 0 };
        }
    }

    /// How many of the first entries an answer under way carries.
    pub(crate) fn carried(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.carried)
    }

    /// Forgets all but the rest of a frame that is partly sent.
    pub(crate) fn keep_partial(&mut self) {
        match &mut self.0 {
            Some(waiting) if waiting.begun() > 0 => {
                waiting.entries.truncate(1);
                waiting.last_pong = None;
                waiting.marks.clear();
                waiting.held = waiting.entries.front().map_or(0, held);
            }
            _ => self.0 = None,
        }
    }

    /// The entries, to be rewritten by `rewrite` one by one (into none, one or several).
    pub(crate) fn rewrite(&mut self, mut rewrite: impl FnMut(Entry, &mut Vec<Entry>)) {
        let Some(waiting) = &mut self.0 else { return };
        let mut out = Vec::with_capacity(waiting.entries.len());
        let mut carried = 0;
        let last_pong = waiting.last_pong.take();
        for (index, entry) in waiting.entries.drain(..).enumerate() {
            rewrite(entry, &mut out);
            if last_pong == Some(index) {
                waiting.last_pong = out.len().checked_sub(1);
            }
            if index < waiting.carried {
                carried = out.len();
            }
        }
        waiting.held = out.iter().map(held).sum();
        waiting.carried = carried;
        waiting.entries = out.into();
        if waiting.entries.is_empty() {
            self.0 = None;
        }
    }
}

fn held(entry: &Entry) -> usize {
    match entry {
        Entry::Frame(bytes) => bytes.held(),
        Entry::Until { .. } | Entry::Skip { .. } => size_of::<Entry>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::RouteIndex;
    use crate::hub::Hub;
    use crate::prepared::WireForm;

    /// A topic's id, as only a hub gives it.
    fn topics() -> [TopicId; 2] {
        let mut hub = Hub::default();
        ["a", "b"].map(|name| hub.subscribe(None, &name.into(), RouteIndex(0), WireForm::WebSocketV2, 0).0)
    }

    fn frame(byte: u8) -> Entry {
        Entry::Frame(Bytes::Owned([byte].into()))
    }

    /// The frames as their first bytes, and places as the letters of their topics.
    fn show(outbox: &Outbox, names: [TopicId; 2]) -> String {
        let waiting = outbox.waiting().into_iter().flat_map(|waiting| &waiting.entries);
        let show = |entry: &Entry| match entry {
            Entry::Frame(bytes) => char::from(bytes.as_slice()[0]),
            Entry::Until { topic, .. } | Entry::Skip { topic, .. } if *topic == names[0] => 'a',
            Entry::Until { .. } | Entry::Skip { .. } => 'b',
        };
        waiting.map(show).collect()
    }

    #[test]
    fn a_pong_takes_the_place_of_the_last_one_wherever_that_has_moved() {
        let names = topics();
        let mut outbox = Outbox::new();
        assert!(!outbox.replace_pong(b"2"), "there is none");
        outbox.push(frame(b'x'));
        outbox.push_pong([b'0'].into());
        outbox.push_pong([b'1'].into());
        outbox.push(frame(b'y'));
        outbox.mark(names[1], 7);
        assert!(outbox.replace_pong(b"2"));
        assert_eq!(show(&outbox, names), "x02yb");
        outbox.push_front(Entry::Until { topic: names[0], position: 1 });
        assert!(outbox.replace_pong(b"3"));
        assert_eq!(show(&outbox, names), "ax03yb");
        // A notice before it, and one behind it.
        outbox.put_gap(Gap { topic: names[0], missed: 1, frame: [b'g'].into() });
        outbox.put_gap(Gap { topic: names[1], missed: 1, frame: [b'h'].into() });
        assert!(outbox.replace_pong(b"4"));
        assert_eq!(show(&outbox, names), "gax04yhb");
        // A topic that is left.
        outbox.rewrite(|entry, out| match entry {
            Entry::Until { topic, .. } if topic == names[0] => out.extend([frame(b'c'), frame(b'd')]),
            other => out.push(other),
        });
        assert!(outbox.replace_pong(b"5"));
        assert_eq!(show(&outbox, names), "gcdx05yhb");
        for left in ["cdx05yhb", "dx05yhb", "x05yhb", "05yhb"] {
            outbox.pop();
            assert_eq!(show(&outbox, names), left);
        }
        assert!(outbox.replace_pong(b"6"));
        assert_eq!(show(&outbox, names), "06yhb");
        outbox.pop();
        assert!(outbox.replace_pong(b"77"));
        // It is partly sent.
        outbox.advance(1);
        assert!(!outbox.replace_pong(b"8"));
        outbox.advance(1);
        assert_eq!(show(&outbox, names), "yhb");
        assert!(!outbox.replace_pong(b"8"), "it is gone");
    }

    #[test]
    fn a_topic_is_named_again_only_when_it_has_got_on() {
        let names = topics();
        let mut outbox = Outbox::new();
        for (position, expected) in [(3, "a"), (3, "a"), (3, "a"), (4, "aa")] {
            outbox.mark(names[0], position);
            assert_eq!(show(&outbox, names), expected);
        }
        outbox.mark(names[1], 3);
        outbox.mark(names[0], 4);
        assert_eq!(show(&outbox, names), "aab");
        // The id is that of another topic now, whose log begins before that.
        outbox.unmark(names[0]);
        outbox.mark(names[0], 1);
        assert_eq!(show(&outbox, names), "aaba");
    }
}
