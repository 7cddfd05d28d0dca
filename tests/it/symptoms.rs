//! What has gone wrong once, each named by its symptom.

use hailer::channel::{Channel, ChannelError, Context, JoinError, PayloadBuf, Router};
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
