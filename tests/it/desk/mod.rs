//! Publishing over a running server and a store: what clients hear, what is answered, and what the records say.

mod drafts;
mod idempotency;
mod kept;
mod publishing;
mod receipts;
mod scheduled;
mod stopping;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hailer::auth::connect::{Answer, Connect, ConnectRequest};
use hailer::auth::gate::SocketIdTemplate;
use hailer::auth::{Identity, IdentityParts, UnixTime};
use hailer::board::Board;
use hailer::channel::{Channel, ChannelError, Context, JoinError, PayloadBuf, Router};
use hailer::desk::{
    Actor, ActorKind, DeskError, Draft, Durability, ErrorCode, Message, MessageQuery, Publish, PublishReply,
    Published, Publishing, Records, Target, UnixMillis,
};
use hailer::endpoint::{Admission, Config};
use hailer::limits::Limits;
use hailer::notification::Notification;
use hailer::phoenix::{Payload, Serializer};
use hailer::server::desk::{Chore, Clerk, DeskConfig, Publisher, RunningClerk, StoreRecords};
use hailer::server::store::{Store, StoreWriter};
use hailer::server::{Server, ServerConfig, ServerHandle};
use rusqlite::Connection;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::{Client, PATIENCE};

const HOUR: Duration = Duration::from_secs(60 * 60);

fn now() -> UnixMillis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock stands after 1970");
    u64::try_from(now.as_millis()).expect("it is not that late")
}

fn actor(name: &str) -> Actor {
    Actor { kind: ActorKind::Key, name: name.to_owned(), address: None }
}

fn draft(topic: &str, body: impl Into<Value>) -> Draft {
    let payload = json!({ "body": body.into() }).to_string();
    let payload = RawValue::from_string(payload).expect("it is JSON");
    Draft::new(Target::Topic(topic.to_owned()), "new_msg", payload)
}

/// Copies a store as a process that is killed at this moment leaves it.
fn copy_store(from: &Path, to: &Path) {
    let connection = Connection::open(from).expect("it opens");
    connection
        .execute("VACUUM INTO ?", [to.to_str().expect("a path of a test is text")])
        .expect("it is read");
}

/// Keeps everybody else from writing to a store until it is dropped.
struct Lock(Connection);

impl Lock {
    fn new(path: &Path) -> Self {
        let connection = Connection::open(path).expect("it opens");
        connection.busy_timeout(PATIENCE).expect("it can wait");
        connection.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
        Self(connection)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.execute_batch("ROLLBACK").expect("it can be rolled back");
    }
}

/// Whoever brings a token is the user of that name.
struct NameIsToken;

impl Connect for NameIsToken {
    fn connect(&self, request: ConnectRequest, _: UnixTime, answer: Answer) {
        let token = request.token.expect("every client of these tests has one");
        let (user, socket_id) = (token.expose(), SocketIdTemplate::default().id_of(token.expose()));
        let parts =
            IdentityParts { user, socket_id: &socket_id, expires: Some(1 << 40), ..Default::default() };
        answer.send(Ok(Identity::new(parts)));
    }
}

/// A channel that makes its shard stand still until it is told to go on, or nobody is there to tell it.
struct StandStill {
    reached: Sender<()>,
    go: Mutex<Receiver<()>>,
}

impl Channel for StandStill {
    fn join(&self, _: &str, _: Payload<'_>, _: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        Ok(PayloadBuf::empty())
    }

    fn handle_in(&self, _: &str, _: Payload<'_>, _: &mut Context<'_>) -> Result<(), ChannelError> {
        self.reached.send(()).expect("somebody waits for it");
        let _ = self.go.lock().expect("one shard stands still at a time").recv_timeout(PATIENCE);
        Ok(())
    }
}

/// What a server is to be like.
struct Plan {
    shards: usize,
    store: Option<PathBuf>,
    limits: &'static [(&'static str, &'static str)],
    config: DeskConfig,
    /// Whether what is scheduled is sent.
    clerk: bool,
    /// Whether clients have users.
    users: bool,
}

impl Default for Plan {
    fn default() -> Self {
        let config = DeskConfig {
            user_topic: "user:{sub}".parse().expect("a pattern"),
            socket_id: SocketIdTemplate::default(),
            topic_bytes_max: 64,
            event_bytes_max: 32,
            payload_bytes_max: 4096,
            messages_max: 10,
            request_bytes_max: 10_000,
            lifetime_max: HOUR,
            kept_per_topic_max: 3,
            kept_bytes_max: 64 * 1024 * 1024,
            idempotency_lifetime: HOUR,
            idempotency_keys_max: 100,
            receipts_time: HOUR,
            keep_records: HOUR,
            records_max: 1000,
            on_disk: false,
        };
        Self { shards: 1, store: None, limits: &[], config, clerk: false, users: false }
    }
}

impl Plan {
    fn on_disk(path: &Path) -> Self {
        let mut plan = Self { store: Some(path.to_owned()), ..Self::default() };
        plan.config.on_disk = true;
        plan
    }

    fn start(self) -> Desk {
        let board = Arc::new(Board::new());
        let ((reached, reaches), (go, goes)) = (channel(), channel());
        let notification = || Notification::with_board(Arc::clone(&board));
        let router = Router::new()
            .channel("room:*".parse().expect("a pattern"), notification())
            .channel("user:*".parse().expect("a pattern"), notification())
            .channel("still".parse().expect("a pattern"), StandStill { reached, go: Mutex::new(goes) });
        let mut limits = Limits::default();
        self.limits.iter().for_each(|(name, value)| limits.set(name, value).expect("a limit"));
        let admission = self.users.then(|| Admission::new(Arc::new(NameIsToken)));
        let endpoint = Config { limits: Arc::new(limits), admission, ..Config::new(router) };
        let listen = "127.0.0.1:0".parse().expect("an address");
        let config = ServerConfig { listen, shards: self.shards, ..ServerConfig::new(endpoint) };
        let server = Server::start(&config).expect("the server starts");
        let store = match &self.store {
            Some(path) => Store::open(path),
            None => Store::open_in_memory(),
        };
        let store = StoreWriter::start(store.expect("the store opens"), 1000).expect("its thread starts");
        let publisher =
            Publisher::new(server.handle().clone(), Arc::clone(&board), store.clone(), self.config)
                .expect("the store can be read");
        let mut desk = Desk {
            handle: server.handle().clone(),
            records: StoreRecords::new(store.clone()),
            server: Mutex::new(Some(server)),
            publisher,
            store,
            clerk: None,
            board,
            reaches: Mutex::new(reaches),
            go: Some(go),
        };
        if self.clerk {
            desk.start_clerk();
        }
        desk
    }
}

/// A running server with its desk. It ends with this value.
struct Desk {
    handle: ServerHandle,
    server: Mutex<Option<Server>>,
    publisher: Arc<Publisher>,
    store: StoreWriter,
    records: StoreRecords,
    clerk: Option<RunningClerk>,
    board: Arc<Board>,
    reaches: Mutex<Receiver<()>>,
    go: Option<Sender<()>>,
}

impl Desk {
    fn start_clerk(&mut self) {
        self.start_clerk_with(Vec::new());
    }

    fn start_clerk_with(&mut self, chores: Vec<Chore>) {
        let clerk = Clerk::start(Arc::clone(&self.publisher), None, chores);
        self.clerk = Some(clerk.expect("the thread starts"));
    }

    fn join(&self, topic: &str) -> Client {
        Client::joined(self.handle.local_addr(), topic)
    }

    /// A client that has joined a topic of a server with users.
    fn join_as(&self, user: &str, topic: &str) -> Client {
        let address = self.handle.local_addr();
        let params = format!("token={user}");
        let mut client = Client::try_connect(address, Serializer::V2, &params).expect("it may connect");
        assert_eq!(client.join(topic)["status"], "ok");
        client
    }

    fn publish_all(&self, drafts: Vec<Draft>, key: Option<&str>) -> Result<PublishReply, DeskError> {
        let publish = Publish { drafts, idempotency_key: key.map(str::to_owned) };
        self.publisher.publish(publish, &actor("orders"), now())
    }

    fn try_publish(&self, draft: Draft) -> Result<Published, DeskError> {
        let reply = self.publish_all(vec![draft], None)?;
        assert!(!reply.replayed);
        let [published] = reply.messages.try_into().expect("one for each draft");
        Ok(published)
    }

    #[track_caller]
    fn publish(&self, draft: Draft) -> Published {
        self.try_publish(draft).expect("it can be published")
    }

    #[track_caller]
    fn refused(&self, draft: Draft) -> ErrorCode {
        self.try_publish(draft).expect_err("it is refused").code
    }

    fn retract(&self, id: &str) -> Result<Message, DeskError> {
        self.publisher.retract(id, &actor("ada"), now())
    }

    fn cancel(&self, id: &str) -> Result<Message, DeskError> {
        self.publisher.cancel(id, &actor("ada"), now())
    }

    #[track_caller]
    fn record(&self, id: &str) -> Message {
        self.records.message(id).expect("the store can be read").expect("there is a record")
    }

    /// The ids of all records, the newest first.
    fn ids(&self) -> Vec<String> {
        let query = MessageQuery { limit: 1000, ..MessageQuery::default() };
        let page = self.records.messages(&query).expect("the store can be read");
        page.messages.into_iter().map(|message| message.id).collect()
    }

    /// Makes the only shard stand still.
    fn stand_still(&self) -> Still<'_> {
        let mut client = self.join("still");
        client.push("still", "now", &json!({}));
        let reaches = self.reaches.lock().expect("nobody has panicked with it");
        reaches.recv_timeout(PATIENCE).expect("the shard stands still");
        Still { desk: self, _client: client }
    }

    /// Fills the mailbox of a shard that stands still, to the last byte that a message could take.
    fn fill_mailbox(&self) {
        for bytes in [30_000, 1000, 1] {
            let payload = PayloadBuf::from(json!("x".repeat(bytes)));
            let mut broadcasts = 0;
            while self.handle.broadcast("room:none", "e", payload.clone()).is_ok() {
                broadcasts += 1;
                assert!(broadcasts < 10_000, "the mailbox has an end");
            }
        }
    }

    /// Ends the server as a signal does.
    fn end(&mut self) {
        // A shard that stands still goes on.
        self.go = None;
        let server = self.server.get_mut().map_or(None, Option::take);
        if let Some(server) = server {
            server.handle().drain_within(Duration::ZERO);
            server.wait().expect("no shard has failed");
            if let Some(clerk) = self.clerk.take() {
                clerk.end();
            }
            self.store.close();
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.end();
    }
}

/// A shard that stands still until this is dropped.
struct Still<'a> {
    desk: &'a Desk,
    _client: Client,
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        if let Some(go) = &self.desk.go {
            // The shard may have lost patience.
            let _ = go.send(());
        }
    }
}

/// What is promised of a draft.
fn at_level(draft: Draft, durability: Durability) -> Draft {
    Draft { durability, ..draft }
}

fn kept(draft: Draft) -> Draft {
    Draft { lifetime: Some(HOUR), ..draft }
}

fn scheduled(draft: Draft, at: UnixMillis) -> Draft {
    Draft { send_at: Some(at), ..draft }
}
