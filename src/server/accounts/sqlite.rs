//! The users of a [`Store`] as accounts.

use std::path::Path;

use serde_json::json;

use super::{Account, Directory, DirectoryError};
use crate::server::store::{Store, StoreErrorKind};

/// The users of a store. Their details are `id` and `name`.
#[derive(Debug)]
pub struct StoreDirectory {
    store: Store,
}

impl StoreDirectory {
    /// Opens a store that is there.
    ///
    /// # Errors
    /// The store is missing, or can't be used.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DirectoryError> {
        let store = Store::open_existing(path).map_err(|error| DirectoryError::broken(error.to_string()))?;
        Ok(Self { store })
    }
}

impl Directory for StoreDirectory {
    fn find(&mut self, user: &str) -> Result<Option<Account>, DirectoryError> {
        let user = self.store.check_in_place().and_then(|()| self.store.user(user));
        let user = user.map_err(|error| match error.kind() {
            StoreErrorKind::Busy => DirectoryError::failed(error.to_string()),
            _ => DirectoryError::broken(error.to_string()),
        })?;
        Ok(user.map(|user| {
            let details = json!({"id": user.id, "name": user.name}).to_string();
            Account { disabled: user.disabled, details: details.into_boxed_str() }
        }))
    }
}
