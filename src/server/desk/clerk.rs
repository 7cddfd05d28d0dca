//! The thread that sends what is scheduled, asks how far messages have got, and tidies up.

use std::io;
use std::num::NonZeroU64;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::publish::{Counted, random_number};
use super::{COUNT_PATIENCE, Publisher};
use crate::channel::PayloadBuf;
use crate::desk::{DeskError, Message, MessageState, Progress, UnixMillis};
use crate::guard::{self, Guarded, Panicked, Place};
use crate::server::ServerHandle;
use crate::server::connect::unix_millis;
use crate::server::store::{Counts, PRUNED_ROWS_MAX, Prune, Write};
use crate::server::topics::TopicCounter;

/// How often shards are asked about messages whose receipts are counted.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// How often it is looked for messages whose time has come.
const SCHEDULE_INTERVAL: Duration = Duration::from_secs(1);
/// How often what is over is forgotten.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);

/// Messages whose time has come that are sent before the thread looks at anything else; if there are more, it goes on
/// with them at once.
const DUE_MAX: usize = 100;

/// Does what has its time.
pub struct Clerk {
    publisher: Arc<Publisher>,
    /// The server of the back office, whose pages are kept up to date.
    office: Option<ServerHandle>,
    /// What others have done every few seconds.
    chores: Vec<Guarded<Chore>>,
    topics: TopicCounter,
    failing: bool,
}

/// Something that has to be done every few seconds, told the time; it may wait for the store.
pub type Chore = Box<dyn Fn(UnixMillis) + Send>;

impl Clerk {
    /// Starts the thread; it ends with the publisher's server, and then [`RunningClerk::end`] waits for it. Pages of the back office hear how far messages have got
    /// on the topic `admin:message:<id>` (event `progress`), and how many are there on `admin:overview` (event
    /// `overview`), once a second. `chores` are done about as often.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        publisher: Arc<Publisher>,
        office: Option<ServerHandle>,
        chores: Vec<Chore>,
    ) -> io::Result<RunningClerk> {
        let chores = chores.into_iter().map(Guarded::new).collect();
        let mut clerk = Self { publisher, office, chores, topics: TopicCounter::default(), failing: false };
        let thread = std::thread::Builder::new().name("hailer-clerk".to_owned());
        thread.spawn(move || clerk.run()).map(RunningClerk)
    }

    fn run(&mut self) {
        let begun = Instant::now();
        let (mut scheduled, mut tidied) = (begun, begun);
        while !self.publisher.server.has_ended() {
            self.watch();
            let now = Instant::now();
            let mut more = false;
            if now >= scheduled {
                more = self.send_due();
                scheduled = if more { now } else { now + SCHEDULE_INTERVAL };
                self.show_overview();
                self.do_chores();
            }
            if now >= tidied {
                tidied = now + TIDY_INTERVAL;
                self.tidy(now);
            }
            if !more {
                // Woken early or late, it looks once more or once less.
                std::thread::park_timeout(WATCH_INTERVAL);
            }
        }
    }

    /// Does what others have done, whatever becomes of one of them.
    fn do_chores(&self) {
        for chore in &self.chores {
            if let Err(panicked) = guard::call(|| chore(unix_millis())) {
                Place::Chore.note(&panicked);
            }
        }
    }

    /// Asks how far messages have got.
    fn watch(&self) {
        let Publisher { tracking, server, store, .. } = &*self.publisher;
        let receipts = tracking.receipts();
        if receipts.is_empty() {
            return;
        }
        let counts = server.receipts(&receipts);
        let changed = tracking.update(&receipts, counts.as_deref(), Instant::now());
        let done = changed.iter().filter(|changed| changed.progress.done).map(|changed| changed.receipt);
        let done: Arc<[NonZeroU64]> = done.collect();
        if !done.is_empty() {
            server.forget_receipts(&done);
        }
        for changed in changed {
            let Progress { addressed, received, done, .. } = changed.progress;
            if done {
                let counts = Counts { offset: None, subscribers: Some(addressed), received: Some(received) };
                // Without room for it the record lacks the counts.
                let _ = store.submit(Write::SetCounts { id: changed.id.clone(), counts });
            }
            if let (Some(office), Ok(payload)) =
                (&self.office, serde_json::value::to_raw_value(&changed.progress))
            {
                let topic = format!("admin:message:{}", changed.id);
                // A back office that is overloaded hears it the next time.
                let _ = office.broadcast(&topic, "progress", PayloadBuf::Json(payload));
            }
        }
    }

    /// Shows the back office how many clients there are, if anybody looks.
    fn show_overview(&self) {
        let Some(office) = &self.office else { return };
        if office.stats().topics == 0 {
            return;
        }
        let stats = self.publisher.server.stats();
        let overview = serde_json::json!({
            "websocket": stats.web_sockets,
            "longpoll": stats.sessions,
            "topics": self.topics.count(&self.publisher.server, stats.topics),
        });
        let _ = office.broadcast("admin:overview", "overview", overview.into());
    }

    /// Sends the messages whose time has come; whether there may be more.
    fn send_due(&mut self) -> bool {
        // What nobody would get any more is for the next process.
        if self.publisher.server.is_ending() {
            return false;
        }
        let now = unix_millis();
        let due = self.publisher.store.reader().due_messages(now, DUE_MAX);
        let result = due.map_err(DeskError::from).and_then(|due| {
            self.publisher.finish_undoing()?;
            due.iter().try_for_each(|message| self.publisher.send_scheduled(&message.id, now))?;
            Ok(due.len() == DUE_MAX)
        });
        match result {
            Ok(more) => {
                self.failing = false;
                return more;
            }
            Err(_) if self.publisher.server.is_ending() => {}
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                error!(%error, "scheduled messages wait: they can't be sent, or it can't be noted that they were");
            }
            Err(_) => {}
        }
        false
    }

    /// Forgets what is over.
    fn tidy(&self, now: Instant) {
        let Publisher { board, store, config, answers, .. } = &*self.publisher;
        let clock = unix_millis();
        board.forget_expired(now);
        answers.forget_expired(clock);
        let keep = u64::try_from(config.keep_records.as_millis()).unwrap_or(u64::MAX);
        let prune = Prune { before: clock.saturating_sub(keep), keep_max: config.records_max, now: clock };
        let mut pruned = store.write(Write::PruneIdempotency { now: clock });
        // Others have their turn between two of them.
        loop {
            match store.write(Write::Prune(prune)) {
                Ok(rows) if rows >= PRUNED_ROWS_MAX => {}
                result => {
                    pruned = pruned.and(result);
                    break;
                }
            }
        }
        if let Err(error) = pruned {
            warn!(%error, "old records are not removed from the store");
        }
    }
}

/// The thread of a [`Clerk`].
pub struct RunningClerk(JoinHandle<()>);

impl RunningClerk {
    /// Waits for the thread of a publisher whose server has ended, so that what it does is done.
    pub fn end(self) {
        self.0.thread().unpark();
        if let Err(panicked) = self.0.join().map_err(Panicked::new) {
            let failure = panicked.to_string();
            error!(failure, "the thread that sends what is scheduled has panicked");
        }
    }
}

impl Publisher {
    /// Sends a message whose time has come. It is noted afterwards that it was sent, so that a process that dies between
    /// the two sends it again: clients know it by its id, if it has one.
    fn send_scheduled(&self, id: &str, now: UnixMillis) -> Result<(), DeskError> {
        let _hold = self.holds.hold_one(id);
        // It may have been cancelled since it was listed.
        let found = self.store.reader().message(id)?;
        let Some(message) = found.filter(|message| message.state == MessageState::Scheduled) else {
            return Ok(());
        };
        if !self.is_sent(id) {
            if message.expires_at.is_some_and(|expires| expires <= now) {
                return Ok(self.set_state(&message, MessageState::Expired, now, None).map(drop)?);
            }
            self.send_first(&message)?;
        }
        let noted = self.set_state(&message, MessageState::Sent, now, None)?;
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        // Nobody here changes it meanwhile, but another process may have.
        if noted { Ok(()) } else { self.take_back(&message) }
    }

    /// Sends a message whose time has come, and remembers that.
    fn send_first(&self, message: &Message) -> Result<(), DeskError> {
        let receipt = if message.receipts { Some(random_number()?) } else { None };
        let counted = Counted::new(&self.server, 1);
        let offset = self.send(&[message], &[receipt], &counted.tally)?;
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(message.id.clone());
        counted.wait(COUNT_PATIENCE);
        let entry = counted.tally.entry(0);
        let counts = Counts { offset: Some(offset), subscribers: entry.total(), received: None };
        // Without room for it the record lacks the counts.
        let _ = self.store.submit(Write::SetCounts { id: message.id.clone(), counts });
        if let Some(receipt) = receipt {
            self.tracking.begin(&message.id, receipt, entry, Instant::now());
        }
        Ok(())
    }
}
