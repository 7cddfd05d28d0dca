//! Whose key a request carries.

use std::borrow::Cow;

use tracing::warn;

use super::error::{ApiError, Code};
use super::key::{Key, Scope};
use super::lockout::Failure;
use super::route::{Access, Route};
use super::{Api, Call};
use crate::auth::connect::Secret;
use crate::desk::{Actor, ActorKind, AuditEntry, DeskError, UnixMillis};
use crate::service::ServiceRequest;

/// Who makes a request: a key, and what records call it.
pub(super) struct Caller<'k> {
    pub(super) key: &'k Key,
    pub(super) actor: Actor,
}

impl Caller<'_> {
    /// Refuses a topic that the key is not for.
    pub(super) fn check_topic(&self, topic: &str, field: impl FnOnce() -> String) -> Result<(), ApiError> {
        if self.key.is_for(topic) {
            return Ok(());
        }
        let error = ApiError::new(Code::TopicForbidden, "The API key is not for this topic.");
        Err(error.field(field()))
    }
}

impl Api {
    /// Lets a request pass, and says whose it is. `None` where everybody may ask.
    pub(super) fn admit(
        &self,
        route: Route,
        request: &ServiceRequest,
        at: UnixMillis,
    ) -> Result<Option<Caller<'_>>, ApiError> {
        let scope = match route.access() {
            Access::Everybody => return Ok(None),
            Access::Metrics if self.config.metrics_open => return Ok(None),
            Access::Metrics => Scope::Read,
            Access::Key(scope) => scope,
        };
        let presented = presented(request, route == Route::Broadcast)?;
        let key = Key::find(&self.config.keys, &presented).ok_or_else(|| self.count_failure(request, at))?;
        if !key.scopes.contains(&scope) {
            let message = format!("The API key has not the scope \"{scope}\".");
            return Err(ApiError::new(Code::Forbidden, message));
        }
        let actor = Actor { kind: ActorKind::Key, name: key.name.clone(), address: Some(request.peer) };
        Ok(Some(Caller { key, actor }))
    }

    /// A wrong key came. A good one is let in from an address that is locked out: nobody can guess 256 bits, and
    /// one client with an outdated key must not keep out those that share its address.
    fn count_failure(&self, request: &ServiceRequest, at: UnixMillis) -> ApiError {
        self.desk.guesses.wrong_key();
        let Failure::TooMany { seconds, begins } = self.lockout.fail(request.peer, at) else {
            return unauthorized("The API key is not known.");
        };
        if begins {
            self.desk.guesses.lockout();
            let failures = self.config.failures_per_minute_max;
            warn!(address = %request.peer, failures, "an address gives wrong API keys");
            self.record_lockout(request, at);
        }
        let message = "Too many wrong API keys came from this address: wait as long as Retry-After says.";
        ApiError::new(Code::TooManyFailures, message).header("retry-after", seconds.to_string())
    }

    fn record_lockout(&self, request: &ServiceRequest, at: UnixMillis) {
        let nobody =
            Actor { kind: ActorKind::Local, name: "unknown".to_owned(), address: Some(request.peer) };
        let address = request.peer.to_string();
        self.record_outcome(&AuditEntry::new(&nobody, at, "locked", &address, "wrong API keys".to_owned()));
    }

    /// Does something that has no record of its own, with an entry in the audit log before it: what can't be written
    /// is not done. If it fails, a second entry says why.
    pub(super) fn audited<T>(
        &self,
        call: &Call<'_>,
        caller: &Caller<'_>,
        (action, subject, detail): (&str, &str, String),
        act: impl FnOnce() -> Result<T, DeskError>,
    ) -> Result<T, ApiError> {
        self.desk.records.append_audit(&AuditEntry::new(&caller.actor, call.at, action, subject, detail))?;
        act().map_err(|error| {
            let (action, why) = (format!("{action}_failed"), error.code.as_str().to_owned());
            self.record_outcome(&AuditEntry::new(&caller.actor, call.at, &action, subject, why));
            error.into()
        })
    }

    /// Writes down what has happened already, so that a log that fails can't undo it.
    fn record_outcome(&self, entry: &AuditEntry) {
        if let Err(error) = self.desk.records.append_audit(entry) {
            warn!(action = %entry.action, %error, "an outcome was not written to the audit log");
        }
    }
}

fn unauthorized(message: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(Code::Unauthorized, message).header("www-authenticate", "Bearer realm=\"hailer\"")
}

/// The key that a request carries; `apikey` is where Supabase's clients put theirs.
fn presented(request: &ServiceRequest, with_apikey: bool) -> Result<Secret, ApiError> {
    let mut found: Option<&[u8]> = None;
    for (name, value) in &request.headers {
        let key = match name.as_str() {
            "authorization" => bearer(value),
            "x-api-key" => value.as_slice(),
            "apikey" if with_apikey => value.as_slice(),
            _ => continue,
        };
        match found {
            _ if key.is_empty() => {}
            Some(other) if other != key => {
                let message = "The request carries two different API keys: send one.";
                return Err(ApiError::new(Code::SeveralKeys, message));
            }
            _ => found = Some(key),
        }
    }
    // A key that is not UTF-8 is one that nobody has.
    found.map(|key| Secret::new(String::from_utf8_lossy(key))).ok_or_else(|| {
        unauthorized("Send an API key in the header Authorization: Bearer <key>, or in X-API-Key.")
    })
}

/// The key in an `Authorization` field, whose scheme is compared without regard to case (RFC 9110, section 11.1).
/// Other schemes are between a client and a proxy.
fn bearer(value: &[u8]) -> &[u8] {
    let at = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, key) = value.split_at(at);
    if scheme.eq_ignore_ascii_case(b"bearer") { key.trim_ascii() } else { b"" }
}
