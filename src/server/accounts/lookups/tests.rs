//! The look-ups on pretended time.

use std::cell::Cell;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Look-ups on pretended time. Answers arrive as `user=outcome`, in their order.
struct Desk {
    lookups: Lookups,
    now: Instant,
    sender: Sender<String>,
    answers: Receiver<String>,
    asked: Cell<usize>,
}

impl Desk {
    fn new(change: impl FnOnce(&mut AccountsConfig)) -> Self {
        let mut config = AccountsConfig {
            queue_max: 4,
            deadline: 10 * SECOND,
            cache_lifetime: 60 * SECOND,
            cache_entries_max: 10,
            ..AccountsConfig::default()
        };
        change(&mut config);
        let now = Instant::now();
        let (sender, answers) = channel();
        Self { lookups: Lookups::new(config, now), now, sender, answers, asked: Cell::new(0) }
    }

    fn ask(&mut self, user: &str) {
        let (sender, name) = (self.sender.clone(), user.to_owned());
        self.asked.set(self.asked.get() + 1);
        let reply = Box::new(move |found: Found| {
            let outcome = match found {
                Ok(account) => account.details.to_string(),
                Err(error) => format!("{error:?}"),
            };
            sender.send(format!("{name}={outcome}")).unwrap();
        });
        let known = self.lookups.handle_look_up(user, reply, self.now);
        give(known.into_iter().collect());
    }

    fn query(&mut self) -> Query {
        match self.lookups.poll_work(self.now) {
            Work::Query(query) => query,
            _ => panic!("no query"),
        }
    }

    fn found(&mut self, query: &Query, found: Option<Option<Account>>) {
        give(self.lookups.handle_found(query, found, self.now));
    }

    /// Has a user looked up, with this outcome of the query.
    fn look_up(&mut self, user: &str, found: Option<Option<Account>>) {
        self.ask(user);
        let query = self.query();
        assert_eq!(&*query.user, user);
        self.found(&query, found);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        give(self.lookups.handle_deadlines(self.now));
    }

    #[track_caller]
    fn check(&mut self, answers: &[&str]) {
        assert_eq!(self.answers.try_iter().collect::<Vec<_>>(), answers);
    }

    #[track_caller]
    fn check_idle(&mut self) {
        assert!(matches!(self.lookups.poll_work(self.now), Work::Wait));
    }
}

fn give(answers: Answers) {
    answers.into_iter().for_each(|(reply, found)| reply(found));
}

fn good(details: &str) -> Option<Option<Account>> {
    Some(Some(Account { disabled: false, details: details.into() }))
}

const UNKNOWN: Option<Option<Account>> = Some(None);

fn disabled() -> Option<Option<Account>> {
    Some(Some(Account { disabled: true, details: "{}".into() }))
}

#[test]
fn answers_are_remembered_for_their_time() {
    let check = |found: Option<Option<Account>>, outcome: &str, lifetime: Duration, seconds: u32| {
        let mut desk = Desk::new(|config| config.cache_lifetime = lifetime);
        desk.look_up("ada", found);
        desk.check(&[&format!("ada={outcome}")]);
        if seconds > 0 {
            desk.pass(seconds * SECOND - Duration::from_nanos(1));
            desk.ask("ada");
            desk.check(&[&format!("ada={outcome}")]);
            desk.pass(Duration::from_nanos(1));
        }
        desk.look_up("ada", good("2"));
        desk.check(&["ada=2"]);
    };
    check(good("1"), "1", 60 * SECOND, 60);
    check(UNKNOWN, "Unknown", 60 * SECOND, 5);
    check(disabled(), "Disabled", 60 * SECOND, 5);
    check(disabled(), "Disabled", 2 * SECOND, 2);
    check(good("1"), "1", Duration::ZERO, 0);
    // That nobody could say is not remembered.
    check(None, "Unavailable", 60 * SECOND, 0);
}

#[test]
fn times_without_end_are_taken() {
    let mut desk =
        Desk::new(|config| (config.deadline, config.cache_lifetime) = (Duration::MAX, Duration::MAX));
    desk.look_up("ada", good("1"));
    desk.pass(300 * 86_400 * SECOND);
    desk.ask("ada");
    desk.check(&["ada=1", "ada=1"]);
}

#[test]
fn look_ups_of_one_user_share_a_query() {
    let mut desk = Desk::new(|_| ());
    desk.ask("ada");
    desk.ask("ada");
    let query = desk.query();
    desk.ask("ada");
    desk.check_idle();
    desk.found(&query, good("1"));
    desk.check(&["ada=1", "ada=1", "ada=1"]);
    let stats = desk.lookups.stats();
    assert_eq!((stats.lookups, stats.queries, stats.shared, stats.found), (3, 1, 2, 3));
    assert_eq!((stats.waiting, stats.cache_entries), (0, 1));
}

#[test]
fn more_than_may_wait_are_refused_at_once() {
    let mut desk = Desk::new(|_| ());
    desk.look_up("ada", good("1"));
    desk.check(&["ada=1"]);
    for user in ["a", "b", "c", "c"] {
        desk.ask(user);
    }
    let query = desk.query();
    desk.ask("d");
    desk.ask("c");
    desk.ask("ada");
    desk.check(&["d=Overloaded", "c=Overloaded", "ada=1"]);
    desk.found(&query, UNKNOWN);
    desk.ask("d");
    desk.check(&["a=Unknown"]);
    assert_eq!(desk.lookups.stats().overloaded, 2);
}

#[test]
fn nobody_waits_past_the_deadline() {
    let mut desk = Desk::new(|_| ());
    desk.ask("ada");
    desk.ask("bob");
    let query = desk.query();
    desk.pass(6 * SECOND);
    desk.ask("ada");
    desk.pass(3 * SECOND);
    desk.check(&[]);
    desk.pass(SECOND);
    desk.check(&["ada=TimedOut", "bob=TimedOut"]);
    // Nobody waits for bob any more, so nobody asks for him; the second of ada's has time left.
    desk.check_idle();
    desk.found(&query, good("1"));
    desk.check(&["ada=1"]);
    assert_eq!(desk.lookups.poll_deadline(), None);
}

#[test]
fn whoever_takes_work_answers_the_late_first() {
    let mut desk = Desk::new(|_| ());
    desk.ask("ada");
    desk.now += 10 * SECOND;
    match desk.lookups.poll_work(desk.now) {
        Work::Answer(answers) => give(answers),
        _ => panic!("ada has waited too long"),
    }
    desk.check(&["ada=TimedOut"]);
    desk.check_idle();
}

#[test]
fn a_query_that_nobody_waits_for_is_followed_by_another() {
    let mut desk = Desk::new(|_| ());
    desk.ask("ada");
    let hanging = desk.query();
    desk.pass(10 * SECOND);
    desk.ask("ada");
    let query = desk.query();
    desk.found(&query, disabled());
    desk.check(&["ada=TimedOut", "ada=Disabled"]);
    // What the first brings at last is older.
    desk.found(&hanging, good("1"));
    desk.ask("ada");
    desk.check(&["ada=Disabled"]);
}

#[test]
fn an_answer_that_comes_too_late_serves_whoever_comes_back() {
    let mut desk = Desk::new(|_| ());
    desk.ask("ada");
    desk.pass(5 * SECOND);
    let query = desk.query();
    desk.pass(5 * SECOND);
    desk.check(&["ada=TimedOut"]);
    desk.found(&query, good("1"));
    desk.ask("ada");
    desk.check(&["ada=1"]);
    // It is as old as its query.
    desk.pass(55 * SECOND - Duration::from_nanos(1));
    desk.ask("ada");
    desk.check(&["ada=1"]);
    desk.pass(Duration::from_nanos(1));
    desk.look_up("ada", good("2"));
    desk.check(&["ada=2"]);
}

#[test]
fn an_answer_that_comes_too_late_is_not_taken_after_a_change() {
    for all in [false, true] {
        let mut desk = Desk::new(|_| ());
        desk.ask("ada");
        let query = desk.query();
        desk.pass(10 * SECOND);
        match all {
            true => desk.lookups.invalidate_all(),
            false => desk.lookups.invalidate("ada"),
        }
        desk.found(&query, good("1"));
        desk.look_up("ada", good("2"));
        desk.check(&["ada=TimedOut", "ada=2"]);
    }
}

#[test]
fn whoever_asks_after_a_change_gets_no_answer_from_before() {
    for all in [false, true] {
        let mut desk = Desk::new(|_| ());
        desk.look_up("ada", good("1"));
        let change = |desk: &mut Desk| match all {
            true => desk.lookups.invalidate_all(),
            false => desk.lookups.invalidate("ada"),
        };
        change(&mut desk);
        desk.ask("ada");
        change(&mut desk);
        let query = desk.query();
        change(&mut desk);
        desk.found(&query, good("2"));
        desk.check(&["ada=1"]);
        let query = desk.query();
        desk.ask("ada");
        desk.found(&query, disabled());
        desk.check(&["ada=Disabled", "ada=Disabled"]);
        desk.check_idle();
    }
}

#[test]
fn a_change_while_the_directory_is_away_lets_nobody_in() {
    let mut desk = Desk::new(|config| config.when_away = WhenAway::Cached);
    desk.ask("ada");
    let query = desk.query();
    desk.lookups.invalidate("ada");
    give(desk.lookups.handle_away().unwrap());
    desk.found(&query, good("1"));
    desk.check(&["ada=Unavailable"]);
}

#[test]
fn while_the_directory_is_away_the_setting_decides() {
    let check = |when_away: WhenAway, expected: &[&str], passed: u64| {
        let mut desk = Desk::new(|config| config.when_away = when_away);
        desk.look_up("good", good("1"));
        desk.look_up("unknown", UNKNOWN);
        desk.look_up("disabled", disabled());
        desk.pass(50 * SECOND);
        desk.look_up("fresh", good("2"));
        desk.check(&["good=1", "unknown=Unknown", "disabled=Disabled", "fresh=2"]);
        desk.pass(10 * SECOND);
        desk.ask("good");
        desk.ask("other");
        give(desk.lookups.handle_away().expect("it was there"));
        assert!(desk.lookups.handle_away().is_none());
        for user in ["good", "unknown", "disabled", "fresh", "never"] {
            desk.ask(user);
        }
        desk.check(expected);
        desk.check_idle();
        let stats = desk.lookups.stats();
        assert_eq!((stats.away, stats.times_away, stats.passed_while_away), (true, 1, passed));
        desk.lookups.handle_back();
        desk.look_up("good", UNKNOWN);
        desk.check(&["good=Unknown"]);
        // A user who was good once has stopped being so.
        desk.lookups.handle_away();
        desk.pass(5 * SECOND);
        desk.ask("good");
        desk.check(&["good=Unavailable"]);
    };
    check(
        WhenAway::Refuse,
        &[
            "good=Unavailable",
            "other=Unavailable",
            "good=Unavailable",
            "unknown=Unavailable",
            "disabled=Unavailable",
            "fresh=2",
            "never=Unavailable",
        ],
        0,
    );
    check(
        WhenAway::Cached,
        &[
            "good=1",
            "other=Unavailable",
            "good=1",
            "unknown=Unavailable",
            "disabled=Unavailable",
            "fresh=2",
            "never=Unavailable",
        ],
        2,
    );
}

#[test]
fn a_directory_that_answers_nobody_is_away() {
    for (when_away, outcome) in [(WhenAway::Refuse, "TimedOut"), (WhenAway::Cached, "1")] {
        let mut desk = Desk::new(|config| config.when_away = when_away);
        desk.look_up("ada", good("1"));
        desk.pass(60 * SECOND);
        desk.ask("ada");
        desk.ask("bob");
        desk.query();
        desk.pass(10 * SECOND);
        desk.check(&["ada=1", &format!("ada={outcome}"), "bob=TimedOut"]);
        // One that answers others is slow.
        desk.ask("ada");
        desk.query();
        desk.look_up("eve", UNKNOWN);
        desk.pass(10 * SECOND);
        desk.check(&["eve=Unknown", if outcome == "1" { "ada=1" } else { "ada=TimedOut" }]);
    }
}

#[test]
fn what_is_no_id_is_unknown_without_a_query() {
    let mut desk = Desk::new(|_| ());
    desk.ask("");
    desk.ask(&"x".repeat(256));
    desk.check(&["=Unknown", &format!("{}=Unknown", "x".repeat(256))]);
    desk.check_idle();
}

#[test]
fn at_the_end_all_are_answered() {
    let mut desk = Desk::new(|_| ());
    desk.ask("ada");
    desk.ask("bob");
    let query = desk.query();
    give(desk.lookups.handle_stop());
    desk.check(&["ada=Unavailable", "bob=Unavailable"]);
    desk.found(&query, good("1"));
    desk.ask("ada");
    desk.check(&["ada=Unavailable"]);
    assert!(matches!(desk.lookups.poll_work(desk.now), Work::Stop));
}

#[test]
fn failures_are_logged_once_a_minute() {
    let mut desk = Desk::new(|_| ());
    let mut logged = |seconds: u32| {
        desk.now += seconds * SECOND;
        desk.lookups.handle_failure(desk.now)
    };
    assert_eq!(
        [logged(0), logged(1), logged(58), logged(1), logged(0)],
        [Some(1), None, None, Some(3), None]
    );
    assert_eq!(desk.lookups.stats().failures, 5);
}

/// Whatever happens in whatever order, everybody has one answer in the end.
#[test]
fn everybody_is_answered_once() {
    for seed in 0..200u32 {
        let mut random = seed;
        let mut dice = |sides: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) % sides
        };
        let when_away = if dice(2) == 0 { WhenAway::Refuse } else { WhenAway::Cached };
        let mut desk = Desk::new(|config| config.when_away = when_away);
        let mut under_way = Vec::new();
        for _ in 0..500 {
            let user = format!("user-{}", dice(6));
            match dice(12) {
                0..4 => desk.ask(&user),
                4..6 => match desk.lookups.poll_work(desk.now) {
                    Work::Query(query) => under_way.push(query),
                    Work::Answer(answers) => give(answers),
                    Work::Wait | Work::Stop => {}
                },
                6..8 if !under_way.is_empty() => {
                    let query = under_way.swap_remove(dice(under_way.len() as u32) as usize);
                    let found = [None, UNKNOWN, disabled(), good("1")][dice(4) as usize].clone();
                    desk.found(&query, found);
                }
                8 => desk.pass(dice(5) * SECOND),
                9 => desk.lookups.invalidate(&user),
                10 => give(desk.lookups.handle_away().unwrap_or_default()),
                11 => desk.lookups.handle_back(),
                _ => {}
            }
        }
        give(desk.lookups.handle_stop());
        let stats = desk.lookups.stats();
        let answered = stats.found
            + stats.unknown
            + stats.disabled
            + stats.unavailable
            + stats.overloaded
            + stats.timed_out;
        assert_eq!(desk.answers.try_iter().count(), desk.asked.get(), "seed {seed}");
        assert_eq!(answered, stats.lookups, "seed {seed}");
    }
}
