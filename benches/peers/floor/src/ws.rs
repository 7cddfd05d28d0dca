//! As much of RFC 6455 as an echo to all needs: the handshake, whole frames, no fragments, no extensions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;

/// A head longer than this is nobody's handshake, and no client sends a longer frame.
pub const INPUT_BYTES_MAX: usize = 1 << 20;

/// What cannot be answered: the connection is closed.
#[derive(Debug, PartialEq)]
pub struct Broken;

/// The answer to the request at the beginning of `input`, with the request's length; `None` until it is all there.
pub fn handshake(input: &[u8]) -> Result<Option<(String, usize)>, Broken> {
    let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if input.len() > INPUT_BYTES_MAX { Err(Broken) } else { Ok(None) };
    };
    let key = header(&input[..end], b"sec-websocket-key").ok_or(Broken)?;
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID);
    let accept = STANDARD.encode(hash.finalize());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: \
         {accept}\r\n\r\n"
    );
    Ok(Some((answer, end + 4)))
}

fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        line[..colon].eq_ignore_ascii_case(name).then(|| line[colon + 1..].trim_ascii())
    })
}

/// A client's frame, unmasked in the place where it was read to.
#[derive(Debug, PartialEq)]
pub struct Frame<'a> {
    pub opcode: u8,
    pub payload: &'a [u8],
    /// Bytes of all of it.
    pub length: usize,
}

/// The frame at the beginning of `input`; `None`, and nothing is changed, until it is all there.
pub fn frame(input: &mut [u8]) -> Result<Option<Frame<'_>>, Broken> {
    let [first, second, ..] = *input else { return Ok(None) };
    // A fragment, a reserved bit, or a frame that is not masked.
    if first & 0xf0 != 0x80 || second & 0x80 == 0 {
        return Err(Broken);
    }
    let (bytes, at) = match second & 0x7f {
        126 => match *input {
            [_, _, high, low, ..] => (u64::from(u16::from_be_bytes([high, low])), 4),
            _ => return Ok(None),
        },
        127 => match input[2..].first_chunk() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if bytes > INPUT_BYTES_MAX as u64 {
        return Err(Broken);
    }
    let (begin, end) = (at + 4, at + 4 + bytes as usize);
    if input.len() < end {
        return Ok(None);
    }
    let mask = [input[at], input[at + 1], input[at + 2], input[at + 3]];
    unmask(&mut input[begin..end], mask);
    Ok(Some(Frame { opcode: first & 0x0f, payload: &input[begin..end], length: end }))
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let mut fours = payload.chunks_exact_mut(4);
    for four in &mut fours {
        let word = u32::from_ne_bytes([four[0], four[1], four[2], four[3]]) ^ u32::from_ne_bytes(mask);
        four.copy_from_slice(&word.to_ne_bytes());
    }
    for (byte, mask) in fours.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Appends the head of a frame of a server.
pub fn put_head(opcode: u8, bytes: usize, to: &mut Vec<u8>) {
    to.push(0x80 | opcode);
    match bytes {
        0..126 => to.push(bytes as u8),
        126..0x1_0000 => {
            to.push(126);
            to.extend_from_slice(&(bytes as u16).to_be_bytes());
        }
        _ => {
            to.push(127);
            to.extend_from_slice(&(bytes as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_of_the_standard_is_answered_when_it_is_all_there() {
        let request =
            b"GET /chat HTTP/1.1\r\nHost: a\r\nSEC-WebSocket-Key:  dGhlIHNhbXBsZSBub25jZQ== \r\n\r\nrest";
        let (answer, length) = handshake(request).unwrap().unwrap();
        assert!(answer.contains("\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert_eq!(&request[length..], b"rest");
        for cut in 0..length {
            assert_eq!(handshake(&request[..cut]), Ok(None));
        }
        assert_eq!(handshake(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Broken));
    }

    fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 250];
        let mut frame = Vec::new();
        put_head(opcode, payload.len(), &mut frame);
        frame[1] |= 0x80;
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    #[test]
    fn frames_of_all_three_lengths_are_read_when_they_are_all_there() {
        for bytes in [0, 1, 5, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
            let mut input = masked(TEXT, &payload);
            let length = input.len();
            for cut in (0..length).step_by(1 + length / 50) {
                assert_eq!(frame(&mut input[..cut]), Ok(None), "{cut} of {bytes}");
            }
            assert_eq!(frame(&mut input), Ok(Some(Frame { opcode: TEXT, payload: &payload, length })));
        }
    }

    #[test]
    fn what_is_not_masked_or_a_fragment_breaks_the_connection() {
        assert_eq!(frame(&mut [0x81, 0x01, b'a']), Err(Broken));
        assert_eq!(frame(&mut [0x01, 0x81, 0, 0, 0, 0, b'a']), Err(Broken));
        assert_eq!(frame(&mut [0x81, 0xff, 255, 255, 255, 255, 255, 255, 255, 255]), Err(Broken));
    }
}
