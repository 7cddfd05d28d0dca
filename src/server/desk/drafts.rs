//! From drafts to messages, or to what is wrong with them.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::value::RawValue;
use uuid::Builder;

use super::DeskConfig;
use crate::desk::{
    Actor, DeskError, Draft, Durability, ErrorCode, Message, MessageState, RawValueText, SCHEDULE_MAX,
    Target, UnixMillis,
};
use crate::phoenix::events;
use crate::server::store::ID_BYTES_MAX;

/// Random bytes of a message's id.
pub(super) const ID_BYTES: usize = 10;

/// A message, and how it is to be kept.
pub(super) struct Prepared {
    pub(super) message: Message,
    pub(super) durability: Durability,
}

/// What is wrong with a member of draft number `index`.
fn wrong(index: usize, member: &str, sentence: impl Into<std::borrow::Cow<'static, str>>) -> DeskError {
    DeskError::invalid(format!("messages[{index}].{member}"), sentence)
}

fn too_large(index: usize, member: &str, sentence: String) -> DeskError {
    DeskError {
        code: ErrorCode::TooLarge,
        sentence: sentence.into(),
        field: Some(format!("messages[{index}].{member}")),
    }
}

fn millis(time: Duration) -> UnixMillis {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A name that clients and logs can do with: not empty, not too long, no control characters.
fn check_name(index: usize, member: &str, name: &str, bytes_max: usize) -> Result<(), DeskError> {
    if name.is_empty() {
        return Err(wrong(index, member, format!("{member} is empty")));
    }
    if name.len() > bytes_max {
        return Err(wrong(index, member, format!("{member} is longer than {bytes_max} bytes")));
    }
    if name.chars().any(char::is_control) {
        return Err(wrong(index, member, format!("{member} holds a control character")));
    }
    Ok(())
}

/// Puts the id into an object, in front of what is there, and when the message expires, unless the object says so itself.
fn with_id(
    index: usize,
    payload: &RawValue,
    id: &str,
    expires_at: Option<UnixMillis>,
) -> Result<Box<RawValue>, DeskError> {
    let members = serde_json::from_str::<HashMap<String, &RawValue>>(payload.get());
    let members = members.map_err(|_| {
        wrong(index, "payload", "a message that is kept or can be retracted needs an object as its payload")
    })?;
    if members.contains_key("id") {
        return Err(wrong(index, "payload", "the payload has an id already; the message's own goes there"));
    }
    let rest = payload.get().trim_start().strip_prefix('{').unwrap_or_default();
    let expires_at = expires_at.filter(|_| !members.contains_key("expires_at"));
    let expiry = expires_at.map_or_else(String::new, |at| format!(",\"expires_at\":{at}"));
    let comma = if members.is_empty() { "" } else { "," };
    let text = format!("{{\"id\":\"{id}\"{expiry}{comma}{rest}");
    RawValue::from_string(text).map_err(|_| wrong(index, "payload", "the payload is no JSON"))
}

impl DeskConfig {
    /// The topic of a draft, and the user it is for.
    fn target(&self, index: usize, target: Target) -> Result<(String, Option<String>), DeskError> {
        match target {
            Target::Topic(topic) => {
                check_name(index, "topic", &topic, self.topic_bytes_max)?;
                Ok((topic, None))
            }
            Target::User(user) => {
                check_name(index, "user", &user, ID_BYTES_MAX)?;
                let topic = self.user_topic.topic_of(&user);
                let topic = topic.filter(|topic| topic.len() <= self.topic_bytes_max);
                let topic = topic.ok_or_else(|| wrong(index, "user", "this user can't have a topic"))?;
                Ok((topic, Some(user)))
            }
        }
    }

    /// Makes a message of draft number `index`.
    pub(super) fn prepare(
        &self,
        index: usize,
        draft: Draft,
        random: &[u8; ID_BYTES],
        actor: &Actor,
        at: UnixMillis,
    ) -> Result<Prepared, DeskError> {
        let (topic, user) = self.target(index, draft.target)?;
        check_name(index, "event", &draft.event, self.event_bytes_max)?;
        if events::is_reserved(&draft.event) {
            return Err(wrong(index, "event", "this event belongs to the protocol"));
        }
        if draft.payload.get().len() > self.payload_bytes_max {
            let sentence = format!("the payload is larger than {} bytes", self.payload_bytes_max);
            return Err(too_large(index, "payload", sentence));
        }
        if draft.durability == Durability::Disk && !self.on_disk {
            let sentence = "nothing is kept on disk: store.path is not configured";
            return Err(wrong(index, "durability", sentence));
        }
        if draft.lifetime.is_some_and(|lifetime| lifetime.is_zero() || lifetime > self.lifetime_max) {
            let most = self.lifetime_max.as_secs();
            return Err(wrong(index, "expires_in", format!("expires_in goes from 1 to {most} seconds")));
        }
        let send_at = draft.send_at.filter(|send_at| *send_at > at);
        if send_at.is_some_and(|send_at| send_at - at > millis(SCHEDULE_MAX)) {
            return Err(wrong(index, "send_at", "send_at lies more than a year ahead"));
        }
        let id = Builder::from_unix_timestamp_millis(at, random).into_uuid().to_string();
        let carries_id = draft.with_id || draft.lifetime.is_some();
        let expires_at =
            draft.lifetime.map(|lifetime| send_at.unwrap_or(at).saturating_add(millis(lifetime)));
        let payload = match carries_id {
            true => with_id(index, &draft.payload, &id, expires_at)?,
            false => draft.payload,
        };
        // What has to be found later has a record.
        let least = if send_at.is_some() || carries_id || draft.receipts {
            Durability::Memory
        } else {
            Durability::None
        };
        let message = Message {
            id,
            topic,
            user,
            event: draft.event,
            payload: RawValueText::new(payload),
            sender: actor.to_string(),
            state: if send_at.is_some() { MessageState::Scheduled } else { MessageState::Sent },
            created_at: at,
            send_at,
            sent_at: send_at.is_none().then_some(at),
            expires_at,
            ended_at: None,
            ended_by: None,
            offset: None,
            subscribers: None,
            received: None,
            with_id: carries_id,
            receipts: draft.receipts,
            resend_of: draft.resend_of,
        };
        Ok(Prepared { message, durability: draft.durability.max(least) })
    }
}
