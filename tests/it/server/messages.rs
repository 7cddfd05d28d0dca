//! Joining, and what one says that all hear.

use hailer::phoenix::Serializer;
use hailer::testing::{upgrade_request, write_masked};
use serde_json::{Value, json};

use crate::support::peer::{PATH, TEXT};
use crate::support::{Client, Hailer, Peer};

#[test]
fn clients_of_both_serializers_join_and_hear_each_other() {
    let hailer = Hailer::start(&[]);
    let mut clients =
        [Serializer::V1, Serializer::V2].map(|serializer| Client::connect_with(hailer.address(), serializer));
    for client in &mut clients {
        assert_eq!(client.join("room:lobby"), json!({"status": "ok", "response": {}}));
        client.heartbeat();
    }
    for sender in 0..clients.len() {
        let body = json!({"from": sender, "text": "größer als \u{1f980}"});
        clients[sender].push("room:lobby", "new_msg", &json!({"body": body, "dropped": 1}));
        for receiver in &mut clients {
            let event = receiver.event();
            assert_eq!((&*event.topic, &*event.event), ("room:lobby", "new_msg"));
            assert_eq!((event.join_ref, event.message_ref), (Value::Null, Value::Null));
            assert_eq!(event.payload, json!({ "body": body }));
        }
    }
}

#[test]
fn topics_are_those_on_the_command_line() {
    let hailer = Hailer::start(&["--topic", "room:*", "--topic", "news"]);
    let mut client = Client::connect(hailer.address());
    for topic in ["room:lobby", "room:", "room:42", "news"] {
        assert_eq!(client.join(topic)["status"], "ok", "{topic}");
    }
    for topic in ["news:1", "rooms:1", "Room:1", "phoenix", ""] {
        let expected = json!({"status": "error", "response": {"reason": "unmatched topic"}});
        assert_eq!(client.join(topic), expected, "{topic}");
    }
    let mut other = Client::joined(hailer.address(), "room:42");
    other.push("room:42", "new_msg", &json!({"body": 1}));
    assert_eq!((other.body(), client.event().topic), (json!(1), "room:42".to_owned()));

    let hailer = Hailer::start(&[]);
    let mut strict = Client::connect(hailer.address());
    assert_eq!(strict.join("room:42")["status"], "error");
}

#[test]
fn all_shards_hear_all_messages_in_one_order() {
    const CLIENTS: usize = 64;
    const SENDERS: usize = 8;
    const EACH: usize = 25;
    let mut hailer = Hailer::start(&["--shards", "4"]);
    let join = |_| Client::joined(hailer.address(), "room:lobby");
    let mut clients: Vec<Client> = (0..CLIENTS).map(join).collect();
    for number in 0..EACH {
        for (sender, client) in clients.iter_mut().enumerate().take(SENDERS) {
            client.push("room:lobby", "new_msg", &json!({"body": [sender, number]}));
        }
    }
    let heard: Vec<Vec<Value>> =
        clients.iter_mut().map(|client| (0..SENDERS * EACH).map(|_| client.body()).collect()).collect();
    for (client, bodies) in heard.iter().enumerate() {
        assert_eq!(bodies, &heard[0], "client {client} has heard another order");
    }
    for sender in 0..SENDERS {
        let numbers: Vec<&Value> =
            heard[0].iter().filter(|body| body[0] == sender).map(|body| &body[1]).collect();
        assert_eq!(
            numbers,
            (0..EACH).map(|number| json!(number)).collect::<Vec<_>>().iter().collect::<Vec<_>>()
        );
    }
    hailer.stop();
    // A topic counts once in each shard that has it: all four had subscribers.
    let line = hailer.log_line("stopping");
    assert!(line.contains("topics=4") && line.contains("web_sockets=64"), "{line}");
}

#[test]
fn frames_in_the_same_packet_as_the_upgrade_are_handled() {
    let hailer = Hailer::start(&[]);
    let mut bytes = upgrade_request(PATH).into_bytes();
    write_masked(&mut bytes, TEXT, true, br#"["1","1","room:lobby","phx_join",{}]"#);
    write_masked(&mut bytes, TEXT, true, br#"["1","2","room:lobby","new_msg",{"body":"early"}]"#);
    let mut peer = Peer::connect(hailer.address());
    peer.send(&bytes);
    assert_eq!(peer.response().status, 101);
    assert_eq!(peer.message()[4], json!({"status": "ok", "response": {}}));
    assert_eq!(peer.message()[4], json!({"body": "early"}));
}

#[test]
fn a_message_sent_right_before_the_end_is_delivered() {
    let hailer = Hailer::start(&["--shards", "2"]);
    let mut listener = Client::joined(hailer.address(), "room:lobby");
    for number in 0..100 {
        let mut peer = Peer::join(hailer.address());
        peer.send_text(&format!(r#"["1","2","room:lobby","new_msg",{{"body":{number}}}]"#));
        // The end may come in the same packet, and sometimes in the same turn.
        drop(peer);
        assert_eq!(listener.body(), number);
    }
}

#[test]
fn a_message_cut_into_single_bytes_is_one_message() {
    let hailer = Hailer::start(&[]);
    let mut peer = Peer::join(hailer.address());
    let mut bytes = Vec::new();
    write_masked(&mut bytes, TEXT, true, br#"["1","2","room:lobby","new_msg",{"body":"slow"}]"#);
    for byte in bytes {
        peer.send(&[byte]);
    }
    assert_eq!(peer.message()[4], json!({"body": "slow"}));
}
