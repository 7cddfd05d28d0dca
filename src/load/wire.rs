//! What a WebSocket client writes and reads: frames, and the request that opens them.
//!
//! A load tool's side of the protocol is smaller than a server's: a server's frames are unmasked, and nothing of them
//! is copied.

use std::fmt::{self, Write as _};

use crate::ws;

/// The opcode of a text frame.
pub const TEXT: u8 = 0x1;
/// The opcode of a binary frame.
pub const BINARY: u8 = 0x2;
/// The opcode of a close frame.
pub const CLOSE: u8 = 0x8;
/// The opcode of a ping.
pub const PING: u8 = 0x9;
/// The opcode of a pong.
pub const PONG: u8 = 0xa;

/// The longest frame that is read: more than any server sends to a client that it doesn't want to lose.
const FRAME_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The key of every request. What the server makes of it is the same each time.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// One frame of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What kind it is.
    pub opcode: u8,
    /// Whether a message ends with it.
    pub last: bool,
    /// What it carries.
    pub payload: &'a [u8],
    /// Its length, head and all.
    pub len: usize,
}

/// Bytes that are no frame of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// Only clients mask.
    Masked,
    /// It is longer than 64 MiB.
    TooLong,
    /// Bits that belong to an extension, which was not asked for.
    Extension,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Masked => "the server's frame is masked",
            Self::TooLong => "the server's frame is longer than 64 MiB",
            Self::Extension => "the server's frame uses an extension that was not asked for",
        })
    }
}

/// The frame at the beginning of the bytes; `None` if it is not whole yet.
///
/// # Errors
/// If no server's frame begins so.
#[inline]
#[allow(clippy::cast_possible_truncation)]
pub fn read_frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, WireError> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(WireError::Extension);
    }
    if second & 0x80 != 0 {
        return Err(WireError::Masked);
    }
    let (head, payload) = match second {
        126 => {
            let Some(len) = bytes.get(2..4) else { return Ok(None) };
            (4, u64::from(u16::from_be_bytes([len[0], len[1]])))
        }
        127 => {
            let Some(len) = bytes.get(2..10).and_then(|len| len.try_into().ok()) else { return Ok(None) };
            (10, u64::from_be_bytes(len))
        }
        len => (2, u64::from(len)),
    };
    if payload > FRAME_BYTES_MAX {
        return Err(WireError::TooLong);
    }
    let len = head + payload as usize;
    let Some(payload) = bytes.get(head..len) else { return Ok(None) };
    Ok(Some(Frame { opcode: first & 0x0f, last: first & 0x80 != 0, payload, len }))
}

/// Appends a client's frame, a whole message.
pub fn write_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    ws::write_masked(out, opcode, true, payload);
}

/// Appends the request that asks for a WebSocket, as a browser's but for what is not needed.
pub fn write_upgrade(out: &mut String, host: &str, target: &str) {
    let written = write!(
        out,
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    debug_assert!(written.is_ok(), "a text takes everything");
}

/// The status and the length of an answer's head; `None` if it is not whole yet.
#[must_use]
pub fn read_head(bytes: &[u8]) -> Option<(u16, usize)> {
    let len = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    Some((status.filter(|_| bytes.starts_with(b"HTTP/1.")).unwrap_or(0), len))
}

/// The value of a head's field, whatever the case of its name.
#[must_use]
pub fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let head = std::str::from_utf8(head).ok()?;
    head.split("\r\n").skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's frame.
    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut masked = Vec::new();
        write_frame(&mut masked, opcode, payload);
        let head = masked.len() - payload.len() - 4;
        let mut bytes = masked[..head].to_vec();
        bytes[1] &= 0x7f;
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn frames_of_all_lengths_are_read_when_they_are_whole() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; len];
            let bytes = frame(TEXT, &payload);
            let read = read_frame(&bytes).unwrap().unwrap();
            assert_eq!((read.opcode, read.last, read.len), (TEXT, true, bytes.len()));
            assert_eq!(read.payload, payload);
            for cut in (0..bytes.len()).step_by(1 + len / 100) {
                assert_eq!(read_frame(&bytes[..cut]), Ok(None), "{cut} of {len}");
            }
        }
    }

    #[test]
    fn frames_that_no_server_sends_are_told() {
        let mut masked = Vec::new();
        write_frame(&mut masked, TEXT, b"hi");
        assert_eq!(read_frame(&masked), Err(WireError::Masked));
        assert_eq!(read_frame(&[0xc1, 0]), Err(WireError::Extension));
        assert_eq!(read_frame(&[0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0]), Err(WireError::TooLong));
    }

    #[test]
    fn what_is_masked_is_what_the_server_decodes() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, TEXT, b"hello, server");
        let unmasked: Vec<u8> =
            bytes[6..].iter().zip(bytes[2..6].iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!((bytes[0], bytes[1]), (0x81, 0x80 | 13));
        assert_eq!(unmasked, b"hello, server");
    }

    #[test]
    fn heads_tell_their_status() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nContent-LENGTH: 5 \r\n\r\nrest";
        assert_eq!(read_head(head), Some((101, head.len() - 4)));
        assert_eq!(read_head(&head[..20]), None);
        assert_eq!(read_head(b"SSH-2.0-OpenSSH_9\r\n\r\n").unwrap().0, 0);
        assert_eq!(field(head, "content-length"), Some("5"));
        assert_eq!(field(head, "host"), None);
    }
}
