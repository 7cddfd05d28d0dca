//! Taking messages back, and putting clients off the line.

use serde::Serialize;

use super::auth::Caller;
use super::body;
use super::error::{ApiError, Code};
use super::query::Params;
use super::rules::check_name;
use super::{Api, Call, json};
use crate::desk::{Disconnect, DisconnectWho, Message, Progress};
use crate::http::Status;
use crate::service::ServiceReply;

/// Bytes of a user's id, a socket's or a connection's.
const ID_BYTES_MAX: usize = 255;

/// A message, and how far it has got.
#[derive(Debug, Serialize)]
pub(super) struct MessageReply {
    pub(super) message: Message,
    /// While its receipts are collected, and as it was at their end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) progress: Option<Progress>,
}

impl Api {
    pub(super) fn retract(&self, call: &Call<'_>, caller: &Caller<'_>) -> Result<ServiceReply, ApiError> {
        let id = self.message_id(call, caller)?;
        let message = self.audited(call, caller, ("retract", &id, String::new()), || {
            self.desk.publishing.retract(&id, &caller.actor, call.at)
        })?;
        Ok(json(Status::Ok, &self.with_progress(message)))
    }

    pub(super) fn cancel(&self, call: &Call<'_>, caller: &Caller<'_>) -> Result<ServiceReply, ApiError> {
        let id = self.message_id(call, caller)?;
        let message = self.audited(call, caller, ("cancel", &id, String::new()), || {
            self.desk.publishing.cancel(&id, &caller.actor, call.at)
        })?;
        Ok(json(Status::Ok, &self.with_progress(message)))
    }

    pub(super) fn with_progress(&self, message: Message) -> MessageReply {
        let progress = self.desk.publishing.progress(&message.id);
        MessageReply { message, progress }
    }

    /// The id of the message that a request is about.
    fn message_id(&self, call: &Call<'_>, caller: &Caller<'_>) -> Result<String, ApiError> {
        Params::parse(&call.request.query, &[])?;
        let object = body::object(&call.request.body, &["id"])?;
        let id = object.text("id")?.ok_or_else(|| object.missing("id"))?.into_owned();
        check_name(&id, ID_BYTES_MAX).map_err(|what| object.wrong("id", &what))?;
        if !caller.key.is_for_all_topics() {
            self.find_message(&id, caller)?;
        }
        Ok(id)
    }

    /// A message that the key may see. Of another one a key is not told that it is there.
    pub(super) fn find_message(&self, id: &str, caller: &Caller<'_>) -> Result<Message, ApiError> {
        let message = self.desk.records.message(id)?;
        message.filter(|message| caller.key.is_for(&message.topic)).ok_or_else(no_such_message)
    }

    pub(super) fn disconnect(&self, call: &Call<'_>, caller: &Caller<'_>) -> Result<ServiceReply, ApiError> {
        Params::parse(&call.request.query, &[])?;
        let object = body::object(&call.request.body, &["user", "socket_id", "connection", "reconnect"])?;
        let mut who = None;
        for name in ["user", "socket_id", "connection"] {
            let Some(id) = object.text(name)? else { continue };
            check_name(&id, ID_BYTES_MAX).map_err(|what| object.wrong(name, &what))?;
            let id = id.into_owned();
            let meant = match name {
                "user" => DisconnectWho::User(id),
                "socket_id" => DisconnectWho::SocketId(id),
                _ => DisconnectWho::Connection(id),
            };
            if who.replace(meant).is_some() {
                return Err(object.wrong(name, "stands beside another id: give one of them"));
            }
        }
        let Some(who) = who else {
            return Err(object.wrong("user", "or \"socket_id\" or \"connection\" must say who is meant"));
        };
        match &who {
            DisconnectWho::User(user) => self.check_user(user, caller, || "user".to_owned())?,
            DisconnectWho::SocketId(_) | DisconnectWho::Connection(_) if !caller.key.is_for_all_topics() => {
                let message = "An API key that is for some topics disconnects users alone.";
                return Err(ApiError::new(Code::TopicForbidden, message));
            }
            DisconnectWho::SocketId(_) | DisconnectWho::Connection(_) => {}
        }
        let reconnect = object.flag("reconnect")?.unwrap_or(true);
        let how = if reconnect { "come back" } else { "stay away" };
        let (kind, subject) = match &who {
            DisconnectWho::User(id) => ("user", id.clone()),
            DisconnectWho::SocketId(id) => ("socket_id", id.clone()),
            DisconnectWho::Connection(id) => ("connection", id.clone()),
        };
        let disconnect = Disconnect { who, reconnect };
        let entry = ("disconnect", &*subject, format!("{kind}, {how}"));
        let disconnected = self.audited(call, caller, entry, || {
            self.desk.publishing.disconnect(&disconnect, &caller.actor, call.at)
        })?;
        Ok(json(Status::Ok, &disconnected))
    }
}

pub(super) fn no_such_message() -> ApiError {
    ApiError::new(Code::NotFound, "There is no message with this id.").field("id")
}
