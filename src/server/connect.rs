//! The threads on which it is decided who may connect, so that no loop waits for a signature or a database.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use mio::Waker;
use tracing::error;

use crate::auth::UnixTime;
use crate::auth::connect::{Answer, Connect, ConnectRequest, Verdict};
use crate::endpoint::Ticket;

/// The wall clock. A clock that stands before 1970 counts as 1970, where every token is not yet valid.
pub(crate) fn unix_time() -> UnixTime {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Decisions on their way to a shard.
#[derive(Clone)]
pub(super) struct Verdicts {
    queue: Arc<Mutex<VecDeque<(Ticket, Verdict)>>>,
    waker: Arc<Waker>,
}

impl Verdicts {
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        Self { queue: Arc::default(), waker }
    }

    fn send(&self, ticket: Ticket, verdict: Verdict) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back((ticket, verdict));
        // A loop that has left some takes them without being woken.
        let wake = queue.len() == 1;
        drop(queue);
        if wake {
            // A waker fails only when its loop is gone, and then nobody is to be woken.
            let _ = self.waker.wake();
        }
    }

    /// Takes at most `budget` of them; whether some are left.
    pub(super) fn take(&self, budget: usize, taken: &mut Vec<(Ticket, Verdict)>) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = budget.min(queue.len());
        taken.extend(queue.drain(..count));
        if queue.is_empty() && queue.capacity() > 1024 {
            *queue = VecDeque::new();
        }
        !queue.is_empty()
    }
}

struct Job {
    shard: usize,
    ticket: Ticket,
    request: ConnectRequest,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    closed: bool,
}

/// Where shards ask who their clients are. What waits is bounded by the shards (`connects_waiting_max`).
pub(super) struct Reception {
    jobs: Mutex<Jobs>,
    ready: Condvar,
    connect: Arc<dyn Connect>,
    shards: Box<[Verdicts]>,
}

impl Reception {
    /// Starts `threads` threads that ask `connect`, and tell the shards.
    pub(super) fn start(
        connect: Arc<dyn Connect>,
        threads: usize,
        shards: Box<[Verdicts]>,
    ) -> io::Result<(Arc<Self>, Vec<JoinHandle<()>>)> {
        let reception = Arc::new(Self { jobs: Mutex::default(), ready: Condvar::new(), connect, shards });
        let spawn = |number: usize| {
            let reception = Arc::clone(&reception);
            let thread = std::thread::Builder::new().name(format!("hailer-connect-{number}"));
            thread.spawn(move || reception.run())
        };
        let threads = (0..threads.max(1)).map(spawn).collect::<io::Result<_>>();
        if threads.is_err() {
            reception.close();
        }
        Ok((reception, threads?))
    }

    /// Asks about one client of a shard.
    pub(super) fn ask(&self, shard: u16, ticket: Ticket, request: ConnectRequest) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.waiting.push_back(Job { shard: usize::from(shard), ticket, request });
        drop(jobs);
        self.ready.notify_one();
    }

    /// Has the threads end; what waits is not looked at any more.
    pub(super) fn close(&self) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.closed = true;
        jobs.waiting = VecDeque::new();
        drop(jobs);
        self.ready.notify_all();
    }

    fn next(&self) -> Option<Job> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut jobs = self
            .ready
            .wait_while(jobs, |jobs| jobs.waiting.is_empty() && !jobs.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let job = jobs.waiting.pop_front();
        if jobs.waiting.is_empty() && jobs.waiting.capacity() > 1024 {
            jobs.waiting = VecDeque::new();
        }
        job
    }

    fn run(&self) {
        while let Some(Job { shard, ticket, request }) = self.next() {
            let Some(shard) = self.shards.get(shard).cloned() else { continue };
            let answer = Answer::new(move |verdict| shard.send(ticket, verdict));
            let decide = || self.connect.connect(request, unix_time(), answer);
            // The answer is dropped with the panic, which refuses the client.
            if catch_unwind(AssertUnwindSafe(decide)).is_err() {
                error!("the decision whether a client may connect has panicked");
            }
        }
    }
}
