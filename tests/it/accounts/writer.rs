//! The thread that writes to the store.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hailer::desk::{AuditQuery, DeskError, ErrorCode, Message, MessageQuery, Records};
use hailer::server::store::{Store, StoreErrorKind, StoreWriter, Write};
use rusqlite::Connection;

use super::records::{entry, insert, json, message};
use super::support::Folder;
use crate::support::Disk;
use crate::support::eventually;

fn start(path: &Path) -> StoreWriter {
    StoreWriter::start(Store::open(path).expect("the store opens"), 10_000).expect("the thread starts")
}

/// Keeps everybody else from writing until it is dropped.
struct Lock(Connection);

impl Lock {
    fn new(path: &Path) -> Self {
        let connection = Connection::open(path).expect("it opens");
        connection.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
        Self(connection)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.execute_batch("ROLLBACK").expect("it can be rolled back");
    }
}

fn count(store: &Store) -> usize {
    let query = MessageQuery { limit: 1000, ..MessageQuery::default() };
    let (mut count, mut before) = (0, None);
    loop {
        let page = store.messages(&MessageQuery { before, ..query.clone() }).unwrap();
        count += page.messages.len();
        match page.next {
            Some(next) => before = Some(next),
            None => return count,
        }
    }
}

/// A message of so many bytes.
fn large(id: &str, bytes: usize) -> Write {
    insert(vec![Message { payload: json(&format!("\"{}\"", "x".repeat(bytes))), ..message(id) }])
}

#[test]
fn what_waits_shares_a_commit() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let writer = start(&path);
    let lock = Lock::new(&path);
    writer.submit(insert(vec![message("first")])).expect("there is room");
    eventually("the thread waits for the other connection", || (writer.stats().queue == 0).then_some(()));
    thread::scope(|scope| {
        for thread in 0..8 {
            let writer = &writer;
            scope.spawn(move || {
                assert_eq!(writer.write(insert(vec![message(&format!("w-{thread}"))])), Ok(1));
            });
        }
        for number in 0..500 {
            writer.submit(insert(vec![message(&format!("s-{number}"))])).expect("there is room");
        }
        eventually("the others wait", || (writer.stats().queue == 508).then_some(()));
        assert!(writer.stats().queue_bytes > 508 && writer.stats().jobs == 0);
        drop(lock);
    });
    writer.close();
    let stats = writer.stats();
    assert_eq!((stats.jobs, stats.jobs_failed, stats.queue, stats.queue_bytes), (509, 0, 0, 0));
    // The first, and all that has come while it waited.
    assert_eq!((stats.commits, stats.commits_failed, stats.failing), (2, 0, false));
    assert!(stats.commit_nanos_total > 0);
    assert_eq!(count(&Store::open(&path).unwrap()), 509);
}

#[test]
fn one_that_fails_leaves_those_beside_it() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let writer = start(&path);
    assert_eq!(writer.write(insert(vec![message("there")])), Ok(1));
    let lock = Lock::new(&path);
    thread::scope(|scope| {
        for id in ["a", "there", "b", "there", "c"] {
            let writer = &writer;
            scope.spawn(move || {
                let written = writer.write(insert(vec![message(&format!("{id}-first")), message(id)]));
                match id {
                    "there" => assert_eq!(written.unwrap_err().kind(), StoreErrorKind::Invalid),
                    _ => assert_eq!(written, Ok(2)),
                }
            });
        }
        drop(lock);
    });
    let stats = writer.stats();
    assert_eq!((stats.jobs, stats.jobs_failed, stats.failing), (4, 2, false));
    assert_eq!(writer.reader().message("there-first").unwrap(), None);
    assert_eq!(writer.reader().message("c-first").unwrap(), Some(message("c-first")));
}

#[test]
fn what_is_more_than_may_wait_is_refused() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let writer = StoreWriter::start(Store::open(&path).unwrap(), 5).unwrap();
    let lock = Lock::new(&path);
    writer.submit(insert(vec![message("m-0")])).expect("there is room");
    eventually("the thread waits for the other connection", || (writer.stats().queue == 0).then_some(()));
    for number in 1..=5 {
        writer.submit(insert(vec![message(&format!("m-{number}"))])).expect("there is room");
    }
    let refused = writer.submit(insert(vec![message("m-6")])).unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Overloaded);
    assert_eq!(DeskError::from(refused).code, ErrorCode::Overloaded);
    assert_eq!(writer.write(insert(vec![message("w")])).unwrap_err().kind(), StoreErrorKind::Overloaded);
    assert_eq!(writer.stats().jobs_refused, 2);
    // So is what has too many bytes.
    drop(lock);
    let wide = StoreWriter::start(Store::open_existing(&path).unwrap(), 1000).unwrap();
    writer.close();
    let lock = Lock::new(&path);
    let refused = (0..10).find_map(|number| wide.submit(large(&format!("l-{number}"), 10_000_000)).err());
    assert_eq!(refused.expect("ten are too many").kind(), StoreErrorKind::Overloaded);
    assert!(wide.stats().queue_bytes <= 64 * 1024 * 1024);
    drop(lock);
    wide.close();
    let store = Store::open(&path).unwrap();
    assert!(store.message("w").unwrap().is_none() && store.message("m-6").unwrap().is_none());
    assert_eq!(count(&store), 6 + usize::try_from(wide.stats().jobs).unwrap());
}

#[test]
fn the_end_waits_for_what_was_submitted() {
    let folder = Folder::new();
    for (name, dropped) in [("closed.db", false), ("dropped.db", true)] {
        let path = folder.file(name);
        let writer = start(&path);
        for number in 0..2000 {
            writer.submit(insert(vec![message(&number.to_string())])).unwrap();
        }
        if !dropped {
            writer.clone().close();
            let late = writer.write(insert(vec![message("late")])).unwrap_err();
            assert_eq!((late.kind(), writer.submit(insert(vec![])).is_err()), (StoreErrorKind::Closed, true));
            assert_eq!(writer.reader().message("1999").unwrap(), Some(message("1999")), "reading goes on");
        }
        drop(writer);
        assert_eq!(count(&Store::open(&path).unwrap()), 2000);
        assert!(folder.names().iter().all(|name| !name.ends_with("-wal")), "all of it is in the file");
    }
}

#[test]
fn reading_does_not_wait_for_what_is_written() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let writer = start(&path);
    writer.write(insert(vec![message("there")])).unwrap();
    let lock = Lock::new(&path);
    writer.submit(insert(vec![message("soon")])).unwrap();
    eventually("the thread waits for the other connection", || (writer.stats().queue == 0).then_some(()));
    assert_eq!(Records::message(&writer, "there").unwrap(), Some(message("there")));
    assert_eq!(Records::message(&writer, "soon").unwrap(), None);
    let page = Records::messages(&writer, &MessageQuery { limit: 10, ..MessageQuery::default() }).unwrap();
    assert_eq!(page.messages, [message("there")]);
    drop(lock);
    Records::append_audit(&writer, &entry("staff:ada", "sign_in", 1)).unwrap();
    assert_eq!(Records::message(&writer, "soon").unwrap(), Some(message("soon")), "it came before the entry");
    assert_eq!(writer.audit(&AuditQuery { limit: 10, ..AuditQuery::default() }).unwrap().len(), 1);
}

#[test]
fn others_can_write_while_the_thread_always_does() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let writer = StoreWriter::start(Store::open(&path).unwrap(), 100).unwrap();
    let writes = AtomicBool::new(true);
    thread::scope(|scope| {
        for thread in 0..2 {
            let (writer, writes) = (&writer, &writes);
            scope.spawn(move || {
                for number in 0.. {
                    if !writes.load(Ordering::Relaxed) {
                        return;
                    }
                    let messages = (0..50).map(|at| message(&format!("{thread}-{number}-{at}"))).collect();
                    // So much waits that the thread goes from one transaction to the next.
                    if writer.submit(insert(messages)).is_err() {
                        thread::yield_now();
                    }
                }
            });
        }
        eventually("the thread has much to do", || (writer.stats().jobs_refused > 0).then_some(()));
        let mut other = Store::open_existing(&path).unwrap();
        let added: Vec<_> =
            (0..30).map(|number| other.add_user(&format!("user-{number}"), None, 0)).collect();
        writes.store(false, Ordering::Relaxed);
        assert!(added.iter().all(|added| *added == Ok(true)), "{added:?}");
    });
    writer.close();
    assert_eq!(writer.stats().jobs_failed, 0);
}

#[test]
fn a_store_in_memory_is_written_and_read_by_all() {
    let writer = StoreWriter::start(Store::open_in_memory().unwrap(), 100).unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let writer = writer.clone();
            scope.spawn(move || {
                for number in 0..50 {
                    let id = format!("{thread}-{number}");
                    assert_eq!(writer.write(insert(vec![message(&id)])), Ok(1));
                    assert_eq!(writer.reader().message(&id).unwrap(), Some(message(&id)));
                }
            });
        }
    });
    writer.close();
    assert_eq!(writer.stats().jobs, 200);
    assert!(writer.reader().message("3-49").unwrap().is_some());
}

#[test]
fn a_store_that_is_replaced_is_written_to_from_then_on() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let writer = start(&path);
    writer.write(insert(vec![message("old")])).unwrap();
    drop(Store::open(folder.file("copy.db")).unwrap());
    fs::rename(folder.file("copy.db"), &path).unwrap();
    // The other file's log is of no use to this one.
    for name in ["hailer.db-wal", "hailer.db-shm"] {
        fs::remove_file(folder.file(name)).unwrap();
    }
    let error = writer.write(insert(vec![message("lost")])).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Moved, "it was never in the file at the path");
    assert!(writer.stats().failing);
    assert_eq!(writer.write(insert(vec![message("fresh")])), Ok(1));
    assert!(!writer.stats().failing);
    let found = ["old", "lost", "fresh"].map(|id| writer.reader().message(id).unwrap().is_some());
    assert_eq!(found, [false, false, true]);
    fs::remove_file(&path).unwrap();
    for _ in 0..2 {
        assert!(writer.write(insert(vec![message("lost")])).is_err());
    }
}

/// Writes to a store until there is no room, makes room, and writes on. Everything that was acknowledged is there.
fn check_full(path: &Path, writer: &StoreWriter, make_room: impl FnOnce()) {
    let mut acknowledged = Vec::new();
    let error = loop {
        let id = format!("m-{}", acknowledged.len());
        match writer.write(large(&id, 20_000)) {
            Ok(_) => acknowledged.push(id),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 1000, "it never gets full");
    };
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
    assert!(error.to_string().contains("is full"), "{error}");
    let desk = DeskError::from(error);
    assert_eq!(desk.code, ErrorCode::StoreUnavailable);
    assert!(!desk.sentence.contains(&*path.to_string_lossy()), "{desk}");
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    // Those who don't wait are not told, so it is counted and shown. What is small enough may still be written.
    let mut failed = writer.stats().jobs_failed;
    writer.submit(large("unheard", 200_000)).expect("none waits");
    eventually("it has failed", || {
        let stats = writer.stats();
        if stats.jobs_failed > failed && !stats.failing {
            failed = stats.jobs_failed;
            writer.submit(large("unheard", 200_000)).expect("none waits");
        }
        (stats.jobs_failed > failed).then_some(())
    });
    let all_there = |ids: &[String]| {
        let store = Store::open_existing(path).unwrap();
        let found = |id: &String| store.message(id).unwrap().is_some() && writer.reader().message(id).is_ok();
        assert!(ids.iter().all(found));
        assert!(
            store.message(&format!("m-{}", ids.len())).unwrap().is_none()
                && store.message("unheard").unwrap().is_none()
        );
    };
    all_there(&acknowledged);
    make_room();
    // Nobody writes, and yet it is noticed.
    eventually("there is room again", || (!writer.stats().failing).then_some(()));
    for _ in 0..10 {
        let id = format!("m-{}", acknowledged.len());
        assert_eq!(writer.write(large(&id, 20_000)), Ok(1));
        acknowledged.push(id);
    }
    all_there(&acknowledged);
    writer.close();
    drop(Store::open(path).expect("it is sound"));
    all_there(&acknowledged);
}

#[test]
fn a_store_that_has_its_size_fails_loudly_and_goes_on_when_there_is_room() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let mut other = Store::open(&path).unwrap();
    for number in 0..50 {
        other.write(&large(&format!("ballast-{number}"), 20_000)).unwrap();
    }
    let store = Store::open_existing(&path).unwrap();
    store.limit_bytes(3 * 1024 * 1024).unwrap();
    let writer = StoreWriter::start(store, 100).unwrap();
    check_full(&path, &writer, || {
        let ids = (0..50).map(|number| format!("ballast-{number}")).collect();
        assert_eq!(other.write(&Write::RemoveMessages { ids, idempotency: None }), Ok(50));
    });
}

#[test]
fn a_full_disk_fails_loudly_and_is_gone_on_with_when_there_is_room() {
    let folder = Folder::new();
    let Some(_disk) = Disk::mount(folder.path(), "4m") else { return };
    let (path, ballast) = (folder.file("hailer.db"), folder.file("ballast"));
    fs::write(&ballast, vec![1; 1024 * 1024]).unwrap();
    let writer = start(&path);
    check_full(&path, &writer, || fs::remove_file(&ballast).unwrap());
}
