//! The places around the shards: threads, companions, signals, and what is dropped with a server.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use hailer::auth::gate;
use hailer::broker::Outgoing;
use hailer::channel::{PayloadBuf, Router};
use hailer::endpoint::{Admission, Config};
use hailer::notification::Notification;
use hailer::phoenix::Serializer;
use hailer::server::accounts::{Account, Accounts, AccountsConfig, Directory, DirectoryError, LookupError};
use hailer::server::{Server, ServerConfig, StopSignals};
use serde_json::json;

use super::faulty::{Bomb, Faulty, panic_on_purpose};
use crate::support::{Client, PATIENCE, Peer, eventually};

fn config(place: &'static str) -> ServerConfig {
    let pattern = |text: &str| text.parse().expect("it is a pattern");
    // The last owner of each handler is a thread of the server.
    let router = Router::new()
        .channel(pattern("faulty:*"), Faulty::new(place))
        .channel(pattern("room:*"), Notification::default());
    let endpoint = Config {
        plain: Some(("/plain".into(), Arc::new(Faulty::new(place)))),
        admission: Some(Admission::new(Arc::new(Faulty::new(place)))),
        service: Some(Arc::new(Faulty::new(place))),
        ..Config::new(router)
    };
    let listen = "127.0.0.1:0".parse().expect("it is an address");
    ServerConfig { listen, shards: 1, connect_threads: 1, service_threads: 1, ..ServerConfig::new(endpoint) }
}

/// A server of one shard, and a client that has nothing to do with the faulty application.
struct Scene {
    server: Server,
    bystander: Client,
}

impl Scene {
    fn new(place: &'static str) -> Self {
        let server = Server::start(&config(place)).expect("the server starts");
        let bystander = Client::joined(server.handle().local_addr(), "room:1");
        Self { server, bystander }
    }

    /// The shard goes on, and the server ends as if nothing had happened.
    fn end(mut self) {
        self.bystander.heartbeat();
        drop(self.bystander);
        self.server.shutdown().expect("no thread of a shard has panicked");
    }
}

/// Finds every user, or panics.
struct BadDirectory(&'static str);

impl Directory for BadDirectory {
    fn find(&mut self, user: &str) -> Result<Option<Account>, DirectoryError> {
        match user {
            "panic" => panic_on_purpose(),
            "broken" => Err(DirectoryError::broken("on purpose")),
            _ => Ok(Some(Account { disabled: false, details: "{}".into() })),
        }
    }
}

impl Drop for BadDirectory {
    fn drop(&mut self) {
        if self.0 == "drop of a directory" {
            panic_on_purpose();
        }
    }
}

/// Accounts of one thread, whose first attempt to open a directory panics where that is the place.
fn accounts(place: &'static str) -> Arc<Accounts> {
    let (opened, bomb) = (AtomicUsize::new(0), (place == "drop of Accounts::start").then(|| Bomb));
    let config = AccountsConfig { threads: 1, ..AccountsConfig::default() };
    let accounts = Accounts::start(config, move || {
        let _ = &bomb;
        if place == "Accounts::start" && opened.fetch_add(1, Ordering::Relaxed) == 0 {
            panic_on_purpose();
        }
        Ok(Box::new(BadDirectory(place)))
    });
    accounts.expect("the threads start")
}

fn look_up(accounts: &Accounts, user: &str) -> Result<Arc<Account>, LookupError> {
    let (sender, receiver) = channel();
    accounts.look_up(user, move |found| sender.send(found).expect("it is waited for"));
    receiver.recv_timeout(PATIENCE).expect("a look-up is answered")
}

type Play = fn(&'static str);

pub(super) const PLACES: &[(&str, Play)] = &[
    ("Connect::connect", |place| {
        let scene = Scene::new(place);
        let address = scene.server.handle().local_addr();
        assert_eq!(Client::try_connect(address, Serializer::V2, "token=faulty").err(), Some(503));
        // The one thread that decides goes on.
        drop(Client::joined(address, "room:2"));
        scene.end();
    }),
    ("Service::call", |place| {
        let scene = Scene::new(place);
        for _ in 0..2 {
            let mut peer = Peer::connect(scene.server.handle().local_addr());
            peer.send(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(peer.response().status, 500);
        }
        scene.end();
    }),
    ("drop of a handler", |place| {
        let scene = Scene::new(place);
        scene.end();
    }),
    ("ServerHandle::tally", |place| {
        let mut scene = Scene::new(place);
        let bomb = Bomb;
        let (sender, receiver) = channel();
        let tally = scene.server.handle().tally(1, move || {
            let _ = (&bomb, sender.send(()));
            panic_on_purpose();
        });
        let outgoing = Outgoing {
            topic: "room:1",
            event: "new_msg",
            payload: json!({"body": 7}).into(),
            tally: Some(tally.entry(0)),
            receipt: None,
            published: None,
        };
        // The shard is the last to have it.
        drop(tally);
        scene.server.handle().publish_all(vec![outgoing]).expect("there is room");
        receiver.recv_timeout(PATIENCE).expect("the shard has counted");
        assert_eq!(scene.bystander.body(), 7);
        scene.end();
    }),
    ("Tally::new", |_| {
        let tally = hailer::broker::Tally::new(1, 1, || panic_on_purpose());
        let broker = hailer::broker::Broker::new(&hailer::limits::Limits::default(), vec![Box::new(|| ())]);
        let outgoing = Outgoing {
            topic: "room:1",
            event: "new_msg",
            payload: PayloadBuf::empty(),
            tally: Some(tally.entry(0)),
            receipt: None,
            published: None,
        };
        broker.publish_all(vec![outgoing]).expect("there is room");
    }),
    ("Server::accompany", |place| {
        let mut scene = Scene::new(place);
        let ended = Arc::new(AtomicUsize::new(0));
        for number in 0..3 {
            let ended = Arc::clone(&ended);
            scene.server.accompany(move || {
                ended.fetch_add(1, Ordering::Relaxed);
                if number == 0 { panic_on_purpose() } else { Ok(()) }
            });
        }
        let error = scene.server.shutdown().expect_err("one has panicked");
        assert_eq!(error.to_string(), "what accompanies the server has panicked: on purpose");
        assert_eq!(ended.load(Ordering::Relaxed), 3, "the others end as well");
    }),
    ("Answer::new", |_| {
        // On whatever thread the application answers: here that of the look-ups.
        let accounts = accounts("");
        let answer = hailer::auth::connect::Answer::new(|_| panic_on_purpose());
        gate::Accounts::look_up(&*accounts, "ada", Box::new(move |_| drop(answer)));
        assert!(look_up(&accounts, "bob").is_ok());
    }),
    ("Directory::find", |place| {
        let accounts = accounts(place);
        assert!(look_up(&accounts, "panic").is_err());
        assert!(look_up(&accounts, "ada").is_ok());
    }),
    ("drop of a directory", |place| {
        let accounts = accounts(place);
        assert!(look_up(&accounts, "broken").is_err());
        assert!(look_up(&accounts, "ada").is_ok());
    }),
    ("Accounts::start", |place| {
        let accounts = accounts(place);
        eventually("the directory is opened", || look_up(&accounts, "ada").ok());
    }),
    ("drop of Accounts::start", |place| {
        let accounts = accounts(place);
        assert!(look_up(&accounts, "ada").is_ok());
        drop(accounts);
    }),
    ("Accounts::look_up", |place| {
        let accounts = accounts(place);
        accounts.look_up("ada", |_| panic_on_purpose());
        assert!(look_up(&accounts, "bob").is_ok());
    }),
];

#[test]
fn a_panic_of_the_application_beside_the_shards_ends_the_server() {
    for (place, play) in PLACES {
        println!("{place}");
        play(place);
    }
}

/// Set in the process that is sent signals.
const CHILD: &str = "HAILER_TEST_SIGNALS";

/// What [`PLACES`] are to this test.
pub(super) const SIGNALS: &str = "StopSignals::run_with";

#[test]
fn a_server_whose_reload_has_panicked_can_t_be_stopped() {
    if std::env::var_os(CHILD).is_some() {
        let signals = StopSignals::catch_with_reload().expect("the signals are caught");
        let server = Server::start(&config("")).expect("the server starts");
        println!("\nready");
        signals.run_with(server, || panic!("a reload")).expect("no shard has failed");
        println!("\nended");
        return;
    }
    let test = "isolation::server::a_server_whose_reload_has_panicked_can_t_be_stopped";
    let mut child = Child::start(test);
    assert!(child.says("ready"));
    for _ in 0..2 {
        child.signal("HUP");
        assert!(child.says("a reload"), "it is asked to reload");
    }
    child.signal("TERM");
    assert!(child.says("ended"));
    assert!(child.process.wait().expect("it has ended").success());
}

/// This program in a process of its own, where it runs one test.
struct Child {
    process: std::process::Child,
    lines: Receiver<String>,
}

impl Child {
    fn start(test: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("it has a path"))
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the test is a program");
        let (sender, lines) = channel();
        let read = |from: Box<dyn Read + Send>, to: Sender<String>| {
            let lines = BufReader::new(from).lines().map_while(Result::ok);
            std::thread::spawn(move || {
                lines.map(|line| to.send(line)).take_while(Result::is_ok).for_each(drop);
            });
        };
        read(Box::new(process.stdout.take().expect("it is piped")), sender.clone());
        read(Box::new(process.stderr.take().expect("it is piped")), sender);
        Self { process, lines }
    }

    /// Whether it prints a line with this text, sooner or later.
    fn says(&self, text: &str) -> bool {
        std::iter::from_fn(|| self.lines.recv_timeout(PATIENCE).ok()).any(|line| line.contains(text))
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
