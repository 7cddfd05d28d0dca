//! The server's side of the WebSocket opening handshake (RFC 6455, section 4.2).
//!
//! Refusals carry the status and the text that Phoenix answers with (WebSockAdapter's
//! `upgrade_validation.ex`, checked in its order), with three differences: a version other than 13 is
//! answered with 426 and the version that is spoken, as RFC 6455, section 4.4 asks; the key must have the form
//! of 16 bytes in base64; and a request with a body is refused.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tungstenite::handshake::derive_accept_key;

use super::syntax::{is_plain, is_token, is_token_byte, text};
use super::{Framing, Headers, Method, Request, Response, Status, Version};

/// What precedes the token in the entry of `Sec-WebSocket-Protocol` that phoenix.js makes of its `authToken`.
pub(super) const BEARER_PREFIX: &str = "base64url.bearer.phx.";

/// The most bytes of a peer's own fields that are quoted back to it.
const QUOTE_BYTES_MAX: usize = 64;

/// A request that may become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// The value of `Sec-WebSocket-Key`.
    pub key: &'a str,
    /// What `Sec-WebSocket-Protocol` offers.
    pub protocols: Protocols<'a>,
}

impl Handshake<'_> {
    /// The value of `Sec-WebSocket-Accept` that proves that the key was read.
    #[must_use]
    pub fn accept(&self) -> String {
        derive_accept_key(self.key.as_bytes())
    }
}

/// What else than subprotocols a client offers as such; [`Subprotocols`](super::Subprotocols) chooses among these.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Protocols<'a> {
    /// The token that phoenix.js puts here when it is given an `authToken`, still encoded;
    /// [`bearer_token`] decodes it.
    pub bearer: Option<&'a str>,
}

/// Shows whether there is a token, not the token, which must not reach a log.
impl std::fmt::Debug for Protocols<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Protocols").field("bearer", &self.bearer.map(|_| "..")).finish()
    }
}

/// Why a request can't become a WebSocket. Always the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpgradeError {
    /// The method is not GET.
    Method,
    /// The version is HTTP/1.0.
    Version,
    /// `Connection` lacks the option `upgrade`.
    Connection,
    /// `Upgrade` lacks `websocket`.
    Upgrade,
    /// There is no `Sec-WebSocket-Key`.
    KeyMissing,
    /// There are several keys, or the key is not 16 bytes in base64.
    KeyInvalid,
    /// `Sec-WebSocket-Version` is not `13`.
    WebSocketVersion,
    /// There are several bearer tokens, or one that can be none.
    Protocols,
    /// The request has a body, whose bytes would be taken for frames.
    Body,
}

impl UpgradeError {
    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::WebSocketVersion => Status::UpgradeRequired,
            _ => Status::BadRequest,
        }
    }

    /// The plain text of the answer to `request`. It quotes the fields in question only if that is
    /// harmless: short, and of visible ASCII without quotes or markup.
    #[must_use]
    pub fn body(self, request: &Request<'_>) -> Cow<'static, str> {
        let got = |name: &str| quote(&request.headers, name);
        match self {
            Self::Method => "".into(),
            Self::Version => "HTTP version HTTP/1.0 unsupported".into(),
            Self::Connection => {
                format!("'connection' header must contain 'upgrade', got {}", got("connection")).into()
            }
            Self::Upgrade => {
                format!("'upgrade' header must contain 'websocket', got {}", got("upgrade")).into()
            }
            Self::KeyMissing => "'sec-websocket-key' header is absent".into(),
            Self::KeyInvalid => "'sec-websocket-key' header must be 16 bytes in base64, once".into(),
            Self::WebSocketVersion => {
                let got = got("sec-websocket-version");
                format!("'sec-websocket-version' header must equal '13', got {got}").into()
            }
            Self::Protocols => {
                "'sec-websocket-protocol' header must have at most one bearer token, in base64".into()
            }
            Self::Body => "a websocket upgrade must not have a body".into(),
        }
    }

    /// Appends the whole answer to `request` to `out`.
    pub fn write(self, request: &Request<'_>, out: &mut Vec<u8>, keep_alive: bool) {
        let body = self.body(request);
        let response = match self {
            Self::Method => Response::new(self.status()),
            Self::WebSocketVersion => {
                Response::text(self.status(), &body).header("sec-websocket-version", "13")
            }
            _ => Response::text(self.status(), &body),
        };
        response.write(out, keep_alive, request.method == Method::Head);
    }
}

/// Checks whether `request` is a WebSocket opening handshake.
///
/// Extensions are not looked at: none is ever accepted, so none can be malformed.
///
/// # Errors
/// It is none; [`UpgradeError::write`] answers it. After [`UpgradeError::Body`] the connection closes, since
/// the body was not read.
pub fn check<'a>(request: &Request<'a>) -> Result<Handshake<'a>, UpgradeError> {
    let headers = &request.headers;
    if request.method != Method::Get {
        return Err(UpgradeError::Method);
    }
    if request.version != Version::Http11 {
        return Err(UpgradeError::Version);
    }
    if !headers.has_token("connection", "upgrade") {
        return Err(UpgradeError::Connection);
    }
    if !headers.has_token("upgrade", "websocket") {
        return Err(UpgradeError::Upgrade);
    }
    let mut keys = headers.all("sec-websocket-key");
    let key = keys.next().ok_or(UpgradeError::KeyMissing)?;
    let key = text(key).filter(|key| is_key(key)).ok_or(UpgradeError::KeyInvalid)?;
    if keys.next().is_some() {
        return Err(UpgradeError::KeyInvalid);
    }
    if !headers.all("sec-websocket-version").eq([b"13"]) {
        return Err(UpgradeError::WebSocketVersion);
    }
    if request.body != Framing::None {
        return Err(UpgradeError::Body);
    }
    Ok(Handshake { key, protocols: protocols(headers)? })
}

/// Reads the token that `Sec-WebSocket-Protocol` may hold; several fields are one list. What else is offered is not judged:
/// an entry that is no token can't be one of the server's either.
///
/// On its own for those who look at the token before they look at the handshake, as Phoenix does.
///
/// # Errors
/// There are several bearer tokens, of which no one could say which counts, or one that holds more than the base64
/// alphabet.
pub fn protocols<'a>(headers: &Headers<'a>) -> Result<Protocols<'a>, UpgradeError> {
    let mut protocols = Protocols::default();
    for entry in headers.elements("sec-websocket-protocol") {
        if let Some(token) = entry.strip_prefix(BEARER_PREFIX.as_bytes()) {
            // `btoa` makes `/` as well, which is no token byte; some clients leave the padding.
            let is_good = |byte: &u8| is_token_byte(*byte) || matches!(byte, b'/' | b'=');
            let token = text(token).filter(|token| token.as_bytes().iter().all(is_good));
            let token = token.ok_or(UpgradeError::Protocols)?;
            if protocols.bearer.replace(token).is_some() {
                return Err(UpgradeError::Protocols);
            }
        }
    }
    Ok(protocols)
}

/// Decodes a bearer token: base64 of the standard or, as its prefix says, of the URL-safe alphabet, with or
/// without padding. `None` if it is neither, or not UTF-8 underneath.
#[must_use]
pub fn bearer_token(encoded: &str) -> Option<String> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&STANDARD, CONFIG);
    const URL_SAFE_ENGINE: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, CONFIG);
    let engine = if encoded.contains(['-', '_']) { &URL_SAFE_ENGINE } else { &ENGINE };
    String::from_utf8(engine.decode(encoded).ok()?).ok()
}

/// Appends the answer that makes the connection a WebSocket. The frames begin right after it.
///
/// `accept` is [`Handshake::accept`], `protocol` is what [`Subprotocols`](super::Subprotocols) has chosen (left out if it is
/// no token).
pub fn write_101(out: &mut Vec<u8>, accept: &str, protocol: Option<&str>) {
    out.extend_from_slice(Status::SwitchingProtocols.line().as_bytes());
    out.extend_from_slice(b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ");
    debug_assert!(is_plain(accept));
    out.extend_from_slice(accept.as_bytes());
    if let Some(protocol) = protocol.filter(|protocol| is_token(protocol.as_bytes())) {
        out.extend_from_slice(b"\r\nsec-websocket-protocol: ");
        out.extend_from_slice(protocol.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Whether `key` has the form of 16 bytes in base64: 22 digits and the padding. The bits that the last digit
/// has too many are not looked at: nothing depends on them, and makers of random digits set them.
fn is_key(key: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match key.strip_suffix("==") {
        Some(digits) => digits.len() == 22 && digits.bytes().all(is_digit),
        None => false,
    }
}

/// The values of all fields `name` as Elixir would inspect a list of strings.
fn quote(headers: &Headers<'_>, name: &str) -> String {
    let harmless =
        |value| text(value).filter(|text| is_plain(text) && !text.contains(['"', '\\', '<', '>', '&', '#']));
    let bytes: usize = headers.all(name).map(|value| value.len() + 4).sum();
    if bytes > QUOTE_BYTES_MAX || !headers.all(name).all(|value| harmless(value).is_some()) {
        return "[...]".to_owned();
    }
    let mut quoted = "[".to_owned();
    for (at, value) in headers.all(name).filter_map(harmless).enumerate() {
        quoted.push_str(if at == 0 { "\"" } else { ", \"" });
        quoted.push_str(value);
        quoted.push('"');
    }
    quoted.push(']');
    quoted
}

#[cfg(test)]
mod tests;
