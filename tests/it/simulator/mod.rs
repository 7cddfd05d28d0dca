//! A node on virtual time with pretended clients, all of whose choices come from a seed.
//!
//! Real endpoints and a real broker are driven step by step in an order that no event loop would choose;
//! clients join, push, stall, break rules and vanish. [`world`] notes what happens, [`reader`] checks what each
//! client gets of it. `HAILER_SEEDS=1000` runs so many seeds, `HAILER_SEED=7` runs one; a failure prints its
//! seed and the last steps.

mod client;
mod reader;
mod receipts;
pub(crate) mod rng;
mod sim;
mod steps;
mod wire;
mod world;

use std::collections::VecDeque;
use std::time::Duration;

use hailer::limits::Limits;
use hailer::stats::Stats;

use rng::Rng;
use sim::Sim;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 200;

#[test]
fn clients_get_exactly_what_they_are_to_get() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().expect("a number"));
    match number("HAILER_SEED") {
        Some(seed) => _ = run(seed),
        None => {
            let seeds = number("HAILER_SEEDS").unwrap_or(SEEDS);
            let mut sum = Stats::default();
            let mut settled = 0;
            for seed in 0..seeds {
                let (stats, receipts) = run(seed);
                sum += stats;
                settled += receipts;
            }
            if seeds >= SEEDS {
                check_reach(&sum);
                assert!(settled > 0, "no run has known the receipts of a broadcast exactly");
            }
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in [1, 2, 3] {
        let [first, second] = [Sim::new(seed), Sim::new(seed)].map(|mut sim| (sim.run(), sim.trace.steps()));
        assert_eq!(first, second, "seed {seed}");
    }
}

/// What a run has counted, and for how many broadcasts their receipts were known exactly.
fn run(seed: u64) -> (Stats, usize) {
    let mut sim = Sim::new(seed);
    (sim.run(), sim.receipts.exact)
}

/// Fails if the runs have not got to what they are made for.
fn check_reach(sum: &Stats) {
    // The event loop alone counts this; and the rest are what there is, which is nothing at the end.
    let mut never = vec!["accept_paused", "connections", "web_sockets", "sessions", "topics"];
    // These clients are on WebSockets.
    never.extend([
        "sessions_opened",
        "sessions_refused",
        "sessions_without_room",
        "sessions_expired",
        "polls",
        "posts",
        "lines_refused",
    ]);
    never.extend(["answers_repeated", "handed_over", "body_timeouts"]);
    // All payloads have the shape that the channel reads, and there is no plain WebSocket.
    never.extend(["payloads_invalid", "closed_crashed"]);
    // There is no service.
    never.extend(["calls", "calls_refused", "calls_timed_out"]);
    // Nobody is asked who they are.
    let users = [
        "connects_",
        "renewals",
        "token_",
        "origins_refused",
        "subprotocols_refused",
        "closed_disconnected",
        "closed_stay_away",
        "closed_denied",
    ];
    let is_of_users = |name: &str| {
        users.iter().any(|prefix| name.starts_with(prefix))
            || ["closed_token_expired", "closed_key_removed"].contains(&name)
    };
    for (name, value, _) in sum.table() {
        println!("{name}: {value}");
        assert!(value > 0 || never.contains(&name) || is_of_users(name), "no run has counted {name}");
    }
}

/// What a run is like.
struct Settings {
    shards: u16,
    clients_max: usize,
    steps: usize,
    /// Mailboxes are so small that broadcasts are refused.
    tiny: bool,
    /// How many topics the clients know, and how many in a hundred of them speak V1.
    topics: usize,
    v1_percent: usize,
    drain_at: Option<usize>,
    short_percent: usize,
    /// How likely each kind of step is, in the order of [`steps`].
    weights: [usize; steps::KINDS.len()],
    limits: Limits,
}

impl Settings {
    fn new(rng: &mut Rng) -> Self {
        let tiny = rng.chance(20);
        let steps = rng.range(100, 3000);
        let mut limits = Limits::default();
        limits.topic_log_bytes_max = *rng.pick(&[4096, 4096, 8192, 100_000]);
        limits.outbox_bytes_max = *rng.pick(&[1024, 4096, 64 * 1024, 64 * 1024]);
        limits.channels_per_socket_max = *rng.pick(&[2, 4, 4]);
        limits.pongs_waiting_max = *rng.pick(&[1, 4, 16]);
        limits.connections_per_shard_max = *rng.pick(&[3, 1000, 1000]);
        limits.receipts_tracked_max = *rng.pick(&[2, 12, 12]);
        limits.idle_timeout = Duration::from_secs(10);
        limits.stall_timeout = Duration::from_secs(8);
        limits.stall_bytes_min = *rng.pick(&[1, 500]);
        limits.head_timeout = Duration::from_secs(6);
        limits.keep_alive_timeout = Duration::from_secs(6);
        limits.close_timeout = Duration::from_secs(5);
        if tiny {
            limits.mailbox_bytes_max = *rng.pick(&[4000, 10_000]);
            limits.mailbox_commands_max = *rng.pick(&[5, 20]);
        }
        Self {
            shards: *rng.pick(&[1, 1, 1, 2, 2, 3, 4]),
            clients_max: rng.range(2, 24),
            topics: rng.range(1, 4),
            v1_percent: *rng.pick(&[0, 40, 100]),
            steps,
            tiny,
            drain_at: rng.chance(25).then(|| rng.below(steps)),
            short_percent: *rng.pick(&[0, 5, 40]),
            // Runs that are all alike would all miss the same.
            weights: steps::KINDS.map(|(_, weight)| weight * rng.pick(&[1, 3, 3, 3, 9])),
            limits,
        }
    }
}

/// The last steps of a run, which a failure prints.
struct Trace {
    seed: u64,
    steps: VecDeque<String>,
    /// The kind of step that is under way.
    begun: &'static str,
}

impl Trace {
    const KEPT: usize = 30;

    fn note(&mut self, step: String) {
        if self.steps.len() == Self::KEPT {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    fn steps(&self) -> Vec<String> {
        self.steps.iter().cloned().collect()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the last steps:\n  {}\nand then {}", self.steps().join("\n  "), self.begun);
            eprintln!("to repeat: HAILER_SEED={}", self.seed);
        }
    }
}
