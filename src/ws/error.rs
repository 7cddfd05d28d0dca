//! What a peer can do wrong, and what it is told about it.

use super::CloseCode;

/// A peer broke the protocol or a limit. It is sent [`close_code`](Self::close_code) and
/// [`reason`](Self::reason), and nothing more is read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved bit is set though no extension was negotiated (RFC 6455, section 5.2).
    ReservedBits,
    /// The opcode is one of those kept for later versions (section 5.2).
    UnknownOpcode,
    /// A control frame lacks the FIN bit (section 5.5).
    FragmentedControl,
    /// A control frame announces more than 125 bytes (section 5.5).
    ControlTooLong,
    /// A client must mask every frame (section 5.1).
    Unmasked,
    /// The payload's length is not written in the fewest bytes (section 5.2).
    LengthNotMinimal,
    /// A continuation frame stands where no message is under way (section 5.4).
    UnexpectedContinuation,
    /// A text or binary frame stands inside a fragmented message (section 5.4).
    ExpectedContinuation,
    /// A data frame announces more than `frame_bytes_max`. A 64-bit length with the forbidden top bit
    /// counts as this too: it is longer than any limit.
    FrameTooLong,
    /// The fragments of a message sum up to more than `message_bytes_max`.
    MessageTooLong,
    /// A message has more fragments than `fragments_max`; empty ones count.
    TooManyFragments,
    /// A text message is not UTF-8 (section 8.1).
    TextNotUtf8,
    /// The payload of a close frame is one byte, too short for a code (section 5.5.1).
    ClosePayloadTooShort,
    /// A close frame carries a code that must not stand in one (section 7.4).
    CloseCodeInvalid,
    /// The reason in a close frame is not UTF-8 (section 5.5.1).
    CloseReasonNotUtf8,
}

impl ProtocolError {
    /// The close code that answers the error: 1002 for a broken rule, 1007 for text that is none, 1009 for a
    /// limit.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::ReservedBits
            | Self::UnknownOpcode
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::Unmasked
            | Self::LengthNotMinimal
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::ClosePayloadTooShort
            | Self::CloseCodeInvalid => CloseCode::Protocol,
            Self::TextNotUtf8 | Self::CloseReasonNotUtf8 => CloseCode::Invalid,
            Self::FrameTooLong | Self::MessageTooLong | Self::TooManyFragments => CloseCode::Size,
        }
    }

    /// A sentence for the peer's developer that fits into a close frame and names the limit, if one was hit.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "a reserved bit is set but no extension was negotiated",
            Self::UnknownOpcode => "unknown opcode",
            Self::FragmentedControl => "a control frame must not be fragmented",
            Self::ControlTooLong => "a control frame carries at most 125 bytes",
            Self::Unmasked => "a client must mask its frames",
            Self::LengthNotMinimal => "the payload length must be written in the fewest bytes",
            Self::UnexpectedContinuation => "a continuation frame without a message to continue",
            Self::ExpectedContinuation => "a new message began before the fragmented one ended",
            Self::FrameTooLong => "the frame is longer than the limit frame_bytes_max",
            Self::MessageTooLong => "the message is longer than the limit message_bytes_max",
            Self::TooManyFragments => "the message has more fragments than the limit fragments_max",
            Self::TextNotUtf8 => "a text message must be UTF-8",
            Self::ClosePayloadTooShort => {
                "a close frame carries nothing, or a code of two bytes and a reason"
            }
            Self::CloseCodeInvalid => "the close code must not stand in a close frame",
            Self::CloseReasonNotUtf8 => "the reason in a close frame must be UTF-8",
        }
    }
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ProtocolError {}
