//! The messages of a POST.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::http::{self, MediaType};

/// One message of a body, as a WebSocket message would carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message, which the body holds in base64.
    Binary(Vec<u8>),
}

impl Line<'_> {
    /// Bytes of the message.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an empty line is no message")]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(data) => data.len(),
        }
    }
}

/// Why a line is no message. The lines beside it are not concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineError {
    /// It begins as JSON does, and is not UTF-8.
    NotUtf8,
    /// It does not begin as JSON does, and is not base64 either.
    NotBase64,
}

impl LineError {
    /// What is wrong, for a person who wrote the message by hand.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotUtf8 => "the message is not UTF-8",
            Self::NotBase64 => "expected JSON that begins with [ or {, or a binary message in base64",
        }
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for LineError {}

/// There are more messages than `poll_messages_max`. None of them is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyLines;

impl TooManyLines {
    /// The status of the HTTP response.
    pub const STATUS: http::Status = http::Status::ContentTooLarge;
    /// A sentence for the client.
    pub const REASON: &str = "the body has more messages than poll_messages_max";
}

impl fmt::Display for TooManyLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::REASON)
    }
}

impl std::error::Error for TooManyLines {}

/// The content type of a body of several messages.
const NDJSON: &str = "application/x-ndjson";

/// How a body is cut into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// Lines that end with `\n` or `\r\n`; the last one need not.
    Lines,
    /// The whole body is one text message.
    Single,
}

impl Batch {
    /// What the value of `Content-Type` says; only that of phoenix.js means several messages. Parameters are not looked
    /// at, since JSON is UTF-8: some clients add a charset by themselves.
    #[must_use]
    pub fn of(content_type: Option<&[u8]>) -> Self {
        let is_ndjson = content_type.is_some_and(|value| MediaType::read(value).is(NDJSON));
        if is_ndjson { Self::Lines } else { Self::Single }
    }

    /// The messages of a body, each with the number of its line. A line of white space, or a body of it, is no message:
    /// who writes NDJSON ends the last line too. What is no message is an error in its place.
    ///
    /// # Errors
    /// There are too many.
    pub fn messages(
        self,
        body: &[u8],
        lines_max: usize,
    ) -> Result<impl Iterator<Item = (usize, Result<Line<'_>, LineError>)>, TooManyLines> {
        let end = move |byte: &u8| self == Self::Lines && *byte == b'\n';
        let lines = move || body.split(end).zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty());
        // Counted before any is handled. Of most bodies, their line ends alone say that there are not too many.
        let may_be_too_many = memchr::memchr_iter(b'\n', body).nth(lines_max.saturating_sub(1)).is_some();
        if self == Self::Lines && may_be_too_many && lines().nth(lines_max).is_some() {
            return Err(TooManyLines);
        }
        Ok(lines().map(move |(line, number)| {
            let message = match self {
                Self::Single => text(line),
                Self::Lines => read_line(line.trim_ascii()),
            };
            (number, message)
        }))
    }
}

/// What begins as JSON is text; all else is base64.
fn read_line(line: &[u8]) -> Result<Line<'_>, LineError> {
    match line.first() {
        Some(b'[' | b'{') => text(line),
        _ => STANDARD.decode(line).map(Line::Binary).map_err(|_| LineError::NotBase64),
    }
}

fn text(bytes: &[u8]) -> Result<Line<'_>, LineError> {
    simdutf8::basic::from_utf8(bytes).map(Line::Text).map_err(|_| LineError::NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read<'a> = (usize, Result<Line<'a>, LineError>);

    #[track_caller]
    fn check(batch: Batch, body: impl AsRef<[u8]>, expected: &[Read<'_>]) {
        let body = body.as_ref();
        let messages: Vec<_> = batch.messages(body, 3).expect("there are not too many").collect();
        assert_eq!(messages, expected, "{:?}", String::from_utf8_lossy(body));
    }

    fn a(number: usize) -> Read<'static> {
        (number, Ok(Line::Text("[1]")))
    }

    fn b(number: usize) -> Read<'static> {
        (number, Ok(Line::Text("{}")))
    }

    #[test]
    fn lines_are_text_or_base64() {
        check(Batch::Lines, "[1]", &[a(1)]);
        check(Batch::Lines, "[1]\n{}", &[a(1), b(2)]);
        check(Batch::Lines, "{}\nAAEC\n[1]", &[b(1), (2, Ok(Line::Binary(vec![0, 1, 2]))), a(3)]);
        check(Batch::Lines, " AAEC\r\n", &[(1, Ok(Line::Binary(vec![0, 1, 2])))]);
    }

    #[test]
    fn a_line_without_anything_is_no_message() {
        for end in ["\n", "\r\n", "\n\n", "\r\n\r\n", "\n \t\n", "\n\r\n", " \n", "\t\r\n \r\n"] {
            let lines = end.matches('\n').count();
            check(Batch::Lines, format!("[1]{end}"), &[a(1)]);
            check(Batch::Lines, format!("[1]{end}{{}}"), &[a(1), b(1 + lines)]);
            check(Batch::Lines, format!("[1]{end}{{}}{end}"), &[a(1), b(1 + lines)]);
            check(Batch::Lines, format!("{}[1]{end}", &end[1..]), &[a(end[1..].matches('\n').count() + 1)]);
            check(Batch::Lines, end, &[]);
        }
    }

    #[test]
    fn an_empty_body_is_no_message() {
        for batch in [Batch::Lines, Batch::Single] {
            for body in ["", " ", "\n", "\r\n", " \t\r\n \n"] {
                check(batch, body, &[]);
            }
        }
    }

    #[test]
    fn a_line_that_is_no_message_concerns_no_other() {
        let bad = |number| (number, Err(LineError::NotBase64));
        check(Batch::Lines, "AAE", &[bad(1)]);
        check(Batch::Lines, "[1]\n%%\n{}", &[a(1), bad(2), b(3)]);
        check(Batch::Lines, b"[1]\n[\xff]\n{}", &[a(1), (2, Err(LineError::NotUtf8)), b(3)]);
        check(Batch::Lines, b"\xff\n\x00\r\n{}", &[bad(1), bad(2), b(3)]);
    }

    #[test]
    fn any_other_body_is_one_message() {
        check(Batch::Single, "[1]\n[2]", &[(1, Ok(Line::Text("[1]\n[2]")))]);
        check(Batch::Single, [0xff], &[(1, Err(LineError::NotUtf8))]);
        check(Batch::Single, "[\n\n\n\n\n]\n", &[(1, Ok(Line::Text("[\n\n\n\n\n]\n")))]);
    }

    #[test]
    fn too_many_lines_are_refused_whole() {
        let is_refused = |body: &[u8], lines_max| Batch::Lines.messages(body, lines_max).is_err();
        assert!(is_refused(b"[1]\n[2]\n[3]\n[4]", 3) && is_refused(b"1\n\n\n2\n3\n%\n", 3));
        assert!(!is_refused(b"[1]\n[2]\n[3]\n", 3) && !is_refused(b"\n\n\r\n[1]\n\n[2]\n\n[3]\n\n", 3));
        assert!(!is_refused(&vec![b'\n'; 10_000_000], 100), "that is no message");
        assert!(is_refused(&b"1\n".repeat(101), 100) && !is_refused(&b"1\n".repeat(100), 100));
    }

    #[test]
    fn the_content_type_is_known_whatever_its_case_and_parameters() {
        for lines in [
            &b"application/x-ndjson"[..],
            b"Application/X-NDJSON",
            b"application/x-ndjson; charset=utf-8",
            b"application/x-ndjson;charset=UTF-8;x=\xe9",
        ] {
            assert_eq!(Batch::of(Some(lines)), Batch::Lines);
        }
        for other in
            [None, Some(&b"application/json"[..]), Some(b"text/plain; a=application/x-ndjson"), Some(b"\xff")]
        {
            assert_eq!(Batch::of(other), Batch::Single);
        }
    }
}
