//! One client on long-poll: the requests it makes, and what the answers hold.
//!
//! It does as phoenix.js does: a GET without a session opens one, the answer (410) names it, and from then on there is
//! always a GET that waits for messages, while pushes go by POST. phoenix.js sends no heartbeats here, since polls show
//! that it is there.

use std::fmt::Write;

use memchr::memchr2;
use memchr::memmem;

use super::wire::{field, read_head};

/// What is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// For a session.
    Open,
    /// For messages.
    Poll,
    /// That a message be taken.
    Push(&'a str),
}

/// Appends a request. `session` is what the server has named it, `auth` the user's token.
pub fn write_request(
    out: &mut String,
    host: &str,
    path: &str,
    session: &str,
    auth: Option<&str>,
    ask: Ask<'_>,
) {
    let method = if matches!(ask, Ask::Push(_)) { "POST" } else { "GET" };
    out.push_str(method);
    out.push(' ');
    out.push_str(path);
    if !session.is_empty() {
        out.push(if path.contains('?') { '&' } else { '?' });
        out.push_str("token=");
        out.push_str(session);
    }
    out.push_str(" HTTP/1.1\r\nHost: ");
    out.push_str(host);
    out.push_str("\r\nAccept: application/json\r\n");
    if let Some(auth) = auth {
        out.push_str("X-Phoenix-AuthToken: ");
        out.push_str(auth);
        out.push_str("\r\n");
    }
    match ask {
        Ask::Open | Ask::Poll => out.push_str("\r\n"),
        Ask::Push(message) => {
            let length = message.len();
            let written = write!(
                out,
                "Content-Type: application/x-ndjson\r\nContent-Length: {length}\r\n\r\n{message}"
            );
            debug_assert!(written.is_ok(), "a text takes everything");
        }
    }
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// That of the body, which is the one that counts, or the head's.
    pub status: u16,
    /// The session, as it goes into an address.
    pub session: Option<&'a str>,
    /// The messages, as the elements of a JSON array.
    messages: &'a [u8],
    /// Bytes of the answer.
    pub len: usize,
}

impl<'a> Answer<'a> {
    /// The answer at the beginning of the bytes; `None` if it is not whole yet.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head_status, head) = read_head(bytes)?;
        let length = field(&bytes[..head], "content-length").and_then(|length| length.parse().ok());
        let len = head + length.unwrap_or(0usize);
        let body = bytes.get(head..len)?;
        let status = after(body, b"\"status\":").and_then(|rest| {
            let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
            std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
        });
        let session = after(body, b"\"token\":\"").and_then(|rest| {
            let end = memchr::memchr(b'"', rest)?;
            std::str::from_utf8(&rest[..end]).ok()
        });
        let messages = after(body, b"\"messages\":[").unwrap_or_default();
        Some(Self { status: status.unwrap_or(head_status), session, messages, len })
    }

    /// Gives each message to `on`, without its escapes; `scratch` is where it stands meanwhile.
    pub fn for_each(&self, scratch: &mut Vec<u8>, mut on: impl FnMut(&[u8])) {
        let mut left = self.messages;
        while let Some(start) = left.iter().position(|byte| !matches!(byte, b',' | b' ')) {
            let Some(text) = left[start..].strip_prefix(b"\"") else { return };
            scratch.clear();
            let Some(end) = unescape(text, scratch) else { return };
            on(scratch);
            left = &text[end..];
        }
    }
}

fn after<'a>(bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    memmem::find(bytes, name).map(|at| &bytes[at + name.len()..])
}

/// Appends a JSON string up to its closing quote, without escapes; the number of bytes with the quote. Of escapes, those
/// are understood that messages have: `\"`, `\\` and `\/`.
fn unescape(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        let next = at + memchr2(b'"', b'\\', &text[at..])?;
        out.extend_from_slice(&text[at..next]);
        if text[next] == b'"' {
            return Some(next + 1);
        }
        out.push(*text.get(next + 1)?);
        at = next + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Vec<u8> {
        let length = body.len();
        format!("HTTP/1.1 {status} OK\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
    }

    #[test]
    fn answers_are_read_when_they_are_whole() {
        let body = r#"{"status":200,"token":"a.b-c","messages":["[null,\"x\"]","a\\b"]}"#;
        let bytes = answer(200, body);
        for cut in 0..bytes.len() {
            assert_eq!(Answer::read(&bytes[..cut]), None, "{cut}");
        }
        let read = Answer::read(&bytes).unwrap();
        assert_eq!((read.status, read.session, read.len), (200, Some("a.b-c"), bytes.len()));
        let mut messages = Vec::new();
        read.for_each(&mut Vec::new(), |message| messages.push(String::from_utf8(message.to_vec()).unwrap()));
        assert_eq!(messages, [r#"[null,"x"]"#, r"a\b"]);
    }

    #[test]
    fn the_body_tells_the_status() {
        let bytes = answer(200, r#"{"status":410,"token":"t","messages":[]}"#);
        let read = Answer::read(&bytes).unwrap();
        assert_eq!((read.status, read.session), (410, Some("t")));
        read.for_each(&mut Vec::new(), |_| panic!("there is none"));
        let empty = answer(204, "");
        assert_eq!(Answer::read(&empty).unwrap().status, 204);
    }

    #[test]
    fn requests_are_those_of_phoenix_js() {
        let request = |session, auth, ask| {
            let mut out = String::new();
            write_request(&mut out, "localhost", "/socket/longpoll?vsn=2.0.0", session, auth, ask);
            out
        };
        assert!(request("", None, Ask::Open).starts_with("GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\n"));
        let poll = request("s", Some("jwt"), Ask::Poll);
        assert!(poll.starts_with("GET /socket/longpoll?vsn=2.0.0&token=s HTTP/1.1\r\n"), "{poll}");
        assert!(poll.contains("X-Phoenix-AuthToken: jwt\r\n"), "{poll}");
        let push = request("s", None, Ask::Push("[]"));
        assert!(push.starts_with("POST ") && push.ends_with("Content-Length: 2\r\n\r\n[]"), "{push}");
    }
}
