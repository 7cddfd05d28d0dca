//! The extension point: what an application implements, and what it may do.
//!
//! A [`Channel`] handles the topics of one [`TopicPattern`]. One value serves every client of every shard, so
//! what belongs to a single client is kept in its [`Assigns`], reached through the [`Context`]. A callback
//! records what it wants (reply, push, broadcast, stop); the endpoint does it when the callback has returned.
//!
//! ```
//! use hailer::channel::{Channel, ChannelError, Context, JoinError, PayloadBuf};
//! use hailer::phoenix::Payload;
//!
//! struct Room;
//!
//! impl Channel for Room {
//!     fn join(&self, topic: &str, _: Payload<'_>, _: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
//!         if topic == "room:staff" { Err(JoinError::reason("unauthorized")) } else { Ok(PayloadBuf::empty()) }
//!     }
//!
//!     fn handle_in(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
//!         match event {
//!             "shout" => cx.broadcast("shout", payload.into()),
//!             _ => cx.reply_error("unknown event"),
//!         }
//!         Ok(())
//!     }
//! }
//! ```

mod assigns;
mod context;
mod handle;
mod payload;
mod router;

use std::any::Any;
use std::fmt;

use crate::phoenix::Payload;

pub use assigns::Assigns;
pub use context::Context;
pub(crate) use context::{Action, Origin};
pub use handle::{ChannelHandle, DeferredReply, Overloaded};
pub(crate) use handle::{Command, JoinKey, Post, SocketKey};
pub use payload::PayloadBuf;
pub(crate) use router::RouteIndex;
pub use router::{PatternError, Router, SlowReader, TopicPattern};

/// The name of a topic, which its handles share. It has one counter, not two as in [`std::sync::Arc`]: every user may have a
/// topic.
pub(crate) type TopicName = triomphe::Arc<str>;

/// What any thread sends to a channel's [`handle_info`](Channel::handle_info).
pub type Info = Box<dyn Any + Send>;

/// The handler of a family of topics (Phoenix: `Phoenix.Channel`).
///
/// Callbacks run on the event loop and must not block. A callback that panics, or returns an error, ends
/// this client's channel with `phx_error` `{"reason":"channel_crash"}`; the socket, its other channels and
/// all other clients go on.
pub trait Channel: Send + Sync + 'static {
    /// A client asks to join `topic`. `Ok` carries the `response` of the reply. What the callback records on
    /// `cx` is done after the reply. Where a socket joins by itself (`auto_join`), nobody hears the response and
    /// pushes; when the client asks for itself, this is called anew.
    ///
    /// # Errors
    /// [`JoinError::Refused`] is answered with status "error" and its response; nothing stays joined.
    fn join(&self, topic: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<PayloadBuf, JoinError>;

    /// A client pushed `event`.
    ///
    /// # Errors
    /// An error is a crash of this client's channel: the client gets `phx_error` and joins again.
    fn handle_in(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError>;

    /// The events of broadcasts that go through [`handle_out`](Channel::handle_out) for each subscriber,
    /// rather than straight to the wire. Such a broadcast costs a call and an encoding per subscriber.
    fn intercepts(&self) -> &'static [&'static str] {
        &[]
    }

    /// An intercepted broadcast is about to reach this client; nothing is sent unless the callback pushes.
    ///
    /// # Errors
    /// As for [`handle_in`](Channel::handle_in).
    fn handle_out(
        &self,
        event: &str,
        payload: Payload<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ChannelError> {
        cx.push(event, payload.into());
        Ok(())
    }

    /// A thread sent `info` through a [`ChannelHandle`].
    ///
    /// # Errors
    /// As for [`handle_in`](Channel::handle_in).
    fn handle_info(&self, info: Info, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        let _ = (info, cx);
        Ok(())
    }

    /// The client has given a fresh token: `cx.current_user()` is what that says. A channel that the user may
    /// no longer have [stops](Context::stop) here.
    ///
    /// # Errors
    /// As for [`handle_in`](Channel::handle_in).
    fn handle_renewal(&self, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        let _ = cx;
        Ok(())
    }

    /// The channel has ended for this client. It is no longer subscribed; broadcasts recorded here reach the
    /// others, replies and pushes reach nobody.
    fn terminate(&self, reason: Ended, cx: &mut Context<'_>) {
        let _ = (reason, cx);
    }
}

/// Why a client's channel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The client left the topic.
    Left,
    /// The client joined the topic again; another join has taken this one's place.
    Replaced,
    /// The handler stopped it.
    Stopped,
    /// A callback panicked or returned an error.
    Crashed,
    /// The client's connection or session ended.
    Disconnected,
}

/// Why a join was not granted.
#[derive(Debug)]
pub enum JoinError {
    /// The client is answered with status "error" and this response.
    Refused(PayloadBuf),
    /// The handler failed; the client is answered `{"reason":"join crashed"}`.
    Crashed(ChannelError),
}

impl JoinError {
    /// A refusal whose response is `{"reason": reason}`.
    #[must_use]
    pub fn reason(reason: &str) -> Self {
        Self::Refused(PayloadBuf::reason(reason))
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for JoinError {
    fn from(error: E) -> Self {
        Self::Crashed(error.into())
    }
}

/// The failure of a callback; any error type converts into it with `?`.
pub struct ChannelError(Box<dyn std::error::Error + Send + Sync>);

impl ChannelError {
    /// A failure described in words, for the log.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into().into())
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for ChannelError {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Debug for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
