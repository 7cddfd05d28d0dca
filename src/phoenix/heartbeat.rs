//! Heartbeats as phoenix.js writes them, known by their bytes. They are nearly all that idle clients send, so what
//! is not in them is not looked for.

use super::{Kind, Serializer};
use crate::limits::Limits;

/// The longest ref that is known without being parsed. phoenix.js counts in whole numbers below 2^53, which have
/// sixteen digits.
const REF_BYTES_MAX: usize = 20;

/// What stands before and behind the ref in a heartbeat, its quotes included.
const V1: (&[u8], &[u8]) = (br#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":""#, br#""}"#);
const V2: (&[u8], &[u8]) = (br#"[null,""#, br#"","phoenix","heartbeat",{}]"#);

/// The same for its reply.
const V1_REPLY: (&[u8], &[u8]) =
    (br#"{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":""#, br#""}"#);
const V2_REPLY: (&[u8], &[u8]) =
    (br#"[null,""#, br#"","phoenix","phx_reply",{"status":"ok","response":{}}]"#);

/// The ref of a heartbeat that was known by its bytes: at most 20 bytes of printable ASCII, nothing of it escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatRef<'a>(&'a [u8]);

impl Serializer {
    /// Knows a heartbeat that is written exactly as phoenix.js writes it.
    ///
    /// `None` says nothing about the text: it may be a heartbeat in other words, or anything else, and is to be
    /// [decoded](Self::decode_text). What is known here decodes to a heartbeat within `limits` whose reply is
    /// that of [`encode_heartbeat_reply`](Self::encode_heartbeat_reply), byte for byte.
    #[must_use]
    pub fn heartbeat_ref<'a>(self, text: &'a str, limits: &Limits) -> Option<HeartbeatRef<'a>> {
        let (before, behind) = match self {
            Self::V1 => V1,
            Self::V2 => V2,
        };
        let reference = text.as_bytes().strip_prefix(before)?.strip_suffix(behind)?;
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        let is_known = reference.len() <= REF_BYTES_MAX && reference.iter().all(is_plain);
        // The ref's limit counts its quotes.
        let is_within = reference.len() + 2 <= limits.ref_bytes_max
            && limits.topic_bytes_max >= super::TOPIC.len()
            && limits.event_bytes_max >= super::events::HEARTBEAT.len()
            && limits.json_depth_max >= 2;
        (is_known && is_within).then_some(HeartbeatRef(reference))
    }

    /// Encodes the reply to a heartbeat that was known by its bytes.
    pub fn encode_heartbeat_reply(self, out: &mut Vec<u8>, reference: HeartbeatRef<'_>) -> Kind {
        let (before, behind) = self.heartbeat_reply();
        out.extend_from_slice(before);
        out.extend_from_slice(reference.0);
        out.extend_from_slice(behind);
        Kind::Text
    }

    /// The number of bytes that [`encode_heartbeat_reply`](Self::encode_heartbeat_reply) appends.
    #[must_use]
    pub fn heartbeat_reply_len(self, reference: HeartbeatRef<'_>) -> usize {
        let (before, behind) = self.heartbeat_reply();
        before.len() + reference.0.len() + behind.len()
    }

    const fn heartbeat_reply(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::V1 => V1_REPLY,
            Self::V2 => V2_REPLY,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::phoenix::{Payload, TOPIC, events};

    const SERIALIZERS: [Serializer; 2] = [Serializer::V1, Serializer::V2];

    /// A heartbeat with this between the quotes of its ref.
    fn heartbeat(serializer: Serializer, reference: &str) -> String {
        match serializer {
            Serializer::V1 => {
                format!(r#"{{"topic":"phoenix","event":"heartbeat","payload":{{}},"ref":"{reference}"}}"#)
            }
            Serializer::V2 => format!(r#"[null,"{reference}","phoenix","heartbeat",{{}}]"#),
        }
    }

    /// Whether the text is known; if it is, the ordinary way comes to the same.
    #[track_caller]
    fn is_known(serializer: Serializer, text: &str, limits: &Limits) -> bool {
        let Some(reference) = serializer.heartbeat_ref(text, limits) else { return false };
        let message = serializer.decode_text(text, limits).expect("a heartbeat is a message");
        assert_eq!((message.topic.as_str(), &*message.event), (Some(TOPIC), events::HEARTBEAT), "{text}");
        assert_eq!((message.join_ref, message.payload), (None, Payload::empty()), "{text}");
        let (mut expected, mut out) = (b"before".to_vec(), b"before".to_vec());
        let topic = &message.topic;
        let kind =
            serializer.encode_reply(&mut expected, None, message.message_ref, topic, "ok", Payload::empty());
        assert_eq!(Ok(serializer.encode_heartbeat_reply(&mut out, reference)), kind, "{text}");
        assert_eq!(String::from_utf8(out), String::from_utf8(expected.clone()), "{text}");
        assert_eq!(serializer.heartbeat_reply_len(reference), expected.len() - 6, "{text}");
        true
    }

    #[test]
    fn what_phoenix_js_sends_is_known() {
        let limits = Limits::default();
        for serializer in SERIALIZERS {
            for reference in ["5", "0", "9007199254740991", "", " ~", "not a number", "12345678901234567890"]
            {
                let text = heartbeat(serializer, reference);
                assert!(is_known(serializer, &text, &limits), "{text}");
            }
        }
    }

    #[test]
    fn what_differs_in_the_least_is_not() {
        let limits = Limits::default();
        for serializer in SERIALIZERS {
            for reference in ["123456789012345678901", r#"5\""#, r"\u0035", "é", "\u{7f}", r#"5",""#, "5\n"]
            {
                let text = heartbeat(serializer, reference);
                assert_eq!(serializer.heartbeat_ref(&text, &limits), None, "{text}");
            }
            let text = heartbeat(serializer, "5");
            for at in 0..text.len() {
                let (before, behind) = text.split_at(at);
                for other in ["", " ", "x", "\""] {
                    let changed = format!("{before}{other}{}", &behind[1..]);
                    // Most of the changed texts aren't even JSON.
                    let known = is_known(serializer, &changed, &limits);
                    let is_ref = serializer.heartbeat_ref(&changed, &limits).is_some_and(|reference| {
                        changed == heartbeat(serializer, std::str::from_utf8(reference.0).unwrap())
                    });
                    assert_eq!(known, is_ref, "{changed}");
                }
                let longer = format!("{before} {behind}");
                let in_ref = before.ends_with("\"5") || behind.starts_with("5\"");
                assert_eq!(is_known(serializer, &longer, &limits), in_ref, "{longer}");
            }
        }
        for other in [
            r#"["1","5","phoenix","heartbeat",{}]"#,
            r#"[null,5,"phoenix","heartbeat",{}]"#,
            r#"[null,null,"phoenix","heartbeat",{}]"#,
            r#"[null,"5","phoenix","heartbeat",{"a":1}]"#,
            r#"[null,"5","phoenix","heartbeat",{},1]"#,
            r#"[null,"5","phoenix","phx_join",{}]"#,
            r#"[null,"5","room:1","heartbeat",{}]"#,
            r#"[null,""#,
            "",
        ] {
            assert_eq!(Serializer::V2.heartbeat_ref(other, &limits), None, "{other}");
            assert_eq!(Serializer::V1.heartbeat_ref(other, &limits), None, "{other}");
        }
    }

    #[test]
    fn what_a_limit_refuses_is_not_known() {
        for serializer in SERIALIZERS {
            let text = heartbeat(serializer, "123456");
            let fits = Limits {
                ref_bytes_max: 8,
                topic_bytes_max: 7,
                event_bytes_max: 9,
                json_depth_max: 2,
                ..Limits::default()
            };
            assert!(is_known(serializer, &text, &fits));
            let narrow = [
                Limits { ref_bytes_max: 7, ..fits.clone() },
                Limits { topic_bytes_max: 6, ..fits.clone() },
                Limits { event_bytes_max: 8, ..fits.clone() },
                Limits { json_depth_max: 1, ..fits },
            ];
            for limits in narrow {
                assert!(serializer.decode_text(&text, &limits).is_err());
                assert_eq!(serializer.heartbeat_ref(&text, &limits), None);
            }
        }
    }

    proptest! {
        #[test]
        fn the_ordinary_way_comes_to_the_same_whatever_the_ref(reference in "[ -~é\"\\\\]{0,24}") {
            for serializer in SERIALIZERS {
                let text = heartbeat(serializer, &reference);
                let plain = reference.len() <= REF_BYTES_MAX && !reference.contains(['"', '\\', 'é']);
                prop_assert_eq!(is_known(serializer, &text, &Limits::default()), plain);
            }
        }
    }
}
