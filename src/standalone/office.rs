//! The HTTP API and the back office beside the server of clients.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use tracing::warn;

use super::front::{Front, own_hosts};
use super::{Means, SettingsError, StartError};
use crate::admin::{self, Admin};
use crate::api::{self, Api, Key, Scope};
use crate::auth::UnixTime;
use crate::auth::connect::{Answer, Connect, ConnectRequest, Refusal, Secret};
use crate::auth::deny::DenyList;
use crate::auth::gate::SocketIdTemplate;
use crate::auth::origin::{HostName, OriginCheck, OriginPolicy};
use crate::board::Board;
use crate::channel::{Router, TopicPattern};
use crate::config::{self, KeyScope, Settings};
use crate::desk::{Desk, Durability};
use crate::endpoint::{Admission, Config};
use crate::limits::{IoUring, Limits};
use crate::notification::NEW_MSG;
use crate::server::accounts::Accounts;
use crate::server::desk::{Clerk, DeskConfig, Publisher, StoreRecords};
use crate::server::inspect::{Inspector, Sources, StoreVitals};
use crate::server::store::{Store, StoreWriter};
use crate::server::{Server, ServerConfig, ServerHandle, entropy};

/// Requests with an idempotency key that are remembered at a time.
const IDEMPOTENCY_KEYS_MAX: usize = 100_000;

/// What the back office and the API need before there is a server.
pub(super) struct Office {
    listen: SocketAddr,
    threads: usize,
    limits: Limits,
    desk: DeskConfig,
    api: api::Config,
    admin: Option<admin::Config>,
    hosts: Arc<[HostName]>,
    board: Arc<Board>,
    store: Store,
    store_queue_max: usize,
    sources: Sources,
    /// The key of the demo.
    demo_key: Option<Secret>,
}

/// The running API and back office.
pub struct RunningOffice {
    /// Where they listen.
    pub address: SocketAddr,
    /// Where whoever started the demo signs in to the back office, once and without a password: the path.
    pub welcome: Option<String>,
    /// The API key of the demo.
    pub demo_key: Option<Secret>,
    /// What both of them work with.
    pub desk: Desk,
}

/// What those who connect are asked, as far as the API can tell.
#[derive(Default)]
pub(super) struct Doors {
    pub(super) connect: Option<Arc<dyn Connect>>,
    pub(super) denied: Option<Arc<RwLock<DenyList>>>,
    pub(super) accounts: Option<Arc<Accounts>>,
}

impl Office {
    /// Reads the settings and opens the store. `None`: there is neither API nor back office.
    pub(super) fn new(
        settings: &Settings,
        means: &Means<'_>,
        board: &Arc<Board>,
        doors: Doors,
    ) -> Result<Option<Self>, SettingsError> {
        let Some(listen) = settings.api.listen.address() else { return Ok(None) };
        let store = match &settings.store.path {
            Some(path) => means.store(path)?,
            None => Store::open_in_memory()
                .map_err(|error| SettingsError(format!("the store in memory: {error}")))?,
        };
        let demo_key = settings.is_demo().then(|| config::ApiKey::key(entropy()));
        let desk = desk_config(settings)?;
        let mut limits = settings.limits.clone();
        // An answer may be a page of records, which is no sign of a client that does not read.
        limits.outbox_bytes_max = limits.outbox_bytes_max.max(64 * 1024 * 1024);
        let topic_of = desk.user_topic.clone();
        let sources = Sources {
            socket_id: Some(desk.socket_id.clone()),
            topic_of: Some(Arc::new(move |user: &str| topic_of.topic_of(user))),
            connect: doors.connect,
            accounts: doors.accounts,
            denied: doors.denied,
            api: Arc::default(),
            guesses: Arc::default(),
            store: None,
            dropped_log_lines: None,
        };
        Ok(Some(Self {
            listen,
            threads: usize::from(settings.api.threads),
            limits,
            api: api_config(settings, demo_key.as_ref()),
            admin: settings.admin.enabled.then(|| admin_config(settings, &desk)),
            desk,
            hosts: own_hosts(listen, &settings.api.hosts),
            board: Arc::clone(board),
            store,
            store_queue_max: settings.messages.store_queue_max,
            sources,
            demo_key,
        }))
    }

    pub(super) fn count_dropped_log_lines(&mut self, count: Arc<dyn Fn() -> u64 + Send + Sync>) {
        self.sources.dropped_log_lines = Some(count);
    }

    /// Starts both beside `server`, and ends them with it.
    pub(super) fn start(self, server: &mut Server) -> Result<RunningOffice, StartError> {
        let handle = server.handle().clone();
        let store = StoreWriter::start(self.store, self.store_queue_max).map_err(StartError::Store)?;
        let publisher = Publisher::new(handle.clone(), self.board, store.clone(), self.desk);
        let publisher = publisher.map_err(StartError::Store)?;
        let office_handle: Arc<OnceLock<ServerHandle>> = Arc::clone(&self.sources.api);
        let vitals = store.clone();
        let sources = Sources { store: Some(Arc::new(move || vitals_of(&vitals))), ..self.sources };
        let guesses = Arc::clone(&sources.guesses);
        let desk = Desk {
            publishing: Arc::clone(&publisher) as _,
            inspection: Arc::new(Inspector::new(handle, sources)),
            records: Arc::new(StoreRecords::new(store.clone())),
            guesses,
        };
        let admin = self.admin.map(|config| Admin::new(desk.clone(), config, Arc::new(entropy)));
        let front = Front::new(Arc::clone(&self.hosts), Api::new(desk.clone(), self.api), admin.clone());
        let endpoint = Config {
            limits: Arc::new(self.limits),
            socket_path: "/admin/socket".into(),
            origins: Arc::new(OriginCheck { policy: OriginPolicy::ConnTo(self.hosts), require_origin: true }),
            admission: Some(Admission::new(match &admin {
                Some(admin) => admin.connect_hook(),
                None => Arc::new(Nobody),
            })),
            service: Some(Arc::new(front)),
            ..Config::new(admin.as_ref().map_or_else(Router::new, Admin::router))
        };
        let config = ServerConfig {
            listen: self.listen,
            shards: 1,
            service_threads: self.threads,
            // Those who work in the back office are few.
            io_uring: IoUring::Off,
            ..ServerConfig::new(endpoint)
        };
        let office = Server::start(&config).map_err(|error| StartError::Api(self.listen, error))?;
        let (address, office_server) = (office.handle().local_addr(), office.handle().clone());
        // It is empty until here.
        let _ = office_handle.set(office_server.clone());
        let mut chores: Vec<Box<dyn Fn(u64) + Send>> = Vec::new();
        if let Some(admin) = admin.clone() {
            let closing = office_server.clone();
            admin.on_sign_out(move |socket_id| {
                if closing.disconnect(socket_id, false).is_err() {
                    warn!(
                        "the sockets of a signed-out session stay open: the back office has too much to do"
                    );
                }
            });
            chores.push(Box::new(move |at| admin.expire(at)));
        }
        let clerk = Clerk::start(publisher, Some(office_server), chores).map_err(StartError::Clients)?;
        let clients = server.handle().clone();
        server.accompany(move || {
            // Requests under way are answered, and what they have to be written is written.
            clients.end_along(office.handle());
            clients.end_waits_for("the listener of the API");
            let ended = office.wait();
            clients.end_waits_for("the thread hailer-clerk (scheduled messages)");
            clerk.end();
            clients.end_waits_for("the thread hailer-writer (the store)");
            store.close();
            ended.map(drop)
        });
        let demo = self.demo_key.is_some();
        let link = admin.filter(|_| demo).map(|admin| admin.one_time_link(crate::server::unix_millis()));
        Ok(RunningOffice { address, welcome: link, demo_key: self.demo_key, desk })
    }
}

/// Lets nobody connect: there is no back office.
struct Nobody;

impl Connect for Nobody {
    fn connect(&self, _: ConnectRequest, _: UnixTime, answer: Answer) {
        answer.send(Err(Refusal::NoToken));
    }
}

fn desk_config(settings: &Settings) -> Result<DeskConfig, SettingsError> {
    let messages = &settings.messages;
    let user_topic = TopicPattern::parse(&messages.user_topic)
        .map_err(|error| SettingsError(format!("messages.user_topic: {error}")))?;
    let socket_id = SocketIdTemplate::parse(&settings.auth.socket_id)
        .map_err(|error| SettingsError(format!("auth.socket_id: {error}")))?;
    Ok(DeskConfig {
        user_topic,
        socket_id,
        topic_bytes_max: settings.limits.topic_bytes_max,
        event_bytes_max: settings.limits.event_bytes_max,
        payload_bytes_max: settings.api.payload_bytes_max,
        messages_max: settings.api.messages_per_request_max,
        // A request has to fit into a mailbox, beside what others say.
        request_bytes_max: settings.limits.mailbox_bytes_max / 4,
        lifetime_max: messages.lifetime_max,
        kept_per_topic_max: messages.kept_per_topic_max,
        kept_bytes_max: messages.kept_bytes_max,
        idempotency_lifetime: settings.api.idempotency_lifetime,
        idempotency_keys_max: IDEMPOTENCY_KEYS_MAX,
        receipts_time: messages.receipts_time,
        keep_records: messages.keep_records,
        records_max: u64::try_from(messages.records_max).unwrap_or(u64::MAX),
        on_disk: settings.store.path.is_some(),
    })
}

fn api_config(settings: &Settings, demo_key: Option<&Secret>) -> api::Config {
    let scope = |scope: &KeyScope| match scope {
        KeyScope::Publish => Scope::Publish,
        KeyScope::Disconnect => Scope::Disconnect,
        KeyScope::Read => Scope::Read,
    };
    let key = |key: &config::ApiKey| Key {
        name: key.name.clone(),
        hash: key.hash.0,
        scopes: key.scopes.iter().map(scope).collect(),
        topics: key.topics.clone(),
    };
    let demo = demo_key.map(|key| Key {
        name: "demo".to_owned(),
        hash: Key::hash_of(key),
        scopes: Scope::ALL.to_vec(),
        topics: Vec::new(),
    });
    api::Config {
        messages_per_request_max: settings.api.messages_per_request_max,
        payload_bytes_max: settings.api.payload_bytes_max,
        json_depth_max: settings.limits.json_depth_max,
        topic_bytes_max: settings.limits.topic_bytes_max,
        event_bytes_max: settings.limits.event_bytes_max,
        lifetime_max: settings.messages.lifetime_max,
        default_durability: settings.messages.default_durability,
        metrics_open: settings.api.metrics_open,
        failures_per_minute_max: settings.api.failures_per_minute_max,
        ..api::Config::new(settings.api.keys.iter().map(key).chain(demo).collect())
    }
}

fn admin_config(settings: &Settings, desk: &DeskConfig) -> admin::Config {
    let admin = &settings.admin;
    admin::Config {
        tls: admin.tls,
        session_idle: admin.session_idle,
        session_lifetime: admin.session_lifetime,
        sends_per_minute_max: admin.sends_per_minute_max,
        payload_bytes_max: settings.api.payload_bytes_max,
        topics: admin.topics.clone(),
        default_topic: admin.default_topic.clone(),
        title: admin.title.clone(),
        event: NEW_MSG.to_owned(),
        durability: if desk.on_disk { Durability::Disk } else { Durability::Memory },
        ..admin::Config::default()
    }
}

fn vitals_of(store: &StoreWriter) -> StoreVitals {
    let stats = store.stats();
    StoreVitals {
        commits: stats.commits,
        commit_time: Duration::from_nanos(stats.commit_nanos_total),
        jobs: stats.jobs,
        jobs_refused: stats.jobs_refused,
        jobs_failed: stats.jobs_failed,
        waiting: usize::try_from(stats.queue).unwrap_or(usize::MAX),
        failing: stats.failing,
    }
}
