//! Every bound of the server in one struct.
//!
//! A limit has a name with its unit last, a default, a setting (`--limit name=value`, or the field of
//! [`Limits`] for a library user), a counter in the endpoint's statistics, and an error that names it to
//! whoever ran into it.

use std::time::Duration;

use crate::suggest::nearest;

/// What a limit's value is: a count, a number of bytes, or a time.
pub trait Bound: Sized {
    /// Reads a value as a person writes it: `100`, `64KiB`, `10s`, `250ms`, `4w`.
    fn parse(text: &str) -> Option<Self>;
    /// Writes the value in the form that [`parse`](Bound::parse) reads.
    fn show(&self) -> String;
}

impl Bound for usize {
    fn parse(text: &str) -> Option<Self> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: usize = text[..split].parse().ok()?;
        let unit = match &text[split..] {
            "" | "B" => 1,
            "KiB" | "K" => 1024,
            "MiB" | "M" => 1024 * 1024,
            "GiB" | "G" => 1024 * 1024 * 1024,
            _ => return None,
        };
        number.checked_mul(unit)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Bound for Duration {
    fn parse(text: &str) -> Option<Self> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..split].parse().ok()?;
        let millis = match &text[split..] {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        number.checked_mul(millis).map(Self::from_millis)
    }

    fn show(&self) -> String {
        let millis = self.as_millis();
        if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
    }
}

/// Why a limit could not be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitError {
    /// There is no limit of this name.
    UnknownName {
        /// The name that was given.
        name: String,
        /// The existing name that may have been meant, if one is like it.
        nearest: Option<&'static str>,
    },
    /// The value can't be read, or is below the least that makes sense.
    BadValue {
        /// The limit's name.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// The least value allowed.
        least: String,
    },
}

impl std::fmt::Display for LimitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownName { name, nearest: Some(nearest) } => {
                write!(f, "there is no limit named \"{name}\"; did you mean \"{nearest}\"?")
            }
            Self::UnknownName { name, nearest: None } => write!(f, "there is no limit named \"{name}\""),
            Self::BadValue { name, value, least } => {
                write!(f, "\"{value}\" is no value for the limit {name}: give at least {least}")
            }
        }
    }
}

impl std::error::Error for LimitError {}

macro_rules! limits {
    ($($(#[doc = $doc:literal])* $name:ident: $kind:ty = $default:expr, least $least:expr;)*) => {
        /// Every bound of the server. `Limits::default()` is safe for a public network.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Limits {
            $($(#[doc = $doc])* pub $name: $kind,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// Sets the limit called `name` from a text such as `100`, `64KiB` or `10s`.
            ///
            /// # Errors
            /// The name is unknown, or the value can't be read or is too small to work with.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), LimitError> {
                match name {
                    $(stringify!($name) => {
                        let least: $kind = $least;
                        self.$name = <$kind as Bound>::parse(value).filter(|v| *v >= least).ok_or_else(|| {
                            LimitError::BadValue {
                                name: stringify!($name),
                                value: value.to_owned(),
                                least: least.show(),
                            }
                        })?;
                    })*
                    _ => {
                        let nearest = nearest(name, NAMES.iter().copied());
                        return Err(LimitError::UnknownName { name: name.to_owned(), nearest });
                    }
                }
                Ok(())
            }

            /// Every limit as name, value in force and description, in the order of declaration.
            #[must_use]
            pub fn table(&self) -> Vec<(&'static str, String, &'static str)> {
                vec![$((stringify!($name), self.$name.show(), concat!($($doc),*).trim_ascii()),)*]
            }
        }

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

limits! {
    /// Bytes of one HTTP request head; beyond it the answer is 431.
    head_bytes_max: usize = 16 * 1024, least 1024;
    /// Header fields of one HTTP request; beyond it the answer is 431.
    headers_max: usize = 100, least 16;
    /// Bytes of the request target (path and query); beyond it the answer is 414.
    target_bytes_max: usize = 12 * 1024, least 256;
    /// Time from the first wait for a request to the end of its head; then 408 or a plain close.
    head_timeout: Duration = Duration::from_secs(10), least Duration::from_secs(1);
    /// Time a kept-alive HTTP connection may stand idle between two requests.
    keep_alive_timeout: Duration = Duration::from_secs(125), least Duration::from_secs(1);
    /// Requests answered on one HTTP connection before it is closed.
    requests_per_connection_max: usize = 10_000, least 1;
    /// Bytes of one WebSocket frame's payload, refused from its announced length with close code 1009.
    frame_bytes_max: usize = 64 * 1024, least 125;
    /// Bytes of one WebSocket message over all its fragments; beyond it close code 1009.
    message_bytes_max: usize = 64 * 1024, least 125;
    /// Fragments of one WebSocket message; beyond it close code 1009.
    fragments_max: usize = 1024, least 2;
    /// Time without a byte from the client after which a WebSocket is closed.
    idle_timeout: Duration = Duration::from_secs(60), least Duration::from_secs(1);
    /// Tokens of one shard's clients about which it is not yet decided; beyond it a client is refused.
    connects_waiting_max: usize = 20_000, least 1;
    /// Time from a request to the decision whether its client may connect; then it is refused.
    connect_timeout: Duration = Duration::from_secs(10), least Duration::from_millis(250);
    /// Bytes of a token; a longer one is refused before it is decoded.
    token_bytes_max: usize = 8 * 1024, least 256;
    /// Denied tokens and users kept until they run out; beyond it no further one is taken.
    denials_max: usize = 100_000, least 1;
    /// Bytes of the body of one request to the HTTP API or the back office; beyond it the answer is 413.
    request_bytes_max: usize = 8 * 1024 * 1024, least 1024;
    /// Bytes of such bodies that one shard holds at a time, from their first byte to the answer; then 503.
    request_bytes_held_max: usize = 64 * 1024 * 1024, least 1024;
    /// Such requests of one shard that wait for their answers; beyond it the answer is 503.
    requests_waiting_max: usize = 1_000, least 1;
    /// Time from such a request to its answer; then 503.
    request_timeout: Duration = Duration::from_secs(30), least Duration::from_secs(1);
    /// Broadcasts whose receipts one shard counts at a time; beyond it the oldest is given up.
    receipts_tracked_max: usize = 64, least 1;
    /// Time the peer has to answer a close frame, and to end the connection after it.
    close_timeout: Duration = Duration::from_secs(5), least Duration::from_millis(250);
    /// Time a peer that has bytes waiting may go without taking any of them.
    stall_timeout: Duration = Duration::from_secs(30), least Duration::from_secs(1);
    /// Bytes a peer that has more waiting must take within `stall_timeout`.
    stall_bytes_min: usize = 4096, least 1;
    /// Pongs that wait for one client; a further ping is answered in the place of the last one.
    pongs_waiting_max: usize = 16, least 1;
    /// Channels joined at one time on one socket; beyond it the join is refused.
    channels_per_socket_max: usize = 100, least 1;
    /// Bytes of a topic's name.
    topic_bytes_max: usize = 255, least 8;
    /// Bytes of an event's name.
    event_bytes_max: usize = 255, least 8;
    /// Bytes of a ref or join_ref as written in JSON.
    ref_bytes_max: usize = 64, least 8;
    /// Depth of nested arrays and objects in a message from a client.
    json_depth_max: usize = 64, least 4;
    /// Bytes of the frames that wait for one client alone (replies, pushes, pongs). From half of it on, nothing more is
    /// read from the client until it has taken some.
    outbox_bytes_max: usize = 256 * 1024, least 1024;
    /// Bytes of a topic's log that a slow reader may lie behind, for each wire form.
    topic_log_bytes_max: usize = 1024 * 1024, least 4096;
    /// Bytes of broadcasts that wait for one shard; beyond it a publisher is told to try again.
    mailbox_bytes_max: usize = 64 * 1024 * 1024, least 64 * 1024;
    /// Commands that wait for one shard; beyond it the sender is told to try again. Deferred replies are always taken.
    mailbox_commands_max: usize = 1_000_000, least 1024;
    /// Connections of one shard; beyond it a new one is closed at once.
    connections_per_shard_max: usize = 4_000_000, least 1;
    /// Bytes of the body of a long-poll POST; beyond it the answer is 413.
    body_bytes_max: usize = 8 * 1024 * 1024, least 1024;
    /// Time from the head of a POST to the end of its body; then 408.
    body_timeout: Duration = Duration::from_secs(10), least Duration::from_secs(1);
    /// Messages of one long-poll POST; beyond it the answer is 413 and none is handled.
    poll_messages_max: usize = 1000, least 1;
    /// Time a long-poll waits for a message before it is answered 204. phoenix.js gives up after 20 s.
    poll_window: Duration = Duration::from_secs(10), least Duration::from_millis(500);
    /// Long-poll sessions of one shard; beyond it a new one is refused.
    sessions_per_shard_max: usize = 1_000_000, least 1;
    /// Long-poll sessions that one address may have on one shard; beyond it a new one is refused.
    sessions_per_address_max: usize = 20_000, least 1;
    /// Messages of a topic's log that a slow reader may lie behind, for each wire form.
    topic_log_messages_max: usize = 100_000, least 1;
    /// Connections that the kernel holds for a listener until they are accepted.
    listen_backlog: usize = 4096, least 1;
    /// Time the kernel waits for a connection's first bytes before the server sees it (TCP_DEFER_ACCEPT, Linux); 0 is not at all.
    defer_accept: Duration = Duration::from_secs(1), least Duration::ZERO;
    /// Bytes that the kernel takes for one connection ahead of its peer (SO_SNDBUF, which Linux doubles).
    send_buffer_bytes: usize = 64 * 1024, least 4096;
    /// Connections accepted in one turn of a shard's loop.
    accepts_per_turn: usize = 256, least 1;
    /// Reads of one connection in one turn of a shard's loop.
    reads_per_turn: usize = 4, least 1;
    /// Commands and broadcasts taken from the mailbox in one turn of a shard's loop.
    mail_per_turn: usize = 1024, least 1;
    /// Writes between two looks at what else has happened.
    writes_per_turn: usize = 1024, least 1;
    /// Bytes of lines of the log that wait until stderr takes them; beyond it a line is dropped and counted.
    log_bytes_waiting_max: usize = 1024 * 1024, least 64 * 1024;
    /// Time without accepting after the process has run out of descriptors.
    accept_pause: Duration = Duration::from_millis(250), least Duration::from_millis(10);
    /// Time from the first signal until all connections are closed; two seconds later the process ends, whatever hangs.
    drain_timeout: Duration = Duration::from_secs(10), least Duration::from_secs(1);
}

/// Whether broadcasts are sent by io_uring: many with one system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoUring {
    /// Where the system has it and lets the process use it; otherwise they are sent one by one.
    #[default]
    Auto,
    /// The server does not start without it.
    On,
    /// They are sent one by one.
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_set_by_name_with_units() {
        let mut limits = Limits::default();
        limits.set("frame_bytes_max", "128KiB").unwrap();
        limits.set("idle_timeout", "1500ms").unwrap();
        assert_eq!(limits.frame_bytes_max, 128 * 1024);
        assert_eq!(limits.idle_timeout, Duration::from_millis(1500));
    }

    #[test]
    fn times_have_units_from_milliseconds_to_weeks() {
        let check =
            |text, seconds| assert_eq!(Duration::parse(text), Some(Duration::from_secs(seconds)), "{text}");
        check("1000ms", 1);
        check("90", 90);
        check("90s", 90);
        check("2m", 120);
        check("2min", 120);
        check("3h", 10_800);
        check("1d", 86_400);
        check("4w", 2_419_200);
        assert_eq!(Duration::parse("4y"), None);
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_nearest() {
        let error = Limits::default().set("frame_byte_max", "1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no limit named \"frame_byte_max\"; did you mean \"frame_bytes_max\"?"
        );
        let error = Limits::default().set("foo", "1").unwrap_err();
        assert_eq!(error.to_string(), "there is no limit named \"foo\"");
    }

    #[test]
    fn a_value_that_is_unreadable_or_too_small_is_refused() {
        let mut limits = Limits::default();
        for value in ["", "x", "-1", "10", "99999999999999999999", "1TiB"] {
            assert!(limits.set("topic_log_bytes_max", value).is_err(), "{value}");
        }
        assert_eq!(limits, Limits::default());
    }

    #[test]
    fn the_table_shows_values_that_can_be_set_again() {
        let mut limits = Limits::default();
        for (name, value, doc) in Limits::default().table() {
            assert!(!doc.is_empty(), "{name} has no description");
            limits.set(name, &value).unwrap();
        }
        assert_eq!(limits, Limits::default());
    }
}
