//! The hook of the standalone server: a token, perhaps an account, never a denied one.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::connect::{Answer, Connect, ConnectRequest, Refusal};
use super::deny::DenyList;
use super::token::{Claims, Verifier};
use super::{Identity, IdentityParts, UnixTime};

/// What stands for the user's id in the template of socket ids.
const USER: &str = "{sub}";

/// Where users are looked up (Guardian: `resource_from_token`).
pub trait Accounts: Send + Sync + 'static {
    /// Finds the user with this id, and calls `answer` with the record, a JSON object, or with why there is none:
    /// at once, or later from any thread. Must not block for longer than it takes to look into a cache.
    fn look_up(&self, user: &str, answer: Box<dyn FnOnce(Result<Arc<str>, Refusal>) + Send>);
}

/// How the ids of sockets are made: `user_socket:{sub}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketIdTemplate {
    before: Box<str>,
    behind: Box<str>,
}

/// The text is no template of socket ids: it needs `{sub}`, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateError;

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a socket id needs {sub} once, where the user's id stands, as in user_socket:{sub}")
    }
}

impl std::error::Error for TemplateError {}

impl SocketIdTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// It does not hold `{sub}`, or more than once.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (before, behind) = text.split_once(USER).ok_or(TemplateError)?;
        if behind.contains(USER) {
            return Err(TemplateError);
        }
        Ok(Self { before: before.into(), behind: behind.into() })
    }

    /// The id of a user's sockets.
    #[must_use]
    pub fn id_of(&self, user: &str) -> String {
        [&self.before, user, &self.behind].concat()
    }
}

impl Default for SocketIdTemplate {
    fn default() -> Self {
        Self { before: "user_socket:".into(), behind: "".into() }
    }
}

/// A verifier that can be replaced while it is asked, when keys are rotated.
#[derive(Clone)]
pub struct SharedVerifier(Arc<RwLock<Arc<Verifier>>>);

impl SharedVerifier {
    /// Shares a verifier.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(verifier))))
    }

    /// The verifier that is in force.
    #[must_use]
    pub fn get(&self) -> Arc<Verifier> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another one into force. Live sockets are for
    /// [`Broker::retain_keys`](crate::broker::Broker::retain_keys).
    pub fn replace(&self, verifier: Verifier) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(verifier);
    }
}

/// Lets in who brings a good token.
pub struct TokenGate {
    /// What a good token is.
    pub verifier: SharedVerifier,
    /// Tokens that are refused although they are good. Whoever adds to it also tells the live sockets
    /// ([`Broker::deny`](crate::broker::Broker::deny)).
    pub denied: Arc<RwLock<DenyList>>,
    /// Where users are looked up, if they are.
    pub accounts: Option<Arc<dyn Accounts>>,
    /// How the ids of sockets are made.
    pub socket_id: SocketIdTemplate,
    /// Lets in those without a token as well, as nobody.
    pub anonymous: bool,
}

impl TokenGate {
    /// Lets in who brings a token that `verifier` finds good and that is not `denied`.
    #[must_use]
    pub fn new(verifier: SharedVerifier, denied: Arc<RwLock<DenyList>>) -> Self {
        Self { verifier, denied, accounts: None, socket_id: SocketIdTemplate::default(), anonymous: false }
    }

    fn check(&self, request: &ConnectRequest, now: UnixTime) -> Result<Claims, Refusal> {
        let token = request.token.as_ref().ok_or(Refusal::NoToken)?;
        let claims = self.verifier.get().verify(token.expose(), now).map_err(Refusal::Token)?;
        let denied = self.denied.read().unwrap_or_else(PoisonError::into_inner);
        if denied.is_denied(&claims, now) { Err(Refusal::Denied) } else { Ok(claims) }
    }
}

impl Connect for TokenGate {
    fn connect(&self, request: ConnectRequest, now: UnixTime, answer: Answer) {
        let claims = match self.check(&request, now) {
            Ok(claims) => claims,
            Err(Refusal::NoToken) if self.anonymous => {
                return answer.send(Ok(Identity::new(IdentityParts::default())));
            }
            Err(refusal) => return answer.send(Err(refusal)),
        };
        let socket_id = self.socket_id.id_of(&claims.subject);
        let Some(accounts) = &self.accounts else {
            return answer.send(Ok(identity(&claims, &socket_id, "")));
        };
        let user = claims.subject.clone();
        accounts.look_up(
            &user,
            Box::new(move |found| answer.send(found.map(|account| identity(&claims, &socket_id, &account)))),
        );
    }
}

fn identity(claims: &Claims, socket_id: &str, account: &str) -> Identity {
    Identity::new(IdentityParts {
        user: &claims.subject,
        socket_id,
        claims: &claims.json,
        account,
        expires: claims.accepted_until,
        key: Some(claims.key),
        assigns: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_id_names_its_user() {
        assert_eq!(SocketIdTemplate::default(), SocketIdTemplate::parse("user_socket:{sub}").unwrap());
        assert_eq!(SocketIdTemplate::default().id_of("ada"), "user_socket:ada");
        assert_eq!(SocketIdTemplate::parse("u/{sub}/s").unwrap().id_of("{sub}"), "u/{sub}/s");
        for text in ["", "user_socket", "{sub}{sub}", "{ sub }"] {
            assert_eq!(SocketIdTemplate::parse(text), Err(TemplateError), "{text}");
        }
    }
}
