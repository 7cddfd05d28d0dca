//! A hook that takes tokens of plain words: the user, then what else is to be said of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hailer::auth::connect::{Answer, Connect, ConnectRequest, Refusal};
use hailer::auth::rights::{Rights, Who};
use hailer::auth::token::{Algorithm, Key, KeyTag, TokenError};
use hailer::auth::{Identity, IdentityParts, UnixTime};
use hailer::channel::{Router, TopicPattern};
use hailer::endpoint::{Admission, Config};
use hailer::notification::{Closed, Restricted, Rule};
use hailer::phoenix::Serializer;
use hailer::testing::{ClientId, Credentials, TestServer};
use serde_json::json;

use super::dialogue::Transport;
use super::probe::Probe;

/// `ada`, `ada,staff`, `ada,exp=1800000600`, `ada,unknown`, `ada,lost` (never answered by itself).
#[derive(Default)]
pub(super) struct Doorman {
    /// What it was asked.
    pub(super) asked: Mutex<Vec<ConnectRequest>>,
    /// Answers it has not given.
    pub(super) kept: Mutex<Vec<Answer>>,
}

impl Connect for Doorman {
    fn connect(&self, request: ConnectRequest, now: UnixTime, answer: Answer) {
        let token = request.token.as_ref().map(|token| token.expose().to_owned());
        self.asked.lock().unwrap().push(request);
        if token.as_ref().is_some_and(|token| token.len() > 40) {
            // A session's token, behind which the user's own is hidden.
            return answer.send(Err(Refusal::Application("no user".into())));
        }
        let Some(token) = token else { return answer.send(Err(Refusal::NoToken)) };
        let mut words = token.split(',');
        let user = words.next().unwrap_or_default();
        let (mut claims, mut expires, mut key) = (json!({"sub": user}), None, None);
        for word in words {
            match word {
                "unknown" => return answer.send(Err(Refusal::UnknownUser)),
                "disabled" => return answer.send(Err(Refusal::DisabledUser)),
                "denied" => return answer.send(Err(Refusal::Denied)),
                "away" => return answer.send(Err(Refusal::Unavailable)),
                "own" => return answer.send(Err(Refusal::Application("not on\nMondays".into()))),
                "dropped" => return drop(answer),
                "kept" => return self.kept.lock().unwrap().push(answer),
                "nobody" => return answer.send(Ok(Identity::new(IdentityParts::default()))),
                _ if word.starts_with("key=") => key = Some(key_of(&word[4..])),
                _ if word.starts_with("jti=") => claims["jti"] = json!(word[4..]),
                _ if word.starts_with("iat=") => claims["iat"] = serde_json::from_str(&word[4..]).unwrap(),
                _ => match word.strip_prefix("exp=").and_then(|time| time.parse().ok()) {
                    Some(time) => expires = Some(time),
                    None => claims[word] = json!(true),
                },
            }
        }
        if expires.is_some_and(|expires| expires <= now) {
            return answer.send(Err(Refusal::Token(TokenError::Expired.into())));
        }
        let identity = Identity::new(IdentityParts {
            user,
            socket_id: &format!("user_socket:{user}"),
            claims: &claims.to_string(),
            account: r#"{"name":"Ada"}"#,
            expires,
            key,
            assigns: Some(Arc::new(7u32)),
        });
        answer.send(Ok(identity));
    }
}

/// The tag of a key of this name.
pub(super) fn key_of(name: &str) -> KeyTag {
    let secret = format!("{name}-dGhlIG5hbWUgbWFrZXMgdGhlIHNlY3JldCBhIGtleSBvZiBpdHMgb3du");
    Key::hmac(Algorithm::HS256, secret.as_bytes(), None).unwrap().tag()
}

/// The rules that the standalone server has by default, and `probe:*` for everyone.
pub(super) fn router() -> Router {
    let staff = Who::Claim { name: "staff".into(), value: json!(true) };
    let lobby = Rights { join: Who::User, push: vec![(Some("new_msg".into()), staff)] };
    let own = Rights { join: Who::Owner, push: Vec::new() };
    let rule = |pattern: &str, rights: Rights| {
        let pattern = TopicPattern::parse(pattern).unwrap();
        Restricted::new(Rule { pattern, rights, payload_bytes_max: Some(64), pushes_per_minute: Some(3) })
    };
    Router::new()
        .channel("room:lobby".parse().unwrap(), rule("room:lobby", lobby))
        .channel("user:{sub}".parse().unwrap(), rule("user:{sub}", own))
        .channel("probe:*".parse().unwrap(), Probe::default())
        .channel("*".parse().unwrap(), Closed)
}

/// A room that only staff may join.
pub(super) fn staff_router() -> Router {
    let join = Who::Claim { name: "staff".into(), value: json!(true) };
    let pattern = TopicPattern::parse("room:staff").unwrap();
    let rights = Rights { join, push: Vec::new() };
    let rule = Rule { pattern: pattern.clone(), rights, payload_bytes_max: None, pushes_per_minute: None };
    Router::new().channel(pattern, Restricted::new(rule))
}

pub(super) fn config(doorman: &Arc<Doorman>) -> Config {
    let connect = Arc::clone(doorman) as Arc<dyn Connect>;
    let admission = Admission {
        expiry_warning: Duration::from_secs(60),
        expiry_grace: Duration::from_secs(25),
        ..Admission::new(connect)
    };
    Config { admission: Some(admission), ..Config::new(router()) }
}

/// A server of the default rules.
pub(super) fn server() -> TestServer {
    TestServer::with_config(&config(&Arc::default()), 1)
}

/// Connects with a token in the query; what the client sees if it is refused.
pub(super) fn try_connect(
    server: &mut TestServer,
    (serializer, transport): (Serializer, Transport),
    token: &str,
) -> Result<ClientId, String> {
    let query = format!("token={token}");
    let credentials = Credentials { query: &query, headers: "" };
    match transport {
        Transport::WebSocket => {
            let client = server.begin_connect(serializer, credentials);
            server.finish_connect(client).map(|()| client)
        }
        Transport::LongPoll => {
            let client = server.begin_long_poll(serializer, credentials);
            server.finish_long_poll(client).map(|()| client).map_err(|answer| answer.to_string())
        }
    }
}

#[track_caller]
pub(super) fn connect(server: &mut TestServer, form: (Serializer, Transport), token: &str) -> ClientId {
    try_connect(server, form, token).unwrap_or_else(|answer| panic!("{token} is refused: {answer}"))
}
