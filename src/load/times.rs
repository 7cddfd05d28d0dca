//! Very many times, of which percentiles are told.

use std::fmt;

use hdrhistogram::Histogram;

use super::outcome::{Latency, PERCENTILES};

/// An hour: what takes longer counts as an hour.
const MICROS_MAX: u64 = 3_600_000_000;

/// Times in microseconds, kept with three digits.
#[derive(Clone)]
pub struct Times(Histogram<u64>);

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Times").field(&self.0.len()).finish()
    }
}

impl Default for Times {
    fn default() -> Self {
        // The bounds are good by themselves.
        Self(Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("an hour has three digits"))
    }
}

impl Times {
    /// Adds one.
    #[inline]
    pub fn record(&mut self, micros: u64) {
        self.0.saturating_record(micros.max(1));
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// A percentile, in microseconds; 0 of no times.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.value_at_percentile(percent) }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// What is told of them; `None` of no times.
    #[must_use]
    pub fn latency(&self) -> Option<Latency> {
        if self.0.is_empty() {
            return None;
        }
        let percentiles = PERCENTILES.iter().map(|percent| self.0.value_at_percentile(*percent)).collect();
        Some(Latency { count: self.0.len(), mean: self.0.mean(), percentiles })
    }

    /// All of them as values and how often each is there, so that another process can add them exactly.
    #[must_use]
    pub fn to_pairs(&self) -> Vec<(u64, u64)> {
        self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }

    /// Adds those of another process.
    pub fn add_pairs(&mut self, pairs: &[(u64, u64)]) {
        for (value, count) in pairs {
            self.0.saturating_record_n(*value, *count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_told_and_survive_the_way_to_another_process() {
        let mut times = Times::default();
        (1..=100_000).for_each(|micros| times.record(micros));
        let mut other = Times::default();
        other.record(1);
        other.clear();
        other.add_pairs(&times.to_pairs());
        assert_eq!(other.to_pairs(), times.to_pairs());
        let latency = other.latency().unwrap();
        assert_eq!(latency, times.latency().unwrap());
        assert_eq!(latency.count, 100_000);
        for (percent, micros) in PERCENTILES.iter().zip(&latency.percentiles) {
            let exact = percent * 1_000.0;
            #[allow(clippy::cast_precision_loss)]
            let told = *micros as f64;
            assert!((told - exact).abs() <= exact / 1_000.0, "{percent}: {told}");
        }
    }

    #[test]
    fn no_times_and_endless_times() {
        let mut times = Times::default();
        assert_eq!((times.latency(), times.percentile(50.0)), (None, 0));
        times.record(u64::MAX);
        times.record(0);
        let latency = times.latency().unwrap();
        assert!(latency.percentiles[6] >= MICROS_MAX, "{latency:?}");
    }
}
