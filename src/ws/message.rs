//! What a decoder hands out.

use super::frame::{ControlKind, DataKind};
use super::{CloseFrame, ProtocolError};

/// A whole data message, or a control frame, borrowed from the input or from the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'m> {
    /// A text message.
    Text(&'m str),
    /// A binary message.
    Binary(&'m [u8]),
    /// A ping; its payload goes back in a pong.
    Ping(&'m [u8]),
    /// A pong, asked for or not.
    Pong(&'m [u8]),
    /// The peer closes. It sends nothing after this that counts, so the caller drops further bytes.
    Close(Option<CloseFrame<'m>>),
}

impl<'m> Message<'m> {
    /// A data message from its whole payload.
    pub(super) fn data(kind: DataKind, payload: &'m [u8]) -> Result<Self, ProtocolError> {
        match kind {
            DataKind::Text => match simdutf8::basic::from_utf8(payload) {
                Ok(text) => Ok(Self::Text(text)),
                Err(_) => Err(ProtocolError::TextNotUtf8),
            },
            DataKind::Binary => Ok(Self::Binary(payload)),
        }
    }

    /// A control frame from its whole payload.
    pub(super) fn control(kind: ControlKind, payload: &'m [u8]) -> Result<Self, ProtocolError> {
        match kind {
            ControlKind::Close => CloseFrame::decode(payload).map(Self::Close),
            ControlKind::Ping => Ok(Self::Ping(payload)),
            ControlKind::Pong => Ok(Self::Pong(payload)),
        }
    }
}
