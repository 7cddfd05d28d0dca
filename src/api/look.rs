//! Looking around: who is there, what was sent, whether a token is good.

use super::act::no_such_message;
use super::auth::Caller;
use super::body;
use super::error::{ApiError, Code};
use super::query::{Params, id_of};
use super::route::Verb;
use super::{Api, Call, json};
use crate::auth::connect::{Secret, Transport};
use crate::desk::{ConnectionOrder, ConnectionQuery, ConnectionView, MessageQuery, MessageState, TopicQuery};
use crate::http::Status;
use crate::service::ServiceReply;

/// What a page holds unless the request says otherwise, and at most.
const LIMIT: u64 = 100;
const LIMIT_MAX: u64 = 1000;

/// Where a token to be checked is sent without a body.
const TOKEN_HEADER: &str = "x-hailer-token";

impl Api {
    pub(super) fn connections(&self, call: &Call<'_>, caller: &Caller<'_>) -> Result<ServiceReply, ApiError> {
        let params =
            Params::parse(&call.request.query, &["user", "topic", "transport", "order", "limit", "after"])?;
        let transports = [("websocket", Transport::WebSocket), ("longpoll", Transport::LongPoll)];
        let orders = [
            ("any", ConnectionOrder::Any),
            ("oldest", ConnectionOrder::Oldest),
            ("slowest", ConnectionOrder::Slowest),
        ];
        let query = ConnectionQuery {
            user: params.owned("user")?,
            topic: params.owned("topic")?,
            transport: params.choice("transport", &transports)?,
            order: params.choice("order", &orders)?.unwrap_or_default(),
            limit: limit(&params)?,
            after: params.owned("after")?,
        };
        if query.after.is_some() && query.order != ConnectionOrder::Any {
            let message = "\"after\" goes on with a list in no order: leave \"order\" out.";
            return Err(ApiError::invalid("after", message));
        }
        require_topic(query.topic.as_deref(), caller)?;
        let mut page = self.desk.inspection.connections(&query);
        page.connections.iter_mut().for_each(|connection| show_own_topics(connection, caller));
        Ok(json(Status::Ok, &page))
    }

    pub(super) fn topics(&self, call: &Call<'_>, caller: &Caller<'_>) -> Result<ServiceReply, ApiError> {
        let params = Params::parse(&call.request.query, &["prefix", "limit"])?;
        let query = TopicQuery { prefix: params.owned("prefix")?, limit: limit(&params)? };
        if !caller.key.is_for(query.prefix.as_deref().unwrap_or_default()) {
            let message =
                "The API key is for some topics alone: give a \"prefix\" that only they begin with.";
            return Err(ApiError::new(Code::TopicForbidden, message).field("prefix"));
        }
        let mut page = self.desk.inspection.topics(&query);
        if !caller.key.is_for_all_topics() {
            // A prefix may also be that of topics which the key is not for; not even their number is told.
            page.topics.retain(|topic| caller.key.is_for(&topic.topic));
            page.total = page.topics.len() as u64;
        }
        Ok(json(Status::Ok, &page))
    }

    pub(super) fn user(&self, call: &Call<'_>, caller: &Caller<'_>) -> Result<ServiceReply, ApiError> {
        Params::parse(&call.request.query, &[])?;
        let Some(user) = id_of(call.id) else {
            let message =
                "A user's id has 255 bytes at most and no control characters; escape it from UTF-8.";
            return Err(ApiError::invalid("id", message));
        };
        self.check_user(&user, caller, || "id".to_owned())?;
        let mut view = self.desk.inspection.user(&user);
        view.connections.iter_mut().for_each(|connection| show_own_topics(connection, caller));
        Ok(json(Status::Ok, &view))
    }

    pub(super) fn history(&self, call: &Call<'_>, caller: &Caller<'_>) -> Result<ServiceReply, ApiError> {
        let params =
            Params::parse(&call.request.query, &["topic", "sender", "state", "text", "limit", "before"])?;
        let states = MessageState::ALL.map(|state| (state.as_str(), state));
        let query = MessageQuery {
            topic: params.owned("topic")?,
            sender: params.owned("sender")?,
            state: params.choice("state", &states)?,
            text: params.owned("text")?,
            limit: limit(&params)?,
            // The store counts with signed numbers.
            before: params.number("before", 0, i64::MAX as u64)?,
        };
        require_topic(query.topic.as_deref(), caller)?;
        Ok(json(Status::Ok, &self.desk.records.messages(&query)?))
    }

    pub(super) fn message(&self, call: &Call<'_>, caller: &Caller<'_>) -> Result<ServiceReply, ApiError> {
        Params::parse(&call.request.query, &[])?;
        let id = id_of(call.id).ok_or_else(no_such_message)?;
        let message = self.find_message(&id, caller)?;
        Ok(json(Status::Ok, &self.with_progress(message)))
    }

    pub(super) fn check_token(&self, call: &Call<'_>) -> Result<ServiceReply, ApiError> {
        Params::parse(&call.request.query, &[])?;
        let token = if call.verb == Verb::Get {
            let Some(token) = call.request.header(TOKEN_HEADER) else {
                let message = "Send the token in the header X-Hailer-Token, once.";
                return Err(ApiError::invalid(TOKEN_HEADER, message));
            };
            if token.is_empty() || token.bytes().any(|byte| !byte.is_ascii_graphic()) {
                let message = "The header X-Hailer-Token holds no token: visible ASCII without spaces.";
                return Err(ApiError::invalid(TOKEN_HEADER, message));
            }
            Secret::new(token)
        } else {
            let object = body::object(&call.request.body, &["token"])?;
            let token = object.text("token")?.ok_or_else(|| object.missing("token"))?;
            if token.is_empty() {
                return Err(object.wrong("token", "must not be empty"));
            }
            Secret::new(token)
        };
        Ok(json(Status::Ok, &self.desk.inspection.check_token(&token)))
    }
}

fn limit(params: &Params<'_>) -> Result<usize, ApiError> {
    // At most a thousand.
    Ok(params.number("limit", 1, LIMIT_MAX)?.unwrap_or(LIMIT) as usize)
}

/// A key that is for some topics must name one of them.
fn require_topic(topic: Option<&str>, caller: &Caller<'_>) -> Result<(), ApiError> {
    match topic {
        Some(topic) => caller.check_topic(topic, || "topic".to_owned()),
        None if caller.key.is_for_all_topics() => Ok(()),
        None => {
            let message =
                "The API key is for some topics alone: name one of them with the parameter \"topic\".";
            Err(ApiError::new(Code::TopicForbidden, message).field("topic"))
        }
    }
}

/// Leaves out the topics that the key is not for.
fn show_own_topics(connection: &mut ConnectionView, caller: &Caller<'_>) {
    if !caller.key.is_for_all_topics() {
        connection.topics.retain(|topic| caller.key.is_for(topic));
        connection.topic_count = connection.topics.len() as u64;
    }
}
