//! What has gone wrong once, each named by its symptom.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use hailer::broker::Broker;
use hailer::channel::{Channel, ChannelError, Context, JoinError, PayloadBuf, Router};
use hailer::endpoint::{Config, Endpoint};
use hailer::limits::Limits;
use hailer::phoenix::Payload;
use hailer::testing::{Received, TestServer};
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
    let mut shard = Endpoint::new(Config::new(Router::new()), &broker, 0, now);
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
