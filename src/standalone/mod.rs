//! The standalone server, made of settings: what `hailer serve` runs, for programs that embed it as well.
//!
//! ```no_run
//! use hailer::config::{Inputs, load};
//! use hailer::standalone::Standalone;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = std::fs::read_to_string("hailer.toml")?;
//! let file = Some((std::path::Path::new("hailer.toml"), text.as_str()));
//! let read = |path: &std::path::Path| std::fs::read(path);
//! let settings = load(&Inputs { file, ..Inputs::new(&read) })?.settings;
//! let running = Standalone::new(&settings)?.start()?;
//! running.server.handle().disconnect("user_socket:42", true)?;
//! # Ok(())
//! # }
//! ```

mod front;
mod keys;
mod office;
mod rules;
mod trial;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::connect::Connect;
use crate::auth::gate::{self, SharedVerifier, SocketIdTemplate, TokenGate};
use crate::auth::origin::{OriginCheck, OriginPattern, OriginPolicy};
use crate::board::Board;
use crate::config::{AccountSource, CheckOrigin, RefusalStyle, Settings, WhenAway};
use crate::endpoint::{Admission, Config};
use crate::http::Subprotocols;
use crate::server::accounts::{self, Accounts, AccountsConfig, Directory, StoreDirectory};
use crate::server::denials::{Denials, StoreWatch};
use crate::server::keys::Keys;
use crate::server::store::{Store, StoreError};
use crate::server::{Server, ServerConfig};
use crate::web::PAGES;

pub(crate) use keys::signing_key;
pub use keys::verifier;
pub use office::RunningOffice;
pub use trial::{Trial, try_settings};

use office::{Doors, Office};

/// The pages that may connect to the open demo: its own, and those that are made on the same machine, whatever
/// port they are served from. The demo asks nobody for a token, so a name that leads here from elsewhere is not served.
const DEMO_ORIGINS: [&str; 4] = ["conn", "//localhost", "//127.0.0.1", "//[::1]"];

/// What stands in the way of a server with these settings, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError(String);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

/// Why a server does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The settings are no good here.
    Settings(SettingsError),
    /// Clients can't be listened for, or the system refuses a thread or an event queue.
    Clients(io::Error),
    /// The API and the back office can't be listened for at this address.
    Api(SocketAddr, io::Error),
    /// The store can't be read.
    Store(StoreError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(error) => error.fmt(f),
            Self::Clients(error) => error.fmt(f),
            Self::Api(address, error) => write!(f, "api.listen, {address}: {error}"),
            Self::Store(error) => write!(f, "store.path: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running server.
pub struct Running {
    /// The server of clients. The others end with it.
    pub server: Server,
    /// The HTTP API and the back office, if they are configured.
    pub office: Option<RunningOffice>,
}

impl From<SettingsError> for StartError {
    fn from(error: SettingsError) -> Self {
        Self::Settings(error)
    }
}

/// What a server is made with besides its settings. A trial has means of its own, which leave nothing behind.
struct Means<'a> {
    /// Opens the store.
    open_store: &'a dyn Fn(&Path) -> Result<Store, StoreError>,
    /// Whether users are looked up, by threads that start at once.
    starts_accounts: bool,
}

impl Means<'_> {
    const REAL: Self = Self { open_store: &|path| Store::open(path), starts_accounts: true };

    fn store(&self, path: &Path) -> Result<Store, SettingsError> {
        (self.open_store)(path).map_err(|error| SettingsError(format!("store.path: {error}")))
    }
}

/// A server that is ready to start.
pub struct Standalone {
    config: ServerConfig,
    denials: Denials,
    keys: Option<Keys>,
    /// The store, and what it has to keep up to date.
    watch: Option<StoreWatch>,
    office: Option<Office>,
}

impl Standalone {
    /// Makes a server of the settings: reads keys, opens the store, starts the threads of the accounts.
    ///
    /// # Errors
    /// A key is bad or weak, the store can't be opened, or the accounts can't be looked up as configured.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        Self::made_with(&Means::REAL, settings)
    }

    fn made_with(means: &Means<'_>, settings: &Settings) -> Result<Self, SettingsError> {
        let board = Arc::new(Board::new());
        let (router, auto_join) = rules::router(settings, &board)?;
        let mut doors = Doors::default();
        let mut endpoint = Config {
            limits: Arc::new(settings.limits.clone()),
            socket_path: settings.socket_path.as_str().into(),
            subprotocols: Subprotocols::new(&settings.subprotocols)
                .map_err(|error| SettingsError(format!("subprotocols: {error}")))?,
            pages: Arc::new(PAGES),
            origins: Arc::new(origins(settings)?),
            ..Config::new(router)
        };
        let (mut watch, mut keys) = (None, None);
        let denials = Denials::new(settings.limits.denials_max, settings.store.path.clone());
        if let Some(verifier) = verifier(&settings.auth, &settings.limits)? {
            let verifier = SharedVerifier::new(verifier);
            keys = Some(Keys::new(verifier.clone(), settings.limits.connect_timeout));
            let mut gate = TokenGate::new(verifier, denials.list());
            gate.anonymous = settings.auth.anonymous;
            gate.socket_id = SocketIdTemplate::parse(&settings.auth.socket_id)
                .map_err(|error| SettingsError(format!("auth.socket_id: {error}")))?;
            // The store is there before anybody is looked up in it.
            let store = settings.store.path.as_deref().map(|path| means.store(path)).transpose()?;
            let accounts = start_accounts(settings, means.starts_accounts)?;
            if let Some(store) = store {
                let in_store =
                    accounts.clone().filter(|_| settings.accounts.source == Some(AccountSource::Store));
                let started = StoreWatch::new(store, Arc::clone(&gate.denied), in_store);
                watch = Some(started.map_err(|error| SettingsError(format!("store.path: {error}")))?);
            }
            doors.denied = Some(Arc::clone(&gate.denied));
            doors.accounts.clone_from(&accounts);
            gate.accounts = accounts.map(|accounts| accounts as Arc<dyn gate::Accounts>);
            let auth = &settings.auth;
            let gate: Arc<dyn Connect> = Arc::new(gate);
            doors.connect = Some(Arc::clone(&gate));
            endpoint.admission = Some(Admission {
                connect: gate,
                token_param: auth.token_param.as_str().into(),
                polite_refusal: auth.refusal == RefusalStyle::Polite,
                expiry_warning: auth.expiry_warning,
                expiry_grace: auth.expiry_grace,
                auto_join: auto_join.into(),
            });
        }
        let mut config = ServerConfig {
            listen: settings.listen,
            connect_threads: usize::from(settings.auth.threads),
            io_uring: settings.io_uring,
            ..ServerConfig::new(endpoint)
        };
        if let Some(shards) = settings.shards {
            config.shards = usize::from(shards);
        }
        let office = Office::new(settings, means, &board, doors)?;
        Ok(Self { config, denials, keys, watch, office })
    }

    /// Where tokens are denied, to be kept beside the server that is [started](Self::start).
    #[must_use]
    pub fn denials(&self) -> Denials {
        self.denials.clone()
    }

    /// What verifies tokens, to be kept beside the server that is [started](Self::start). `None` in the open demo.
    #[must_use]
    pub fn keys(&self) -> Option<Keys> {
        self.keys.clone()
    }

    /// Has the metrics tell how many lines of the log were dropped, where a log drops lines rather than wait: what blocks a
    /// shard's thread holds up all clients of the shard.
    pub fn count_dropped_log_lines(&mut self, count: Arc<dyn Fn() -> u64 + Send + Sync>) {
        if let Some(office) = &mut self.office {
            office.count_dropped_log_lines(count);
        }
    }

    /// Binds, and starts the shards.
    ///
    /// # Errors
    /// As for [`Server::start`], and the store may be unreadable.
    pub fn start(self) -> Result<Running, StartError> {
        let mut server = Server::start(&self.config).map_err(StartError::Clients)?;
        let result = self.watch.map_or(Ok(()), |watch| {
            let connect_timeout = self.config.endpoint.limits.connect_timeout;
            watch.start(server.handle().clone(), connect_timeout).map_err(StartError::Clients)
        });
        let office = self.office.map(|office| office.start(&mut server));
        match result.and_then(|()| office.transpose()) {
            Ok(office) => Ok(Running { server, office }),
            Err(error) => {
                // Nobody has connected yet who would have to be told.
                server.handle().drain_within(Duration::ZERO);
                let _ = server.wait();
                Err(error)
            }
        }
    }
}

fn origins(settings: &Settings) -> Result<OriginCheck, SettingsError> {
    let wrong =
        |text: &str, error: &dyn fmt::Display| SettingsError(format!("check_origin, {text}: {error}"));
    let list = |entries: &mut dyn Iterator<Item = &str>| {
        let read = |text: &str| text.parse::<OriginPattern>().map_err(|error| wrong(text, &error));
        entries.map(read).collect::<Result<_, _>>()
    };
    let policy = match &settings.check_origin {
        CheckOrigin::Off => OriginPolicy::Off,
        CheckOrigin::Conn if settings.is_demo() => {
            OriginPolicy::LocalList(list(&mut DEMO_ORIGINS.into_iter())?)
        }
        CheckOrigin::Conn => OriginPolicy::Conn,
        CheckOrigin::Host => {
            let host = settings.host.as_deref().unwrap_or_default();
            OriginPolicy::Host(host.parse().map_err(|error| wrong(host, &error))?)
        }
        CheckOrigin::List(entries) => OriginPolicy::List(list(&mut entries.iter().map(String::as_str))?),
    };
    Ok(OriginCheck { policy, require_origin: settings.require_origin })
}

/// Starts the threads that look users up, if users are looked up and `starts` says so.
fn start_accounts(settings: &Settings, starts: bool) -> Result<Option<Arc<Accounts>>, SettingsError> {
    let accounts = &settings.accounts;
    let Some(source) = accounts.source else { return Ok(None) };
    let config = AccountsConfig {
        threads: usize::from(accounts.threads),
        queue_max: accounts.queue_max,
        deadline: accounts.deadline,
        cache_lifetime: accounts.cache_lifetime,
        cache_entries_max: accounts.cache_entries_max,
        when_away: match accounts.when_away {
            WhenAway::Refuse => accounts::WhenAway::Refuse,
            WhenAway::Cached => accounts::WhenAway::Cached,
        },
    };
    let started = match source {
        AccountSource::Store => {
            let path = settings.store.path.clone().unwrap_or_default();
            let open = move || {
                StoreDirectory::open(&path).map(|directory| Box::new(directory) as Box<dyn Directory>)
            };
            starts.then(|| Accounts::start(config, open))
        }
        AccountSource::Postgres => postgres(settings, config, starts)?,
    };
    started
        .transpose()
        .map_err(|error| SettingsError(format!("can't start the threads of [accounts]: {error}")))
}

#[cfg(feature = "postgres")]
fn postgres(
    settings: &Settings,
    config: AccountsConfig,
    starts: bool,
) -> Result<Option<io::Result<Arc<Accounts>>>, SettingsError> {
    use crate::server::accounts::{PostgresConfig, PostgresDirectory};

    let accounts = &settings.accounts;
    let url = accounts.url.clone().unwrap_or_default();
    let query = accounts.query.as_deref().unwrap_or_default();
    let postgres = PostgresConfig::new(&url, query, accounts.deadline)
        .map_err(|error| SettingsError(format!("[accounts]: {error}")))?;
    let open =
        move || PostgresDirectory::open(&postgres).map(|directory| Box::new(directory) as Box<dyn Directory>);
    Ok(starts.then(|| Accounts::start(config, open)))
}

#[cfg(not(feature = "postgres"))]
fn postgres(
    _: &Settings,
    _: AccountsConfig,
    _: bool,
) -> Result<Option<io::Result<Arc<Accounts>>>, SettingsError> {
    let text = "accounts.source = \"postgres\" needs a program built with it: cargo build --release --features postgres";
    Err(SettingsError(text.to_owned()))
}
