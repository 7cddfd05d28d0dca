//! Very many users on one thread, on both transports: each shows a token, joins topics, checks that what comes is
//! meant for it and comes in order, and returns at once when the server closes it.

mod member;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::PATIENCE;
use super::swarm::connect_from;
use member::{Happened, Member};

pub(crate) const LOBBY: &str = "room:lobby";

/// Connections that are begun between two looks at what has happened.
const BATCH: usize = 64;

/// How long a client that was told to come back later stays away on average. Those who are put off together
/// don't all come back together.
const RETRY: Duration = Duration::from_secs(1);

/// Who a member is.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    pub(crate) user: Arc<str>,
    pub(crate) token: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    LongPoll,
}

/// A topic that every member joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Lobby,
    /// `user:<sub>`, which nobody else may join.
    Own,
}

/// Counts over all members.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Members that have joined all their places, on the connection that they have.
    pub(crate) joined: usize,
    /// How often one was answered 503 and has come back later.
    pub(crate) put_off: usize,
    /// How often one was closed by the server, to come back.
    pub(crate) closed: usize,
}

/// When something has come for a member: its number, and the time.
pub(crate) type Arrival = (u64, Instant);

pub(crate) struct Members {
    address: SocketAddr,
    /// The last byte of the address that they connect from.
    source: u8,
    places: &'static [Place],
    poll: Poll,
    events: Events,
    members: Vec<Member>,
    buffer: Box<[u8]>,
    /// Those who come back later, and when.
    later: BinaryHeap<Reverse<(Instant, usize)>>,
    /// How many may be connected at a time; beyond it those who have joined first leave, one for each who comes.
    pub(crate) open_max: usize,
    /// Those who have left so.
    retired: usize,
    /// Users whose members may be closed by the server at present.
    pub(crate) closable: Vec<Arc<str>>,
    /// When messages of the lobby have come, if that is wanted.
    pub(crate) arrivals: Option<Vec<Arrival>>,
    pub(crate) tally: Tally,
}

impl Members {
    pub(crate) fn new(address: SocketAddr, places: &'static [Place]) -> Self {
        Self {
            address,
            source: 1,
            places,
            poll: Poll::new().expect("the system has an event queue"),
            events: Events::with_capacity(1024),
            members: Vec::new(),
            buffer: vec![0; 64 * 1024].into_boxed_slice(),
            later: BinaryHeap::new(),
            open_max: usize::MAX,
            retired: 0,
            closable: Vec::new(),
            arrivals: None,
            tally: Tally::default(),
        }
    }

    /// Connects so many members, of which at most `under_way_max` are on their way at a time, until all have joined.
    pub(crate) fn join(
        &mut self,
        passes: impl ExactSizeIterator<Item = (Pass, Transport)>,
        under_way_max: usize,
    ) {
        let wanted = self.members.len() + passes.len();
        let mut passes = passes;
        self.run("members that have joined", |members| {
            for _ in 0..BATCH {
                let under_way = members.members.len() - members.tally.joined;
                if under_way >= under_way_max || !members.make_room() {
                    break;
                }
                let Some((pass, transport)) = passes.next() else { break };
                members.members.push(Member::new(pass, transport));
                members.connect(members.members.len() - 1);
            }
            // While some are still to be begun, only what has happened already is looked at.
            let begun = members.members.len();
            let busy = begun < wanted
                && begun - members.tally.joined < under_way_max
                && begun - members.retired < members.open_max;
            (members.tally.joined, wanted, busy)
        });
    }

    /// Whether one more may be connected.
    fn make_room(&mut self) -> bool {
        if self.members.len() - self.retired < self.open_max {
            return true;
        }
        let leaves = self.members[self.retired].retire();
        self.retired += usize::from(leaves);
        leaves
    }

    /// Serves the members until all have joined again, after the server has closed as many as it says.
    pub(crate) fn settle(&mut self, closed: impl Fn() -> usize) {
        self.run("members that are back", |members| {
            let (joined, wanted) = (members.tally.joined, members.members.len());
            let known = joined < wanted || members.tally.closed == closed();
            (if known { joined } else { 0 }, wanted, false)
        });
    }

    /// Serves the members until the server has closed them so many times, counted from the beginning.
    pub(crate) fn be_closed(&mut self, times: usize) {
        self.run("members that were closed", |members| (members.tally.closed, times, false));
    }

    /// Serves the members until each whom `concerns` names has had this number in a place.
    pub(crate) fn receive(&mut self, place: Place, number: u64, concerns: impl Fn(&str) -> bool) {
        let place = place as usize;
        let concerned = |member: &&Member| concerns(&member.pass.user);
        self.run("members that have everything", |members| {
            let all = members.members.iter().filter(concerned);
            let (mut complete, mut count) = (0, 0);
            all.for_each(|member| {
                count += 1;
                complete += usize::from(member.last[place] == Some(number));
            });
            (complete, count, false)
        });
    }

    /// Serves the members until `stop` is set, looking for it at least every `interval`.
    pub(crate) fn serve_until(&mut self, stop: &AtomicBool, interval: Duration) {
        while !stop.load(Ordering::Acquire) {
            self.turn(interval);
        }
    }

    /// Every member's user, with how many messages it has had in a place since it was made.
    pub(crate) fn received(&self, place: Place) -> impl Iterator<Item = (&str, u64)> {
        self.members.iter().map(move |member| (&*member.pass.user, member.received[place as usize]))
    }

    /// Ends all connections, every other one with a reset.
    pub(crate) fn leave(&mut self) {
        for (key, mut member) in self.members.drain(..).enumerate() {
            if key % 2 == 0 {
                member.reset();
            }
        }
        self.later.clear();
        (self.retired, self.tally.joined) = (0, 0);
    }

    /// Gives a member a new connection; it sends its request as soon as that is there.
    fn connect(&mut self, key: usize) {
        let mut stream = loop {
            let from = Ipv4Addr::new(127, 0, 0, self.source);
            match connect_from(from, self.address) {
                Ok(stream) => break stream,
                // An address has some 28,000 ports, and one that was used may rest for a minute.
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable && self.source < 250 => {
                    self.source += 1;
                }
                Err(error) => panic!("can't connect from {from}: {error}"),
            }
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(key), interest).expect("it can be watched");
        self.members[key].begin(stream);
    }

    /// Serves the members until the first of the two numbers that `progress` gives reaches the second. The third
    /// thing that it gives is whether there is more to do at once.
    fn run(&mut self, what: &str, mut progress: impl FnMut(&mut Self) -> (usize, usize, bool)) {
        let mut deadline = Instant::now() + PATIENCE;
        let mut best = 0;
        loop {
            let (now, wanted, busy) = progress(self);
            if now >= wanted && !busy {
                return;
            }
            if now > best {
                best = now;
                deadline = Instant::now() + PATIENCE;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                panic!("{now} of {wanted} {what}, and no more within {PATIENCE:?}: {:?}", self.tally);
            }
            self.turn(if busy { Duration::ZERO } else { left });
        }
    }

    /// Waits for something to happen, and does what is to be done about it.
    fn turn(&mut self, wait: Duration) {
        let now = Instant::now();
        let due = self.later.peek().map(|Reverse((due, _))| due.saturating_duration_since(now));
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(due.map_or(wait, |due| due.min(wait)))) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        for event in &events {
            let key = event.token().0;
            if event.is_writable() {
                self.members[key].connected(self.places);
            }
            while self.read(key, &mut buffer) {}
        }
        self.buffer = buffer;
        self.events = events;
        let now = Instant::now();
        while self.later.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            let Reverse((_, key)) = self.later.pop().expect("there is a first one");
            self.connect(key);
        }
    }

    /// Reads once from a member's connection; whether there may be more.
    fn read(&mut self, key: usize, buffer: &mut [u8]) -> bool {
        let Some(member) = self.members.get_mut(key) else { return false };
        let Some(stream) = member.readable() else { return false };
        let bytes = match stream.read(buffer) {
            Ok(n) => &buffer[..n],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            Err(error) => panic!("{member:?}: {error}"),
        };
        let was_joined = member.is_joined();
        let happened = member.take(bytes, self.places, self.arrivals.as_mut());
        let (user, is_joined) = (Arc::clone(&member.pass.user), member.is_joined());
        self.tally.joined = self.tally.joined + usize::from(is_joined) - usize::from(was_joined);
        match happened {
            Happened::Nothing => return true,
            Happened::Closed | Happened::Gone => {
                assert!(self.closable.contains(&user), "user {user} was closed");
                self.tally.closed += 1;
            }
            Happened::PutOff => {
                self.tally.put_off += 1;
                let spread = u32::try_from(key * 37 % 100).expect("it is small");
                self.later.push(Reverse((Instant::now() + RETRY / 2 + RETRY * spread / 100, key)));
            }
            Happened::Opened | Happened::Ended => {}
        }
        if matches!(happened, Happened::Opened | Happened::Ended | Happened::Gone) {
            self.connect(key);
        }
        happened == Happened::Closed
    }
}
