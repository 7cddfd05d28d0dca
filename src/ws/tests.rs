//! The decoder against tables, every cut, and tungstenite as the other side.

use super::*;
use crate::limits::Limits;
use proptest::prelude::*;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const FIN_TEXT: u8 = 0x81;
const FIN_BINARY: u8 = 0x82;
const FIN_CONTINUATION: u8 = 0x80;
const TEXT: u8 = 0x01;
const BINARY: u8 = 0x02;
const CONTINUATION: u8 = 0x00;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A message that outlives its input, as text for readable tables.
fn show(message: &Message<'_>) -> String {
    match message {
        Message::Text(text) => format!("text {text}"),
        Message::Binary(bytes) => format!("binary {}", bytes.escape_ascii()),
        Message::Ping(bytes) => format!("ping {}", bytes.escape_ascii()),
        Message::Pong(bytes) => format!("pong {}", bytes.escape_ascii()),
        Message::Close(None) => "close".to_owned(),
        Message::Close(Some(CloseFrame { code, reason })) => format!("close {code} {reason}"),
    }
}

/// A client's frame with the length in its shortest form.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = header(OpCode::Data(Data::Binary), payload.len()).as_slice().to_vec();
    out[0] = first;
    out[1] |= 0x80;
    out.extend_from_slice(&KEY);
    out.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

fn frames(list: &[(u8, &[u8])]) -> Vec<u8> {
    list.iter().flat_map(|(first, payload)| frame(*first, payload)).collect()
}

/// Feeds `bytes` cut at `cuts` and tells the messages and the error. Checks on the way that the decoder
/// holds no more than it may.
fn decode(bytes: &[u8], cuts: &[usize], limits: &Limits) -> (Vec<String>, Option<ProtocolError>) {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let mut piece = bytes[start..end].to_vec();
        let mut input = Input::new(&mut piece);
        loop {
            match decoder.decode(&mut input, limits) {
                Ok(Some(message)) => messages.push(show(&message)),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(input.is_empty());
        let held = decoder.buffered_bytes();
        assert!(held <= limits.message_bytes_max.min(2 * end) + 512, "{held} bytes held");
        assert_eq!(decoder.is_idle(), held == 0);
        start = end;
    }
    (messages, None)
}

/// Decodes whole, cut in two at every place, cut in three around every place, and byte by byte.
fn check_with(limits: &Limits, bytes: &[u8], expected: &[&str], error: Option<ProtocolError>) {
    let expected = (expected.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), error);
    assert_eq!(decode(bytes, &[], limits), expected, "in one piece");
    // Every place in what is short, and in what is long those around the header and some others.
    let step = bytes.len() / 50 + 1;
    for cut in (0..=bytes.len()).filter(|cut| bytes.len() < 1000 || *cut < 20 || cut % step == 0) {
        assert_eq!(decode(bytes, &[cut], limits), expected, "cut at {cut}");
        for width in [0, 1, 2, 5, 14] {
            let cuts = [cut, (cut + width).min(bytes.len())];
            assert_eq!(decode(bytes, &cuts, limits), expected, "cut at {cuts:?}");
        }
    }
    let everywhere: Vec<usize> = (1..bytes.len()).collect();
    assert_eq!(decode(bytes, &everywhere, limits), expected, "byte by byte");
}

fn check(list: &[(u8, &[u8])], expected: &[&str]) {
    check_with(&Limits::default(), &frames(list), expected, None);
}

fn check_refused(list: &[(u8, &[u8])], expected: &[&str], error: ProtocolError) {
    check_with(&Limits::default(), &frames(list), expected, Some(error));
}

#[test]
fn whole_messages() {
    check(&[], &[]);
    check(&[(FIN_TEXT, b"Hello")], &["text Hello"]);
    check(&[(FIN_TEXT, b"")], &["text "]);
    check(&[(FIN_TEXT, "grüße 🦀".as_bytes())], &["text grüße 🦀"]);
    check(&[(FIN_BINARY, b"\x00\xff")], &["binary \\x00\\xff"]);
    check(&[(FIN_BINARY, b"")], &["binary "]);
    check(&[(PING, b"are you there")], &["ping are you there"]);
    check(&[(PONG, b"")], &["pong "]);
    check(&[(FIN_TEXT, b"a"), (PING, b"b"), (FIN_BINARY, b"c")], &["text a", "ping b", "binary c"]);
}

#[test]
fn every_length_of_the_length() {
    for len in [125, 126, 127, 255, 256, 65_535, 65_536] {
        let text = "x".repeat(len);
        check(&[(FIN_TEXT, text.as_bytes()), (PONG, b"")], &[&format!("text {text}"), "pong "]);
    }
}

#[test]
fn fragmented_messages() {
    check(&[(TEXT, b"Hel"), (FIN_CONTINUATION, b"lo")], &["text Hello"]);
    check(
        &[(BINARY, b"\x01"), (CONTINUATION, b"\x02"), (FIN_CONTINUATION, b"\x03")],
        &["binary \\x01\\x02\\x03"],
    );
    check(&[(TEXT, b""), (CONTINUATION, b""), (FIN_CONTINUATION, b"")], &["text "]);
    check(
        &[(TEXT, b"a"), (FIN_CONTINUATION, b""), (TEXT, b""), (FIN_CONTINUATION, b"b")],
        &["text a", "text b"],
    );
    // A character of four bytes, each in a fragment of its own.
    check(
        &[(TEXT, b"\xf0"), (CONTINUATION, b"\x9f"), (CONTINUATION, b"\xa6"), (FIN_CONTINUATION, b"\x80")],
        &["text 🦀"],
    );
}

#[test]
fn control_frames_between_fragments() {
    check(
        &[
            (TEXT, b"Hel"),
            (PING, b"1"),
            (CONTINUATION, b"l"),
            (PONG, b""),
            (FIN_CONTINUATION, b"o"),
            (PING, b"2"),
        ],
        &["ping 1", "pong ", "text Hello", "ping 2"],
    );
    check(&[(TEXT, b"\xc3"), (PING, b"\xff"), (FIN_CONTINUATION, b"\xbc")], &["ping \\xff", "text ü"]);
    check(&[(BINARY, b""), (PING, b""), (FIN_CONTINUATION, b"")], &["ping ", "binary "]);
    check(&[(BINARY, b"lost"), (CLOSE, b"\x03\xe8bye")], &["close 1000 bye"]);
}

#[test]
fn close_frames() {
    check(&[(CLOSE, b"")], &["close"]);
    check(&[(CLOSE, b"\x03\xe8")], &["close 1000 "]);
    check(&[(CLOSE, b"\x03\xf6gateway")], &["close 1014 gateway"]);
    check(&[(CLOSE, b"\x0f\xa0own code")], &["close 4000 own code"]);
    check_refused(&[(CLOSE, b"\x03")], &[], ProtocolError::ClosePayloadTooShort);
    check_refused(&[(CLOSE, b"\x03\xed")], &[], ProtocolError::CloseCodeInvalid);
    check_refused(&[(CLOSE, b"\x03\xe8\xff")], &[], ProtocolError::CloseReasonNotUtf8);
}

#[test]
fn broken_rules() {
    use ProtocolError::*;
    check_refused(&[(PING, b""), (0xc1, b"x")], &["ping "], ReservedBits);
    check_refused(&[(0x83, b"x")], &[], UnknownOpcode);
    check_refused(&[(0x09, b"x")], &[], FragmentedControl);
    check_refused(&[(PING, &[b'x'; 126])], &[], ControlTooLong);
    check_refused(&[(CONTINUATION, b"x")], &[], UnexpectedContinuation);
    check_refused(&[(FIN_CONTINUATION, b"x")], &[], UnexpectedContinuation);
    check_refused(&[(FIN_TEXT, b"a"), (FIN_CONTINUATION, b"x")], &["text a"], UnexpectedContinuation);
    check_refused(&[(TEXT, b"x"), (FIN_TEXT, b"x")], &[], ExpectedContinuation);
    check_refused(&[(TEXT, b"x"), (PING, b"p"), (BINARY, b"x")], &["ping p"], ExpectedContinuation);
    let limits = Limits::default();
    check_with(&limits, b"\x81\x05Hello", &[], Some(Unmasked));
    check_with(&limits, b"\x82\xfe\x00\x05\0\0\0\0Hello", &[], Some(LengthNotMinimal));
    check_with(&limits, b"\x82\xff\0\0\0\0\0\0\x00\x05\0\0\0\0Hello", &[], Some(LengthNotMinimal));
    check_with(&limits, b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", &[], Some(FrameTooLong));
}

#[test]
fn text_that_is_no_utf8() {
    let error = ProtocolError::TextNotUtf8;
    check_refused(&[(FIN_TEXT, b"ab\xff"), (PING, b"")], &[], error);
    check_refused(&[(FIN_TEXT, b"\xc3")], &[], error);
    check_refused(&[(TEXT, b"\xc3"), (PING, b""), (FIN_CONTINUATION, b"")], &["ping "], error);
    check_refused(&[(TEXT, b"\xc3"), (PING, b""), (FIN_CONTINUATION, b"a")], &["ping "], error);
    // The fragment fails by itself: what follows is not waited for.
    check_refused(&[(TEXT, b"a\xed\xa0"), (PING, b"")], &[], error);
}

#[test]
fn text_is_refused_before_its_frame_is_complete() {
    // Autobahn 6.4.3: the bytes up to the impossible one are all that is sent.
    let bytes = frame(FIN_TEXT, b"\xce\xba\xf4\x90\x80\x80edited");
    let (possible, impossible) = (6 + 3, 6 + 4);
    let limits = Limits::default();
    assert_eq!(decode(&bytes[..possible], &[], &limits), (vec![], None));
    assert_eq!(decode(&bytes[..impossible], &[], &limits), (vec![], Some(ProtocolError::TextNotUtf8)));
}

#[test]
fn every_prefix_of_a_valid_stream_is_incomplete_only() {
    let bytes =
        frames(&[(TEXT, "grü".as_bytes()), (PING, b"!"), (FIN_CONTINUATION, b"n"), (CLOSE, b"\x03\xe8")]);
    let all = decode(&bytes, &[], &Limits::default()).0;
    for end in 0..bytes.len() {
        let (messages, error) = decode(&bytes[..end], &[], &Limits::default());
        assert_eq!(error, None, "{end} bytes");
        assert!(all.starts_with(&messages), "{end} bytes");
    }
}

fn small_limits() -> Limits {
    Limits { frame_bytes_max: 200, message_bytes_max: 300, fragments_max: 4, ..Limits::default() }
}

#[test]
fn limits_are_kept_to_the_byte() {
    use ProtocolError::*;
    let limits = small_limits();
    let check = |list: &[(u8, &[u8])], expected: &[&str], error| {
        check_with(&limits, &frames(list), expected, error);
    };
    let (full, over) = ([b'x'; 200], [b'x'; 201]);
    let shown = format!("text {}", "x".repeat(200));
    check(&[(FIN_TEXT, &full)], &[&shown], None);
    check(&[(FIN_TEXT, &over)], &[], Some(FrameTooLong));
    check(&[(TEXT, b""), (FIN_CONTINUATION, &over)], &[], Some(FrameTooLong));

    let shown = format!("text {}", "x".repeat(300));
    check(&[(TEXT, &full), (FIN_CONTINUATION, &full[..100])], &[&shown], None);
    check(
        &[(TEXT, &full), (PING, &full[..125]), (FIN_CONTINUATION, &full[..101])],
        &[&format!("ping {}", "x".repeat(125))],
        Some(MessageTooLong),
    );

    let (empty, last) = ((CONTINUATION, &b""[..]), (FIN_CONTINUATION, &b""[..]));
    check(&[(TEXT, b""), empty, empty, last], &["text "], None);
    check(&[(TEXT, b""), empty, empty, empty, last], &[], Some(TooManyFragments));
    // The count starts again with each message.
    check(&[(TEXT, b""), empty, empty, last, (TEXT, b""), empty, empty, last], &["text ", "text "], None);
}

#[test]
fn a_frame_is_refused_from_its_header_alone() {
    let limits = small_limits();
    let announced = [0x82, 0xfe, 0x00, 0xc9];
    assert_eq!(decode(&[&announced[..], &KEY].concat(), &[], &limits).1, Some(ProtocolError::FrameTooLong));
    let huge = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(decode(&[&huge[..], &KEY].concat(), &[], &limits).1, Some(ProtocolError::FrameTooLong));
}

#[test]
fn an_announced_length_reserves_nothing() {
    let mut bytes = frame(FIN_BINARY, &[0; 60_000]);
    let mut decoder = Decoder::new();
    assert_eq!(decoder.decode(&mut Input::new(&mut bytes[..9]), &Limits::default()), Ok(None));
    assert!(decoder.buffered_bytes() < 512, "{}", decoder.buffered_bytes());
}

#[test]
fn a_whole_frame_is_lent_from_the_input() {
    let mut bytes = frames(&[(FIN_TEXT, b"Hello"), (PING, b"p")]);
    let place = bytes[6..].as_ptr();
    let limits = Limits::default();
    let mut decoder = Decoder::new();
    let mut input = Input::new(&mut bytes);
    let Ok(Some(Message::Text(text))) = decoder.decode(&mut input, &limits) else { panic!("no text") };
    assert_eq!((text, text.as_ptr()), ("Hello", place));
    assert!(decoder.is_idle());
    assert_eq!(input.remaining().len(), 7);
    assert_eq!(decoder.decode(&mut input, &limits), Ok(Some(Message::Ping(b"p"))));
    assert!(decoder.is_idle() && input.is_empty());
}

#[test]
fn the_buffer_goes_when_the_message_is_done() {
    let mut bytes = frame(FIN_TEXT, b"Hello");
    let limits = Limits::default();
    let (front, back) = bytes.split_at_mut(8);
    let mut decoder = Decoder::new();
    assert_eq!(decoder.decode(&mut Input::new(front), &limits), Ok(None));
    assert!(!decoder.is_idle());
    let mut input = Input::new(back);
    assert_eq!(decoder.decode(&mut input, &limits), Ok(Some(Message::Text("Hello"))));
    assert_eq!(decoder.decode(&mut input, &limits), Ok(None));
    assert!(decoder.is_idle());
    assert_eq!(decoder.buffered_bytes(), 0);
}

#[test]
fn an_idle_decoder_is_one_pointer() {
    assert_eq!(size_of::<Decoder>(), size_of::<usize>());
}

/// A copy of all bytes per fragment or per read would be 10^12 bytes here and not end in time.
#[test]
fn a_million_fragments_of_one_byte_take_linear_time() {
    let limits = Limits { message_bytes_max: 1 << 20, fragments_max: 1 << 20, ..Limits::default() };
    let mut bytes = frame(TEXT, b"a");
    for _ in 1..1_000_000 {
        bytes.extend(frame(CONTINUATION, b"a"));
    }
    bytes.extend(frame(FIN_CONTINUATION, b""));
    let mut decoder = Decoder::new();
    let mut input = Input::new(&mut bytes);
    let Ok(Some(Message::Text(text))) = decoder.decode(&mut input, &limits) else { panic!("no text") };
    assert_eq!(text.len(), 1_000_000);
}

/// Feeds a text of a million bytes in pieces of `piece` bytes, behind a first one of `first`.
fn check_linear(text: &str, first: usize, piece: usize) {
    let limits = Limits { message_bytes_max: 1 << 20, frame_bytes_max: 1 << 20, ..Limits::default() };
    let mut bytes = frame(FIN_TEXT, text.as_bytes());
    let (front, back) = bytes.split_at_mut(first);
    let mut decoder = Decoder::new();
    let mut seen = 0;
    for piece in std::iter::once(front).chain(back.chunks_mut(piece)) {
        if let Some(message) = decoder.decode(&mut Input::new(piece), &limits).unwrap() {
            assert!(message == Message::Text(text));
            seen += 1;
        }
    }
    assert_eq!(seen, 1);
}

#[test]
fn a_million_bytes_in_tiny_reads_take_linear_time() {
    check_linear(&"a".repeat(1_000_000), 1, 1);
    // Each read but the last ends inside a character.
    check_linear(&"ü".repeat(500_000), 14 + 1, 2);
}

mod peer {
    //! tungstenite as the client.

    use std::io::Cursor;
    use tungstenite::protocol::frame::Frame;
    use tungstenite::protocol::{Role, WebSocket};

    /// What tungstenite puts on the wire for the frames, masked with keys that it draws.
    pub(super) fn write(frames: impl IntoIterator<Item = Frame>) -> Vec<u8> {
        let mut socket = WebSocket::from_raw_socket(Cursor::new(Vec::new()), Role::Client, None);
        for frame in frames {
            socket.send(tungstenite::Message::Frame(frame)).expect("a vector takes every byte");
        }
        socket.into_inner().into_inner()
    }

    /// What tungstenite makes of one frame from a server.
    pub(super) fn read(bytes: Vec<u8>) -> tungstenite::Result<tungstenite::Message> {
        WebSocket::from_raw_socket(Cursor::new(bytes), Role::Client, None).read()
    }
}

fn opcode() -> impl Strategy<Value = OpCode> {
    prop::sample::select(vec![
        OpCode::Data(Data::Text),
        OpCode::Data(Data::Binary),
        OpCode::Control(Control::Ping),
        OpCode::Control(Control::Pong),
    ])
}

/// A message's parts and the control frames that stand before the second and each later one.
type Fragments = (bool, Vec<(String, Option<(bool, Vec<u8>)>)>);

fn fragments() -> impl Strategy<Value = Fragments> {
    let control = prop::option::of((any::<bool>(), prop::collection::vec(any::<u8>(), 0..=125)));
    (any::<bool>(), prop::collection::vec((".{0,80}", control), 1..5))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_tungstenite_sends_is_read(
        messages in prop::collection::vec(fragments(), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        use tungstenite::protocol::frame::Frame;
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        for (is_text, parts) in &messages {
            let mut whole = Vec::new();
            for (i, (part, control)) in parts.iter().enumerate() {
                if let Some((is_ping, payload)) = control.as_ref().filter(|_| i > 0) {
                    let make = if *is_ping { Frame::ping } else { Frame::pong };
                    sent.push(make(payload.clone()));
                    let seen = if *is_ping { Message::Ping(payload) } else { Message::Pong(payload) };
                    expected.push(show(&seen));
                }
                let kind = match (i, is_text) {
                    (0, true) => Data::Text,
                    (0, false) => Data::Binary,
                    _ => Data::Continue,
                };
                sent.push(Frame::message(part.clone(), OpCode::Data(kind), i + 1 == parts.len()));
                whole.extend_from_slice(part.as_bytes());
            }
            let seen = if *is_text {
                Message::Text(std::str::from_utf8(&whole).expect("parts are text"))
            } else {
                Message::Binary(&whole)
            };
            expected.push(show(&seen));
        }
        let bytes = peer::write(sent);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(decode(&bytes, &[], &Limits::default()), (expected.clone(), None));
        prop_assert_eq!(decode(&bytes, &cuts, &Limits::default()), (expected, None));
    }

    #[test]
    fn what_is_sent_is_read_by_tungstenite(opcode in opcode(), text in ".{0,400}") {
        let end = (0..=125.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        let (mut out, short) = (Vec::new(), &text[..end]);
        let expected = match opcode {
            OpCode::Data(Data::Text) => tungstenite::Message::text(text.clone()),
            OpCode::Data(_) => tungstenite::Message::binary(text.clone()),
            OpCode::Control(Control::Ping) => tungstenite::Message::Ping(short.to_owned().into()),
            OpCode::Control(_) => tungstenite::Message::Pong(short.to_owned().into()),
        };
        let payload = if matches!(opcode, OpCode::Data(_)) { &text } else { short };
        write_frame(&mut out, opcode, payload.as_bytes());
        prop_assert_eq!(peer::read(out).unwrap(), expected);
    }

    #[test]
    fn any_bytes_give_the_same_however_they_are_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(bytes.len() + 1);
        let everywhere: Vec<usize> = (1..bytes.len()).collect();
        let whole = decode(&bytes, &[], &small_limits());
        prop_assert_eq!(&decode(&bytes, &[cut], &small_limits()), &whole);
        prop_assert_eq!(&decode(&bytes, &everywhere, &small_limits()), &whole);
    }
}

#[test]
fn a_written_close_is_read_by_tungstenite() {
    let mut out = Vec::new();
    write_close(&mut out, CloseCode::Size, ProtocolError::FrameTooLong.reason());
    let tungstenite::Message::Close(Some(close)) = peer::read(out).unwrap() else { panic!("no close") };
    assert_eq!(close.code, CloseCode::Size);
    assert_eq!(close.reason.as_str(), ProtocolError::FrameTooLong.reason());

    let mut out = Vec::new();
    write_close(&mut out, CloseCode::Status, "");
    assert_eq!(peer::read(out).unwrap(), tungstenite::Message::Close(None));
}

#[test]
fn a_frame_with_a_long_length_is_read_by_tungstenite() {
    for len in [125, 126, 65_535, 65_536, 1 << 20] {
        let payload = vec![7; len];
        let mut out = Vec::new();
        write_frame(&mut out, OpCode::Data(Data::Binary), &payload);
        assert_eq!(peer::read(out).unwrap(), tungstenite::Message::binary(payload));
    }
}
