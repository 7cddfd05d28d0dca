//! What the built-in channel does for Supabase's clients: whose broadcasts reach whom, and in which form.

use hailer::auth::rights::{Rights, Who};
use hailer::channel::{Router, TopicPattern};
use hailer::endpoint::Config;
use hailer::notification::{Notification, Restricted, Rule};
use hailer::phoenix::Serializer::{self, V1, V2};
use hailer::testing::{ClientId, TestServer};
use serde_json::{Value, json};

/// The open channel, and one with rules: all may push `broadcast` and `presence`.
fn server() -> TestServer {
    let pattern = |text: &str| -> TopicPattern { text.parse().expect("a pattern") };
    let push = ["broadcast", "presence"].map(|event| (Some(event.into()), Who::Anyone)).to_vec();
    let rule = |pattern| Rule {
        pattern,
        rights: Rights { join: Who::Anyone, push: push.clone() },
        payload_bytes_max: Some(64),
        pushes_per_minute: None,
    };
    let router = Router::new()
        .channel(pattern("realtime:open:*"), Notification::default())
        .channel(pattern("room:*"), Notification::default())
        .channel(pattern("realtime:*"), Restricted::new(rule(pattern("realtime:*"))))
        .channel(pattern("ruled:*"), Restricted::new(rule(pattern("ruled:*"))));
    TestServer::with_config(&Config::new(router), 1)
}

const TOPICS: [&str; 2] = ["realtime:open:1", "realtime:ruled"];

/// A client that has joined as Supabase's do.
fn join(server: &mut TestServer, serializer: Serializer, topic: &str, broadcast: &Value) -> ClientId {
    let client = server.connect_with(serializer);
    let params = json!({
        "config": {
            "broadcast": broadcast,
            "presence": {"key": "", "enabled": false},
            "postgres_changes": [],
            "private": false,
        },
        "access_token": "ey…",
    });
    let reply = server.join(client, topic, params);
    assert_eq!(reply, json!({"status": "ok", "response": {"postgres_changes": []}}));
    client
}

/// What realtime-js sends as a broadcast, with ref "9"; [`TestServer::join`] has given the join its ref "1".
fn broadcast(topic: &str, event: &str, encoding: u8, data: &[u8]) -> Vec<u8> {
    let names = ["1", "9", topic, event, ""];
    let sizes = names.map(|name| u8::try_from(name.len()).unwrap());
    [&[3], &sizes[..], &[encoding], names.concat().as_bytes(), data].concat()
}

/// The payloads of `broadcast` that have come, and the replies to ref "9".
fn heard(server: &mut TestServer, client: ClientId) -> (Vec<Value>, Option<Value>) {
    let reply = server.take_reply(client, &json!("9"));
    (server.received_event(client, "broadcast"), reply)
}

#[test]
fn a_broadcast_in_bytes_does_not_close_the_socket_and_reaches_the_others_as_text() {
    for topic in TOPICS {
        let mut server = server();
        let [ada, bob] =
            [(); 2].map(|()| join(&mut server, V2, topic, &json!({"self": false, "ack": false})));
        let old = join(&mut server, V1, topic, &json!({}));
        server.send_binary(ada, &broadcast(topic, "shout", 1, br#"{"x": 1}"#));
        let payload = json!({"type": "broadcast", "event": "shout", "payload": {"x": 1}});
        assert_eq!(heard(&mut server, ada), (vec![], None));
        for client in [bob, old] {
            assert_eq!(heard(&mut server, client), (vec![payload.clone()], None), "{topic}");
        }
    }
}

#[test]
fn a_sender_gets_its_own_broadcast_and_an_answer_if_it_has_asked_for_them() {
    for topic in TOPICS {
        for (own, ack) in [(false, false), (false, true), (true, false), (true, true)] {
            for serializer in [V1, V2] {
                let mut server = server();
                let client = join(&mut server, serializer, topic, &json!({"self": own, "ack": ack}));
                let payload = json!({"type": "broadcast", "event": "shout", "payload": {}});
                let sent = server.push(client, topic, "broadcast", payload.clone());
                let reply = server.take_reply(client, &sent);
                assert_eq!(reply, ack.then(|| json!({"status": "ok", "response": {}})));
                let own: Vec<Value> = own.then_some(payload).into_iter().collect();
                assert_eq!(server.received_event(client, "broadcast"), own, "{topic}");
            }
        }
    }
}

#[test]
fn bytes_reach_those_who_can_read_them() {
    for topic in TOPICS {
        let mut server = server();
        let [ada, bob] = [(); 2].map(|()| join(&mut server, V2, topic, &json!({"self": true, "ack": true})));
        let old = join(&mut server, V1, topic, &json!({}));
        server.send_binary(ada, &broadcast(topic, "bytes", 0, b"\0\xff"));
        let topic_len = u8::try_from(topic.len()).unwrap();
        let frame =
            [&[0x82, 5 + topic_len + 5 + 2, 4, topic_len, 5, 0, 0][..], topic.as_bytes(), b"bytes\0\xff"]
                .concat();
        assert_eq!(server.take_bytes(bob), frame, "{topic}");
        let (payloads, reply) = heard(&mut server, ada);
        assert_eq!(payloads, [json!({"type": "broadcast", "event": "bytes", "payload": [0, 255]})]);
        assert_eq!(reply, Some(json!({"status": "ok", "response": {}})));
        assert!(server.received(old).is_empty());
        assert_eq!(server.stats().broadcasts_unencodable, 1);
    }
}

#[test]
fn bytes_are_refused_where_other_clients_are() {
    for topic in ["room:1", "ruled:1"] {
        let mut server = server();
        let ada = join(&mut server, V2, topic, &json!({"self": true}));
        server.send_binary(ada, &broadcast(topic, "bytes", 0, b"x"));
        let reason = "broadcasts of bytes are for topics that begin with realtime:";
        let reply = json!({"status": "error", "response": {"reason": reason}});
        assert_eq!(heard(&mut server, ada), (vec![], Some(reply)));
        server.send_binary(ada, &broadcast(topic, "text", 1, b"1"));
        let payload = json!({"type": "broadcast", "event": "text", "payload": 1});
        assert_eq!(heard(&mut server, ada), (vec![payload], None));
    }
}

#[test]
fn what_a_user_broadcasts_is_bounded_as_any_push_is() {
    let mut server = server();
    let ada = join(&mut server, V2, "realtime:ruled", &json!({"ack": true}));
    for (encoding, data) in [(0, vec![0; 65]), (1, format!("\"{}\"", "x".repeat(63)).into_bytes())] {
        server.send_binary(ada, &broadcast("realtime:ruled", "e", encoding, &data));
        let response = json!({"reason": "payload too large (payload_bytes_max)"});
        let reply = json!({"status": "error", "response": response});
        assert_eq!(heard(&mut server, ada), (vec![], Some(reply)));
    }
}

#[test]
fn a_broadcast_that_is_wrong_is_answered() {
    let topic = TOPICS[0];
    let mut server = server();
    let [ada, bob] = [(); 2].map(|()| join(&mut server, V2, topic, &json!({"ack": true})));
    for (encoding, data, reason) in [
        (1, &b"{"[..], "the payload of the broadcast is not valid JSON, as its encoding says"),
        (2, b"{}", "the encoding of the broadcast is neither 0 (bytes) nor 1 (JSON)"),
        (1, br#""\ud83d""#, "a string in the message has a \\u escape that is half of a surrogate pair"),
    ] {
        server.send_binary(ada, &broadcast(topic, "shout", encoding, data));
        let reply = json!({"status": "error", "response": {"reason": reason}});
        assert_eq!(heard(&mut server, ada), (vec![], Some(reply)));
    }
    assert_eq!(heard(&mut server, bob), (vec![], None));
    let stats = server.stats();
    assert_eq!((stats.messages_refused, stats.closed_bad_message, stats.web_sockets), (3, 0, 2));
}

#[test]
fn nobody_is_tracked_and_says_so() {
    for topic in TOPICS {
        let mut server = server();
        let ada = join(&mut server, V2, topic, &json!({}));
        let track = json!({"type": "presence", "event": "track", "payload": {}});
        let sent = server.push(ada, topic, "presence", track);
        let reply = json!({"status": "error", "response": {"reason": "this server keeps no presence"}});
        assert_eq!(server.take_reply(ada, &sent), Some(reply));
    }
}

#[test]
fn a_client_that_says_nothing_of_broadcasts_is_treated_as_ever() {
    let mut server = server();
    for params in [json!({}), json!({"config": 1}), json!({"a": "\"config\""}), json!([1])] {
        let client = server.connect();
        let reply = server.join(client, "realtime:ruled", params.clone());
        assert_eq!(reply, json!({"status": "ok", "response": {}}), "{params}");
        let sent = server.push(client, "realtime:ruled", "broadcast", json!(1));
        assert_eq!(server.received_event(client, "broadcast"), [json!(1)], "{params}");
        assert_eq!(server.take_reply(client, &sent), None);
        server.hang_up(client);
    }
    // In the open channel it may not push the event at all.
    let client = server.connect();
    server.join(client, "realtime:open:1", json!({}));
    let sent = server.push(client, "realtime:open:1", "broadcast", json!(1));
    assert_eq!(server.take_reply(client, &sent).unwrap()["status"], "error");
}

#[test]
fn a_join_with_a_config_but_without_broadcasts_has_supabases_defaults() {
    let mut server = server();
    let client = server.connect();
    let reply = server.join(client, "realtime:ruled", json!({"config": {"presence": {}}}));
    assert_eq!(reply["response"], json!({"postgres_changes": []}));
    server.push(client, "realtime:ruled", "broadcast", json!(1));
    assert!(server.received(client).is_empty());
}
