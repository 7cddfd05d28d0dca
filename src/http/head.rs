//! The request head: its line, its fields, and what they say about host, body and connection.

use std::mem::MaybeUninit;

use memchr::memchr;

use super::syntax::{list, text};
use super::{HeadError, Headers};
use crate::limits::Limits;

/// Fields tokenized on the stack; a request with more (where `headers_max` allows it) takes the heap.
const STACK_FIELDS: usize = 128;

/// A request method (RFC 9110, section 9; PATCH: RFC 5789). CONNECT is refused with the unknown ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// `PATCH`
    Patch,
    /// `TRACE`
    Trace,
}

impl Method {
    /// Methods are compared byte for byte: `get` is none (RFC 9110, section 9.1).
    fn from_token(token: &str) -> Option<Self> {
        Some(match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "PATCH" => Self::Patch,
            "TRACE" => Self::Trace,
            _ => return None,
        })
    }
}

/// The version of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How long the body is (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// There is none; a Content-Length of zero is this as well.
    None,
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks, the last of which is empty.
    Chunked,
}

/// One request head. It borrows from the head's bytes.
#[derive(Clone)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The request target as sent: visible ASCII without `#`.
    pub target: &'a str,
    /// The path as it was sent: `*`, or what begins with `/`. Nothing is decoded or normalised; [`path`](super::path)
    /// compares it.
    pub path: &'a str,
    /// What follows the first `?`, else empty. [`query`](super::query) reads it.
    pub query: &'a str,
    /// The version.
    pub version: Version,
    /// All header fields.
    pub headers: Headers<'a>,
    /// The host, with its port if one is written. Always there on HTTP/1.1.
    pub host: Option<&'a str>,
    /// Whether the connection may carry a further request once this one's body has been read.
    pub keep_alive: bool,
    /// How the body is framed.
    pub body: Framing,
    /// Whether the client waits for [`CONTINUE`](super::CONTINUE) before it sends the body.
    pub expect_continue: bool,
}

/// Shows neither query nor header values: they hold tokens, which must not reach a log.
impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("version", &self.version)
            .field("headers", &self.headers)
            .field("keep_alive", &self.keep_alive)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// Reads one whole head: exactly the bytes that [`HeadScanner`](super::HeadScanner) has found.
///
/// Stricter than RFC 9112 where it leaves a choice: no bare line feeds, no folded fields, no repeated
/// Content-Length or Host be they equal, no transfer coding but `chunked`. Of a value that decides nothing here, only
/// control bytes are refused.
///
/// # Errors
/// The request is refused; see [`HeadError`].
pub fn parse_head<'a>(head: &'a [u8], limits: &Limits) -> Result<Request<'a>, HeadError> {
    if head.len() > limits.head_bytes_max {
        return Err(HeadError::HeadTooLarge);
    }
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let fields = count_fields(head)?;
    if fields > limits.headers_max {
        return Err(HeadError::TooManyFields);
    }
    if fields <= STACK_FIELDS {
        read(head, &mut [const { MaybeUninit::uninit() }; STACK_FIELDS], limits)
    } else {
        read(head, &mut vec![MaybeUninit::uninit(); fields], limits)
    }
}

/// Counts the lines between the request line and the empty line, and checks that every line ends with CR LF,
/// that none continues the one before it, and that the empty line is the end.
fn count_fields(head: &[u8]) -> Result<usize, HeadError> {
    let mut rest = head;
    let mut lines: usize = 0;
    loop {
        let at = memchr(b'\n', rest).ok_or(HeadError::Incomplete)?;
        let (line, after) = rest.split_at(at + 1);
        match line {
            b"\r\n" if lines == 0 => return Err(HeadError::EmptyLines),
            b"\r\n" if after.is_empty() => return Ok(lines - 1),
            b"\r\n" => return Err(HeadError::Incomplete),
            [b' ' | b'\t', ..] if lines > 0 => return Err(HeadError::FoldedField),
            [.., b'\r', b'\n'] => lines += 1,
            _ => return Err(HeadError::LineEnding),
        }
        rest = after;
    }
}

/// Tokenizes the head into `storage` and applies the rules.
fn read<'a>(
    head: &'a [u8],
    storage: &mut [MaybeUninit<httparse::Header<'a>>],
    limits: &Limits,
) -> Result<Request<'a>, HeadError> {
    let mut tokens = httparse::Request::new(&mut []);
    match tokens.parse_with_uninit_headers(head, storage) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(HeadError::Incomplete),
        Err(error) => return Err(from_tokenizer(error, head)),
    }
    let version = match tokens.version {
        Some(0) => Version::Http10,
        Some(1) => Version::Http11,
        _ => return Err(HeadError::Version),
    };
    let method = tokens.method.and_then(Method::from_token).ok_or(HeadError::UnknownMethod)?;
    let target = tokens.path.ok_or(HeadError::RequestLine)?;
    if target.len() > limits.target_bytes_max {
        return Err(HeadError::TargetTooLong);
    }
    let parts = split_target(method, target)?;
    let mut headers = Headers::new();
    let mut known = Known::default();
    for field in tokens.headers.iter() {
        known.take(field.name, field.value)?;
        headers.push(field.name, field.value);
    }
    let host = known.host(version, parts.authority)?;
    let body = known.framing(version)?;
    Ok(Request {
        method,
        target,
        path: parts.path,
        query: parts.query,
        version,
        headers,
        host,
        // RFC 9112, section 9.3: `close` wins; else 1.1 persists, and 1.0 where it asks for it.
        keep_alive: !known.close && (version == Version::Http11 || known.keep_alive),
        body,
        // RFC 9110, section 10.1.1: the expectation of a 1.0 request is ignored.
        expect_continue: known.expect_continue && version == Version::Http11 && body != Framing::None,
    })
}

/// Says in our words what the tokenizer found.
fn from_tokenizer(error: httparse::Error, head: &[u8]) -> HeadError {
    match error {
        httparse::Error::HeaderName => HeadError::FieldName,
        httparse::Error::HeaderValue => HeadError::FieldValue,
        httparse::Error::NewLine => HeadError::LineEnding,
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        httparse::Error::Version if names_other_version(head) => HeadError::Version,
        httparse::Error::Version | httparse::Error::Status => HeadError::RequestLine,
        httparse::Error::Token if target_is_at_fault(head) => HeadError::Target,
        httparse::Error::Token => HeadError::RequestLine,
    }
}

/// The request line's parts as they stand between single spaces.
fn request_line(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    line.split(|byte| *byte == b' ')
}

/// Whether the request line ends with a well-formed version (RFC 9112, section 2.3).
fn names_other_version(head: &[u8]) -> bool {
    let version = request_line(head).nth(2).and_then(|word| word.strip_prefix(b"HTTP/"));
    matches!(version, Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Whether the request line has its three parts and the middle one holds a byte that is not visible ASCII.
fn target_is_at_fault(head: &[u8]) -> bool {
    let mut words = request_line(head);
    let target = words.nth(1).unwrap_or_default();
    words.next().is_some() && target.iter().any(|byte| !byte.is_ascii_graphic())
}

struct Target<'a> {
    authority: Option<&'a str>,
    path: &'a str,
    query: &'a str,
}

/// Splits the target by its form (RFC 9112, section 3.2).
fn split_target(method: Method, target: &str) -> Result<Target<'_>, HeadError> {
    // Without an early exit the compiler looks at many bytes at once.
    if target.bytes().fold(false, |bad, byte| bad | !byte.is_ascii_graphic() | (byte == b'#')) {
        return Err(HeadError::Target);
    }
    if target == "*" && method == Method::Options {
        return Ok(Target { authority: None, path: target, query: "" });
    }
    if target.starts_with('/') {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        return Ok(Target { authority: None, path, query });
    }
    let (scheme, rest) = target.split_once("://").ok_or(HeadError::Target)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(HeadError::Target);
    }
    let (authority, after) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !is_host(authority) {
        return Err(HeadError::Target);
    }
    let (path, query) = after.split_once('?').unwrap_or((after, ""));
    // RFC 9110, section 4.2.3: an empty path is the same as `/`.
    Ok(Target { authority: Some(authority), path: if path.is_empty() { "/" } else { path }, query })
}

/// The fields that decide how the request is read.
#[derive(Default)]
struct Known<'a> {
    host: Option<&'a str>,
    length: Option<u64>,
    coding: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    expect_continue: bool,
}

impl<'a> Known<'a> {
    fn take(&mut self, name: &str, value: &'a [u8]) -> Result<(), HeadError> {
        // The length is looked at first, so that most fields cost one comparison.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                let host = text(value).filter(|host| is_host(host));
                set_once(&mut self.host, host.unwrap_or_default(), HeadError::HostRepeated)?;
                if host.is_none() {
                    return Err(HeadError::HostInvalid);
                }
            }
            6 if name.eq_ignore_ascii_case("expect") => {
                self.expect_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                for option in list(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                let length = text(value).and_then(decimal).ok_or(HeadError::LengthInvalid)?;
                set_once(&mut self.length, length, HeadError::LengthRepeated)?;
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                set_once(&mut self.coding, value, HeadError::CodingUnsupported)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn host(&self, version: Version, authority: Option<&'a str>) -> Result<Option<&'a str>, HeadError> {
        match (self.host, authority) {
            (None, _) if version == Version::Http11 => Err(HeadError::HostMissing),
            (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
                Err(HeadError::HostMismatch)
            }
            (host, authority) => Ok(host.or(authority)),
        }
    }

    fn framing(&self, version: Version) -> Result<Framing, HeadError> {
        match (self.coding, self.length) {
            (None, None | Some(0)) => Ok(Framing::None),
            (None, Some(length)) => Ok(Framing::Length(length)),
            (Some(_), Some(_)) => Err(HeadError::LengthAndCoding),
            (Some(_), None) if version == Version::Http10 => Err(HeadError::CodingOnHttp10),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            (Some(_), None) => Err(HeadError::CodingUnsupported),
        }
    }
}

/// Fills `slot`; an error if it was filled before.
fn set_once<T>(slot: &mut Option<T>, value: T, repeated: HeadError) -> Result<(), HeadError> {
    if slot.replace(value).is_some() { Err(repeated) } else { Ok(()) }
}

/// A number of decimal digits and nothing else. `str::parse` would take a sign.
fn decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Whether `text` is `host[:port]` with a host that is not empty (RFC 9110, section 7.2; RFC 3986, section
/// 3.2.2). User information is refused, and so are escapes: no name that is looked up holds any.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(literal) => match literal.split_once(']') {
            Some((address, port)) => {
                let good = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
                if address.is_empty() || !address.bytes().all(good) {
                    return false;
                }
                (address, port)
            }
            None => return false,
        },
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
            if !name.bytes().all(good) {
                return false;
            }
            (name, port)
        }
    };
    let port_is_good = match port.strip_prefix(':') {
        Some(digits) => digits.is_empty() || (decimal(digits).is_some_and(|port| port <= 65_535)),
        None => port.is_empty(),
    };
    !host.is_empty() && port_is_good
}

#[cfg(test)]
mod tests;
