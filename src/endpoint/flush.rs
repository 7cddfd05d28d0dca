//! Writing: one call per connection and turn, in slices, so that a broadcast to many starves nobody.
//!
//! A connection that has anything of its own to be sent is written to by [`Endpoint::flush_connection`], which
//! keeps the order in which things happened. All others are served by the walk over a dirty topic's
//! subscribers, which touches 16 bytes of the subscription and 32 of the connection.

use std::io::IoSlice;
use std::time::Instant;

#[cfg(debug_assertions)]
use super::CHECKED_MAX;
use super::{Endpoint, HandedOver};
use crate::channel::{PayloadBuf, SlowReader};
use crate::connection::{Connection, ConnectionId, Entry, Gap, HandOver, State};
use crate::fault::Fault;
use crate::hub::{Hub, Judgement, LogBounds, Position, Stream, StreamKey, Subscriber, TopicId};
use crate::phoenix::RefBuf;
use crate::socket::Socket;

/// The connection's socket has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// What one connection of many is offered.
///
/// A thousand of them stand between the kernel's work and the subscribers, so they are small.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    id: ConnectionId,
    /// Where its part of the bytes begins.
    from: u32,
    /// Its place among the subscribers.
    index: u32,
    taken: Result<u32, Gone>,
}

const _: () = assert!(size_of::<Offer>() == 24);

impl Offer {
    fn new(id: ConnectionId, from: u32, index: usize) -> Self {
        Self { id, from, index: u32::try_from(index).expect("slots are 32 bits wide"), taken: Ok(0) }
    }

    /// To whom it is made.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// What is offered, of the bytes that all offers are made of.
    #[must_use]
    pub fn bytes_of<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[self.from as usize..]
    }

    /// Whether anything of it was taken.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.taken.is_ok_and(|taken| taken > 0)
    }

    /// Notes what has come of it, as [`Sink::send`] returns it. An offer about which nothing is noted was not taken.
    pub fn set_taken(&mut self, taken: Result<usize, Gone>) {
        // No system takes 4 GiB with one call.
        self.taken = taken.map(|taken| u32::try_from(taken).unwrap_or(u32::MAX));
    }
}

/// Offers that are made at once: what the kernel works on and what is ours push each other out of the caches, so the two
/// take turns rarely (`benches/README.md`).
pub const OFFERS_MAX: usize = 1024;

/// Where an endpoint writes to: the sockets of the event loop, or pretended ones.
pub trait Sink {
    /// Offers bytes to a connection: the number that was taken. Fewer than were offered means that the peer
    /// takes no more until [`Endpoint::handle_writable`].
    ///
    /// # Errors
    /// The socket has failed; the endpoint forgets the connection.
    fn send(&mut self, id: ConnectionId, pieces: &[IoSlice<'_>]) -> Result<usize, Gone>;

    /// Offers the end of `bytes` to many connections, to each from its own place on, as [`send`](Self::send) does
    /// one by one. Whoever can have the system take many at once does so.
    fn send_many(&mut self, bytes: &[u8], offers: &mut [Offer]) {
        for offer in offers {
            offer.set_taken(self.send(offer.id, &[IoSlice::new(offer.bytes_of(bytes))]));
        }
    }

    /// Ends the server's side of a connection; what was sent before still arrives.
    fn shutdown(&mut self, id: ConnectionId);

    /// Whether the socket is known to have failed, though [`Endpoint::handle_error`] may not have said so yet.
    /// The endpoint forgets the connection then, as after [`Gone`].
    fn has_failed(&mut self, _id: ConnectionId) -> bool {
        false
    }
}

/// Pieces of one write. What does not fit goes out with the connection's next one.
const PIECES_MAX: usize = 64;

/// What one write is made of.
struct Gathered<'a> {
    pieces: [IoSlice<'a>; PIECES_MAX],
    count: usize,
    bytes: usize,
    /// Not everything fitted.
    more: bool,
}

impl<'a> Gathered<'a> {
    fn new() -> Self {
        Self { pieces: [IoSlice::new(&[]); PIECES_MAX], count: 0, bytes: 0, more: false }
    }

    /// Adds a piece. Returns false if there was no room for it.
    fn add(&mut self, piece: &'a [u8]) -> bool {
        match self.pieces.get_mut(self.count) {
            Some(place) => {
                *place = IoSlice::new(piece);
                self.count += 1;
                self.bytes += piece.len();
            }
            None => self.more = true,
        }
        !self.more
    }

    fn as_slices(&self) -> &[IoSlice<'a>] {
        &self.pieces[..self.count]
    }
}

/// How a walk goes on behind the offers that are made.
enum Next {
    /// More of them.
    Offers,
    /// With a subscriber that stands before the log's tail.
    Behind,
    /// In the next slice.
    Slice,
    /// All have had their turn.
    Nobody,
}

impl Endpoint {
    /// Writes what waits, with at most `budget` writes. Whether more is left: the caller polls without
    /// waiting and calls again.
    pub fn flush(&mut self, budget: usize, now: Instant, sink: &mut impl Sink) -> bool {
        let mut left = budget;
        self.hub.offered.clear();
        while left > 0 {
            // Own frames first: replies and heartbeats don't wait for a broadcast to be through.
            if let Some(written) = self.flush_direct(now, sink) {
                left -= usize::from(written);
            } else if let Some(slot) = self.queued.pop_front() {
                left -= usize::from(self.flush_connection(slot, now, sink));
            } else if let Some(key) = self.hub.front_dirty() {
                if self.walk(key, &mut left, now, sink) {
                    self.hub.finish_walk();
                }
            } else {
                break;
            }
        }
        while let Some(slot) = self.broken.pop() {
            self.stats.closed_abruptly += 1;
            self.free(slot, now);
        }
        let own_left = !self.direct.is_empty() || !self.queued.is_empty();
        if self.hub.is_clean() && !own_left {
            let judge = self.hub.judgement != Judgement::Suspended;
            while let Some(key) = self.hub.poll_trim() {
                self.trim(key, judge, now);
            }
            self.hub.judgement = if judge { Judgement::Due } else { Judgement::Overdue };
            self.hub.backlogged = false;
            #[cfg(debug_assertions)]
            if judge && self.connections.len() <= CHECKED_MAX {
                self.hub.check_trimmed(self.config.limits.topic_log_bytes_max);
            }
        }
        self.drain_when_walked(now);
        self.run_work(now);
        self.check_invariants();
        !self.direct.is_empty() || !self.queued.is_empty() || !self.hub.is_clean()
    }

    /// Serves a stream's subscribers from where the last slice ended; whether all have had their turn.
    fn walk(&mut self, key: StreamKey, left: &mut usize, now: Instant, sink: &mut impl Sink) -> bool {
        loop {
            let next = self.next_offers(key, left);
            let Some(stream) = self.hub.stream_ref(key) else { return true };
            if !self.offers.is_empty() {
                sink.send_many(stream.log.tail().0, &mut self.offers);
                self.settle(key, now, |_| true);
            }
            match next {
                Next::Nobody => return true,
                Next::Slice => return false,
                Next::Offers => {}
                Next::Behind => {
                    *left -= 1;
                    self.catch_up(key, now, sink);
                }
            }
        }
    }

    /// Collects those who are offered the tail of the log next, and steps behind them.
    fn next_offers(&mut self, key: StreamKey, left: &mut usize) -> Next {
        self.offers.clear();
        let Some(stream) = self.hub.stream(key) else { return Next::Nobody };
        let (end, (_, tail_start)) = (stream.log.end(), stream.log.tail());
        while let Some(subscriber) = stream.subscribers.get(stream.walked) {
            if *left == 0 {
                return Next::Slice;
            }
            if self.offers.len() == OFFERS_MAX {
                return Next::Offers;
            }
            let index = stream.walked;
            stream.walked += 1;
            if subscriber.cursor == end {
                continue;
            }
            let Some(connection) = self.connections.get_mut(subscriber.slot as usize) else { continue };
            if !connection.is_free() {
                continue;
            }
            if matches!(connection.state, State::Session(_)) {
                connection.queued = true;
                self.queued.push_back(subscriber.slot);
                continue;
            }
            let from = subscriber.cursor.checked_sub(tail_start).and_then(|from| u32::try_from(from).ok());
            let Some(from) = from else {
                stream.walked = index;
                return Next::Behind;
            };
            *left -= 1;
            let id = ConnectionId { slot: subscriber.slot, generation: connection.generation };
            self.offers.push(Offer::new(id, from, index));
        }
        Next::Nobody
    }

    /// Offers the next subscriber what lies in several pieces.
    fn catch_up(&mut self, key: StreamKey, now: Instant, sink: &mut impl Sink) {
        self.offers.clear();
        let Some(stream) = self.hub.stream(key) else { return };
        let index = stream.walked;
        stream.walked += 1;
        let Some(Subscriber { cursor, slot }) = stream.subscribers.get(index).copied() else { return };
        let Some(connection) = self.connections.get(slot as usize) else { return };
        let id = ConnectionId { slot, generation: connection.generation };
        let mut gathered = Gathered::new();
        for piece in stream.log.pieces(cursor, stream.log.end()) {
            if !gathered.add(piece) {
                break;
            }
        }
        let mut offer = Offer::new(id, 0, index);
        offer.set_taken(sink.send(id, gathered.as_slices()));
        let offered = gathered.bytes;
        self.offers.push(offer);
        self.settle(key, now, |taken| taken < offered);
    }

    /// Notes what has come of the offers. A subscriber that is not at the end is blocked or, if it has taken all that
    /// one write holds, goes on with its own flush.
    fn settle(&mut self, key: StreamKey, now: Instant, is_partial: impl Fn(usize) -> bool) {
        let Some(stream) = self.hub.stream(key) else { return };
        let end = stream.log.end();
        let mut caught_up = 0;
        for Offer { id, index, taken, .. } in &self.offers {
            let taken = taken.map(|taken| taken as usize);
            if let Ok(taken) = taken {
                self.stats.bytes_out += taken as u64;
                let subscriber = &mut stream.subscribers[*index as usize];
                subscriber.cursor += taken as u64;
                if subscriber.cursor == end {
                    caught_up += 1;
                    continue;
                }
            }
            let Some(connection) = self.connections.get_mut(id.slot()) else { continue };
            match taken {
                Err(Gone) => {
                    connection.blocked = true;
                    connection.reset = true;
                    self.broken.push(id.slot);
                }
                Ok(taken) if is_partial(taken) => {
                    block(connection, key.topic, end);
                    self.stalls.entry(id.slot).or_insert_with(|| self.deadlines.stall(now)).taken += taken;
                }
                Ok(_) => {
                    connection.queued = true;
                    self.queued.push_back(id.slot);
                }
            }
        }
        stream.behind -= caught_up;
        if stream.behind == 0 {
            stream.log.clear();
        }
    }

    /// Writes what one connection has waiting, its topics included; whether a write was made.
    pub(super) fn flush_connection(&mut self, slot: u32, now: Instant, sink: &mut impl Sink) -> bool {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return false };
        if !std::mem::take(&mut connection.queued) || connection.blocked {
            return false;
        }
        if matches!(connection.state, State::Session(_)) {
            return self.answer_session(slot, now, sink);
        }
        let id = ConnectionId { slot, generation: connection.generation };
        let gathered = gather(connection, &self.hub);
        let (offered, more) = (gathered.bytes, gathered.more);
        let taken = match offered {
            0 => 0,
            _ => match sink.send(id, gathered.as_slices()) {
                Ok(taken) => taken,
                Err(Gone) => {
                    connection.blocked = true;
                    connection.reset = true;
                    self.broken.push(slot);
                    return true;
                }
            },
        };
        self.stats.bytes_out += taken as u64;
        advance(connection, &mut self.hub, taken);
        if taken < offered {
            connection.blocked = true;
            mark_partial(connection, &self.hub);
            self.stalls.entry(slot).or_insert_with(|| self.deadlines.stall(now)).taken += taken;
        } else if more {
            self.queue(slot);
        } else {
            self.stalls.remove(&slot);
            self.emptied(id, now, sink);
        }
        offered > 0
    }

    /// Everything of a connection is written.
    fn emptied(&mut self, id: ConnectionId, now: Instant, sink: &mut impl Sink) {
        let close_timeout = self.config.limits.close_timeout;
        let Some(connection) = self.by_slot(id.slot) else { return };
        match &mut connection.state {
            State::WebSocket(web_socket) => web_socket.pongs_waiting = 0,
            State::Finishing { answered: None } if connection.half_closed => self.free(id.slot, now),
            State::Finishing { answered } => {
                connection.state = State::Lingering { answered: *answered };
                sink.shutdown(id);
                self.deadlines.set(id.slot, now, close_timeout);
            }
            State::HandingOver(hand_over) => {
                let HandOver { shard, bytes, requests, peer } = &mut **hand_over;
                let bytes = std::mem::take(bytes);
                let handed_over = HandedOver { id, shard: *shard, bytes, requests: *requests, peer: *peer };
                self.connections.remove(id.slot());
                self.deadlines.unset(id.slot);
                self.handed_over.push_back(handed_over);
            }
            State::Http(_) | State::Lingering { .. } | State::Session(_) => {}
        }
    }

    /// Frees what no reader needs, and applies the topic's policy to those that lie too far behind if they are
    /// to be judged.
    fn trim(&mut self, key: StreamKey, judge: bool, now: Instant) {
        let bounds = LogBounds::of(&self.config.limits);
        let Some(stream) = self.hub.stream(key) else { return };
        if stream.log.segment_count() > 1 {
            let oldest = stream.subscribers.iter().map(|subscriber| subscriber.cursor).min();
            while oldest.is_some_and(|oldest| stream.log.front_end() <= oldest) && stream.log.len() > 0 {
                stream.log.drop_front();
            }
        }
        stream.excused = !judge;
        if !judge || !stream.log.exceeds(bounds) {
            return;
        }
        let start = stream.log.keep_from(bounds);
        let late: Vec<u32> = stream
            .subscribers
            .iter()
            .filter(|subscriber| subscriber.cursor < start)
            .map(|subscriber| subscriber.slot)
            .collect();
        let route = self.hub.topic(key.topic).route;
        match self.config.router.route(route).slow_reader {
            SlowReader::Close => late.iter().for_each(|slot| self.fail(*slot, Fault::SlowReader, now)),
            SlowReader::Skip => late.iter().for_each(|slot| self.skip_ahead(*slot, key, start)),
        }
        if let Some(stream) = self.hub.stream(key) {
            while stream.log.start() < start && stream.log.len() > 0 {
                stream.log.drop_front();
            }
        }
    }

    /// Moves a subscriber to `start`, behind a notice of what it has missed.
    fn skip_ahead(&mut self, slot: u32, key: StreamKey, start: Position) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let Some(join) = connection.socket().and_then(|socket| socket.joins.by_topic(key.topic)) else {
            return;
        };
        let (index, join_ref) = (join.index, join.join_ref.clone());
        let Some(serializer) = connection.socket().map(|socket| socket.serializer) else { return };
        let topic = self.hub.topic(key.topic).name.clone();
        let Some(stream) = self.hub.stream(key) else { return };
        let (cursor, frame_end) = (stream.cursor(index), stream.log.frame_end(stream.cursor(index)));
        let outbox = &mut connection.outbox;
        let frames = stream.log.frames_between(frame_end, start);
        let skips = outbox.skips_between(key.topic, frame_end, start);
        let missed = outbox.missed(key.topic) + frames.saturating_sub(skips);
        let payload = PayloadBuf::from(serde_json::json!({ "missed": missed }));
        self.scratch.clear();
        let join_ref = join_ref.as_ref().map(RefBuf::as_ref);
        let encoded =
            serializer.encode_push(&mut self.scratch, join_ref, &topic, "gap", payload.as_payload());
        let Ok(kind) = encoded else { return };
        if missed > 0 {
            outbox.put_gap(Gap { topic: key.topic, missed, frame: key.form.wrap(kind, &self.scratch) });
        }
        if frame_end > cursor {
            let rest: Vec<u8> = stream.log.pieces(cursor, frame_end).flatten().copied().collect();
            outbox.put_rest(rest.into_boxed_slice());
        }
        stream.advance(index, start);
        self.skip_receipts(slot, key, frame_end, start);
        self.stats.gaps += 1;
    }
}

/// Notes that the peer takes no more for now. While more than one topic may be written next, the frame that
/// is partly sent is put first.
fn block(connection: &mut Connection, topic: TopicId, end: Position) {
    connection.blocked = true;
    if connection.socket().is_some_and(|socket| socket.joins.len() > 1) {
        connection.outbox.push_front(Entry::Until { topic, position: end });
    }
}

/// The same for a connection whose own flush ended inside a frame of a topic, or that has got a second topic
/// since its only one was written in part.
pub(super) fn mark_partial(connection: &mut Connection, hub: &Hub) {
    if !connection.outbox.is_empty() {
        // An entry that is not through stays first, so the frame goes on there.
        return;
    }
    let Some(socket) = connection.socket() else { return };
    if socket.joins.len() < 2 {
        return;
    }
    let partial = socket.joins.iter().find_map(|join| {
        let stream = hub.stream_ref(StreamKey { topic: join.topic, form: socket.form })?;
        let cursor = stream.cursor(join.index);
        let position = stream.log.end();
        (stream.log.frame_end(cursor) != cursor).then_some(Entry::Until { topic: join.topic, position })
    });
    if let Some(partial) = partial {
        connection.outbox.push_front(partial);
    }
}

/// Where a socket stands in a topic's stream.
fn place<'h>(socket: Option<&Socket>, hub: &'h Hub, topic: TopicId) -> Option<(&'h Stream, u32)> {
    let socket = socket?;
    let join = socket.joins.by_topic(topic)?;
    Some((hub.stream_ref(StreamKey { topic, form: socket.form })?, join.index))
}

/// What a connection is to be sent next, in order: as much as fits into one write.
///
/// How long it takes is bounded by that write, however much waits.
fn gather<'a>(connection: &'a Connection, hub: &'a Hub) -> Gathered<'a> {
    let mut gathered = Gathered::new();
    visit_pieces(connection, hub, |piece| gathered.add(piece));
    gathered
}

/// Visits everything that a connection is to be sent, in order.
pub(super) fn for_each_piece<'a>(connection: &'a Connection, hub: &'a Hub, mut add: impl FnMut(&'a [u8])) {
    visit_pieces(connection, hub, |piece| {
        add(piece);
        true
    });
}

/// Visits what a connection is to be sent, in order, as long as `add` returns true.
fn visit_pieces<'a>(connection: &'a Connection, hub: &'a Hub, mut add: impl FnMut(&'a [u8]) -> bool) {
    let socket = connection.socket();
    // Where the entries so far leave the cursors of the topics they name.
    let mut reached: Vec<(TopicId, Position)> = Vec::new();
    let cursor_of = |reached: &[(TopicId, Position)], topic: TopicId, cursor: Position| {
        reached.iter().rev().find(|(other, _)| *other == topic).map_or(cursor, |(_, at)| cursor.max(*at))
    };
    if let Some(waiting) = connection.outbox.waiting() {
        let mut sent = waiting.sent;
        for entry in &waiting.entries {
            let more = match entry {
                Entry::Frame(bytes) => add(&bytes.as_slice()[std::mem::take(&mut sent)..]),
                Entry::Skip { topic, position } => {
                    reached.push((*topic, *position));
                    true
                }
                Entry::Until { topic, position } => {
                    let Some((stream, index)) = place(socket, hub, *topic) else { continue };
                    let from = cursor_of(&reached, *topic, stream.cursor(index));
                    if from >= *position {
                        continue;
                    }
                    reached.push((*topic, *position));
                    stream.log.pieces(from, *position).all(&mut add)
                }
            };
            if !more {
                return;
            }
        }
    }
    let Some(socket) = socket else { return };
    for join in socket.joins.iter() {
        let Some(stream) = hub.stream_ref(StreamKey { topic: join.topic, form: socket.form }) else {
            continue;
        };
        let from = cursor_of(&reached, join.topic, stream.cursor(join.index));
        if from < stream.log.end() && !stream.log.pieces(from, stream.log.end()).all(&mut add) {
            return;
        }
    }
}

/// Counts `taken` bytes of what [`gather`] has offered as sent.
fn advance(connection: &mut Connection, hub: &mut Hub, mut taken: usize) {
    while let Some(waiting) = connection.outbox.waiting() {
        let Some(entry) = waiting.entries.front() else { break };
        match entry {
            Entry::Frame(bytes) => {
                let left = bytes.as_slice().len() - waiting.sent;
                let part = left.min(taken);
                connection.outbox.advance(part);
                taken -= part;
                if part < left {
                    return;
                }
            }
            Entry::Skip { topic, position } | Entry::Until { topic, position } => {
                let skip = matches!(entry, Entry::Skip { .. });
                let (topic, position) = (*topic, *position);
                if let Some((key, index)) = subscription(connection, topic)
                    && let Some(stream) = hub.stream(key)
                {
                    let left =
                        usize::try_from(position.saturating_sub(stream.cursor(index))).unwrap_or(usize::MAX);
                    let part = if skip { left } else { left.min(taken) };
                    stream.advance(index, stream.cursor(index) + part as u64);
                    taken -= if skip { 0 } else { part };
                    if part < left {
                        return;
                    }
                }
                connection.outbox.pop();
            }
        }
    }
    let Some(socket) = connection.socket() else { return };
    for join in socket.joins.iter() {
        let Some(stream) = hub.stream(StreamKey { topic: join.topic, form: socket.form }) else { continue };
        let cursor = stream.cursor(join.index);
        let left = usize::try_from(stream.log.end() - cursor).unwrap_or(usize::MAX);
        let part = left.min(taken);
        taken -= part;
        stream.advance(join.index, cursor + part as u64);
    }
}

pub(super) fn subscription(connection: &Connection, topic: TopicId) -> Option<(StreamKey, u32)> {
    let socket = connection.socket()?;
    let join = socket.joins.by_topic(topic)?;
    Some((StreamKey { topic, form: socket.form }, join.index))
}
