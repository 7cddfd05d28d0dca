//! The thread that writes to a store: what waits is written in one transaction, so that many share one `fsync`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{error, info};

use super::write::Outcome;
use super::{Store, StoreError, StoreErrorKind, StoreReader, Write};
use crate::server::connect::unix_millis;

/// Writes that share a transaction at most.
const WRITES_PER_COMMIT: usize = 1024;

/// Bytes after which no further write is taken into a transaction.
const BYTES_PER_COMMIT: usize = 8 * 1024 * 1024;

/// Bytes that may wait.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How often it is tried whether a store that has failed can be written to again, while nobody writes.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Writes to a store, from any thread; clones write to the same. When the last one is dropped, what waits is written
/// first.
#[derive(Debug, Clone)]
pub struct StoreWriter {
    thread: Arc<Thread>,
    reader: StoreReader,
}

/// What a [`StoreWriter`] has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Transactions that are on the disk.
    pub commits: u64,
    /// Transactions that have failed as a whole.
    pub commits_failed: u64,
    /// Time that transactions took, those that failed too.
    pub commit_nanos_total: u64,
    /// Writes that were done.
    pub jobs: u64,
    /// Writes that were not done since too much waited.
    pub jobs_refused: u64,
    /// Writes that have failed.
    pub jobs_failed: u64,
    /// Writes that wait.
    pub queue: u64,
    /// About as many bytes as those take.
    pub queue_bytes: u64,
    /// Whether the store could not be written to when it was last tried.
    pub failing: bool,
}

struct Thread {
    shared: Arc<Shared>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    queue_max: usize,
    path: Box<std::path::Path>,
    counters: Counters,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    bytes: usize,
    /// No more is taken.
    closed: bool,
}

struct Job {
    write: Write,
    bytes: usize,
    /// Who waits for it.
    answer: Option<SyncSender<Result<usize, StoreError>>>,
}

#[derive(Default)]
struct Counters {
    commits: AtomicU64,
    commits_failed: AtomicU64,
    commit_nanos_total: AtomicU64,
    jobs: AtomicU64,
    jobs_refused: AtomicU64,
    jobs_failed: AtomicU64,
    failing: AtomicBool,
}

fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

impl StoreWriter {
    /// Starts the thread that writes to the store. At most `queue_max` writes wait for it. What is sent from here on is
    /// in order behind what earlier processes have sent.
    ///
    /// # Errors
    /// The file can't be read or opened once more, or the system refuses a thread.
    pub fn start(mut store: Store, queue_max: usize) -> Result<Self, StoreError> {
        let path: Box<std::path::Path> = store.path().into();
        store.begin_run(unix_millis())?;
        let again = store.open_again().transpose()?;
        let store = Arc::new(Mutex::new(store));
        let reader = again.map_or_else(|| Arc::clone(&store), |again| Arc::new(Mutex::new(again)));
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            queue_max,
            path: path.clone(),
            counters: Counters::default(),
        });
        let work = Work { store, shared: Arc::clone(&shared), broken: false, told: false };
        let thread = std::thread::Builder::new().name("hailer-writer".to_owned());
        let handle = thread.spawn(move || work.run()).map_err(|error| StoreError::io(&path, &error))?;
        let thread = Arc::new(Thread { shared, handle: Mutex::new(Some(handle)) });
        Ok(Self { thread, reader: StoreReader::new(reader) })
    }

    /// Writes, and waits until it is on the disk; returns how many rows were changed.
    ///
    /// # Errors
    /// It can't be written, and nothing of it is there; or too much waits already.
    pub fn write(&self, write: Write) -> Result<usize, StoreError> {
        let (sender, receiver) = sync_channel(1);
        self.shared().push(write, Some(sender))?;
        receiver.recv().unwrap_or_else(|_| Err(self.shared().closed()))
    }

    /// Has it written soon, and does not wait. If it fails, that is logged and counted.
    ///
    /// # Errors
    /// Too much waits already.
    pub fn submit(&self, write: Write) -> Result<(), StoreError> {
        self.shared().push(write, None)
    }

    /// Reads the store. What was [written](Self::write) is seen; what was [submitted](Self::submit) is so once it is
    /// written.
    #[must_use]
    pub fn reader(&self) -> &StoreReader {
        &self.reader
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let (queue, queue_bytes) = {
            let queue = self.shared().lock();
            (queue.jobs.len() as u64, queue.bytes as u64)
        };
        let counters = &self.shared().counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreStats {
            commits: read(&counters.commits),
            commits_failed: read(&counters.commits_failed),
            commit_nanos_total: read(&counters.commit_nanos_total),
            jobs: read(&counters.jobs),
            jobs_refused: read(&counters.jobs_refused),
            jobs_failed: read(&counters.jobs_failed),
            queue,
            queue_bytes,
            failing: counters.failing.load(Ordering::Relaxed),
        }
    }

    /// Takes no more, writes what waits, and ends the thread. Reading goes on.
    pub fn close(&self) {
        self.thread.close();
    }

    fn shared(&self) -> &Shared {
        &self.thread.shared
    }
}

impl Thread {
    fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_all();
        // Held until the thread has ended, so that whoever closes too waits as well.
        let mut handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        if handle.take().is_some_and(|handle| handle.join().is_err()) {
            error!("the thread of the store has panicked");
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> StoreError {
        StoreError::new(&self.path, StoreErrorKind::Closed)
    }

    fn push(
        &self,
        write: Write,
        answer: Option<SyncSender<Result<usize, StoreError>>>,
    ) -> Result<(), StoreError> {
        let bytes = write.bytes();
        let mut queue = self.lock();
        if queue.closed {
            return Err(self.closed());
        }
        // One that is larger than all may be still goes through, alone.
        let too_much = !queue.jobs.is_empty() && queue.bytes + bytes > QUEUE_BYTES_MAX;
        if queue.jobs.len() >= self.queue_max || too_much {
            drop(queue);
            count(&self.counters.jobs_refused, 1);
            return Err(StoreError::new(&self.path, StoreErrorKind::Overloaded));
        }
        queue.bytes += bytes;
        queue.jobs.push_back(Job { write, bytes, answer });
        drop(queue);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for jobs and takes those of the next transaction; none when a store that has failed is to be tried.
    /// `None` at the end.
    fn take(&self) -> Option<Vec<Job>> {
        let mut queue = self.lock();
        while queue.jobs.is_empty() {
            if queue.closed {
                return None;
            }
            if !self.counters.failing.load(Ordering::Relaxed) {
                queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = self.filled.wait_timeout(queue, PROBE_INTERVAL);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            if timeout.timed_out() && queue.jobs.is_empty() {
                return Some(Vec::new());
            }
        }
        let mut jobs = Vec::new();
        let mut bytes = 0;
        while jobs.len() < WRITES_PER_COMMIT && bytes < BYTES_PER_COMMIT {
            let Some(job) = queue.jobs.pop_front() else { break };
            bytes += job.bytes;
            jobs.push(job);
        }
        queue.bytes -= bytes;
        Some(jobs)
    }
}

/// What the thread works with.
struct Work {
    store: Arc<Mutex<Store>>,
    shared: Arc<Shared>,
    /// The connection has failed in a way after which it is opened anew.
    broken: bool,
    /// A failure was logged, and nothing has succeeded since.
    told: bool,
}

impl Work {
    fn run(mut self) {
        while let Some(jobs) = self.shared.take() {
            if jobs.is_empty() {
                self.probe();
            } else {
                self.write(jobs);
            }
        }
    }

    /// Writes the jobs in one transaction and says what has become of them.
    fn write(&mut self, jobs: Vec<Job>) {
        let begun = Instant::now();
        let outcome = self.transact(&jobs);
        let nanos = usize::try_from(begun.elapsed().as_nanos()).unwrap_or(usize::MAX);
        let failed = outcome.results.iter().filter(|result| result.is_err()).count();
        let counters = &self.shared.counters;
        count(&counters.commit_nanos_total, nanos);
        count(if outcome.trouble.is_some() { &counters.commits_failed } else { &counters.commits }, 1);
        count(&counters.jobs_failed, failed);
        count(&counters.jobs, jobs.len() - failed);
        self.note(&outcome, &jobs);
        for (job, result) in jobs.into_iter().zip(outcome.results) {
            if let Some(answer) = job.answer {
                // Whoever waited may have given up.
                let _ = answer.send(result);
            }
        }
    }

    fn transact(&mut self, jobs: &[Job]) -> Outcome {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if self.broken {
            if let Err(error) = store.reopen() {
                return Outcome::failed(jobs.len(), error);
            }
            self.broken = false;
        }
        let outcome = store.write_all(&jobs.iter().map(|job| &job.write).collect::<Vec<_>>());
        self.broken = outcome.trouble.as_ref().is_some_and(breaks);
        outcome
    }

    /// Notes whether the store can be written to, and logs the first failure of many.
    fn note(&mut self, outcome: &Outcome, jobs: &[Job]) {
        let nobody_knows = |(job, result): (&Job, &Result<usize, StoreError>)| {
            result.as_ref().err().filter(|_| job.answer.is_none()).cloned()
        };
        // What is wrong with a write itself says nothing of the store.
        let of_store = |error: &StoreError| error.kind() != StoreErrorKind::Invalid;
        let errors = || outcome.results.iter().filter_map(|result| result.as_ref().err());
        let failure = outcome.trouble.as_ref().or_else(|| errors().find(|error| of_store(error))).cloned();
        if failure.is_some() {
            self.shared.counters.failing.store(true, Ordering::Relaxed);
        }
        let news = failure.or_else(|| jobs.iter().zip(&outcome.results).find_map(nobody_knows));
        if let Some(error) = news {
            if !std::mem::replace(&mut self.told, true) {
                error!(%error, "the store can't be written to");
            }
        } else if outcome.results.iter().any(|result| matches!(result, Ok(1..))) {
            // Rows that are on the disk are the proof.
            self.works_again();
        }
    }

    fn works_again(&mut self) {
        self.told = false;
        if self.shared.counters.failing.swap(false, Ordering::Relaxed) {
            info!("the store can be written to again");
        }
    }

    /// Tries whether a store that has failed can be written to.
    fn probe(&mut self) {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let reopened = if self.broken { store.reopen() } else { Ok(()) };
        let probed = reopened.and_then(|()| store.probe());
        drop(store);
        self.broken = probed.as_ref().is_err_and(breaks);
        if probed.is_ok() {
            self.works_again();
        }
    }
}

/// Whether a connection that has failed so is not gone on with. A full disk and a busy file leave it as it was.
fn breaks(error: &StoreError) -> bool {
    !matches!(error.kind(), StoreErrorKind::Full | StoreErrorKind::Busy | StoreErrorKind::Invalid)
}

/// However the thread ends, nobody waits for it any longer, and nobody begins to.
impl Drop for Work {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        queue.jobs.clear();
        queue.bytes = 0;
    }
}
