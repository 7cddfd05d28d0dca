//! The one place that catches panics of an application's code, its destructors included.
//!
//! A shard is one thread for very many clients, so a panic that leaves a callback, a closure or a destructor of the
//! application ends all of them. Each such place goes through [`call`] or [`dispose`]; what is only dropped at some point
//! is held in [`Guarded`], so that no place can be forgotten. Nothing here helps where the program is built with
//! `panic = "abort"`, or where the application itself panics while it is unwinding.

use std::any::Any;
use std::fmt::{self, Write as _};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::error;

/// Bytes of the description of a failure; a longer one is cut. It goes to the log, and what it holds may come from a
/// client.
pub(crate) const DESCRIPTION_BYTES_MAX: usize = 500;

/// Panic payloads dropped one after the other when each panics while it is dropped; the next one is leaked.
const PAYLOADS_DROPPED_MAX: usize = 8;

/// The application's code has panicked; displayed, it says with what message.
#[derive(Debug)]
pub(crate) struct Panicked(Box<str>);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked: {}", self.0)
    }
}

/// Runs the application's code.
///
/// What the closure has captured is dropped in here as well. The caller answers for what the closure leaves half done.
pub(crate) fn call<T>(code: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(code)).map_err(Panicked::new)
}

/// Drops a value of the application's.
pub(crate) fn dispose<T>(value: T) -> Result<(), Panicked> {
    call(|| drop(value))
}

/// What a value of the application's displays, cut to [`DESCRIPTION_BYTES_MAX`].
pub(crate) fn describe(value: &dyn fmt::Display) -> String {
    let mut excerpt = Excerpt::default();
    if let Err(panicked) = call(|| write!(excerpt, "{value}"))
        // Having been cut short, it may panic over that.
        && !excerpt.cut
    {
        let _ = write!(excerpt, "(its description {panicked})");
    }
    excerpt.finish()
}

/// The beginning of a text, as much as a line of the log has room for.
pub(crate) fn excerpt(text: &str) -> String {
    describe(&text)
}

/// A text that takes no more than its limit.
#[derive(Default)]
struct Excerpt {
    text: String,
    cut: bool,
}

impl Excerpt {
    fn finish(mut self) -> String {
        if self.cut {
            self.text.push('…');
        }
        self.text
    }
}

impl fmt::Write for Excerpt {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = DESCRIPTION_BYTES_MAX - self.text.len();
        let end = (0..=room.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.text.push_str(&text[..end]);
        self.cut |= end < text.len();
        // A value that writes without end is stopped.
        if self.cut { Err(fmt::Error) } else { Ok(()) }
    }
}

impl Panicked {
    /// A panic that was caught with this payload, which is disposed of.
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => excerpt(text),
            (_, Some(text)) => excerpt(text),
            _ => "with a value that is no text".to_owned(),
        };
        drop_payload(payload);
        Self(message.into())
    }
}

/// Drops the payload of a panic, whose destructor may panic itself, with a payload of the same kind.
fn drop_payload(mut payload: Box<dyn Any + Send>) {
    for _ in 0..PAYLOADS_DROPPED_MAX {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    std::mem::forget(payload);
}

/// Where the application's code panics beside its clients' channels.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// A destructor.
    Destructor,
    /// What is called when a tally is complete.
    Tally,
    /// What wakes a shard.
    Waker,
    /// What is called with a user's account.
    #[cfg(feature = "accounts")]
    AccountAnswer,
    /// What is done every few seconds.
    #[cfg(all(feature = "api", feature = "accounts"))]
    Chore,
    /// What reads the configuration again.
    #[cfg(feature = "server")]
    Reload,
}

/// Places there may be; the counters have room for all of them.
const PLACES: usize = 6;

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Destructor => "a destructor",
            Self::Tally => "the callback of a tally",
            Self::Waker => "the waker of a shard",
            #[cfg(feature = "accounts")]
            Self::AccountAnswer => "the callback of a look-up",
            #[cfg(all(feature = "api", feature = "accounts"))]
            Self::Chore => "a periodic task",
            #[cfg(feature = "server")]
            Self::Reload => "the callback of SIGHUP",
        }
    }

    /// Logs a panic here. There is no clock for a budget, and a client may be able to cause one panic after the other: the
    /// first is logged, then the second, the fourth, the eighth …
    pub(crate) fn note(self, panicked: &Panicked) {
        static COUNTS: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];
        let count = COUNTS[self as usize].fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            error!(count, failure = &*panicked.to_string(), "{} has panicked", self.name());
        }
    }
}

/// A value of the application's whose destructor can't end the thread that happens to drop it.
///
/// It is no larger than an `Option` of the value.
pub(crate) struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value, which is no longer guarded.
    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect(IS_THERE)
    }
}

/// Why the value of a [`Guarded`] can be had.
const IS_THERE: &str = "it is there until it is dropped or taken out";

impl<T> Deref for Guarded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect(IS_THERE)
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(IS_THERE)
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take()
            && let Err(panicked) = dispose(value)
        {
            Place::Destructor.note(&panicked);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    #[test]
    fn a_panic_is_caught_with_its_message() {
        assert_eq!(call(|| 7).unwrap(), 7);
        let message = |code: fn()| call(code).unwrap_err().to_string();
        assert_eq!(message(|| panic!("on purpose")), "panicked: on purpose");
        assert_eq!(message(|| panic!("on purpose: {}", 7)), "panicked: on purpose: 7");
        assert_eq!(message(|| panic_any(7)), "panicked: with a value that is no text");
        let long = call(|| panic!("{}", "ü".repeat(100_000))).unwrap_err().to_string();
        assert!(long.len() < DESCRIPTION_BYTES_MAX + 20 && long.ends_with("ü…"), "{long}");
    }

    /// Panics when it is dropped, with another of its kind, as often as it says.
    struct Bomb(u32);

    impl Drop for Bomb {
        fn drop(&mut self) {
            match self.0.checked_sub(1) {
                Some(left) => panic_any(Bomb(left)),
                None => panic!("on purpose"),
            }
        }
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_does_no_harm() {
        for panics in [0, 1, 5, 100] {
            assert!(call(|| panic_any(Bomb(panics))).is_err());
            assert!(dispose(Bomb(panics)).is_err());
        }
        drop(Guarded::new(Bomb(100)));
        // While another panic unwinds, too.
        let caught = call(|| {
            let _guarded = Guarded::new(Bomb(100));
            panic!("the first");
        });
        assert_eq!(caught.unwrap_err().to_string(), "panicked: the first");
        assert_eq!(*Guarded::new(7), 7);
        std::mem::forget(Guarded::new(Bomb(0)).into_inner());
    }

    #[test]
    fn a_guarded_box_is_a_pointer() {
        assert_eq!(size_of::<Guarded<Box<u8>>>(), size_of::<usize>());
        assert_eq!(size_of::<Guarded<Box<dyn Any>>>(), 2 * size_of::<usize>());
    }

    #[test]
    fn a_description_is_cut_and_may_panic() {
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("again and ")?;
                }
            }
        }
        struct Bad(&'static str);
        impl fmt::Display for Bad {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0)?;
                panic!("on purpose");
            }
        }
        assert_eq!(describe(&"short"), "short");
        assert_eq!(describe(&"x".repeat(DESCRIPTION_BYTES_MAX)).len(), DESCRIPTION_BYTES_MAX);
        assert_eq!(describe(&Endless).len(), DESCRIPTION_BYTES_MAX + "…".len());
        assert_eq!(describe(&Bad("it ")), "it (its description panicked: on purpose)");
    }
}
