//! What goes wrong in callbacks, and on the way to a client's channel.

use std::error::Error;
use std::fmt;

use super::PayloadBuf;
use crate::guard::{self, Guarded};
use crate::phoenix::PayloadError;

type BoxedError = Box<dyn Error + Send + Sync>;

/// Why a join was not granted.
#[derive(Debug)]
pub enum JoinError {
    /// The client is answered with status "error" and this response.
    Refused(PayloadBuf),
    /// The handler failed; the client is answered `{"reason":"join crashed"}`, or `{"reason":"invalid payload"}` if the
    /// failure is a [`PayloadError`].
    Crashed(ChannelError),
}

impl JoinError {
    /// A refusal whose response is `{"reason": reason}`.
    #[must_use]
    pub fn reason(reason: &str) -> Self {
        Self::Refused(PayloadBuf::reason(reason))
    }
}

impl<E: Into<BoxedError>> From<E> for JoinError {
    fn from(error: E) -> Self {
        Self::Crashed(ChannelError::from(error))
    }
}

impl From<ChannelError> for JoinError {
    fn from(error: ChannelError) -> Self {
        Self::Crashed(error)
    }
}

/// The failure of a callback.
///
/// Whatever converts into a boxed error converts into it, with `?` as well: every error type, `Box<dyn Error + Send +
/// Sync>`, the errors of the crates anyhow and eyre, `String` and `&str`.
///
/// ```
/// use std::error::Error;
/// use hailer::channel::ChannelError;
///
/// fn find() -> Result<u32, Box<dyn Error + Send + Sync>> {
///     Ok("7".parse()?)
/// }
///
/// fn handle() -> Result<(), ChannelError> {
///     let found = find()?;
///     let small = u8::try_from(found)?;
///     if small == 7 { Ok(()) } else { Err(format!("{small} is not seven"))? }
/// }
/// # handle().unwrap();
/// ```
pub struct ChannelError(Guarded<BoxedError>);

/// What a failed callback means for the client's message.
pub(crate) enum Failure {
    /// The client has sent what the channel can't read; says where.
    InvalidPayload(String),
    /// The channel has failed; says how.
    Crash(String),
}

impl ChannelError {
    /// A failure described in words, for the log.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        message.into().into()
    }

    /// What has happened, for the log, and whose fault it is.
    pub(crate) fn failure(&self) -> Failure {
        let invalid = guard::call(|| chain(&**self.0).find_map(|error| error.downcast_ref().map(place_in)));
        match invalid {
            Ok(Some(place)) => Failure::InvalidPayload(place),
            _ => Failure::Crash(guard::describe(&Chain(&**self.0))),
        }
    }
}

/// Causes of causes that are looked at.
const CAUSES_MAX: usize = 8;

/// An error, and what has caused it.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source()).take(CAUSES_MAX)
}

/// Where a payload is wrong, without the text there: that belongs to the client and not into a log.
fn place_in(error: &PayloadError) -> String {
    match error {
        PayloadError::Binary => "it is binary".to_owned(),
        PayloadError::Mismatch(error) => {
            format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column())
        }
    }
}

/// Displays an error and its causes.
struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, error) in chain(self.0).enumerate() {
            f.write_str(if place == 0 { "" } else { ": " })?;
            fmt::Display::fmt(error, f)?;
        }
        Ok(())
    }
}

impl<E: Into<BoxedError>> From<E> for ChannelError {
    fn from(error: E) -> Self {
        Self(Guarded::new(error.into()))
    }
}

impl fmt::Debug for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.0, f)
    }
}

/// Why something was not sent. Nothing of it has reached a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// A shard's mailbox is full: try again later. The limits are `mailbox_bytes_max` and `mailbox_commands_max`.
    Overloaded,
    /// The server is stopping or has stopped: there is no use in trying again.
    Stopped,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded => f.write_str(
                "a shard's mailbox is full (mailbox_bytes_max, mailbox_commands_max): try again later",
            ),
            Self::Stopped => fmt::Display::fmt(&Stopped, f),
        }
    }
}

impl Error for SendError {}

/// The server has stopped: the reply reaches no client any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server is stopping or has stopped")
    }
}

impl Error for Stopped {}

impl From<Stopped> for SendError {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

/// What was not sent, and why. The value is given back, so that it can be sent later.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Refused<T> {
    /// Why it was not sent.
    pub error: SendError,
    /// What was not sent.
    pub value: T,
}

impl<T> Refused<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Refused<U> {
        Refused { error: self.error, value: change(self.value) }
    }
}

impl<T> fmt::Debug for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<T> Error for Refused<T> {}

impl<T> From<Refused<T>> for SendError {
    fn from(refused: Refused<T>) -> Self {
        refused.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failure of a callback, by `?`.
    fn fail<T, E>(error: E) -> String
    where
        ChannelError: From<E>,
        JoinError: From<E>,
        E: Clone,
    {
        let handled = || -> Result<T, ChannelError> { Err(error.clone())? };
        let joined = || -> Result<T, JoinError> { Err(error.clone())? };
        let of = |error: &ChannelError| match error.failure() {
            Failure::Crash(failure) => failure,
            Failure::InvalidPayload(place) => panic!("no payload is invalid: {place}"),
        };
        let failure = handled().err().map(|error| of(&error)).expect("it has failed");
        match joined() {
            Err(JoinError::Crashed(error)) => assert_eq!(of(&error), failure),
            _ => panic!("an error is a crash"),
        }
        failure
    }

    #[test]
    fn errors_that_are_no_error_types_are_refused_by_the_question_mark() {
        assert_eq!(fail::<(), _>("text"), "text");
        assert_eq!(fail::<(), _>("text".to_owned()), "text");
        assert_eq!(fail::<(), _>(fmt::Error), fmt::Error.to_string());
        let boxed = || -> Result<(), ChannelError> { Err(BoxedError::from("boxed"))? };
        assert_eq!(boxed().unwrap_err().to_string(), "boxed");
        let boxed = || -> Result<(), JoinError> { Err(BoxedError::from("boxed"))? };
        assert!(matches!(boxed(), Err(JoinError::Crashed(_))));
        // A callback's own failure, in a join.
        let own = || -> Result<(), JoinError> { Err(ChannelError::new("own"))? };
        assert!(matches!(own(), Err(JoinError::Crashed(_))));
    }

    #[test]
    fn an_error_of_anyhow_converts_and_its_causes_are_told() {
        let found = || anyhow::Error::from(std::io::Error::other("the disk")).context("no document");
        let handled = || -> Result<(), ChannelError> { Err(found())? };
        let Err(error) = handled() else { panic!("it has failed") };
        assert!(matches!(error.failure(), Failure::Crash(text) if text == "no document: the disk"));
        let joined = || -> Result<(), JoinError> { Err(found())? };
        assert!(matches!(joined(), Err(JoinError::Crashed(_))));
    }

    #[test]
    fn a_payload_that_can_t_be_read_is_told_without_what_it_holds() {
        let json = serde_json::value::to_raw_value("hunter2").unwrap();
        let read =
            || -> Result<u32, ChannelError> { Ok(crate::phoenix::Payload::Json(&json).deserialize()?) };
        match read().unwrap_err().failure() {
            Failure::InvalidPayload(place) => assert_eq!(place, "Data error at line 1 column 9"),
            Failure::Crash(failure) => panic!("{failure}"),
        }
    }
}
