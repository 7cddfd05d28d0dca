//! Arithmetic on the figures of processes.

use super::outcome::{ProcessFigures, ServerFigures};

impl ProcessFigures {
    /// Processor time, user and kernel, in microseconds.
    #[must_use]
    pub fn cpu_micros(&self) -> u64 {
        self.user_micros.saturating_add(self.system_micros)
    }

    /// What has come since `earlier`, where both are cumulative; memory is that of the later one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user_micros: self.user_micros.saturating_sub(earlier.user_micros),
            system_micros: self.system_micros.saturating_sub(earlier.system_micros),
            voluntary_switches: self.voluntary_switches.saturating_sub(earlier.voluntary_switches),
            involuntary_switches: self.involuntary_switches.saturating_sub(earlier.involuntary_switches),
            system_calls: self
                .system_calls
                .zip(earlier.system_calls)
                .map(|(later, earlier)| later.saturating_sub(earlier)),
            rss_bytes: self.rss_bytes,
            pss_bytes: self.pss_bytes,
        }
    }
}

/// Cumulative figures of the server at the borders of a run's parts.
#[derive(Debug, Clone, Copy)]
pub struct Borders {
    /// Before the first client connects.
    pub before: ProcessFigures,
    /// When the last one is in.
    pub joined: ProcessFigures,
    /// When what is measured begins.
    pub begin: ProcessFigures,
    /// When it ends.
    pub end: ProcessFigures,
}

impl ServerFigures {
    /// What the figures come to for one delivery and one client. What there is none of has no figure, nor has
    /// memory that couldn't be read or didn't grow.
    #[must_use]
    pub fn of(borders: &Borders, clients: u64, deliveries: u64) -> Self {
        let connecting = borders.joined.since(&borders.before);
        let measured = borders.end.since(&borders.begin);
        let grown = |memory: fn(&ProcessFigures) -> u64| {
            let (before, after) = (memory(&borders.before), memory(&borders.joined));
            (before > 0 && after > before).then(|| share(after - before, clients)).flatten()
        };
        Self {
            measured,
            connecting,
            micros_per_delivery: share(measured.cpu_micros(), deliveries),
            micros_per_join: share(connecting.cpu_micros(), clients),
            rss_per_client: grown(|figures| figures.rss_bytes),
            pss_per_client: grown(|figures| figures.pss_bytes),
            system_calls_per_delivery: measured.system_calls.and_then(|calls| share(calls, deliveries)),
        }
    }
}

fn share(total: u64, among: u64) -> Option<f64> {
    (among > 0).then(|| total as f64 / among as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(cpu: u64, rss: u64, calls: Option<u64>) -> ProcessFigures {
        ProcessFigures {
            user_micros: cpu / 4,
            system_micros: cpu - cpu / 4,
            voluntary_switches: cpu / 10,
            involuntary_switches: cpu / 100,
            system_calls: calls,
            rss_bytes: rss,
            pss_bytes: rss / 2,
        }
    }

    #[test]
    fn figures_are_subtracted() {
        let since = figures(1_000, 700, Some(90)).since(&figures(400, 900, Some(40)));
        let expected = ProcessFigures {
            user_micros: 150,
            system_micros: 450,
            voluntary_switches: 60,
            involuntary_switches: 6,
            system_calls: Some(50),
            rss_bytes: 700,
            pss_bytes: 350,
        };
        assert_eq!(since, expected);
        assert_eq!(since.cpu_micros(), 600);
        assert_eq!(figures(9, 1, Some(2)).since(&figures(5, 1, None)).system_calls, None);
        assert_eq!(figures(5, 1, None).since(&figures(9, 1, None)).cpu_micros(), 0);
    }

    #[test]
    fn a_server_s_figures_are_for_one_delivery_and_one_client() {
        let borders = Borders {
            before: figures(1_000, 10_000, Some(0)),
            joined: figures(3_000, 14_000, Some(500)),
            begin: figures(3_500, 14_500, Some(600)),
            end: figures(9_500, 15_000, Some(1_600)),
        };
        let server = ServerFigures::of(&borders, 10, 1_000);
        assert_eq!(server.micros_per_join, Some(200.0));
        assert_eq!(server.micros_per_delivery, Some(6.0));
        assert_eq!(server.rss_per_client, Some(400.0));
        assert_eq!(server.pss_per_client, Some(200.0));
        assert_eq!(server.system_calls_per_delivery, Some(1.0));
        assert_eq!(server.measured.rss_bytes, 15_000);
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        let none = figures(1, 0, None);
        let borders = Borders { before: none, joined: none, begin: none, end: figures(8, 5, None) };
        let server = ServerFigures::of(&borders, 0, 0);
        assert_eq!(
            (server.micros_per_join, server.micros_per_delivery, server.rss_per_client),
            (None, None, None)
        );
        // Memory of nothing is memory that couldn't be read.
        let unread = Borders { joined: figures(8, 5_000, None), ..borders };
        assert_eq!(ServerFigures::of(&unread, 5, 0).rss_per_client, None);
    }
}
