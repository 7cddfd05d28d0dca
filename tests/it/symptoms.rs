//! What has gone wrong once, or nearly, each named by its symptom.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hailer::broker::Broker;
use hailer::channel::{
    Channel, ChannelError, ChannelHandle, Context, Ended, JoinError, PayloadBuf, Router, SlowReader,
};
use hailer::endpoint::{Config, Endpoint};
use hailer::limits::Limits;
use hailer::notification::Notification;
use hailer::phoenix::Payload;
use hailer::testing::{Received, TestServer, read_frames, write_masked};
use serde_json::json;

/// Records a broadcast and a push, then fails.
struct Failing;

impl Channel for Failing {
    fn join(&self, _: &str, _: Payload<'_>, _: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        Ok(PayloadBuf::empty())
    }

    fn handle_in(&self, _: &str, _: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        cx.broadcast("shout", PayloadBuf::empty());
        cx.push("whisper", PayloadBuf::empty());
        Err(ChannelError::new("on purpose"))
    }
}

fn events(received: &[Received]) -> Vec<&str> {
    received.iter().map(|message| &*message.event).collect()
}

#[test]
fn what_a_failed_callback_had_recorded_was_broadcast_after_its_crash() {
    let mut server = TestServer::new(Router::new().channel("*".parse().unwrap(), Failing));
    let (failing, other) = (server.connect(), server.connect());
    server.join(failing, "t", json!({}));
    server.join(other, "t", json!({}));
    server.push(failing, "t", "any", json!({}));
    assert_eq!(events(&server.received(failing)), ["phx_error"]);
    assert_eq!(events(&server.received(other)), [""; 0]);
}

#[test]
fn mail_behind_the_last_piece_that_was_taken_waited_for_another_event() {
    let wakes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&wakes);
    let broker = Broker::new(&Limits::default(), vec![Box::new(move || _ = counter.fetch_add(1, Relaxed))]);
    let now = Instant::now();
    let mut shard = Endpoint::new(Config::new(Router::new()), &broker, 0, &[0; 32], now);
    let publish = || broker.broadcast("t", "e", PayloadBuf::empty()).unwrap();

    publish();
    publish();
    assert!(shard.handle_mailbox(1, now), "one of two is taken");
    publish();
    assert_eq!(wakes.load(Relaxed), 2);
    assert!(shard.handle_mailbox(1, now), "the wake has come, and the third is there");
    assert!(shard.handle_mailbox(1, now) || shard.stats().broadcasts == 3);
    assert!(!shard.handle_mailbox(1, now), "nothing is left");
    assert_eq!((shard.stats().broadcasts, wakes.load(Relaxed)), (3, 2));
}

/// Broadcasts, then answers.
struct Answering;

impl Channel for Answering {
    fn join(&self, _: &str, _: Payload<'_>, _: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        Ok(PayloadBuf::empty())
    }

    fn handle_in(&self, event: &str, _: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        if event == "reply_first" {
            cx.reply_ok(PayloadBuf::empty());
        }
        cx.broadcast("shout", PayloadBuf::Binary(vec![0; 10_000].into()));
        cx.broadcast("shout", PayloadBuf::Binary(vec![0; 10_000].into()));
        if event == "reply_last" {
            cx.reply_ok(PayloadBuf::empty());
        }
        Ok(())
    }
}

#[test]
fn a_message_whose_broadcasts_were_refused_was_answered_several_times() {
    let mut limits = Limits::default();
    limits.mailbox_bytes_max = 5000;
    let router = Router::new().channel("*".parse().unwrap(), Answering);
    let config = Config { limits: Arc::new(limits), ..Config::new(router) };
    let mut server = TestServer::with_config(&config, 1);
    let client = server.connect();
    server.join(client, "t", json!({}));
    let overloaded = json!({"status": "error", "response": {"reason": "overloaded"}});
    let ok = json!({"status": "ok", "response": {}});
    for (event, reply) in [("no_reply", &overloaded), ("reply_last", &overloaded), ("reply_first", &ok)] {
        server.push(client, "t", event, json!({}));
        let received = server.received(client);
        let replies: Vec<_> = received.iter().map(|message| &message.payload).collect();
        assert_eq!(replies, [reply], "{event}");
    }
}

/// A server whose logs hold 4 KiB and whose slow readers go on behind a gap.
fn skipping(channel: impl Channel) -> TestServer {
    let mut limits = Limits::default();
    limits.topic_log_bytes_max = 4096;
    limits.outbox_bytes_max = 1024;
    let router = Router::new().channel_with("*".parse().unwrap(), Arc::new(channel), SlowReader::Skip);
    TestServer::with_config(&Config { limits: Arc::new(limits), ..Config::new(router) }, 1)
}

/// Broadcasts `count` messages of a kilobyte each.
fn broadcast(server: &mut TestServer, topic: &str, count: usize) {
    let body = "a".repeat(1000);
    (0..count).for_each(|_| server.broadcast(topic, "e", json!({ "body": body })).unwrap());
}

#[test]
fn a_gap_in_one_topic_was_told_inside_a_frame_of_another() {
    let mut server = skipping(Notification::default());
    let client = server.connect();
    server.join(client, "a", json!({}));
    server.join(client, "b", json!({}));
    server.set_window(client, Some(10));
    broadcast(&mut server, "b", 1);
    broadcast(&mut server, "a", 8);
    server.set_window(client, None);
    let received = server.received(client);
    let topics: Vec<_> = received.iter().map(|message| (&message.topic, &*message.event)).collect();
    assert_eq!(topics[..3], [(&json!("b"), "e"), (&json!("a"), "gap"), (&json!("a"), "e")]);
}

#[test]
fn a_gap_was_told_before_the_reply_of_its_join_and_several_times() {
    let mut server = skipping(Notification::default());
    let client = server.connect();
    server.set_window(client, Some(0));
    server.send(client, &json!("1"), &json!("1"), "a", "phx_join", &json!({}));
    broadcast(&mut server, "a", 8);
    server.set_window(client, None);
    let received = server.received(client);
    assert_eq!(events(&received), ["phx_reply", "gap", "e", "e", "e"]);
    assert_eq!(received[1].payload, json!({"missed": 5}));
}

#[test]
fn a_close_frame_came_inside_a_frame_that_had_gone_on_in_the_outbox() {
    let mut server = skipping(Notification::default());
    let client = server.connect();
    server.join(client, "a", json!({}));
    server.set_window(client, Some(10));
    broadcast(&mut server, "a", 1);
    server.send(client, &json!("1"), &json!("2"), "a", "phx_leave", &json!({}));
    for _ in 0..20 {
        server.push(client, "phoenix", "heartbeat", json!({}));
    }
    server.set_window(client, None);
    assert_eq!(events(&server.received(client)), ["e"]);
    assert_eq!(server.closed(client).unwrap().code, Some(4008));
}

/// Broadcasts whatever it gets to all but its sender.
struct Whispering;

impl Channel for Whispering {
    fn join(&self, _: &str, _: Payload<'_>, _: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        Ok(PayloadBuf::empty())
    }

    fn handle_in(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        cx.broadcast_from(event, payload.into());
        Ok(())
    }
}

#[test]
fn a_gap_counted_broadcasts_that_were_not_for_the_client() {
    let mut server = skipping(Whispering);
    let client = server.connect();
    server.join(client, "a", json!({}));
    server.set_window(client, Some(0));
    broadcast(&mut server, "a", 2);
    for _ in 0..3 {
        server.push(client, "a", "mine", json!({}));
    }
    broadcast(&mut server, "a", 6);
    server.set_window(client, None);
    let received = server.received(client);
    assert_eq!(events(&received), ["gap", "e", "e", "e"]);
    assert_eq!(received[0].payload, json!({"missed": 5}));
}

#[test]
fn the_last_ping_was_not_answered_when_the_pong_before_it_was_partly_sent() {
    let mut limits = Limits::default();
    limits.pongs_waiting_max = 1;
    let config = Config { limits: Arc::new(limits), ..Config::new(Router::new()) };
    let mut server = TestServer::with_config(&config, 1);
    let client = server.connect();
    server.set_window(client, Some(1));
    for ping in [b"1", b"2", b"3"] {
        let mut bytes = Vec::new();
        write_masked(&mut bytes, 0x9, true, ping);
        server.send_bytes(client, &bytes);
    }
    server.set_window(client, None);
    let (frames, _) = read_frames(&server.take_bytes(client));
    let pongs: Vec<_> = frames.iter().map(|frame| (frame.opcode, &*frame.payload)).collect();
    assert_eq!(pongs, [(0xA, &b"1"[..]), (0xA, b"3")]);
}

#[test]
fn a_client_that_left_behind_a_burst_was_closed_as_if_it_did_not_read() {
    let mut server = skipping(Notification::default());
    let client = server.connect();
    server.join(client, "a", json!({}));
    let mut bytes = Vec::new();
    let message = json!([null, "2", "a", "new_msg", {"body": "a".repeat(500)}]).to_string();
    (0..4).for_each(|_| write_masked(&mut bytes, 0x1, true, message.as_bytes()));
    write_masked(&mut bytes, 0x1, true, br#"["1","3","a","phx_leave",{}]"#);
    server.send_bytes(client, &bytes);
    let received = server.received(client);
    let expected = ["new_msg", "new_msg", "new_msg", "new_msg", "phx_reply", "phx_close"];
    assert_eq!((events(&received), server.closed(client)), (expected.to_vec(), None));
}

#[test]
fn the_outbox_of_a_client_that_read_nothing_grew_with_its_own_broadcasts() {
    let router = |policy| Router::new().channel_with("*".parse().unwrap(), Arc::new(Whispering), policy);
    let mut limits = Limits::default();
    limits.topic_log_bytes_max = 4096;
    limits.outbox_bytes_max = 10_000;
    let config = Config { limits: Arc::new(limits), ..Config::new(router(SlowReader::Skip)) };
    let mut server = TestServer::with_config(&config, 1);
    let (client, other) = (server.connect(), server.connect());
    server.join(client, "a", json!({}));
    server.join(other, "a", json!({}));
    server.set_window(client, Some(0));
    for _ in 0..1000 {
        server.push(other, "a", "theirs", json!({}));
        server.push(client, "a", "mine", json!({}));
        assert!(server.outbox_bytes(client) <= 10_000 / 2 + 512);
    }
}

/// Keeps the handles of its joins, and says so when one ends.
#[derive(Default)]
struct Parting(Arc<Mutex<Vec<ChannelHandle>>>);

impl Channel for Parting {
    fn join(&self, _: &str, _: Payload<'_>, cx: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        self.0.lock().unwrap().push(cx.handle());
        Ok(PayloadBuf::empty())
    }

    fn handle_in(&self, _: &str, _: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        // What waits in the mailbox comes before this broadcast.
        self.0.lock().unwrap().iter().for_each(|handle| {
            handle.push("large", PayloadBuf::from(json!({"body": "a".repeat(10_000)}))).unwrap();
        });
        cx.broadcast("shout", PayloadBuf::empty());
        Ok(())
    }

    fn terminate(&self, _: Ended, cx: &mut Context<'_>) {
        cx.broadcast("left", PayloadBuf::empty());
    }
}

#[test]
fn clients_that_were_closed_while_mail_was_taken_piled_up_on_the_stack() {
    let handles = Arc::default();
    let mut limits = Limits::default();
    limits.outbox_bytes_max = 1024;
    let router = Router::new().channel("*".parse().unwrap(), Parting(Arc::clone(&handles)));
    let mut server = TestServer::with_config(&Config { limits: Arc::new(limits), ..Config::new(router) }, 1);
    for _ in 0..2000 {
        let client = server.connect();
        server.join(client, "a", json!({}));
    }
    let client = server.connect();
    server.join(client, "b", json!({}));
    handles.lock().unwrap().pop();
    server.push(client, "b", "any", json!({}));
    assert_eq!(server.stats().closed_outbox_full, 2000);
    assert_eq!(events(&server.received(client)), ["shout"]);
}

#[test]
fn a_join_was_granted_behind_the_close_frame() {
    let handles: Arc<Mutex<Vec<ChannelHandle>>> = Arc::default();
    let mut limits = Limits::default();
    limits.outbox_bytes_max = 1024;
    let router = Router::new().channel("*".parse().unwrap(), Parting(Arc::clone(&handles)));
    let mut server = TestServer::with_config(&Config { limits: Arc::new(limits), ..Config::new(router) }, 1);
    let client = server.connect();
    server.join(client, "b", json!({}));
    server.join(client, "a", json!({}));
    let large = json!({"body": "a".repeat(10_000)});
    handles.lock().unwrap()[0].push("large", large.into()).unwrap();
    // The first join's end broadcasts, and takes the mail that comes before it.
    server.send(client, &json!("2"), &json!("2"), "a", "phx_join", &json!({}));
    assert_eq!(server.closed(client).unwrap().code, Some(4008));
    assert_eq!((server.stats().joins, server.stats().topics), (2, 0));
}

#[test]
fn a_reader_that_was_passed_over_inside_a_large_frame_was_closed_with_its_next_reply() {
    let mut server = skipping(Notification::default());
    let client = server.connect();
    server.join(client, "a", json!({}));
    server.set_window(client, Some(10));
    server.broadcast("a", "e", json!({"body": "a".repeat(3000)})).unwrap();
    broadcast(&mut server, "a", 5);
    server.push(client, "phoenix", "heartbeat", json!({}));
    server.set_window(client, None);
    assert_eq!(events(&server.received(client))[..2], ["e", "gap"]);
    assert_eq!(server.closed(client), None);
}

#[test]
fn a_gap_in_one_topic_was_added_to_that_of_a_topic_that_had_ended() {
    let mut limits = Limits::default();
    limits.topic_log_bytes_max = 4096;
    let channel = Arc::new(Notification::default());
    let router = Router::new().channel_with("*".parse().unwrap(), channel, SlowReader::Skip);
    let mut server = TestServer::with_config(&Config { limits: Arc::new(limits), ..Config::new(router) }, 1);
    let client = server.connect();
    server.join(client, "a", json!({}));
    server.set_window(client, Some(0));
    broadcast(&mut server, "a", 5);
    // The second topic stands in the place of the first.
    server.push(client, "a", "phx_leave", json!({}));
    server.send(client, &json!("9"), &json!("9"), "b", "phx_join", &json!({}));
    broadcast(&mut server, "b", 6);
    server.set_window(client, None);
    let received = server.received(client);
    let gaps: Vec<_> = received.iter().filter(|message| message.event == "gap").collect();
    let of = |topic: &str| {
        received.iter().filter(|message| message.topic == topic && message.event == "e").count()
    };
    assert_eq!(gaps.iter().map(|gap| &gap.topic).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(
        [&gaps[0].payload, &gaps[1].payload],
        [&json!({"missed": 5 - of("a")}), &json!({"missed": 6 - of("b")})]
    );
}
