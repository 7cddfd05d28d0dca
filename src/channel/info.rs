//! What other threads send to a client's channel.

use std::any::Any;
use std::fmt;

use crate::guard::{self, Guarded, Panicked};

/// What any thread sends to a channel's [`handle_info`](super::Channel::handle_info): a value of any type.
///
/// One that is dropped unread, since its channel has ended, may panic in its destructor without harm.
pub struct Info(Guarded<Box<dyn Any + Send>>);

impl Info {
    /// Wraps a value. [`ChannelHandle::send`](super::ChannelHandle::send) does so by itself.
    #[must_use]
    pub fn new(value: impl Any + Send) -> Self {
        Self(Guarded::new(Box::new(value)))
    }

    /// Returns true if the value is of this type.
    #[must_use]
    pub fn is<T: Any>(&self) -> bool {
        (**self.0).is::<T>()
    }

    /// The value, if it is of this type.
    #[must_use]
    pub fn downcast_ref<T: Any>(&self) -> Option<&T> {
        (**self.0).downcast_ref()
    }

    /// Takes the value out, if it is of this type.
    ///
    /// # Errors
    /// It is of another type, and is given back.
    pub fn downcast<T: Any>(self) -> Result<Box<T>, Self> {
        if self.is::<T>() {
            self.0.into_inner().downcast().map_err(|value| Self(Guarded::new(value)))
        } else {
            Err(self)
        }
    }

    /// Drops the value, which no channel handles.
    pub(crate) fn dispose(self) -> Result<(), Panicked> {
        guard::dispose(self.0.into_inner())
    }
}

impl fmt::Debug for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Info")
    }
}
