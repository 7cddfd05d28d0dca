//! The channel of the standalone server: what one may say, all subscribers hear.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::channel::{Channel, ChannelError, Context, JoinError, PayloadBuf};
use crate::phoenix::Payload;

/// The event that carries a notification.
pub const NEW_MSG: &str = "new_msg";

/// Rebroadcasts `new_msg` with its `body`, as the room of the Phoenix guide does: other keys are dropped, the
/// body may be any JSON value, and a good message has no reply.
///
/// Where the guide's handler would crash (no `body`, another event), the client is answered with an error that
/// says what was wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Notification;

#[derive(Deserialize)]
struct NewMsg<'a> {
    #[serde(borrow)]
    body: &'a RawValue,
}

impl Channel for Notification {
    fn join(&self, _: &str, _: Payload<'_>, _: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        Ok(PayloadBuf::empty())
    }

    fn handle_in(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        if event != NEW_MSG {
            cx.reply_error("unknown event: this topic takes new_msg");
            return Ok(());
        }
        // A `NewMsg` could be read from an array as well.
        let is_object = payload.as_json_str().is_some_and(|json| json.starts_with('{'));
        match payload.deserialize::<NewMsg<'_>>() {
            Ok(NewMsg { body }) if is_object => {
                let text = format!(r#"{{"body":{}}}"#, body.get());
                cx.broadcast(NEW_MSG, PayloadBuf::Json(RawValue::from_string(text)?));
            }
            _ => cx.reply_error("new_msg needs an object with a body"),
        }
        Ok(())
    }
}
