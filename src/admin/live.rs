//! What keeps pages up to date: the admin socket's hook and topics.

use std::sync::Arc;

use crate::auth::connect::{Answer, Connect, ConnectRequest, Refusal, Verdict};
use crate::auth::{Identity, IdentityParts, UnixTime};
use crate::channel::{Channel, ChannelError, Context, JoinError, PayloadBuf, Router};
use crate::phoenix::Payload;

use super::office::Office;
use super::places::is_id;

/// The topic of the figures in every page's header.
const OVERVIEW: &str = "admin:overview";
/// How the topics of single messages begin.
const MESSAGE: &str = "admin:message:";
/// The event that says how far a message has got.
const PROGRESS: &str = "progress";

pub(super) fn connect_hook(office: Arc<Office>) -> Arc<dyn Connect> {
    Arc::new(Gate(office))
}

pub(super) fn router(office: Arc<Office>) -> Router {
    let pattern = "admin:*".parse().expect("it is a pattern");
    Router::new().channel(pattern, Live(office))
}

/// Lets in who has a session.
struct Gate(Arc<Office>);

impl Gate {
    fn decide(&self, request: &ConnectRequest, now: UnixTime) -> Verdict {
        let office = &self.0;
        let header = request.cookie.as_ref().ok_or(Refusal::NoToken)?;
        let cookie = office.cookie_of_socket(header.expose()).ok_or(Refusal::NoToken)?;
        let found = office.sessions.look(cookie, now.saturating_mul(1000));
        let (session, until) = found.ok_or(Refusal::Application("the session has ended".into()))?;
        match office.stands(&session) {
            Ok(true) => {}
            Ok(false) => {
                office.end(session.key);
                return Err(Refusal::DisabledUser);
            }
            Err(_) => return Err(Refusal::Unavailable),
        }
        Ok(Identity::new(IdentityParts {
            user: &session.account,
            socket_id: &session.key.socket_id(),
            expires: Some(until / 1000),
            ..IdentityParts::default()
        }))
    }
}

impl Connect for Gate {
    fn connect(&self, request: ConnectRequest, now: UnixTime, answer: Answer) {
        // A page's socket says who it is by its cookie; there is no token that could be renewed.
        let refused = request.renewal.then_some(Err(Refusal::NoToken));
        answer.send(refused.unwrap_or_else(|| self.decide(&request, now)));
    }
}

/// The topics of the back office.
struct Live(Arc<Office>);

impl Channel for Live {
    fn join(&self, topic: &str, _: Payload<'_>, cx: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        // A session may end between its socket's verdict and this; from here on the socket is found and closed.
        let here = cx.current_user().is_some_and(|user| self.0.sessions.has_sockets(user.socket_id()));
        if !here {
            return Err(JoinError::reason("unauthorized"));
        }
        if topic == OVERVIEW {
            return Ok(PayloadBuf::empty());
        }
        match topic.strip_prefix(MESSAGE) {
            Some(id) if is_id(id) => {}
            _ => return Err(JoinError::reason("unmatched topic")),
        }
        let progress = topic.strip_prefix(MESSAGE).and_then(|id| self.0.desk.publishing.progress(id));
        let Some(progress) = progress else { return Ok(PayloadBuf::empty()) };
        let payload = PayloadBuf::json(&progress)?;
        cx.push(PROGRESS, payload.clone());
        Ok(payload)
    }

    fn handle_in(&self, _: &str, _: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        cx.reply_error("these topics are for listening");
        Ok(())
    }
}
