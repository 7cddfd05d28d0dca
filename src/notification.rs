//! The channel of the standalone server: what those may say who are allowed to, all subscribers hear.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::auth::rights::Rights;
use crate::channel::{Channel, ChannelError, Context, JoinError, PayloadBuf, TopicPattern};
use crate::phoenix::Payload;

/// The event that carries a notification.
pub const NEW_MSG: &str = "new_msg";

/// What a client is told that may not do what it asks for, be it that there is no such topic.
const UNAUTHORIZED: &str = "unauthorized";

/// Rebroadcasts `new_msg` with its `body`, as the room of the Phoenix guide does: other keys are dropped, the
/// body may be any JSON value, and a good message has no reply. Where the guide's handler would crash (no
/// `body`, another event), the client is answered with an error that says what was wrong.
///
/// Everyone joins and writes; [`Restricted`] asks who.
#[derive(Debug, Clone, Copy, Default)]
pub struct Notification;

/// The same for those whom a rule lets join and push. Events other than `new_msg` that a client may push are
/// broadcast with their payloads as they are.
#[derive(Debug, Clone)]
pub struct Restricted(pub Rule);

/// What clients may do with the topics of a pattern.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The topics.
    pub pattern: TopicPattern,
    /// Who joins, and who pushes what.
    pub rights: Rights,
    /// Bytes of a payload from a client.
    pub payload_bytes_max: Option<usize>,
    /// Messages that one client may push in a minute, on each of its topics.
    pub pushes_per_minute: Option<u32>,
}

/// How much one client has pushed in the minute that began then.
struct Minute {
    begun: Instant,
    pushes: u32,
}

#[derive(Deserialize)]
struct NewMsg<'a> {
    #[serde(borrow)]
    body: &'a RawValue,
}

impl Rule {
    fn may_join(&self, cx: &Context<'_>) -> bool {
        self.rights.join.includes(cx.current_user(), self.pattern.user_in(cx.topic()))
    }

    /// Why a push is refused, if it is.
    fn refusal(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Option<&'static str> {
        let owner = self.pattern.user_in(cx.topic());
        if !self.rights.may_push(event, cx.current_user(), owner) {
            return Some(UNAUTHORIZED);
        }
        let bytes = match payload {
            Payload::Json(json) => json.get().len(),
            Payload::Binary(bytes) => bytes.len(),
        };
        if self.payload_bytes_max.is_some_and(|bytes_max| bytes > bytes_max) {
            return Some("payload too large (payload_bytes_max)");
        }
        let pushes_max = self.pushes_per_minute?;
        let now = cx.now();
        let minute = cx.assigns_mut().get_mut::<Minute>();
        let pushes = match minute {
            Some(minute) if now.saturating_duration_since(minute.begun) < Duration::from_secs(60) => {
                minute.pushes = minute.pushes.saturating_add(1);
                minute.pushes
            }
            _ => {
                cx.assigns_mut().insert(Minute { begun: now, pushes: 1 });
                1
            }
        };
        (pushes > pushes_max).then_some("too many messages (pushes_per_minute)")
    }
}

/// Broadcasts the `body` of a `new_msg`.
fn broadcast_body(payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
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

impl Channel for Notification {
    fn join(&self, _: &str, _: Payload<'_>, _: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        Ok(PayloadBuf::empty())
    }

    fn handle_in(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        if event == NEW_MSG {
            return broadcast_body(payload, cx);
        }
        cx.reply_error("unknown event: this topic takes new_msg");
        Ok(())
    }
}

impl Channel for Restricted {
    fn join(&self, _: &str, _: Payload<'_>, cx: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        if self.0.may_join(cx) { Ok(PayloadBuf::empty()) } else { Err(JoinError::reason(UNAUTHORIZED)) }
    }

    fn handle_in(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        match self.0.refusal(event, payload, cx) {
            Some(reason) => cx.reply_error(reason),
            None if event == NEW_MSG => return broadcast_body(payload, cx),
            None => cx.broadcast(event, payload.into()),
        }
        Ok(())
    }

    fn handle_renewal(&self, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        // What the fresh token says may be less than what the old one did.
        if !self.0.may_join(cx) {
            cx.stop();
        }
        Ok(())
    }
}

/// Refuses every join, as the rules refuse those of topics that are somebody else's. Put behind all rules, it
/// keeps a client from learning which topics there are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Closed;

impl Channel for Closed {
    fn join(&self, _: &str, _: Payload<'_>, _: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        Err(JoinError::reason(UNAUTHORIZED))
    }

    fn handle_in(&self, _: &str, _: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        cx.reply_error(UNAUTHORIZED);
        Ok(())
    }
}
