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
mod error;
mod handle;
mod info;
mod payload;
mod router;

use crate::phoenix::Payload;

pub use assigns::Assigns;
pub use context::Context;
pub(crate) use context::{Action, Origin};
pub(crate) use error::Failure;
pub use error::{ChannelError, JoinError, Refused, SendError, Stopped};
pub use handle::{ChannelHandle, DeferredReply};
pub(crate) use handle::{Command, JoinKey, PendingReply, Post, SocketKey};
pub use info::Info;
pub use payload::PayloadBuf;
pub(crate) use router::RouteIndex;
pub use router::{PatternError, Router, SlowReader, TopicPattern};

/// The name of a topic, which its handles share. It has one counter, not two as in [`std::sync::Arc`]: every user may have a
/// topic.
pub(crate) type TopicName = triomphe::Arc<str>;

/// The handler of a family of topics (Phoenix: `Phoenix.Channel`).
///
/// Callbacks run on the event loop and must not block.
///
/// # Failures
///
/// A callback that panics or returns an error ends this client's channel with `phx_error`
/// `{"reason":"channel_crash"}`, and [`terminate`](Self::terminate) is called with [`Ended::Crashed`]. The socket, its
/// other channels and all other clients go on. Nothing that the failed callback has recorded on its [`Context`] is done;
/// what it has changed in the assigns stays. The log has a line about it, at most 20 such lines a second for each shard.
///
/// | what fails | what happens |
/// |---|---|
/// | `join` | The reply has status "error" and `{"reason":"join crashed"}`; nothing stays joined, and `terminate` is not called. |
/// | `join` or `handle_in`, with an error that is or is caused by a [`PayloadError`](crate::phoenix::PayloadError), as `payload.deserialize()?` returns it | No crash: the message is answered with status "error" and `{"reason":"invalid payload"}`; a channel that was joined goes on. |
/// | `handle_in`, `handle_out`, `handle_info`, `handle_renewal` | The channel crashes as described above. |
/// | `intercepts` | The broadcast goes through `handle_out`. |
/// | `terminate`, the destructor of a value in the [`Assigns`] | The channel ends all the same; the other values are dropped. |
/// | any other destructor (of an [`Info`], of an error, of the payload of a panic, of the channel itself), `Display` of an error | It is logged. |
///
/// Three things undo this isolation:
///
/// - A second panic in one call, while the first one unwinds, aborts the process, as it does in every Rust program: a
///   destructor of a local variable must not panic. The same goes for panics of the panic hook.
/// - With `panic = "abort"` in the profile, every panic ends the process.
/// - A panic while a `Mutex` of the channel's own is held poisons it. With `lock().unwrap()`, every later callback of every
///   client panics as well. Hold locks shortly, and take a poisoned one with
///   `lock().unwrap_or_else(PoisonError::into_inner)` where the value can't be half changed.
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
