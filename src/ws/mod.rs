//! The server's side of the WebSocket protocol (RFC 6455): bytes to messages and messages to bytes.
//!
//! The module knows bytes and limits only. It has no socket and no clock, and it draws no random numbers, for
//! a server never masks.
//!
//! ```text
//! bytes read ──► Input ──► Decoder::decode ──► Message, borrowed from the input where the frame lies whole in it
//!                              │
//!                              └─► ProtocolError ──► close code and reason ──► write_close
//!
//! payload ──► header / write_frame ──► bytes to send
//! ```
//!
//! Extensions are not negotiated, so a reserved bit is an error.
//!
//! ```
//! use hailer::limits::Limits;
//! use hailer::ws::{Decoder, Input, Message};
//!
//! // The masked "Hello" of RFC 6455, section 5.7.
//! let mut bytes = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
//! let mut input = Input::new(&mut bytes);
//! let mut decoder = Decoder::new();
//!
//! let limits = Limits::default();
//! assert_eq!(decoder.decode(&mut input, &limits), Ok(Some(Message::Text("Hello"))));
//! assert_eq!(decoder.decode(&mut input, &limits), Ok(None));
//! assert!(decoder.is_idle());
//! ```

mod assembly;
mod close;
mod decoder;
mod error;
mod frame;
mod mask;
mod message;
#[cfg(test)]
mod tests;

pub use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

pub use close::{CloseFrame, write_close};
pub use decoder::{Decoder, Input};
pub use error::ProtocolError;
pub use frame::{Header, header, write_frame, write_masked};
pub use message::Message;

/// The value of `Sec-WebSocket-Accept` that answers the `Sec-WebSocket-Key` of a handshake
/// (RFC 6455, section 4.2.2).
///
/// ```
/// // The pair of RFC 6455, section 1.3.
/// assert_eq!(hailer::ws::accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
#[must_use]
pub fn accept_key(key: &str) -> String {
    tungstenite::handshake::derive_accept_key(key.as_bytes())
}
