//! The layout of an input, made so that random bytes are often frames that a decoder accepts:
//!
//! ```text
//! limits, cuts, form, then  form even: frames  [first byte, quirks, length, payload…]*
//!                           form odd:  the bytes on the wire
//! ```

use hailer::limits::Limits;
use hailer::ws::{Decoder, Input, Message, ProtocolError};

/// What a decoder may own beside the bytes of a message: its state and a control frame.
const STATE_BYTES_MAX: usize = 512;

/// Decoding in one piece, cut as the input says, and byte by byte give the same messages and the same
/// error, and the decoder never owns more than the limits and what has arrived allow.
pub(crate) fn check(data: &[u8]) {
    let [limits, cuts, form, rest @ ..] = data else { return };
    let limits = limits_of(*limits);
    let wire = if form % 2 == 0 { wire_of_frames(rest) } else { rest.to_vec() };
    let whole = decode(&wire, &limits, |_| wire.len());
    let (small, big) = (usize::from(cuts % 16) + 1, usize::from(cuts / 16) * 9 + 1);
    let cut = decode(&wire, &limits, |nth| if nth % 2 == 0 { small } else { big });
    assert_eq!(whole, cut, "whole and in pieces of {small} and {big} bytes");
    assert_eq!(whole, decode(&wire, &limits, |_| 1), "whole and byte by byte");
}

fn limits_of(byte: u8) -> Limits {
    let mut limits = Limits::default();
    limits.frame_bytes_max = [125, 200, 1000, 128 * 1024][usize::from(byte % 4)];
    limits.message_bytes_max = [125, 250, 2000, 128 * 1024][usize::from(byte / 4 % 4)];
    limits.fragments_max = [2, 3, 8, 1024][usize::from(byte / 16 % 4)];
    limits
}

/// Frames from their description. A quirk breaks a rule that random bytes would break too often.
fn wire_of_frames(mut description: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    while let [first, quirks, len, rest @ ..] = description {
        let has = |quirk: u8| quirks & quirk != 0;
        let (payload, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        description = rest;
        // The most of it needs a 64-bit length, and a few descriptions are not to become megabytes.
        let times = match quirks & 0x81 {
            0x81 if wire.len() < 200_000 => 320,
            0x01 => 40,
            _ => 1,
        };
        let payload = payload.repeat(times);

        wire.push(if has(0x02) { *first } else { first & !0x70 });
        let announced = payload.len() as u64 + if has(0x04) { 300 } else { 0 };
        let masked = if has(0x08) { 0 } else { 0x80 };
        if announced > 0xffff || has(0x10) {
            wire.push(masked | 127);
            wire.extend((announced | if has(0x20) { 1 << 63 } else { 0 }).to_be_bytes());
        } else if announced > 125 || has(0x40) {
            wire.push(masked | 126);
            wire.extend((announced as u16).to_be_bytes());
        } else {
            wire.push(masked | announced as u8);
        }
        let key = [*first, *quirks, *len, 0xa5];
        if masked != 0 {
            wire.extend(key);
        }
        wire.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    }
    wire
}

/// A message that outlives its input.
#[derive(Debug, PartialEq)]
enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// The messages in `wire`, fed in pieces of `piece_len(0)`, `piece_len(1)`… bytes, and the error at their end.
fn decode(
    wire: &[u8],
    limits: &Limits,
    piece_len: impl Fn(usize) -> usize,
) -> (Vec<Event>, Option<ProtocolError>) {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    let mut bytes = wire.to_vec();
    let mut unread = &mut bytes[..];
    for nth in 0.. {
        let len = piece_len(nth).min(unread.len());
        let Some(piece) = unread.split_off_mut(..len).filter(|piece| !piece.is_empty()) else { break };
        let arrived = wire.len() - unread.len();
        let mut input = Input::new(piece);
        loop {
            match decoder.decode(&mut input, limits) {
                Ok(Some(message)) => events.push(event(&message, limits)),
                Ok(None) => break,
                Err(error) => {
                    assert!(error.reason().len() <= 123, "the reason fits into a close frame");
                    return (events, Some(error));
                }
            }
            check_memory(&decoder, arrived, limits);
        }
        assert!(input.is_empty(), "all of the input is taken over");
        check_memory(&decoder, arrived, limits);
    }
    (events, None)
}

fn check_memory(decoder: &Decoder, arrived: usize, limits: &Limits) {
    let held = decoder.buffered_bytes();
    assert!(held <= limits.message_bytes_max.min(2 * arrived) + STATE_BYTES_MAX, "{held} bytes are held");
    assert_eq!(decoder.is_idle(), held == 0);
}

fn event(message: &Message<'_>, limits: &Limits) -> Event {
    match message {
        Message::Text(text) => {
            assert!(text.len() <= limits.message_bytes_max);
            Event::Text((*text).to_owned())
        }
        Message::Binary(bytes) => {
            assert!(bytes.len() <= limits.message_bytes_max);
            Event::Binary(bytes.to_vec())
        }
        Message::Ping(bytes) => {
            assert!(bytes.len() <= 125);
            Event::Ping(bytes.to_vec())
        }
        Message::Pong(bytes) => {
            assert!(bytes.len() <= 125);
            Event::Pong(bytes.to_vec())
        }
        Message::Close(close) => {
            Event::Close(close.map(|close| (u16::from(close.code), close.reason.to_owned())))
        }
    }
}
