//! As much of Phoenix Channels (V2, JSON) as the comparison needs. The first four elements are taken as they are
//! written; a name with an escaped quote in it is nothing that a load tool sends.

use crate::ws::{TEXT, put_head};

const LOBBY: &[u8] = br#""room:lobby""#;

/// What a client wants.
#[derive(Debug, PartialEq)]
pub enum Wish {
    /// The reply alone.
    Nothing,
    /// To get what is published in the lobby.
    Join,
    /// Not to get it any longer.
    Leave,
    /// To publish this frame.
    Publish(Vec<u8>),
}

/// What `text` wants; its reply, if it has one, is appended to `reply`.
pub fn handle(text: &[u8], reply: &mut Vec<u8>) -> Option<Wish> {
    let inner = text.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let mut parts = inner.splitn(5, |byte| *byte == b',');
    let (join_ref, reference) = (parts.next()?, parts.next()?);
    let (topic, event, payload) = (parts.next()?, parts.next()?, parts.next()?);
    let is_lobby = topic == LOBBY;
    match event {
        br#""new_msg""# if is_lobby => {
            let mut frame = Vec::new();
            put(&mut frame, &[br#"[null,null,"room:lobby","new_msg","#, payload, b"]"]);
            return Some(Wish::Publish(frame));
        }
        br#""heartbeat""# | br#""phx_join""# | br#""phx_leave""# => {}
        _ => return None,
    }
    let rest: &[u8] = br#","phx_reply",{"status":"ok","response":{}}]"#;
    put(reply, &[b"[", join_ref, b",", reference, b",", topic, rest]);
    Some(match event {
        br#""phx_join""# if is_lobby => Wish::Join,
        br#""phx_leave""# if is_lobby => Wish::Leave,
        _ => Wish::Nothing,
    })
}

/// Appends a text frame of these pieces.
fn put(to: &mut Vec<u8>, pieces: &[&[u8]]) {
    put_head(TEXT, pieces.iter().map(|piece| piece.len()).sum(), to);
    for piece in pieces {
        to.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, wish: Option<Wish>, reply: &str) {
        let mut found = Vec::new();
        assert_eq!(handle(text.as_bytes(), &mut found), wish);
        let mut expected = Vec::new();
        if !reply.is_empty() {
            put(&mut expected, &[reply.as_bytes()]);
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn joins_leaves_and_heartbeats_are_answered() {
        check(
            r#"["3","3","room:lobby","phx_join",{"a":[1,2]}]"#,
            Some(Wish::Join),
            r#"["3","3","room:lobby","phx_reply",{"status":"ok","response":{}}]"#,
        );
        check(
            r#"["3","4","room:lobby","phx_leave",{}]"#,
            Some(Wish::Leave),
            r#"["3","4","room:lobby","phx_reply",{"status":"ok","response":{}}]"#,
        );
        check(
            r#"["5","5","user:1","phx_join",{}]"#,
            Some(Wish::Nothing),
            r#"["5","5","user:1","phx_reply",{"status":"ok","response":{}}]"#,
        );
        check(
            r#"[null,"9","phoenix","heartbeat",{}]"#,
            Some(Wish::Nothing),
            r#"[null,"9","phoenix","phx_reply",{"status":"ok","response":{}}]"#,
        );
    }

    #[test]
    fn a_message_is_published_with_its_payload_as_it_was_written() {
        let mut frame = Vec::new();
        put(&mut frame, &[br#"[null,null,"room:lobby","new_msg",{"body":"a,b]"}]"#]);
        check(r#"["3","4","room:lobby","new_msg",{"body":"a,b]"}]"#, Some(Wish::Publish(frame)), "");
    }

    #[test]
    fn anything_else_has_no_answer() {
        check("hello", None, "");
        check("[]", None, "");
        check(r#"["3","4","room:lobby","shout",{}]"#, None, "");
        check(r#"["3","4","room:other","new_msg",{}]"#, None, "");
    }
}
