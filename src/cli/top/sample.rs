//! What the server says of itself, and how it changes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::cli::client::Client;
use crate::desk::{ConnectionPage, ConnectionView, TopicPage, TopicView};

/// Topics and connections that are asked for: as many as a tall terminal shows.
const LISTED: &str = "50";
/// Looks that are remembered: as many as a wide terminal shows.
const HISTORY: usize = 512;

/// Declares what only grows: the fields, and the metric of each.
macro_rules! counters {
    ($($(#[doc = $doc:literal])* $field:ident = $metric:literal;)*) => {
        /// What only grows.
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub(super) struct Counters {
            $($(#[doc = $doc])* pub(super) $field: f64,)*
        }

        impl Counters {
            fn read(metrics: &str) -> Self {
                Self { $($field: metric(metrics, $metric, None).unwrap_or(0.0),)* }
            }

            /// How much each has grown in a second. A counter that is less than before belongs to another process.
            fn rates(self, before: Self, elapsed: Duration) -> Self {
                let seconds = elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
                Self { $($field: (self.$field - before.$field).max(0.0) / seconds,)* }
            }
        }
    };
}

counters! {
    /// Broadcasts.
    broadcasts = "hailer_broadcasts_total";
    /// Messages to clients.
    messages_out = "hailer_sent_messages_total";
    /// Messages from clients.
    messages_in = "hailer_received_messages_total";
    /// Bytes to clients.
    bytes_out = "hailer_sent_bytes_total";
    /// Bytes from clients.
    bytes_in = "hailer_received_bytes_total";
}

/// One look at the server.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) websocket: u64,
    pub(super) longpoll: u64,
    pub(super) counters: Counters,
    /// Those with most subscribers.
    pub(super) topics: TopicPage,
    /// Those for which most bytes wait.
    pub(super) slowest: ConnectionPage,
}

/// Asks the server.
pub(super) fn take(client: &Client) -> Result<Sample, String> {
    let metrics = client.get_text("/metrics")?;
    let at = Instant::now();
    let open = |transport| metric(&metrics, "hailer_connections", Some(("transport", transport)));
    let (Some(websocket), Some(longpoll)) = (open("websocket"), open("longpoll")) else {
        return Err(client.no_api("its metrics are not those of Hailer"));
    };
    let limit = ("limit", Some(LISTED));
    let topics = client.get("/api/v1/topics", &[limit])?;
    let slowest = client.get("/api/v1/connections", &[("order", Some("slowest")), limit])?;
    let counters = Counters::read(&metrics);
    Ok(Sample { at, websocket: websocket as u64, longpoll: longpoll as u64, counters, topics, slowest })
}

/// The value of a metric in Prometheus' text: that of the series with a label of this value, or the sum of all series.
fn metric(text: &str, name: &str, label: Option<(&str, &str)>) -> Option<f64> {
    let label = label.map(|(name, value)| format!("{name}=\"{value}\""));
    let mut sum = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some(rest) = line.strip_prefix(name) else { continue };
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}').unwrap_or(("", "")),
            None => ("", rest),
        };
        if !rest.starts_with(' ') {
            continue;
        }
        let is_meant = label.as_ref().is_none_or(|label| labels.split(',').any(|found| found == label));
        if let Some(value) = rest.split_whitespace().next().and_then(|value| value.parse::<f64>().ok())
            && is_meant
        {
            sum = Some(sum.unwrap_or(0.0) + value);
        }
    }
    sum
}

/// What is shown.
pub(super) struct View {
    /// Where the API is.
    pub(super) base: String,
    pub(super) last: Sample,
    /// How much each counter grows in a second; `None` before there are two looks.
    pub(super) rates: Option<Counters>,
    /// Messages to clients in a second, the newest last.
    pub(super) deliveries: VecDeque<u64>,
    /// Why the last look has failed.
    pub(super) error: Option<String>,
    /// Time between two looks.
    pub(super) interval: Duration,
    /// Whether it is shown what the words mean.
    pub(super) help: bool,
}

impl View {
    pub(super) fn new(base: &str, interval: Duration, first: Sample) -> Self {
        Self {
            base: base.to_owned(),
            last: first,
            rates: None,
            deliveries: VecDeque::new(),
            error: None,
            interval,
            help: false,
        }
    }

    pub(super) fn add(&mut self, sample: Sample) {
        let elapsed = sample.at.saturating_duration_since(self.last.at);
        let rates = sample.counters.rates(self.last.counters, elapsed);
        if self.deliveries.len() == HISTORY {
            self.deliveries.pop_front();
        }
        self.deliveries.push_back(rates.messages_out.round() as u64);
        (self.rates, self.last, self.error) = (Some(rates), sample, None);
    }

    /// What was seen last stays, with a word about why it is old.
    pub(super) fn fail(&mut self, error: String) {
        self.error = Some(error);
    }

    pub(super) fn topics(&self) -> &[TopicView] {
        &self.last.topics.topics
    }

    /// The connections for which something waits.
    pub(super) fn slowest(&self) -> impl Iterator<Item = &ConnectionView> {
        self.last.slowest.connections.iter().filter(|view| view.waiting_bytes > 0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli::top) const METRICS: &str = "\
# HELP hailer_connections Open sockets.
# TYPE hailer_connections gauge
hailer_connections{transport=\"websocket\"} 120
hailer_connections{transport=\"longpoll\"} 7
hailer_connections_other 9
hailer_broadcasts_total 40
hailer_sent_bytes_total{a=\"b, c\",d=\"}\"} 1000 1795431845
hailer_sent_bytes_total{a=\"c\"} 24.5
# EOF
";

    #[test]
    fn metrics_are_found_by_name_and_label() {
        let check =
            |name, label, expected| assert_eq!(metric(METRICS, name, label), expected, "{name} {label:?}");
        check("hailer_connections", Some(("transport", "websocket")), Some(120.0));
        check("hailer_connections", Some(("transport", "longpoll")), Some(7.0));
        check("hailer_connections", Some(("transport", "pigeon")), None);
        check("hailer_connections", None, Some(127.0));
        check("hailer_broadcasts_total", None, Some(40.0));
        check("hailer_sent_bytes_total", None, Some(1024.5));
        check("hailer_broadcasts", None, None);
    }

    pub(in crate::cli::top) fn sample(at: Instant, messages_out: f64) -> Sample {
        let counters = Counters { messages_out, bytes_out: messages_out * 100.0, ..Counters::default() };
        let (topics, slowest) = (TopicPage::default(), ConnectionPage::default());
        Sample { at, websocket: 120, longpoll: 7, counters, topics, slowest }
    }

    #[test]
    fn rates_are_those_of_the_time_between_two_looks() {
        let at = Instant::now();
        let mut view = View::new("http://a", Duration::from_secs(1), sample(at, 1000.0));
        assert_eq!(view.rates, None);
        view.add(sample(at + Duration::from_secs(2), 1500.0));
        assert_eq!(view.rates.map(|rates| (rates.messages_out, rates.bytes_out)), Some((250.0, 25_000.0)));
        view.fail("gone".to_owned());
        assert_eq!((view.error.as_deref(), view.last.counters.messages_out), (Some("gone"), 1500.0));
        // The server was started again.
        view.add(sample(at + Duration::from_secs(3), 10.0));
        assert_eq!((view.rates.map(|rates| rates.messages_out), view.error), (Some(0.0), None));
        assert_eq!(view.deliveries, [250, 0]);
    }

    #[test]
    fn the_history_is_bounded() {
        let at = Instant::now();
        let mut view = View::new("http://a", Duration::from_secs(1), sample(at, 0.0));
        for second in 1..=2 * HISTORY as u32 {
            view.add(sample(at + Duration::from_secs(1) * second, 10.0 * f64::from(second)));
        }
        assert_eq!(view.deliveries.len(), HISTORY);
        assert!(view.deliveries.iter().all(|rate| *rate == 10));
    }
}
