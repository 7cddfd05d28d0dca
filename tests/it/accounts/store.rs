//! The store on a real disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hailer::auth::deny::Denial;
use hailer::server::store::{Store, StoreError, StoreErrorKind};
use rusqlite::Connection;

use super::support::Folder;

fn denial(subject: &str, issued_before: Option<u64>, token_id: &str, until: u64) -> Denial {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Denial { subject: text(subject), issued_before, token_id: text(token_id), until }
}

/// A store with a user in it.
fn store_with_ada(path: &Path) -> Store {
    let mut store = Store::open(path).expect("the store opens");
    assert!(store.add_user("ada", Some("Ada"), 7).expect("it can be written"));
    store
}

/// Opening a file fails in this way, with a sentence that names the file, and leaves the file as it is.
#[track_caller]
fn check_refused(path: &Path, kind: StoreErrorKind) -> StoreError {
    let before = fs::read(path).ok();
    for open in [|path: &Path| Store::open(path), |path: &Path| Store::open_existing(path)] {
        let error = open(path).expect_err("it is no store");
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(fs::read(path).ok(), before, "the file has changed");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }
    Store::open(path).expect_err("it is no store")
}

#[test]
fn users_are_kept() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let mut store = store_with_ada(&path);
    assert!(!store.add_user("ada", None, 8).unwrap(), "there is one already");
    assert!(store.add_user("bob", None, 9).unwrap());
    assert!(store.disable_user("bob", 10).unwrap());
    assert!(store.disable_user("bob", 11).unwrap(), "once more does nothing");
    assert!(!store.disable_user("eve", 10).unwrap() && !store.enable_user("eve", 10).unwrap());
    drop(store);

    let mut store = Store::open(&path).unwrap();
    let ada = store.user("ada").unwrap().expect("she was added");
    assert_eq!((&*ada.id, ada.name.as_deref(), ada.disabled), ("ada", Some("Ada"), false));
    assert_eq!((ada.created, ada.changed), (7, 7));
    let bob = store.user("bob").unwrap().expect("he was added");
    assert_eq!((bob.name, bob.disabled, bob.created, bob.changed), (None, true, 9, 10));
    assert_eq!(store.user("ADA").unwrap(), None, "ids are compared byte by byte");
    assert!(store.enable_user("bob", 12).unwrap());
    assert!(!store.user("bob").unwrap().expect("he is there").disabled);
    assert!(store.remove_user("bob").unwrap() && !store.remove_user("bob").unwrap());
    assert_eq!(store.user("bob").unwrap(), None);
}

#[test]
fn users_are_listed_in_pages() {
    let folder = Folder::new();
    let mut store = Store::open(folder.file("hailer.db")).unwrap();
    for number in 0..25 {
        store.add_user(&format!("user-{number:02}"), None, 0).unwrap();
    }
    let mut ids = Vec::new();
    loop {
        let page = store.users(ids.last().map(String::as_str), 10).unwrap();
        assert!(page.len() <= 10);
        if page.is_empty() {
            break;
        }
        ids.extend(page.into_iter().map(|user| user.id));
    }
    assert_eq!(ids, (0..25).map(|number| format!("user-{number:02}")).collect::<Vec<_>>());
}

#[test]
fn what_is_no_id_is_refused() {
    let folder = Folder::new();
    let mut store = Store::open(folder.file("hailer.db")).unwrap();
    let long = "x".repeat(256);
    for id in ["", "a\nb", "a\0b", "\u{1b}[2J", &long] {
        let error = store.add_user(id, None, 0).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{id:?}: {error}");
        assert!(store.deny(&denial("x", None, id, 9), 0).is_err() || id.is_empty(), "{id:?}");
    }
    let error = store.add_user("ada", Some("A\rda"), 0).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    let hostile = "'; DROP TABLE users; --";
    assert!(store.add_user(&long[1..], None, 0).unwrap() && store.add_user(hostile, None, 0).unwrap());
    assert_eq!(store.user(hostile).unwrap().map(|user| user.id).as_deref(), Some(hostile));
}

#[test]
fn denials_are_kept_until_they_are_over() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let mut store = Store::open(&path).unwrap();
    let denials = [
        denial("ada", Some(100), "", 500),
        denial("bob", None, "", 600),
        denial("", None, "t-1", 700),
        denial("eve", Some(90), "t-2", u64::MAX / 2),
    ];
    for (number, denial) in (1..).zip(&denials) {
        assert_eq!(store.deny(denial, 50).unwrap(), number);
    }
    drop(store);
    let mut store = Store::open(&path).unwrap();
    let kept: Vec<Denial> = store.denials(499).unwrap().into_iter().map(|stored| stored.denial).collect();
    assert_eq!(kept, denials);
    assert_eq!(store.denials(500).unwrap().len(), 3, "one is over");
    assert_eq!(store.drop_expired_denials(600).unwrap(), 2);
    assert_eq!(store.denials(0).unwrap().iter().map(|stored| stored.number).collect::<Vec<_>>(), [3, 4]);
    assert!(store.remove_denial(4).unwrap() && !store.remove_denial(4).unwrap());
    assert!(!store.remove_denial(u64::MAX).unwrap());
    assert_eq!(store.deny(&denials[0], 50).unwrap(), 5, "numbers are not given twice");
    let nobody = store.deny(&denial("", Some(5), "", 9), 0).unwrap_err();
    assert_eq!(nobody.kind(), StoreErrorKind::Invalid);
}

#[test]
fn superfluous_denials_are_not_kept() {
    let check = |first: Denial, second: Denial, kept: &[u64]| {
        let folder = Folder::new();
        let mut store = Store::open(folder.file("hailer.db")).unwrap();
        store.deny(&first, 0).unwrap();
        store.deny(&second, 0).unwrap();
        let numbers: Vec<u64> = store.denials(0).unwrap().iter().map(|stored| stored.number).collect();
        assert_eq!(numbers, kept, "{first:?}, {second:?}");
    };
    let issued = |before, until| denial("ada", before, "", until);
    check(issued(Some(10), 50), issued(Some(10), 50), &[1]);
    check(issued(Some(10), 50), issued(Some(9), 40), &[1]);
    check(issued(Some(10), 50), issued(Some(11), 51), &[2]);
    // Neither denies all that the other does.
    check(issued(Some(10), 50), issued(Some(9), 51), &[1, 2]);
    check(issued(Some(10), 50), issued(Some(11), 49), &[1, 2]);
    check(issued(None, 50), issued(Some(10), 50), &[1]);
    check(issued(Some(10), 50), issued(None, 50), &[2]);
    check(issued(None, 50), issued(Some(10), 51), &[1, 2]);
    check(issued(None, 50), denial("bob", None, "", 50), &[1, 2]);
    check(issued(None, 50), denial("ada", None, "t-1", 50), &[1, 2]);
    check(denial("", None, "t-1", 50), denial("", None, "t-1", 60), &[2]);
}

#[test]
fn a_store_is_for_its_owner_alone() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let _store = store_with_ada(&path);
    assert_eq!(folder.names(), ["hailer.db", "hailer.db-shm", "hailer.db-wal"]);
    for name in folder.names() {
        let mode = fs::metadata(folder.file(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_store_may_have_any_name() {
    let folder = Folder::new();
    for name in ["a store?mode=ro#1%41.db", "file:x", "überall.db"] {
        drop(store_with_ada(&folder.file(name)));
        assert!(Store::open(folder.file(name)).unwrap().user("ada").unwrap().is_some(), "{name}");
        assert!(folder.names().contains(&name.to_owned()), "{:?}", folder.names());
    }
    let error = Store::open(folder.file("missing/hailer.db")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotPermitted, "{error}");
}

#[test]
fn an_existing_store_is_not_made() {
    let folder = Folder::new();
    let error = Store::open_existing(folder.file("hailer.db")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Missing);
    assert!(folder.names().is_empty());
}

#[test]
fn files_of_others_are_left_as_they_are() {
    let folder = Folder::new();
    let path = folder.file("file");
    check_refused(folder.path(), StoreErrorKind::NotAFile);
    for text in ["x", "a line\n", &"much text ".repeat(1000)] {
        fs::write(&path, text).unwrap();
        check_refused(&path, StoreErrorKind::Foreign);
    }
    for journal_mode in ["delete", "wal"] {
        let other = folder.file(journal_mode);
        let connection = Connection::open(&other).unwrap();
        connection.pragma_update(None, "journal_mode", journal_mode).unwrap();
        connection.execute_batch("CREATE TABLE users (id); PRAGMA application_id = 7").unwrap();
        // Once while its program has it open and what was written last is not in the file, once afterwards.
        check_refused(&other, StoreErrorKind::Foreign);
        drop(connection);
        check_refused(&other, StoreErrorKind::Foreign);
    }
}

#[test]
fn a_later_version_is_left_as_it_is() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    drop(store_with_ada(&path));
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    // The later version runs, and its number stands in the file beside alone.
    let error = check_refused(&path, StoreErrorKind::Newer);
    assert!(error.to_string().contains("99"), "{error}");
    drop(connection);
    check_refused(&path, StoreErrorKind::Newer);
}

#[test]
fn a_torn_store_is_refused() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let mut store = Store::open(&path).unwrap();
    for number in 0..2000 {
        store.add_user(&format!("user-{number}"), Some("a name of some length"), 0).unwrap();
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    assert!(whole.len() > 8 * 4096, "several pages: {}", whole.len());
    fs::write(&path, []).unwrap();
    check_refused(&path, StoreErrorKind::Torn);
    let refused = |what: &str| {
        let before = fs::read(&path).unwrap();
        let error = Store::open(&path).expect_err(what);
        assert_eq!(error.kind(), StoreErrorKind::Torn, "{what}: {error}");
        assert_eq!(fs::read(&path).unwrap(), before, "{what}");
    };
    for pages in [1, 2, whole.len() / 4096 - 1] {
        fs::write(&path, &whole[..pages * 4096]).unwrap();
        refused(&format!("cut after {pages} pages"));
    }
    for page in 1..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..][..16].fill(0xff);
        fs::write(&path, bytes).unwrap();
        refused(&format!("page {page} is overwritten"));
    }
    fs::write(&path, whole).unwrap();
    assert!(Store::open(&path).unwrap().user("user-1999").unwrap().is_some());
}

#[test]
fn what_belongs_to_a_missing_store_is_not_taken_for_a_part_of_another() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let store = store_with_ada(&path);
    let wal = fs::read(folder.file("hailer.db-wal")).unwrap();
    drop(store);
    let whole = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(folder.file("hailer.db-wal"), wal).unwrap();
    check_refused(&path, StoreErrorKind::Orphaned);
    assert_eq!(folder.names(), ["hailer.db-wal"]);
    fs::write(&path, whole).unwrap();
    assert!(Store::open(&path).unwrap().user("ada").unwrap().is_some());
}

#[test]
fn a_store_tells_what_another_has_written() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let mut store = store_with_ada(&path);
    assert!(!store.changed().unwrap(), "its own writes are no news");
    let mut other = Store::open_existing(&path).unwrap();
    assert!(!store.changed().unwrap() && !other.changed().unwrap());
    other.disable_user("ada", 9).unwrap();
    assert!(store.changed().unwrap() && !store.changed().unwrap());
    assert!(store.user("ada").unwrap().expect("she is there").disabled);
    drop(other);
    assert!(!store.changed().unwrap());
}

#[test]
fn a_store_that_is_replaced_is_noticed() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let mut store = store_with_ada(&path);
    drop(store_with_ada(&folder.file("copy.db")));
    fs::rename(folder.file("copy.db"), &path).unwrap();
    assert_eq!(store.changed().unwrap_err().kind(), StoreErrorKind::Moved);
    fs::remove_file(&path).unwrap();
    assert_eq!(store.changed().unwrap_err().kind(), StoreErrorKind::Moved);
}

#[test]
fn many_may_make_a_store_at_once() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let mut store = Store::open(path).expect("it opens");
                for number in 0..10 {
                    let id = format!("{thread}-{number}");
                    assert!(store.add_user(&id, None, 0).expect("others write but shortly"));
                    store.deny(&denial(&id, None, "", 9), 0).expect("others write but shortly");
                }
            });
        }
    });
    let store = Store::open(&path).unwrap();
    assert_eq!(store.users(None, 1000).unwrap().len(), 80);
    assert_eq!(store.denials(0).unwrap().len(), 80);
    drop(store);
    assert_eq!(folder.names(), ["hailer.db"], "nothing is left behind");
}
