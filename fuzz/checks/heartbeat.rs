use hailer::limits::Limits;
use hailer::phoenix::{Payload, Serializer, TOPIC, events};

/// A text that is known for a heartbeat decodes to one, and has the same reply.
pub(super) fn check(serializer: Serializer, text: &str, limits: &Limits) {
    let Some(reference) = serializer.heartbeat_ref(text, limits) else { return };
    let message = serializer.decode_text(text, limits).expect("a heartbeat is a message");
    assert_eq!((message.topic.as_str(), &*message.event), (Some(TOPIC), events::HEARTBEAT));
    let (mut known, mut expected) = (Vec::new(), Vec::new());
    serializer.encode_heartbeat_reply(&mut known, reference);
    let (message_ref, topic) = (message.message_ref, &message.topic);
    serializer
        .encode_reply(&mut expected, None, message_ref, topic, "ok", Payload::empty())
        .expect("the reply is text");
    assert_eq!(known, expected);
}
