//! What outlives the process, in one SQLite file: users, denied tokens, messages, staff, the audit log, and answers to
//! requests that may be repeated.
//!
//! Several processes may have a store open at a time: the server, and the commands that change it. What one has
//! written, the others read at once, and [`Store::changed`] tells them.

mod audit;
mod denials;
mod error;
mod idempotency;
mod messages;
mod reader;
mod records;
mod schema;
mod staff;
mod trial;
mod users;
mod write;
mod writer;

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

pub use denials::StoredDenial;
pub use error::{StoreError, StoreErrorKind};
pub use idempotency::Idempotency;
pub use messages::{Counts, PRUNED_ROWS_MAX, Prune, StateChange};
pub use reader::StoreReader;
pub use trial::{Found, try_open};
pub use users::User;
pub use write::Write;
pub use writer::{StoreStats, StoreWriter};

use error::IN_MEMORY;
use schema::{APPLICATION_ID, MIGRATIONS};

/// Bytes of a user's id, and of a token's.
pub const ID_BYTES_MAX: usize = 255;

/// Bytes of a store in memory.
pub const MEMORY_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How long to wait for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is asked whether the other process has finished. SQLite's own waits of 100 ms would miss the gaps between
/// the transactions of a server that writes all the time.
const BUSY_INTERVAL: Duration = Duration::from_millis(1);

/// Bytes that SQLite's log of what was written last may keep on the disk after a burst.
const LOG_BYTES_MAX: i64 = 64 * 1024 * 1024;

/// Prepared statements that are kept: more than there are different ones.
const STATEMENTS_MAX: usize = 64;

/// An open store. One value is for one thread at a time; other threads open the file once more.
pub struct Store {
    connection: Connection,
    path: PathBuf,
    /// Device and number of the file, by which it is told from another one at its path. `None` in memory.
    file: Option<(u64, u64)>,
    data_version: i64,
    /// How often users and denials had been written to when it was last asked.
    access: i64,
    /// The number of this process among those that send messages. `None` in one that sends none.
    run: Option<i64>,
}

impl Store {
    /// Opens the store at `path`. A missing one is made, with nobody in it, to be read and written by its owner
    /// alone. The whole file is read to see that it is sound.
    ///
    /// # Errors
    /// The path leads to something that is no store of this version or an earlier one, to a damaged one, or to
    /// where nothing may be read or written. What is there is left as it is.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        match Self::connect(path, true) {
            Err(error) if error.kind() == StoreErrorKind::Missing => {
                create(path)?;
                Self::connect(path, true)
            }
            result => result,
        }
    }

    /// Opens a store that is there, for a further thread, or to look something up. The file is not read as a
    /// whole.
    ///
    /// # Errors
    /// As those of [`open`](Store::open); and the file may be missing.
    pub fn open_existing(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::connect(path.as_ref(), false)
    }

    fn connect(path: &Path, check: bool) -> Result<Self, StoreError> {
        let (mut connection, version, file) = open_file(path, check)?;
        let failed = |error: rusqlite::Error| StoreError::sqlite(path, &error);
        if version < schema::version(MIGRATIONS) {
            schema::migrate(&mut connection, MIGRATIONS).map_err(failed)?;
        }
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(failed)?;
        Self::opened(connection, path, Some(file))
    }

    fn opened(connection: Connection, path: &Path, file: Option<(u64, u64)>) -> Result<Self, StoreError> {
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        let mut store =
            Self { connection, path: path.to_owned(), file, data_version: 0, access: 0, run: None };
        store.changed()?;
        store.access = store.access_count()?;
        Ok(store)
    }

    /// A store without a file, which is gone with the process. It holds [`MEMORY_BYTES_MAX`] at most; when it is full, the
    /// oldest messages are forgotten.
    ///
    /// # Errors
    /// SQLite has no memory.
    pub fn open_in_memory() -> Result<Self, StoreError> {
        let path = Path::new(IN_MEMORY);
        let failed = |error: rusqlite::Error| StoreError::sqlite(path, &error);
        let mut connection = Connection::open_in_memory().map_err(failed)?;
        set_up(&connection).map_err(failed)?;
        schema::migrate(&mut connection, MIGRATIONS).map_err(failed)?;
        let store = Self::opened(connection, path, None)?;
        store.limit_bytes(MEMORY_BYTES_MAX)?;
        Ok(store)
    }

    /// Opens the file once more, for another thread. `None` in memory.
    ///
    /// # Errors
    /// As those of [`open_existing`](Store::open_existing).
    pub fn open_again(&self) -> Option<Result<Self, StoreError>> {
        self.file.is_some().then(|| Self::open_existing(&self.path))
    }

    /// Makes what would let the store grow beyond so many bytes fail as on a full disk, in this `Store` alone. A store
    /// that is larger already stays so.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn limit_bytes(&self, bytes_max: u64) -> Result<(), StoreError> {
        let set = || {
            let page: i64 = self.connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
            let pages = i64::try_from(bytes_max).unwrap_or(i64::MAX) / page;
            self.connection.pragma_update(None, "max_page_count", pages.max(1))
        };
        set().map_err(|error| self.failed(&error))
    }

    /// Whether another process, or another `Store` of this one, has written anything since the last call, or
    /// since the store was opened. Reads no table and takes a few microseconds.
    ///
    /// # Errors
    /// The file can't be read, or is no longer at its path ([`StoreErrorKind::Moved`]): whoever writes to the
    /// path writes to another file then.
    pub fn changed(&mut self) -> Result<bool, StoreError> {
        self.check_in_place()?;
        let version = self
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row((), |row| row.get(0)));
        let version = version.map_err(|error| self.failed(&error))?;
        let before = std::mem::replace(&mut self.data_version, version);
        Ok(before != version)
    }

    /// Whether users or denials have been written to since the last call, or since the store was opened. As cheap as
    /// [`changed`](Store::changed) while nobody writes, and one row more while anybody does.
    ///
    /// # Errors
    /// As those of [`changed`](Store::changed).
    pub fn access_changed(&mut self) -> Result<bool, StoreError> {
        // One that has changed in between is found by the next call, in which the version has changed again.
        if !self.changed()? {
            return Ok(false);
        }
        let count = self.access_count()?;
        let before = std::mem::replace(&mut self.access, count);
        Ok(before != count)
    }

    fn access_count(&self) -> Result<i64, StoreError> {
        self.connection
            .prepare_cached("SELECT count FROM marks WHERE name = 'access'")
            .and_then(|mut statement| statement.query_row((), |row| row.get(0)))
            .map_err(|error| self.failed(&error))
    }

    /// Refuses to go on with a file that is no longer at its path.
    pub(crate) fn check_in_place(&self) -> Result<(), StoreError> {
        let Some(file) = self.file else { return Ok(()) };
        match std::fs::metadata(&self.path) {
            Ok(found) if identity(&found) == file => Ok(()),
            Ok(_) => Err(StoreError::new(&self.path, StoreErrorKind::Moved)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::new(&self.path, StoreErrorKind::Moved))
            }
            Err(error) => Err(StoreError::io(&self.path, &error)),
        }
    }

    /// Where the store lies; `:memory:` in memory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, error: &rusqlite::Error) -> StoreError {
        StoreError::sqlite(&self.path, error)
    }

    fn invalid(&self, sentence: impl Into<Box<str>>) -> StoreError {
        StoreError::with_detail(&self.path, StoreErrorKind::Invalid, sentence)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Opens a file that is a store of this version or of an earlier one, and changes nothing of what it holds. Returns the
/// store's version and the file's identity as well. With `check` the whole file is read.
fn open_file(path: &Path, check: bool) -> Result<(Connection, u32, (u64, u64)), StoreError> {
    let file = examine(path)?;
    let failed = |error: rusqlite::Error| StoreError::sqlite(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    // A file that is refused is not even tidied up.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(failed)?;
    connection.busy_handler(Some(wait_for_others)).map_err(failed)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(failed)?;
    // What the header says may be older than what the other process has written last.
    let version: u32 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    refuse_newer(path, version)?;
    if check {
        let found: String =
            connection.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(failed)?;
        if found != "ok" {
            let first = found.lines().next().unwrap_or_default();
            return Err(StoreError::with_detail(path, StoreErrorKind::Torn, first));
        }
    }
    if connection.is_readonly("main").map_err(failed)? {
        return Err(StoreError::with_detail(path, StoreErrorKind::NotPermitted, "it is write-protected"));
    }
    set_up(&connection).map_err(failed)?;
    Ok((connection, version, file))
}

/// What SQLite is told for each connection. What was acknowledged is on the disk (`synchronous`).
fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
    // A row that replaces another one deletes it, and triggers are to notice that.
    connection.pragma_update(None, "recursive_triggers", true)?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// Waits while another connection writes; `false` once it has waited for [`BUSY_TIMEOUT`].
fn wait_for_others(times: i32) -> bool {
    let waited = BUSY_INTERVAL.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX));
    if waited >= BUSY_TIMEOUT {
        return false;
    }
    std::thread::sleep(BUSY_INTERVAL);
    true
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Looks at a file in a way that changes nothing, whatever it is: opened the usual way, a file of another
/// program may be rolled back or tidied up. SQLite reads it, since a file that is opened and closed beside
/// SQLite loses the locks that this process has on it. Returns the file's identity.
fn examine(path: &Path) -> Result<(u64, u64), StoreError> {
    let found = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(path)),
        found => found.map_err(|error| StoreError::io(path, &error))?,
    };
    if !found.is_file() {
        return Err(StoreError::new(path, StoreErrorKind::NotAFile));
    }
    if found.len() == 0 {
        // A store is never made empty, so this one was cut off.
        return Err(StoreError::with_detail(path, StoreErrorKind::Torn, "it is empty"));
    }
    match marks(path) {
        Ok((APPLICATION_ID, version)) => refuse_newer(path, version)?,
        Ok(_) => return Err(StoreError::new(path, StoreErrorKind::Foreign)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            return Err(StoreError::new(path, StoreErrorKind::Foreign));
        }
        // Without locks a sound file may look otherwise while another process writes; what is wrong for good
        // is found when it is opened.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {}
        Err(error) => return Err(StoreError::sqlite(path, &error)),
    }
    Ok(identity(&found))
}

/// The application's id and the version in a file's header.
fn marks(path: &Path) -> rusqlite::Result<(i32, u32)> {
    let name = percent_encode(path.as_os_str().as_bytes(), NON_ALPHANUMERIC);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{name}?immutable=1"), flags)?;
    let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((application, version))
}

/// A file that is missing, unless what belongs to it is there: SQLite would take that for a part of the next
/// file at this path.
fn missing(path: &Path) -> StoreError {
    for ending in ["-wal", "-journal"] {
        let beside = beside(path, ending);
        let orphaned = std::fs::metadata(&beside).is_ok_and(|found| found.len() > 0);
        // Another process may have made the store meanwhile, and then both are its own.
        if orphaned && !path.exists() {
            let detail = beside.display().to_string();
            return StoreError::with_detail(path, StoreErrorKind::Orphaned, detail);
        }
    }
    StoreError::new(path, StoreErrorKind::Missing)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A name that no file has yet.
fn beside_at_random(path: &Path, ending: &str) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(beside(path, &format!(".{:016x}.{ending}", u64::from_ne_bytes(random))))
}

fn refuse_newer(path: &Path, version: u32) -> Result<(), StoreError> {
    let known = schema::version(MIGRATIONS);
    if version <= known {
        return Ok(());
    }
    let detail = format!("its form is {version}, this version knows {known}");
    Err(StoreError::with_detail(path, StoreErrorKind::Newer, detail))
}

/// Makes an empty store. It gets its name when it is complete, so that neither another process nor one that
/// comes after a crash meets half of it.
fn create(path: &Path) -> Result<(), StoreError> {
    create_as(path, path)
}

/// The same under another name in the same folder; errors are about `path`.
fn create_as(path: &Path, name: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            StoreError::with_detail(path, StoreErrorKind::NotPermitted, "its folder is missing")
        }
        _ => StoreError::io(path, &error),
    };
    let unfinished = beside_at_random(path, "new").map_err(failed)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(failed)?;
    let made = fill(&unfinished).map_err(|error| StoreError::sqlite(path, &error)).and_then(|()| {
        match std::fs::hard_link(&unfinished, name) {
            // Another process was faster, and its store is as good.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(failed(error)),
            Ok(()) => sync_folder(path).map_err(failed),
        }
    });
    // What is left over is in nobody's way.
    let _ = std::fs::remove_file(&unfinished);
    made
}

fn fill(path: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    set_up(&connection)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    schema::migrate(&mut connection, MIGRATIONS)?;
    // Everything goes into the main file, which alone gets the store's name.
    connection.close().map_err(|(_, error)| error)
}

/// Makes sure that a file's name survives a crash.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
