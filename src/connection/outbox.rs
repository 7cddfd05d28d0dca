//! What waits to be written to one connection, besides the topics it is subscribed to.

use std::collections::VecDeque;

use crate::hub::{Position, TopicId};

/// Bytes for one connection alone.
#[derive(Debug)]
pub(crate) enum Bytes {
    Owned(Box<[u8]>),
    Static(&'static [u8]),
}

impl Bytes {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Static(bytes) => bytes,
        }
    }

    /// What the bytes cost in memory.
    fn held(&self) -> usize {
        match self {
            Self::Owned(bytes) => bytes.len() + size_of::<Entry>(),
            Self::Static(_) => size_of::<Entry>(),
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
    held: usize,
}

impl Outbox {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Memory held by what waits, as compared with `outbox_bytes_max`.
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
        debug_assert_eq!(waiting.sent, 0, "nothing may come before a frame that is partly sent");
        waiting.held += held(&entry);
        waiting.entries.push_front(entry);
    }

    /// Adds an entry before all others, but behind a frame that is partly sent.
    pub(crate) fn insert_first(&mut self, entry: Entry) {
        let waiting = self.0.get_or_insert_default();
        waiting.held += held(&entry);
        waiting.entries.insert(usize::from(waiting.sent > 0), entry);
    }

    /// Puts `bytes` in the place of the last waiting frame that `is_alike`; whether there was one.
    pub(crate) fn replace_last(&mut self, bytes: Bytes, is_alike: impl Fn(&[u8]) -> bool) -> bool {
        let Some(waiting) = &mut self.0 else { return false };
        let untouched = usize::from(waiting.sent > 0);
        let found = waiting.entries.iter_mut().skip(untouched).rev().find_map(|entry| match entry {
            Entry::Frame(frame) if is_alike(frame.as_slice()) => Some(frame),
            _ => None,
        });
        let Some(frame) = found else { return false };
        waiting.held = waiting.held - frame.held() + bytes.held();
        *frame = bytes;
        true
    }

    /// Removes the first entry; the last one frees the memory.
    pub(crate) fn pop(&mut self) {
        if let Some(waiting) = &mut self.0 {
            if let Some(entry) = waiting.entries.pop_front() {
                waiting.held -= held(&entry);
            }
            waiting.sent = 0;
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

    /// Forgets all but the rest of a frame that is partly sent.
    pub(crate) fn keep_partial(&mut self) {
        match &mut self.0 {
            Some(waiting) if waiting.sent > 0 => {
                waiting.entries.truncate(1);
                waiting.held = waiting.entries.front().map_or(0, held);
            }
            _ => self.0 = None,
        }
    }

    /// The entries, to be rewritten by `rewrite` one by one (into none, one or several).
    pub(crate) fn rewrite(&mut self, mut rewrite: impl FnMut(Entry, &mut Vec<Entry>)) {
        let Some(waiting) = &mut self.0 else { return };
        let mut out = Vec::with_capacity(waiting.entries.len());
        waiting.entries.drain(..).for_each(|entry| rewrite(entry, &mut out));
        waiting.held = out.iter().map(held).sum();
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
