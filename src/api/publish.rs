//! Publishing: requests become drafts.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;

use super::auth::Caller;
use super::body::{self, ListShape, Names, Object};
use super::error::{ApiError, Code};
use super::query::Params;
use super::rules::{check_event, check_name, check_topic};
use super::{Api, Call, json};
use crate::desk::{
    Draft, Durability, IDEMPOTENCY_KEY_BYTES_MAX, MessageState, Publish, PublishReply, SCHEDULE_MAX, Target,
    UnixMillis,
};
use crate::http::Status;
use crate::phoenix;
use crate::service::{ServiceReply, ServiceRequest};

const IDEMPOTENCY_KEY: &str = "idempotency_key";

const MESSAGE: Names =
    &["topic", "user", "event", "payload", "durability", "expires_in", "send_at", "with_id", "receipts"];

/// A message, and what concerns the whole request.
const SINGLE: Names = &[
    "topic",
    "user",
    "event",
    "payload",
    "durability",
    "expires_in",
    "send_at",
    "with_id",
    "receipts",
    IDEMPOTENCY_KEY,
];

const BATCH: Names = &["messages", IDEMPOTENCY_KEY];

/// Supabase's: a message, and whether its topic is a private channel there. Who may join a topic is for this server's
/// own rules to say, so nothing follows from it here.
const BROADCAST_MESSAGE: Names = &["topic", "event", "payload", "private"];

/// Where desks say that something is wrong with the only message of a request.
const FIRST: &str = "messages[0].";

impl Api {
    /// One message.
    pub(super) fn publish(&self, call: &Call<'_>, caller: &Caller<'_>) -> Result<ServiceReply, ApiError> {
        Params::parse(&call.request.query, &[])?;
        let object = body::object(&call.request.body, SINGLE)?;
        let draft = self.draft(&object, caller, call.at)?;
        let idempotency_key = idempotency_key(call.request, Some(&object))?;
        let publish = Publish { drafts: vec![draft], idempotency_key };
        let reply = self
            .desk
            .publishing
            .publish(publish, &caller.actor, call.at)
            .map_err(|error| ApiError::from(error).without_prefix(FIRST))?;
        Ok(match reply.messages.first() {
            Some(published) if published.state == MessageState::Scheduled => {
                marked(json(Status::Accepted, published), &reply)
            }
            Some(published) => marked(json(Status::Ok, published), &reply),
            // A desk answers for every draft; one that does not has published nothing.
            None => return Err(ApiError::new(Code::StoreUnavailable, "The message was not published.")),
        })
    }

    /// Several messages, all or none.
    pub(super) fn batch(&self, call: &Call<'_>, caller: &Caller<'_>) -> Result<ServiceReply, ApiError> {
        Params::parse(&call.request.query, &[])?;
        let mut drafts = Vec::new();
        let object = body::list(&call.request.body, BATCH, self.messages(MESSAGE), &mut |object| {
            drafts.push(self.draft(&object, caller, call.at)?);
            Ok(())
        })?;
        let publish = Publish { drafts, idempotency_key: idempotency_key(call.request, Some(&object))? };
        let reply = self.publish_some(publish, call, caller)?;
        Ok(marked(json(Status::Ok, &reply), &reply))
    }

    /// Several messages in Supabase's shape.
    pub(super) fn broadcast(&self, call: &Call<'_>, caller: &Caller<'_>) -> Result<ServiceReply, ApiError> {
        Params::parse(&call.request.query, &[])?;
        let mut drafts = Vec::new();
        body::list(&call.request.body, &["messages"], self.messages(BROADCAST_MESSAGE), &mut |object| {
            let topic = required(&object, "topic")?;
            object.flag("private")?;
            let target = self.topic(&object, topic, caller)?;
            drafts.push(self.plain_draft(&object, target)?);
            Ok(())
        })?;
        let publish = Publish { drafts, idempotency_key: idempotency_key(call.request, None)? };
        let reply = self.publish_some(publish, call, caller)?;
        Ok(marked(ServiceReply::new(Status::Accepted), &reply))
    }

    fn messages(&self, items: Names) -> ListShape {
        ListShape { name: "messages", items, max: self.config.messages_per_request_max }
    }

    fn publish_some(
        &self,
        publish: Publish,
        call: &Call<'_>,
        caller: &Caller<'_>,
    ) -> Result<PublishReply, ApiError> {
        if publish.drafts.is_empty() {
            return Err(ApiError::invalid("messages", "\"messages\" must hold at least one message."));
        }
        Ok(self.desk.publishing.publish(publish, &caller.actor, call.at)?)
    }

    fn draft(&self, object: &Object<'_>, caller: &Caller<'_>, at: UnixMillis) -> Result<Draft, ApiError> {
        let target = match (object.text("topic")?, object.text("user")?) {
            (Some(topic), None) => self.topic(object, topic, caller)?,
            (None, Some(user)) => self.user_target(object, user, caller)?,
            (None, None) => return Err(object.wrong("topic", "or \"user\" must say where the message goes")),
            (Some(_), Some(_)) => return Err(object.wrong("user", "and \"topic\" exclude each other")),
        };
        let mut draft = self.plain_draft(object, target)?;
        if let Some(durability) = object.text("durability")? {
            draft.durability = match &*durability {
                "none" => Durability::None,
                "memory" => Durability::Memory,
                "disk" => Durability::Disk,
                _ => return Err(object.wrong("durability", "must be \"none\", \"memory\" or \"disk\"")),
            };
        }
        let lifetime_max = self.config.lifetime_max.as_secs();
        draft.lifetime = object.number("expires_in", 1, lifetime_max)?.map(Duration::from_secs);
        draft.send_at = send_at(object, at)?;
        draft.with_id = object.flag("with_id")?.unwrap_or(false) || draft.lifetime.is_some();
        draft.receipts = object.flag("receipts")?.unwrap_or(false);
        if draft.with_id && !draft.payload.get().starts_with('{') {
            let what = "must be an object if \"with_id\" or \"expires_in\" put the message's id into it";
            return Err(object.wrong("payload", what));
        }
        Ok(draft)
    }

    /// A draft with an event and a payload.
    fn plain_draft(&self, object: &Object<'_>, target: Target) -> Result<Draft, ApiError> {
        let event = required(object, "event")?;
        check_event(&event, self.config.event_bytes_max).map_err(|what| object.wrong("event", &what))?;
        let payload = object.raw("payload").ok_or_else(|| object.missing("payload"))?;
        self.check_payload(object, payload)?;
        let draft = Draft::new(target, event, payload.to_owned());
        Ok(Draft { durability: self.config.default_durability, ..draft })
    }

    fn check_payload(&self, object: &Object<'_>, payload: &RawValue) -> Result<(), ApiError> {
        let text = payload.get();
        if text.len() > self.config.payload_bytes_max {
            let message = format!("A payload may have {} bytes at most.", self.config.payload_bytes_max);
            return Err(ApiError::new(Code::TooLarge, message).field(object.path("payload")));
        }
        if phoenix::is_deeper_than(text, self.config.json_depth_max) {
            let what = format!("must not be nested more than {} deep", self.config.json_depth_max);
            return Err(object.wrong("payload", &what));
        }
        if phoenix::has_lone_surrogate(text) {
            return Err(object.wrong("payload", "holds half of a pair of surrogates, which is no text"));
        }
        Ok(())
    }

    fn topic(
        &self,
        object: &Object<'_>,
        topic: Cow<'_, str>,
        caller: &Caller<'_>,
    ) -> Result<Target, ApiError> {
        check_topic(&topic, self.config.topic_bytes_max).map_err(|what| object.wrong("topic", &what))?;
        caller.check_topic(&topic, || object.path("topic"))?;
        Ok(Target::Topic(topic.into_owned()))
    }

    fn user_target(
        &self,
        object: &Object<'_>,
        user: Cow<'_, str>,
        caller: &Caller<'_>,
    ) -> Result<Target, ApiError> {
        check_name(&user, self.config.topic_bytes_max).map_err(|what| object.wrong("user", &what))?;
        self.check_user(&user, caller, || object.path("user"))?;
        Ok(Target::User(user.into_owned()))
    }

    /// Refuses a user whose own topic the key is not for.
    pub(super) fn check_user(
        &self,
        user: &str,
        caller: &Caller<'_>,
        field: impl FnOnce() -> String,
    ) -> Result<(), ApiError> {
        if caller.key.is_for_all_topics() {
            return Ok(());
        }
        // No topic has an empty name, so this is none that a key can be for.
        let topic = self.desk.publishing.topic_of(user).unwrap_or_default();
        caller.check_topic(&topic, field)
    }
}

fn required<'a>(object: &Object<'a>, name: &str) -> Result<Cow<'a, str>, ApiError> {
    object.text(name)?.ok_or_else(|| object.missing(name))
}

/// When a message is to be sent: requests have it in seconds, as tokens have times.
fn send_at(object: &Object<'_>, at: UnixMillis) -> Result<Option<UnixMillis>, ApiError> {
    let latest = at / 1000 + SCHEDULE_MAX.as_secs();
    let Some(seconds) = object.number("send_at", 0, u64::MAX)? else { return Ok(None) };
    if seconds > latest {
        let what = "must be a time within a year from now on, in seconds since 1970 (not in milliseconds)";
        return Err(object.wrong("send_at", what));
    }
    Ok(Some(seconds.saturating_mul(1000)))
}

/// The idempotency key, from the body or from the header.
fn idempotency_key(
    request: &ServiceRequest,
    object: Option<&Object<'_>>,
) -> Result<Option<String>, ApiError> {
    let mut found = match object {
        Some(object) => object.text(IDEMPOTENCY_KEY)?.map(Cow::into_owned),
        None => None,
    };
    for (_, value) in request.headers.iter().filter(|(name, _)| name == "idempotency-key") {
        let text = std::str::from_utf8(value).ok();
        let Some(value) = text.filter(|value| value.bytes().all(|byte| byte.is_ascii_graphic())) else {
            let message = "An idempotency key in the header is of visible ASCII without spaces.";
            return Err(ApiError::invalid(IDEMPOTENCY_KEY, message));
        };
        match &found {
            Some(other) if other != value => {
                let message = "The request has two different idempotency keys: send one.";
                return Err(ApiError::invalid(IDEMPOTENCY_KEY, message));
            }
            _ => found = Some(value.to_owned()),
        }
    }
    if let Some(key) = &found {
        check_name(key, IDEMPOTENCY_KEY_BYTES_MAX)
            .map_err(|what| ApiError::invalid(IDEMPOTENCY_KEY, format!("The idempotency key {what}.")))?;
    }
    Ok(found)
}

/// Says when a reply repeats an earlier one.
fn marked(reply: ServiceReply, published: &PublishReply) -> ServiceReply {
    if published.replayed { reply.header("idempotent-replayed", "true") } else { reply }
}
