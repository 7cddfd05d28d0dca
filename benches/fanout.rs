//! What one subscriber of a broadcast costs in user space: `cargo bench --bench fanout`
//!
//! Time per element is time per subscriber and turn; the sockets take everything and cost nothing.

#![allow(clippy::disallowed_methods)]

mod support;

use std::net::Ipv4Addr;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use support::Crowd;

fn broadcast(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broadcast");
    group.sample_size(20);
    for subscribers in [1_000, 10_000, 100_000] {
        let mut crowd = Crowd::of(subscribers);
        group.throughput(Throughput::Elements(subscribers as u64));
        for burst in [1, 20] {
            group.bench_function(BenchmarkId::new(format!("burst of {burst}"), subscribers), |bencher| {
                bencher.iter(|| crowd.broadcast(burst, "maintenance in 5 minutes"));
            });
        }
    }
    group.finish();
}

/// A broadcast to clients that all wait with a poll. Sending the next polls is not counted.
fn polls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broadcast to polls");
    group.sample_size(20);
    let count = 10_000;
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function("10000", |bencher| {
        bencher.iter_custom(|times| {
            let mut crowd = Crowd::empty();
            let tokens = crowd.open_sessions(count);
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..times {
                tokens.iter().for_each(|token| crowd.poll(token));
                let begin = std::time::Instant::now();
                crowd.broadcast(1, "maintenance in 5 minutes");
                spent += begin.elapsed();
                crowd.end_polls();
            }
            spent
        });
    });
    group.finish();
}

fn private(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one client among 10,000");
    let mut crowd = Crowd::of(10_000);
    let id = crowd.ids[5_000];
    group.bench_function("heartbeat", |bencher| {
        bencher.iter(|| crowd.text(id, r#"[null,"5","phoenix","heartbeat",{}]"#));
    });
    group.bench_function("join and leave", |bencher| {
        bencher.iter(|| {
            crowd.text(id, r#"["2","2","room:1","phx_join",{}]"#);
            crowd.text(id, r#"["2","3","room:1","phx_leave",{}]"#);
        });
    });
    group.finish();
}

fn sweep(criterion: &mut Criterion) {
    let mut crowd = Crowd::of(100_000);
    let step = std::time::Duration::from_millis(250);
    criterion.bench_function("sweep of 100,000 deadlines", |bencher| {
        bencher.iter(|| {
            // One deadline is always near, so that every tick sweeps.
            let id = crowd.endpoint.accept(Ipv4Addr::LOCALHOST.into(), crowd.now).expect("there is room");
            crowd.endpoint.handle_timeout(crowd.now + step);
            crowd.endpoint.handle_error(id, crowd.now);
            while crowd.endpoint.poll_closed().is_some() {}
        });
    });
}

criterion_group!(benches, broadcast, polls, private, sweep);
criterion_main!(benches);
