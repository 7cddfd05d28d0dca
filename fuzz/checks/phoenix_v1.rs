use hailer::limits::Limits;
use hailer::phoenix::{Kind, Message, Payload, Refused, Serializer, Undecodable, events};

const V1: Serializer = Serializer::V1;

/// Must hold for any input. The first byte chooses: bit 0 a binary frame, bit 1 narrow limits.
pub(super) fn check(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let mut limits = Limits::default();
    if choice & 2 != 0 {
        (limits.topic_bytes_max, limits.event_bytes_max) = (8, 8);
        (limits.ref_bytes_max, limits.json_depth_max) = (8, 4);
    }
    let mut scratch = String::new();
    let message = if choice & 1 != 0 {
        V1.decode_binary(bytes, &mut scratch, &limits)
    } else {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        super::heartbeat::check(V1, text, &limits);
        V1.decode_text(text, &limits)
    };
    match message {
        Ok(message) => check_message(bytes, &message, &limits),
        Err(Undecodable::Unreadable(error)) => {
            assert!(!error.reason().is_empty() && error.reason().len() <= 123);
        }
        Err(Undecodable::Refused(refused)) => check_refused(bytes, &refused),
    }
}

/// The reply repeats ref and topic as they were, so that it is no longer than the message but for what it says.
fn check_refused(bytes: &[u8], refused: &Refused<'_>) {
    let Refused { join_ref, message_ref, topic, .. } = refused;
    let mut out = Vec::new();
    let kind = V1.encode_reply(&mut out, *join_ref, *message_ref, topic, "error", Payload::empty());
    assert_eq!(kind, Ok(Kind::Text));
    assert!(out.len() <= bytes.len() + 100, "{} of {}", out.len(), bytes.len());
    let text = std::str::from_utf8(&out).expect("text is UTF-8");
    let again = match V1.decode_text(text, &Limits::default()) {
        Ok(reply) => (reply.message_ref, reply.topic),
        Err(Undecodable::Refused(again)) => (again.message_ref, again.topic),
        Err(Undecodable::Unreadable(error)) => panic!("{error}: {text}"),
    };
    assert_eq!((again.0, &again.1), (*message_ref, topic));
}

fn check_message(bytes: &[u8], message: &Message<'_>, limits: &Limits) {
    // An independent parser takes the text for JSON, except that a Value has a bound for numbers.
    if let Err(error) = serde_json::from_slice::<serde_json::Value>(bytes) {
        assert!(error.to_string().starts_with("number out of range"), "{error}");
    }
    assert!(message.payload.as_json_str().is_some(), "V1 has no binary payloads");

    let mut out = Vec::new();
    assert_eq!(V1.encode_message(&mut out, message), Ok(Kind::Text));
    let again = std::str::from_utf8(&out).expect("text is UTF-8");
    assert_eq!(V1.decode_text(again, limits).as_ref(), Ok(message));

    check_reply(message);
    check_push(message, limits);
}

/// The reply decodes to the ref and topic of the message, and never has a join_ref.
fn check_reply(message: &Message<'_>) {
    let Message { join_ref, message_ref, topic, event, payload } = message;
    let mut out = Vec::new();
    let kind = V1.encode_reply(&mut out, *join_ref, *message_ref, topic, event, *payload);
    assert_eq!(kind, Ok(Kind::Text));
    let mut limits = Limits::default();
    limits.json_depth_max = usize::MAX;
    let text = std::str::from_utf8(&out).expect("text is UTF-8");
    let reply = V1.decode_text(text, &limits).expect("a reply has the form of a message");
    assert_eq!((reply.join_ref, reply.message_ref, &reply.topic), (None, *message_ref, topic));
    assert_eq!(reply.event, events::REPLY);
}

/// A broadcast and a push decode to what they were made of, without refs; a close has the join_ref as ref.
fn check_push(message: &Message<'_>, limits: &Limits) {
    let Message { join_ref, topic, event, payload, .. } = message;
    let Some(name) = topic.as_str() else { return };
    let mut broadcast = Vec::new();
    assert_eq!(V1.encode_broadcast(&mut broadcast, name, event, *payload), Ok(Kind::Text));
    let mut push = Vec::new();
    assert_eq!(V1.encode_push(&mut push, *join_ref, name, event, *payload), Ok(Kind::Text));
    assert_eq!(push, broadcast, "a V1 push has nothing that is the client's own");

    let text = std::str::from_utf8(&push).expect("text is UTF-8");
    let expected = Message { join_ref: None, message_ref: None, ..message.clone() };
    assert_eq!(V1.decode_text(text, limits), Ok(expected));

    let mut close = Vec::new();
    V1.encode_close(&mut close, *join_ref, name);
    let text = std::str::from_utf8(&close).expect("text is UTF-8");
    let close = V1.decode_text(text, &Limits::default()).expect("a close has the form of a message");
    assert_eq!((close.join_ref, close.message_ref), (None, *join_ref));
}
