//! What very many joined connections cost one shard: memory, and the time that anybody waits.
//!
//! The sockets are pretended, so all of it is user space.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use hailer::endpoint::{ConnectionId, Gone, Sink};
use hailer::testing::write_masked;

use super::Crowd;

/// Writes of one slice, as a server's `writes_per_turn` has it.
const SLICE: usize = 1024;
/// Phoenix clients send one every 30 seconds.
const HEARTBEAT_SECONDS: usize = 30;
const ROUNDS: usize = 5;

/// Takes everything; notes when somebody was first written to.
#[derive(Default)]
struct Watching {
    writes: u64,
    watched: Option<ConnectionId>,
    written: Option<Instant>,
}

impl Sink for Watching {
    fn send(&mut self, id: ConnectionId, pieces: &[IoSlice<'_>]) -> Result<usize, Gone> {
        self.writes += 1;
        if self.watched == Some(id) {
            self.watched = None;
            self.written = Some(Instant::now());
        }
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn shutdown(&mut self, _: ConnectionId) {}
}

/// Who the clients are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    /// Nobody is known, and all have joined the lobby.
    Anonymous,
    /// Each has a token of eight claims, and a topic of its own besides the lobby.
    Users,
}

/// What a run has come to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) clients: usize,
    pub(crate) asked_each: f64,
    pub(crate) resident_each: f64,
    pub(crate) join_each: Duration,
    /// The longest that a connect, a join or a turn between took, and at which client.
    pub(crate) join_longest: (Duration, usize),
    /// A broadcast, for each subscriber: right after all have joined, and after half of them have been replaced.
    pub(crate) broadcast_each: [f64; 2],
    /// The longest that a heartbeat waited during those broadcasts.
    pub(crate) heartbeat_waited: [Duration; 2],
    pub(crate) heartbeat_each: Duration,
    /// Looking at all deadlines.
    pub(crate) sweep: Duration,
    /// When 99 of 100 have left: what is left, for each that was there.
    pub(crate) left_asked: f64,
    pub(crate) left_resident: f64,
    /// Deliveries that were missing or too many, in all broadcasts.
    pub(crate) wrong: u64,
}

/// Resident memory of this process, in bytes.
fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    pages.and_then(|pages| pages.split(' ').nth(1)?.parse::<f64>().ok()).map_or(0.0, |pages| pages * 4096.0)
}

fn per(bytes: f64, count: usize) -> f64 {
    bytes / count as f64
}

/// Joins the clients of these numbers; the longest that one has taken, and which.
fn join(crowd: &mut Crowd, who: Who, numbers: std::ops::Range<usize>) -> (Duration, usize) {
    let mut longest = (Duration::ZERO, 0);
    crowd.ids.reserve_exact(numbers.len());
    for number in numbers {
        let begin = Instant::now();
        match who {
            Who::Anonymous => crowd.join(1),
            Who::Users => crowd.join_user(number),
        }
        longest = longest.max((begin.elapsed(), number));
    }
    longest
}

fn leave(crowd: &mut Crowd, ids: impl Iterator<Item = ConnectionId>) {
    for (number, id) in ids.enumerate() {
        crowd.endpoint.handle_error(id, crowd.now);
        if number % SLICE == 0 {
            while crowd.endpoint.poll_closed().is_some() {}
        }
    }
    while crowd.endpoint.poll_closed().is_some() {}
    crowd.flush();
}

/// A row of numbers without an order, always the same.
struct Shuffle(u64);

impl Shuffle {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn shuffle(&mut self, ids: &mut [ConnectionId]) {
        (1..ids.len()).for_each(|at| ids.swap(at, self.below(at + 1)));
    }
}

fn heartbeat() -> Vec<u8> {
    let mut frame = Vec::new();
    write_masked(&mut frame, 0x1, true, br#"[null,"5","phoenix","heartbeat",{}]"#);
    frame
}

/// Broadcasts in slices, with a heartbeat that comes at the beginning of each: nanoseconds for each subscriber in
/// the middle of some rounds, the longest that a heartbeat has waited, and deliveries that were not right.
fn broadcast(crowd: &mut Crowd, order: &mut Shuffle) -> (f64, Duration, u64) {
    let (mut times, mut waited, mut wrong) = (Vec::new(), Duration::ZERO, 0);
    let frame = heartbeat();
    for _ in 0..ROUNDS {
        let mut sink = Watching::default();
        let payload = serde_json::json!({ "body": "maintenance in 5 minutes" });
        crowd.broker.broadcast("room:lobby", "new_msg", payload.into()).expect("there is room");
        crowd.endpoint.handle_mailbox(usize::MAX, crowd.now);
        let (mut spent, mut replies) = (Duration::ZERO, 0);
        // The heartbeat that is answered next has come when the slice before began.
        let mut came = None;
        loop {
            let id = crowd.ids[order.below(crowd.ids.len())];
            let mut frame = frame.clone();
            let begin = Instant::now();
            let more = crowd.endpoint.flush(SLICE, crowd.now, &mut sink);
            spent += begin.elapsed();
            if let (Some(written), Some(came)) = (sink.written.take(), came.replace(begin)) {
                waited = waited.max(written.duration_since(came));
            }
            if !more {
                break;
            }
            // Its reply takes what waits of the topic with it, so that it is one write more at most.
            crowd.endpoint.handle_read(id, &mut frame, crowd.now);
            sink.watched = Some(id);
            replies += 1;
        }
        times.push(spent.as_nanos() as f64 / crowd.ids.len() as f64);
        let subscribers = crowd.ids.len() as u64;
        wrong += subscribers.saturating_sub(sink.writes) + sink.writes.saturating_sub(subscribers + replies);
        wrong += u64::from(crowd.endpoint.log_bytes() != 0);
    }
    times.sort_by(f64::total_cmp);
    (times[ROUNDS / 2], waited, wrong)
}

/// The time of a second's heartbeats, for each of them.
fn heartbeats(crowd: &mut Crowd, order: &mut Shuffle) -> Duration {
    let mut sink = Watching::default();
    let frame = heartbeat();
    let count = (crowd.ids.len() / HEARTBEAT_SECONDS).max(1);
    let senders: Vec<_> = (0..count).map(|_| crowd.ids[order.below(crowd.ids.len())]).collect();
    let mut buffer = frame.clone();
    let begin = Instant::now();
    for turn in senders.chunks(SLICE) {
        for id in turn {
            buffer.copy_from_slice(&frame);
            crowd.endpoint.handle_read(*id, &mut buffer, crowd.now);
        }
        while crowd.endpoint.flush(SLICE, crowd.now, &mut sink) {}
    }
    begin.elapsed() / u32::try_from(count).expect("it is small")
}

/// The longest of some looks at all deadlines, none of which is over.
fn sweep(crowd: &mut Crowd) -> Duration {
    let looks = (1..=ROUNDS as u32).map(|round| {
        // The deadlines of those who have just joined are over after a minute.
        let now = crowd.now + Duration::from_secs(55) + Duration::from_millis(250) * round;
        let begin = Instant::now();
        crowd.endpoint.handle_timeout(now);
        begin.elapsed()
    });
    looks.max().unwrap_or_default()
}

/// Joins so many clients to one shard, and has them do what they do.
pub(crate) fn run(who: Who, clients: usize) -> Outcome {
    let mut crowd = match who {
        Who::Anonymous => Crowd::empty(),
        Who::Users => Crowd::of_users(),
    };
    // The program's own pages first.
    join(&mut crowd, who, 0..1);
    let before = resident();
    let (mut longest, mut spent) = ((Duration::ZERO, 0), Duration::ZERO);
    let joined = allocation_counter::measure(|| {
        let begin = Instant::now();
        longest = join(&mut crowd, who, 1..clients);
        spent = begin.elapsed();
    });
    let own = (clients * size_of::<ConnectionId>()) as f64;
    let (asked, grown) = (joined.bytes_current as f64 - own, resident() - before - own);
    let mut order = Shuffle(0x0068_6169_6c65_7221);
    let (in_order, waited_in_order, wrong_in_order) = broadcast(&mut crowd, &mut order);
    let heartbeat_each = heartbeats(&mut crowd, &mut order);
    let sweep = sweep(&mut crowd);

    order.shuffle(&mut crowd.ids);
    let half = crowd.ids.split_off(clients / 2);
    leave(&mut crowd, half.into_iter());
    join(&mut crowd, who, clients..clients + clients - clients / 2);
    let (churned, waited_churned, wrong_churned) = broadcast(&mut crowd, &mut order);

    order.shuffle(&mut crowd.ids);
    let gone = crowd.ids.split_off(clients.div_ceil(100));
    let count = gone.len();
    let (all_asked, all_resident) = (asked, resident());
    let left = allocation_counter::measure(|| leave(&mut crowd, gone.into_iter()));
    let list = (count * size_of::<ConnectionId>()) as f64;
    Outcome {
        clients,
        asked_each: per(asked, clients),
        resident_each: per(grown, clients),
        join_each: spent / u32::try_from(clients).expect("it is small"),
        join_longest: longest,
        broadcast_each: [in_order, churned],
        heartbeat_waited: [waited_in_order, waited_churned],
        heartbeat_each,
        sweep,
        left_asked: per(all_asked + left.bytes_current as f64 + list, clients),
        left_resident: per(grown + resident() - all_resident, clients),
        wrong: wrong_in_order + wrong_churned,
    }
}
