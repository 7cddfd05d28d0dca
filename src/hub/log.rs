//! The frames of one topic in one wire form, back to back, for readers that stand at different places.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use crate::limits::Limits;

/// A place in a log: the number of bytes appended before it since the log began. It may lie inside a frame.
pub(crate) type Position = u64;

/// How much a log may hold for those that are behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogBounds {
    pub(crate) bytes_max: usize,
    pub(crate) messages_max: usize,
}

impl LogBounds {
    pub(crate) fn of(limits: &Limits) -> Self {
        Self { bytes_max: limits.topic_log_bytes_max, messages_max: limits.topic_log_messages_max }
    }

    /// Whether a segment that is not made for one large frame has room for a further frame.
    ///
    /// What falls out of a log falls out by segments: with eight of them at least, a reader that is pushed
    /// out finds most of the log still there.
    fn has_room(self, segment: &Segment, frame: &[u8]) -> bool {
        segment.bytes.len() + frame.len() <= (self.bytes_max / 8).min(SEGMENT_BYTES)
            && segment.frame_ends.len() < self.messages_max.div_ceil(8)
    }
}

/// The most of it: large enough to be one write, small enough to be given back soon.
const SEGMENT_BYTES: usize = 32 * 1024;

/// Consecutive frames in contiguous segments.
///
/// Catching a reader up is one write of `log[cursor..end]`, whatever the number of frames. Memory is held for
/// what the furthest reader has still to get, and for nothing once everybody is at the end.
#[derive(Debug, Default)]
pub(crate) struct Log {
    segments: Segments,
    end: Position,
    messages: usize,
}

/// Boxed, since nearly all logs are empty: there is one for each topic.
#[derive(Debug, Default)]
#[allow(clippy::box_collection)]
struct Segments(Option<Box<VecDeque<Segment>>>);

impl Deref for Segments {
    type Target = VecDeque<Segment>;

    fn deref(&self) -> &VecDeque<Segment> {
        static EMPTY: VecDeque<Segment> = VecDeque::new();
        self.0.as_deref().unwrap_or(&EMPTY)
    }
}

impl DerefMut for Segments {
    fn deref_mut(&mut self) -> &mut VecDeque<Segment> {
        self.0.get_or_insert_default()
    }
}

#[derive(Debug)]
struct Segment {
    start: Position,
    bytes: Vec<u8>,
    /// Where each frame ends, counted from the segment's start.
    frame_ends: Vec<u32>,
}

impl Segment {
    fn end(&self) -> Position {
        self.start + self.bytes.len() as u64
    }

    /// The number of frames that begin before `position`: the first at 0, each other where its predecessor ends.
    fn begun_before(&self, position: Position) -> usize {
        match self.offset(position) {
            0 => 0,
            offset => {
                let ended = self.frame_ends.partition_point(|end| (*end as usize) < offset);
                (ended + 1).min(self.frame_ends.len())
            }
        }
    }

    fn offset(&self, position: Position) -> usize {
        usize::try_from(position.saturating_sub(self.start))
            .map_or(self.bytes.len(), |at| at.min(self.bytes.len()))
    }
}

impl Log {
    /// The first byte that is still held.
    pub(crate) fn start(&self) -> Position {
        self.segments.front().map_or(self.end, |segment| segment.start)
    }

    /// The place behind the last frame.
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// Bytes held.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.end - self.start()).unwrap_or(usize::MAX)
    }

    pub(crate) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Whether more is held than the bounds allow.
    pub(crate) fn exceeds(&self, bounds: LogBounds) -> bool {
        self.len() > bounds.bytes_max || self.messages > bounds.messages_max
    }

    /// Appends a whole frame.
    pub(crate) fn append(&mut self, frame: &[u8], bounds: LogBounds) {
        self.messages += 1;
        if !self.segments.back().is_some_and(|segment| bounds.has_room(segment, frame)) {
            self.segments.push_back(Segment {
                start: self.end,
                bytes: Vec::with_capacity(frame.len()),
                frame_ends: Vec::with_capacity(1),
            });
        }
        if let Some(segment) = self.segments.back_mut() {
            segment.bytes.extend_from_slice(frame);
            segment.frame_ends.push(u32::try_from(segment.bytes.len()).unwrap_or(u32::MAX));
            self.end += frame.len() as u64;
        }
    }

    /// Forgets everything; places stay valid as numbers.
    pub(crate) fn clear(&mut self) {
        self.segments = Segments::default();
        self.messages = 0;
    }

    /// Forgets the oldest segment.
    pub(crate) fn drop_front(&mut self) {
        if let Some(segment) = self.segments.pop_front() {
            self.messages -= segment.frame_ends.len();
        }
        if self.segments.is_empty() {
            self.clear();
        }
    }

    /// The end of the oldest segment.
    pub(crate) fn front_end(&self) -> Position {
        self.segments.front().map_or(self.end, Segment::end)
    }

    /// The first place that the bounds allow to keep: the start of a segment, or the end.
    pub(crate) fn keep_from(&self, bounds: LogBounds) -> Position {
        let mut messages = self.messages;
        for segment in self.segments.iter() {
            if self.end - segment.start <= bounds.bytes_max as u64 && messages <= bounds.messages_max {
                return segment.start;
            }
            messages -= segment.frame_ends.len();
        }
        self.end
    }

    /// The bytes between two places that are held, in contiguous pieces.
    pub(crate) fn pieces(&self, from: Position, to: Position) -> impl Iterator<Item = &[u8]> {
        // Nearly every reader stands in the last segment.
        let first = match self.segments.back() {
            Some(last) if from >= last.start => self.segments.len() - 1,
            _ => self.segments.partition_point(|segment| segment.end() <= from),
        };
        self.segments
            .range(first..)
            .map(move |segment| &segment.bytes[segment.offset(from)..segment.offset(to)])
            .filter(|piece| !piece.is_empty())
    }

    /// What was appended last and lies in one piece, and where it begins. Nearly every reader stands in it.
    pub(crate) fn tail(&self) -> (&[u8], Position) {
        self.segments.back().map_or((&[], self.end), |segment| (&segment.bytes, segment.start))
    }

    /// The end of the frame that `position` lies in; `position` itself if it lies between frames.
    pub(crate) fn frame_end(&self, position: Position) -> Position {
        let index = self.segments.partition_point(|segment| segment.end() <= position);
        let Some(segment) = self.segments.get(index) else { return position };
        let offset = segment.offset(position);
        if offset == 0 {
            return position;
        }
        let frame = segment.frame_ends.partition_point(|end| (*end as usize) < offset);
        segment.start + segment.frame_ends.get(frame).copied().map_or(0, u64::from)
    }

    /// The number of frames that begin at or after `from` and before `to`.
    pub(crate) fn frames_between(&self, from: Position, to: Position) -> usize {
        let begun =
            |position| self.segments.iter().map(|segment| segment.begun_before(position)).sum::<usize>();
        begun(to).saturating_sub(begun(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: LogBounds = LogBounds { bytes_max: 8 * SEGMENT_BYTES, messages_max: 1000 };

    fn log(frames: &[usize]) -> Log {
        let mut log = Log::default();
        for (index, len) in frames.iter().enumerate() {
            log.append(&vec![u8::try_from(index).unwrap(); *len], BOUNDS);
        }
        log
    }

    fn bytes(log: &Log, from: Position, to: Position) -> Vec<u8> {
        log.pieces(from, to).flatten().copied().collect()
    }

    #[test]
    fn small_frames_lie_in_one_piece() {
        let log = log(&[3, 2, 4]);
        assert_eq!(log.pieces(0, 9).collect::<Vec<_>>(), [[0, 0, 0, 1, 1, 2, 2, 2, 2]]);
        assert_eq!(bytes(&log, 4, 6), [1, 2]);
        assert!(bytes(&log, 9, 9).is_empty());
    }

    #[test]
    fn large_frames_lie_in_several_pieces() {
        let log = log(&[SEGMENT_BYTES, 10, SEGMENT_BYTES + 1, 5]);
        assert_eq!(log.segment_count(), 4);
        let end = log.end();
        assert_eq!(bytes(&log, 0, end).len() as u64, end);
        assert_eq!(bytes(&log, SEGMENT_BYTES as u64 + 9, SEGMENT_BYTES as u64 + 11), [1, 2]);
        assert_eq!(log.len() as u64, end);
    }

    #[test]
    fn a_small_log_has_small_segments() {
        let mut log = Log::default();
        let bounds = LogBounds { bytes_max: 4096, ..BOUNDS };
        (0..64).for_each(|_| log.append(&[0; 100], bounds));
        assert_eq!(log.segment_count(), 64 / 5 + 1);
        assert!(log.exceeds(bounds));
        assert_eq!(log.keep_from(bounds), 2500);
    }

    #[test]
    fn a_log_of_few_messages_has_segments_of_few_messages() {
        let mut log = Log::default();
        let bounds = LogBounds { messages_max: 16, ..BOUNDS };
        (0..17).for_each(|_| log.append(&[0; 10], bounds));
        assert!(log.exceeds(bounds));
        assert_eq!(log.keep_from(bounds), 20);
        log.drop_front();
        assert!(!log.exceeds(bounds));
    }

    #[test]
    fn a_place_inside_a_frame_knows_where_the_frame_ends() {
        let log = log(&[3, 2, SEGMENT_BYTES, 4]);
        let base = SEGMENT_BYTES as u64;
        let ends = [(0, 0), (1, 3), (2, 3), (3, 3), (4, 5), (5, 5), (6, 5 + base), (base + 5, base + 5)];
        for (position, expected) in ends {
            assert_eq!(log.frame_end(position), expected, "{position}");
        }
        assert_eq!(log.frame_end(log.end() - 1), log.end());
        assert_eq!(log.frame_end(log.end()), log.end());
    }

    #[test]
    fn frames_are_counted_by_where_they_begin() {
        let log = log(&[3, 2, SEGMENT_BYTES, 4]);
        let end = log.end();
        for (from, expected) in
            [(0, 4), (1, 3), (3, 3), (4, 2), (5, 2), (6, 1), (end - 4, 1), (end - 3, 0), (end, 0)]
        {
            assert_eq!(log.frames_between(from, end), expected, "{from}");
        }
        assert_eq!(log.frames_between(0, 3), 1);
        assert_eq!(log.frames_between(0, 4), 2);
    }

    #[test]
    fn memory_is_given_back_while_places_go_on() {
        let mut log = log(&[3, SEGMENT_BYTES]);
        assert_eq!((log.start(), log.front_end()), (0, 3));
        log.drop_front();
        assert_eq!(log.start(), 3);
        log.clear();
        let end = log.end();
        assert_eq!((log.start(), log.len(), end), (end, 0, 3 + SEGMENT_BYTES as u64));
        log.append(&[9], BOUNDS);
        assert_eq!(bytes(&log, end, end + 1), [9]);
    }
}
