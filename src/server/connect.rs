//! The threads on which it is decided who may connect, so that no loop waits for a signature or a database.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use super::pool::{Pool, Returns};
use crate::auth::UnixTime;
use crate::auth::connect::{Answer, Connect, ConnectRequest, Verdict};
use crate::endpoint::Ticket;

/// The wall clock. A clock that stands before 1970 counts as 1970, where every token is not yet valid.
pub(crate) fn unix_time() -> UnixTime {
    unix_millis() / 1000
}

/// The same in milliseconds.
pub(crate) fn unix_millis() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Decisions on their way to a shard.
pub(super) type Verdicts = Returns<(Ticket, Verdict)>;

struct Job {
    shard: usize,
    ticket: Ticket,
    request: ConnectRequest,
}

/// Where shards ask who their clients are. What waits is bounded by the shards (`connects_waiting_max`).
pub(super) struct Reception(Arc<Pool<Job>>);

impl Reception {
    /// Starts `threads` threads that ask `connect`, and tell the shards.
    pub(super) fn start(
        connect: Arc<dyn Connect>,
        threads: usize,
        shards: Box<[Verdicts]>,
    ) -> io::Result<(Arc<Self>, Vec<JoinHandle<()>>)> {
        let decide = move |Job { shard, ticket, request }: Job| {
            let Some(shard) = shards.get(shard).cloned() else { return };
            // The answer is dropped with a panic, which refuses the client.
            let answer = Answer::new(move |verdict| shard.send((ticket, verdict)));
            connect.connect(request, unix_time(), answer);
        };
        let (pool, threads) = Pool::start("hailer-connect", threads, decide)?;
        Ok((Arc::new(Self(pool)), threads))
    }

    /// Asks about one client of a shard.
    pub(super) fn ask(&self, shard: u16, ticket: Ticket, request: ConnectRequest) {
        self.0.give(Job { shard: usize::from(shard), ticket, request });
    }

    /// Has the threads end; what waits is not looked at any more.
    pub(super) fn close(&self) {
        self.0.close();
    }
}
