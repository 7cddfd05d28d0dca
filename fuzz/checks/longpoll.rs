use hailer::longpoll::{Batch, BatchError, Line, SessionName, TokenKey};

/// The first byte chooses: a session token, or the body of a POST.
pub(super) fn check(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    match choice {
        0 => check_token(rest),
        _ => check_batch(rest, usize::from(*choice)),
    }
}

/// Whatever verifies was signed here: signing what it names gives the same token again.
fn check_token(bytes: &[u8]) {
    let key = TokenKey::new(&[1; 32]);
    if let Ok(token) = std::str::from_utf8(bytes)
        && let Some(name) = key.verify(token)
    {
        assert_eq!(key.sign(&name), token);
    }
    if let Some((head, nonce)) = bytes.split_first_chunk::<10>()
        && let Some(nonce) = nonce.first_chunk::<16>()
    {
        let shard = u16::from_be_bytes([head[0], head[1]]);
        let slot = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
        let generation = u32::from_be_bytes([head[6], head[7], head[8], head[9]]);
        let name = SessionName { shard, slot, generation, nonce: *nonce };
        assert_eq!(key.verify(&key.sign(&name)), Some(name));
        assert_eq!(TokenKey::new(&[2; 32]).verify(&key.sign(&name)), None);
    }
}

/// A body gives as many messages as it has lines, none longer than its line, or nothing at all.
fn check_batch(body: &[u8], lines_max: usize) {
    let lines = body.split(|byte| *byte == b'\n').count();
    match Batch::Lines.messages(body, lines_max) {
        Ok(messages) => {
            assert!(lines <= lines_max);
            assert_eq!(messages.len(), lines);
            for (message, line) in messages.iter().zip(body.split(|byte| *byte == b'\n')) {
                match message {
                    Line::Text(text) => assert_eq!(text.as_bytes(), line),
                    Line::Binary(bytes) => assert!(bytes.len() <= line.len()),
                }
            }
        }
        Err(BatchError::TooManyLines) => assert!(lines > lines_max),
        Err(BatchError::BadLine) => assert!(lines <= lines_max),
    }
    assert_eq!(Batch::Single.messages(body, lines_max).is_ok(), std::str::from_utf8(body).is_ok());
}
