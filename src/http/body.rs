//! The request body: a number of bytes, or chunks (RFC 9112, sections 6 and 7).

use super::syntax::{is_field_byte, is_token_byte};
use super::{Framing, Status};

/// Hex digits of a chunk's size. Eight say 4 GiB, far beyond any body this server takes.
const CHUNK_DIGITS_MAX: u8 = 8;

/// Takes a request's body out of the bytes that follow its head.
///
/// Chunks are read strictly: a size of one to eight hex digits and exact line ends. What lenient readers pass over there is
/// where two of them come to disagree about the body's end. Extensions and trailer fields are passed over, as RFC 9112,
/// sections 7.1.1 and 7.1.2 ask, if they are made of what may stand in a field; their bytes count as the body's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyDecoder {
    state: State,
    /// Bytes of the body, of extensions and of trailer fields that may still come.
    allowed: u64,
}

/// | state | input | next |
/// |---|---|---|
/// | `Length` | its bytes | `Done` |
/// | `Size` | hex digit | `Size` |
/// | | CR after a digit | `SizeLf` |
/// | | white space after a digit | `Space` |
/// | `Size`, `Space` | `;` | `Extension` |
/// | `Space` | white space | `Space` |
/// | `Extension` | what a field may hold | `Extension` |
/// | | CR | `SizeLf` |
/// | `SizeLf` | LF | `Data`, or `End` when the size is zero |
/// | `Data` | its bytes | `DataCr` |
/// | `DataCr`, `DataLf` | CR, LF | `Size` |
/// | `End`, `EndLf` | CR, LF | `Done` |
/// | `End`, `TrailerName` | a name's bytes | `TrailerName` |
/// | `TrailerName` | `:` | `TrailerValue` |
/// | `TrailerValue` | what a field may hold | `TrailerValue` |
/// | `TrailerValue`, `TrailerLf` | CR, LF | `End` |
/// | any | anything else | `Failed` |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length { left: u64 },
    Size { size: u64, digits: u8 },
    Space { size: u64 },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    End,
    EndLf,
    TrailerName,
    TrailerValue,
    TrailerLf,
    Done,
    Failed(BodyError),
}

/// What [`BodyDecoder::decode`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that belong to the body. While the body is not done, that is all of them.
    pub consumed: usize,
    /// Whether the body is whole; what follows in the input is the next request.
    pub done: bool,
}

/// Why a body is refused. Always the peer's fault; the connection can't be used any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyError {
    /// The body is, or says it will be, longer than the limit.
    TooLarge,
    /// A chunk's size is missing, has more than eight digits, or something other than CR LF follows it.
    ChunkSize,
    /// A chunk's data is not followed by CR LF.
    ChunkEnd,
    /// What follows the last chunk is neither the end nor trailer fields.
    Trailers,
}

impl BodyError {
    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::TooLarge => Status::ContentTooLarge,
            Self::ChunkSize | Self::ChunkEnd | Self::Trailers => Status::BadRequest,
        }
    }

    /// A sentence for whoever wrote the client: what is wrong and what to do.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLarge => {
                "The request body is larger than this server accepts here: send less at a time."
            }
            Self::ChunkSize => {
                "Write a chunk's size as one to eight hex digits, extensions behind a semicolon, and CR LF."
            }
            Self::ChunkEnd => "End every chunk with CR LF after exactly as many bytes as its size says.",
            Self::Trailers => {
                "End the last chunk with one empty line, after trailer fields if there are any."
            }
        }
    }
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for BodyError {}

impl BodyDecoder {
    /// A decoder for a body of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// The announced length is beyond the limit: nothing of such a body needs to be read, or asked for by
    /// a `100 Continue`.
    pub const fn new(framing: Framing, bytes_max: usize) -> Result<Self, BodyError> {
        let allowed = bytes_max as u64;
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) if length > allowed => return Err(BodyError::TooLarge),
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::Size { size: 0, digits: 0 },
        };
        Ok(Self { state, allowed })
    }

    /// Whether the body is whole; true from the start where there is none.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Appends to `out` what `input` holds of the body.
    ///
    /// `out` grows by what has come, never by what was announced, and by at most the limit over all calls.
    /// Neither the result nor what is in `out` depends on how the input is cut.
    ///
    /// # Errors
    /// The body is malformed or too large. The error stays: every further call returns it.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Progress, BodyError> {
        let mut rest = input;
        while let Some((&first, after)) = rest.split_first() {
            match self.state {
                State::Done => break,
                State::Failed(error) => return Err(error),
                State::Length { left } => {
                    let (left, behind) = copy(left, rest, out);
                    self.state = if left == 0 { State::Done } else { State::Length { left } };
                    rest = behind;
                }
                State::Data { left } => {
                    let (left, behind) = copy(left, rest, out);
                    self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                    rest = behind;
                }
                _ => {
                    self.state = match self.step(first) {
                        Ok(state) => state,
                        Err(error) => State::Failed(error),
                    };
                    rest = after;
                }
            }
        }
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        Ok(Progress { consumed: input.len() - rest.len(), done: self.is_done() })
    }

    /// The state after one byte around the chunks' data.
    fn step(&mut self, byte: u8) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::Size { digits: 1.., size } | State::Extension { size }, b'\r') => {
                Ok(State::SizeLf { size })
            }
            (State::Size { digits: 1.., size } | State::Space { size }, b' ' | b'\t') => {
                self.skip(State::Space { size })
            }
            (State::Size { digits: 1.., size } | State::Space { size }, b';') => {
                self.skip(State::Extension { size })
            }
            (State::Extension { size }, _) if is_field_byte(byte) => self.skip(State::Extension { size }),
            (State::Size { size, digits }, _) if digits < CHUNK_DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).ok_or(BodyError::ChunkSize)?;
                Ok(State::Size { size: size * 16 + u64::from(digit), digits: digits + 1 })
            }
            (State::SizeLf { size: 0 }, b'\n') => Ok(State::End),
            (State::SizeLf { size }, b'\n') => {
                // Refused from the chunk's announced size, before its bytes come.
                self.allowed = self.allowed.checked_sub(size).ok_or(BodyError::TooLarge)?;
                Ok(State::Data { left: size })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size { size: 0, digits: 0 }),
            (State::End, b'\r') => Ok(State::EndLf),
            (State::EndLf, b'\n') => Ok(State::Done),
            (State::End | State::TrailerName, _) if is_token_byte(byte) => self.skip(State::TrailerName),
            (State::TrailerName, b':') => self.skip(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_field_byte(byte) => self.skip(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::End),
            (State::DataCr | State::DataLf, _) => Err(BodyError::ChunkEnd),
            (State::End | State::EndLf | State::TrailerName | State::TrailerValue | State::TrailerLf, _) => {
                Err(BodyError::Trailers)
            }
            _ => Err(BodyError::ChunkSize),
        }
    }

    /// Passes over a byte. It counts all the same, so that what is passed over has a bound.
    fn skip(&mut self, next: State) -> Result<State, BodyError> {
        self.allowed = self.allowed.checked_sub(1).ok_or(BodyError::TooLarge)?;
        Ok(next)
    }
}

/// Moves up to `left` bytes to `out`; returns how many are still to come and what is behind them.
fn copy<'a>(left: u64, input: &'a [u8], out: &mut Vec<u8>) -> (u64, &'a [u8]) {
    let taken = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    let (data, behind) = input.split_at(taken);
    out.extend_from_slice(data);
    (left - taken as u64, behind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Outcome = (Vec<u8>, Result<Progress, BodyError>);

    /// Decodes the pieces one after the other; the progress is that over all of them.
    fn decode(framing: Framing, limit: usize, pieces: &[&[u8]]) -> Outcome {
        let mut out = Vec::new();
        let mut total = Progress { consumed: 0, done: false };
        let mut decoder = match BodyDecoder::new(framing, limit) {
            Ok(decoder) => decoder,
            Err(error) => return (out, Err(error)),
        };
        total.done = decoder.is_done();
        for piece in pieces {
            match decoder.decode(piece, &mut out) {
                Ok(progress) => {
                    total.consumed += progress.consumed;
                    total.done = progress.done;
                }
                Err(error) => {
                    assert_eq!(decoder.decode(b"", &mut out), Err(error));
                    assert_eq!(decoder.decode(b"0\r\n\r\n", &mut out), Err(error));
                    return (out, Err(error));
                }
            }
        }
        (out, Ok(total))
    }

    /// The outcome is `expected` however the input is cut.
    #[track_caller]
    fn check(framing: Framing, input: &[u8], body: &[u8], expected: Result<Progress, BodyError>) {
        let expected = (body.to_vec(), expected);
        assert_eq!(decode(framing, 20, &[input]), expected, "whole");
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(decode(framing, 20, &bytes), expected, "bytewise");
        for cut in 0..input.len() {
            let (left, right) = input.split_at(cut);
            assert_eq!(decode(framing, 20, &[left, right]), expected, "cut at {cut}");
        }
    }

    fn done(consumed: usize) -> Result<Progress, BodyError> {
        Ok(Progress { consumed, done: true })
    }

    fn partial(consumed: usize) -> Result<Progress, BodyError> {
        Ok(Progress { consumed, done: false })
    }

    #[test]
    fn no_body_takes_nothing() {
        check(Framing::None, b"GET /", b"", done(0));
        check(Framing::Length(0), b"GET /", b"", done(0));
        check(Framing::None, b"", b"", done(0));
    }

    #[test]
    fn a_length_takes_its_bytes_and_leaves_the_rest() {
        check(Framing::Length(5), b"hello", b"hello", done(5));
        check(Framing::Length(5), b"helloGET /", b"hello", done(5));
        check(Framing::Length(5), b"hell", b"hell", partial(4));
        check(Framing::Length(20), b"", b"", partial(0));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_from_the_number() {
        for length in [21, 1 << 32, u64::MAX] {
            check(Framing::Length(length), b"hello", b"", Err(BodyError::TooLarge));
        }
        check(Framing::Length(20), b"12345678901234567890", b"12345678901234567890", done(20));
    }

    #[test]
    fn chunks_are_joined() {
        for (input, body) in [
            ("0\r\n\r\n", ""),
            ("00000000\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("1\r\na\r\n02\r\nbc\r\n0\r\n\r\n", "abc"),
            ("a\r\n0\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n0\r\n\r\n"),
            ("00000014\r\n12345678901234567890\r\n0\r\n\r\n", "12345678901234567890"),
            ("A\r\n1234567890\r\na\r\n1234567890\r\n0\r\n\r\n", "12345678901234567890"),
        ] {
            check(Framing::Chunked, input.as_bytes(), body.as_bytes(), done(input.len()));
            let followed = format!("{input}GET /");
            check(Framing::Chunked, followed.as_bytes(), body.as_bytes(), done(input.len()));
        }
    }

    /// RFC 9112, section 7.1.1: a recipient must ignore extensions that it does not know.
    #[test]
    fn extensions_and_trailer_fields_are_passed_over() {
        for (input, body) in [
            ("1;a=b\r\nx\r\n0\r\n\r\n", "x"),
            ("1 ; a = \"b;c\"\r\nx\r\n0\r\n\r\n", "x"),
            ("1\t;\u{e9}\r\nx\r\n0;last\r\n\r\n", "x"),
            ("1;\r\nx\r\n0\r\n\r\n", "x"),
            ("1\r\nx\r\n0\r\nX: y\r\n\r\n", "x"),
            ("0\r\nX-1:\r\nY:\t\u{e9} z\r\n\r\n", ""),
            ("1;aaaaaaaaaaaaaaaaaa\r\nx\r\n0\r\n\r\n", "x"),
            ("0\r\nX: 12345678901234567\r\n\r\n", ""),
        ] {
            check(Framing::Chunked, input.as_bytes(), body.as_bytes(), done(input.len()));
            let followed = format!("{input}GET /");
            check(Framing::Chunked, followed.as_bytes(), body.as_bytes(), done(input.len()));
        }
    }

    #[test]
    fn every_prefix_of_a_body_needs_more() {
        let input = b"5;a=b\r\nhello\r\n0A\r\n0123456789\r\n0\r\n\r\n";
        for end in 0..input.len() {
            let (_, result) = decode(Framing::Chunked, 20, &[&input[..end]]);
            assert_eq!(result, partial(end));
        }
    }

    #[test]
    fn what_is_not_exact_is_refused() {
        for (input, body, error) in [
            ("\r\n", "", BodyError::ChunkSize),
            ("g\r\n", "", BodyError::ChunkSize),
            ("-1\r\n", "", BodyError::ChunkSize),
            ("+1\r\n", "", BodyError::ChunkSize),
            ("0x1\r\n", "", BodyError::ChunkSize),
            (" 1\r\n", "", BodyError::ChunkSize),
            ("1 \r\n", "", BodyError::ChunkSize),
            ("1 \t\r\n", "", BodyError::ChunkSize),
            ("1 a\r\n", "", BodyError::ChunkSize),
            (";a=b\r\n", "", BodyError::ChunkSize),
            ("1;a=b\n", "", BodyError::ChunkSize),
            ("1;a\r\r\n", "", BodyError::ChunkSize),
            ("1;a\0\r\n", "", BodyError::ChunkSize),
            ("1;a\x7f\r\n", "", BodyError::ChunkSize),
            ("1;aaaaaaaaaaaaaaaaaaaa\r\n", "", BodyError::TooLarge),
            ("1;aaaaaaaaaaaaaaaaaaa\r\n", "", BodyError::TooLarge),
            ("1                     ", "", BodyError::TooLarge),
            ("1\n", "", BodyError::ChunkSize),
            ("1\r\r\n", "", BodyError::ChunkSize),
            ("1\rx", "", BodyError::ChunkSize),
            ("000000001\r\n", "", BodyError::ChunkSize),
            ("FFFFFFFFF\r\n", "", BodyError::ChunkSize),
            ("1\r\nab", "a", BodyError::ChunkEnd),
            ("1\r\na\n", "a", BodyError::ChunkEnd),
            ("1\r\na\rb", "a", BodyError::ChunkEnd),
            ("5\r\nhello0\r\n\r\n", "hello", BodyError::ChunkEnd),
            ("1\r\na\r\n\r\n", "a", BodyError::ChunkSize),
            ("0\r\nX: y\n\r\n", "", BodyError::Trailers),
            ("0\r\nX: y\r\r\n", "", BodyError::Trailers),
            ("0\r\nX y\r\n\r\n", "", BodyError::Trailers),
            ("0\r\nX : y\r\n\r\n", "", BodyError::Trailers),
            ("0\r\n: y\r\n\r\n", "", BodyError::Trailers),
            ("0\r\n X: y\r\n\r\n", "", BodyError::Trailers),
            ("0\r\nX: y\r\n z\r\n\r\n", "", BodyError::Trailers),
            ("0\r\nX: \0\r\n\r\n", "", BodyError::Trailers),
            ("0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "", BodyError::Trailers),
            ("0\r\nX: 123456789012345678\r\n\r\n", "", BodyError::TooLarge),
            ("0\r\n\n", "", BodyError::Trailers),
            ("0\r\n\rx", "", BodyError::Trailers),
            ("0\r\n0\r\n\r\n", "", BodyError::Trailers),
            ("15\r\n1", "", BodyError::TooLarge),
            ("FFFFFFFF\r\n", "", BodyError::TooLarge),
            ("a\r\n1234567890\r\nb\r\n1", "1234567890", BodyError::TooLarge),
        ] {
            check(Framing::Chunked, input.as_bytes(), body.as_bytes(), Err(error));
        }
    }

    #[test]
    fn an_announced_size_reserves_nothing() {
        let mut out = Vec::new();
        let mut decoder = BodyDecoder::new(Framing::Chunked, usize::MAX).unwrap();
        decoder.decode(b"FFFFFFFF\r\na", &mut out).unwrap();
        assert!(out.capacity() < 1024);
        let mut decoder = BodyDecoder::new(Framing::Length(1 << 40), usize::MAX).unwrap();
        decoder.decode(b"a", &mut out).unwrap();
        assert!(out.capacity() < 1024);
    }

    proptest! {
        #[test]
        fn what_was_chunked_comes_back(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut wire = Vec::new();
            for piece in &pieces {
                wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                wire.extend_from_slice(piece);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let (left, right) = wire.split_at(cut.index(wire.len()));
            let (out, result) = decode(Framing::Chunked, 1000, &[left, right]);
            prop_assert_eq!(result, done(wire.len()));
            prop_assert_eq!(out, pieces.concat());
        }

        #[test]
        fn any_cut_gives_the_same(
            parts in prop::collection::vec(prop::sample::select(vec![
                "0", "1", "a", "F", "\r\n", "\r", "\n", ";", "xx", "1\r\nx\r\n", "0\r\n\r\n", "8", " ", ":",
                "0\r\nX: y",
            ]), 0..10),
            cut in any::<prop::sample::Index>(),
        ) {
            let input = parts.concat().into_bytes();
            let (left, right) = input.split_at(cut.index(input.len() + 1));
            prop_assert_eq!(
                decode(Framing::Chunked, 20, &[left, right]),
                decode(Framing::Chunked, 20, &[&input])
            );
        }
    }
}
