use hailer::limits::Limits;
use hailer::phoenix::{
    Kind, Message, Payload, Ref, RefBuf, Refused, Serializer, TopicField, Undecodable, events,
    write_json_string,
};

const V2: Serializer = Serializer::V2;

/// Must hold for any input. The first byte chooses: bit 0 a binary message, bit 1 narrow limits.
pub(super) fn check(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let mut limits = Limits::default();
    if choice & 2 != 0 {
        (limits.topic_bytes_max, limits.event_bytes_max) = (8, 8);
        (limits.ref_bytes_max, limits.json_depth_max) = (8, 4);
    }
    if choice & 1 != 0 {
        check_binary(bytes, &limits);
    } else if let Ok(text) = std::str::from_utf8(bytes) {
        check_text(text, &limits);
    }
}

fn check_text(text: &str, limits: &Limits) {
    // A space makes no difference to what a message says, though it may be read in another way.
    if let Some(rest) = text.strip_prefix('[') {
        assert_eq!(V2.decode_text(text, limits), V2.decode_text(&format!("[ {rest}"), limits));
    }
    let message = match V2.decode_text(text, limits) {
        Ok(message) => message,
        Err(error) => return check_error(text.len(), &error),
    };
    assert_json(text);
    check_limits(&message, limits);

    let mut out = Vec::new();
    assert_eq!(V2.encode_message(&mut out, &message), Ok(Kind::Text));
    let again = std::str::from_utf8(&out).expect("text is UTF-8");
    assert_eq!(V2.decode_text(again, limits).as_ref(), Ok(&message));
    check_reply(&message, message.payload);
    super::heartbeat::check(V2, text, limits);
    check_quoted(text);
}

fn check_binary(bytes: &[u8], limits: &Limits) {
    let mut scratch = String::new();
    let message = match V2.decode_binary(bytes, &mut scratch, limits) {
        Ok(message) => message,
        Err(error) => return check_error(bytes.len(), &error),
    };
    check_limits(&message, limits);
    assert!(message.join_ref.is_some() && message.message_ref.is_some());

    let mut out = Vec::new();
    match (message.payload, V2.encode_message(&mut out, &message)) {
        // What a user broadcasts as JSON is the text that it stands for, and that is within the same limits.
        (Payload::Json(json), Ok(Kind::Text)) => {
            assert_json(json.get());
            assert_eq!((bytes[0], &*message.event), (3, events::BROADCAST));
            let text = std::str::from_utf8(&out).expect("text is UTF-8");
            assert_eq!(V2.decode_text(text, limits).as_ref(), Ok(&message));
        }
        (Payload::Binary(_), Ok(Kind::Binary)) => {
            assert_eq!(out, bytes);
            check_binary_reply(&message);
        }
        (Payload::UserBroadcast(broadcast), Ok(Kind::Binary)) => {
            assert_eq!(&*message.event, events::BROADCAST);
            assert!(bytes.ends_with(broadcast.data()) && broadcast.event().len() == usize::from(bytes[4]));
            // The metadata is left out.
            assert_eq!(out.len() + usize::from(bytes[5]), bytes.len());
            check_user_broadcast(&message);
        }
        (payload, kind) => panic!("{payload:?} as {kind:?}"),
    }
    check_reply(&message, Payload::empty());
}

/// What is sent to subscribers has the topic, the event and the data as they came.
fn check_user_broadcast(message: &Message<'_>) {
    let (Some(topic), Payload::UserBroadcast(broadcast)) = (message.topic.as_str(), message.payload) else {
        panic!("a topic in bytes is a string")
    };
    let mut out = Vec::new();
    let kind = V2.encode_broadcast(&mut out, topic, &message.event, message.payload);
    assert_eq!(kind, Ok(Kind::Binary));
    let (names, data) = out[5..].split_at(topic.len() + broadcast.event().len());
    assert_eq!((&out[..1], &out[3..5], data), (&[4][..], &[0, 0][..], broadcast.data()));
    assert_eq!(names, [topic, broadcast.event()].concat().as_bytes());
    assert_eq!((usize::from(out[1]), usize::from(out[2])), (topic.len(), broadcast.event().len()));
}

/// A message that can be answered is answered with what the client sent, and with little more than that.
fn check_error(len: usize, error: &Undecodable<'_>) {
    assert!(!error.reason().is_empty() && error.reason().len() <= 123);
    let Undecodable::Refused(Refused { join_ref, message_ref, topic, .. }) = error else { return };
    let mut out = Vec::new();
    let kind = V2.encode_reply(&mut out, *join_ref, *message_ref, topic, "error", Payload::empty());
    assert_eq!(kind, Ok(Kind::Text));
    // Names in bytes, of at most 255 each, may be written with escapes.
    let growth = 5 * out.iter().filter(|byte| **byte == b'\\').count();
    assert!(out.len() <= len + growth + 100, "{} of {len}", out.len());
    let text = std::str::from_utf8(&out).expect("text is UTF-8");
    let again = match V2.decode_text(text, &Limits::default()) {
        Ok(reply) => (reply.join_ref, reply.message_ref, reply.topic),
        Err(Undecodable::Refused(again)) => (again.join_ref, again.message_ref, again.topic),
        Err(Undecodable::Unreadable(error)) => panic!("{error}: {text}"),
    };
    assert_eq!((again.0, again.1, &again.2), (*join_ref, *message_ref, topic));
}

/// An independent parser takes the text for JSON.
fn assert_json(text: &str) {
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        // JSON sets no bound to numbers, a Value does.
        assert!(error.to_string().starts_with("number out of range"), "{error} in {text}");
    }
}

fn check_limits(message: &Message<'_>, limits: &Limits) {
    let topic_len = match &message.topic {
        TopicField::Text(topic) => topic.len(),
        TopicField::Other(json) => json.len(),
    };
    assert!(topic_len <= limits.topic_bytes_max);
    assert!(message.event.len() <= limits.event_bytes_max);
    for reference in [message.join_ref, message.message_ref].into_iter().flatten() {
        let owned = RefBuf::from(reference);
        assert_eq!(owned, reference);
        assert_eq!(owned.as_json(), reference.to_json());
        assert!(owned.as_json().len() <= limits.ref_bytes_max);
        assert_json(owned.as_json());
    }
}

/// The reply to the message is JSON text that decodes to the refs and the topic of the message.
fn check_reply(message: &Message<'_>, response: Payload<'_>) {
    let mut out = Vec::new();
    let Message { join_ref, message_ref, topic, event, .. } = message;
    let kind = V2.encode_reply(&mut out, *join_ref, *message_ref, topic, event, response);
    assert_eq!(kind, Ok(Kind::Text));
    let text = std::str::from_utf8(&out).expect("text is UTF-8");
    let mut limits = Limits::default();
    limits.json_depth_max = usize::MAX;
    let reply = V2.decode_text(text, &limits).expect("a reply has the form of a message");
    assert_eq!((reply.join_ref, reply.message_ref, &reply.topic), (*join_ref, *message_ref, topic));
    assert_eq!(reply.event, events::REPLY);

    if let Some(topic) = topic.as_str() {
        out.clear();
        V2.encode_close(&mut out, *join_ref, topic);
        let text = std::str::from_utf8(&out).expect("text is UTF-8");
        let close = V2.decode_text(text, &limits).expect("a close has the form of a message");
        assert_eq!((close.join_ref, close.message_ref), (*join_ref, *join_ref));
    }
}

/// The binary reply has the fields as the message had them.
fn check_binary_reply(message: &Message<'_>) {
    let Message { join_ref, message_ref, topic, event, payload } = message;
    let mut reply = Vec::new();
    let kind = V2.encode_reply(&mut reply, *join_ref, *message_ref, topic, event, *payload);
    assert_eq!(kind, Ok(Kind::Binary));
    let mut push = Vec::new();
    assert_eq!(V2.encode_message(&mut push, message), Ok(Kind::Binary));
    assert_eq!(reply[0], 1);
    assert_eq!(reply[1..], push[1..]);
}

/// Any text stays itself as a JSON string, and as a ref.
fn check_quoted(text: &str) {
    let mut out = Vec::new();
    write_json_string(&mut out, text);
    assert_eq!(serde_json::from_slice::<String>(&out).expect("a JSON string"), text);
    assert_eq!(RefBuf::from(Ref::from_text(text)).as_json().as_bytes(), out);
}
