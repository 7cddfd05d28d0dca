use hailer::longpoll::{Batch, Line, LineError, SessionName, TokenKey, TooManyLines};

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

/// A body gives a message or an error for each line that has anything in it, none longer than its line, or nothing at
/// all.
fn check_batch(body: &[u8], lines_max: usize) {
    let lines: Vec<_> = body
        .split(|byte| *byte == b'\n')
        .zip(1..)
        .map(|(line, number)| (line.trim_ascii(), number))
        .filter(|(line, _)| !line.is_empty())
        .collect();
    match Batch::Lines.messages(body, lines_max) {
        Ok(messages) => {
            assert!(lines.len() <= lines_max);
            let messages: Vec<_> = messages.collect();
            assert_eq!(messages.len(), lines.len());
            for ((number, message), (line, at)) in messages.iter().zip(&lines) {
                assert_eq!(number, at);
                let is_json = line.starts_with(b"[") || line.starts_with(b"{");
                match message {
                    Ok(Line::Text(text)) => assert!(is_json && text.as_bytes() == *line),
                    Ok(Line::Binary(bytes)) => assert!(!is_json && bytes.len() <= line.len()),
                    Err(LineError::NotUtf8) => assert!(is_json && std::str::from_utf8(line).is_err()),
                    Err(LineError::NotBase64) => assert!(!is_json),
                }
            }
        }
        Err(TooManyLines) => assert!(lines.len() > lines_max),
    }
    let whole: Vec<_> = Batch::Single.messages(body, lines_max).expect("it is one").collect();
    assert_eq!(whole.is_empty(), body.trim_ascii().is_empty());
    assert!(
        whole.iter().all(|(_, text)| text.is_ok() == std::str::from_utf8(body).is_ok()) && whole.len() <= 1
    );
}
