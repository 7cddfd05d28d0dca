//! `disconnect` while thousands are connected, and while they come back.

use std::sync::Arc;
use std::time::Instant;

use hailer::server::Server;

use super::{Mint, RESERVED_DESCRIPTORS, UNDER_WAY_MAX, hs512, start, tell};
use crate::load::clients;
use crate::simulator::rng::Rng;
use crate::support::members::{LOBBY, Members, Place, Transport};
use crate::support::{crowd, descriptor_limit, eventually};

const CLIENTS: usize = 5_000;
const USERS: usize = 100;
/// Users, the first of all, of whom some are disconnected again and again.
const DISTURBED: usize = 20;
const ROUNDS: usize = 12;
const SEED: u64 = 0x0068_6169_6c65_7221;

/// A room of users with several sockets each, on both transports, and what they were told.
struct Room {
    server: Server,
    members: Members,
    users: Vec<Arc<str>>,
    /// Sockets of each user.
    sockets: usize,
    /// Messages so far: in the lobby, and to each user.
    lobby: u64,
    own: Vec<u64>,
    rng: Rng,
}

impl Room {
    fn new(sockets: usize, seed: u64) -> Self {
        // A session ends after a window and a half without a poll, which the test waits for at its end.
        let server = start(hs512(), None, &[("poll_window", "4s")]);
        let passes = Mint::hs512().passes(USERS);
        let members = Members::new(server.handle().local_addr(), &[Place::Lobby, Place::Own]);
        let users = passes.iter().map(|pass| pass.user.clone()).collect();
        let mut room = Self {
            server,
            members,
            users,
            sockets: (sockets / USERS).max(2),
            lobby: 0,
            own: vec![0; USERS],
            rng: Rng::new(seed),
        };
        let transport = |socket| [Transport::WebSocket, Transport::LongPoll][socket % 2];
        let all: Vec<_> = (0..room.sockets)
            .flat_map(|socket| passes.iter().map(move |pass| (pass.clone(), transport(socket))))
            .collect();
        room.members.join(all.into_iter(), UNDER_WAY_MAX);
        room
    }

    fn tell(&mut self) {
        tell(self.server.handle(), LOBBY, self.lobby);
        self.lobby += 1;
        let user = self.rng.below(USERS);
        tell(self.server.handle(), &format!("user:{}", self.users[user]), self.own[user]);
        self.own[user] += 1;
    }

    fn disconnect(&self, user: usize) {
        let id = format!("user_socket:{}", self.users[user]);
        self.server.handle().disconnect(&id, true).expect("the mailboxes have room");
    }

    /// Waits until all are here whom the server has closed.
    fn settle(&mut self) {
        let handle = self.server.handle();
        self.members.settle(|| {
            // A shard answers before it takes its mail, so that the second answer knows of all of it.
            let _ = handle.stats();
            usize::try_from(handle.stats().closed_disconnected).expect("it is small")
        });
    }

    /// Some users are disconnected in the middle of messages, and again while they come back if it is to be.
    fn round(&mut self, again: bool) {
        let first = self.rng.below(DISTURBED - 5);
        self.members.closable = self.users[first..first + 5].to_vec();
        let closed = self.members.tally.closed;
        let expected = closed + 5 * self.sockets;
        self.tell();
        for user in first..first + 5 {
            self.disconnect(user);
            self.tell();
        }
        if again {
            for part in 1..=8 {
                self.members.be_closed(closed + (expected - closed) * part / 8);
                let user = first + self.rng.below(5);
                self.disconnect(user);
                self.tell();
            }
        }
        self.members.be_closed(expected);
        self.settle();
        let more = self.members.tally.closed - expected;
        assert!(again || more == 0, "{more} sockets were closed without a reason");
    }

    /// Everybody has had everything since it has joined last; those who were never disconnected, all.
    fn check(&mut self) {
        self.tell();
        self.members.receive(Place::Lobby, self.lobby - 1, |_| true);
        for user in DISTURBED..USERS {
            let told = self.own[user];
            if told > 0 {
                self.members.receive(Place::Own, told - 1, |name| *name == *self.users[user]);
            }
        }
        for (place, told) in [(Place::Lobby, None), (Place::Own, Some(&self.own))] {
            for (name, received) in self.members.received(place) {
                let user = self.users.iter().position(|user| **user == *name).expect("it is one of them");
                let all = told.map_or(self.lobby, |told| told[user]);
                assert!(received <= all && (received == all || user < DISTURBED), "{place:?} of {name}");
            }
        }
    }
}

#[test]
fn disconnect_closes_the_sockets_of_its_user_and_nobody_elses_while_they_come_back() {
    let _crowd = crowd();
    let sockets = clients(CLIENTS).min((descriptor_limit() - RESERVED_DESCRIPTORS) / 2);
    let seed = std::env::var("HAILER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let began = Instant::now();
    let mut room = Room::new(sockets, seed);
    (0..ROUNDS).for_each(|round| room.round(round % 2 == 1));
    room.check();
    println!(
        "{} sockets of {USERS} users, seed {seed}: {} closed by `disconnect` and back, {} messages in the lobby, \
         in {:.1?}",
        room.sockets * USERS,
        room.members.tally.closed,
        room.lobby,
        began.elapsed()
    );
    let Room { server, mut members, .. } = room;
    members.leave();
    let handle = server.handle().clone();
    eventually("the end of all sockets", || {
        let stats = handle.stats();
        (stats.connections + stats.sessions + stats.topics + stats.web_sockets == 0).then_some(())
    });
    let last = server.shutdown().expect("no shard has failed");
    let others = [last.closed_slow_reader, last.closed_idle, last.closed_denied, last.closed_bad_frame];
    assert_eq!((others, last.broadcasts_refused), ([0; 4], 0), "{last:?}");
}
