//! Reports of a run that has everything, and of one that has nothing.

use super::super::outcome::{
    Connecting, Deliveries, Latency, Outcome, ProcessFigures, Publishing, Returns, Sample, ServerFigures,
    SlowReaders,
};
use super::comparison::{Comparison, Figure, Spread};
use super::{html, html_of, text};

fn latency(scale: u64) -> Option<Latency> {
    let percentiles = [1, 2, 4, 9, 20, 45, 80].map(|times| times * scale).to_vec();
    Some(Latency { count: 3_000, mean: scale as f64 * 1.5, percentiles })
}

fn used(user_micros: u64, system_micros: u64) -> ProcessFigures {
    ProcessFigures {
        user_micros,
        system_micros,
        voluntary_switches: 1_234,
        involuntary_switches: 56,
        system_calls: Some(3_100_000),
        rss_bytes: 12 << 20,
        pss_bytes: 11 << 20,
    }
}

/// A good run.
fn outcome() -> Outcome {
    let series = (1..=20).map(|at| Sample {
        at: at as f64,
        clients: (at * 2_000).min(10_000),
        deliveries: if at > 6 { 140_000 + (at * 7_919) % 9_000 } else { 0 },
        p50_micros: if at > 6 { 30_000 + at * 400 } else { 0 },
        p99_micros: if at > 6 { 62_000 + (at * 7_919) % 9_000 } else { 0 },
        server_cpu_micros: if at > 6 { 920_000 + at * 900 } else { 60_000 },
        server_rss_bytes: (5 << 20) + at.min(6) * (1 << 20),
    });
    Outcome {
        scenario: "fan-out".to_owned(),
        protocol: "phoenix".to_owned(),
        target: "ws://127.0.0.1:4000/socket/websocket".to_owned(),
        settings: [
            ("bytes", "64"),
            ("clients", "10000"),
            ("connect-rate", "2000"),
            ("case", "64 B to 10,000"),
            ("server", "hailer"),
            ("round", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        slow: None,
        started_unix: 1_700_000_000,
        seconds: 20.0,
        measured_seconds: 14.0,
        connecting: Connecting {
            wanted: 10_000,
            joined: 10_000,
            seconds: 5.0,
            per_second: 2_000.0,
            upgrade: latency(90),
            join: latency(60),
        },
        publishing: Some(Publishing {
            published: 300,
            wanted_per_second: Some(25.0),
            per_second: 21.4,
            late: 2,
            late_max_micros: 1_500,
        }),
        deliveries: Deliveries {
            expected: 3_000_000,
            received: 3_000_000,
            per_second: 214_286.0,
            latency: latency(9_000),
            last: latency(17_000),
            ..Deliveries::default()
        },
        heartbeats: latency(40),
        returns: Some(Returns { gone: 50, back: 50, latency: latency(1_000) }),
        generator: used(2_000_000, 4_300_000),
        generator_processes: 1,
        server: Some(ServerFigures {
            measured: used(1_000_000, 17_600_000),
            connecting: used(40_000, 160_000),
            micros_per_delivery: Some(6.2),
            micros_per_join: Some(20.0),
            rss_per_client: Some(317.5),
            pss_per_client: Some(316.0),
            system_calls_per_delivery: Some(1.033),
        }),
        series: series.collect(),
        errors: [].into(),
    }
}

#[test]
fn an_outcome_survives_json() {
    for outcome in [outcome(), Outcome::default()] {
        let json = serde_json::to_string(&outcome).expect("it can be written");
        assert_eq!(serde_json::from_str::<Outcome>(&json).expect("it can be read"), outcome);
    }
}

#[test]
fn a_person_reads_this() {
    let expected = "\
fan-out over phoenix to ws://127.0.0.1:4000/socket/websocket, 20.0 s

clients         10,000 of 10,000 in 5.00 s, 2,000 a second
published       300 messages, 21.4 of 25.0 wanted a second
delivered       3,000,000 of 3,000,000, 214,286 a second
                none lost, none doubled, none out of order
returned        50 of 50

latency               p50      p75      p90      p99    p99.9   p99.99      max
upgrade             90 µs   180 µs   360 µs   810 µs  1.80 ms  4.05 ms  7.20 ms
join                60 µs   120 µs   240 µs   540 µs  1.20 ms  2.70 ms  4.80 ms
delivery          9.00 ms  18.0 ms  36.0 ms  81.0 ms   180 ms   405 ms   720 ms
last subscriber   17.0 ms  34.0 ms  68.0 ms   153 ms   340 ms   765 ms   1.36 s
heartbeat           40 µs    80 µs   160 µs   360 µs   800 µs  1.80 ms  3.20 ms
return            1.00 ms  2.00 ms  4.00 ms  9.00 ms  20.0 ms  45.0 ms  80.0 ms

server CPU      6.20 µs per delivery, 20.0 µs per client that came in
                18.6 s while measured: 1.00 s user, 17.6 s system
server memory   318 B per client (PSS 316 B), 12.0 MiB in the end
switches        1,234 voluntary, 56 involuntary
system calls    3,100,000, 1.03 per delivery
load tool       CPU 45 % of its time, 2 messages behind the schedule, the latest
                by 1.50 ms
";
    assert_eq!(text(&outcome()), expected);
}

#[test]
fn what_was_not_measured_is_left_out() {
    let text =
        text(&Outcome { scenario: "idle".to_owned(), protocol: "plain".to_owned(), ..Outcome::default() });
    assert_eq!(
        text,
        "idle over plain to , 0 s\n\nclients         0 of 0 in 0 s, 0 a second\n\
         load tool       CPU – of its time\n"
    );
}

/// What is said below the figures of a run that `spoil` has spoilt.
#[track_caller]
fn check_said(spoil: impl FnOnce(&mut Outcome), expected: &str) {
    let mut outcome = outcome();
    spoil(&mut outcome);
    let text = text(&outcome);
    let said = text
        .split_once("load tool")
        .and_then(|(_, rest)| rest.split_once("\n\n"))
        .map_or("", |parts| parts.1);
    assert_eq!(said.trim_end(), expected);
    let page = html(&outcome);
    for line in expected.lines() {
        let sentence = &line[16..];
        assert!(page.contains(sentence), "{sentence} is not in the page");
    }
    assert_eq!(page.contains("Nothing went wrong"), !expected.contains("failed"));
}

#[test]
fn faults_and_doubts_are_told() {
    check_said(|_| {}, "");
    check_said(|outcome| outcome.deliveries.lost = 1_200, "failed          1,200 deliveries lost");
    check_said(
        |outcome| (outcome.deliveries.doubled, outcome.deliveries.out_of_order) = (1, 2),
        "failed          1 deliveries received twice or more\nfailed          2 deliveries out of order",
    );
    check_said(
        |outcome| outcome.connecting.joined = 9_990,
        "failed          10 of 10,000 clients did not come in",
    );
    check_said(
        |outcome| outcome.returns.as_mut().expect("it has some").back = 49,
        "failed          1 of 50 clients did not come back",
    );
    check_said(
        |outcome| _ = outcome.errors.insert("connection refused".to_owned(), 3),
        "failed          3 × connection refused",
    );
    check_said(
        |outcome| outcome.generator = used(3_000_000, 10_000_000),
        "warning         the load tool itself used 93 % of its time: it was the\n                bottleneck, give it more processes",
    );
    check_said(
        |outcome| (outcome.generator, outcome.generator_processes) = (used(3_000_000, 10_000_000), 2),
        "",
    );
    check_said(
        |outcome| outcome.publishing.as_mut().expect("it publishes").late = 30,
        "warning         the schedule was missed: 30 of 300 messages left late, the\n                latest by 1.50 ms",
    );
    check_said(
        |outcome| {
            let publishing = outcome.publishing.as_mut().expect("it publishes");
            (publishing.late, publishing.wanted_per_second) = (30, None);
        },
        "",
    );
}

#[test]
fn a_page_stands_alone_and_its_charts_can_be_read() {
    let page = html(&outcome());
    for part in [
        "<!DOCTYPE html>",
        "lang=\"en\"",
        "prefers-color-scheme: dark",
        "@media print",
        "2023-11-14T22:13:20Z",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    for part in ["<script", " src=", "<link", "url(", "@import", "NaN"] {
        assert!(!page.contains(part), "{part} is there");
    }
    let titles = [
        "Latency by percentile",
        "Clients that are in",
        "Deliveries a second",
        "Latency of deliveries over time",
        "Server CPU, share of a core",
        "Server memory, resident",
    ];
    for title in titles {
        assert!(page.contains(&format!("\">{title}</title><desc")), "no chart {title}");
    }
    assert_eq!(page.matches("role=\"img\"").count(), titles.len());
    // What the charts show stands beside them, too: the last subscriber's greatest latency, the eighth second.
    for cell in ["1.36 s", "33.2 ms"] {
        assert!(page.contains(&format!("<td class=\"number\">{cell}</td>")), "no cell {cell}");
    }
}

#[test]
fn a_page_of_several_runs_has_each_id_once() {
    let page = html_of(&[outcome(), outcome(), Outcome::default()]);
    let mut ids: Vec<&str> =
        page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().expect("it ends")).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "{ids:?}");
    for at in 0..3 {
        assert!(page.contains(&format!("href=\"#run-{at}\"")) && ids.contains(&&*format!("run-{at}")));
    }
}

#[test]
fn nothing_of_a_run_becomes_markup() {
    let evil = "<script>alert('&\"')</script>";
    let mut outcome = outcome();
    outcome.target = evil.to_owned();
    outcome.scenario = evil.to_owned();
    outcome.protocol = evil.to_owned();
    outcome.settings =
        ["case", "server", "round", evil].map(|name| (name.to_owned(), evil.to_owned())).into();
    outcome.errors.insert(evil.to_owned(), 1);
    let runs = [outcome];
    let comparison = Comparison::of(&runs, Some(evil)).expect("it is one run");
    for page in [html(&runs[0]), html_of(&runs), comparison.html()] {
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;"));
    }
    assert!(!comparison.markdown().contains("<script"));
}

fn run(server: &str, round: u32, cpu: f64) -> Outcome {
    let mut outcome = outcome();
    outcome.settings.insert("server".to_owned(), server.to_owned());
    outcome.settings.insert("round".to_owned(), round.to_string());
    outcome.server.as_mut().expect("it is watched").micros_per_delivery = Some(cpu);
    outcome.deliveries.per_second = 1e6 / cpu;
    outcome
}

#[test]
fn a_median_is_the_middle() {
    let median = |values: &[f64]| Spread::of(values.to_vec()).map(|spread| spread.median);
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[3.0]), Some(3.0));
    assert_eq!(median(&[9.0, 1.0, 3.0]), Some(3.0));
    assert_eq!(median(&[4.0, 1.0, 9.0, 2.0]), Some(3.0));
    let spread = Spread::of(vec![9.0, 1.0, 3.0]).expect("there are values");
    assert_eq!((spread.min, spread.max, spread.count), (1.0, 9.0, 3));
}

#[test]
fn ratios_are_taken_within_a_round() {
    // The machine doubles its time in the second round: medians of all rounds would say 1.5, and 12 by 5.
    let runs = [
        run("hailer", 1, 4.0),
        run("floor", 1, 5.0),
        run("hailer", 2, 12.0),
        run("floor", 2, 10.0),
        run("hailer", 3, 5.0),
        run("floor", 3, 5.0),
        // A round without the base has a figure, but no ratio.
        run("hailer", 4, 100.0),
    ];
    let comparison = Comparison::of(&runs, Some("floor")).expect("they fit");
    assert_eq!(comparison.servers(), ["floor", "hailer"]);
    assert_eq!(comparison.cases(), ["64 B to 10,000"]);
    let cell = comparison.cell(Figure::CpuPerDelivery, "64 B to 10,000", "hailer").expect("it ran");
    assert_eq!(cell.figure, Spread { median: 8.5, min: 4.0, max: 100.0, count: 4 });
    assert_eq!(cell.ratio, Some(Spread { median: 1.0, min: 0.8, max: 1.2, count: 3 }));
    assert_eq!(comparison.cell(Figure::CpuPerDelivery, "64 B to 10,000", "nobody"), None);
    assert_eq!(comparison.cell(Figure::CpuPerDelivery, "another", "hailer"), None);
}

#[test]
fn a_comparison_is_a_table_for_each_figure() {
    let mut runs =
        vec![run("floor", 1, 6.0), run("hailer", 1, 6.3), run("floor", 2, 6.2), run("hailer", 2, 6.2)];
    runs.push(run("bun|axum", 1, 8.0));
    for run in &mut runs {
        let server = run.server.as_mut().expect("it is watched");
        (server.micros_per_join, server.rss_per_client) = (None, None);
    }
    runs[3].deliveries.lost = 7;
    let markdown = Comparison::of(&runs, Some("floor")).expect("they fit").markdown();
    let table = markdown.split("### ").nth(1).expect("it has tables").trim_end();
    assert_eq!(
        table,
        "Server CPU per delivery\n\n| case | floor | hailer | bun\\|axum |\n|---|---:|---:|---:|\n\
         | 64 B to 10,000 | **6.10 µs (2)** | 6.25 µs (2), 1.02\u{a0}× (1.00–1.05) | 8.00 µs (1), 1.33\u{a0}× |"
    );
    let titles: Vec<&str> = markdown.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(
        titles,
        [
            "Server CPU per delivery",
            "Deliveries a second",
            "Latency of deliveries, 99th percentile",
            "Runs with something to mind"
        ]
    );
    assert!(markdown.contains("\n- 64 B to 10,000, hailer, round 2: 7 deliveries lost\n"), "{markdown}");
    // More deliveries are better, less time is.
    let best = markdown.split("### ").nth(2).expect("it has tables");
    assert!(best.contains("| **164,000 (2)** |") || best.contains("| **163,978 (2)** |"), "{best}");
    let page = Comparison::of(&runs, None).expect("they fit").html();
    assert!(
        page.contains("6.10 µs (2)") && page.contains("7 deliveries lost") && !page.contains('×'),
        "{page}"
    );
}

#[test]
fn rounds_are_counted_where_they_have_no_label() {
    let mut runs = vec![run("floor", 1, 6.0), run("floor", 1, 8.0)];
    let twice = Comparison::of(&runs, None).map(|_| ()).expect_err("it is the same run twice");
    assert_eq!(twice, "two runs are of floor in round 1 of \"64 B to 10,000\"");
    for run in &mut runs {
        run.settings.clear();
    }
    let comparison = Comparison::of(&runs, None).expect("they fit");
    assert_eq!(comparison.cases(), ["fan-out"]);
    assert_eq!(comparison.servers(), ["ws://127.0.0.1:4000/socket/websocket"]);
    let cell = comparison.cell(Figure::CpuPerDelivery, "fan-out", comparison.servers()[0]).expect("it ran");
    assert_eq!((cell.figure.median, cell.figure.count, cell.ratio), (7.0, 2, None));
    let nobody = Comparison::of(&runs, Some("bun")).map(|_| ()).expect_err("none is of it");
    assert_eq!(nobody, "no run is of \"bun\": there are ws://127.0.0.1:4000/socket/websocket");
}

#[test]
fn messages_that_are_left_out_are_told_and_are_no_fault() {
    let mut outcome = outcome();
    outcome.deliveries.pushed = 1_200;
    let told = "left out        1,200 messages that the topic keeps for who joins later";
    assert!(text(&outcome).lines().any(|line| line == told), "{}", text(&outcome));
    assert!(html(&outcome).contains("1,200 messages that the topic keeps"));
    outcome.deliveries.pushed = 1;
    assert!(text(&outcome).contains("1 message that"));
}

#[test]
fn no_line_is_wider_than_a_terminal() {
    let mut outcome = outcome();
    outcome
        .errors
        .insert(format!("unknown messages, such as {}", "[null,null, \"room:lobby\"] ".repeat(9)), 402);
    for line in text(&outcome).lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn those_that_stop_reading_are_told() {
    let mut outcome = outcome();
    outcome.slow = Some(SlowReaders {
        readers: 20,
        caught_up: 1,
        behind: 2,
        closed: [("4008".to_owned(), 16), ("none".to_owned(), 1)].into(),
        rss_growth_per_reader: Some(70.0 * 1024.0),
    });
    let told = "20: 1 caught up, 2 behind, 16 closed (4008), 1 closed (none); the server grew by ";
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&text(&outcome)).contains(&words(told)), "{}", text(&outcome));
    assert!(html(&outcome).contains(told));
}
