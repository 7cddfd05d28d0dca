//! Why a request is refused, and what its sender is told.

use std::borrow::Cow;

use serde::Serialize;

use crate::desk::{DeskError, ErrorCode};
use crate::http::Status;
use crate::service::ServiceReply;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal $status:ident;)*) => {
        /// Names a kind of error for programs. Codes stay as they are from version to version.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $doc])* $name,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code, as replies have it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The status of replies with this code.
            #[must_use]
            pub const fn status(self) -> Status {
                match self { $(Self::$name => Status::$status,)* }
            }
        }
    };
}

codes! {
    /// The body is not JSON in UTF-8.
    InvalidJson = "invalid_json" BadRequest;
    /// A field or parameter is wrong, missing, unknown or there twice.
    InvalidRequest = "invalid_request" BadRequest;
    /// The query holds what looks like a key or a token.
    KeyInQuery = "key_in_query" BadRequest;
    /// Two different keys were given.
    SeveralKeys = "several_keys" BadRequest;
    /// There is no key, or it is not known.
    Unauthorized = "unauthorized" Unauthorized;
    /// The key has not the scope for this.
    Forbidden = "forbidden" Forbidden;
    /// The key is not for this topic.
    TopicForbidden = "topic_forbidden" Forbidden;
    /// There is no such path, or no such thing.
    NotFound = "not_found" NotFound;
    /// The path is there, but not for this method.
    MethodNotAllowed = "method_not_allowed" MethodNotAllowed;
    /// It is not in a state in which this can be done.
    Conflict = "conflict" Conflict;
    /// A request with the same idempotency key is still under way.
    IdempotencyInProgress = "idempotency_in_progress" Conflict;
    /// A payload, or the number of messages, is beyond a limit.
    TooLarge = "too_large" ContentTooLarge;
    /// The body is not announced as JSON.
    UnsupportedMediaType = "unsupported_media_type" UnsupportedMediaType;
    /// The idempotency key was used for something else.
    IdempotencyMismatch = "idempotency_mismatch" UnprocessableContent;
    /// The address has given too many wrong keys.
    TooManyFailures = "too_many_failures" TooManyRequests;
    /// A shard or the store has too much to do.
    Overloaded = "overloaded" ServiceUnavailable;
    /// The store can't be read or written.
    StoreUnavailable = "store_unavailable" ServiceUnavailable;
}

impl From<ErrorCode> for Code {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Invalid => Self::InvalidRequest,
            ErrorCode::TooLarge => Self::TooLarge,
            ErrorCode::NotFound => Self::NotFound,
            ErrorCode::Conflict => Self::Conflict,
            ErrorCode::IdempotencyMismatch => Self::IdempotencyMismatch,
            ErrorCode::IdempotencyInProgress => Self::IdempotencyInProgress,
            ErrorCode::Overloaded => Self::Overloaded,
            ErrorCode::StoreUnavailable => Self::StoreUnavailable,
        }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) code: Code,
    /// One sentence for whoever wrote the client. It repeats names from the request at most, never values.
    message: Cow<'static, str>,
    field: Option<String>,
    headers: Vec<(&'static str, Cow<'static, str>)>,
}

impl ApiError {
    pub(super) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), field: None, headers: Vec::new() }
    }

    /// A field or parameter is wrong.
    pub(super) fn invalid(field: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidRequest, message).field(field)
    }

    /// Says what is wrong in the request.
    pub(super) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Adds a header field to the reply.
    pub(super) fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Takes a prefix off the field's name, for a request of a single message.
    pub(super) fn without_prefix(mut self, prefix: &str) -> Self {
        self.field = self.field.map(|field| field.strip_prefix(prefix).map_or(field.clone(), str::to_owned));
        self
    }
}

impl From<DeskError> for ApiError {
    fn from(error: DeskError) -> Self {
        let code = Code::from(error.code);
        let refused = Self { field: error.field, ..Self::new(code, error.sentence) };
        match code {
            // A mailbox is empty again within moments, a disk is not.
            Code::Overloaded | Code::IdempotencyInProgress => refused.header("retry-after", "1"),
            Code::StoreUnavailable => refused.header("retry-after", "5"),
            _ => refused,
        }
    }
}

/// The body of a refusal.
#[derive(Serialize)]
struct Body<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    docs: String,
}

impl From<ApiError> for ServiceReply {
    fn from(error: ApiError) -> Self {
        let code = error.code.as_str();
        let inner = Inner {
            code,
            message: &error.message,
            field: error.field.as_deref(),
            docs: format!("docs/api.md#{code}"),
        };
        let body = serde_json::to_vec(&Body { error: inner }).expect("texts can be written as JSON");
        let mut reply = Self::new(error.code.status()).body("application/json", body);
        reply.headers.extend(error.headers);
        reply
    }
}
