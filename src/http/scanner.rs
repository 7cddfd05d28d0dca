//! Where a request head ends.

use memchr::memchr;

use super::HeadError;
use super::syntax::is_token_byte;
use crate::limits::Limits;

/// What a request line holds beside its target: a method, two spaces, a version and a carriage return.
/// Generous, since [`parse_head`](super::parse_head) measures the target itself.
const REQUEST_LINE_REST_MAX: usize = 64;

/// The first byte of a TLS record that holds a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Finds the end of a request head, and refuses early what can't become one.
///
/// It remembers how far it has looked, so a head costs time linear in its bytes even when they come one
/// at a time. One scanner serves one head; the next request on the connection starts with a new one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadScanner {
    /// All bytes before this one have been looked at.
    looked: usize,
    /// Where the line that `looked` lies in begins.
    line_start: usize,
    /// Whether the request line has ended.
    in_fields: bool,
    /// How many bytes were looked at over all calls.
    #[cfg(test)]
    work: usize,
}

impl HeadScanner {
    /// The number of bytes of the head that `bytes` begins with, its empty line included; `None` when more
    /// bytes are needed.
    ///
    /// `bytes` begins where the request begins and has only grown since the last call. The answer, errors
    /// included, does not depend on how the bytes were cut into calls.
    ///
    /// # Errors
    /// No further bytes can make this a request: it is too long already (414, 431), begins with what is no
    /// method (400, with a hint for TLS), or has a line that ends with a bare line feed (400).
    pub fn find(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, HeadError> {
        let end = bytes.len().min(limits.head_bytes_max);
        let line_max = limits.target_bytes_max.saturating_add(REQUEST_LINE_REST_MAX);
        loop {
            if !self.in_fields {
                check_first(bytes.get(self.line_start).copied())?;
            }
            let ahead = bytes.get(self.looked..end).unwrap_or_default();
            let line_feed = memchr(b'\n', ahead).map(|at| self.looked + at);
            let line_end = line_feed.unwrap_or(end);
            #[cfg(test)]
            {
                self.work += line_end.saturating_sub(self.looked);
            }
            // The length comes first: had the bytes come one by one, it would have been seen first.
            if !self.in_fields && line_end.saturating_sub(self.line_start) > line_max {
                return Err(HeadError::TargetTooLong);
            }
            let Some(line_feed) = line_feed else {
                self.looked = self.looked.max(end);
                return if end == limits.head_bytes_max { Err(HeadError::HeadTooLarge) } else { Ok(None) };
            };
            match bytes.get(self.line_start..line_feed) {
                Some(b"\r") if self.in_fields => return Ok(Some(line_feed + 1)),
                Some(b"\r") if self.line_start == 0 => {}
                Some(b"\r") => return Err(HeadError::EmptyLines),
                Some([.., b'\r']) => self.in_fields = true,
                _ => return Err(HeadError::LineEnding),
            }
            self.looked = line_feed + 1;
            self.line_start = self.looked;
        }
    }
}

/// Checks the first byte of what should be a request line, or the empty line that may precede it.
fn check_first(first: Option<u8>) -> Result<(), HeadError> {
    match first {
        Some(TLS_HANDSHAKE) => Err(HeadError::TlsHandshake),
        Some(b'\n') => Err(HeadError::LineEnding),
        Some(byte) if byte != b'\r' && !is_token_byte(byte) => Err(HeadError::RequestLine),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = Result<Option<usize>, HeadError>;

    fn whole(bytes: &[u8], limits: &Limits) -> Answer {
        HeadScanner::default().find(bytes, limits)
    }

    fn bytewise(bytes: &[u8], limits: &Limits) -> Answer {
        let mut scanner = HeadScanner::default();
        for end in 0..bytes.len() {
            match scanner.find(&bytes[..end], limits) {
                Ok(None) => {}
                found => return found,
            }
        }
        scanner.find(bytes, limits)
    }

    fn small() -> Limits {
        let mut limits = Limits::default();
        limits.set("head_bytes_max", "1024").unwrap();
        limits.set("target_bytes_max", "256").unwrap();
        limits
    }

    /// The answer is `expected` for the whole, for every cut in two and for single bytes.
    #[track_caller]
    fn check(bytes: &[u8], expected: Answer) {
        let limits = small();
        assert_eq!(whole(bytes, &limits), expected, "whole");
        assert_eq!(bytewise(bytes, &limits), expected, "bytewise");
        for cut in 0..bytes.len() {
            let mut scanner = HeadScanner::default();
            let answer = match scanner.find(&bytes[..cut], &limits) {
                Ok(None) => scanner.find(bytes, &limits),
                early => early,
            };
            assert_eq!(answer, expected, "cut at {cut}");
        }
    }

    #[test]
    fn the_end_is_after_the_empty_line() {
        check(b"GET / HTTP/1.1\r\n\r\n", Ok(Some(18)));
        check(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET ", Ok(Some(27)));
        check(b"\r\nGET / HTTP/1.1\r\n\r\n", Ok(Some(20)));
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Ok(Some(18)));
    }

    #[test]
    fn every_prefix_of_a_head_needs_more() {
        let head = b"\r\nGET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n";
        for end in 0..head.len() {
            check(&head[..end], Ok(None));
        }
        check(head, Ok(Some(head.len())));
    }

    #[test]
    fn what_cannot_become_a_request_is_refused_at_once() {
        check(b"\x16\x03\x01\x02\x00", Err(HeadError::TlsHandshake));
        check(b"\x16", Err(HeadError::TlsHandshake));
        check(b"\x00", Err(HeadError::RequestLine));
        check(b" GET / HTTP/1.1\r\n\r\n", Err(HeadError::RequestLine));
        check(b"\r\n GET / HTTP/1.1\r\n\r\n", Err(HeadError::RequestLine));
        check(b"{\"a\":1}", Err(HeadError::RequestLine));
        check("é".as_bytes(), Err(HeadError::RequestLine));
        check(b"\n", Err(HeadError::LineEnding));
        check(b"GET / HTTP/1.1\nHost: a\n\n", Err(HeadError::LineEnding));
        check(b"GET / HTTP/1.1\r\nHost: a\n", Err(HeadError::LineEnding));
        check(b"GET / HTTP/1.1\r\n\n", Err(HeadError::LineEnding));
        check(b"\r\n\nGET", Err(HeadError::LineEnding));
        check(b"\r\n\r\n", Err(HeadError::EmptyLines));
        check(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", Err(HeadError::EmptyLines));
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_whole() {
        let line = |target: usize| format!("GET /{} HTTP/1.1", "a".repeat(target - 1));
        check(line(256).as_bytes(), Ok(None));
        check(format!("{}\r\n\r\n", line(256)).as_bytes(), Ok(Some(273)));
        check(line(400).as_bytes(), Err(HeadError::TargetTooLong));
        check(format!("{}\r\n\r\n", line(400)).as_bytes(), Err(HeadError::TargetTooLong));
        check(format!("{}\n", line(400)).as_bytes(), Err(HeadError::TargetTooLong));
        check(&[b'A'; 321], Err(HeadError::TargetTooLong));
        check(&[b'A'; 320], Ok(None));

        let head =
            |bytes: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(bytes - 23)).into_bytes();
        check(&head(1024), Ok(Some(1024)));
        check(&head(1025), Err(HeadError::HeadTooLarge));
        check(&head(1025)[..1023], Ok(None));
        check(&head(1025)[..1024], Err(HeadError::HeadTooLarge));
        check(&head(4096), Err(HeadError::HeadTooLarge));
    }

    #[test]
    fn an_error_stays_when_asked_again() {
        for bytes in [&[b'A'; 321][..], b"GET / HTTP/1.1\n", b"\r\n\r\n", b"\x16", &[b'\r'; 2000]] {
            let mut scanner = HeadScanner::default();
            let first = scanner.find(bytes, &small());
            assert!(first.is_err());
            assert_eq!(scanner.find(bytes, &small()), first);
        }
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_looked_at_once() {
        let limits = Limits::default();
        for field in ["X: y\r\n".to_owned(), format!("X: {}\r\n", "y".repeat(4000))] {
            let mut bytes = b"GET / HTTP/1.1\r\n".to_vec();
            while bytes.len() + field.len() + 2 <= 16 * 1024 {
                bytes.extend_from_slice(field.as_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
            let mut scanner = HeadScanner::default();
            for end in 0..bytes.len() {
                assert_eq!(scanner.find(&bytes[..end], &limits), Ok(None));
            }
            assert_eq!(scanner.find(&bytes, &limits), Ok(Some(bytes.len())));
            assert!(scanner.work <= bytes.len(), "{} of {}", scanner.work, bytes.len());
        }
    }
}
