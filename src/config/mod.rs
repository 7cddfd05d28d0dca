//! The configuration: a file in TOML, the environment and flags, in rising order, become [`Settings`].
//!
//! Pure: the file's text and the environment are arguments, and files that a setting names are read by a function
//! of the caller's. What a configuration says wrong is told all at once, with its place, what was expected, and the
//! nearest known name; what was given is not repeated, for it may be a secret.
//!
//! ```
//! use std::path::Path;
//! use hailer::config::{Inputs, load};
//!
//! let file = (Path::new("hailer.toml"), "[auth]\nsecrte_file = \"secret\"\n");
//! let read = |_: &Path| Ok(b"not read".to_vec());
//! let error = load(&Inputs { file: Some(file), ..Inputs::new(&read) }).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "hailer.toml:2:1: auth.secrte_file: there is no such setting; did you mean \"secret_file\"?",
//! );
//! ```

mod advice;
mod api;
mod check;
mod error;
mod file;
mod load;
mod messages;
mod report;
mod settings;
mod table;
mod template;
#[cfg(test)]
mod tests;
mod topics;
mod value;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::channel::{SlowReader, TopicPattern};
use crate::limits::IoUring;

pub use advice::exposed;
pub use api::{API_KEY_PREFIX, Admin, Api, ApiKey, ApiListen, KeyHash, KeyScope};
pub use error::{ConfigError, Place, Problem};
pub use messages::Messages;
pub use settings::{
    AccountSource, Accounts, Auth, AuthKey, CheckOrigin, LogLevel, RefusalStyle, RemovedKeys,
    SecretAlgorithm, SecretEncoding, Settings, Store, WhenAway,
};
pub use template::template;
pub use topics::{PushRight, TopicRule};
#[cfg(feature = "cli")]
pub(crate) use value::address;

/// The environment variable that names the file.
pub const FILE_VARIABLE: &str = "HAILER_CONFIG";

/// The environment variable with the URL at which commands find the API.
pub const API_VARIABLE: &str = "HAILER_API";

/// The environment variable with the key that commands show to the API.
pub const API_KEY_VARIABLE: &str = "HAILER_API_KEY";

/// Variables that are no settings of the server.
pub(crate) const OTHER_VARIABLES: [&str; 3] = [FILE_VARIABLE, API_VARIABLE, API_KEY_VARIABLE];

/// What a configuration is made from.
#[derive(Clone)]
pub struct Inputs<'a> {
    /// The file's path and text. Paths in it are relative to its folder.
    pub file: Option<(&'a Path, &'a str)>,
    /// The environment; what does not begin with `HAILER_` is passed over.
    pub environment: &'a [(String, String)],
    /// The command line.
    pub flags: Flags,
    /// Reads a file that a setting names.
    pub read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

impl<'a> Inputs<'a> {
    /// No file, no environment, no flags.
    #[must_use]
    pub fn new(read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Self {
        Self { file: None, environment: &[], flags: Flags::default(), read }
    }
}

/// What the command line says; it goes before everything else.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--listen`
    pub listen: Option<std::net::SocketAddr>,
    /// `--api-listen`
    pub api_listen: Option<ApiListen>,
    /// `--shards`
    pub shards: Option<u16>,
    /// `--topic`: topics of the open demo.
    pub topics: Vec<TopicPattern>,
    /// `--timeout`: the limit `idle_timeout`.
    pub timeout: Option<Duration>,
    /// `--slow-readers`
    pub slow_readers: Option<SlowReader>,
    /// `--io-uring`
    pub io_uring: Option<IoUring>,
    /// `--limit`: names and values.
    pub limits: Vec<(String, String)>,
    /// `--log-level`
    pub log_level: Option<LogLevel>,
    /// `--check-origin`
    pub check_origin: Option<CheckOrigin>,
}

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What is in force.
    pub settings: Settings,
    /// Where it comes from, by the names of settings as the file has them: `auth.secret_file`,
    /// `topics[0].join`. What is not there has its default.
    pub places: BTreeMap<String, Place>,
    /// What was passed over although somebody may have meant something by it.
    notices: Vec<Problem>,
}

/// Reads the configuration: defaults, then the file, then the environment, then the flags.
///
/// # Errors
/// Everything that is wrong: what can't be read, what is unknown, what contradicts something else.
pub fn load(inputs: &Inputs<'_>) -> Result<Loaded, ConfigError> {
    load::load(inputs)
}

impl Loaded {
    /// What was passed over, such as a variable `HAILER_…` that is no setting.
    #[must_use]
    pub fn notices(&self) -> &[Problem] {
        &self.notices
    }

    /// What may be meant so, but is unwise: the notices, and more.
    #[must_use]
    pub fn warnings(&self) -> Vec<Problem> {
        advice::warnings(self)
    }

    /// What is in force as TOML, with secrets hidden and the places in comments.
    #[must_use]
    pub fn report(&self) -> String {
        report::report(self)
    }

    /// The files that hold secrets: nobody but the server should be able to read them. `file` is the
    /// configuration's own.
    #[must_use]
    pub fn secret_files(&self, file: Option<&Path>) -> Vec<std::path::PathBuf> {
        advice::secret_files(self, file)
    }

    fn place(&self, key: &str) -> Place {
        self.places.get(key).cloned().unwrap_or(Place::Default)
    }
}
