//! Threads that work for the loops, and the way back to each loop.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use mio::Waker;
use tracing::error;

use crate::endpoint::LogBudget;
use crate::guard::{self, Guarded};

/// Results on their way to a shard.
pub(super) struct Returns<T> {
    queue: Arc<Mutex<VecDeque<T>>>,
    waker: Arc<Waker>,
}

impl<T> Clone for Returns<T> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), waker: Arc::clone(&self.waker) }
    }
}

impl<T> Returns<T> {
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        Self { queue: Arc::default(), waker }
    }

    pub(super) fn send(&self, result: T) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(result);
        // A loop that has left some takes them without being woken.
        let wake = queue.len() == 1;
        drop(queue);
        if wake {
            // A waker fails only when its loop is gone, and then nobody is to be woken.
            let _ = self.waker.wake();
        }
    }

    /// Takes at most `budget` of them; whether some are left.
    pub(super) fn take(&self, budget: usize, taken: &mut Vec<T>) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = budget.min(queue.len());
        taken.extend(queue.drain(..count));
        if queue.is_empty() && queue.capacity() > 1024 {
            *queue = VecDeque::new();
        }
        !queue.is_empty()
    }
}

struct Jobs<J> {
    waiting: VecDeque<J>,
    closed: bool,
}

/// Jobs, and the threads that do them. What waits is bounded by those who give jobs.
pub(super) struct Pool<J> {
    jobs: Mutex<Jobs<J>>,
    ready: Condvar,
    /// Holds what the application has given, and may be dropped by one of the threads.
    work: Guarded<Box<dyn Fn(J) + Send + Sync>>,
    log: Mutex<LogBudget>,
}

impl<J: Send + 'static> Pool<J> {
    /// Starts `threads` threads called `name` that do `work`.
    pub(super) fn start(
        name: &str,
        threads: usize,
        work: impl Fn(J) + Send + Sync + 'static,
    ) -> io::Result<(Arc<Self>, Vec<JoinHandle<()>>)> {
        let jobs = Mutex::new(Jobs { waiting: VecDeque::new(), closed: false });
        let work: Box<dyn Fn(J) + Send + Sync> = Box::new(work);
        let (work, log) = (Guarded::new(work), Mutex::default());
        let pool = Arc::new(Self { jobs, ready: Condvar::new(), work, log });
        let spawn = |number: usize| {
            let pool = Arc::clone(&pool);
            let thread = std::thread::Builder::new().name(format!("{name}-{number}"));
            thread.spawn(move || pool.run())
        };
        let threads = (0..threads.max(1)).map(spawn).collect::<io::Result<_>>();
        if threads.is_err() {
            pool.close();
        }
        Ok((pool, threads?))
    }

    /// Has a job done.
    pub(super) fn give(&self, job: J) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.waiting.push_back(job);
        drop(jobs);
        self.ready.notify_one();
    }

    /// Has the threads end; what waits is not done any more.
    pub(super) fn close(&self) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.closed = true;
        let dropped = std::mem::take(&mut jobs.waiting);
        drop(jobs);
        drop(dropped);
        self.ready.notify_all();
    }

    fn next(&self) -> Option<J> {
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
        while let Some(job) = self.next() {
            // What a job owes its loop is given when it is dropped, if not before.
            if let Err(panicked) = guard::call(|| (self.work)(job)) {
                let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(left_out) = log.take(Instant::now()) else { continue };
                let left_out = Some(left_out).filter(|left_out| *left_out > 0);
                let (failure, thread) = (panicked.to_string(), std::thread::current());
                error!(
                    thread = thread.name(),
                    failure, left_out, "a thread that works for the loops has panicked over one job"
                );
            }
        }
    }
}
