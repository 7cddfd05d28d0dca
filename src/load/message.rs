//! The messages that are published, each of which says which one it is and when it was meant to leave.
//!
//! ```text
//!  [null,null,"room:bench","new_msg",{"body":"m00002xK3f9a1czxxxxx"}]      Phoenix, as it is delivered
//!                                             │└─┬──┘└──┬───┘└─┬─┘
//!                              measured or not ┘ number  time   filler
//! ```
//!
//! Both protocols deliver payloads of the same size. Nothing is parsed as JSON: the envelope is compared byte by byte,
//! and the stamp stands at a fixed place.

use std::fmt;

use super::wire::{TEXT, write_frame};

/// Bytes of a stamp: its kind, the number in 6 digits, the time in 7.
const STAMP_BYTES: usize = 14;
const NUMBER_DIGITS: usize = 6;
const TIME_DIGITS: usize = 7;
/// Times are told modulo this many microseconds, which is 21 hours.
const TIME_MODULO: u64 = 36u64.pow(TIME_DIGITS as u32);

/// The event that carries a message.
const EVENT: &str = r#"","new_msg",{"body":""#;
const HEAD: &str = r#"[null,null,""#;
const TAIL: &str = r#""}]"#;

/// What a message is published for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To find out who gets messages.
    Probe,
    /// Before anything is measured.
    WarmUp,
    /// To be measured.
    Measured,
}

/// What a message says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// What it is published for.
    pub kind: Kind,
    /// Its place among all messages of a run, from 0.
    pub number: u32,
    /// When it was to leave, in microseconds of the monotonic clock.
    pub micros: u64,
}

/// Why there are no messages of this size or topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageError {
    /// A message has at least so many bytes.
    TooSmall(usize),
    /// The topic has characters that JSON escapes.
    Topic(String),
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall(least) => {
                write!(f, "a message here has at least {least} bytes: give --bytes {least}")
            }
            Self::Topic(topic) => {
                write!(f, "the topic {topic:?} has characters that JSON escapes: take another one")
            }
        }
    }
}

/// How the messages of one run look.
#[derive(Debug, Clone)]
pub struct Messages {
    /// Bytes of a payload as it is delivered.
    bytes: usize,
    /// The topic, with Phoenix.
    topic: Option<String>,
    /// What stands before the stamp of a message of that topic.
    head: Vec<u8>,
}

impl Messages {
    /// Text frames without any protocol in them.
    ///
    /// # Errors
    /// If there is no room for a stamp.
    pub fn plain(bytes: usize) -> Result<Self, MessageError> {
        if bytes < STAMP_BYTES {
            return Err(MessageError::TooSmall(STAMP_BYTES));
        }
        Ok(Self { bytes, topic: None, head: Vec::new() })
    }

    /// Messages of a topic of Phoenix.
    ///
    /// # Errors
    /// If there is no room for a stamp in the envelope, or the topic can't stand in JSON as it is.
    pub fn phoenix(topic: &str, bytes: usize) -> Result<Self, MessageError> {
        let this =
            Self { bytes, topic: Some(topic.to_owned()), head: [HEAD, topic, EVENT].concat().into_bytes() };
        this.fits(topic)?;
        Ok(this)
    }

    /// Whether messages of another topic can be of the same size.
    ///
    /// # Errors
    /// If they can't.
    pub fn fits(&self, topic: &str) -> Result<(), MessageError> {
        if topic.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
            return Err(MessageError::Topic(topic.to_owned()));
        }
        let least = HEAD.len() + topic.len() + EVENT.len() + STAMP_BYTES + TAIL.len();
        if self.bytes < least { Err(MessageError::TooSmall(least)) } else { Ok(()) }
    }

    /// The text that fills a message up to its size, stamp first.
    fn body(&self, topic: Option<&str>, stamp: Stamp) -> Vec<u8> {
        let around = topic.map_or(0, |topic| HEAD.len() + topic.len() + EVENT.len() + TAIL.len());
        let mut body = Vec::with_capacity(self.bytes);
        write_stamp(&mut body, stamp);
        body.resize((self.bytes - around).max(STAMP_BYTES), b'x');
        body
    }

    /// Appends the frame with which a client publishes a message; with Phoenix to `topic`, or the messages' own one.
    pub fn write_push(
        &self,
        out: &mut Vec<u8>,
        topic: Option<&str>,
        join_ref: u32,
        push_ref: u32,
        stamp: Stamp,
    ) {
        let topic = topic.or(self.topic.as_deref());
        let body = self.body(topic, stamp);
        let Some(topic) = topic else { return write_frame(out, TEXT, &body) };
        let mut payload = format!(r#"["{join_ref}","{push_ref}","{topic}{EVENT}"#).into_bytes();
        payload.extend_from_slice(&body);
        payload.extend_from_slice(TAIL.as_bytes());
        write_frame(out, TEXT, &payload);
    }

    /// The same as the JSON that the HTTP API takes; nothing for plain messages.
    #[must_use]
    pub fn api_json(&self, topic: Option<&str>, stamp: Stamp) -> String {
        let topic = topic.or(self.topic.as_deref());
        let body = self.body(topic, stamp);
        let (topic, body) = (topic.unwrap_or_default(), String::from_utf8_lossy(&body));
        format!(
            r#"{{"topic":"{topic}","event":"new_msg","payload":{{"body":"{body}"}},"durability":"none"}}"#
        )
    }

    /// The stamp of a payload, if it is a message of these: of the messages' own topic, or of `topic`. `now` tells
    /// which day the time is of.
    #[inline]
    #[must_use]
    pub fn read(&self, payload: &[u8], topic: Option<&str>, now: u64) -> Option<Stamp> {
        if payload.len() != self.bytes {
            return None;
        }
        let stamp = if self.topic.is_none() {
            payload
        } else {
            let rest = match topic {
                None => payload.strip_prefix(self.head.as_slice())?,
                Some(topic) => payload
                    .strip_prefix(HEAD.as_bytes())?
                    .strip_prefix(topic.as_bytes())?
                    .strip_prefix(EVENT.as_bytes())?,
            };
            rest.strip_suffix(TAIL.as_bytes())?
        };
        read_stamp(stamp, now)
    }
}

fn write_stamp(out: &mut Vec<u8>, stamp: Stamp) {
    out.push(match stamp.kind {
        Kind::Probe => b'p',
        Kind::WarmUp => b'w',
        Kind::Measured => b'm',
    });
    write_digits(out, u64::from(stamp.number), NUMBER_DIGITS);
    write_digits(out, stamp.micros % TIME_MODULO, TIME_DIGITS);
}

#[inline]
fn read_stamp(bytes: &[u8], now: u64) -> Option<Stamp> {
    let stamp = bytes.get(..STAMP_BYTES)?;
    let kind = match stamp[0] {
        b'p' => Kind::Probe,
        b'w' => Kind::WarmUp,
        b'm' => Kind::Measured,
        _ => return None,
    };
    let number = u32::try_from(read_digits(&stamp[1..=NUMBER_DIGITS])?).ok()?;
    let time = read_digits(&stamp[1 + NUMBER_DIGITS..])?;
    // The message left before now, and less than a day ago.
    let ago = (now % TIME_MODULO + TIME_MODULO - time) % TIME_MODULO;
    // One that is scheduled can't come before its time, but for the clock's last microsecond.
    let micros = if ago > TIME_MODULO / 2 { now + (TIME_MODULO - ago) } else { now.saturating_sub(ago) };
    Some(Stamp { kind, number, micros })
}

#[allow(clippy::cast_possible_truncation)]
fn write_digits(out: &mut Vec<u8>, mut number: u64, digits: usize) {
    let start = out.len();
    out.resize(start + digits, b'0');
    for place in out[start..].iter_mut().rev() {
        let digit = (number % 36) as u8;
        *place = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        number /= 36;
    }
}

#[inline]
fn read_digits(bytes: &[u8]) -> Option<u64> {
    let mut number = 0;
    for byte in bytes {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            _ => return None,
        };
        number = number * 36 + u64::from(digit);
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::wire::read_frame;

    const STAMP: Stamp = Stamp { kind: Kind::Measured, number: 123_456, micros: 987_654_321_012 };

    /// What a server makes of a push: the frame without its mask and, with Phoenix, without its refs.
    fn delivered(frame: &[u8]) -> String {
        let head = if frame[1] & 0x7f == 126 { 4 } else { 2 };
        let mask = &frame[head..head + 4];
        let payload: Vec<u8> =
            frame[head + 4..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        String::from_utf8(payload).unwrap().replace(r#"["4","7","#, "[null,null,")
    }

    #[test]
    fn a_message_of_any_size_says_which_one_it_is() {
        for bytes in [65, 66, 125, 126, 512, 4_096] {
            for messages in [Messages::plain(bytes), Messages::phoenix("room:lobby", bytes)] {
                let messages = messages.unwrap();
                let mut frame = Vec::new();
                messages.write_push(&mut frame, None, 4, 7, STAMP);
                let payload = delivered(&frame);
                assert_eq!(payload.len(), bytes, "{payload}");
                let read = messages.read(payload.as_bytes(), None, STAMP.micros + 1_000);
                assert_eq!(read, Some(STAMP), "{payload}");
            }
        }
    }

    #[test]
    fn sixty_four_bytes_are_enough_for_the_lobby() {
        let messages = Messages::phoenix("room:lobby", 64).unwrap();
        let mut frame = Vec::new();
        messages.write_push(&mut frame, None, 4, 7, STAMP);
        assert_eq!(delivered(&frame).len(), 64);
        assert_eq!(Messages::phoenix("room:lobby", 59).unwrap_err(), MessageError::TooSmall(60));
        assert_eq!(Messages::plain(13).unwrap_err(), MessageError::TooSmall(14));
        assert!(matches!(Messages::phoenix("a\"b", 200), Err(MessageError::Topic(_))));
    }

    #[test]
    fn a_message_of_a_topic_of_its_own_is_known_there_alone() {
        let messages = Messages::phoenix("room:lobby", 80).unwrap();
        let mut frame = Vec::new();
        messages.write_push(&mut frame, Some("user:17"), 4, 7, STAMP);
        let payload = delivered(&frame);
        assert_eq!(payload.len(), 80);
        let read = |topic| messages.read(payload.as_bytes(), topic, STAMP.micros);
        assert_eq!(read(Some("user:17")), Some(STAMP));
        assert_eq!(read(Some("user:18")), None);
        assert_eq!(read(None), None);
    }

    #[test]
    fn other_payloads_are_no_messages() {
        let messages = Messages::phoenix("room:lobby", 64).unwrap();
        let good = r#"[null,null,"room:lobby","new_msg",{"body":"m00000100000zzxxxx"}]"#;
        assert!(messages.read(good.as_bytes(), None, 2_000).is_some());
        for wrong in [
            r#"[null,null,"room:lobby","new_msg",{"body":"m00000100000zzxxx"}]"#,
            r#"[null,null,"room:lobby","new_msg",{"body":"q00000100000zzxxxx"}]"#,
            r#"[null,null,"room:lobby","new_msg",{"body":"m00000-00000zzxxxx"}]"#,
            r#"[null,null,"room:lobby","old_msg",{"body":"m00000100000zzxxxx"}]"#,
            r#"[null,null,"room:lobby","new_msg",{"body":"m00000100000zzxxxx"}}"#,
        ] {
            assert_eq!(messages.read(wrong.as_bytes(), None, 2_000), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_told_across_the_turn_of_the_day() {
        let messages = Messages::plain(14).unwrap();
        for (left, came) in
            [(5 * TIME_MODULO - 3, 5 * TIME_MODULO + 4), (5 * TIME_MODULO + 1, 5 * TIME_MODULO), (7, 7)]
        {
            let mut body = Vec::new();
            write_stamp(&mut body, Stamp { micros: left, ..STAMP });
            assert_eq!(messages.read(&body, None, came).unwrap().micros, left);
        }
    }

    #[test]
    fn a_plain_push_is_a_text_frame() {
        let mut frame = Vec::new();
        Messages::plain(20).unwrap().write_push(&mut frame, None, 0, 0, STAMP);
        frame[1] &= 0x7f;
        assert_eq!(read_frame(&frame).unwrap().unwrap().opcode, TEXT);
    }
}
