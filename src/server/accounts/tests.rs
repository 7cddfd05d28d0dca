//! The threads, with directories that are told what to do.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use super::*;

/// How long anything may take that happens at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

type Answer = Result<Option<Account>, DirectoryError>;

/// A query that a thread waits for.
struct Asked {
    user: String,
    answer: Sender<Answer>,
}

/// A directory that passes each query on and waits for the answer.
struct Told {
    asked: Sender<Asked>,
    /// Dropped with the directory.
    _alive: Sender<()>,
}

impl Directory for Told {
    fn find(&mut self, user: &str) -> Answer {
        let (answer, answers) = channel();
        let user = user.to_owned();
        self.asked.send(Asked { user, answer }).map_err(|_| DirectoryError::failed("the test is over"))?;
        answers.recv().unwrap_or_else(|_| Err(DirectoryError::failed("nobody answers")))
    }
}

/// Accounts whose directories are told what to do.
struct Stage {
    accounts: Arc<Accounts>,
    asked: Receiver<Asked>,
    opened: Arc<AtomicUsize>,
    away: Arc<AtomicBool>,
    /// Ends with the last directory, when nobody can open one any more.
    ended: Receiver<()>,
}

impl Stage {
    fn new(config: AccountsConfig) -> Self {
        Self::new_with(config, false)
    }

    fn new_with(config: AccountsConfig, away: bool) -> Self {
        let (sender, asked) = channel();
        let (alive, ended) = channel();
        let (opened, away) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(away)));
        let (counter, is_away) = (Arc::clone(&opened), Arc::clone(&away));
        let accounts = Accounts::start(config, move || {
            if is_away.load(Ordering::SeqCst) {
                return Err(DirectoryError::broken("switched off"));
            }
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(Box::new(Told { asked: sender.clone(), _alive: alive.clone() }))
        });
        Self { accounts: accounts.expect("threads are allowed"), asked, opened, away, ended }
    }

    fn look_up(&self, user: &str) -> Receiver<Result<Arc<Account>, LookupError>> {
        let (sender, receiver) = channel();
        self.accounts.look_up(user, move |found| drop(sender.send(found)));
        receiver
    }

    fn asked(&self) -> Asked {
        self.asked.recv_timeout(PATIENCE).expect("a thread asks")
    }

    /// The directory says that there is such a user, or what else is given.
    fn tell(&self, user: &str, answer: Answer) {
        let asked = self.asked();
        assert_eq!(asked.user, user);
        asked.answer.send(answer).expect("the thread waits");
    }
}

fn one_thread() -> AccountsConfig {
    AccountsConfig { threads: 1, deadline: PATIENCE * 2, ..AccountsConfig::default() }
}

fn good() -> Answer {
    Ok(Some(Account { disabled: false, details: "{}".into() }))
}

#[track_caller]
fn answer(receiver: &Receiver<Result<Arc<Account>, LookupError>>) -> Result<(), LookupError> {
    receiver.recv_timeout(PATIENCE).expect("everybody is answered").map(drop)
}

/// Looks a user up again and again until the answer is this one.
fn eventually(stage: &Stage, user: &str, expected: Result<(), LookupError>) {
    let deadline = Instant::now() + PATIENCE;
    while answer(&stage.look_up(user)) != expected {
        assert!(Instant::now() < deadline, "not {expected:?} within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_known_is_answered_on_the_callers_thread() {
    let stage = Stage::new(one_thread());
    let waiting = stage.look_up("ada");
    stage.tell("ada", good());
    assert_eq!(answer(&waiting), Ok(()));
    let (sender, receiver) = channel();
    stage.accounts.look_up("ada", move |_| {
        let _ = sender.send(std::thread::current().id());
    });
    assert_eq!(receiver.try_recv(), Ok(std::thread::current().id()));
    let stats = stage.accounts.stats();
    assert_eq!((stats.lookups, stats.cached, stats.queries, stats.found), (2, 1, 1, 2));
    stage.accounts.invalidate("ada");
    let waiting = stage.look_up("ada");
    stage.tell("ada", Ok(None));
    assert_eq!(answer(&waiting), Err(LookupError::Unknown));
}

#[test]
fn each_thread_has_a_query_at_a_time() {
    let stage = Stage::new(AccountsConfig { threads: 4, ..one_thread() });
    let waiting: Vec<_> = (0..8).map(|number| stage.look_up(&format!("user-{number}"))).collect();
    let first: Vec<Asked> = (0..4).map(|_| stage.asked()).collect();
    assert_eq!(stage.accounts.stats().queries, 4);
    for asked in first {
        asked.answer.send(good()).expect("the thread waits");
    }
    for _ in 0..4 {
        stage.asked().answer.send(good()).expect("the thread waits");
    }
    assert!(waiting.iter().all(|waiting| answer(waiting).is_ok()));
    assert_eq!(stage.opened.load(Ordering::SeqCst), 4);
}

#[test]
fn when_all_threads_hang_the_deadline_is_kept() {
    let config =
        AccountsConfig { threads: 2, deadline: Duration::from_millis(50), ..AccountsConfig::default() };
    let stage = Stage::new(config);
    // A machine that is busy may not start a thread before the deadline of the first who come.
    let mut hanging = Vec::new();
    for number in 0.. {
        let waiting = stage.look_up(&format!("first-{number}"));
        assert_eq!(answer(&waiting), Err(LookupError::TimedOut));
        hanging.extend(stage.asked.try_iter());
        if hanging.len() == 2 {
            break;
        }
    }
    let waiting: Vec<_> = (0..5).map(|number| stage.look_up(&format!("user-{number}"))).collect();
    assert!(waiting.iter().all(|waiting| answer(waiting) == Err(LookupError::TimedOut)));
    let later = stage.look_up("later");
    assert_eq!(answer(&later), Err(LookupError::TimedOut));
    // Nobody else was asked for, and nobody waits for what these bring.
    assert!(stage.asked.try_recv().is_err());
    for asked in hanging {
        asked.answer.send(good()).expect("the thread waits");
    }
    let stats = stage.accounts.stats();
    assert_eq!((stats.queries, stats.timed_out, stats.waiting), (2, stats.lookups, 0));
}

#[test]
fn dropped_accounts_answer_those_who_wait_and_end_their_threads() {
    let stage = Stage::new(AccountsConfig { threads: 3, ..one_thread() });
    let waiting: Vec<_> = (0..5).map(|number| stage.look_up(&format!("user-{number}"))).collect();
    let hanging = stage.asked();
    drop(stage.accounts);
    assert!(waiting.iter().all(|waiting| answer(waiting) == Err(LookupError::Unavailable)));
    drop((hanging, stage.asked));
    assert_eq!(stage.ended.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn an_answer_may_be_the_last_to_hold_the_accounts() {
    let Stage { accounts, asked, ended, .. } = Stage::new(one_thread());
    let (sender, receiver) = channel();
    let held = Arc::clone(&accounts);
    accounts.look_up("ada", move |found| {
        drop(held);
        drop(sender.send(found));
    });
    drop(accounts);
    let query = asked.recv_timeout(PATIENCE).expect("a thread asks");
    query.answer.send(good()).expect("the thread waits");
    assert_eq!(answer(&receiver), Ok(()));
    assert_eq!(ended.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn a_directory_that_goes_away_comes_back() {
    let stage = Stage::new(AccountsConfig { cache_lifetime: Duration::ZERO, ..one_thread() });
    let first = stage.look_up("ada");
    stage.tell("ada", good());
    assert_eq!(answer(&first), Ok(()));
    stage.away.store(true, Ordering::SeqCst);
    let second = stage.look_up("ada");
    stage.tell("ada", Err(DirectoryError::broken("cut off")));
    assert_eq!(answer(&second), Err(LookupError::Unavailable));
    // Nobody is asked any more, so nobody needs to answer.
    eventually(&stage, "bob", Err(LookupError::Unavailable));
    let deadline = Instant::now() + PATIENCE;
    while !stage.accounts.stats().away {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    stage.away.store(false, Ordering::SeqCst);
    while stage.accounts.stats().away {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let third = stage.look_up("ada");
    stage.tell("ada", good());
    assert_eq!(answer(&third), Ok(()));
    assert_eq!((stage.accounts.stats().times_away, stage.opened.load(Ordering::SeqCst)), (1, 2));
}

#[test]
fn a_directory_may_be_away_from_the_beginning() {
    let stage = Stage::new_with(one_thread(), true);
    eventually(&stage, "ada", Err(LookupError::Unavailable));
    drop(stage.accounts);
    assert_eq!(stage.ended.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn a_connection_that_was_cut_meanwhile_is_made_anew() {
    let stage = Stage::new(one_thread());
    let waiting = stage.look_up("ada");
    stage.tell("ada", Err(DirectoryError::broken("cut off")));
    stage.tell("ada", good());
    assert_eq!(answer(&waiting), Ok(()));
    // One that can be made but not used is no reason to go on for ever.
    let waiting = stage.look_up("bob");
    stage.tell("bob", Err(DirectoryError::broken("cut off")));
    stage.tell("bob", Err(DirectoryError::broken("cut off")));
    assert_eq!(answer(&waiting), Err(LookupError::Unavailable));
    let stats = stage.accounts.stats();
    assert_eq!((stats.times_away, stats.failures, stage.opened.load(Ordering::SeqCst)), (0, 1, 3));
}

#[test]
fn a_query_that_fails_does_not_end_the_connection() {
    let stage = Stage::new(one_thread());
    let waiting = stage.look_up("ada");
    stage.tell("ada", Err(DirectoryError::failed("took too long")));
    assert_eq!(answer(&waiting), Err(LookupError::Unavailable));
    let waiting = stage.look_up("ada");
    stage.tell(
        "ada",
        Ok(Some(Account { disabled: false, details: " ".repeat(DETAILS_BYTES_MAX + 1).into() })),
    );
    assert_eq!(answer(&waiting), Err(LookupError::Unavailable));
    let waiting = stage.look_up("ada");
    stage.tell("ada", Ok(Some(Account { disabled: true, details: "{}".into() })));
    assert_eq!(answer(&waiting), Err(LookupError::Disabled));
    let stats = stage.accounts.stats();
    assert_eq!((stats.failures, stats.times_away, stage.opened.load(Ordering::SeqCst)), (2, 0, 1));
}

#[test]
fn what_panics_is_survived() {
    struct Panics;
    impl Directory for Panics {
        fn find(&mut self, user: &str) -> Answer {
            assert_ne!(user, "eve", "on purpose");
            good()
        }
    }
    let accounts = Accounts::start(one_thread(), || Ok(Box::new(Panics))).expect("threads are allowed");
    let look_up = |user: &str| {
        let (sender, receiver) = channel();
        accounts.look_up(user, move |found| drop(sender.send(found)));
        receiver
    };
    assert_eq!(answer(&look_up("eve")), Err(LookupError::Unavailable));
    accounts.look_up("bob", |_| panic!("on purpose"));
    assert_eq!(answer(&look_up("ada")), Ok(()));
}
