//! The places of a shard, in an endpoint without sockets.

use std::sync::Arc;

use hailer::broker::Broker;
use hailer::channel::{PayloadBuf, Router};
use hailer::endpoint::{Admission, Config};
use hailer::limits::Limits;
use hailer::notification::Notification;
use hailer::phoenix::Serializer;
use hailer::testing::{ClientId, Credentials, TestServer, upgrade_request, write_masked};
use serde_json::{Value, json};

use super::faulty::{Bomb, Faulty, panic_on_purpose};

const TOPIC: &str = "faulty:1";

/// A server of one shard, with a client of the faulty application and one that has nothing to do with it.
pub(super) struct Scene {
    server: TestServer,
    faulty: Arc<Faulty>,
    client: ClientId,
    bystander: ClientId,
}

impl Scene {
    fn new(place: &'static str) -> Self {
        let faulty = Arc::new(Faulty::new(place));
        let pattern = |text: &str| text.parse().expect("it is a pattern");
        let router = Router::new()
            .channel_with(pattern("faulty:*"), Arc::clone(&faulty) as _, Default::default())
            .channel(pattern("room:*"), Notification::default());
        let mut admission = Admission::new(Arc::clone(&faulty) as _);
        if place == "Channel::join, by itself" {
            admission.auto_join = [pattern("faulty:by itself")].into();
        }
        let config = Config {
            plain: Some(("/plain".into(), Arc::clone(&faulty) as _)),
            admission: Some(admission),
            ..Config::new(router)
        };
        let mut server = TestServer::with_config(&config, 1);
        let bystander = server.connect();
        assert_eq!(server.join(bystander, "room:1", json!({}))["status"], "ok");
        let client = server.connect();
        Self { server, faulty, client, bystander }
    }

    fn join(&mut self, payload: Value) -> Value {
        self.server.join(self.client, TOPIC, payload)
    }

    fn joined(&mut self) {
        assert_eq!(self.join(json!({}))["status"], "ok");
    }

    fn push(&mut self, event: &str) -> Value {
        self.server.push(self.client, TOPIC, event, json!({}))
    }

    /// The channel has crashed, and this client was told.
    #[track_caller]
    fn assert_crashed(&mut self) {
        assert_eq!(
            self.server.received_event(self.client, "phx_error"),
            [json!({"reason": "channel_crash"})]
        );
    }

    /// The other client has noticed nothing.
    #[track_caller]
    fn check_bystander(&mut self) {
        let (server, bystander) = (&mut self.server, self.bystander);
        server.broadcast("room:1", "new_msg", json!(1)).expect("there is room");
        assert_eq!(server.received_event(bystander, "new_msg"), [json!(1)]);
        let heartbeat = server.push(bystander, "phoenix", "heartbeat", json!({}));
        assert!(server.take_reply(bystander, &heartbeat).is_some(), "the shard goes on");
        assert_eq!(server.closed(bystander), None);
    }
}

pub(super) type Play = fn(&mut Scene);

/// Where an application panics, how many crashes are counted then, and how that is brought about.
pub(super) const PLACES: &[(&str, u64, Play)] = &[
    ("Channel::join", 1, |scene| {
        assert_eq!(scene.join(json!({}))["response"], json!({"reason": "join crashed"}));
    }),
    ("Channel::handle_in", 1, |scene| {
        scene.joined();
        scene.push("anything");
        scene.assert_crashed();
        scene.joined();
    }),
    ("Channel::intercepts", 1, |scene| {
        // What may be meant for some alone does not reach all as it is.
        scene.joined();
        scene.push("secret");
        let secrets = scene.server.received_event(scene.client, "secret");
        assert_eq!(secrets, [json!({"reason": "through handle_out"})]);
    }),
    ("Channel::handle_out", 1, |scene| {
        scene.joined();
        scene.push("secret");
        scene.assert_crashed();
    }),
    ("Channel::handle_info", 1, |scene| {
        scene.joined();
        scene.push("handle");
        scene.faulty.handles.lock().unwrap()[0].send(1).unwrap();
        scene.server.settle();
        scene.assert_crashed();
    }),
    ("Channel::handle_renewal", 1, |scene| {
        scene.joined();
        scene.server.push(scene.client, TOPIC, "access_token", json!({"access_token": "t"}));
        scene.assert_crashed();
    }),
    ("Channel::terminate", 2, |scene| {
        scene.joined();
        assert_eq!(scene.server.leave(scene.client, TOPIC)["status"], "ok");
        scene.joined();
        scene.server.reset(scene.client);
    }),
    ("PlainSocket::handle", 1, |scene| {
        let client = scene.server.open();
        scene.server.send_bytes(client, upgrade_request("/plain").as_bytes());
        scene.server.finish_connect(client).expect("it is upgraded");
        let mut message = Vec::new();
        write_masked(&mut message, 0x1, true, b"hello");
        scene.server.send_bytes(client, &message);
        let frames = scene.server.take_frames(client);
        assert_eq!((frames.len(), &*frames[0].payload), (2, &b"hello"[..]));
        assert_eq!((frames[1].opcode, &frames[1].payload[..2]), (0x8, &1011u16.to_be_bytes()[..]));
        assert_eq!(scene.server.stats().closed_crashed, 1);
    }),
    ("Channel::join, by itself", 2, |scene| {
        // Both clients have connected all the same.
        assert_eq!(scene.server.stats().web_sockets, 2);
    }),
    ("drop of assigns", 6, |scene| {
        let handles = Arc::downgrade(&scene.faulty.handles);
        let before = handles.strong_count();
        scene.joined();
        scene.push("stop");
        scene.joined();
        scene.push("fail");
        scene.assert_crashed();
        scene.joined();
        // Replaced by another join.
        scene.joined();
        assert_eq!(scene.server.leave(scene.client, TOPIC)["status"], "ok");
        assert_eq!(scene.join(json!("refuse"))["response"], json!({"reason": "unauthorized"}));
        assert_eq!(handles.strong_count(), before, "the values behind it are dropped as well");
    }),
    ("drop of assigns", 1, |scene| {
        scene.joined();
        scene.server.reset(scene.client);
        assert_eq!(scene.server.stats().connections, 1);
    }),
    ("drop of assigns", 0, |scene| {
        // At the end of the server, which this scene's own end is.
        scene.joined();
    }),
    ("drop of an Info", 1, |scene| {
        scene.joined();
        scene.push("handle");
        let handle = scene.faulty.handles.lock().unwrap().remove(0);
        assert_eq!(scene.server.leave(scene.client, TOPIC)["status"], "ok");
        handle.send(Bomb).unwrap();
        scene.server.settle();
    }),
    ("drop of an Info", 0, |scene| {
        // In the mailbox of a server that has ended, and by the default of `handle_info`.
        scene.joined();
        scene.push("handle");
        let handle = scene.faulty.handles.lock().unwrap().remove(0);
        handle.send(Bomb).unwrap();
        scene.server.settle();
        handle.send(Bomb).unwrap();
    }),
    ("drop of an Info, unwinding", 2, |scene| {
        scene.joined();
        scene.push("handle");
        scene.faulty.handles.lock().unwrap()[0].send(Bomb).unwrap();
        scene.server.settle();
        scene.assert_crashed();
        scene.joined();
        scene.push("both");
        scene.assert_crashed();
    }),
    ("drop of a panic's payload", 2, |scene| {
        for event in ["payload", "payload with a hook"] {
            scene.joined();
            scene.push(event);
            scene.assert_crashed();
        }
    }),
    ("drop of an error", 2, |scene| {
        scene.joined();
        scene.push("fail");
        scene.assert_crashed();
        assert_eq!(scene.join(json!("fail"))["response"], json!({"reason": "join crashed"}));
    }),
    ("Error::fmt", 2, |scene| {
        scene.joined();
        scene.push("fail");
        scene.assert_crashed();
        assert_eq!(scene.join(json!("fail"))["response"], json!({"reason": "join crashed"}));
    }),
    ("Error::source", 2, |scene| {
        scene.joined();
        scene.push("fail");
        scene.assert_crashed();
        assert_eq!(scene.join(json!("fail"))["response"], json!({"reason": "join crashed"}));
    }),
    ("drop of what an identity assigns", 0, |scene| {
        scene.server.reset(scene.client);
        // A decision about a client that has gone.
        scene.server.hold_connects(true);
        let client = scene.server.begin_connect(Serializer::V2, Credentials::default());
        scene.server.reset(client);
        scene.server.hold_connects(false);
    }),
    ("Broker::new", 0, |_| {
        // What wakes a shard runs in the publisher's thread.
        let broker = Broker::new(&Limits::default(), vec![Box::new(|| panic_on_purpose())]);
        broker.broadcast("room:1", "new_msg", PayloadBuf::empty()).expect("there is room");
        let bomb = Bomb;
        drop(broker);
        drop(Broker::new(&Limits::default(), vec![Box::new(move || _ = &bomb)]));
    }),
];

#[test]
fn a_panic_of_the_application_ends_other_clients() {
    for (number, (place, crashes, play)) in PLACES.iter().enumerate() {
        println!("row {number}: {place}");
        let mut scene = Scene::new(place);
        play(&mut scene);
        assert_eq!(scene.server.stats().channel_crashes, *crashes, "{place}");
        scene.check_bystander();
        scene.server.settle();
        drop(scene);
    }
}
