//! Publishing: a message when the last one has come, or by a schedule that waits for nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::Waker;

use super::api::Api;
use super::clock;
use super::core::Role;
use super::engine::{Engine, micros};
use super::workers::Workers;
use crate::load::client::Stage;
use crate::load::message::{Kind, Stamp};
use crate::load::outcome::Publishing;

/// What leaves later than this behind its place in the schedule is told.
const LATE_MICROS: u64 = 1_000;
/// Before somebody's own message is taken to go to others alone.
const ECHO_PATIENCE: Duration = Duration::from_millis(300);

/// What is published.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Messages in one piece.
    pub(super) burst: u32,
    /// Pieces in a second; `None` in a closed loop.
    pub(super) rate: Option<f64>,
    /// Messages, if that is the end of it.
    pub(super) messages: Option<u32>,
    /// The time, if that is.
    pub(super) duration: Option<Duration>,
}

/// A schedule: the piece with number n leaves at `start + n / rate`.
#[derive(Debug)]
pub(super) struct Open {
    plan: Plan,
    start: u64,
    pieces: u64,
    end: u64,
    interval: f64,
    late: u64,
    late_max: u64,
    ticker: Option<Ticker>,
}

impl Open {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn due(&self) -> u64 {
        self.start + (self.pieces as f64 * self.interval) as u64
    }

    fn is_done(&self, published: u32) -> bool {
        self.due() >= self.end || self.plan.messages.is_some_and(|messages| published >= messages)
    }
}

/// Wakes the loop when a piece is due: waiting for events is only exact to a millisecond.
#[derive(Debug)]
struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(waker: Arc<Waker>, rate: f64) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let start = Instant::now();
        let work = move || {
            let mut ticks = 0u32;
            while !stopped.load(Ordering::Relaxed) {
                ticks += 1;
                let due = start + Duration::from_secs_f64(f64::from(ticks) / rate);
                std::thread::sleep(
                    due.saturating_duration_since(Instant::now()).min(Duration::from_millis(100)),
                );
                if due > Instant::now() {
                    ticks -= 1;
                } else if waker.wake().is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("schedule".to_owned()).spawn(work).ok();
        thread.map(|thread| Self { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends by itself within a tenth of a second.
            let _ = thread.join();
        }
    }
}

impl Engine {
    /// Those who are to get a message of the common topic.
    pub(super) fn audience(&self) -> u32 {
        self.core.joined + self.pollers_in() + u32::from(self.core.publisher_in && self.core.probe.echoed)
    }

    fn publisher(&self) -> Option<u32> {
        let at = self.slots.iter().rposition(|slot| slot.role == Role::Publisher)?;
        u32::try_from(at).ok()
    }

    /// Publishes so many messages in one piece, which were to leave then.
    fn publish(&mut self, count: u32, kind: Kind, scheduled: u64) {
        if self.private.is_some() {
            (0..count).for_each(|_| self.publish_private(kind, scheduled));
            return self.handle_api();
        }
        let audience = self.audience();
        if self.api.is_some() {
            for _ in 0..count {
                let stamp = self.core.ledger.publish(kind, scheduled, audience);
                let message = self.speech.messages.api_json(None, stamp);
                if let Some(api) = &mut self.api {
                    api.add(message);
                }
            }
            return self.handle_api();
        }
        let Some(index) = self.publisher() else { return };
        for _ in 0..count {
            let stamp = self.core.ledger.publish(kind, scheduled, audience);
            self.write_push(index, stamp);
        }
        self.send_unsent();
    }

    fn write_push(&mut self, index: u32, stamp: Stamp) {
        let client = &mut self.slots[index as usize].client;
        let push_ref = client.take_ref();
        self.speech.messages.write_push(&mut self.unsent, None, 1, push_ref, stamp);
    }

    /// Publishes what the schedule says.
    #[inline]
    pub(super) fn publish_due(&mut self, now: u64) {
        while let Some(open) = &mut self.open {
            let due = open.due();
            if due > now || open.is_done(self.core.ledger.next_number()) {
                return;
            }
            let late = now - due;
            open.late += u64::from(late > LATE_MICROS);
            open.late_max = open.late_max.max(late);
            open.pieces += 1;
            let burst = open.plan.burst;
            self.publish(burst, Kind::Measured, due);
        }
    }

    /// Finds out whether who publishes gets its own messages, and whether anybody does.
    pub(super) fn probe(&mut self, patience: Duration) -> Result<(), String> {
        let Some(index) = self.publisher() else { return Ok(()) };
        self.write_push(index, Stamp { kind: Kind::Probe, number: 0, micros: clock() });
        self.send_unsent();
        let all = self.core.joined;
        let seen = |engine: &Self| u64::from(engine.core.probe.seen);
        if !self.run(patience, seen, |engine| engine.core.probe.seen >= all)? {
            return Err(format!(
                "a first message came to {} of {all} clients: does the server send every text to all who are connected?",
                self.core.probe.seen
            ));
        }
        self.run(ECHO_PATIENCE, |_| 0, |engine| engine.core.probe.echoed)?;
        Ok(())
    }

    /// Publishes messages that are not measured, one at a time.
    pub(super) fn warm_up(&mut self, plan: &Plan, messages: u32, patience: Duration) -> Result<(), String> {
        let mut left = messages;
        while left > 0 {
            let piece = plan.burst.min(left);
            self.publish(piece, Kind::WarmUp, clock());
            left -= piece;
            if !self.drain(patience)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Serves the clients until all have everything; whether that was so.
    fn drain(&mut self, patience: Duration) -> Result<bool, String> {
        let received = |engine: &Self| {
            engine.core.ledger.checks.received + engine.workers.as_ref().map_or(0, Workers::progress)
        };
        if self.run(patience, received, |engine| {
            engine.core.ledger.open == 0
                && engine.unsent.is_empty()
                && engine.api.as_ref().is_none_or(Api::is_idle)
                && engine
                    .workers
                    .as_ref()
                    .is_none_or(|workers| workers.have(engine.core.ledger.next_number()))
        })? {
            return Ok(true);
        }
        let lost = self.core.ledger.lost();
        self.core.wrong(format!("waits of {patience:?} for messages that did not come ({lost})"));
        self.core.ledger.give_up();
        Ok(false)
    }

    /// Publishes everything, and waits until it has come.
    pub(super) fn publish_all(&mut self, plan: &Plan, patience: Duration) -> Result<Publishing, String> {
        let before = self.core.ledger.next_number();
        let begun = clock();
        let mut publishing = match plan.rate {
            None => self.publish_closed(plan, before, patience)?,
            Some(rate) => self.publish_open(plan, rate, before, patience)?,
        };
        publishing.published = u64::from(self.core.ledger.next_number() - before);
        let seconds = clock().saturating_sub(begun) as f64 / 1e6;
        if publishing.per_second == 0.0 && seconds > 0.0 {
            publishing.per_second = publishing.published as f64 / seconds;
        }
        Ok(publishing)
    }

    fn publish_closed(&mut self, plan: &Plan, before: u32, patience: Duration) -> Result<Publishing, String> {
        let end = plan.duration.map_or(u64::MAX, |time| clock() + micros(time));
        loop {
            let published = self.core.ledger.next_number() - before;
            let left = plan.messages.map_or(u32::MAX, |messages| messages.saturating_sub(published));
            if left == 0 || clock() >= end {
                break;
            }
            self.publish(plan.burst.min(left), Kind::Measured, clock());
            if !self.drain(patience)? || !self.is_whole() {
                break;
            }
        }
        Ok(Publishing::default())
    }

    fn publish_open(
        &mut self,
        plan: &Plan,
        rate: f64,
        before: u32,
        patience: Duration,
    ) -> Result<Publishing, String> {
        let start = clock();
        let messages = plan.messages.map(|messages| messages + before);
        let end = plan.duration.map_or(u64::MAX, |time| start + micros(time));
        self.open = Some(Open {
            plan: Plan { messages, ..*plan },
            start,
            pieces: 0,
            end,
            interval: 1e6 / rate,
            late: 0,
            late_max: 0,
            ticker: Ticker::start(self.waker(), rate),
        });
        loop {
            let published = self.core.ledger.next_number();
            let Some(open) = self.open.as_ref().filter(|open| !open.is_done(published)) else { break };
            if !self.is_whole() {
                break;
            }
            let due = open.due().min(open.end);
            self.turn(due)?;
        }
        let Some(mut open) = self.open.take() else { return Ok(Publishing::default()) };
        open.ticker = None;
        let seconds = clock().saturating_sub(start) as f64 / 1e6;
        self.drain(patience)?;
        let published = f64::from(self.core.ledger.next_number() - before);
        Ok(Publishing {
            wanted_per_second: Some(rate * f64::from(plan.burst)),
            per_second: if seconds > 0.0 { published / seconds } else { 0.0 },
            late: open.late,
            late_max_micros: open.late_max,
            ..Publishing::default()
        })
    }

    /// Whether somebody is there to publish, and to hear it.
    fn is_whole(&self) -> bool {
        let publisher = self.publisher().map(|at| self.slots[at as usize].client.stage);
        let can_publish = self.private.is_some() || self.api.is_some() || publisher == Some(Stage::In);
        can_publish && self.audience() > 0
    }
}
