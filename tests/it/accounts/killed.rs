//! A process that is killed while it writes to the store.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use hailer::server::store::{Store, StoreWriter};

use super::records::{insert, message};
use super::support::Folder;

/// Where the process that is to be killed finds its store, and what its ids begin with.
const STORE: &str = "HAILER_TEST_STORE";
const PREFIX: &str = "HAILER_TEST_PREFIX";

const THREADS: usize = 8;

/// Stands before each id that was acknowledged: the harness prints lines of its own.
const MARK: &str = "acknowledged ";

/// Writes messages, each thread one after the other, and says which are acknowledged.
fn write(path: &Path, prefix: &str, count: usize, said: impl Fn(&str) + Sync) {
    let writer = StoreWriter::start(Store::open(path).expect("it opens"), 1000).expect("it starts");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (writer, said) = (&writer, &said);
            scope.spawn(move || {
                for number in 0..count / THREADS {
                    let id = format!("{prefix}-{thread}-{number}");
                    assert_eq!(writer.write(insert(vec![message(&id)])), Ok(1));
                    said(&id);
                }
            });
        }
    });
}

/// Alone it writes a few and finds them; as the process that is to be killed it writes ten thousand.
#[test]
fn what_is_acknowledged_is_there() {
    if let (Ok(path), Ok(prefix)) = (std::env::var(STORE), std::env::var(PREFIX)) {
        let say = |id: &str| writeln!(std::io::stdout(), "{MARK}{id}").expect("somebody reads");
        write(Path::new(&path), &prefix, 10_000, say);
        return;
    }
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let acknowledged = Mutex::new(Vec::new());
    write(&path, "alone", 80, |id| acknowledged.lock().unwrap().push(id.to_owned()));
    let acknowledged = acknowledged.into_inner().unwrap();
    assert_eq!(acknowledged.len(), 80);
    let store = Store::open(&path).unwrap();
    assert!(acknowledged.iter().all(|id| store.message(id).unwrap().is_some()));
}

#[test]
fn what_was_acknowledged_survives_twenty_kills() {
    let folder = Folder::new();
    let path = folder.file("hailer.db");
    let program = std::env::current_exe().expect("this program has a path");
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..20 {
        let mut child = Command::new(&program)
            .args(["--exact", "accounts::killed::what_is_acknowledged_is_there", "--nocapture"])
            .env(STORE, &path)
            .env(PREFIX, format!("r{round}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this program starts once more");
        let wanted = 1 + round * 29;
        let (mut found, mut killed) = (0, false);
        let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut line = String::new();
        // What it has said before its end still comes. The last line may be torn.
        while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.ends_with('\n') {
            if let Some((_, id)) = line.trim_end().split_once(MARK) {
                acknowledged.push(id.to_owned());
                found += 1;
            }
            line.clear();
            if found >= wanted && !killed {
                child.kill().expect("it is a child");
                killed = true;
            }
        }
        assert!(killed, "it has ended by itself: {}", child.wait().expect("it was started"));
        assert!(!child.wait().expect("it was started").success(), "it was killed in the middle");
        let store = Store::open(&path).expect("it is sound");
        for id in &acknowledged {
            assert!(store.message(id).unwrap().is_some(), "{id} is missing after {round} kills more");
        }
    }
    assert!(acknowledged.len() > 20 * 200, "{}", acknowledged.len());
}
