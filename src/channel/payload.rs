//! A payload that is owned: recorded by a callback, or carried between threads.

use std::fmt;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::phoenix::{Payload, UserBroadcastBuf};

/// The payload of a message to be sent: JSON as text, or bytes (Phoenix: `{:binary, data}`).
#[derive(Clone)]
pub enum PayloadBuf {
    /// JSON text, not parsed any further on its way.
    Json(Box<RawValue>),
    /// Raw bytes; only clients of serializer V2 can get them.
    Binary(Box<[u8]>),
    /// Raw bytes with an event of their own, as Supabase's clients broadcast them; only clients of serializer V2 can
    /// get them, and only those of Supabase can read them.
    UserBroadcast(UserBroadcastBuf),
}

impl PayloadBuf {
    /// The JSON of `value`.
    ///
    /// # Errors
    /// `value` can't be written as JSON: a map whose keys are no strings, or its own `Serialize` fails.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        to_raw_value(value).map(Self::Json)
    }

    /// `{}`
    #[must_use]
    pub fn empty() -> Self {
        Payload::empty().into()
    }

    /// `{"reason": reason}`, the usual response of an error.
    #[must_use]
    pub fn reason(reason: &str) -> Self {
        Self::from(serde_json::json!({ "reason": reason }))
    }

    /// The payload, borrowed.
    #[must_use]
    pub fn as_payload(&self) -> Payload<'_> {
        match self {
            Self::Json(json) => Payload::Json(json),
            Self::Binary(bytes) => Payload::Binary(bytes),
            Self::UserBroadcast(broadcast) => Payload::UserBroadcast(broadcast.as_ref()),
        }
    }

    /// Bytes of the JSON text or of the data (with the event that it has of its own).
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Json(json) => json.get().len(),
            Self::Binary(bytes) => bytes.len(),
            Self::UserBroadcast(broadcast) => broadcast.len(),
        }
    }

    /// Whether there are no bytes at all, which only a binary payload can be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<serde_json::Value> for PayloadBuf {
    fn from(value: serde_json::Value) -> Self {
        // A `Value` has string keys and finite numbers alone, so it can always be written.
        Self::Json(to_raw_value(&value).expect("a JSON value is JSON"))
    }
}

impl From<Payload<'_>> for PayloadBuf {
    fn from(payload: Payload<'_>) -> Self {
        match payload {
            Payload::Json(json) => Self::Json(json.to_owned()),
            Payload::Binary(bytes) => Self::Binary(bytes.into()),
            Payload::UserBroadcast(broadcast) => Self::UserBroadcast(broadcast.into()),
        }
    }
}

impl fmt::Debug for PayloadBuf {
    /// Sizes only: payloads belong to users and don't go to logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(json) => write!(f, "Json({} bytes)", json.get().len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
            Self::UserBroadcast(broadcast) => write!(f, "UserBroadcast({} bytes)", broadcast.len()),
        }
    }
}
