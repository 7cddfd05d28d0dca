//! A message as the server works with it.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Ref, UserBroadcast};

/// A message from a client (`Phoenix.Socket.Message`), borrowed from the bytes that it came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Message<'a> {
    /// The ref of the join that the message belongs to.
    pub join_ref: Option<Ref<'a>>,
    /// The ref that a reply must carry.
    pub message_ref: Option<Ref<'a>>,
    /// The topic.
    pub topic: TopicField<'a>,
    /// The name of the event.
    pub event: Cow<'a, str>,
    /// What the event says.
    pub payload: Payload<'a>,
}

/// The topic of a client's message. It should be a string but may be any JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicField<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// The JSON text of a number, null, …: no topic has this name, and the answer repeats it.
    Other(&'a str),
}

impl TopicField<'_> {
    /// The topic's name, if it is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(topic) => Some(topic),
            Self::Other(_) => None,
        }
    }
}

impl<'a> From<&'a str> for TopicField<'a> {
    fn from(topic: &'a str) -> Self {
        Self::Text(Cow::Borrowed(topic))
    }
}

/// The payload of a message.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// Any JSON value, as its text. Duplicate keys and numbers of any size are left as they are.
    Json(&'a RawValue),
    /// Bytes, which only [`Serializer::V2`](super::Serializer::V2) can carry.
    Binary(&'a [u8]),
    /// Bytes with an event of their own, as Supabase's clients broadcast them; only
    /// [`Serializer::V2`](super::Serializer::V2) can carry it.
    UserBroadcast(UserBroadcast<'a>),
}

impl Payload<'static> {
    /// The payload `{}`.
    #[must_use]
    pub fn empty() -> Self {
        static EMPTY: LazyLock<Box<RawValue>> =
            LazyLock::new(|| RawValue::from_string("{}".to_owned()).expect("{} is JSON"));
        Self::Json(&EMPTY)
    }
}

impl<'a> Payload<'a> {
    /// The JSON text of the payload, if it is JSON.
    #[must_use]
    pub fn as_json_str(self) -> Option<&'a str> {
        match self {
            Self::Json(json) => Some(json.get()),
            Self::Binary(_) | Self::UserBroadcast(_) => None,
        }
    }

    /// Parses the JSON of the payload into a value, which may borrow from it.
    ///
    /// # Errors
    /// The payload is binary, or its JSON has not the shape of a `T`.
    pub fn deserialize<T: Deserialize<'a>>(self) -> Result<T, PayloadError> {
        let json = self.as_json_str().ok_or(PayloadError::Binary)?;
        serde_json::from_str(json).map_err(PayloadError::Mismatch)
    }
}

/// Payloads are equal if their text is, or their bytes are.
impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Json(one), Self::Json(two)) => one.get() == two.get(),
            (Self::Binary(one), Self::Binary(two)) => one == two,
            (Self::UserBroadcast(one), Self::UserBroadcast(two)) => {
                one.event() == two.event() && one.data() == two.data()
            }
            _ => false,
        }
    }
}

impl Eq for Payload<'_> {}

/// Why a payload could not be parsed into a value.
#[derive(Debug)]
#[non_exhaustive]
pub enum PayloadError {
    /// The payload is bytes, not JSON.
    Binary,
    /// The JSON has another shape than the value; says where and how.
    Mismatch(serde_json::Error),
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binary => f.write_str("the payload is binary, not JSON"),
            Self::Mismatch(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PayloadError {}
