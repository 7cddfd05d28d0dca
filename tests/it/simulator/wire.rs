//! Pretended sockets: what a kernel and a peer may do to a write.

use std::collections::BTreeMap;
use std::io::IoSlice;

use hailer::endpoint::{ConnectionId, Gone, Sink};

use super::rng::Rng;

/// One connection's socket, as its shard sees it.
pub(super) struct Peer {
    pub(super) client: usize,
    /// Bytes that the client has not looked at.
    pub(super) arrived: Vec<u8>,
    /// The client takes next to nothing.
    pub(super) stalled: bool,
    /// A write was cut short, and the endpoint has not been told that there is room again.
    pub(super) blocked: bool,
    /// A write has been cut short at some time.
    pub(super) ever_blocked: bool,
    /// The client is gone, which the next write finds out.
    pub(super) lost: bool,
    pub(super) shut_down: bool,
}

/// The sockets of one shard.
pub(super) struct Wire {
    pub(super) peers: BTreeMap<u64, Peer>,
    pub(super) rng: Rng,
    /// Writes are cut short in so many of a hundred cases.
    pub(super) short_percent: usize,
    pub(super) bytes: u64,
}

impl Wire {
    pub(super) fn new(rng: Rng, short_percent: usize) -> Self {
        Self { peers: BTreeMap::new(), rng, short_percent, bytes: 0 }
    }

    pub(super) fn open(&mut self, id: ConnectionId, client: usize) {
        let peer = Peer {
            client,
            arrived: Vec::new(),
            stalled: false,
            blocked: false,
            ever_blocked: false,
            lost: false,
            shut_down: false,
        };
        assert!(self.peers.insert(id.to_bits(), peer).is_none(), "an id is given out once");
    }
}

impl Sink for Wire {
    fn send(&mut self, id: ConnectionId, pieces: &[IoSlice<'_>]) -> Result<usize, Gone> {
        let peer = self.peers.get_mut(&id.to_bits()).expect("what is written to is open");
        assert!(!peer.shut_down, "nothing is written after the end");
        assert!(!peer.blocked, "nothing is written while the peer takes nothing");
        let offered: usize = pieces.iter().map(|piece| piece.len()).sum();
        assert!(offered > 0, "a write has bytes");
        if peer.lost {
            return Err(Gone);
        }
        let taken = match peer.stalled {
            true => self.rng.below(20).min(offered - 1),
            false if self.rng.chance(self.short_percent) => self.rng.below(offered),
            false => offered,
        };
        peer.arrived.extend(pieces.iter().flat_map(|piece| piece.iter()).take(taken));
        peer.blocked = taken < offered;
        peer.ever_blocked |= peer.blocked;
        self.bytes += taken as u64;
        Ok(taken)
    }

    fn shutdown(&mut self, id: ConnectionId) {
        let peer = self.peers.get_mut(&id.to_bits()).expect("what is ended is open");
        assert!(!std::mem::replace(&mut peer.shut_down, true), "a connection is ended once");
    }

    fn has_failed(&mut self, id: ConnectionId) -> bool {
        self.peers.get(&id.to_bits()).is_none_or(|peer| peer.lost)
    }
}
