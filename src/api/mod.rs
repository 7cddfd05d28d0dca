//! The HTTP API that back ends call.
//!
//! [`Api`] answers whole requests with what a [`Desk`] says. It has no sockets, threads or clocks: the server calls it
//! on threads of its own. `docs/openapi.json` is its contract, and `docs/api.md` explains it.

mod act;
mod auth;
mod body;
mod error;
mod key;
mod lockout;
mod look;
mod publish;
mod query;
mod route;
mod rules;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;

pub use error::Code;
pub use key::{BadKeyHash, Key, Scope, UnknownScope};

use self::auth::Caller;
use self::error::ApiError;
use self::lockout::Lockout;
use self::query::Params;
use self::route::{Found, Route, Verb};
use crate::desk::{Desk, Durability, UnixMillis};
use crate::http::{MediaType, Status};
use crate::service::{Service, ServiceReply, ServiceRequest};

/// The contract, as it is served.
const OPENAPI: &str = include_str!("../../docs/openapi.json");

/// What prometheus-client writes.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What an [`Api`] goes by.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The keys that may call it. Without one, nobody may.
    pub keys: Vec<Key>,
    /// Messages of one request; beyond it the answer is 413.
    pub messages_per_request_max: usize,
    /// Bytes of one message's payload, as JSON; beyond it the answer is 413.
    pub payload_bytes_max: usize,
    /// Depth of nested arrays and objects in a payload.
    pub json_depth_max: usize,
    /// Bytes of a topic's name.
    pub topic_bytes_max: usize,
    /// Bytes of an event's name.
    pub event_bytes_max: usize,
    /// The longest lifetime that a message can be given.
    pub lifetime_max: Duration,
    /// What is promised to those who ask for nothing else.
    pub default_durability: Durability,
    /// Whether `/metrics` is for everybody who reaches the listener, rather than for keys that may read.
    pub metrics_open: bool,
    /// Wrong keys from one address within a minute; beyond it the answer is 429.
    pub failures_per_minute_max: u32,
}

impl Config {
    /// With these keys, and the defaults.
    #[must_use]
    pub fn new(keys: Vec<Key>) -> Self {
        Self {
            keys,
            messages_per_request_max: 10_000,
            payload_bytes_max: 64 * 1024,
            json_depth_max: 64,
            topic_bytes_max: 255,
            event_bytes_max: 255,
            lifetime_max: Duration::from_secs(30 * 24 * 60 * 60),
            default_durability: Durability::default(),
            metrics_open: true,
            failures_per_minute_max: 20,
        }
    }
}

/// The HTTP API.
pub struct Api {
    desk: Desk,
    config: Config,
    lockout: Lockout,
}

/// A request on its way: where it goes, who makes it, and when.
struct Call<'a> {
    route: Route,
    verb: Verb,
    /// The id at the path's end, as it was sent.
    id: &'a str,
    request: &'a ServiceRequest,
    at: UnixMillis,
}

impl Api {
    /// An API that works on this desk.
    #[must_use]
    pub fn new(desk: Desk, config: Config) -> Self {
        let lockout = Lockout::new(config.failures_per_minute_max);
        Self { desk, config, lockout }
    }

    fn answer(&self, request: &ServiceRequest, at: UnixMillis) -> Result<ServiceReply, ApiError> {
        query::refuse_secrets(&request.query)?;
        let (verb, route, id) = match route::find(request.method, &request.path) {
            Found::Route(verb, route, id) => (verb, route, id),
            Found::Methods(allow) => {
                let message = format!("This path takes {allow} alone.");
                return Err(ApiError::new(Code::MethodNotAllowed, message).header("allow", allow));
            }
            Found::Nothing => {
                let message = "There is nothing at this path; GET /api/v1/openapi.json lists what there is.";
                return Err(ApiError::new(Code::NotFound, message));
            }
        };
        let caller = self.admit(route, request, at)?;
        if verb == Verb::Post {
            check_content_type(request)?;
        }
        let call = Call { route, verb, id, request, at };
        match caller {
            Some(caller) if route != Route::Metrics => self.answer_key(&call, &caller),
            _ => self.answer_anybody(&call),
        }
    }

    fn answer_key(&self, call: &Call<'_>, caller: &Caller<'_>) -> Result<ServiceReply, ApiError> {
        match call.route {
            Route::Publish => self.publish(call, caller),
            Route::Batch => self.batch(call, caller),
            Route::Broadcast => self.broadcast(call, caller),
            Route::Retract => self.retract(call, caller),
            Route::Cancel => self.cancel(call, caller),
            Route::Disconnect => self.disconnect(call, caller),
            Route::Connections => self.connections(call, caller),
            Route::Topics => self.topics(call, caller),
            Route::User => self.user(call, caller),
            Route::History => self.history(call, caller),
            Route::Message => self.message(call, caller),
            Route::TokenCheck => self.check_token(call),
            Route::OpenApi | Route::Live | Route::Ready | Route::Metrics => self.answer_anybody(call),
        }
    }

    /// Answers what needs no key; [`admit`](Self::admit) gives a caller for everything else.
    fn answer_anybody(&self, call: &Call<'_>) -> Result<ServiceReply, ApiError> {
        Params::parse(&call.request.query, &[])?;
        Ok(match call.route {
            Route::OpenApi => ServiceReply::new(Status::Ok).body("application/json", OPENAPI.as_bytes()),
            Route::Live => json(Status::Ok, &serde_json::json!({ "live": true })),
            Route::Ready => {
                let readiness = self.desk.inspection.readiness();
                if readiness.ready {
                    json(Status::Ok, &readiness)
                } else {
                    json(Status::ServiceUnavailable, &readiness).header("retry-after", "1")
                }
            }
            Route::Metrics => {
                let metrics = self.desk.inspection.metrics();
                ServiceReply::new(Status::Ok).body(METRICS_TYPE, metrics.into_bytes())
            }
            _ => return Err(ApiError::new(Code::Unauthorized, "This needs an API key.")),
        })
    }
}

impl Service for Api {
    fn call(&self, request: &ServiceRequest, at: u64) -> ServiceReply {
        self.answer(request, at)
            .unwrap_or_else(ServiceReply::from)
            .header("cache-control", "no-store")
            .header("x-content-type-options", "nosniff")
    }
}

/// Refuses a body that is not announced as JSON. Pages of other sites can send nothing that is, without asking first,
/// and nobody answers their question.
fn check_content_type(request: &ServiceRequest) -> Result<(), ApiError> {
    let media_type = MediaType::read(request.header("content-type").unwrap_or_default().as_bytes());
    if media_type.is("application/json") && media_type.is_utf_8() {
        return Ok(());
    }
    let message = "Send the body as JSON, with the header Content-Type: application/json.";
    Err(ApiError::new(Code::UnsupportedMediaType, message))
}

fn json<T: Serialize>(status: Status, value: &T) -> ServiceReply {
    let body = serde_json::to_vec(value).expect("texts, numbers and JSON can be written as JSON");
    ServiceReply::new(status).body("application/json", body)
}
