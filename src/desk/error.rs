//! Why something was not done.

use std::borrow::Cow;
use std::fmt;

/// Names a kind of error for programs. Codes stay as they are from version to version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Something that was given is wrong: see the sentence, and the field.
    Invalid,
    /// The payload, or the number of messages, is beyond a limit.
    TooLarge,
    /// There is no such thing.
    NotFound,
    /// It is not in a state in which this can be done.
    Conflict,
    /// The idempotency key was used for something else.
    IdempotencyMismatch,
    /// A request with the same idempotency key is still under way.
    IdempotencyInProgress,
    /// A shard or the store has too much to do: try again later.
    Overloaded,
    /// The store can't be read or written: nothing was published.
    StoreUnavailable,
}

impl ErrorCode {
    /// The code, as replies have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid_request",
            Self::TooLarge => "too_large",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::IdempotencyInProgress => "idempotency_in_progress",
            Self::Overloaded => "overloaded",
            Self::StoreUnavailable => "store_unavailable",
        }
    }
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeskError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: one sentence, without secrets.
    pub sentence: Cow<'static, str>,
    /// What was wrong in the request, such as `messages[3].topic`.
    pub field: Option<String>,
}

impl DeskError {
    /// An error without a field.
    #[must_use]
    pub fn new(code: ErrorCode, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self { code, sentence: sentence.into(), field: None }
    }

    /// Something that was given is wrong.
    #[must_use]
    pub fn invalid(field: impl Into<String>, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self { code: ErrorCode::Invalid, sentence: sentence.into(), field: Some(field.into()) }
    }
}

impl fmt::Display for DeskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for DeskError {}
