//! Close frames: which codes may stand in one, and their payload (RFC 6455, sections 5.5.1 and 7.4).

use super::{CloseCode, Control, OpCode, ProtocolError, write_frame};

/// A control frame carries 125 bytes, and the code takes two of them.
const REASON_BYTES_MAX: usize = 123;

/// The code and the reason that a close frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseFrame<'m> {
    /// Why the peer closes. The code 1014 (bad gateway), which IANA lists since RFC 6455, has no variant of
    /// its own in [`CloseCode`]; take its number with `u16::from`.
    pub code: CloseCode,
    /// A text for developers, often empty.
    pub reason: &'m str,
}

impl<'m> CloseFrame<'m> {
    /// Reads the payload of a close frame; an empty one is `None`.
    pub(super) fn decode(payload: &'m [u8]) -> Result<Option<Self>, ProtocolError> {
        match payload {
            [] => Ok(None),
            [_] => Err(ProtocolError::ClosePayloadTooShort),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !may_be_sent(code) {
                    return Err(ProtocolError::CloseCodeInvalid);
                }
                let reason =
                    simdutf8::basic::from_utf8(reason).map_err(|_| ProtocolError::CloseReasonNotUtf8)?;
                Ok(Some(Self { code: CloseCode::from(code), reason }))
            }
        }
    }
}

/// Appends a close frame. A reason that does not fit its 123 bytes is cut at a character's boundary.
///
/// The codes that must not stand in a frame ([`CloseCode::Status`], [`CloseCode::Abnormal`] and others of
/// RFC 6455, section 7.4) give a frame without a payload, so the code of a received close can be echoed as
/// it is.
pub fn write_close(out: &mut Vec<u8>, code: CloseCode, reason: &str) {
    let code = u16::from(code);
    let mut payload = Vec::new();
    if may_be_sent(code) {
        let mut end = reason.len().min(REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(&reason.as_bytes()[..end]);
    }
    write_frame(out, OpCode::Control(Control::Close), &payload);
}

/// Whether a code may stand in a close frame: those of RFC 6455, section 7.4.1, those that IANA has listed
/// since (1012 to 1014), and the ranges for libraries and applications. 1004 to 1006 and 1015 are names for
/// things that happen without a frame.
const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_taken_when_the_registry_lets_it_stand_in_a_frame() {
        // The good and the bad codes of Autobahn's cases 7.7 and 7.9, and the edges of each range.
        let good =
            [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
        let bad = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535];
        for code in good {
            let payload = u16::to_be_bytes(code);
            let frame = CloseFrame::decode(&payload).unwrap().unwrap();
            assert_eq!((u16::from(frame.code), frame.reason), (code, ""));
        }
        for code in bad {
            let payload = u16::to_be_bytes(code);
            assert_eq!(CloseFrame::decode(&payload), Err(ProtocolError::CloseCodeInvalid), "{code}");
        }
    }

    #[test]
    fn a_payload_is_nothing_or_a_code_and_a_reason() {
        let bye = CloseFrame { code: CloseCode::Normal, reason: "bye" };
        assert_eq!(CloseFrame::decode(b""), Ok(None));
        assert_eq!(CloseFrame::decode(b"\x03\xe8bye"), Ok(Some(bye)));
        assert_eq!(CloseFrame::decode(b"\x03"), Err(ProtocolError::ClosePayloadTooShort));
        assert_eq!(CloseFrame::decode(b"\x03\xe8\xff"), Err(ProtocolError::CloseReasonNotUtf8));
        // A bad code wins over a bad reason.
        assert_eq!(CloseFrame::decode(b"\x03\xed\xff"), Err(ProtocolError::CloseCodeInvalid));
    }

    fn check_written(code: CloseCode, reason: &str, expected: &[u8]) {
        let mut out = vec![0xaa];
        write_close(&mut out, code, reason);
        assert_eq!(out[0], 0xaa, "what is there stays");
        assert_eq!(&out[1..], expected);
    }

    #[test]
    fn a_written_close_carries_what_fits() {
        check_written(CloseCode::Normal, "", b"\x88\x02\x03\xe8");
        check_written(CloseCode::Away, "bye", b"\x88\x05\x03\xe9bye");
        let long = "a".repeat(200);
        check_written(CloseCode::Size, &long, &[b"\x88\x7d\x03\xf1", &long.as_bytes()[..123]].concat());
        // 61 characters of two bytes fit; half of the next one does not.
        let umlauts = "ü".repeat(100);
        check_written(CloseCode::Size, &umlauts, &[b"\x88\x7c\x03\xf1", &umlauts.as_bytes()[..122]].concat());
    }

    #[test]
    fn a_code_that_is_never_sent_gives_an_empty_close() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
            check_written(CloseCode::from(code), "unseen", b"\x88\x00");
        }
    }

    #[test]
    fn every_reason_of_an_error_fits_whole() {
        use ProtocolError::*;
        for error in [
            ReservedBits,
            UnknownOpcode,
            FragmentedControl,
            ControlTooLong,
            Unmasked,
            LengthNotMinimal,
            UnexpectedContinuation,
            ExpectedContinuation,
            FrameTooLong,
            MessageTooLong,
            TooManyFragments,
            TextNotUtf8,
            ClosePayloadTooShort,
            CloseCodeInvalid,
            CloseReasonNotUtf8,
        ] {
            let mut out = Vec::new();
            write_close(&mut out, error.close_code(), error.reason());
            let written = CloseFrame::decode(&out[2..]).unwrap().unwrap();
            assert_eq!(written, CloseFrame { code: error.close_code(), reason: error.reason() });
        }
    }
}
