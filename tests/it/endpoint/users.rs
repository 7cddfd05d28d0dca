//! Sockets with users behind them: rights, the time of tokens, and how users are put off the line.

use std::sync::Arc;
use std::time::Duration;

use hailer::auth::deny::Denial;
use hailer::channel::TopicPattern;
use hailer::endpoint::{Admission, Config};
use hailer::phoenix::Serializer;
use hailer::testing::{ClientId, TestServer};
use serde_json::{Value, json};

use super::dialogue::{FORMS, Transport};
use super::doorman::{Doorman, config, connect, key_of, server, try_connect};

const LOBBY: &str = "room:lobby";
const OK: &str = "ok";

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A token of ada's that lives so many seconds from the beginning of the server.
fn token_for(server: &TestServer, seconds: u64) -> String {
    format!("ada,exp={}", server.unix_time() + seconds)
}

/// Joins a topic, as a user with this token.
#[track_caller]
fn join(server: &mut TestServer, form: (Serializer, Transport), token: &str, topic: &str) -> ClientId {
    let client = connect(server, form, token);
    assert_eq!(server.join(client, topic, json!({}))["status"], OK, "{token} {topic}");
    client
}

/// Whether a client is still there: its heartbeat is answered.
fn lives(server: &mut TestServer, client: ClientId) -> bool {
    if server.closed(client).is_some() {
        return false;
    }
    let asked = server.push(client, "phoenix", "heartbeat", json!({}));
    server.take_reply(client, &asked).is_some()
}

/// Lets time pass as it does for a client that sends heartbeats.
fn pass(server: &mut TestServer, clients: &[ClientId], mut time: Duration) {
    while !time.is_zero() {
        let step = time.min(seconds(10));
        server.advance(step);
        time -= step;
        for client in clients {
            if server.closed(*client).is_none() {
                server.push(*client, "phoenix", "heartbeat", json!({}));
            }
        }
    }
}

/// What a join, and then a push of `new_msg`, is answered by the rules.
#[track_caller]
fn check_rights(token: &str, topic: &str, joined: Result<(), &str>, pushed: Result<(), &str>) {
    for form in FORMS {
        let mut server = server();
        let client = connect(&mut server, form, token);
        let listener = connect(&mut server, form, "bob");
        server.join(listener, topic, json!({}));
        drop(server.received(listener));
        let reply = server.join(client, topic, json!({}));
        let expected = match joined {
            Ok(()) => json!({"status": "ok", "response": {}}),
            Err(reason) => json!({"status": "error", "response": {"reason": reason}}),
        };
        assert_eq!(reply, expected, "{token} joins {topic} {form:?}");
        let asked = server.push(client, topic, "new_msg", json!({"body": "hi"}));
        let answer = server.take_reply(client, &asked).map(|answer| answer["response"]["reason"].clone());
        assert_eq!(answer, pushed.err().map(Value::from), "{token} pushes to {topic} {form:?}");
        if pushed.is_err() {
            assert_eq!(server.received_event(listener, "new_msg"), Vec::<Value>::new());
        } else {
            assert_eq!(server.received_event(client, "new_msg"), [json!({"body": "hi"})]);
        }
    }
}

#[test]
fn rights_say_who_joins_and_who_writes() {
    let (unauthorized, unmatched) = (Err("unauthorized"), Err("unmatched topic"));
    check_rights("ada", LOBBY, Ok(()), unauthorized);
    check_rights("ada,staff", LOBBY, Ok(()), Ok(()));
    check_rights("nobody,nobody", LOBBY, unauthorized, unmatched);
    check_rights("ada", "user:ada", Ok(()), unauthorized);
    check_rights("ada,staff", "user:ada", Ok(()), unauthorized);
    // What is somebody else's is answered as what there is not.
    for topic in ["user:bob", "user:Ada", "user:", "user:ada ", "room:other", "nowhere", "room:*", "*"] {
        check_rights("ada,staff", topic, unauthorized, unmatched);
    }
}

#[test]
fn a_topic_that_is_not_ones_own_is_answered_alike_whether_it_exists_or_not() {
    for form in FORMS {
        let mut server = server();
        join(&mut server, form, "bob", "user:bob");
        let client = connect(&mut server, form, "ada");
        let mut answers = Vec::new();
        for topic in ["user:bob", "user:eve", "other:bob"] {
            server.send(client, &json!("9"), &json!("9"), topic, "phx_join", &json!({}));
            let answer = server.received(client).remove(0);
            answers.push((answer.join_ref, answer.message_ref, answer.event, answer.payload));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
}

#[test]
fn a_rule_bounds_what_those_who_may_write_write() {
    let mut server = server();
    let client = join(&mut server, FORMS[1], "ada,staff", LOBBY);
    let answer = |server: &mut TestServer, body: &str| {
        let asked = server.push(client, LOBBY, "new_msg", json!({"body": body}));
        server.take_reply(client, &asked).map(|answer| answer["response"]["reason"].clone())
    };
    let too_large = json!("payload too large (payload_bytes_max)");
    assert_eq!(answer(&mut server, &"x".repeat(64)), Some(too_large));
    for _ in 0..3 {
        assert_eq!(answer(&mut server, "hi"), None);
    }
    let too_many = Some(json!("too many messages (pushes_per_minute)"));
    assert_eq!(answer(&mut server, "hi"), too_many);
    // Neither joining again nor another device gives more.
    server.leave(client, LOBBY);
    server.join(client, LOBBY, json!({}));
    assert_eq!(answer(&mut server, "hi"), too_many);
    let other = join(&mut server, FORMS[1], "ada,staff", LOBBY);
    let asked = server.push(other, LOBBY, "new_msg", json!({"body": "hi"}));
    assert!(server.take_reply(other, &asked).is_some(), "the same user on another device");
    let colleague = join(&mut server, FORMS[1], "eve,staff", LOBBY);
    let asked = server.push(colleague, LOBBY, "new_msg", json!({"body": "hi"}));
    assert_eq!(server.take_reply(colleague, &asked), None, "another user");
    pass(&mut server, &[client], seconds(60));
    assert_eq!(answer(&mut server, "hi"), None);
}

#[test]
fn a_token_that_runs_out_is_warned_of_and_closes_after_its_grace() {
    for form in FORMS {
        let mut server = server();
        let token = token_for(&server, 100);
        let client = join(&mut server, form, &token, LOBBY);
        pass(&mut server, &[client], seconds(38));
        assert_eq!(server.received_event(client, "token_expiring"), Vec::<Value>::new());
        pass(&mut server, &[client], seconds(4));
        let warnings = server.received_event(client, "token_expiring");
        assert_eq!(warnings.len(), 1, "{form:?}");
        assert!((58..=60).contains(&warnings[0]["expires_in"].as_u64().unwrap()), "{warnings:?}");
        // Whoever joins later is told as well.
        server.join(client, "user:ada", json!({}));
        assert_eq!(server.received_event(client, "token_expiring").len(), 1);
        // The token has run out, and its grace has not.
        pass(&mut server, &[client], seconds(70));
        server.broadcast(LOBBY, "new_msg", json!({"body": "still"})).unwrap();
        assert_eq!(server.received_event(client, "new_msg"), [json!({"body": "still"})]);
        server.advance(seconds(14));
        let closed = server.closed(client).expect("it is closed");
        if form.1 == Transport::WebSocket {
            assert_eq!(
                (closed.code, &*closed.reason),
                (Some(4001), "the token has run out: come back with a fresh one")
            );
        }
        assert_eq!((server.stats().token_warnings, server.stats().closed_token_expired), (1, 1));
        assert_eq!(server.stats().topics, 0, "it has left its topics");
    }
}

#[test]
fn no_message_leaves_after_the_decision_that_a_token_has_run_out() {
    for form in FORMS {
        let mut server = server();
        let token = token_for(&server, 100);
        let client = join(&mut server, form, &token, LOBBY);
        let later = server.unix_time() + 125;
        // The message is on its way, in the same turn in which the clock says that the time is over.
        server.publish(LOBBY, "new_msg", json!({"body": "late"})).unwrap();
        if form.1 == Transport::LongPoll {
            // No poll waits.
            server.hang_up(client);
        } else {
            server.set_window(client, Some(0));
        }
        server.set_unix_time(later);
        server.advance(seconds(2));
        if form.1 == Transport::WebSocket {
            server.set_window(client, None);
            assert_eq!(server.closed(client).and_then(|closed| closed.code), Some(4001));
        }
        assert_eq!(server.received_event(client, "new_msg"), Vec::<Value>::new(), "{form:?}");
        assert_eq!(server.stats().closed_token_expired, 1);
    }
}

#[test]
fn a_fresh_token_renews_a_live_socket() {
    for form in FORMS {
        let mut server = server();
        let (short, long) = (token_for(&server, 100), token_for(&server, 1000));
        let client = join(&mut server, form, &short, LOBBY);
        pass(&mut server, &[client], seconds(50));
        assert_eq!(server.received_event(client, "token_expiring").len(), 1);
        let asked = server.push(client, LOBBY, "access_token", json!({"access_token": long}));
        let answer = server.take_reply(client, &asked).unwrap();
        assert_eq!(answer, json!({"status": "ok", "response": {"expires_in": 950}}), "{form:?}");
        pass(&mut server, &[client], seconds(850));
        assert!(lives(&mut server, client), "{form:?}");
        assert_eq!(server.received_event(client, "token_expiring"), Vec::<Value>::new());
        pass(&mut server, &[client], seconds(60));
        assert_eq!(server.received_event(client, "token_expiring").len(), 1);
        pass(&mut server, &[client], seconds(70));
        assert!(server.closed(client).is_some());
        assert_eq!((server.stats().renewals, server.stats().closed_token_expired), (1, 1));
    }
}

#[test]
fn a_fresh_token_may_run_out_earlier_than_the_old_one() {
    let mut server = server();
    let (long, short) = (token_for(&server, 1000), token_for(&server, 100));
    let client = join(&mut server, FORMS[1], &long, LOBBY);
    server.push(client, LOBBY, "access_token", json!({"access_token": short}));
    pass(&mut server, &[client], seconds(130));
    assert_eq!(server.closed(client).and_then(|closed| closed.code), Some(4001));
}

#[test]
fn another_users_token_closes_the_socket() {
    for form in FORMS {
        let mut server = server();
        let client = join(&mut server, form, "ada", LOBBY);
        server.push(client, LOBBY, "access_token", json!({"access_token": "bob"}));
        let closed = server.closed(client).expect("it is closed");
        assert_eq!(closed.code, Some(if form.1 == Transport::WebSocket { 4003 } else { 500 }));
        assert_eq!((server.stats().renewals_refused, server.stats().closed_denied), (1, 1));
    }
}

#[test]
fn a_bad_fresh_token_is_refused_and_the_socket_goes_on() {
    for form in FORMS {
        let mut server = server();
        let client = join(&mut server, form, "ada", LOBBY);
        let refused = |server: &mut TestServer, payload: Value| {
            let asked = server.push(client, LOBBY, "access_token", payload);
            let answer = server.take_reply(client, &asked).unwrap();
            assert_eq!(answer["status"], "error");
            answer["response"]["reason"].as_str().unwrap().to_owned()
        };
        assert_eq!(refused(&mut server, json!({"access_token": "ada,exp=1"})), "token expired");
        assert_eq!(refused(&mut server, json!({"access_token": 7})), "give {\"access_token\": token}");
        assert_eq!(refused(&mut server, json!("ada")), "give {\"access_token\": token}");
        assert!(lives(&mut server, client));
        // Where it is the user that is no longer welcome, the socket ends.
        server.push(client, LOBBY, "access_token", json!({"access_token": "ada,disabled"}));
        assert!(server.closed(client).is_some());
    }
}

#[test]
fn one_fresh_token_is_looked_at_at_a_time() {
    let doorman = Arc::new(Doorman::default());
    let mut server = TestServer::with_config(&config(&doorman), 1);
    let client = join(&mut server, FORMS[1], "ada", LOBBY);
    let first = server.push(client, LOBBY, "access_token", json!({"access_token": "ada,kept"}));
    let second = server.push(client, LOBBY, "access_token", json!({"access_token": "ada"}));
    let answer = server.take_reply(client, &second).unwrap();
    assert_eq!(answer["response"]["reason"], "a token is being looked at already");
    doorman.kept.lock().unwrap().clear();
    server.settle();
    let answer = server.take_reply(client, &first).unwrap();
    assert_eq!(answer["response"]["reason"], "accounts unavailable");
    assert!(doorman.asked.lock().unwrap()[1].renewal);
}

#[test]
fn a_renewal_that_ends_after_its_socket_changes_nothing() {
    let mut server = server();
    let client = join(&mut server, FORMS[1], "ada", LOBBY);
    server.hold_connects(true);
    server.push(client, LOBBY, "access_token", json!({"access_token": "ada"}));
    server.hang_up(client);
    server.hold_connects(false);
    assert_eq!((server.stats().connections, server.stats().renewals), (0, 0));
}

#[test]
fn a_fresh_token_that_allows_less_ends_channels() {
    let staff_only = Config { router: Arc::new(super::doorman::staff_router()), ..config(&Arc::default()) };
    for form in FORMS {
        let mut server = TestServer::with_config(&staff_only, 1);
        let client = connect(&mut server, form, "ada,staff");
        assert_eq!(server.join(client, "room:staff", json!({}))["status"], OK);
        server.push(client, "room:staff", "access_token", json!({"access_token": "ada"}));
        let events: Vec<_> = server.received(client).into_iter().map(|message| message.event).collect();
        assert_eq!(events, ["phx_reply", "phx_close"], "{form:?}");
        assert_eq!(server.stats().topics, 0);
    }
}

#[test]
fn the_wall_clock_may_jump() {
    let mut server = server();
    let token = token_for(&server, 1000);
    let client = join(&mut server, FORMS[1], &token, LOBBY);
    let beginning = server.unix_time();
    // Forward into the last minute: a warning. Back again: no close, however long it takes.
    server.set_unix_time(beginning + 990);
    server.advance(seconds(2));
    assert_eq!(server.received_event(client, "token_expiring").len(), 1);
    server.set_unix_time(beginning - 10_000);
    pass(&mut server, &[client], seconds(100));
    assert!(lives(&mut server, client));
    // Beyond the end: closed within a second.
    server.set_unix_time(beginning + 2000);
    server.advance(seconds(2));
    assert_eq!(server.closed(client).and_then(|closed| closed.code), Some(4001));
}

#[test]
fn tokens_that_run_out_together_are_all_closed() {
    let mut server = server();
    let token = token_for(&server, 100);
    let clients: Vec<_> = (0..2500).map(|_| connect(&mut server, FORMS[1], &token)).collect();
    server.set_unix_time(server.unix_time() + 200);
    server.advance(seconds(2));
    assert_eq!(server.stats().closed_token_expired, 2500);
    assert!(clients.iter().all(|client| server.closed(*client).is_some()));
}

#[test]
fn disconnect_closes_all_sockets_of_one_user_on_every_shard_and_transport() {
    for payload in [json!({}), json!({"reconnect": true}), json!(null), json!("x")] {
        let mut server = TestServer::with_config(&config(&Arc::default()), 2);
        let of = |server: &mut TestServer, user: &str| -> Vec<ClientId> {
            let forms = FORMS.iter().chain(&FORMS);
            forms.map(|form| join(server, *form, user, LOBBY)).collect()
        };
        let (ada, bob, ada2) = (of(&mut server, "ada"), of(&mut server, "bob"), of(&mut server, "ada2"));
        server.broadcast("user_socket:ada", "disconnect", payload).unwrap();
        server.advance(seconds(1));
        for (client, form) in ada.iter().zip(FORMS.iter().chain(&FORMS)) {
            let closed = server.closed(*client).expect("ada is off the line");
            match form.1 {
                Transport::WebSocket => assert_eq!((closed.code, &*closed.reason), (Some(1001), "")),
                // After which every phoenix.js joins again, and no other poll is taken for somebody without a token.
                Transport::LongPoll => assert_eq!(closed.code, Some(500)),
            }
            assert_eq!(server.received(*client).len(), 0, "no phx_close, no phx_error");
        }
        for client in bob.into_iter().chain(ada2) {
            assert!(lives(&mut server, client));
        }
        assert_eq!(server.stats().closed_disconnected, 8);
        assert_eq!(server.stats().connects_bad_token, 0);
    }
}

#[test]
fn disconnect_may_tell_clients_to_stay_away() {
    let mut server = server();
    let client = join(&mut server, FORMS[1], "ada", LOBBY);
    server.broadcast("user_socket:ada", "disconnect", json!({"reconnect": false})).unwrap();
    assert_eq!(server.closed(client).and_then(|closed| closed.code), Some(1000));
}

#[test]
fn what_was_said_before_a_disconnect_arrives_before_it() {
    for form in FORMS {
        let mut server = server();
        let client = join(&mut server, form, "ada", "user:ada");
        server.publish("user:ada", "new_msg", json!({"body": "you are logged out"})).unwrap();
        server.publish("user_socket:ada", "disconnect", json!({})).unwrap();
        server.publish("user:ada", "new_msg", json!({"body": "too late"})).unwrap();
        server.settle();
        assert_eq!(
            server.received_event(client, "new_msg"),
            [json!({"body": "you are logged out"})],
            "{form:?}"
        );
        server.advance(seconds(1));
        assert!(server.closed(client).is_some(), "{form:?}");
    }
}

#[test]
fn a_session_that_polls_after_a_disconnect_still_gets_what_was_said_before() {
    for (serializer, _) in FORMS.into_iter().skip(2) {
        let form = (serializer, Transport::LongPoll);
        let mut server = server();
        let client = join(&mut server, form, "ada", "user:ada");
        // No poll waits, since the client's connection is gone.
        server.hang_up(client);
        server.publish("user:ada", "new_msg", json!({"body": "you are logged out"})).unwrap();
        server.broadcast("user_socket:ada", "disconnect", json!({})).unwrap();
        assert_eq!(server.push(client, "user:ada", "new_msg", json!({"body": "x"})), json!("2"));
        assert_eq!(
            server.closed(client).and_then(|closed| closed.code),
            Some(410),
            "a post finds no session"
        );
        server.poll(client);
        assert_eq!(server.received_event(client, "new_msg"), [json!({"body": "you are logged out"})]);
        server.advance(seconds(1));
        assert_eq!(server.stats().sessions, 0);
    }
}

#[test]
fn other_events_and_other_topics_disconnect_nobody() {
    let mut server = server();
    let client = join(&mut server, FORMS[1], "ada", LOBBY);
    for (topic, event) in [
        ("user_socket:ada", "Disconnect"),
        ("user_socket:ada", "new_msg"),
        ("user_socket:Ada", "disconnect"),
        ("user_socket:", "disconnect"),
        ("ada", "disconnect"),
        (LOBBY, "disconnect"),
    ] {
        server.broadcast(topic, event, json!({})).unwrap();
        assert!(lives(&mut server, client), "{topic} {event}");
    }
    assert_eq!(
        server.received_event(client, "disconnect").len(),
        1,
        "on a channel it is a message like others"
    );
}

#[test]
fn a_disconnected_user_may_come_back() {
    for form in FORMS {
        let mut server = server();
        for _ in 0..3 {
            let client = join(&mut server, form, "ada", LOBBY);
            server.broadcast("user_socket:ada", "disconnect", json!({})).unwrap();
            server.advance(seconds(1));
            assert!(server.closed(client).is_some());
        }
        assert!(try_connect(&mut server, form, "ada").is_ok());
    }
}

/// Who is left of ada (issued at 7), ada with another token (issued at 9), and bob, after a denial.
#[track_caller]
fn check_denied(denial: &Denial, left: [bool; 3]) {
    for form in FORMS {
        let mut server = server();
        let clients = ["ada,iat=7,jti=one", "ada,iat=9,jti=two", "bob,iat=7,jti=one2"]
            .map(|token| join(&mut server, form, token, LOBBY));
        server.deny(std::slice::from_ref(denial));
        assert_eq!(clients.map(|client| lives(&mut server, client)), left, "{denial:?} {form:?}");
        for (client, _) in clients.into_iter().zip(left).filter(|(_, left)| !left) {
            let code = server.closed(client).and_then(|closed| closed.code);
            assert!(form.1 == Transport::LongPoll || code == Some(4003), "{code:?}");
        }
    }
}

#[test]
fn denied_tokens_lose_their_live_sockets() {
    let denial = |subject: Option<&str>, issued_before, token_id: Option<&str>| Denial {
        subject: subject.map(str::to_owned),
        issued_before,
        token_id: token_id.map(str::to_owned),
        until: u64::MAX,
    };
    check_denied(&denial(Some("ada"), None, None), [false, false, true]);
    check_denied(&denial(Some("ada"), Some(8), None), [false, true, true]);
    check_denied(&denial(None, None, Some("one")), [false, true, true]);
    check_denied(&denial(Some("bob"), None, Some("one")), [true, true, true]);
    check_denied(&denial(Some("eve"), None, None), [true, true, true]);
    check_denied(&denial(None, Some(100), None), [true, true, true]);
}

#[test]
fn a_fraction_in_iat_neither_saves_a_live_socket_nor_ends_it() {
    let denial = Denial { issued_before: Some(8), ..Denial::of_user("ada", 0, u64::MAX) };
    for (issued, stays) in [
        ("7.999999", false),
        ("0.8e1", true),
        ("8.000001", true),
        ("8.5", true),
        ("1.9e9", true),
        ("-8.5", false),
    ] {
        let mut server = server();
        let client = join(&mut server, FORMS[1], &format!("ada,iat={issued}"), LOBBY);
        server.deny(std::slice::from_ref(&denial));
        assert_eq!(lives(&mut server, client), stays, "issued at {issued}");
    }
}

#[test]
fn sockets_of_a_key_that_is_removed_end_and_those_of_others_go_on() {
    for form in FORMS {
        let mut server = server();
        let clients =
            ["ada,key=old", "ada,key=new", "bob"].map(|token| join(&mut server, form, token, LOBBY));
        server.retain_keys(&[key_of("old"), key_of("new")]);
        assert_eq!(clients.map(|client| lives(&mut server, client)), [true; 3]);
        server.retain_keys(&[key_of("new")]);
        assert_eq!(clients.map(|client| lives(&mut server, client)), [false, true, true], "{form:?}");
        let code = server.closed(clients[0]).and_then(|closed| closed.code);
        assert!(form.1 == Transport::LongPoll || code == Some(4001), "{code:?}");
        assert_eq!(server.stats().closed_key_removed, 1);
    }
}

#[test]
fn a_fresh_token_takes_its_own_key_along() {
    let mut server = server();
    let client = join(&mut server, FORMS[1], "ada,key=old", LOBBY);
    server.push(client, LOBBY, "access_token", json!({"access_token": "ada,key=new"}));
    server.retain_keys(&[key_of("new")]);
    assert!(lives(&mut server, client));
}

/// A server whose sockets join these topics by themselves.
fn joining(topics: &[&str]) -> TestServer {
    let config = config(&Arc::default());
    let auto_join = topics.iter().map(|topic| TopicPattern::parse(topic).unwrap()).collect();
    let admission = config.admission.clone().map(|admission| Admission { auto_join, ..admission });
    TestServer::with_config(&Config { admission, ..config }, 1)
}

#[test]
fn a_socket_joins_its_own_topic_by_itself() {
    for form in FORMS {
        let mut server = joining(&["user:{sub}", LOBBY, "nowhere"]);
        let (ada, bob) = (connect(&mut server, form, "ada"), connect(&mut server, form, "bob"));
        assert_eq!(server.received(ada).len(), 0, "nobody tells the client so");
        server.broadcast("user:ada", "new_msg", json!({"body": "yours"})).unwrap();
        server.broadcast(LOBBY, "new_msg", json!({"body": "all"})).unwrap();
        assert_eq!(server.received_event(ada, "new_msg"), [json!({"body": "yours"}), json!({"body": "all"})]);
        assert_eq!(server.received_event(bob, "new_msg"), [json!({"body": "all"})]);
        assert_eq!((server.stats().joins, server.stats().join_refused), (4, 2), "nowhere is nobody's");
    }
}

#[test]
fn a_client_may_join_what_its_socket_has_joined_by_itself() {
    for form in FORMS {
        let mut server = joining(&["user:{sub}"]);
        let ada = connect(&mut server, form, "ada");
        assert_eq!(server.join(ada, "user:ada", json!({}))["status"], OK);
        assert_eq!(server.received(ada).len(), 0, "phoenix.js would take a phx_close for its own");
        server.broadcast("user:ada", "new_msg", json!({"body": "once"})).unwrap();
        assert_eq!(server.received_event(ada, "new_msg").len(), 1, "{form:?}");
        server.leave(ada, "user:ada");
        server.broadcast("user:ada", "new_msg", json!({"body": "never"})).unwrap();
        assert_eq!(server.received_event(ada, "new_msg").len(), 0);
    }
}
