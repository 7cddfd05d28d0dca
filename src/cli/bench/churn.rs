//! Clients that come and go beside those that stay.

use std::time::Duration;

use super::args::Bench;
use super::clock;
use super::core::Role;
use super::engine::{Engine, Slot, micros};
use crate::load::client::Stage;
use crate::load::outcome::Returns;
use crate::load::times::Times;
use crate::load::wire::{CLOSE, write_frame};

/// How far a client that goes again has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Coming,
    Leaving,
    Closing,
}

/// The clients that come and go.
#[derive(Debug)]
pub(super) struct Churn {
    start: u64,
    end: u64,
    interval: f64,
    begun: u64,
    /// The first place of a client that comes and goes.
    first: u32,
    steps: Vec<Step>,
    free: Vec<u32>,
    joined: u64,
    gone: u64,
    times: Times,
}

impl Churn {
    /// When the next one comes.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    pub(super) fn due(&self) -> Option<u64> {
        let due = self.start + (self.begun as f64 * self.interval) as u64;
        (due < self.end).then_some(due)
    }
}

impl Engine {
    /// Lets clients come and go from now on, for so long.
    pub(super) fn start_churn(&mut self, bench: &Bench, time: Duration) {
        let start = clock();
        self.churn = Some(Churn {
            start,
            end: start.saturating_add(micros(time)),
            interval: 1e6 / bench.churn_rate,
            begun: 0,
            first: self.slots.len() as u32,
            steps: Vec::new(),
            free: Vec::new(),
            joined: 0,
            gone: 0,
            times: Times::default(),
        });
    }

    /// Serves the clients until the last one that comes and goes has gone.
    pub(super) fn end_churn(&mut self, patience: Duration) -> Result<Returns, String> {
        let gone = |engine: &Self| engine.churn.as_ref().map_or(0, |churn| churn.gone + churn.begun);
        let is_over = |engine: &mut Self| {
            let over = |churn: &Churn| churn.due().is_none() && churn.free.len() == churn.steps.len();
            engine.churn.as_ref().is_none_or(over)
        };
        if !self.run(patience, gone, is_over)? {
            self.core.wrong("clients that came and did not get to go");
        }
        let Some(churn) = self.churn.take() else { return Ok(Returns::default()) };
        Ok(Returns { gone: churn.gone, back: churn.joined, latency: churn.times.latency() })
    }

    /// Lets those come whose time it is.
    pub(super) fn churn_due(&mut self, now: u64) {
        while let Some(churn) = self.churn.as_mut().filter(|churn| churn.due().is_some_and(|due| due <= now))
        {
            churn.begun += 1;
            let index = if let Some(index) = churn.free.pop() {
                index
            } else {
                churn.steps.push(Step::Coming);
                self.slots.push(Slot::new(Role::Churner));
                self.slots.len() as u32 - 1
            };
            churn.steps[(index - churn.first) as usize] = Step::Coming;
            self.connect(index, clock());
            if self.slots[index as usize].stream.is_none() {
                self.end_cycle(index);
            }
        }
    }

    /// Has a client that comes and goes take its next step, when the last one is done.
    pub(super) fn churn_step(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let (Some(churn), Some(stream)) = (&mut self.churn, &mut slot.stream) else { return };
        if slot.client.stage != Stage::In {
            return;
        }
        let step = &mut churn.steps[(index - churn.first) as usize];
        if *step == Step::Coming {
            churn.joined += 1;
            churn.times.record(clock().saturating_sub(slot.began));
        }
        self.core.scratch.clear();
        match (*step, &self.core.topic) {
            (Step::Coming, Some(topic)) => {
                slot.client.write_leave(&mut self.core.scratch, topic, 1);
                *step = Step::Leaving;
            }
            (Step::Coming | Step::Leaving, _) => {
                write_frame(&mut self.core.scratch, CLOSE, &1000u16.to_be_bytes());
                *step = Step::Closing;
            }
            (Step::Closing, _) => return,
        }
        self.core.send_scratch(stream);
    }

    /// A client that comes and goes has lost its connection.
    pub(super) fn end_cycle(&mut self, index: u32) {
        let Some(churn) = &mut self.churn else { return };
        churn.free.push(index);
        if churn.steps[(index - churn.first) as usize] == Step::Closing {
            churn.gone += 1;
        } else {
            self.core.wrong("clients that were turned away or lost while they came and went");
        }
    }
}
