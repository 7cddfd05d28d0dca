//! Frames for one connection alone that nothing stands before: replies to clients that have got everything.
//!
//! They lie one behind the other in one buffer of the shard until the flush writes them from there, so that a
//! heartbeat, a join or an upgrade allocates nothing for its answer. A connection has one stretch of that buffer at
//! most. Whatever does not fit, and whatever else comes for the connection in the same turn, goes into its outbox;
//! the stretch is then put before it.

use std::io::IoSlice;
use std::time::Instant;

use super::Endpoint;
use super::flush::{Gone, Sink};
use crate::connection::{Bytes, Connection, ConnectionId, Entry, State};
use crate::hub::{Hub, StreamKey};

/// The most bytes of one connection. Most answers have less than a hundred.
const STRETCH_BYTES_MAX: usize = 2048;
/// The most bytes of all connections: what is kept for the next turn.
const BYTES_MAX: usize = 64 * 1024;
/// The most connections; as many events come from the kernel at once.
const STRETCHES_MAX: usize = 1024;

/// One connection's part of the buffer.
#[derive(Clone, Copy)]
struct Stretch {
    id: ConnectionId,
    begin: usize,
    end: usize,
}

/// What is to be written to connections that wait for nothing else.
#[derive(Default)]
pub(super) struct Direct {
    bytes: Vec<u8>,
    stretches: Vec<Stretch>,
    /// Stretches that have been dealt with.
    done: usize,
}

impl Direct {
    pub(super) fn is_empty(&self) -> bool {
        self.done == self.stretches.len()
    }

    /// Forgets what was queued for a connection.
    pub(super) fn discard(&mut self, id: ConnectionId) {
        if let Some(stretch) = self.stretches[self.done..].iter_mut().find(|stretch| stretch.id == id) {
            stretch.end = stretch.begin;
        }
    }

    /// Whether there is room for so many bytes more behind the last ones.
    fn has_room(&self, bytes: usize) -> bool {
        self.bytes.len() + bytes <= BYTES_MAX
    }

    /// The next stretch that is to be written.
    fn next(&mut self) -> Option<Stretch> {
        let stretch = self.stretches.get(self.done).copied();
        match stretch {
            Some(_) => self.done += 1,
            // The room stays for the next turn.
            None => {
                self.bytes.clear();
                self.stretches.clear();
                self.done = 0;
            }
        }
        stretch
    }
}

impl Endpoint {
    /// Queues a frame of `len` bytes for one connection, which `write` appends to what it is given, behind all that
    /// its topics hold for it so far.
    pub(super) fn queue_frame(&mut self, slot: u32, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if self.make_room(slot, len) {
            let begin = self.direct.bytes.len();
            write(&mut self.direct.bytes);
            debug_assert_eq!(self.direct.bytes.len(), begin + len, "a frame has the length that was given");
            if let Some(stretch) = self.direct.stretches.last_mut() {
                stretch.end = self.direct.bytes.len();
            }
        } else {
            let mut bytes = Vec::with_capacity(len);
            write(&mut bytes);
            self.queue_bytes(slot, Bytes::Owned(bytes.into_boxed_slice()));
        }
    }

    /// Whether the next `len` bytes of the buffer belong to the last stretch, and that is the connection's.
    fn make_room(&mut self, slot: u32, len: usize) -> bool {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return false };
        // What waits here does not count against the limit, so it is to be little compared with it.
        let most = STRETCH_BYTES_MAX.min(self.config.limits.outbox_bytes_max / 4);
        if !self.direct.has_room(len) || len > most || !is_caught_up(connection, &self.hub) {
            return false;
        }
        let id = ConnectionId { slot, generation: connection.generation };
        if !connection.queued {
            let begin = self.direct.bytes.len();
            let fits = self.direct.stretches.len() < STRETCHES_MAX;
            if fits {
                connection.queued = true;
                self.direct.stretches.push(Stretch { id, begin, end: begin });
            }
            return fits;
        }
        let last = self.direct.stretches[self.direct.done..].last();
        last.is_some_and(|last| last.id == id && last.end - last.begin + len <= most)
    }

    /// Writes the next stretch; whether a write was made. `None`: there is none.
    pub(super) fn flush_direct(&mut self, now: Instant, sink: &mut impl Sink) -> Option<bool> {
        let Stretch { id, begin, end } = self.direct.next()?;
        let Some(connection) =
            self.connections.get_mut(id.slot()).filter(|connection| connection.generation == id.generation)
        else {
            return Some(false);
        };
        let bytes = &self.direct.bytes[begin..end];
        let is_alone = matches!(connection.state, State::WebSocket(_)) && is_caught_up(connection, &self.hub);
        if !is_alone || bytes.is_empty() {
            if !bytes.is_empty() {
                connection.outbox.push_front(Entry::Frame(Bytes::Owned(bytes.into())));
            }
            return Some(self.flush_connection(id.slot, now, sink));
        }
        connection.queued = false;
        match sink.send(id, &[IoSlice::new(bytes)]) {
            Ok(taken) => {
                self.stats.bytes_out += taken as u64;
                let rest = &bytes[taken..];
                if !rest.is_empty() {
                    connection.outbox.push(Entry::Frame(Bytes::Owned(rest.into())));
                    if taken > 0 {
                        connection.outbox.go_on();
                    }
                    connection.blocked = true;
                    self.stalls.entry(id.slot).or_insert_with(|| self.deadlines.stall(now)).taken += taken;
                }
            }
            Err(Gone) => {
                connection.blocked = true;
                connection.reset = true;
                self.broken.push(id.slot);
            }
        }
        Some(true)
    }
}

/// Whether nothing waits for a connection but what has been queued for it here.
fn is_caught_up(connection: &Connection, hub: &Hub) -> bool {
    if connection.blocked || !connection.outbox.is_empty() {
        return false;
    }
    let Some(socket) = connection.socket() else { return true };
    socket.joins.iter().all(|join| {
        let stream = hub.stream_ref(StreamKey { topic: join.topic, form: socket.form });
        stream.is_none_or(|stream| stream.behind == 0 || stream.cursor(join.index) == stream.log.end())
    })
}
