//! The messages of a POST.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::http;

/// One message of a body, as a WebSocket message would carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message, which the body holds in base64.
    Binary(Vec<u8>),
}

/// Why a body holds no messages. None of it is handled then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchError {
    /// There are more lines than `poll_messages_max`.
    TooManyLines,
    /// A line is neither JSON in UTF-8 nor base64.
    BadLine,
}

impl BatchError {
    /// The status of the HTTP response.
    #[must_use]
    pub fn status(self) -> http::Status {
        match self {
            Self::TooManyLines => http::Status::ContentTooLarge,
            Self::BadLine => http::Status::BadRequest,
        }
    }

    /// A sentence for the client.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooManyLines => "the body has more messages than poll_messages_max",
            Self::BadLine => "a line is neither JSON text nor the base64 of a binary message",
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for BatchError {}

/// The content type of a body of several messages, compared as it stands.
const NDJSON: &str = "application/x-ndjson";

/// How a body is cut into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// Lines separated by `\n`, without one at the end.
    Lines,
    /// The whole body is one text message.
    Single,
}

impl Batch {
    /// What the content type says; only that of phoenix.js means several messages.
    #[must_use]
    pub fn of(content_type: Option<&str>) -> Self {
        if content_type == Some(NDJSON) { Self::Lines } else { Self::Single }
    }

    /// All messages of a body.
    ///
    /// # Errors
    /// One of them can't be read, or there are too many.
    pub fn messages(self, body: &[u8], lines_max: usize) -> Result<Vec<Line<'_>>, BatchError> {
        match self {
            Self::Single => text(body).map(|text| vec![Line::Text(text)]),
            Self::Lines => {
                // Counted before any is kept: a body may be nothing but line ends.
                if memchr::memchr_iter(b'\n', body).nth(lines_max.saturating_sub(1)).is_some() {
                    return Err(BatchError::TooManyLines);
                }
                body.split(|byte| *byte == b'\n').map(line).collect()
            }
        }
    }
}

/// What begins as JSON is text; all else is base64.
fn line(line: &[u8]) -> Result<Line<'_>, BatchError> {
    match line.first() {
        Some(b'[' | b'{') => text(line).map(Line::Text),
        _ => STANDARD.decode(line).map(Line::Binary).map_err(|_| BatchError::BadLine),
    }
}

fn text(bytes: &[u8]) -> Result<&str, BatchError> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| BatchError::BadLine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(batch: Batch, body: &str, expected: Result<&[Line<'_>], BatchError>) {
        let messages = batch.messages(body.as_bytes(), 3);
        assert_eq!(messages.as_deref().map_err(|error| *error), expected, "{body:?}");
    }

    #[test]
    fn lines_are_text_or_base64() {
        check(Batch::Lines, "[1]", Ok(&[Line::Text("[1]")]));
        check(Batch::Lines, "[1]\n[2]", Ok(&[Line::Text("[1]"), Line::Text("[2]")]));
        check(
            Batch::Lines,
            "{}\nAAEC\n[2]",
            Ok(&[Line::Text("{}"), Line::Binary(vec![0, 1, 2]), Line::Text("[2]")]),
        );
        check(Batch::Lines, "", Ok(&[Line::Binary(vec![])]));
        check(Batch::Lines, "[1]\n", Ok(&[Line::Text("[1]"), Line::Binary(vec![])]));
        check(Batch::Lines, "AAE", Err(BatchError::BadLine));
        check(Batch::Lines, "[1]\n%%", Err(BatchError::BadLine));
    }

    #[test]
    fn any_other_body_is_one_message() {
        check(Batch::Single, "[1]\n[2]", Ok(&[Line::Text("[1]\n[2]")]));
        check(Batch::Single, "", Ok(&[Line::Text("")]));
        assert_eq!(Batch::Single.messages(&[0xff], 3), Err(BatchError::BadLine));
    }

    #[test]
    fn too_many_lines_are_refused_whole() {
        check(Batch::Lines, "[1]\n[2]\n[3]\n[4]", Err(BatchError::TooManyLines));
        assert_eq!(Batch::Lines.messages(&vec![b'\n'; 10_000_000], 100), Err(BatchError::TooManyLines));
    }

    #[test]
    fn the_content_type_is_compared_as_it_stands() {
        assert_eq!(Batch::of(Some("application/x-ndjson")), Batch::Lines);
        for other in [None, Some("application/json"), Some("application/x-ndjson; charset=utf-8")] {
            assert_eq!(Batch::of(other), Batch::Single);
        }
    }
}
