//! Messages, staff, the audit log and answers to repeated requests, in the store.

use hailer::auth::connect::Secret;
use hailer::desk::{AuditEntry, AuditQuery, Message, MessageQuery, MessageState, RawValueText, StaffAccount};
use hailer::server::store::{
    Counts, Idempotency, PRUNED_ROWS_MAX, Prune, StateChange, Store, StoreErrorKind, StoreWriter, Write,
};
use rusqlite::Connection;
use serde_json::value::RawValue;

use super::support::Folder;

/// A message that was sent to everybody.
pub(super) fn message(id: &str) -> Message {
    Message {
        id: id.to_owned(),
        topic: "room:lobby".to_owned(),
        user: None,
        event: "new_msg".to_owned(),
        payload: json(r#"{"body":"hello"}"#),
        sender: "staff:ada".to_owned(),
        state: MessageState::Sent,
        created_at: 1000,
        send_at: None,
        sent_at: Some(1000),
        expires_at: None,
        ended_at: None,
        ended_by: None,
        offset: None,
        subscribers: None,
        received: None,
        with_id: false,
        receipts: false,
        resend_of: None,
    }
}

pub(super) fn json(text: &str) -> Box<RawValueText> {
    RawValueText::new(RawValue::from_string(text.to_owned()).expect("it is JSON"))
}

pub(super) fn insert(messages: Vec<Message>) -> Write {
    Write::InsertMessages { messages, idempotency: None }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn ids(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| &*message.id).collect()
}

/// The ids of all messages of a query, page by page.
fn all(store: &Store, query: &MessageQuery) -> Vec<String> {
    let mut found = Vec::new();
    let mut query = query.clone();
    loop {
        let page = store.messages(&query).unwrap();
        assert!(page.messages.len() <= query.limit);
        found.extend(page.messages.into_iter().map(|message| message.id));
        match page.next {
            Some(next) => query.before = Some(next),
            None => return found,
        }
    }
}

#[test]
fn messages_are_kept_as_they_are() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let mut store = Store::open(&path).unwrap();
    let whole = Message {
        user: text("4711"),
        topic: "user:4711".to_owned(),
        payload: json(r#"{ "body" : "ä \u00e4 'quoted' \" 1e400", "n": 12345678901234567890123 }"#),
        state: MessageState::Retracted,
        send_at: Some(900),
        sent_at: Some(1001),
        expires_at: Some(9_000_000_000_000),
        ended_at: Some(1500),
        ended_by: text("key:orders"),
        offset: Some(7),
        subscribers: Some(15_000),
        received: Some(14_999),
        with_id: true,
        receipts: true,
        resend_of: text("bare"),
        ..message("whole")
    };
    assert_eq!(store.write(&insert(vec![message("bare"), whole.clone()])).unwrap(), 2);
    drop(store);
    let mut store = Store::open(&path).unwrap();
    assert_eq!(store.message("bare").unwrap(), Some(message("bare")));
    assert_eq!(store.message("whole").unwrap(), Some(whole));
    assert_eq!(store.message("Whole").unwrap(), None);

    // An id is used once, and a batch with such a one is not written at all.
    let error = store.write(&insert(vec![message("fresh"), message("bare")])).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    assert_eq!(store.message("fresh").unwrap(), None);
    let remove =
        Write::RemoveMessages { ids: vec!["whole".to_owned(), "none".to_owned()], idempotency: None };
    assert_eq!(store.write(&remove).unwrap(), 1);
    assert_eq!(store.message("whole").unwrap(), None);
}

#[test]
fn messages_are_listed_by_what_they_are() {
    let mut store = Store::open_in_memory().unwrap();
    let key = |id: &str| Message { sender: "key:orders".to_owned(), ..message(id) };
    let messages = vec![
        message("1"),
        Message { topic: "room:other".to_owned(), ..message("2") },
        key("3"),
        Message { state: MessageState::Scheduled, sent_at: None, send_at: Some(5), ..key("4") },
        Message { state: MessageState::Retracted, sender: "staff:bob".to_owned(), ..message("5") },
        Message { state: MessageState::Cancelled, ..message("6") },
        Message { state: MessageState::Expired, sender: "staffroom:x".to_owned(), ..message("7") },
    ];
    store.write(&insert(messages)).unwrap();
    let check = |query: MessageQuery, expected: &[&str]| {
        for limit in [1, 2, 100] {
            assert_eq!(all(&store, &MessageQuery { limit, ..query.clone() }), expected, "{query:?}");
        }
    };
    let any = MessageQuery::default;
    check(any(), &["7", "6", "5", "4", "3", "2", "1"]);
    check(MessageQuery { topic: text("room:other"), ..any() }, &["2"]);
    check(MessageQuery { topic: text("room:OTHER"), ..any() }, &[]);
    check(MessageQuery { sender: text("staff:ada"), ..any() }, &["6", "2", "1"]);
    check(MessageQuery { sender: text("staff:"), ..any() }, &["6", "5", "2", "1"]);
    check(MessageQuery { sender: text("staff"), ..any() }, &[]);
    check(MessageQuery { sender: text("key:"), ..any() }, &["4", "3"]);
    check(MessageQuery { state: Some(MessageState::Sent), ..any() }, &["3", "2", "1"]);
    check(MessageQuery { state: Some(MessageState::Scheduled), ..any() }, &["4"]);
    check(MessageQuery { state: Some(MessageState::Retracted), ..any() }, &["5"]);
    check(MessageQuery { state: Some(MessageState::Cancelled), ..any() }, &["6"]);
    check(MessageQuery { state: Some(MessageState::Expired), ..any() }, &["7"]);
    let narrow = MessageQuery { state: Some(MessageState::Sent), sender: text("staff:"), ..any() };
    check(MessageQuery { topic: text("room:lobby"), ..narrow }, &["1"]);
    check(MessageQuery { before: Some(3), ..any() }, &["2", "1"]);
    check(MessageQuery { before: Some(u64::MAX), topic: text("room:other"), ..any() }, &["2"]);
    check(MessageQuery { topic: text("' OR 1 --"), ..any() }, &[]);
    assert_eq!(store.messages(&any()).unwrap().messages.len(), 1, "a limit of 0 counts as 1");
}

#[test]
fn messages_are_found_by_their_text() {
    let mut store = Store::open_in_memory().unwrap();
    let says = |id: &str, payload: &str| Message { payload: json(payload), ..message(id) };
    let messages = vec![
        says("1", r#"{"body":"Maintenance at 5"}"#),
        says("2", r#"{"body":"100% done"}"#),
        says("3", r#"{"title":"\u00c4pfel","body":"say \"hi\""}"#),
        Message { topic: "user:Zoë".to_owned(), user: text("Zoë"), ..says("4", "{}") },
        Message { topic: "room:under_score".to_owned(), ..says("5", "[]") },
    ];
    store.write(&insert(messages)).unwrap();
    let check = |needle: &str, expected: &[&str]| {
        let query = MessageQuery { text: text(needle), limit: 10, ..MessageQuery::default() };
        assert_eq!(all(&store, &query), expected, "{needle}");
    };
    check("maintenance", &["1"]);
    check("MAINTENANCE AT", &["1"]);
    check("%", &["2"]);
    check("_", &["5"]);
    check("äpfel", &["3"]);
    check(r#"SAY "HI""#, &["3"]);
    check("ZOË", &["4"]);
    check("user:zoë", &["4"]);
    check("'", &[]);
    check("", &["5", "4", "3", "2", "1"]);
    let narrow = MessageQuery { topic: text("room:lobby"), limit: 1, ..MessageQuery::default() };
    assert_eq!(all(&store, &MessageQuery { text: text("o"), ..narrow }), ["3", "2", "1"]);
}

#[test]
fn a_search_ends_its_page_rather_than_look_at_everything() {
    let mut store = Store::open_in_memory().unwrap();
    let needle = Message { payload: json(r#"{"body":"the needle"}"#), ..message("needle") };
    store.write(&insert(vec![needle])).unwrap();
    store.write(&insert((0..50_000).map(|number| message(&number.to_string())).collect())).unwrap();
    let query = MessageQuery { text: text("needle"), limit: 10, ..MessageQuery::default() };
    let page = store.messages(&query).unwrap();
    assert_eq!((ids(&page.messages), page.next), (vec![], Some(2)));
    let page = store.messages(&MessageQuery { before: page.next, ..query }).unwrap();
    assert_eq!((ids(&page.messages), page.next), (vec!["needle"], None));
}

#[test]
fn a_page_ends_where_its_payloads_are_large() {
    let mut store = Store::open_in_memory().unwrap();
    let large = json(&format!("\"{}\"", "x".repeat(1_000_000)));
    let messages = (0..9).map(|number| Message { payload: large.clone(), ..message(&number.to_string()) });
    store.write(&insert(messages.collect())).unwrap();
    let query = MessageQuery { limit: 1000, ..MessageQuery::default() };
    assert_eq!(store.messages(&query).unwrap().messages.len(), 5);
    assert_eq!(all(&store, &query).len(), 9);
}

#[test]
fn a_state_follows_the_state_that_was_thought_and_no_other() {
    use MessageState::{Cancelled, Expired, Retracted, Scheduled, Sent};
    let mut store = Store::open_in_memory().unwrap();
    let scheduled = Message { state: Scheduled, sent_at: None, send_at: Some(50), ..message("m") };
    store.write(&insert(vec![scheduled.clone()])).unwrap();
    let mut change = |from, to, at, by: &str| {
        let change = StateChange { id: "m".to_owned(), from, to, at, by: text(by) };
        let rows = store.write(&Write::SetState(change)).unwrap();
        (rows, store.message("m").unwrap().unwrap())
    };
    let sent = Message { state: Sent, sent_at: Some(60), ..scheduled.clone() };
    let retracted =
        Message { state: Retracted, ended_at: Some(70), ended_by: text("staff:ada"), ..sent.clone() };
    assert_eq!(change(Sent, Retracted, 55, "staff:eve"), (0, scheduled.clone()));
    assert_eq!(change(Scheduled, Sent, 60, "nobody"), (1, sent.clone()));
    assert_eq!(change(Scheduled, Cancelled, 61, "staff:eve"), (0, sent.clone()));
    assert_eq!(change(Sent, Retracted, 70, "staff:ada"), (1, retracted.clone()));
    assert_eq!(change(Sent, Retracted, 71, "staff:eve"), (0, retracted.clone()));
    // What could not be published after all.
    assert_eq!(change(Retracted, Scheduled, 72, "nobody"), (1, scheduled.clone()));
    let expired = Message { state: Expired, ended_at: Some(80), ended_by: text("server:"), ..scheduled };
    assert_eq!(change(Scheduled, Expired, 80, "server:"), (1, expired));
    let unknown = StateChange { id: "none".to_owned(), from: Sent, to: Retracted, at: 1, by: None };
    assert_eq!(store.write(&Write::SetState(unknown)).unwrap(), 0);
}

#[test]
fn counts_are_noted_one_by_one() {
    let mut store = Store::open_in_memory().unwrap();
    store.write(&insert(vec![message("m")])).unwrap();
    let mut check = |counts: Counts, expected: [Option<u64>; 3]| {
        assert_eq!(store.write(&Write::SetCounts { id: "m".to_owned(), counts }).unwrap(), 1);
        let found = store.message("m").unwrap().unwrap();
        assert_eq!([found.offset, found.subscribers, found.received], expected);
    };
    let none = Counts::default();
    check(none, [None, None, None]);
    check(Counts { offset: Some(9), subscribers: Some(3), ..none }, [Some(9), Some(3), None]);
    check(Counts { received: Some(0), ..none }, [Some(9), Some(3), Some(0)]);
    check(Counts { received: Some(2), subscribers: Some(2), ..none }, [Some(9), Some(2), Some(2)]);
    let nobody = Write::SetCounts { id: "none".to_owned(), counts: none };
    assert_eq!(store.write(&nobody).unwrap(), 0);
}

#[test]
fn scheduled_messages_become_due_in_their_order() {
    let mut store = Store::open_in_memory().unwrap();
    assert_eq!(store.next_due().unwrap(), None);
    let at = |id: &str, time| Message {
        state: MessageState::Scheduled,
        sent_at: None,
        send_at: Some(time),
        ..message(id)
    };
    let messages = vec![
        at("late", 300),
        at("early", 100),
        Message { send_at: Some(50), ..message("sent") },
        at("same", 100),
    ];
    store.write(&insert(messages)).unwrap();
    let check = |now, limit, expected: &[&str]| {
        assert_eq!(ids(&store.due_messages(now, limit).unwrap()), expected, "{now}");
    };
    check(99, 10, &[]);
    check(100, 10, &["early", "same"]);
    check(100, 1, &["early"]);
    check(1000, 10, &["early", "same", "late"]);
    assert_eq!(store.next_due().unwrap(), Some(100));
}

#[test]
fn messages_with_a_lifetime_are_kept_for_later_joiners() {
    let mut store = Store::open_in_memory().unwrap();
    let kept =
        |id: &str, sent, until| Message { sent_at: Some(sent), expires_at: Some(until), ..message(id) };
    let messages = vec![
        kept("second", 20, 1000),
        kept("first", 10, 500),
        message("without"),
        Message { state: MessageState::Retracted, ..kept("retracted", 15, 1000) },
        Message { state: MessageState::Scheduled, sent_at: None, ..kept("scheduled", 0, 1000) },
    ];
    store.write(&insert(messages)).unwrap();
    let check = |now, limit, expected: &[&str]| {
        assert_eq!(ids(&store.kept_messages(now, limit).unwrap()), expected, "{now}");
    };
    check(0, 10, &["first", "second"]);
    check(499, 10, &["first", "second"]);
    check(0, 1, &["second"]);
    check(500, 10, &["second"]);
    check(1000, 10, &[]);
}

#[test]
fn kept_messages_of_earlier_versions_and_processes_come_first_whatever_the_clock_says() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let kept = |id: &str, sent, offset| Message {
        sent_at: Some(sent),
        expires_at: Some(u64::MAX >> 1),
        offset,
        ..message(id)
    };
    // A store that no process has begun to send from writes what an earlier version did.
    let mut store = Store::open(&path).unwrap();
    store.write(&insert(vec![kept("old 2", 90, Some(1)), kept("old 1", 80, Some(2))])).unwrap();
    drop(store);
    for (run, sent) in [("a", 50), ("b", 10)] {
        let writer = StoreWriter::start(Store::open(&path).unwrap(), 10).unwrap();
        let messages = [(4, None), (3, Some(12)), (1, Some(10)), (2, Some(11))]
            .map(|(place, offset)| kept(&format!("{run} {place}"), sent, offset));
        writer.write(insert(messages.into())).unwrap();
        writer.close();
    }
    let store = Store::open(&path).unwrap();
    let order = ["old 1", "old 2", "a 1", "a 2", "a 3", "a 4", "b 1", "b 2", "b 3", "b 4"];
    assert_eq!(ids(&store.kept_messages(0, 100).unwrap()), order);
    assert_eq!(ids(&store.kept_messages(0, 3).unwrap()), order[7..]);
}

#[test]
fn old_messages_are_forgotten_and_those_that_are_waited_for_stay() {
    let made = || {
        let mut store = Store::open_in_memory().unwrap();
        let at = |id: &str, time| Message { created_at: time, ..message(id) };
        let scheduled = Message { state: MessageState::Scheduled, send_at: Some(9999), ..at("scheduled", 1) };
        let messages = vec![
            scheduled,
            Message { expires_at: Some(500), ..at("kept", 2) },
            Message { expires_at: Some(500), state: MessageState::Retracted, ..at("retracted", 3) },
            at("old", 4),
            at("young", 50),
            at("youngest", 60),
        ];
        store.write(&insert(messages)).unwrap();
        store
    };
    let check = |before, keep_max, now, expected: &[&str]| {
        let mut store = made();
        let rows = store.write(&Write::Prune(Prune { before, keep_max, now })).unwrap();
        let left = all(&store, &MessageQuery { limit: 100, ..MessageQuery::default() });
        assert_eq!(left, expected, "before {before}, {keep_max} of them, at {now}");
        assert_eq!(rows, 6 - left.len());
    };
    check(0, 100, 100, &["youngest", "young", "old", "retracted", "kept", "scheduled"]);
    check(5, 100, 100, &["youngest", "young", "kept", "scheduled"]);
    check(5, 100, 500, &["youngest", "young", "scheduled"]);
    check(0, 1, 100, &["youngest", "kept", "scheduled"]);
    check(0, 0, 1000, &["scheduled"]);
    check(u64::MAX, u64::MAX, 1000, &["scheduled"]);
    // A step at a time.
    let mut store = Store::open_in_memory().unwrap();
    let many = PRUNED_ROWS_MAX + 10;
    store.write(&insert((0..many).map(|number| message(&number.to_string())).collect())).unwrap();
    let prune = Write::Prune(Prune { before: 0, keep_max: 3, now: 0 });
    assert_eq!([(); 3].map(|()| store.write(&prune).unwrap()), [PRUNED_ROWS_MAX, 7, 0]);
}

#[test]
fn answers_to_requests_are_kept_for_their_time() {
    let mut store = Store::open_in_memory().unwrap();
    let answer = |actor: &str, key: &str, until| Idempotency {
        actor: actor.to_owned(),
        key: key.to_owned(),
        fingerprint: [7; 32],
        reply: r#"{"messages":[]}"#.to_owned(),
        until,
    };
    let first = answer("key:orders", "k-1", 100);
    let publish = Write::InsertMessages { messages: vec![message("m")], idempotency: Some(first.clone()) };
    assert_eq!(store.write(&publish).unwrap(), 2);
    store.write(&Write::PutIdempotency(answer("key:other", "k-1", 200))).unwrap();
    assert_eq!(store.idempotency("key:orders", "k-1", 99).unwrap(), Some(first.clone()));
    assert_eq!(store.idempotency("key:orders", "k-1", 100).unwrap(), None, "it is over");
    assert_eq!(store.idempotency("key:orders", "K-1", 99).unwrap(), None);
    assert_eq!(store.idempotency("key:third", "k-1", 99).unwrap(), None, "the keys of others are theirs");
    let later = Idempotency { fingerprint: [8; 32], until: 300, ..first };
    store.write(&Write::PutIdempotency(later.clone())).unwrap();
    let second = answer("key:other", "k-1", 200);
    assert_eq!(store.all_idempotency(0, 10).unwrap(), [later.clone(), second]);
    assert_eq!(store.all_idempotency(0, 1).unwrap()[..], store.all_idempotency(0, 10).unwrap()[..1]);
    assert_eq!(store.all_idempotency(200, 10).unwrap(), [later]);
    assert_eq!(store.write(&Write::PruneIdempotency { now: 200 }).unwrap(), 1);
    let key = ("key:orders".to_owned(), "k-1".to_owned());
    let remove = Write::RemoveMessages { ids: vec!["m".to_owned()], idempotency: Some(key) };
    assert_eq!(store.write(&remove).unwrap(), 2);
    assert_eq!(store.all_idempotency(0, 10).unwrap(), []);
}

#[test]
fn accounts_of_staff_are_kept() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let mut store = Store::open(&path).unwrap();
    let account = |name: &str| StaffAccount {
        name: name.to_owned(),
        password_hash: Secret::new("$argon2id$…"),
        disabled: false,
        created_at: 7,
    };
    assert_eq!(store.write(&Write::AddStaff(account("bob"))).unwrap(), 1);
    assert_eq!(store.write(&Write::AddStaff(account("ada"))).unwrap(), 1);
    let other = StaffAccount { created_at: 8, ..account("ada") };
    assert_eq!(store.write(&Write::AddStaff(other)).unwrap(), 0, "she stays as she is");
    for name in ["", " ada", "a\nb", &"x".repeat(65)] {
        let error = store.write(&Write::AddStaff(account(name))).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{name:?}");
    }
    let hash = Secret::new("another");
    let set = |name: &str| Write::SetStaffPassword { name: name.to_owned(), hash: hash.clone(), at: 9 };
    assert_eq!(store.write(&set("ada")).unwrap(), 1);
    assert_eq!(store.write(&set("eve")).unwrap(), 0);
    let disable = |disabled| Write::SetStaffDisabled { name: "bob".to_owned(), disabled, at: 9 };
    assert_eq!(store.write(&disable(true)).unwrap(), 1);
    drop(store);
    let mut store = Store::open(&path).unwrap();
    let ada = StaffAccount { password_hash: hash.clone(), ..account("ada") };
    let bob = StaffAccount { disabled: true, ..account("bob") };
    assert_eq!(store.all_staff().unwrap(), [ada.clone(), bob]);
    assert_eq!(store.staff("ada").unwrap(), Some(ada));
    assert_eq!(store.staff("Ada").unwrap(), None);
    assert_eq!(store.write(&disable(false)).unwrap(), 1);
    assert_eq!(store.staff("bob").unwrap(), Some(account("bob")));
    let remove = Write::RemoveStaff { name: "bob".to_owned() };
    assert_eq!([store.write(&remove).unwrap(), store.write(&remove).unwrap()], [1, 0]);
}

pub(super) fn entry(actor: &str, action: &str, at: u64) -> AuditEntry {
    AuditEntry {
        number: 0,
        at,
        actor: actor.to_owned(),
        action: action.to_owned(),
        subject: "m-1".to_owned(),
        detail: String::new(),
        address: "192.0.2.7".to_owned(),
    }
}

#[test]
fn the_audit_log_is_listed_by_who_and_what() {
    let mut store = Store::open_in_memory().unwrap();
    let long = AuditEntry { detail: "ä".repeat(5000), ..entry("staff:ada", "publish", 40) };
    let entries = [
        entry("staff:ada", "sign_in", 10),
        entry("staff:bob", "sign_in", 20),
        entry("staff:bob", "publish", 30),
        long,
    ];
    for entry in entries {
        assert_eq!(store.write(&Write::Audit(AuditEntry { number: 99, ..entry })).unwrap(), 1);
    }
    let check = |query: AuditQuery, expected: &[u64]| {
        let found = store.audit(&query).unwrap();
        assert_eq!(found.iter().map(|entry| entry.number).collect::<Vec<_>>(), expected, "{query:?}");
    };
    let any = || AuditQuery { limit: 10, ..AuditQuery::default() };
    check(any(), &[4, 3, 2, 1]);
    check(AuditQuery { limit: 2, ..any() }, &[4, 3]);
    check(AuditQuery { before: Some(3), ..any() }, &[2, 1]);
    check(AuditQuery { actor: text("staff:bob"), ..any() }, &[3, 2]);
    check(AuditQuery { action: text("publish"), ..any() }, &[4, 3]);
    check(AuditQuery { action: text("publish"), actor: text("staff:bob"), ..any() }, &[3]);
    check(AuditQuery { actor: text("staff:"), ..any() }, &[]);
    let found = store.audit(&any()).unwrap();
    assert_eq!(found[0].detail, "ä".repeat(512), "what is too long is cut");
    assert_eq!(found[3], AuditEntry { number: 1, ..entry("staff:ada", "sign_in", 10) });
}

#[test]
fn several_writes_are_all_done_or_none_of_them() {
    let mut store = Store::open_in_memory().unwrap();
    let audit = || Write::Audit(entry("staff:ada", "publish", 1));
    let entries =
        |store: &Store| store.audit(&AuditQuery { limit: 10, ..AuditQuery::default() }).unwrap().len();
    let retract = |id: &str| {
        let (from, to) = (MessageState::Sent, MessageState::Retracted);
        Write::SetState(StateChange { id: id.to_owned(), from, to, at: 2, by: None })
    };
    assert_eq!(store.write(&Write::All(vec![audit(), insert(vec![message("m")])])).unwrap(), 2);
    assert_eq!(store.write(&Write::All(vec![audit(), retract("none"), audit()])).unwrap(), 0);
    assert!(store.write(&Write::All(vec![audit(), insert(vec![message("m")])])).is_err());
    assert_eq!(entries(&store), 1, "neither has left anything");
    let inner = Write::All(vec![retract("m"), retract("m")]);
    assert_eq!(store.write(&Write::All(vec![audit(), inner])).unwrap(), 0);
    assert_eq!(store.message("m").unwrap().unwrap().state, MessageState::Sent);
    assert_eq!(store.write(&Write::All(vec![retract("m"), audit()])).unwrap(), 2);
    assert_eq!((entries(&store), store.write(&Write::All(vec![])).unwrap()), (2, 0));
}

/// The tables of the first version.
const FIRST_VERSION: &str = "
    PRAGMA journal_mode = wal;
    PRAGMA application_id = 1214343532;
    PRAGMA user_version = 1;
    CREATE TABLE users (
        id TEXT PRIMARY KEY NOT NULL, name TEXT,
        disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
        created INTEGER NOT NULL, changed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE denials (
        number INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT, issued_before INTEGER, token_id TEXT,
        until INTEGER NOT NULL, created INTEGER NOT NULL,
        CHECK (subject IS NOT NULL OR token_id IS NOT NULL)
    ) STRICT;
    CREATE INDEX denials_by_whom ON denials (subject, token_id);
    CREATE INDEX denials_by_end ON denials (until);
    INSERT INTO users VALUES ('ada', 'Ada', 1, 7, 8);
    INSERT INTO denials VALUES (3, 'bob', NULL, NULL, 900, 10);";

#[test]
fn a_store_of_the_first_version_keeps_its_rows() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    Connection::open(&path).unwrap().execute_batch(FIRST_VERSION).unwrap();
    let mut store = Store::open(&path).unwrap();
    let ada = store.user("ada").unwrap().expect("she is there");
    assert_eq!((ada.name.as_deref(), ada.disabled, ada.created, ada.changed), (Some("Ada"), true, 7, 8));
    let denials = store.denials(0).unwrap();
    assert_eq!((denials.len(), denials[0].number, denials[0].denial.until), (1, 3, 900));
    assert_eq!(store.write(&insert(vec![message("m")])).unwrap(), 1);
    assert!(Store::open(&path).unwrap().message("m").unwrap().is_some());
}

#[test]
fn a_file_that_only_says_it_is_of_the_first_version_is_refused() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = wal; PRAGMA application_id = 1214343532; PRAGMA user_version = 1;
             CREATE TABLE other (a); INSERT INTO other VALUES (1)",
        )
        .unwrap();
    drop(connection);
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(error.to_string().contains("no such table"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before, "nothing has changed");
}

#[test]
fn messages_are_no_news_for_those_who_ask_who_may_connect() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let mut store = Store::open(&path).unwrap();
    let mut other = Store::open_existing(&path).unwrap();
    assert!(!store.access_changed().unwrap());
    other.write(&insert(vec![message("m")])).unwrap();
    other.write(&Write::Audit(entry("staff:ada", "publish", 1))).unwrap();
    assert!(!store.access_changed().unwrap());
    other.add_user("ada", None, 1).unwrap();
    other.write(&insert(vec![message("n")])).unwrap();
    assert!(store.access_changed().unwrap() && !store.access_changed().unwrap());
    other.disable_user("ada", 2).unwrap();
    assert!(store.access_changed().unwrap() && !store.access_changed().unwrap());
}

#[test]
fn a_store_in_memory_forgets_its_oldest_messages_when_it_is_full() {
    let mut store = Store::open_in_memory().unwrap();
    store.limit_bytes(1024 * 1024).unwrap();
    assert!(store.open_again().is_none());
    let large = json(&format!("\"{}\"", "x".repeat(10_000)));
    let waiting = Message { state: MessageState::Scheduled, send_at: Some(9), ..message("waiting") };
    store.write(&insert(vec![waiting])).unwrap();
    for number in 0..500 {
        let message = Message { payload: large.clone(), ..message(&number.to_string()) };
        assert_eq!(store.write(&insert(vec![message])).unwrap(), 1, "{number}");
    }
    assert!(!store.changed().unwrap() && !store.access_changed().unwrap(), "nobody else writes to it");
    let left = all(&store, &MessageQuery { limit: 1000, ..MessageQuery::default() });
    assert!(left.len() > 50 && left.len() < 120, "{}", left.len());
    assert_eq!((&*left[0], &**left.last().unwrap()), ("499", "waiting"));
    // What is larger than all of it is refused.
    let huge = Message { payload: json(&format!("\"{}\"", "x".repeat(2_000_000))), ..message("huge") };
    let error = store.write(&insert(vec![huge])).unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (StoreErrorKind::Full, "the store in memory is full"));
    assert_eq!(store.write(&insert(vec![message("small")])).unwrap(), 1);
}
