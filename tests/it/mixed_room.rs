//! A room of both transports on virtual time, whose network loses, delays, repeats and reorders polls as a seed
//! says: every client gets every message from its join on, in order and once, and is
//! counted once among those who have received it.
//!
//! `HAILER_SEEDS=1000` runs so many seeds, `HAILER_SEED=7` runs one; a failure prints its seed and the last
//! steps.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use hailer::channel::Router;
use hailer::endpoint::Config;
use hailer::limits::Limits;
use hailer::notification::Notification;
use hailer::phoenix::Serializer;
use hailer::stats::Stats;
use hailer::testing::{ClientId, TestServer};
use serde_json::json;

use crate::simulator::rng::Rng;

const SEEDS: u64 = 100;
const STEPS: usize = 250;
/// Messages whose receipts are compared at a time.
const COUNTED: usize = 8;
const LOBBY: &str = "room:lobby";

struct Member {
    client: ClientId,
    polls: bool,
    /// The number of the next message that it has to get.
    next: u64,
    /// It takes only a part of what is sent to it.
    narrow: bool,
    /// Its poll's connection is gone, and it has not polled again.
    away: bool,
}

/// A message of which it is counted who has received it.
struct Counted {
    receipt: NonZeroU64,
    number: u64,
    /// So many of the members were there.
    addressed: usize,
}

struct Room {
    server: TestServer,
    rng: Rng,
    members: Vec<Member>,
    /// Messages sent so far.
    sent: u64,
    /// The last of the counted messages.
    counted: VecDeque<Counted>,
    seed: u64,
    steps: VecDeque<String>,
}

impl Room {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut limits = Limits::default();
        limits.set("poll_window", "2s").unwrap();
        limits.set("keep_alive_timeout", "5s").unwrap();
        let shards = u16::try_from(rng.range(1, 4)).unwrap();
        let router = Router::new().channel("room:*".parse().unwrap(), Notification::default());
        let config = Config { limits: Arc::new(limits), ..Config::new(router) };
        let server = TestServer::with_config(&config, shards);
        Self {
            server,
            rng,
            members: Vec::new(),
            sent: 0,
            counted: VecDeque::new(),
            seed,
            steps: VecDeque::new(),
        }
    }

    fn note(&mut self, step: String) {
        if self.steps.len() == 60 {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    fn join(&mut self) {
        let serializer = *self.rng.pick(&[Serializer::V1, Serializer::V2]);
        let polls = self.rng.chance(75);
        let client = match polls {
            true => self.server.connect_long_poll(serializer),
            false => self.server.connect_with(serializer),
        };
        self.server.join(client, LOBBY, json!({}));
        self.note(format!("member {} joins, polls: {polls}", self.members.len()));
        self.members.push(Member { client, polls, next: self.sent, narrow: false, away: false });
    }

    /// The body of the message number `number`: some are long, and some need escaping.
    fn body(number: u64) -> serde_json::Value {
        json!({"number": number, "text": "\"ü\n".repeat(usize::try_from(number % 97).unwrap())})
    }

    fn publish(&mut self) {
        for _ in 0..self.rng.range(1, 5) {
            let body = Self::body(self.sent);
            let payload = json!({ "body": body });
            if self.rng.chance(40) {
                self.publish_counted(payload);
            } else {
                self.server.publish(LOBBY, "new_msg", payload).unwrap();
            }
            self.sent += 1;
        }
        self.note(format!("messages up to {}", self.sent));
        if self.rng.chance(70) {
            self.server.settle();
        }
    }

    fn publish_counted(&mut self, payload: serde_json::Value) {
        let (addressed, receipt) = self.server.broadcast_with_receipt(LOBBY, "new_msg", payload).unwrap();
        assert_eq!(addressed, self.members.len() as u64);
        if self.counted.len() == COUNTED {
            self.counted.pop_front();
        }
        self.counted.push_back(Counted { receipt, number: self.sent, addressed: self.members.len() });
    }

    /// Those have received a message who have read it, and shown that by the ping behind it or by their next poll.
    fn check_receipts(&self) {
        for Counted { receipt, number, addressed } in &self.counted {
            let counts = self.server.receipts(*receipt).unwrap();
            let members = &self.members[..*addressed];
            let has = members.iter().filter(|member| member.next > *number).count() as u64;
            // The message has come to it, and perhaps not yet the whole of the ping.
            let in_the_midst = |member: &&Member| !member.polls && member.narrow && member.next == number + 1;
            let perhaps = members.iter().filter(in_the_midst).count() as u64;
            assert_eq!((counts.addressed, counts.gone, counts.missed), (*addressed as u64, 0, 0));
            assert!(
                (has - perhaps..=has).contains(&counts.received),
                "{has} have message {number}, {perhaps} of them perhaps not its ping: {counts:?}"
            );
            assert!(counts.behind <= counts.open(), "{counts:?}");
        }
    }

    fn push(&mut self, index: usize) {
        self.server.settle();
        let body = Self::body(self.sent);
        self.sent += 1;
        self.note(format!("member {index} pushes message {}", self.sent - 1));
        self.server.push(self.members[index].client, LOBBY, "new_msg", json!({ "body": body }));
    }

    /// The member looks at what has come: nothing is missing, nothing comes twice.
    fn read(&mut self, index: usize) {
        let client = self.members[index].client;
        for payload in self.server.received_event(client, "new_msg") {
            let expected = self.members[index].next;
            assert_eq!(payload["body"], Self::body(expected), "member {index}");
            self.members[index].next += 1;
        }
        assert_eq!(self.server.closed(client), None, "member {index}");
    }

    /// What has come is thrown away unread, and the connection is broken.
    fn cut(&mut self, index: usize) {
        let client = self.members[index].client;
        let lost = self.server.take_bytes(client).len();
        self.server.reset(client);
        self.members[index].narrow = false;
        self.members[index].away = true;
        self.note(format!("the connection of member {index} breaks, {lost} bytes are lost"));
    }

    /// The member has read everything, and ends its connection properly.
    fn hang_up(&mut self, index: usize) {
        self.server.settle();
        self.read(index);
        let client = self.members[index].client;
        if !self.server.take_bytes(client).is_empty() {
            // A part of an answer has come: this end is a cut.
            return self.cut(index);
        }
        self.server.hang_up(client);
        self.members[index].narrow = false;
        self.members[index].away = true;
        self.note(format!("member {index} ends its connection"));
    }

    fn narrow(&mut self, index: usize) {
        let bytes = self.rng.below(700);
        self.server.set_window(self.members[index].client, Some(bytes));
        self.members[index].narrow = true;
        self.note(format!("member {index} takes {bytes} bytes"));
    }

    fn widen(&mut self, index: usize) {
        self.server.set_window(self.members[index].client, None);
        self.members[index].narrow = false;
        self.note(format!("member {index} takes everything"));
    }

    fn poll(&mut self, index: usize) {
        let client = self.members[index].client;
        if !self.members[index].away {
            // Two polls at once, with no whole answer unread on the older. Whoever polls anew in the middle of
            // an answer has given it up.
            self.server.settle();
            self.read(index);
            self.server.take_bytes(client);
        }
        self.server.poll_anew(client);
        self.members[index].narrow = false;
        self.members[index].away = false;
        self.note(format!("member {index} polls on a new connection"));
    }

    fn pass_time(&mut self) {
        // A session lives only while its client polls.
        for index in 0..self.members.len() {
            match self.members[index] {
                Member { away: true, .. } => self.poll(index),
                Member { polls: true, narrow: true, .. } => self.widen(index),
                _ => {}
            }
        }
        let time = Duration::from_millis(self.rng.range(10, 900) as u64);
        self.server.advance(time);
        self.note(format!("{time:?} pass"));
        (0..self.members.len())
            .filter(|index| !self.members[*index].narrow)
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|index| self.read(index));
    }

    fn step(&mut self) {
        if self.members.is_empty() || (self.members.len() < 6 && self.rng.chance(5)) {
            return self.join();
        }
        let index = self.rng.below(self.members.len());
        let Member { polls, narrow, away, .. } = self.members[index];
        match self.rng.below(100) {
            0..35 => self.publish(),
            35..45 => self.push(index),
            45..60 if !narrow && !away => self.read(index),
            60..68 if polls && !away => self.cut(index),
            68..76 if polls && !away => self.hang_up(index),
            76..82 if !narrow && !away => self.narrow(index),
            82..86 if narrow => self.widen(index),
            86..94 if polls => self.poll(index),
            94..100 => self.pass_time(),
            _ => {}
        }
    }

    fn run(mut self) -> Stats {
        for _ in 0..STEPS {
            self.step();
            self.check_receipts();
        }
        for index in 0..self.members.len() {
            if self.members[index].away {
                self.poll(index);
            }
            if self.members[index].narrow {
                self.widen(index);
            }
        }
        self.server.settle();
        for index in 0..self.members.len() {
            self.read(index);
            assert_eq!(self.members[index].next, self.sent, "member {index} has got everything");
        }
        self.check_receipts();
        let are_settled = |room: &Self| {
            let mut counts =
                room.counted.iter().map(|counted| room.server.receipts(counted.receipt).unwrap());
            counts.all(|counts| counts.received == counts.addressed && counts.behind == 0)
        };
        assert!(are_settled(&self), "everybody has shown that it has everything");
        let stats = self.server.stats();
        self.server.drain();
        self.server.advance(Duration::from_secs(20));
        let left = self.server.stats();
        assert_eq!((left.connections, left.sessions, left.topics), (0, 0, 0));
        assert!(are_settled(&self), "nobody is counted twice");
        stats
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.steps.iter().for_each(|step| println!("  {step}"));
            println!("to repeat: HAILER_SEED={}", self.seed);
        }
    }
}

#[test]
fn nothing_is_lost_or_doubled_on_either_transport() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    if let Some(seed) = number("HAILER_SEED") {
        Room::new(seed).run();
        return;
    }
    let mut sum = Stats::default();
    (0..number("HAILER_SEEDS").unwrap_or(SEEDS)).for_each(|seed| sum += Room::new(seed).run());
    println!(
        "{} polls, {} answers repeated, {} handed over",
        sum.polls, sum.answers_repeated, sum.handed_over
    );
    assert!(sum.answers_repeated > 0 && sum.handed_over > 0, "{sum:?}");
}
