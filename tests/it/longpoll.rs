//! Sessions on long-poll, in memory and on virtual time.

use std::sync::Arc;
use std::time::Duration;

use hailer::channel::Router;
use hailer::endpoint::Config;
use hailer::limits::Limits;
use hailer::notification::Notification;
use hailer::phoenix::Serializer;
use hailer::testing::{ClientId, TestServer};
use serde_json::{Value, json};

const BOTH: [Serializer; 2] = [Serializer::V1, Serializer::V2];
const LOBBY: &str = "room:lobby";

fn server_with(shards: u16, limits: &[(&str, &str)]) -> TestServer {
    let mut bounds = Limits::default();
    limits.iter().for_each(|(name, value)| bounds.set(name, value).unwrap());
    let router = Router::new().channel("room:*".parse().unwrap(), Notification::default());
    TestServer::with_config(&Config { limits: Arc::new(bounds), ..Config::new(router) }, shards)
}

fn bodies(server: &mut TestServer, client: ClientId) -> Vec<Value> {
    let payloads = server.received_event(client, "new_msg");
    payloads.into_iter().map(|mut payload| payload["body"].take()).collect()
}

fn joined(server: &mut TestServer, serializer: Serializer) -> ClientId {
    let client = server.connect_long_poll(serializer);
    assert_eq!(server.join(client, LOBBY, json!({})), json!({"status": "ok", "response": {}}));
    client
}

fn publish(server: &mut TestServer, body: impl Into<Value>) {
    server.broadcast(LOBBY, "new_msg", json!({"body": body.into()})).unwrap();
}

#[test]
fn a_session_joins_pushes_and_hears_on_any_shard() {
    for serializer in BOTH {
        for shards in [1, 4] {
            let mut server = server_with(shards, &[]);
            let clients: Vec<_> = (0..8).map(|_| joined(&mut server, serializer)).collect();
            server.push(clients[3], LOBBY, "new_msg", json!({"body": "a \"b\" \\ ü\n", "other": 1}));
            for client in &clients {
                assert_eq!(bodies(&mut server, *client), ["a \"b\" \\ ü\n"]);
            }
            assert_eq!(server.stats().handed_over > 0, shards > 1, "{:?}", server.stats());
            let reply = server.leave(clients[0], LOBBY);
            assert_eq!(reply, json!({"status": "ok", "response": {}}));
            publish(&mut server, 2);
            assert_eq!(bodies(&mut server, clients[0]), [] as [Value; 0]);
            assert_eq!(bodies(&mut server, clients[1]), [2]);
        }
    }
}

#[test]
fn both_transports_share_a_room() {
    let mut server = server_with(2, &[]);
    let poller = joined(&mut server, Serializer::V2);
    let socket = server.connect();
    server.join(socket, LOBBY, json!({}));
    for number in 0..20 {
        server.push(if number % 2 == 0 { poller } else { socket }, LOBBY, "new_msg", json!({"body": number}));
    }
    let expected: Vec<_> = (0..20).map(Value::from).collect();
    assert_eq!(bodies(&mut server, poller), expected);
    assert_eq!(bodies(&mut server, socket), expected);
}

#[test]
fn what_came_between_two_polls_is_one_answer_in_order() {
    let mut server = server_with(1, &[]);
    let client = joined(&mut server, Serializer::V2);
    for number in 0..50 {
        server.publish(LOBBY, "new_msg", json!({"body": number})).unwrap();
    }
    let before = server.writes(client);
    server.settle();
    assert_eq!(server.writes(client), before + 1);
    assert_eq!(bodies(&mut server, client), (0..50).map(Value::from).collect::<Vec<_>>());
}

/// An answer cut at every byte is carried again by the next poll, and nothing else is.
#[test]
fn an_answer_whose_connection_broke_is_carried_again() {
    for cut_at in (0..600).step_by(7) {
        let mut server = server_with(1, &[]);
        let client = joined(&mut server, Serializer::V2);
        publish(&mut server, 0);
        assert_eq!(bodies(&mut server, client), [0]);
        server.set_window(client, Some(cut_at));
        publish(&mut server, 1);
        publish(&mut server, 2);
        if !bodies(&mut server, client).is_empty() {
            // The window was wide enough for the whole answer.
            assert!(cut_at > 200, "cut at {cut_at}");
            continue;
        }
        server.reset(client);
        server.take_bytes(client);
        publish(&mut server, 3);
        server.poll(client);
        assert_eq!(bodies(&mut server, client), [1, 2, 3], "cut at {cut_at}");
        assert_eq!(server.stats().answers_repeated, 1);
        publish(&mut server, 4);
        assert_eq!(bodies(&mut server, client), [4]);
    }
}

#[test]
fn a_reset_after_the_answer_was_written_repeats_it() {
    let mut server = server_with(1, &[]);
    let client = joined(&mut server, Serializer::V2);
    server.received(client);
    publish(&mut server, 1);
    // The answer lies in the client's kernel, unread, when the client dies.
    server.take_bytes(client);
    server.reset(client);
    server.poll(client);
    assert_eq!(bodies(&mut server, client), [1]);
}

/// The client's end crosses the answer on its way; the reset that it causes comes after the end.
#[test]
fn an_answer_that_found_the_client_gone_is_carried_again() {
    let mut server = server_with(1, &[]);
    let client = joined(&mut server, Serializer::V2);
    server.received(client);
    publish(&mut server, 1);
    server.take_bytes(client);
    server.hang_up(client);
    server.reset(client);
    server.poll(client);
    assert_eq!(bodies(&mut server, client), [1]);
    assert_eq!(server.stats().answers_repeated, 1);
}

/// A client with a connection for each request ends it after each answer; none of them stays.
#[test]
fn connections_that_have_carried_an_answer_do_not_pile_up() {
    let mut server = server_with(1, &[]);
    let client = joined(&mut server, Serializer::V2);
    for number in 0..50 {
        server.received(client);
        publish(&mut server, number);
        server.hang_up(client);
        server.poll_anew(client);
        assert_eq!(bodies(&mut server, client), [number]);
    }
    assert!(server.stats().connections <= 4, "{}", server.stats().connections);
    assert_eq!(server.stats().answers_repeated, 0);
}

/// The event loop takes so many events at a time, and connections that are handed over overtake them.
#[test]
fn a_cut_answer_is_repeated_to_a_poll_that_is_read_before_the_reset() {
    for shards in [1, 2] {
        let mut server = server_with(shards, &[]);
        let client = joined(&mut server, Serializer::V2);
        server.received(client);
        publish(&mut server, 1);
        server.take_bytes(client);
        server.cut(client);
        publish(&mut server, 2);
        server.poll(client);
        assert_eq!(bodies(&mut server, client), [1, 2], "{shards} shards");
        assert_eq!(server.stats().answers_repeated, 1);
        publish(&mut server, 3);
        assert_eq!(bodies(&mut server, client), [3]);
    }
}

#[test]
fn an_answer_that_was_read_is_never_repeated() {
    let mut server = server_with(1, &[]);
    let client = joined(&mut server, Serializer::V2);
    server.received(client);
    publish(&mut server, 1);
    // A clean end says that the client has read everything; the next poll comes on a new connection.
    assert_eq!(bodies(&mut server, client), [1]);
    server.hang_up(client);
    publish(&mut server, 2);
    server.poll(client);
    assert_eq!(bodies(&mut server, client), [2]);
    assert_eq!(server.stats().answers_repeated, 0);
}

#[test]
fn a_message_that_finds_the_poll_gone_waits_for_the_next() {
    let mut server = server_with(1, &[]);
    let client = joined(&mut server, Serializer::V2);
    server.received(client);
    server.hang_up(client);
    publish(&mut server, 1);
    publish(&mut server, 2);
    server.poll(client);
    assert_eq!(bodies(&mut server, client), [1, 2]);
    server.cut(client);
    publish(&mut server, 3);
    server.poll(client);
    assert_eq!(bodies(&mut server, client), [3]);
}

#[test]
fn a_window_without_messages_is_answered_204_and_the_session_lives() {
    let mut server = server_with(1, &[("poll_window", "2s")]);
    let client = joined(&mut server, Serializer::V2);
    for _ in 0..20 {
        server.advance(Duration::from_secs(1));
        assert!(server.received(client).is_empty());
    }
    assert_eq!(server.stats().sessions, 1);
    publish(&mut server, 1);
    assert_eq!(bodies(&mut server, client), [1]);
}

#[test]
fn a_session_without_polls_ends() {
    let mut server = server_with(1, &[("poll_window", "2s")]);
    let client = joined(&mut server, Serializer::V2);
    server.received(client);
    server.hang_up(client);
    server.advance(Duration::from_millis(2900));
    assert_eq!(server.stats().sessions, 1);
    server.advance(Duration::from_millis(700));
    let stats = server.stats();
    assert_eq!((stats.sessions, stats.sessions_expired, stats.topics), (0, 1, 0));
    server.poll(client);
    server.received(client);
    assert_eq!(server.closed(client).and_then(|closed| closed.code), Some(410));
}

#[test]
fn the_newer_of_two_polls_wins_and_the_older_is_answered_at_once() {
    let mut server = server_with(1, &[]);
    let client = joined(&mut server, Serializer::V2);
    server.received(client);
    let token = server.token(client).unwrap().to_owned();
    let other = server.open();
    let request = format!("GET /socket/longpoll?vsn=2.0.0&token={token} HTTP/1.1\r\nHost: x\r\n\r\n");
    server.send_bytes(other, request.as_bytes());
    let older = String::from_utf8(server.take_bytes(client)).unwrap();
    assert!(older.contains(r#"{"status":204,"#), "{older}");
    publish(&mut server, 1);
    let newer = String::from_utf8(server.take_bytes(other)).unwrap();
    assert!(newer.contains(r#"new_msg"#), "{newer}");
    assert!(server.take_bytes(client).is_empty());
}

#[test]
fn an_undecodable_message_is_refused_and_the_session_lives() {
    for serializer in BOTH {
        let mut server = server_with(1, &[]);
        let (bad, good) = (joined(&mut server, serializer), joined(&mut server, serializer));
        server.send_text(bad, "nonsense");
        // phoenix.js opens another session after such an answer.
        let closed = server.closed(bad).unwrap();
        assert_eq!((closed.code, &*closed.reason), (Some(400), "the message is not valid JSON"));
        publish(&mut server, 1);
        assert_eq!(bodies(&mut server, good), [1]);
        assert_eq!((server.stats().sessions, server.stats().lines_refused), (2, 1));
        assert_eq!(bodies(&mut server, bad), [1], "what is said to it arrives");
    }
}

const JOIN: &str = r#"["1","1","room:lobby","phx_join",{}]"#;
const BEAT: &str = r#"[null,"2","phoenix","heartbeat",{}]"#;
const NDJSON: &str = "application/x-ndjson";

/// Sends the bytes of one POST; status and JSON of the answer, and which refs its session answers then.
fn post(server: &mut TestServer, content_type: &str, body: &[u8]) -> (u16, Value, Vec<Value>) {
    let client = server.connect_long_poll(Serializer::V2);
    server.received(client);
    let token = server.token(client).unwrap().to_owned();
    let other = server.open();
    let head = format!(
        "POST /socket/longpoll?vsn=2.0.0&token={token} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    server.send_bytes(other, &[head.as_bytes(), body].concat());
    let answer = String::from_utf8(server.take_bytes(other)).unwrap();
    let (head, json) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\nconnection: keep-alive"), "{head}");
    // The session lives, whatever was in the body.
    server.send_text(client, r#"[null,"9","phoenix","heartbeat",{}]"#);
    let messages = server.received(client);
    assert_eq!(server.closed(client), None, "{body:?}");
    let refs = messages.into_iter().map(|message| message.message_ref).collect();
    (head[9..12].parse().unwrap(), serde_json::from_str(json).unwrap(), refs)
}

/// Writers of NDJSON end the last line too.
#[test]
fn an_empty_line_in_a_post_is_no_message() {
    for content_type in [
        NDJSON,
        "application/x-ndjson; charset=utf-8",
        "Application/X-NDJSON;charset=UTF-8",
        "application/x-ndjson;",
    ] {
        for body in [
            format!("{JOIN}\n{BEAT}"),
            format!("{JOIN}\n{BEAT}\n"),
            format!("{JOIN}\r\n{BEAT}\r\n"),
            format!("{JOIN}\n\n{BEAT}\n\n"),
            format!("\n{JOIN}\r\n \t\r\n{BEAT}\n \n"),
            format!("  {JOIN}  \n\t{BEAT}\t\r\n"),
        ] {
            let answer = post(&mut server_with(1, &[]), content_type, body.as_bytes());
            assert_eq!(
                answer,
                (200, json!({"status": 200}), vec![json!("1"), json!("2"), json!("9")]),
                "{body:?}"
            );
        }
    }
}

#[test]
fn an_empty_body_is_no_message() {
    for content_type in [NDJSON, "application/x-ndjson; charset=utf-8", "application/json", "text/plain", ""]
    {
        for body in ["", "\n", "\r\n", " \n\t\r\n"] {
            let answer = post(&mut server_with(1, &[]), content_type, body.as_bytes());
            assert_eq!(answer, (200, json!({"status": 200}), vec![json!("9")]), "{content_type} {body:?}");
        }
    }
}

/// A line that is no message costs neither those around it nor the session, and the answer says which line it was.
#[test]
fn a_bad_line_costs_nothing_but_itself() {
    let not_base64 = "expected JSON that begins with [ or {, or a binary message in base64";
    let as_base64 = "read as base64, since it begins with neither [ nor {:";
    for (line, reason) in [
        (&b"%%"[..], not_base64.to_owned()),
        (b"AAE", not_base64.to_owned()),
        (b"\xff", not_base64.to_owned()),
        (b"[\xff]", "the message is not UTF-8".to_owned()),
        (b"[", "the message is not valid JSON".to_owned()),
        (
            b"[1,2]",
            "expected a JSON array of five elements [join_ref, ref, topic, event, payload]".to_owned(),
        ),
        (
            b"null",
            format!(
                "{as_base64} the binary message begins with neither 0, the kind of a push, nor 3, that of a user broadcast"
            ),
        ),
        (b"AAEC", format!("{as_base64} the binary message is shorter than its length bytes say")),
    ] {
        let whole = [JOIN.as_bytes(), b"\n", line, b"\r\n\n", BEAT.as_bytes(), b"\n"].concat();
        let mut server = server_with(1, &[]);
        let (status, answer, refs) = post(&mut server, NDJSON, &whole);
        let said = format!("line 2: {reason}; the other 2 were handled");
        assert_eq!((status, answer), (400, json!({"status": 400, "reason": said})));
        assert_eq!(refs, ["1", "2", "9"], "{reason}");
        assert_eq!(server.stats().lines_refused, 1);
    }
    let several = format!("\n%%\n[\n{BEAT}\n{{}}");
    let (_, answer, refs) = post(&mut server_with(1, &[]), NDJSON, several.as_bytes());
    assert_eq!(
        answer["reason"],
        format!("line 2: {not_base64}; 3 lines were refused; the other one was handled")
    );
    assert_eq!(refs, ["2", "9"]);
    let (_, answer, _) = post(&mut server_with(1, &[]), NDJSON, b"%%");
    assert_eq!(answer["reason"], format!("line 1: {not_base64}"));
    let (status, answer, refs) = post(&mut server_with(1, &[]), "application/json", b"[\xff]");
    assert_eq!((status, &answer["reason"]), (400, &json!("the message is not UTF-8")));
    assert_eq!(refs, ["9"]);
    let limits = [("message_bytes_max", "1024")];
    let long = format!("[\"{}\"]\n{BEAT}", "x".repeat(1024));
    let (_, answer, refs) = post(&mut server_with(1, &limits), NDJSON, long.as_bytes());
    assert_eq!(
        answer["reason"],
        "line 1: the message is too long (limit message_bytes_max); the other one was handled"
    );
    assert_eq!(refs, ["2", "9"]);
}

/// Every prefix of a body is answered, and what is whole in it is handled.
#[test]
fn a_body_that_ends_early_costs_no_session() {
    let body = format!("{JOIN}\r\n{BEAT}\n");
    for end in 0..=body.len() {
        let (status, answer, refs) = post(&mut server_with(1, &[]), NDJSON, &body.as_bytes()[..end]);
        let whole = [JOIN.len(), body.trim_end().len()].iter().filter(|length| **length <= end).count();
        assert_eq!(refs.len(), whole + 1, "{end}: {answer}");
        assert!(status == 200 || status == 400 && answer["reason"].as_str().is_some(), "{end}: {answer}");
    }
}

#[test]
fn a_reader_that_does_not_poll_is_bounded_by_the_log() {
    let mut server = server_with(1, &[("topic_log_bytes_max", "4096")]);
    let (idle, live) = (joined(&mut server, Serializer::V2), joined(&mut server, Serializer::V2));
    server.received(idle);
    server.hang_up(idle);
    let body = "x".repeat(500);
    for number in 0..40 {
        publish(&mut server, format!("{number} {body}"));
        assert_eq!(bodies(&mut server, live).len(), 1);
    }
    assert_eq!(server.stats().closed_slow_reader, 1);
    assert!(server.log_bytes() <= 8192, "{}", server.log_bytes());
    server.poll(idle);
    server.received(idle);
    assert_eq!(server.closed(idle).and_then(|closed| closed.code), Some(410));
}

#[test]
fn a_reader_that_does_not_poll_is_bounded_by_messages() {
    let mut server = server_with(1, &[("topic_log_messages_max", "16")]);
    let client = joined(&mut server, Serializer::V2);
    server.received(client);
    server.hang_up(client);
    (0..16).for_each(|number| publish(&mut server, number));
    assert_eq!(server.stats().closed_slow_reader, 0);
    publish(&mut server, 16);
    assert_eq!((server.stats().closed_slow_reader, server.stats().sessions), (1, 0));
}

#[test]
fn a_drain_answers_polls_so_that_clients_reconnect() {
    let mut server = server_with(2, &[]);
    let client = joined(&mut server, Serializer::V2);
    server.received(client);
    server.drain();
    server.received(client);
    assert_eq!(server.closed(client).and_then(|closed| closed.code), Some(500));
    server.advance(Duration::from_secs(10));
    assert_eq!((server.stats().sessions, server.stats().connections), (0, 0));
}

#[test]
fn sessions_are_capped_by_shard() {
    let mut server = server_with(2, &[("sessions_per_shard_max", "1")]);
    let get = |server: &mut TestServer| {
        let client = server.open();
        server.send_bytes(client, b"GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: x\r\n\r\n");
        String::from_utf8(server.take_bytes(client)).unwrap()
    };
    let answers: Vec<_> = (0..4).map(|_| get(&mut server)).collect();
    let opened: Vec<_> = answers.iter().map(|answer| answer.contains("\"status\":410")).collect();
    assert_eq!(opened, [true, true, false, false], "{answers:#?}");
    assert!(answers[2].contains(r#"{"status":500,"reason":"too many sessions"#), "{}", answers[2]);
    assert_eq!((server.stats().sessions, server.stats().sessions_refused), (2, 2));
}

#[test]
fn sessions_are_capped_by_address() {
    let mut server = server_with(1, &[("sessions_per_address_max", "2")]);
    let (first, _) = (joined(&mut server, Serializer::V2), joined(&mut server, Serializer::V2));
    let third = server.open();
    server.send_bytes(third, b"GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = String::from_utf8(server.take_bytes(third)).unwrap();
    assert!(answer.contains(r#"{"status":500,"reason":"too many sessions"#), "{answer}");
    assert_eq!(server.stats().sessions_refused, 1);
    server.received(first);
    server.hang_up(first);
    server.advance(Duration::from_secs(60));
    let fourth = server.open();
    server.send_bytes(fourth, b"GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(server.take_bytes(fourth).ends_with(b"\"messages\":[]}"), "there is room again");
}
