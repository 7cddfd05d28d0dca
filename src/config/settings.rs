//! What can be set, with its defaults.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::api::{Admin, Api};
use super::messages::Messages;
use super::table::table;
use super::topics::TopicRule;
use super::value::{Node, Setting, Wrong, list, quoted, words};
use crate::auth::connect::Secret;
use crate::auth::origin::OriginPattern;
use crate::auth::token::Algorithm;
use crate::channel::{SlowReader, TopicPattern};
use crate::limits::{IoUring, Limits};

table! {
    /// Everything that can be configured. The default is what holds where nobody says anything: the open demo.
    Settings {
        /// Address to listen on; port 0 takes any free port.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 4000));
        /// Event loops, one thread each; without it one per core.
        shards: Option<u16> = None, like "2";
        /// How much is logged to stderr: "off", "error", "warn", "info", "debug" or "trace".
        log_level: LogLevel = LogLevel::Info;
        /// Where clients connect: phoenix.js is given this path and appends the transport's name.
        socket_path: String = "/socket".to_owned();
        /// Subprotocols that clients may offer for a WebSocket, the one that is liked best first. A client that offers
        /// others alone is refused; without a list it is not.
        subprotocols: Vec<String> = Vec::new(), like "[\"v12.stomp\"]";
        /// The server's own host name, for check_origin = true.
        host: Option<String> = None, like "\"example.com\"";
        /// Which web pages may connect: "conn" (of the same origin as the request), true (of `host`), a list such
        /// as `["https://example.com", "//*.example.org"]`, or false (all of the world).
        check_origin: CheckOrigin = CheckOrigin::Conn;
        /// Whether a client without an Origin header, which is no browser, is refused.
        require_origin: bool = false;
        /// What becomes of a subscriber that falls behind a topic's log: "close" (it comes back) or "skip" (it goes
        /// on behind the gap, and is told how many messages it has missed). The default of all topics.
        slow_readers: SlowReader = SlowReader::Close;
        /// Whether broadcasts are sent by io_uring, many with one system call: "auto" (where the system has it and lets
        /// the process use it), "on" (the server does not start without it) or "off".
        io_uring: IoUring = IoUring::Auto;
    }
    besides {
        /// `[limits]`: every bound of the server.
        limits: Limits = Limits::default();
        /// `[auth]`: how clients show who they are.
        auth: Auth = Auth::default();
        /// `[store]`: the embedded database.
        store: Store = Store::default();
        /// `[accounts]`: where users are looked up.
        accounts: Accounts = Accounts::default();
        /// `[api]`: the listener of the HTTP API and the back office.
        api: Api = Api::default();
        /// `[admin]`: the back office.
        admin: Admin = Admin::default();
        /// `[messages]`: messages that are published over it.
        messages: Messages = Messages::default();
        /// `[[topics]]`: who may do what, the first match first. With a key and no rule of its own, a configuration
        /// has [`TopicRule::defaults`]; without a key there are none, and the demo's topics are open.
        topics: Vec<TopicRule> = Vec::new();
        /// Topics of the demo besides `room:lobby`, from `--topic`.
        demo_topics: Vec<TopicPattern> = Vec::new();
    }
}

impl Settings {
    /// Whether no key is configured, so that nobody can show who they are: the open demo.
    #[must_use]
    pub fn is_demo(&self) -> bool {
        !self.auth.has_key()
    }
}

table! {
    /// `[auth]`: keys, what is compared in a token, and what becomes of clients whose token is not good.
    Auth {
        /// The secret that HMAC tokens are signed with. Better in `secret_file` or the environment.
        secret: Option<Secret> = None, like "\"…\"";
        /// A file that holds the secret; one line feed at its end is left out.
        secret_file: Option<PathBuf> = None, like "\"hailer.secret\"";
        /// Whether the secret is taken as it stands, as Guardian does, or decoded first: "raw" or "base64".
        secret_encoding: SecretEncoding = SecretEncoding::Raw;
        /// The algorithm of the secret: "HS256", "HS384" or "HS512".
        algorithm: SecretAlgorithm = SecretAlgorithm::Hs512;
        /// A file with public keys as a JSON Web Key Set (RFC 7517).
        jwks_file: Option<PathBuf> = None, like "\"jwks.json\"";
        /// The `iss` that tokens must have: one of these, if any is given.
        issuer: Vec<String> = Vec::new(), like "\"my_app\"";
        /// The `aud` that tokens must have: one of these, if any is given.
        audience: Vec<String> = Vec::new(), like "\"my_app\"";
        /// The `typ` claim of tokens: one with another, such as a refresh token, is refused; "" takes any.
        typ: String = "access".to_owned();
        /// Whether a token without the claim `typ`, which most libraries don't write, is refused.
        require_typ: bool = false;
        /// How far the clocks of the issuer and of this server may differ, at most 60s: a token is good for as long
        /// before its `nbf` and after its `exp`.
        allowed_drift: Duration = Duration::from_secs(10);
        /// Whether a token without `exp`, which never runs out, is refused.
        require_exp: bool = true;
        /// Whether clients without a token may connect and do what the rules allow anyone.
        anonymous: bool = false;
        /// The query parameter that holds the token.
        token_param: String = "token".to_owned();
        /// The id of a user's sockets: broadcasting `disconnect` to this topic closes them.
        socket_id: String = "user_socket:{sub}".to_owned();
        /// How a client is refused: "phoenix" (403 at the upgrade), or "polite" (the upgrade, then a close code and a
        /// reason that a browser can read).
        refusal: RefusalStyle = RefusalStyle::Phoenix;
        /// Time before a live socket's token runs out at which its client is warned.
        expiry_warning: Duration = Duration::from_secs(60);
        /// Time after a live socket's token has run out at which the socket is closed.
        expiry_grace: Duration = Duration::from_secs(25);
        /// What becomes of live sockets whose key is gone when the keys are read again (SIGHUP): "close" (their clients
        /// come back with fresh tokens) or "keep" (until their tokens run out).
        removed_keys: RemovedKeys = RemovedKeys::Close;
        /// Threads that verify tokens.
        threads: u16 = 2;
    }
    besides {
        /// What `jwks_file` holds.
        jwks: Option<Secret> = None;
        /// `[[auth.keys]]`: further keys.
        keys: Vec<AuthKey> = Vec::new();
    }
}

impl Auth {
    /// Whether there is any key that a token could be verified with.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.secret.is_some()
            || self.secret_file.is_some()
            || self.jwks_file.is_some()
            || !self.keys.is_empty()
    }
}

table! {
    /// `[[auth.keys]]`: one of several keys that are good at one time.
    AuthKey {
        /// The key's id. A token that names one in its header is verified with that key alone.
        kid: Option<String> = None, like "\"2026-11\"";
        /// The algorithm of the key: "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384",
        /// "PS512", "ES256", "ES384" or "EdDSA".
        algorithm: Algorithm = Algorithm::HS512, like "\"RS256\"";
        /// A file with the public key in PEM, or with the secret of an HS algorithm.
        file: Option<PathBuf> = None, like "\"public.pem\"";
        /// The secret of an HS algorithm.
        secret: Option<Secret> = None, like "\"…\"";
        /// As in `[auth]`, for the secret of an HS algorithm: "raw" or "base64".
        secret_encoding: SecretEncoding = SecretEncoding::Raw;
    }
    besides {
        /// The key's text: what `file` holds, or `secret`. There once the configuration is loaded.
        text: Secret = Secret::default();
    }
}

table! {
    /// `[store]`: the embedded SQLite database of users, denied tokens, staff and what was sent.
    Store {
        /// The database's file. Without it there are no users here, and denied tokens, sent messages and the audit log
        /// are kept in memory.
        path: Option<PathBuf> = None, like "\"hailer.db\"";
    }
    besides {}
}

table! {
    /// `[accounts]`: where the user of a token is looked up when it connects.
    Accounts {
        /// "store" (the users of `[store]`) or "postgres" (a table of the application); without it nobody is looked up.
        source: Option<AccountSource> = None, like "\"store\"";
        /// The PostgreSQL database. Better in `url_file` or the environment, since it may hold a password.
        url: Option<Secret> = None, like "\"postgres://hailer@localhost/my_app\"";
        /// A file that holds the URL; one line feed at its end is left out.
        url_file: Option<PathBuf> = None, like "\"accounts.url\"";
        /// The query that gives a row for a user who may connect; $1 is the token's `sub`.
        query: Option<String> = None, like "\"select id, name from users where id = $1 and not disabled\"";
        /// Threads that look users up, each with a connection of its own.
        threads: u16 = 8;
        /// Clients that wait for a thread; beyond it a client is refused at once.
        queue_max: usize = 10_000;
        /// Time that a client waits for its look-up at most.
        deadline: Duration = Duration::from_secs(5);
        /// Time for which a user who was found is not looked up again.
        cache_lifetime: Duration = Duration::from_secs(60);
        /// Users in the cache.
        cache_entries_max: usize = 100_000;
        /// What becomes of a client while the database is away: "refuse", or "cached" (a user who was found before
        /// passes, however long ago).
        when_away: WhenAway = WhenAway::Refuse;
    }
    besides {}
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What the server can't do.
    Error,
    /// What is unwise or unexpected, too.
    Warn,
    /// What an operator wants to know, too.
    Info,
    /// What helps to find a fault, too.
    Debug,
    /// Everything.
    Trace,
}

/// How the bytes of a secret are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretEncoding {
    /// As they are.
    Raw,
    /// In base64.
    Base64,
}

/// The algorithm of `auth.secret`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512: Guardian's default.
    Hs512,
}

impl From<SecretAlgorithm> for Algorithm {
    fn from(algorithm: SecretAlgorithm) -> Self {
        match algorithm {
            SecretAlgorithm::Hs256 => Self::HS256,
            SecretAlgorithm::Hs384 => Self::HS384,
            SecretAlgorithm::Hs512 => Self::HS512,
        }
    }
}

/// How a client whose token is not good is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalStyle {
    /// As Phoenix does: 403 at the upgrade.
    Phoenix,
    /// With a close code and a reason, behind the upgrade.
    Polite,
}

/// What becomes of live sockets whose key is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovedKeys {
    /// They are closed.
    Close,
    /// They live until their tokens run out.
    Keep,
}

/// Where users are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountSource {
    /// Among the users of `[store]`.
    Store,
    /// In a table of the application's own.
    Postgres,
}

/// What becomes of a client while the accounts are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAway {
    /// It is refused, and may come back.
    Refuse,
    /// A user who was found before passes.
    Cached,
}

words! {
    LogLevel: "\"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\"" {
        Off = "off",
        Error = "error",
        Warn = "warn",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
    SecretEncoding: "\"raw\" or \"base64\"" {
        Raw = "raw",
        Base64 = "base64",
    }
    SecretAlgorithm: "\"HS256\", \"HS384\" or \"HS512\"; other algorithms have their keys in [[auth.keys]]" {
        Hs256 = "HS256",
        Hs384 = "HS384",
        Hs512 = "HS512",
    }
    Algorithm: "\"HS256\", \"HS384\", \"HS512\", \"RS256\", \"RS384\", \"RS512\", \"PS256\", \"PS384\", \"PS512\", \
                   \"ES256\", \"ES384\" or \"EdDSA\"" {
        HS256 = "HS256",
        HS384 = "HS384",
        HS512 = "HS512",
        RS256 = "RS256",
        RS384 = "RS384",
        RS512 = "RS512",
        PS256 = "PS256",
        PS384 = "PS384",
        PS512 = "PS512",
        ES256 = "ES256",
        ES384 = "ES384",
        EdDSA = "EdDSA",
    }
    RefusalStyle: "\"phoenix\" or \"polite\"" {
        Phoenix = "phoenix",
        Polite = "polite",
    }
    RemovedKeys: "\"close\" or \"keep\"" {
        Close = "close",
        Keep = "keep",
    }
    AccountSource: "\"store\" or \"postgres\"" {
        Store = "store",
        Postgres = "postgres",
    }
    WhenAway: "\"refuse\" or \"cached\"" {
        Refuse = "refuse",
        Cached = "cached",
    }
}

/// Which web pages may connect, as Phoenix's `check_origin` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOrigin {
    /// Those of all the world.
    Off,
    /// Those of `host`, of any scheme and port.
    Host,
    /// Those of the same scheme, host and port as the request.
    Conn,
    /// Those that one of these matches: `https://example.com`, `//example.com`, `//*.example.org`, or `null`.
    List(Vec<String>),
}

impl CheckOrigin {
    /// Reads what a flag or an environment variable says: `true`, `false`, `conn`, or origins with commas between
    /// them.
    ///
    /// # Errors
    /// A sentence that says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::from_text(text).ok_or_else(|| format!("expected {}", Self::EXPECTED))
    }
}

/// Whether this is a host name or an IPv4 address, without a port.
pub(super) fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    !text.is_empty() && text.split('.').all(is_label)
}

impl Setting for CheckOrigin {
    const EXPECTED: &'static str = "true, false, \"conn\", or a list of origins such as \"https://example.com\" or \
                                    \"//*.example.org\", without a path";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "true" => Some(Self::Host),
            "false" => Some(Self::Off),
            "conn" => Some(Self::Conn),
            _ => Vec::<String>::from_text(text)
                .filter(|entries| entries.iter().all(|entry| entry.parse::<OriginPattern>().is_ok()))
                .map(Self::List),
        }
    }

    fn from_node(node: &Node<'_>) -> Result<Self, Wrong> {
        match node.get_ref() {
            DeValue::Boolean(true) => Ok(Self::Host),
            DeValue::Boolean(false) => Ok(Self::Off),
            DeValue::String(text) if text == "conn" => Ok(Self::Conn),
            _ => Vec::<String>::from_node(node)
                .ok()
                .filter(|entries| {
                    !entries.is_empty() && entries.iter().all(|entry| entry.parse::<OriginPattern>().is_ok())
                })
                .map(Self::List)
                .ok_or_else(Self::wrong),
        }
    }

    fn show(&self) -> Option<String> {
        Some(match self {
            Self::Off => "false".to_owned(),
            Self::Host => "true".to_owned(),
            Self::Conn => quoted("conn"),
            Self::List(entries) => list(entries.iter().map(|entry| quoted(entry))),
        })
    }
}
