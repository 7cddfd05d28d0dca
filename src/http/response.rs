//! Responses, appended to a connection's output.

use super::syntax::{is_plain, is_token};
use super::{BodyError, HeadError, Status};

/// The interim response that lets a client go on with its body
/// ([`Request::expect_continue`](super::Request::expect_continue)).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Fields that [`Response`] writes itself, since they decide where a response ends and what follows it.
const OWN_FIELDS: [&str; 4] = ["connection", "content-length", "transfer-encoding", "upgrade"];

/// One response: a status, fields, and a body that is known whole.
///
/// A Content-Length is always written (save where the status forbids it), and `connection` always says
/// whether the connection goes on, which HTTP/1.0 clients must be told and others may be. Nothing names the
/// server or its version. There is no Date, since this module has no clock: a caller who has one adds it.
///
/// ```
/// use hailer::http::{Response, Status};
///
/// let mut out = Vec::new();
/// Response::new(Status::Ok)
///     .header("cache-control", "no-store")
///     .body("application/json", b"{}")
///     .write(&mut out, true, false);
/// assert_eq!(
///     out,
///     b"HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-type: application/json\r\n\
///       connection: keep-alive\r\ncontent-length: 2\r\n\r\n{}"
/// );
/// ```
#[derive(Debug, Clone)]
#[must_use = "a response is sent by writing it"]
pub struct Response<'a> {
    status: Status,
    /// The fields as they go out, each with its line end.
    fields: Vec<u8>,
    body: &'a [u8],
}

impl<'a> Response<'a> {
    /// A response with an empty body.
    pub const fn new(status: Status) -> Self {
        Self { status, fields: Vec::new(), body: b"" }
    }

    /// A response with a plain text.
    pub fn text(status: Status, text: &'a str) -> Self {
        Self::new(status).body("text/plain; charset=utf-8", text.as_bytes())
    }

    /// Adds a field. A value with anything but visible ASCII and spaces is left out together with its
    /// name, so that nothing a peer sent can add a line or a control byte to a response.
    ///
    /// The name is ours, hence static; it is none of those that are written anyway (`connection`,
    /// `content-length`, `transfer-encoding`, `upgrade`).
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let name_is_ours =
            is_token(name.as_bytes()) && !OWN_FIELDS.iter().any(|own| own.eq_ignore_ascii_case(name));
        debug_assert!(name_is_ours, "{name} can't be added to a response");
        if name_is_ours && is_plain(value) {
            for part in [name, ": ", value, "\r\n"] {
                self.fields.extend_from_slice(part.as_bytes());
            }
        }
        self
    }

    /// Sets the body and says what it is.
    pub fn body(mut self, content_type: &'static str, body: &'a [u8]) -> Self {
        self.body = body;
        self.header("content-type", content_type)
    }

    /// The same with this body.
    pub fn with_body(self, body: &'a [u8]) -> Self {
        Self { body, ..self }
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// Appends the response to `out`. `head_only` answers a HEAD: the length is that of the body, which
    /// itself is not sent (RFC 9110, section 9.3.2).
    pub fn write(&self, out: &mut Vec<u8>, keep_alive: bool, head_only: bool) {
        self.write_head(out, self.body.len() as u64, keep_alive);
        if !head_only && !self.status.is_bodiless() {
            out.extend_from_slice(self.body);
        }
    }

    /// Appends the head alone, for a body of `content_length` bytes that the caller sends after it.
    pub fn write_head(&self, out: &mut Vec<u8>, content_length: u64, keep_alive: bool) {
        out.extend_from_slice(self.status.line().as_bytes());
        out.extend_from_slice(&self.fields);
        let connection: &[u8] = match (self.status, keep_alive) {
            // RFC 9110, sections 15.5.22 and 7.8: a 426 names the protocol, and an Upgrade field is listed
            // in Connection. WebSocket is the only protocol there is to upgrade to.
            (Status::UpgradeRequired, true) => b"upgrade: websocket\r\nconnection: upgrade, keep-alive\r\n",
            (Status::UpgradeRequired, false) => b"upgrade: websocket\r\nconnection: upgrade, close\r\n",
            (_, true) => b"connection: keep-alive\r\n",
            (_, false) => b"connection: close\r\n",
        };
        out.extend_from_slice(connection);
        // RFC 9110, section 8.6: no Content-Length on 1xx and 204; on 304 it would be that of the 200.
        if !self.status.is_bodiless() {
            out.extend_from_slice(b"content-length: ");
            push_decimal(out, content_length);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// The answer to a refused head; the connection closes after it.
impl From<HeadError> for Response<'static> {
    fn from(error: HeadError) -> Self {
        Self::text(error.status(), error.reason())
    }
}

/// The answer to a refused body; the connection closes after it.
impl From<BodyError> for Response<'static> {
    fn from(error: BodyError) -> Self {
        Self::text(error.status(), error.reason())
    }
}

fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    // 2^64 - 1 has 20 digits.
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[digits.len() - used..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(response: &Response<'_>, keep_alive: bool, head_only: bool, expected: &str) {
        let mut out = b"before".to_vec();
        response.write(&mut out, keep_alive, head_only);
        assert_eq!(String::from_utf8(out).unwrap(), format!("before{expected}"));
    }

    #[test]
    fn the_length_is_always_there() {
        let empty = Response::new(Status::NotFound);
        check(
            &empty,
            true,
            false,
            "HTTP/1.1 404 Not Found\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
        );
        let text = Response::text(Status::Ok, "well");
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: 4\r\n\r\n";
        check(&text, false, false, &format!("{head}well"));
        check(&text, false, true, head);
    }

    #[test]
    fn the_length_is_absent_where_the_status_forbids_it() {
        for status in [Status::NoContent, Status::NotModified] {
            let expected =
                format!("HTTP/1.1 {} {}\r\nconnection: close\r\n\r\n", status.code(), status.reason());
            check(&Response { body: b"ignored", ..Response::new(status) }, false, false, &expected);
        }
    }

    #[test]
    fn the_head_alone_carries_a_given_length() {
        for length in [0, 7, 10, 1234, u64::MAX] {
            let mut out = Vec::new();
            Response::new(Status::Ok).write_head(&mut out, length, true);
            let expected =
                format!("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: {length}\r\n\r\n");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_value_that_is_not_plain_is_left_out() {
        let mut response = Response::new(Status::Ok).header("x-good", "a b\"'~");
        for value in ["a\r\nb: c", "a\n", "\r", "a\0", "\x1b", "a\tb", "\x7f", "é"] {
            response = response.header("x-bad", value);
        }
        let expected =
            "HTTP/1.1 200 OK\r\nx-good: a b\"'~\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n";
        check(&response, true, false, expected);
    }

    #[test]
    fn a_426_names_the_protocol() {
        let response = Response::new(Status::UpgradeRequired).header("sec-websocket-version", "13");
        let expected = "HTTP/1.1 426 Upgrade Required\r\nsec-websocket-version: 13\r\nupgrade: websocket\r\n\
             connection: upgrade, close\r\ncontent-length: 0\r\n\r\n";
        check(&response, false, false, expected);
    }

    #[test]
    fn an_error_is_answered_with_its_reason() {
        let mut out = Vec::new();
        Response::from(HeadError::TargetTooLong).write(&mut out, false, false);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 414 URI Too Long\r\n"), "{text}");
        assert!(text.contains("connection: close\r\n") && text.contains("target_bytes_max"), "{text}");
        assert_eq!(Response::from(BodyError::TooLarge).status(), Status::ContentTooLarge);
    }
}
