//! Whether a store could be opened, found out without making or changing one.

use std::path::Path;

use rusqlite::config::DbConfig;

use super::error::{StoreError, StoreErrorKind};
use super::schema::{self, MIGRATIONS};
use super::{beside_at_random, create_as, open_file};

/// What opening a store would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There is none yet: it would be made.
    Missing,
    /// It is of an earlier version: it would be brought up to date, and that version could not open it any more.
    Older,
    /// It is of this version.
    Current,
}

/// Finds out whether [`Store::open`](super::Store::open) would succeed. A store that is missing is made under another
/// name and removed again; one that is there is read as a whole and left as it is.
///
/// # Errors
/// As those of [`Store::open`](super::Store::open).
pub fn try_open(path: impl AsRef<Path>) -> Result<Found, StoreError> {
    let path = path.as_ref();
    match open_file(path, true) {
        Ok((connection, version, _)) => {
            // What lies beside the file only while it is open goes as it would after any other use.
            let set = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
            set.map_err(|error| StoreError::sqlite(path, &error))?;
            Ok(if version < schema::version(MIGRATIONS) { Found::Older } else { Found::Current })
        }
        Err(error) if error.kind() == StoreErrorKind::Missing => {
            let name = beside_at_random(path, "trial").map_err(|error| StoreError::io(path, &error))?;
            create_as(path, &name)?;
            // It holds nothing, and its name says what it was for.
            let _ = std::fs::remove_file(&name);
            Ok(Found::Missing)
        }
        Err(error) => Err(error),
    }
}
