use hailer::http::{BodyDecoder, BodyError, Framing};

/// The first byte says how the body is framed (`c`: in chunks, else by length), the second is that length,
/// the third the limit; the rest is what comes after the head.
///
/// However it is cut, the same body comes out, never more than the limit allows.
pub(crate) fn check(data: &[u8]) {
    let [kind, length, limit, input @ ..] = data else { return };
    let framing = match kind {
        b'c' => Framing::Chunked,
        _ => Framing::Length(u64::from(*length)),
    };
    let limit = usize::from(*limit);
    let whole = decode(framing, limit, [input]);
    let middle = input.len() / 2;
    let third = input.len() / 3;
    assert_eq!(decode(framing, limit, input.chunks(1)), whole, "bytewise");
    assert_eq!(decode(framing, limit, input.chunks(7)), whole, "by sevens");
    assert_eq!(decode(framing, limit, [&input[..middle], &input[middle..]]), whole, "in two");
    assert_eq!(decode(framing, limit, [&input[..third], b"", &input[third..]]), whole, "in three");

    let (body, result) = whole;
    assert!(body.len() <= limit);
    match (framing, result) {
        (_, Ok((consumed, false))) => assert_eq!(consumed, input.len()),
        (Framing::Chunked, Ok((consumed, true))) => {
            assert!(input[..consumed].ends_with(b"\r\n\r\n"));
            assert!(consumed >= body.len() + 5);
            let mut again = format!("{:X}\r\n", body.len()).into_bytes();
            again.extend_from_slice(&body);
            again.extend_from_slice(if body.is_empty() { b"\r\n" } else { b"\r\n0\r\n\r\n" });
            assert_eq!(decode(framing, limit, [&again]), (body, Ok((again.len(), true))));
        }
        (_, Ok((consumed, true))) => {
            assert_eq!(consumed, usize::from(*length));
            assert_eq!(body, input[..consumed]);
        }
        (_, Err(error)) => assert!(error.status().code() >= 400),
    }
}

/// The body, and how many bytes of the pieces belong to it and whether it is whole.
fn decode<'a>(
    framing: Framing,
    limit: usize,
    pieces: impl IntoIterator<Item = &'a (impl AsRef<[u8]> + ?Sized + 'a)>,
) -> (Vec<u8>, Result<(usize, bool), BodyError>) {
    let mut body = Vec::new();
    let mut decoder = match BodyDecoder::new(framing, limit) {
        Ok(decoder) => decoder,
        Err(error) => return (body, Err(error)),
    };
    let mut consumed = 0;
    for piece in pieces {
        match decoder.decode(piece.as_ref(), &mut body) {
            Ok(progress) => consumed += progress.consumed,
            Err(error) => return (body, Err(error)),
        }
    }
    (body, Ok((consumed, decoder.is_done())))
}
