//! Deadlines: one coarse number per connection in a dense array, swept when the nearest may be due.

use std::time::{Duration, Instant};

use super::Endpoint;
use crate::connection::{Bytes, State};
use crate::fault::Fault;
use crate::http;

/// The grain of all deadlines. A deadline is met at most this much late.
const TICK: Duration = Duration::from_millis(TICK_MILLIS);
const TICK_MILLIS: u64 = 250;
const TICKS_PER_SECOND: u64 = 1000 / TICK_MILLIS;
pub(super) const NEVER: u32 = u32::MAX;

/// When each connection has to have done something, in ticks since the endpoint began.
pub(super) struct Deadlines {
    epoch: Instant,
    due: Vec<u32>,
    /// No deadline is nearer. It may be too early: a heartbeat moves a deadline without looking for the next.
    nearest: u32,
    stalls_checked: u32,
}

/// How a connection that is behind gets on.
pub(super) struct Stall {
    since: u32,
    pub(super) taken: usize,
}

impl Deadlines {
    pub(super) fn new(epoch: Instant) -> Self {
        Self { epoch, due: Vec::new(), nearest: NEVER, stalls_checked: 0 }
    }

    /// Times before the epoch, as a caller's clock may give once, count as the epoch.
    fn tick(&self, at: Instant) -> u32 {
        let since = at.saturating_duration_since(self.epoch);
        // Every read asks, and a division of 128 bits would be the longest part of a heartbeat.
        let ticks = since
            .as_secs()
            .saturating_mul(TICKS_PER_SECOND)
            .saturating_add(u64::from(since.subsec_millis()) / TICK_MILLIS);
        u32::try_from(ticks).unwrap_or(NEVER - 1)
    }

    /// The connection has `within` from `now`.
    pub(super) fn set(&mut self, slot: u32, now: Instant, within: Duration) {
        let due = self.tick(now + within).saturating_add(1).min(NEVER - 1);
        let slot = slot as usize;
        if slot >= self.due.len() {
            self.due.resize(slot + 1, NEVER);
        }
        self.due[slot] = due;
        self.nearest = self.nearest.min(due);
    }

    pub(super) fn unset(&mut self, slot: u32) {
        if let Some(due) = self.due.get_mut(slot as usize) {
            *due = NEVER;
        }
    }

    pub(super) fn epoch(&self) -> Instant {
        self.epoch
    }

    pub(super) fn clear(&mut self) {
        self.due = Vec::new();
        self.nearest = NEVER;
    }

    /// Gives back what those had who stood in places from `capacity` on.
    pub(super) fn shrink(&mut self, capacity: usize) {
        shrink_to_places(&mut self.due, capacity);
    }

    pub(super) fn next(&self, stalls: bool) -> Option<Instant> {
        let stalls_due = if stalls { self.stalls_checked.saturating_add(4) } else { NEVER };
        match self.nearest.min(stalls_due) {
            NEVER => None,
            tick => Some(self.epoch + TICK * tick),
        }
    }

    pub(super) fn stall(&self, now: Instant) -> Stall {
        Stall { since: self.tick(now), taken: 0 }
    }

    /// The connections whose time is up.
    fn take_due(&mut self, now: Instant) -> Vec<u32> {
        let tick = self.tick(now);
        let mut due = Vec::new();
        if tick < self.nearest {
            return due;
        }
        self.nearest = NEVER;
        for (number, block) in self.due.chunks_mut(BLOCK).enumerate() {
            let left = take_due_of(block, number * BLOCK, tick, |slot| due.push(slot));
            self.nearest = self.nearest.min(left);
        }
        due
    }
}

/// Deadlines that are compared with one look: nearly all blocks have none that is due.
pub(super) const BLOCK: usize = 256;

/// Takes those of a block's numbers that are up, and returns the nearest of the others.
pub(super) fn take_due_of(block: &mut [u32], from: usize, until: u32, mut take: impl FnMut(u32)) -> u32 {
    let mut nearest = block.iter().copied().min().unwrap_or(NEVER);
    if nearest <= until {
        nearest = NEVER;
        for (slot, at) in (from..).zip(block) {
            if *at <= until {
                *at = NEVER;
                // Places are 32 bits wide.
                take(u32::try_from(slot).unwrap_or(u32::MAX));
            } else {
                nearest = nearest.min(*at);
            }
        }
    }
    nearest
}

/// Gives back the end of an array with a number for each place, once it is the most of it.
pub(super) fn shrink_to_places(numbers: &mut Vec<u32>, capacity: usize) {
    if numbers.capacity() > 4096 && numbers.capacity() / 4 > capacity {
        numbers.truncate(capacity);
        numbers.shrink_to(capacity * 2);
    }
}

impl Endpoint {
    /// Time has passed: ends what has overstayed its deadline.
    pub fn handle_timeout(&mut self, now: Instant) {
        for slot in self.deadlines.take_due(now) {
            self.expire(slot, now);
        }
        self.check_stalls(now);
        self.check_tokens(now);
        self.run_work(now);
        self.check_invariants();
    }

    fn expire(&mut self, slot: u32, now: Instant) {
        let Some(connection) = self.by_slot(slot) else { return };
        match &connection.state {
            State::Http(http) if http.parked.is_some() => {
                if let (Some(session), Some(id)) = (http.parked, self.id(slot)) {
                    self.expire_poll(id, session, now);
                }
            }
            State::Http(http) if http.connecting.is_some() => {
                if let Some(id) = self.id(slot) {
                    self.expire_connect(id, now);
                }
            }
            State::Http(http) if http.calling.is_some() => {
                if let Some(id) = self.id(slot) {
                    self.expire_call(id, now);
                }
            }
            State::Http(http) if http.body.is_some() || !http.buffer.is_empty() => {
                let text = if http.body.is_some() {
                    self.stats.body_timeouts += 1;
                    "the body did not come whole within body_timeout\n"
                } else {
                    self.stats.head_timeouts += 1;
                    "the request did not come whole within head_timeout\n"
                };
                let mut bytes = Vec::new();
                http::Response::text(http::Status::RequestTimeout, text).write(&mut bytes, false, false);
                self.queue_bytes(slot, Bytes::Owned(bytes.into()));
                self.finish(slot, now);
            }
            // An answer is still being taken; whether fast enough is for the stall check to say.
            State::Http(_) if !connection.outbox.is_empty() => {
                self.deadlines.set(slot, now, self.config.limits.keep_alive_timeout);
            }
            // While it is not read from, whether it says anything is not known: the stall check ends it.
            State::WebSocket(web_socket) if !web_socket.closing => match self.is_paused(slot) {
                true => self.deadlines.set(slot, now, self.config.limits.idle_timeout),
                false => self.fail(slot, Fault::Idle, now),
            },
            State::WebSocket(_) => {
                self.stats.closed_abruptly += 1;
                self.free(slot, now);
            }
            State::Http(http) => {
                // Between two requests there is no head to wait for, and nobody to tell.
                self.stats.head_timeouts += u64::from(http.requests == 0);
                self.free(slot, now);
            }
            State::Session(_) => {
                self.stats.sessions_expired += 1;
                self.free(slot, now);
            }
            State::HandingOver(_) | State::Finishing { .. } | State::Lingering { .. } => self.free(slot, now),
        }
    }

    /// Ends the connections that have taken too little of what waits for them.
    fn check_stalls(&mut self, now: Instant) {
        let tick = self.deadlines.tick(now);
        if self.stalls.is_empty() || tick < self.deadlines.stalls_checked.saturating_add(4) {
            return;
        }
        self.deadlines.stalls_checked = tick;
        let limits = &self.config.limits;
        let patience = u32::try_from(limits.stall_timeout.as_millis() / TICK.as_millis()).unwrap_or(NEVER);
        let mut stalled = Vec::new();
        for (slot, stall) in &mut self.stalls {
            if tick.saturating_sub(stall.since) < patience {
                continue;
            }
            if stall.taken < limits.stall_bytes_min {
                stalled.push(*slot);
            } else {
                *stall = Stall { since: tick, taken: 0 };
            }
        }
        // The order of the map is another in each process; what is seen from outside is not to depend on it.
        stalled.sort_unstable();
        for slot in stalled {
            self.stalls.remove(&slot);
            match self.by_slot(slot).map(|connection| &connection.state) {
                Some(State::WebSocket(web_socket)) if !web_socket.closing => {
                    self.fail(slot, Fault::Stalled, now);
                }
                Some(_) => self.free(slot, now),
                None => {}
            }
        }
    }
}
