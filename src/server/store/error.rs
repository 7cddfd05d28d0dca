//! Why the store can't be used, in sentences for whoever runs the server.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Stands where a store in memory has no path.
pub(super) const IN_MEMORY: &str = ":memory:";

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// There is no such file.
    Missing,
    /// The path leads to a directory, a socket or the like.
    NotAFile,
    /// The file belongs to another program, or its beginning is damaged.
    Foreign,
    /// Parts of the file are missing or overwritten.
    Torn,
    /// The file was written by a later version of Hailer.
    Newer,
    /// The file is missing, but what was written last, which SQLite keeps in a file beside it, is there.
    Orphaned,
    /// The file or its folder may not be read or written.
    NotPermitted,
    /// Another process has kept the file locked for too long.
    Busy,
    /// The disk is full.
    Full,
    /// The file was moved, deleted or replaced while it was open.
    Moved,
    /// What was to be stored can't be.
    Invalid,
    /// Too much waits to be written already.
    Overloaded,
    /// The store was closed.
    Closed,
    /// Anything else.
    Failed,
}

/// Why the store can't be used, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    path: PathBuf,
    kind: StoreErrorKind,
    detail: Box<str>,
}

impl StoreError {
    pub(super) fn new(path: &Path, kind: StoreErrorKind) -> Self {
        Self::with_detail(path, kind, "")
    }

    pub(super) fn with_detail(path: &Path, kind: StoreErrorKind, detail: impl Into<Box<str>>) -> Self {
        Self { path: path.to_owned(), kind, detail: detail.into() }
    }

    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => StoreErrorKind::Missing,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                StoreErrorKind::NotPermitted
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
            // A component of the path is a file.
            io::ErrorKind::NotADirectory => StoreErrorKind::NotAFile,
            _ => StoreErrorKind::Failed,
        };
        Self::with_detail(path, kind, error.to_string())
    }

    pub(super) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreErrorKind::Torn,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreErrorKind::Busy,
            Some(ErrorCode::DiskFull) => StoreErrorKind::Full,
            Some(ErrorCode::ConstraintViolation) => StoreErrorKind::Invalid,
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                StoreErrorKind::NotPermitted
            }
            _ => StoreErrorKind::Failed,
        };
        Self::with_detail(path, kind, error.to_string())
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// The store's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, detail) = (self.path.display(), &self.detail);
        match self.kind {
            StoreErrorKind::Missing => write!(f, "there is no store at {path}"),
            StoreErrorKind::NotAFile => {
                write!(f, "{path} is no file; give the path of a file, which is made if it is missing")
            }
            StoreErrorKind::Foreign => write!(
                f,
                "{path} is no store of Hailer: it belongs to another program, or its beginning is damaged. It is \
                 left as it is; give another path, or move it away"
            ),
            StoreErrorKind::Torn => write!(
                f,
                "the store {path} is damaged ({detail}); bring back a copy of it, or move it away together with \
                 {path}-wal to begin with an empty one"
            ),
            StoreErrorKind::Newer => write!(
                f,
                "the store {path} was written by a later version of Hailer ({detail}) and is left as it is; \
                 run that version"
            ),
            StoreErrorKind::Orphaned => write!(
                f,
                "the store {path} is missing, but {detail} is there and belongs to it; bring {path} back, or \
                 move {detail} away to begin with an empty store"
            ),
            StoreErrorKind::NotPermitted => write!(
                f,
                "the store {path} can't be opened ({detail}); SQLite has to read and write the file and to make \
                 others in its folder, so check that the folder exists and to whom both belong"
            ),
            StoreErrorKind::Busy => {
                write!(f, "another process keeps the store {path} locked; try again when it has ended")
            }
            StoreErrorKind::Full if self.path == Path::new(IN_MEMORY) => {
                f.write_str("the store in memory is full")
            }
            StoreErrorKind::Full => write!(f, "the disk with the store {path} is full"),
            StoreErrorKind::Moved => {
                write!(f, "the store {path} was moved, deleted or replaced while it was in use")
            }
            StoreErrorKind::Invalid => f.write_str(detail),
            StoreErrorKind::Overloaded => f.write_str("too much waits to be written to the store"),
            StoreErrorKind::Closed => f.write_str("the store was closed, since the server stops"),
            StoreErrorKind::Failed => write!(f, "the store {path} can't be used: {detail}"),
        }
    }
}

impl std::error::Error for StoreError {}
