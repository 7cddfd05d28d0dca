//! Whether all that is counted is told, and all that is told is described.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;

/// A snapshot in which everything is known.
fn full() -> Snapshot {
    let mut timings = Timings::default();
    timings.turns.observe(Duration::from_micros(70));
    timings.turns.observe(Duration::from_secs(20));
    timings.broadcasts.observe(Duration::from_millis(30));
    Snapshot {
        shards: 2,
        shards_answering: 2,
        stats: Stats::numbered(),
        topics: Stats::numbered().topics,
        calls: Stats::numbered(),
        timings,
        #[cfg(feature = "accounts")]
        accounts: Some(AccountsStats::default()),
        denials: Some(3),
        store: Some(StoreVitals::default()),
        process: Process {
            resident_bytes: Some(1),
            virtual_bytes: Some(2),
            threads: Some(3),
            cpu_seconds: Some(4.5),
            descriptors: Some(6),
            descriptors_max: Some(7),
        },
        guesses: [101, 102, 103],
        dropped_log_lines: Some(104),
        started: 1_800_000_000_500,
        ..Snapshot::default()
    }
}

/// The samples of a text: names with their labels, and values. Fails if it is no text of OpenMetrics.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("the text has its end");
    let mut samples = BTreeMap::new();
    let mut family = String::new();
    for line in body.lines() {
        if let Some(about) = line.strip_prefix("# ") {
            let mut words = about.split(' ');
            assert!(matches!(words.next(), Some("HELP" | "TYPE" | "UNIT")), "{line}");
            family = words.next().expect("it names a metric").to_owned();
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
        assert!(name.starts_with(&family), "{name} stands below {family}");
        let value = value.parse().expect("a value is a number");
        assert_eq!(samples.insert(name.to_owned(), value), None, "{name} stands twice");
    }
    samples
}

/// The metrics of a text, by the names that their samples have.
fn families(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let name = |(name, kind)| match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => String::from(name),
    };
    types.map(name).collect()
}

#[test]
fn every_counter_is_among_the_metrics() {
    let samples = samples(&render(full()));
    // Of these the metrics have what the counters beside them leave over.
    let divided = ["connections", "closed_bad_frame", "closed_disconnected"];
    for (name, value, _) in Stats::numbered().table() {
        #[allow(clippy::cast_precision_loss)]
        let told = samples.values().any(|sample| *sample == value as f64);
        assert!(told || divided.contains(&name), "{name} is in no metric");
    }
}

#[test]
fn what_a_close_has_in_common_with_others_is_counted_once() {
    let mut snapshot = full();
    snapshot.stats = Stats::default();
    snapshot.stats.closed_bad_frame = 10;
    snapshot.stats.closed_bad_text = 3;
    snapshot.stats.closed_too_big = 2;
    snapshot.stats.closed_disconnected = 7;
    snapshot.stats.closed_stay_away = 4;
    let samples = samples(&render(snapshot));
    let closes = |code: u16, reason: &str| {
        samples[&format!("hailer_closes_total{{by=\"server\",code=\"{code}\",reason=\"{reason}\"}}")]
    };
    assert_eq!(closes(1002, "bad_frame"), 5.0);
    assert_eq!((closes(1007, "bad_text"), closes(1009, "too_big")), (3.0, 2.0));
    assert_eq!((closes(1001, "disconnected"), closes(1000, "stay_away")), (3.0, 4.0));
}

#[test]
fn a_histogram_adds_up() {
    let samples = samples(&render(full()));
    let turns = |rest: &str| samples[&format!("hailer_loop_turn_seconds{rest}")];
    assert_eq!((turns("_count"), turns("_sum")), (2.0, 20.00007));
    assert_eq!((turns("_bucket{le=\"0.00005\"}"), turns("_bucket{le=\"0.0001\"}")), (0.0, 1.0));
    assert_eq!((turns("_bucket{le=\"10.0\"}"), turns("_bucket{le=\"+Inf\"}")), (1.0, 2.0));
}

#[test]
fn what_is_not_known_is_left_out() {
    let text = render(Snapshot::default());
    samples(&text);
    for name in ["hailer_store", "hailer_accounts", "hailer_denials", "hailer_log", "process_open_fds"] {
        assert!(!text.contains(name), "{name} in {text}");
    }
}

const GUIDE: &str = include_str!("../../../docs/metrics.md");

/// The cells in code of the guide's tables, row by row.
fn rows() -> Vec<Vec<&'static str>> {
    let rows = GUIDE.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split(" | ").filter_map(|cell| cell.trim_start_matches("| ").strip_prefix('`')))
        .map(|cells| cells.filter_map(|cell| cell.split('`').next()).collect())
        .collect()
}

#[cfg(feature = "accounts")]
#[test]
fn the_guide_lists_the_metrics_and_no_others() {
    let listed: BTreeSet<String> = rows()
        .into_iter()
        .map(|row| row[0].split('{').next().unwrap_or_default().to_owned())
        .filter(|name| name.starts_with("hailer_") || name.starts_with("process_"))
        .collect();
    assert_eq!(listed, families(&render(full())));
}

#[test]
fn the_guide_lists_the_values_of_labels() {
    let rows = rows();
    let values = |labels: &[(&str, &'static str)]| labels.iter().map(|(_, value)| *value).collect::<Vec<_>>();
    let told: Vec<Vec<&str>> =
        CLOSES.iter().chain(REFUSALS).chain(CALL_REFUSALS).map(|(labels, _)| values(labels)).collect();
    for labels in &told {
        assert!(rows.contains(labels), "docs/metrics.md has no row for {labels:?}");
    }
    let is_of_labels = |row: &&Vec<&str>| !row[0].starts_with("hailer_") && !row[0].starts_with("process_");
    for row in rows.iter().filter(is_of_labels) {
        assert!(told.contains(row), "docs/metrics.md has a row for {row:?}");
    }
}
