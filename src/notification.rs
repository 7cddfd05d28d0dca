//! The channel of the standalone server: what those may say who are allowed to, all subscribers hear.

mod supabase;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::auth::rights::Rights;
use crate::board::Board;
use crate::channel::{Channel, ChannelError, Context, JoinError, PayloadBuf, TopicPattern};
use crate::phoenix::{Payload, events};

/// The event that carries a notification.
pub const NEW_MSG: &str = "new_msg";

/// What a client is told that may not do what it asks for, be it that there is no such topic.
const UNAUTHORIZED: &str = "unauthorized";

/// What a client of Supabase is told that wants to be tracked.
const NO_PRESENCE: &str = "this server keeps no presence";

/// Rebroadcasts `new_msg` with its `body`, as the room of the Phoenix guide does: other keys are dropped, the
/// body may be any JSON value, and a good message has no reply. Where the guide's handler would crash (no
/// `body`, another event), the client is answered with an error that says what was wrong. Clients that join as
/// Supabase's do (with a `config`) may broadcast their own events as well, as they do with Supabase's server.
///
/// Everyone joins and writes; [`Restricted`] asks who. With a [`Board`], whoever joins gets what is kept there for the
/// topic, pushed right behind the reply, with the events and payloads that it was broadcast with. A client that joins
/// again, as it does after each loss of its connection, gets it again.
#[derive(Debug, Clone, Default)]
pub struct Notification {
    board: Option<Arc<Board>>,
}

/// The same for those whom a rule lets join and push. Events other than `new_msg` that a client may push are
/// broadcast with their payloads as they are.
#[derive(Debug)]
pub struct Restricted {
    rule: Rule,
    /// What each user has pushed within the last minute: leaving and joining again is not to set it back.
    minutes: Mutex<HashMap<Box<str>, Minute>>,
    board: Option<Arc<Board>>,
}

/// What clients may do with the topics of a pattern.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The topics.
    pub pattern: TopicPattern,
    /// Who joins, and who pushes what.
    pub rights: Rights,
    /// Bytes of a payload from a client.
    pub payload_bytes_max: Option<usize>,
    /// Messages that one user may push in a minute, on all devices together; a client without a user on each of
    /// its topics.
    pub pushes_per_minute: Option<u32>,
}

/// So many users are remembered for having pushed; of more, those whose minute is over are forgotten, and others
/// are counted on each of their topics alone.
const MINUTES_MAX: usize = 10_000;

/// How much was pushed in the minute that began then.
#[derive(Debug)]
struct Minute {
    begun: Instant,
    pushes: u32,
}

impl Minute {
    fn new(now: Instant) -> Self {
        Self { begun: now, pushes: 0 }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) >= Duration::from_secs(60)
    }

    /// Counts one push; how many there have been.
    fn count(&mut self, now: Instant) -> u32 {
        if self.is_over(now) {
            *self = Self::new(now);
        }
        self.pushes = self.pushes.saturating_add(1);
        self.pushes
    }
}

#[derive(Deserialize)]
struct NewMsg<'a> {
    #[serde(borrow)]
    body: &'a RawValue,
}

impl Notification {
    /// Gives those who join what the board keeps.
    #[must_use]
    pub fn with_board(board: Arc<Board>) -> Self {
        Self { board: Some(board) }
    }
}

impl Restricted {
    /// Lets clients do what the rule says.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self { rule, minutes: Mutex::default(), board: None }
    }

    /// Gives those who may join what the board keeps.
    #[must_use]
    pub fn with_board(self, board: Arc<Board>) -> Self {
        Self { board: Some(board), ..self }
    }

    fn may_join(&self, cx: &Context<'_>) -> bool {
        self.rule.rights.join.includes(cx.current_user(), self.rule.pattern.user_in(cx.topic()))
    }

    /// Why a push is refused, if it is.
    fn refusal(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Option<&'static str> {
        let owner = self.rule.pattern.user_in(cx.topic());
        if !self.rule.rights.may_push(event, cx.current_user(), owner) {
            return Some(UNAUTHORIZED);
        }
        let bytes = match payload {
            Payload::Json(json) => json.get().len(),
            Payload::Binary(bytes) => bytes.len(),
            Payload::UserBroadcast(broadcast) => broadcast.data().len(),
        };
        if self.rule.payload_bytes_max.is_some_and(|bytes_max| bytes > bytes_max) {
            return Some("payload too large (payload_bytes_max)");
        }
        let pushes_max = self.rule.pushes_per_minute?;
        let pushes = self.count_of_user(cx).unwrap_or_else(|| count_of_join(cx));
        (pushes > pushes_max).then_some("too many messages (pushes_per_minute)")
    }

    /// Counts a push of this minute for its user. `None` if there is none, or no room to remember one more.
    fn count_of_user(&self, cx: &Context<'_>) -> Option<u32> {
        let user = cx.current_user()?.user();
        let now = cx.now();
        // Held for a look into a table, by whoever pushes to this rule's topics; deliveries don't come here.
        let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(minute) = minutes.get_mut(user) {
            return Some(minute.count(now));
        }
        if minutes.len() >= MINUTES_MAX {
            minutes.retain(|_, minute| !minute.is_over(now));
        }
        if user.is_empty() || minutes.len() >= MINUTES_MAX {
            return None;
        }
        Some(minutes.entry(user.into()).or_insert_with(|| Minute::new(now)).count(now))
    }
}

/// Counts a push of this minute for one join.
fn count_of_join(cx: &mut Context<'_>) -> u32 {
    let now = cx.now();
    if cx.assigns().get::<Minute>().is_none() {
        cx.assigns_mut().insert(Minute::new(now));
    }
    cx.assigns_mut().get_mut::<Minute>().map_or(1, |minute| minute.count(now))
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

/// Lets a client join, and has it get what is kept for those who come later.
fn welcome(board: Option<&Board>, params: Payload<'_>, cx: &mut Context<'_>) -> PayloadBuf {
    let kept = board.map(|board| board.for_joiner(cx.topic(), cx.taken(), cx.now(), cx.room()));
    for kept in kept.into_iter().flatten() {
        cx.push(&kept.event, kept.payload);
    }
    supabase::join(params, cx)
}

impl Channel for Notification {
    fn join(&self, _: &str, params: Payload<'_>, cx: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        Ok(welcome(self.board.as_deref(), params, cx))
    }

    fn handle_in(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        match event {
            NEW_MSG => return broadcast_body(payload, cx),
            events::BROADCAST if supabase::has_joined(cx) => supabase::broadcast(payload, cx),
            supabase::PRESENCE if supabase::has_joined(cx) => cx.reply_error(NO_PRESENCE),
            _ => cx.reply_error("unknown event: this topic takes new_msg"),
        }
        Ok(())
    }
}

impl Channel for Restricted {
    fn join(&self, _: &str, params: Payload<'_>, cx: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        if self.may_join(cx) {
            Ok(welcome(self.board.as_deref(), params, cx))
        } else {
            Err(JoinError::reason(UNAUTHORIZED))
        }
    }

    fn handle_in(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        match self.refusal(event, payload, cx) {
            Some(reason) => cx.reply_error(reason),
            None if event == NEW_MSG => return broadcast_body(payload, cx),
            None if event == events::BROADCAST => supabase::broadcast(payload, cx),
            None if event == supabase::PRESENCE && supabase::has_joined(cx) => cx.reply_error(NO_PRESENCE),
            None => cx.broadcast(event, payload.into()),
        }
        Ok(())
    }

    fn handle_renewal(&self, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        // What the fresh token says may be less than what the old one did.
        if !self.may_join(cx) {
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
