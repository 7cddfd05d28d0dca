//! Frame headers, read and written (RFC 6455, section 5.2).

use super::{Control, Data, OpCode, ProtocolError};

/// The longest header a client can send: two bytes, a 64-bit length and the mask's key.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// The most bytes that a control frame may carry (RFC 6455, section 5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const LENGTH_IS_16_BITS: u8 = 126;
const LENGTH_IS_64_BITS: u8 = 127;

/// What a frame is to its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// The next part of the data message under way.
    Continuation,
    /// The first part of a data message.
    Data(DataKind),
    /// A message of its own that may stand between two fragments.
    Control(ControlKind),
}

/// The kinds of data message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataKind {
    Text,
    Binary,
}

/// The kinds of control frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ControlKind {
    Close,
    Ping,
    Pong,
}

/// The header of a client's frame that keeps every rule which needs no look at other frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) fin: bool,
    pub(super) kind: FrameKind,
    pub(super) mask: [u8; 4],
    /// Bytes of payload that the peer announces.
    pub(super) len: usize,
}

impl FrameHeader {
    /// Reads the header at the start of `bytes`; also tells how many bytes it takes.
    ///
    /// `Ok(None)` asks for more. A rule is checked with the byte that can break it, so a prefix of a bad
    /// header gives the same error as the whole of it, or asks for more.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, ProtocolError> {
        let [first, rest @ ..] = bytes else { return Ok(None) };
        let fin = first & FIN != 0;
        let kind = frame_kind(*first)?;

        let [second, rest @ ..] = rest else { return Ok(None) };
        if second & MASKED == 0 {
            return Err(ProtocolError::Unmasked);
        }
        let short = second & LENGTH;
        if matches!(kind, FrameKind::Control(_)) && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(ProtocolError::ControlTooLong);
        }

        let Some((len, rest)) = payload_len(short, rest)? else { return Ok(None) };
        let Some((mask, payload)) = rest.split_first_chunk() else { return Ok(None) };
        Ok(Some((Self { fin, kind, mask: *mask, len }, bytes.len() - payload.len())))
    }
}

/// What the first byte of a frame says.
fn frame_kind(first: u8) -> Result<FrameKind, ProtocolError> {
    if first & RESERVED != 0 {
        return Err(ProtocolError::ReservedBits);
    }
    let kind = match OpCode::from(first & OPCODE) {
        OpCode::Data(Data::Continue) => FrameKind::Continuation,
        OpCode::Data(Data::Text) => FrameKind::Data(DataKind::Text),
        OpCode::Data(Data::Binary) => FrameKind::Data(DataKind::Binary),
        OpCode::Control(Control::Close) => FrameKind::Control(ControlKind::Close),
        OpCode::Control(Control::Ping) => FrameKind::Control(ControlKind::Ping),
        OpCode::Control(Control::Pong) => FrameKind::Control(ControlKind::Pong),
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
            return Err(ProtocolError::UnknownOpcode);
        }
    };
    if matches!(kind, FrameKind::Control(_)) && first & FIN == 0 {
        return Err(ProtocolError::FragmentedControl);
    }
    Ok(kind)
}

/// The payload's length, given its seven bits in the second byte and the bytes behind that; with what
/// follows the length.
fn payload_len(short: u8, rest: &[u8]) -> Result<Option<(usize, &[u8])>, ProtocolError> {
    // RFC 6455, section 5.2: "the minimal number of bytes MUST be used to encode the length".
    let (len, least, rest) = match short {
        LENGTH_IS_16_BITS => {
            let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*len)), 126, rest)
        }
        LENGTH_IS_64_BITS => {
            let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (u64::from_be_bytes(*len), 0x1_0000, rest)
        }
        short => (u64::from(short), 0, rest),
    };
    if len < least {
        return Err(ProtocolError::LengthNotMinimal);
    }
    // The standard forbids the top bit. A length that has it, or that no memory can hold, is above every
    // limit that can be set.
    if i64::try_from(len).is_err() {
        return Err(ProtocolError::FrameTooLong);
    }
    let len = usize::try_from(len).map_err(|_| ProtocolError::FrameTooLong)?;
    Ok(Some((len, rest)))
}

/// The header of a frame from server to client, made by [`header`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; 10],
    len: u8,
}

impl Header {
    /// The header's bytes: two, four or ten.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl AsRef<[u8]> for Header {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// The header of an unfragmented, unmasked frame with a payload of `len` bytes.
///
/// The caller keeps the rules of what it sends: a control frame carries at most 125 bytes, and text is UTF-8.
#[must_use]
pub fn header(opcode: OpCode, len: usize) -> Header {
    debug_assert!(
        matches!(opcode, OpCode::Data(_)) || len <= CONTROL_BYTES_MAX,
        "a control frame of {len} bytes"
    );
    let mut bytes = [0; 10];
    bytes[0] = FIN | u8::from(opcode) & OPCODE;
    let header_len = match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len), _) if len < LENGTH_IS_16_BITS => {
            bytes[1] = len;
            2
        }
        (_, Ok(len)) => {
            bytes[1] = LENGTH_IS_16_BITS;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            4
        }
        _ => {
            bytes[1] = LENGTH_IS_64_BITS;
            bytes[2..].copy_from_slice(&(len as u64).to_be_bytes());
            10
        }
    };
    Header { bytes, len: header_len }
}

/// Appends an unfragmented, unmasked frame. The rules of [`header`] hold.
pub fn write_frame(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let header = header(opcode, payload.len());
    out.reserve(header.as_slice().len() + payload.len());
    out.extend_from_slice(header.as_slice());
    out.extend_from_slice(payload);
}

/// Appends a client's frame: masked, with one fixed key, which costs a server as much as any other.
#[allow(clippy::cast_possible_truncation)]
pub fn write_masked(out: &mut Vec<u8>, opcode: u8, last: bool, payload: &[u8]) {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    out.push(opcode | if last { 0x80 } else { 0 });
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [1, 2, 3, 4];

    /// Checks a complete header, that each of its prefixes asks for more, and that bytes behind it stay.
    fn check(bytes: &[u8], fin: bool, kind: FrameKind, len: usize) {
        let whole = [bytes, &KEY].concat();
        let expected = FrameHeader { fin, kind, mask: KEY, len };
        assert_eq!(FrameHeader::decode(&whole), Ok(Some((expected, whole.len()))), "{bytes:x?}");
        for end in 0..whole.len() {
            assert_eq!(FrameHeader::decode(&whole[..end]), Ok(None), "{:x?}", &whole[..end]);
        }
        let with_payload = [&whole[..], &[0xff; 20]].concat();
        assert_eq!(FrameHeader::decode(&with_payload), Ok(Some((expected, whole.len()))), "{bytes:x?}");
    }

    /// Checks that a header is refused with its last byte, not earlier, and whatever follows.
    fn check_refused(bytes: &[u8], expected: ProtocolError) {
        for end in 0..bytes.len() {
            assert_eq!(FrameHeader::decode(&bytes[..end]), Ok(None), "{:x?}", &bytes[..end]);
        }
        assert_eq!(FrameHeader::decode(bytes), Err(expected), "{bytes:x?}");
        for filler in [0x00, 0xff] {
            let longer = [bytes, &[filler; 20]].concat();
            assert_eq!(FrameHeader::decode(&longer), Err(expected), "{longer:x?}");
        }
    }

    #[test]
    fn headers_are_read() {
        use FrameKind::{Continuation, Control, Data};
        check(&[0x81, 0x80], true, Data(DataKind::Text), 0);
        check(&[0x01, 0x85], false, Data(DataKind::Text), 5);
        check(&[0x82, 0xfd], true, Data(DataKind::Binary), 125);
        check(&[0x00, 0x81], false, Continuation, 1);
        check(&[0x80, 0x80], true, Continuation, 0);
        check(&[0x88, 0x82], true, Control(ControlKind::Close), 2);
        check(&[0x89, 0xfd], true, Control(ControlKind::Ping), 125);
        check(&[0x8a, 0x80], true, Control(ControlKind::Pong), 0);
        check(&[0x82, 0xfe, 0x00, 0x7e], true, Data(DataKind::Binary), 126);
        check(&[0x82, 0xfe, 0xff, 0xff], true, Data(DataKind::Binary), 0xffff);
        check(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0], true, Data(DataKind::Binary), 0x1_0000);
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn the_longest_length_of_the_standard_is_read() {
        let longest = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        check(&longest, true, FrameKind::Data(DataKind::Binary), i64::MAX as usize);
    }

    #[test]
    fn a_header_is_refused_with_the_byte_that_breaks_a_rule() {
        use ProtocolError::*;
        for bits in [0x10, 0x20, 0x40, 0x50, 0x70] {
            check_refused(&[0x81 | bits], ReservedBits);
            check_refused(&[0x89 | bits], ReservedBits);
        }
        for opcode in [0x83, 0x84, 0x85, 0x86, 0x87, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x03, 0x0f] {
            check_refused(&[opcode], UnknownOpcode);
        }
        for opcode in [0x08, 0x09, 0x0a] {
            check_refused(&[opcode], FragmentedControl);
        }
        for opcode in [0x00, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a] {
            for len in [0x00, 0x05, 0x7d, 0x7e, 0x7f] {
                check_refused(&[opcode, len], Unmasked);
            }
        }
        for opcode in [0x88, 0x89, 0x8a] {
            check_refused(&[opcode, 0xfe], ControlTooLong);
            check_refused(&[opcode, 0xff], ControlTooLong);
        }
        check_refused(&[0x82, 0xfe, 0, 0], LengthNotMinimal);
        check_refused(&[0x82, 0xfe, 0, 125], LengthNotMinimal);
        check_refused(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 0], LengthNotMinimal);
        check_refused(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], LengthNotMinimal);
        check_refused(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], FrameTooLong);
        check_refused(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], FrameTooLong);
    }

    fn check_written(opcode: OpCode, len: usize, expected: &[u8]) {
        assert_eq!(header(opcode, len).as_slice(), expected, "{opcode} of {len} bytes");
    }

    #[test]
    fn headers_are_written_in_the_fewest_bytes() {
        let text = OpCode::Data(Data::Text);
        check_written(text, 0, &[0x81, 0]);
        check_written(text, 125, &[0x81, 125]);
        check_written(text, 126, &[0x81, 126, 0, 126]);
        check_written(text, 255, &[0x81, 126, 0, 255]);
        check_written(text, 256, &[0x81, 126, 1, 0]);
        check_written(text, 0xffff, &[0x81, 126, 0xff, 0xff]);
        check_written(text, 0x1_0000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        check_written(OpCode::Data(Data::Binary), 1, &[0x82, 1]);
        check_written(OpCode::Data(Data::Continue), 1, &[0x80, 1]);
        check_written(OpCode::Control(Control::Close), 2, &[0x88, 2]);
        check_written(OpCode::Control(Control::Ping), 0, &[0x89, 0]);
        check_written(OpCode::Control(Control::Pong), 125, &[0x8a, 125]);
    }

    #[test]
    fn a_frame_is_appended_behind_what_is_there() {
        let mut out = b"before".to_vec();
        write_frame(&mut out, OpCode::Data(Data::Text), b"Hello");
        write_frame(&mut out, OpCode::Control(Control::Pong), b"");
        assert_eq!(out, b"before\x81\x05Hello\x8a\x00");
    }
}
