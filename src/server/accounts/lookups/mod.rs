//! Who waits for what: the accounts without their threads. The time is an argument, and replies are returned to
//! be called when no lock is held.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::{Cache, Found};
use super::{Account, AccountsConfig, AccountsStats, LookupError, WhenAway};

/// The longest time that an unknown or disabled user is remembered as such: whoever adds or enables a user
/// doesn't wait long for it to take effect.
const REFUSALS_LIFETIME_MAX: Duration = Duration::from_secs(5);

/// How often failures of single queries are logged.
const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// No configured time is longer, so that it can be added to any.
const TIME_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Where an answer goes.
pub(super) type Reply = Box<dyn FnOnce(Found) + Send>;

/// Answers to be given when no lock is held.
pub(super) type Answers = Vec<(Reply, Found)>;

/// A query for a thread to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    number: u64,
    pub(super) user: Arc<str>,
    begun: Instant,
}

/// What a thread does next.
pub(super) enum Work {
    Query(Query),
    Answer(Answers),
    Wait,
    Stop,
}

struct Waiter {
    user: Arc<str>,
    asked: Instant,
    reply: Reply,
}

/// The one look-up of a user that is under way.
struct Lookup {
    /// By which its query is told from an earlier one that nobody waits for any more.
    number: u64,
    waiters: VecDeque<u64>,
    /// Whether a thread has taken the query.
    started: bool,
    /// Whether the user has changed since, so that what the query brings may be outdated.
    again: bool,
}

/// The look-ups under way, the cache, and whether the directory is away.
pub(super) struct Lookups {
    config: AccountsConfig,
    cache: Cache,
    under_way: HashMap<Arc<str>, Lookup>,
    /// Queries under way that nobody waits for any more, by user: the last of each, unless the user has changed
    /// or is looked up anew. With more look-ups than the threads can do, those that are begun have waited nearly as
    /// long as they may, so that much of what is found comes too late; whoever comes back is served with it.
    abandoned: HashMap<Arc<str>, u64>,
    /// Look-ups that no thread has taken, by number.
    queue: BTreeMap<u64, Arc<str>>,
    /// Everybody who waits. All wait equally long at most, so the first in order is the first in time.
    waiting: BTreeMap<u64, Waiter>,
    next_number: u64,
    away: bool,
    stopped: bool,
    /// When the directory has answered last.
    last_answer: Instant,
    last_failure_logged: Option<Instant>,
    failures_not_logged: u64,
    stats: AccountsStats,
}

impl Lookups {
    pub(super) fn new(mut config: AccountsConfig, now: Instant) -> Self {
        config.deadline = config.deadline.min(TIME_MAX);
        config.cache_lifetime = config.cache_lifetime.min(TIME_MAX);
        Self {
            cache: Cache::new(config.cache_entries_max),
            config,
            under_way: HashMap::new(),
            abandoned: HashMap::new(),
            queue: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_number: 0,
            away: false,
            stopped: false,
            last_answer: now,
            last_failure_logged: None,
            failures_not_logged: 0,
            stats: AccountsStats::default(),
        }
    }

    pub(super) fn stats(&self) -> AccountsStats {
        AccountsStats {
            away: self.away,
            waiting: self.waiting.len(),
            cache_entries: self.cache.len(),
            ..self.stats.clone()
        }
    }

    /// Whether nobody looks anybody up any more.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Looks a user up. What is known at once is returned.
    pub(super) fn handle_look_up(
        &mut self,
        user: &str,
        reply: Reply,
        now: Instant,
    ) -> Option<(Reply, Found)> {
        self.stats.lookups += 1;
        if self.stopped {
            return Some((reply, self.count(Err(LookupError::Unavailable))));
        }
        if user.is_empty() || user.len() > super::USER_BYTES_MAX {
            return Some((reply, self.count(Err(LookupError::Unknown))));
        }
        if let Some(found) = self.cache.fresh(user, now) {
            self.stats.cached += 1;
            return Some((reply, self.count(found)));
        }
        if self.away {
            let found = self.without_directory(user);
            return Some((reply, self.count(found)));
        }
        if self.waiting.len() >= self.config.queue_max {
            return Some((reply, self.count(Err(LookupError::Overloaded))));
        }
        let waiter = self.number();
        let user = if let Some((user, lookup)) = self.under_way.get_key_value(user) {
            debug_assert!(!lookup.waiters.is_empty());
            self.stats.shared += 1;
            Arc::clone(user)
        } else {
            let user: Arc<str> = user.into();
            let number = self.number();
            self.queue.insert(number, Arc::clone(&user));
            self.abandoned.remove(&user);
            let lookup = Lookup { number, waiters: VecDeque::new(), started: false, again: false };
            self.under_way.insert(Arc::clone(&user), lookup);
            user
        };
        if let Some(lookup) = self.under_way.get_mut(&user) {
            lookup.waiters.push_back(waiter);
        }
        self.waiting.insert(waiter, Waiter { user, asked: now, reply });
        self.check_invariants();
        None
    }

    /// What a thread that has nothing to do does next.
    pub(super) fn poll_work(&mut self, now: Instant) -> Work {
        if self.stopped {
            return Work::Stop;
        }
        let late = self.handle_deadlines(now);
        if !late.is_empty() {
            return Work::Answer(late);
        }
        let Some((number, user)) = self.queue.pop_first() else { return Work::Wait };
        if let Some(lookup) = self.under_way.get_mut(&user) {
            lookup.started = true;
        }
        self.stats.queries += 1;
        self.check_invariants();
        Work::Query(Query { number, user, begun: now })
    }

    /// A query has ended; `None` if the directory could not say. Whoever waits for it is answered.
    pub(super) fn handle_found(
        &mut self,
        query: &Query,
        found: Option<Option<Account>>,
        now: Instant,
    ) -> Answers {
        if found.is_some() {
            self.last_answer = now;
        }
        let Some(lookup) = self.under_way.get_mut(&query.user).filter(|one| one.number == query.number)
        else {
            // All who waited for it were answered.
            if self.abandoned.get(&query.user) == Some(&query.number) {
                self.abandoned.remove(&query.user);
                if let Some(account) = found {
                    // Nobody is left to be told.
                    let _ = self.remember(&query.user, account, query.begun);
                }
            }
            return Answers::new();
        };
        if lookup.again && !self.away {
            (lookup.again, lookup.started) = (false, false);
            self.queue.insert(query.number, Arc::clone(&query.user));
            self.check_invariants();
            return Answers::new();
        }
        let outdated = lookup.again;
        let found = match found {
            Some(account) if !outdated => self.remember(&query.user, account, now),
            _ => self.without_directory(&query.user),
        };
        self.answer_all(&query.user, &found)
    }

    /// Puts into the cache what was found, as old as `from` says.
    fn remember(&mut self, user: &Arc<str>, account: Option<Account>, from: Instant) -> Found {
        let found = match account {
            None => Err(LookupError::Unknown),
            Some(Account { disabled: true, .. }) => Err(LookupError::Disabled),
            Some(account) => Ok(Arc::new(account)),
        };
        let lifetime = match found {
            Ok(_) => self.config.cache_lifetime,
            Err(_) => self.config.cache_lifetime.min(REFUSALS_LIFETIME_MAX),
        };
        self.cache.insert(user, found.clone(), from + lifetime);
        found
    }

    /// What the setting says of a user who can't be looked up at present.
    fn without_directory(&mut self, user: &str) -> Found {
        match self.config.when_away {
            WhenAway::Refuse => Err(LookupError::Unavailable),
            WhenAway::Cached => {
                let good = self.cache.good(user).ok_or(LookupError::Unavailable);
                self.stats.passed_while_away += u64::from(good.is_ok());
                good
            }
        }
    }

    /// Ends a look-up with the same answer for everybody.
    fn answer_all(&mut self, user: &str, found: &Found) -> Answers {
        let Some(lookup) = self.under_way.remove(user) else { return Answers::new() };
        self.queue.remove(&lookup.number);
        let mut answers = Answers::with_capacity(lookup.waiters.len());
        for waiter in &lookup.waiters {
            if let Some(waiter) = self.waiting.remove(waiter) {
                answers.push((waiter.reply, self.count(found.clone())));
            }
        }
        self.check_invariants();
        answers
    }

    /// Answers those who have waited too long.
    pub(super) fn handle_deadlines(&mut self, now: Instant) -> Answers {
        let mut answers = Answers::new();
        while let Some(first) = self.waiting.first_entry() {
            if now < first.get().asked + self.config.deadline {
                break;
            }
            let waiter = first.remove();
            if let Some(lookup) = self.under_way.get_mut(&waiter.user) {
                lookup.waiters.pop_front();
                if lookup.waiters.is_empty() {
                    // A query under way that nobody waits for may be one that never ends: the next look-up
                    // gets its own.
                    self.queue.remove(&lookup.number);
                    if lookup.started && !lookup.again {
                        self.abandoned.insert(Arc::clone(&waiter.user), lookup.number);
                    }
                    self.under_way.remove(&waiter.user);
                }
            }
            // A directory that has answered nobody in all this time is away, whatever its connections say.
            let silent = self.last_answer <= waiter.asked;
            let found =
                if silent { self.without_directory(&waiter.user) } else { Err(LookupError::TimedOut) };
            let found = self.count(found.map_err(|_| LookupError::TimedOut));
            answers.push((waiter.reply, found));
        }
        self.check_invariants();
        answers
    }

    /// When the next who waits has waited too long.
    pub(super) fn poll_deadline(&self) -> Option<Instant> {
        Some(self.waiting.first_key_value()?.1.asked + self.config.deadline)
    }

    /// The directory can't be reached: until it can, nobody waits. `None` if that is known already.
    pub(super) fn handle_away(&mut self) -> Option<Answers> {
        if std::mem::replace(&mut self.away, true) {
            return None;
        }
        self.stats.times_away += 1;
        let mut answers = Answers::new();
        while let Some((_, user)) = self.queue.first_key_value() {
            let user = Arc::clone(user);
            let found = self.without_directory(&user);
            answers.append(&mut self.answer_all(&user, &found));
        }
        Some(answers)
    }

    /// The directory can be reached again.
    pub(super) fn handle_back(&mut self) {
        self.away = false;
    }

    /// A query has failed although the directory is there: how many have since the last time that it was
    /// logged, if it is to be logged.
    pub(super) fn handle_failure(&mut self, now: Instant) -> Option<u64> {
        self.stats.failures += 1;
        self.failures_not_logged += 1;
        if self.last_failure_logged.is_some_and(|last| now < last + FAILURE_LOG_INTERVAL) {
            return None;
        }
        self.last_failure_logged = Some(now);
        Some(std::mem::take(&mut self.failures_not_logged))
    }

    /// Forgets a user. Who waits for the user gets what a later query brings.
    pub(super) fn invalidate(&mut self, user: &str) {
        self.cache.remove(user);
        self.abandoned.remove(user);
        if let Some(lookup) = self.under_way.get_mut(user) {
            lookup.again = lookup.started;
        }
    }

    /// Forgets everybody.
    pub(super) fn invalidate_all(&mut self) {
        self.cache.clear();
        self.abandoned.clear();
        for lookup in self.under_way.values_mut() {
            lookup.again = lookup.started;
        }
    }

    /// Nobody is looked up any more.
    pub(super) fn handle_stop(&mut self) -> Answers {
        self.stopped = true;
        self.under_way.clear();
        self.abandoned.clear();
        self.queue.clear();
        let waiting = std::mem::take(&mut self.waiting);
        let found = Err(LookupError::Unavailable);
        waiting.into_values().map(|waiter| (waiter.reply, self.count(found.clone()))).collect()
    }

    /// Every answer is counted here.
    fn count(&mut self, found: Found) -> Found {
        let counter = match &found {
            Ok(_) => &mut self.stats.found,
            Err(LookupError::Unknown) => &mut self.stats.unknown,
            Err(LookupError::Disabled) => &mut self.stats.disabled,
            Err(LookupError::Unavailable) => &mut self.stats.unavailable,
            Err(LookupError::Overloaded) => &mut self.stats.overloaded,
            Err(LookupError::TimedOut) => &mut self.stats.timed_out,
        };
        *counter += 1;
        found
    }

    fn check_invariants(&self) {
        debug_assert!(self.waiting.len() <= self.config.queue_max);
        debug_assert!(self.queue.len() <= self.under_way.len());
        debug_assert!(self.under_way.len() <= self.waiting.len());
    }
}
