//! Messages that are kept, as those get them who join later.

use std::sync::Arc;
use std::time::Duration;

use hailer::auth::rights::{Rights, Who};
use hailer::board::{Board, Kept};
use hailer::channel::{PayloadBuf, Router, TopicPattern};
use hailer::endpoint::{Admission, Config};
use hailer::notification::{Notification, Restricted, Rule};
use hailer::phoenix::Serializer;
use hailer::testing::{ClientId, TestServer, write_masked};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::dialogue::{Dialogue, FORMS, Transport, joined};
use super::doorman;

const LOBBY: &str = "room:lobby";
const HOUR: Duration = Duration::from_secs(3600);
/// Messages kept for a topic.
const MAX: usize = 20;

/// A room whose joiners get what the board keeps.
fn config(board: &Arc<Board>) -> Config {
    let channel = Notification::with_board(Arc::clone(board));
    Config::new(Router::new().channel("room:*".parse().unwrap(), channel))
}

/// A dialogue in each form, and the board of its server.
fn each(mut play: impl FnMut(&mut Dialogue, &Arc<Board>)) {
    for form in FORMS {
        let board = Arc::new(Board::new());
        play(&mut Dialogue::over(&config(&board), form), &board);
    }
}

/// Publishes `{"id": id}`, and keeps it for so long.
fn keep_for(lifetime: Duration, server: &mut TestServer, board: &Board, topic: &str, id: &str) {
    let payload = PayloadBuf::from(json!({ "id": id }));
    let kept = Kept::new(id, "new_msg", payload.clone(), server.now() + lifetime);
    board.keep(topic, kept, MAX, || server.publish(topic, "new_msg", payload)).unwrap();
}

/// The same, until nobody waits for it any more.
fn keep(server: &mut TestServer, board: &Board, topic: &str, id: &str) {
    keep_for(HOUR, server, board, topic, id);
    server.settle();
}

/// The ids of the messages that have come.
fn ids(server: &mut TestServer, client: ClientId) -> Vec<String> {
    let messages = server.received_event(client, "new_msg");
    messages.iter().map(|message| message["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn who_joins_later_gets_them_once_in_order_behind_the_reply() {
    each(|dialogue, board| {
        dialogue.play(&joined("a", LOBBY));
        for id in ["1", "2"] {
            keep(&mut dialogue.server, board, LOBBY, id);
        }
        dialogue.play(
            r#"
            a <- [null,null,"room:lobby","new_msg",{"id":"1"}]
            a <- [null,null,"room:lobby","new_msg",{"id":"2"}]
            b -> ["7","8","room:lobby","phx_join",{}]
            b <- ["7","8","room:lobby","phx_reply",{"status":"ok","response":{}}]
            b <- ["7",null,"room:lobby","new_msg",{"id":"1"}]
            b <- ["7",null,"room:lobby","new_msg",{"id":"2"}]
            b -> ["7","9","room:lobby","new_msg",{"body":"hi"}]
            a <- [null,null,"room:lobby","new_msg",{"body":"hi"}]
            b <- [null,null,"room:lobby","new_msg",{"body":"hi"}]
            "#,
        );
    });
}

#[test]
fn event_and_payload_are_those_of_the_broadcast() {
    each(|dialogue, board| {
        let text = r#"{"b": 1e400, "a":[ "\u00e9\"" ]}"#;
        let payload = PayloadBuf::Json(RawValue::from_string(text.to_owned()).unwrap());
        let until = dialogue.server.now() + HOUR;
        board.restore(LOBBY, Kept::new("1", "price list", payload, until), 1);
        dialogue.play(&joined("a", "room:other"));
        dialogue.play(
            r#"
            a -> ["1","2","room:lobby","phx_join",{"any":"params"}]
            a <- ["1","2","room:lobby","phx_reply",{"status":"ok","response":{}}]
            a <- ["1",null,"room:lobby","price list",{"b": 1e400, "a":[ "\u00e9\"" ]}]
            "#,
        );
    });
}

#[test]
fn each_further_join_brings_them_again() {
    each(|dialogue, board| {
        keep(&mut dialogue.server, board, LOBBY, "1");
        dialogue.play(
            r#"
            a -> ["1","1","room:lobby","phx_join",{}]
            a <- ["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]
            a <- ["1",null,"room:lobby","new_msg",{"id":"1"}]
            a -> ["1","2","room:lobby","phx_leave",{}]
            a <- ["1","2","room:lobby","phx_reply",{"status":"ok","response":{}}]
            a <- ["1","1","room:lobby","phx_close",{}]
            a -> ["3","3","room:lobby","phx_join",{}]
            a <- ["3","3","room:lobby","phx_reply",{"status":"ok","response":{}}]
            a <- ["3",null,"room:lobby","new_msg",{"id":"1"}]
            "#,
        );
    });
}

#[test]
fn nobody_gets_one_whose_time_is_over_or_that_was_given_up() {
    each(|dialogue, board| {
        let server = &mut dialogue.server;
        keep_for(Duration::from_secs(60), server, board, LOBBY, "a minute");
        keep_for(Duration::from_secs(61), server, board, LOBBY, "a little longer");
        for id in ["taken back", "stays"] {
            keep(server, board, LOBBY, id);
        }
        assert!(board.remove(LOBBY, "taken back"));
        server.advance(Duration::from_secs(60));
        dialogue.play(
            r#"
            a -> ["1","1","room:lobby","phx_join",{}]
            a <- ["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]
            a <- ["1",null,"room:lobby","new_msg",{"id":"a little longer"}]
            a <- ["1",null,"room:lobby","new_msg",{"id":"stays"}]
            "#,
        );
    });
}

#[test]
fn each_topic_has_its_own() {
    each(|dialogue, board| {
        let topics: Vec<_> = (0..60).map(|number| format!("room:{number}")).collect();
        for (number, topic) in topics.iter().enumerate() {
            for id in 0..number % 4 {
                keep(&mut dialogue.server, board, topic, &format!("{topic}/{id}"));
            }
        }
        let client = dialogue.client("a");
        let server = &mut dialogue.server;
        for (number, topic) in topics.iter().enumerate() {
            assert_eq!(server.join(client, topic, json!({}))["status"], "ok");
            let expected: Vec<_> = (0..number % 4).map(|id| format!("{topic}/{id}")).collect();
            assert_eq!(ids(server, client), expected);
        }
        assert_eq!(server.join(client, "room:none", json!({}))["status"], "ok");
        assert!(ids(server, client).is_empty());
    });
}

/// A broadcast waits in the mailbox of each shard, which takes one in each turn here. Whoever joins in between gets
/// the first messages from the board, and the rest as broadcasts.
#[test]
fn one_that_is_still_in_the_mailbox_comes_once() {
    const MESSAGES: usize = 6;
    for form in FORMS {
        for shards in [1, 3] {
            let mut pushed = Vec::new();
            for turns in 0..=MESSAGES {
                let board = Arc::new(Board::new());
                let mut config = config(&board);
                Arc::make_mut(&mut config.limits).set("mail_per_turn", "1").unwrap();
                let mut server = TestServer::with_config(&config, shards);
                let client = connect(&mut server, form);
                for id in 0..MESSAGES {
                    keep_for(HOUR, &mut server, &board, LOBBY, &id.to_string());
                }
                for _ in 0..turns {
                    server.turn();
                }
                assert_eq!(server.join(client, LOBBY, json!({}))["status"], "ok");
                let received = server.received(client);
                let got: Vec<_> = received.iter().map(|message| message.payload["id"].clone()).collect();
                let all: Vec<_> = (0..MESSAGES).map(|id| json!(id.to_string())).collect();
                assert_eq!(got, all, "{form:?} on {shards} shards after {turns} turns");
                pushed.push(received.iter().filter(|message| message.join_ref != Value::Null).count());
            }
            // Serializer V1 does not tell pushes and broadcasts apart.
            if form.0 == Serializer::V2 {
                let (first, last) = (pushed[0], pushed[MESSAGES]);
                assert!(first < MESSAGES && last == MESSAGES, "{form:?} on {shards} shards: {pushed:?}");
            }
        }
    }
}

#[test]
fn as_many_are_given_as_a_client_may_leave_unread_and_those_the_newest() {
    const KEPT: usize = 100;
    const TOPICS: usize = 40;
    for form in FORMS {
        let board = Arc::new(Board::new());
        let config = config(&board);
        let mut server = TestServer::with_config(&config, 1);
        let until = server.now() + HOUR;
        for topic in 0..TOPICS {
            for id in 0..KEPT {
                // Quotes take two bytes each on long-poll.
                let payload = PayloadBuf::from(json!({"id": id, "body": "\"".repeat(2_000)}));
                let kept = Kept::new(&id.to_string(), "new_msg", payload, until);
                board.restore(&format!("room:{topic}"), kept, KEPT);
            }
        }
        // One topic after the other, and then all in one breath.
        let client = connect(&mut server, form);
        assert_eq!(server.join(client, "room:0", json!({}))["status"], "ok");
        let ids: Vec<_> = server.received_event(client, "new_msg").iter().map(|m| m["id"].as_u64()).collect();
        assert!(ids.len() > 5, "{form:?}: {} of {KEPT}", ids.len());
        let newest: Vec<_> = (KEPT - ids.len()..KEPT).map(|id| Some(id as u64)).collect();
        assert_eq!(ids, newest, "{form:?}");

        let client = connect(&mut server, form);
        let joins: Vec<_> = (0..TOPICS).map(|topic| join_message(form.0, &format!("room:{topic}"))).collect();
        match form.1 {
            Transport::WebSocket => {
                let mut bytes = Vec::new();
                joins.iter().for_each(|join| write_masked(&mut bytes, 0x1, true, join.as_bytes()));
                server.send_bytes(client, &bytes);
            }
            // It polls only when all is said.
            Transport::LongPoll => joins.iter().for_each(|join| server.send_text(client, join)),
        }
        let received = server.received(client);
        assert_eq!(
            received.iter().filter(|message| message.event == "phx_reply").count(),
            TOPICS,
            "{form:?}"
        );
        assert!(received.len() > TOPICS, "{form:?}: nothing was kept for {TOPICS} topics");
        assert_eq!(server.closed(client), None, "{form:?}");
    }
}

#[test]
fn who_may_not_join_gets_nothing() {
    for form in FORMS {
        let (mut server, board) = restricted(&[]);
        keep(&mut server, &board, "user:ada", "hers");
        let (ada, bob) =
            (doorman::connect(&mut server, form, "ada"), doorman::connect(&mut server, form, "bob"));
        assert_eq!(server.join(bob, "user:ada", json!({}))["status"], "error");
        assert_eq!(server.received(bob), []);
        assert_eq!(server.join(ada, "user:ada", json!({}))["status"], "ok");
        assert_eq!(ids(&mut server, ada), ["hers"]);
    }
}

/// Nothing in the client listens before it has asked, and a client that asks would get them twice.
#[test]
fn a_socket_that_joins_by_itself_gets_them_when_its_client_asks() {
    for form in FORMS {
        let (mut server, board) = restricted(&["user:{sub}"]);
        keep(&mut server, &board, "user:ada", "earlier");
        let ada = doorman::connect(&mut server, form, "ada");
        assert_eq!(server.received(ada), [], "{form:?}: the client has not asked");
        keep(&mut server, &board, "user:ada", "live");
        assert_eq!(ids(&mut server, ada), ["live"], "{form:?}: it is joined all the same");
        assert_eq!(server.join(ada, "user:ada", json!({}))["status"], "ok");
        assert_eq!(ids(&mut server, ada), ["earlier", "live"], "{form:?}");
    }
}

/// A server whose users have topics of their own, which their sockets may join by themselves.
fn restricted(auto_join: &[&str]) -> (TestServer, Arc<Board>) {
    let board = Arc::new(Board::new());
    let pattern = TopicPattern::parse("user:{sub}").unwrap();
    let rights = Rights { join: Who::Owner, push: Vec::new() };
    let rule = Rule { pattern: pattern.clone(), rights, payload_bytes_max: None, pushes_per_minute: None };
    let channel = Restricted::new(rule).with_board(Arc::clone(&board));
    let auto_join = auto_join.iter().map(|topic| TopicPattern::parse(topic).unwrap()).collect();
    let doorman = Arc::<doorman::Doorman>::default();
    let admission = Some(Admission { auto_join, ..Admission::new(doorman) });
    let config = Config { admission, ..Config::new(Router::new().channel(pattern, channel)) };
    (TestServer::with_config(&config, 1), board)
}

fn connect(server: &mut TestServer, (serializer, transport): (Serializer, Transport)) -> ClientId {
    match transport {
        Transport::WebSocket => server.connect_with(serializer),
        Transport::LongPoll => server.connect_long_poll(serializer),
    }
}

fn join_message(serializer: Serializer, topic: &str) -> String {
    match serializer {
        Serializer::V1 => {
            json!({"topic": topic, "event": "phx_join", "payload": {}, "ref": topic}).to_string()
        }
        Serializer::V2 => json!([topic, topic, topic, "phx_join", {}]).to_string(),
    }
}
