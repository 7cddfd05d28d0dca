//! The JSON of an answer. Its own status is what matters to a client; that of HTTP is 200.

use crate::http;

/// What an answer says. phoenix.js stops polling for good at any other number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    /// Messages, or the acknowledgement of a POST.
    Ok = 200,
    /// The window has passed without messages.
    NoContent = 204,
    /// The client may not connect.
    Forbidden = 403,
    /// There is no such session; a poll has opened a new one.
    Gone = 410,
    /// The session has ended; the client reconnects.
    InternalServerError = 500,
}

/// Ends an answer that [`write_prefix`] has begun.
pub const SUFFIX: &[u8] = b"]}";

/// Appends the JSON of an answer with messages up to where they begin. Each message is a JSON string, with
/// a comma before it but for the first; [`SUFFIX`] ends it.
pub fn write_prefix(out: &mut Vec<u8>, token: &str) {
    for part in [r#"{"status":200,"token":""#, token, r#"","messages":["#] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Appends a whole response without messages. Tokens need no escaping.
pub fn write_answer(out: &mut Vec<u8>, status: Status, token: &str, keep_alive: bool) {
    let body = format!(r#"{{"status":{},"token":"{token}","messages":[]}}"#, status as u16);
    write_json(out, http::Status::Ok, &body, keep_alive);
}

/// Appends a whole response that is nothing but a status, or a status and what was wrong.
pub fn write_status(
    out: &mut Vec<u8>,
    http_status: http::Status,
    status: u16,
    reason: Option<&str>,
    keep_alive: bool,
) {
    let mut body = format!(r#"{{"status":{status}"#).into_bytes();
    if let Some(reason) = reason {
        body.extend_from_slice(br#","reason":"#);
        crate::phoenix::write_json_string(&mut body, reason);
    }
    body.push(b'}');
    head(http_status).write_head(out, body.len() as u64, keep_alive);
    out.extend_from_slice(&body);
}

fn write_json(out: &mut Vec<u8>, status: http::Status, body: &str, keep_alive: bool) {
    head(status).write_head(out, body.len() as u64, keep_alive);
    out.extend_from_slice(body.as_bytes());
}

/// The head of every JSON answer. CORS is always open, and never with credentials.
pub(crate) fn head(status: http::Status) -> http::Response<'static> {
    http::Response::new(status)
        .header("content-type", "application/json; charset=utf-8")
        .header("access-control-allow-origin", "*")
        .header("cache-control", "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        let text = String::from_utf8(out).unwrap();
        text.split("\r\n\r\n").nth(1).unwrap().to_owned()
    }

    #[test]
    fn answers_are_those_of_phoenix() {
        assert_eq!(
            body(|out| write_answer(out, Status::Gone, "T", true)),
            r#"{"status":410,"token":"T","messages":[]}"#
        );
        assert_eq!(body(|out| write_status(out, http::Status::Ok, 403, None, true)), r#"{"status":403}"#);
        assert_eq!(
            body(|out| write_status(out, http::Status::Ok, 408, Some("a \"b\""), true)),
            r#"{"status":408,"reason":"a \"b\""}"#
        );
        let mut out = Vec::new();
        write_prefix(&mut out, "T");
        out.extend_from_slice(SUFFIX);
        assert_eq!(out, br#"{"status":200,"token":"T","messages":[]}"#);
    }
}
