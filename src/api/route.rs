//! Which request goes where, and who may make it.

use super::key::Scope;
use crate::http::Method;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Publish,
    Batch,
    Broadcast,
    Retract,
    Cancel,
    Disconnect,
    Connections,
    Topics,
    User,
    History,
    Message,
    TokenCheck,
    OpenApi,
    Live,
    Ready,
    Metrics,
}

/// The two kinds of methods there are. `Get` is `HEAD` as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Post,
}

impl Verb {
    const fn of(method: Method) -> Option<Self> {
        match method {
            Method::Get | Method::Head => Some(Self::Get),
            Method::Post => Some(Self::Post),
            Method::Put | Method::Delete | Method::Options | Method::Patch | Method::Trace => None,
        }
    }
}

/// Who may make a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Everybody,
    Key(Scope),
    /// Everybody if the settings say so, else keys that may read.
    Metrics,
}

/// What stands for an id at a path's end.
const ID: &str = "{id}";

/// All paths, as the OpenAPI file has them.
pub(super) const ROUTES: &[(Verb, &str, Route)] = &[
    (Verb::Post, "/api/v1/publish", Route::Publish),
    (Verb::Post, "/api/v1/batch", Route::Batch),
    (Verb::Post, "/api/v1/retract", Route::Retract),
    (Verb::Post, "/api/v1/cancel", Route::Cancel),
    (Verb::Post, "/api/v1/disconnect", Route::Disconnect),
    (Verb::Get, "/api/v1/connections", Route::Connections),
    (Verb::Get, "/api/v1/topics", Route::Topics),
    (Verb::Get, "/api/v1/users/{id}", Route::User),
    (Verb::Get, "/api/v1/history", Route::History),
    (Verb::Get, "/api/v1/messages/{id}", Route::Message),
    (Verb::Get, "/api/v1/token/check", Route::TokenCheck),
    (Verb::Post, "/api/v1/token/check", Route::TokenCheck),
    (Verb::Get, "/api/v1/openapi.json", Route::OpenApi),
    (Verb::Post, "/api/broadcast", Route::Broadcast),
    (Verb::Get, "/live", Route::Live),
    (Verb::Get, "/ready", Route::Ready),
    (Verb::Get, "/metrics", Route::Metrics),
];

impl Route {
    pub(super) const fn access(self) -> Access {
        match self {
            Self::Publish | Self::Batch | Self::Broadcast | Self::Retract | Self::Cancel => {
                Access::Key(Scope::Publish)
            }
            Self::Disconnect => Access::Key(Scope::Disconnect),
            Self::Connections
            | Self::Topics
            | Self::User
            | Self::History
            | Self::Message
            | Self::TokenCheck => Access::Key(Scope::Read),
            Self::OpenApi | Self::Live | Self::Ready => Access::Everybody,
            Self::Metrics => Access::Metrics,
        }
    }
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// There, with the id at the path's end as it was sent.
    Route(Verb, Route, &'a str),
    /// The path takes these methods alone.
    Methods(&'static str),
    /// Nowhere.
    Nothing,
}

pub(super) fn find(method: Method, path: &str) -> Found<'_> {
    let verb = Verb::of(method);
    let (mut get, mut post) = (false, false);
    for (own, pattern, route) in ROUTES {
        let Some(id) = id_in(pattern, path) else { continue };
        if verb == Some(*own) {
            return Found::Route(*own, *route, id);
        }
        get |= *own == Verb::Get;
        post |= *own == Verb::Post;
    }
    match (get, post) {
        (true, true) => Found::Methods("GET, HEAD, POST"),
        (true, false) => Found::Methods("GET, HEAD"),
        (false, true) => Found::Methods("POST"),
        (false, false) => Found::Nothing,
    }
}

/// What stands in `path` where `pattern` has an id: nothing if it has none, `None` if they don't match.
fn id_in<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    match pattern.strip_suffix(ID) {
        Some(before) => path.strip_prefix(before).filter(|id| !id.is_empty() && !id.contains('/')),
        None => (path == pattern).then_some(""),
    }
}
