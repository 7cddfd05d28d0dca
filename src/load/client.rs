//! One client on a WebSocket: bytes in, events out, and the frames it sends.
//!
//! ```text
//!  Off ─► Connecting ─► Upgrading ─► Joining ─► In ─► Off
//!                           └── plain ──────────┘
//! ```
//!
//! A client that idles is a few words. It owns no buffer: what is read is gone through in place, in the one buffer of
//! the loop, and only the beginning of a frame that was cut is kept.

use std::borrow::Cow;

use memchr::memmem;

use super::message::{Messages, Stamp};
use super::wire::{self, CLOSE, PING, TEXT, WireError, write_frame};

/// What of a frame that isn't understood is shown.
const SHOWN_BYTES: usize = 120;

/// How far a client has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// It has no connection.
    #[default]
    Off,
    /// The connection is not there yet.
    Connecting,
    /// The request for a WebSocket is out.
    Upgrading,
    /// Joins are out.
    Joining,
    /// It gets messages.
    In,
}

/// A client.
#[derive(Debug, Default)]
pub struct Client {
    /// How far it has got.
    pub stage: Stage,
    /// Joins that have no reply yet.
    joins: u8,
    /// The ref of its last push.
    refs: u32,
    /// The ref of the heartbeat that is on its way, or 0.
    heartbeat_ref: u32,
    /// The number of the message that comes next in the common topic.
    pub next: u32,
    /// The number of the message that comes next in its own topic.
    pub own_next: u32,
    /// When its stage began, in microseconds.
    pub since: u64,
    /// When its next heartbeat leaves, in microseconds.
    pub heartbeat_due: u64,
    /// When its last heartbeat left, in microseconds.
    heartbeat_at: u64,
    /// The beginning of a head or frame that was cut.
    partial: Option<Box<[u8]>>,
}

/// What a client learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// The WebSocket is open. With Phoenix, the joins are to be sent.
    Upgraded,
    /// The answer to its request has another status.
    Refused(u16),
    /// All its joins are answered.
    Joined,
    /// It may not join, or not push; what it was told.
    Denied(&'a [u8]),
    /// A message of the common topic.
    Message(Stamp),
    /// A message of its own topic.
    Own(Stamp),
    /// Its heartbeat, which left at this time, is answered.
    Heartbeat(u64),
    /// The server asks whether it is there.
    Ping(&'a [u8]),
    /// The server closes, with this code, or 1005 without one.
    Closed(u16),
    /// A channel has crashed or ended.
    ChannelEnded,
    /// A push to it alone, such as a message that the server has kept for who joins later.
    Pushed,
    /// Something that this run has not caused.
    Unknown(&'a [u8]),
    /// The bytes are no frames.
    Broken(WireError),
}

/// What all clients of a run speak.
#[derive(Debug)]
pub struct Speech {
    /// What is published.
    pub messages: Messages,
    /// The common topic, as it stands in JSON; `None` if the protocol is plain WebSocket.
    pub topic: Option<String>,
}

impl Client {
    /// A client that begins to connect.
    pub fn begin(&mut self, now: u64) {
        *self = Self {
            stage: Stage::Connecting,
            since: now,
            next: self.next,
            own_next: self.own_next,
            ..Self::default()
        };
    }

    /// It has no connection any more.
    pub fn end(&mut self) {
        self.stage = Stage::Off;
        self.partial = None;
        self.heartbeat_ref = 0;
    }

    /// Whether a frame of it was cut, and the rest has not come.
    #[must_use]
    pub fn waits_for_rest(&self) -> bool {
        self.partial.is_some()
    }

    /// Whether the heartbeat that left at this time has not been answered.
    #[must_use]
    pub fn lacks_heartbeat(&self, sent: u64) -> bool {
        self.heartbeat_ref != 0 && self.heartbeat_at == sent
    }

    /// A ref that was not used before.
    pub fn take_ref(&mut self) -> u32 {
        self.refs += 1;
        self.refs
    }

    /// Forgets joins that have no good reply, so that it can join again.
    pub fn forget_joins(&mut self) {
        self.joins = 0;
    }

    /// Appends the join of a topic; `join_ref` of its pushes is the ref that is given back.
    pub fn write_join(&mut self, out: &mut Vec<u8>, topic: &str) -> u32 {
        let join_ref = self.take_ref();
        self.joins += 1;
        let text = format!(r#"["{join_ref}","{join_ref}","{topic}","phx_join",{{}}]"#);
        write_frame(out, TEXT, text.as_bytes());
        join_ref
    }

    /// Appends the leave of a topic that it joined with `join_ref`.
    pub fn write_leave(&mut self, out: &mut Vec<u8>, topic: &str, join_ref: u32) {
        let leave_ref = self.take_ref();
        self.joins += 1;
        self.stage = Stage::Joining;
        let text = format!(r#"["{join_ref}","{leave_ref}","{topic}","phx_leave",{{}}]"#);
        write_frame(out, TEXT, text.as_bytes());
    }

    /// Appends a heartbeat.
    pub fn write_heartbeat(&mut self, out: &mut Vec<u8>, now: u64) {
        self.heartbeat_ref = self.take_ref();
        self.heartbeat_at = now;
        let text = format!(r#"[null,"{}","phoenix","heartbeat",{{}}]"#, self.heartbeat_ref);
        write_frame(out, TEXT, text.as_bytes());
    }

    /// Goes through what was read; `own` is the topic that it has joined beside the common one. Of what follows an
    /// event that ends the connection nothing is looked at.
    pub fn take(
        &mut self,
        bytes: &[u8],
        now: u64,
        speech: &Speech,
        own: Option<&str>,
        on: &mut impl FnMut(&mut Self, Event<'_>),
    ) {
        let bytes = match self.partial.take() {
            None => Cow::Borrowed(bytes),
            Some(partial) => Cow::Owned([&*partial, bytes].concat()),
        };
        let used = self.consume(&bytes, now, speech, own, on);
        if used < bytes.len() && self.stage != Stage::Off {
            self.partial = Some(bytes[used..].into());
        }
    }

    /// Goes through what is whole; the number of bytes that it had.
    fn consume(
        &mut self,
        bytes: &[u8],
        now: u64,
        speech: &Speech,
        own: Option<&str>,
        on: &mut impl FnMut(&mut Self, Event<'_>),
    ) -> usize {
        let mut used = 0;
        if self.stage == Stage::Upgrading {
            let Some((status, len)) = wire::read_head(bytes) else { return 0 };
            used = len;
            if status != 101 {
                self.end();
                on(self, Event::Refused(status));
                return used;
            }
            self.stage = if speech.topic.is_some() { Stage::Joining } else { Stage::In };
            on(self, Event::Upgraded);
        }
        while self.stage != Stage::Off {
            let frame = match wire::read_frame(&bytes[used..]) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    self.end();
                    on(self, Event::Broken(error));
                    break;
                }
            };
            used += frame.len;
            if frame.opcode == TEXT && frame.last {
                if let Some(stamp) = speech.messages.read(frame.payload, None, now) {
                    on(self, Event::Message(stamp));
                } else {
                    self.take_text(frame.payload, now, speech, own, on);
                }
            } else {
                self.take_control(&frame, on);
            }
        }
        used
    }

    fn take_control(&mut self, frame: &wire::Frame<'_>, on: &mut impl FnMut(&mut Self, Event<'_>)) {
        match frame.opcode {
            CLOSE => {
                self.end();
                let code = frame.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                on(self, Event::Closed(code));
            }
            PING => on(self, Event::Ping(frame.payload)),
            wire::PONG => {}
            _ => on(self, Event::Unknown(shown(frame.payload))),
        }
    }

    /// Takes a text that is no message of the common topic.
    fn take_text(
        &mut self,
        text: &[u8],
        now: u64,
        speech: &Speech,
        own: Option<&str>,
        on: &mut impl FnMut(&mut Self, Event<'_>),
    ) {
        if speech.topic.is_none() {
            return on(self, Event::Unknown(shown(text)));
        }
        if let Some(stamp) = own.and_then(|own| speech.messages.read(text, Some(own), now)) {
            return on(self, Event::Own(stamp));
        }
        let has = |part: &str| memmem::find(text, part.as_bytes()).is_some();
        if has(r#","phx_reply",{"#) {
            self.take_reply(text, has(r#""status":"ok""#), on);
        } else if has(r#","phx_error",{"#) || has(r#","phx_close",{"#) {
            on(self, Event::ChannelEnded);
        } else if is_push(text) {
            on(self, Event::Pushed);
        } else {
            on(self, Event::Unknown(shown(text)));
        }
    }

    fn take_reply(&mut self, text: &[u8], is_ok: bool, on: &mut impl FnMut(&mut Self, Event<'_>)) {
        if let Some(rest) = text.strip_prefix(b"[null,\"") {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
            let found = digits
                .fold(0u32, |number, digit| number.wrapping_mul(10).wrapping_add(u32::from(digit - b'0')));
            if found != 0 && found == self.heartbeat_ref && is_ok {
                self.heartbeat_ref = 0;
                return on(self, Event::Heartbeat(self.heartbeat_at));
            }
            return on(self, Event::Unknown(shown(text)));
        }
        if !is_ok {
            return on(self, Event::Denied(shown(text)));
        }
        if self.stage == Stage::Joining {
            self.joins = self.joins.saturating_sub(1);
            if self.joins == 0 {
                self.stage = Stage::In;
                on(self, Event::Joined);
            }
        }
    }
}

/// Whether a message in Phoenix's envelope is for one client alone: a broadcast has no join_ref, a reply has a ref.
#[must_use]
pub fn is_push(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"[\"") else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && rest[digits..].starts_with(b"\",null,\"")
}

fn shown(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(SHOWN_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = r#"[null,null,"room:lobby","new_msg",{"body":"m00000500000zzxxxx"}]"#;
    const OWN: &str = r#"[null,null,"user:1","new_msg",{"body":"m00000700000zzxxxxxxxx"}]"#;

    fn speech(topic: Option<&str>) -> Speech {
        let messages = match topic {
            Some(topic) => Messages::phoenix(topic, 64),
            None => Messages::plain(64),
        };
        Speech { messages: messages.unwrap(), topic: topic.map(str::to_owned) }
    }

    /// A server's frame with up to 125 bytes.
    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        [&[0x80 | opcode, u8::try_from(payload.len()).unwrap()], payload].concat()
    }

    /// What a client learns when bytes come in pieces of this length.
    fn events(client: &mut Client, bytes: &[u8], piece: usize, topic: Option<&str>) -> Vec<String> {
        let mut seen = Vec::new();
        let speech = speech(topic);
        let mut out = Vec::new();
        for piece in bytes.chunks(piece) {
            client.take(piece, 2_000, &speech, topic.map(|_| "user:1"), &mut |client, event| {
                if event == Event::Upgraded && topic.is_some() {
                    client.write_join(&mut out, "room:lobby");
                    client.write_join(&mut out, "user:1");
                }
                seen.push(format!("{event:?}"));
            });
        }
        seen
    }

    fn upgrading() -> Client {
        let mut client = Client::default();
        client.begin(10);
        assert_eq!(client.stage, Stage::Connecting);
        client.stage = Stage::Upgrading;
        client
    }

    #[test]
    fn a_session_is_the_same_however_it_is_cut() {
        let reply =
            |number| format!(r#"["{number}","{number}","t","phx_reply",{{"status":"ok","response":{{}}}}]"#);
        let bytes = [
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_vec(),
            frame(TEXT, reply(1).as_bytes()),
            frame(TEXT, MESSAGE.as_bytes()),
            frame(TEXT, reply(2).as_bytes()),
            frame(PING, b"there?"),
            frame(TEXT, OWN.as_bytes()),
            frame(TEXT, br#"[null,null,"room:lobby","other",{}]"#),
            frame(TEXT, br#"["1",null,"room:lobby","new_msg",{"body":"maintenance at noon"}]"#),
            frame(TEXT, br#"["1","9","room:lobby","phx_reply",{"status":"error","response":{}}]"#),
            frame(TEXT, br#"["1","1","room:lobby","phx_close",{}]"#),
            frame(CLOSE, &1012u16.to_be_bytes()),
            frame(TEXT, MESSAGE.as_bytes()),
        ]
        .concat();
        let mut whole = upgrading();
        let expected = events(&mut whole, &bytes, bytes.len(), Some("room:lobby"));
        let names: Vec<&str> = expected.iter().map(|event| event.split('(').next().unwrap()).collect();
        let wanted = [
            "Upgraded",
            "Message",
            "Joined",
            "Ping",
            "Own",
            "Unknown",
            "Pushed",
            "Denied",
            "ChannelEnded",
            "Closed",
        ];
        assert_eq!(names, wanted);
        assert!(expected[1].contains("number: 5") && expected[9].contains("1012"), "{expected:?}");
        for piece in 1..bytes.len() {
            let mut client = upgrading();
            assert_eq!(events(&mut client, &bytes, piece, Some("room:lobby")), expected, "{piece}");
            assert!(!client.waits_for_rest() && client.stage == Stage::Off, "{piece}");
        }
    }

    #[test]
    fn nothing_is_kept_between_whole_frames() {
        let mut client = upgrading();
        let head = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
        let bytes = [head, frame(TEXT, &[b'x'; 64])].concat();
        events(&mut client, &bytes[..bytes.len() - 1], 1_000, None);
        assert!(client.waits_for_rest());
        events(&mut client, &bytes[bytes.len() - 1..], 1_000, None);
        assert!(!client.waits_for_rest());
        assert!(size_of::<Client>() <= 64, "{}", size_of::<Client>());
    }

    #[test]
    fn another_answer_than_an_upgrade_ends_it() {
        for (head, expected) in [
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "Refused(503)"),
            ("SSH-2.0-OpenSSH_9.6\r\n\r\n", "Refused(0)"),
        ] {
            let mut client = upgrading();
            assert_eq!(events(&mut client, head.as_bytes(), 7, Some("room:lobby")), [expected]);
            assert_eq!(client.stage, Stage::Off);
        }
    }

    #[test]
    fn only_the_reply_to_its_last_heartbeat_answers_it() {
        let mut client = Client { stage: Stage::In, ..Client::default() };
        let mut out = Vec::new();
        client.write_heartbeat(&mut out, 500);
        client.write_heartbeat(&mut out, 900);
        assert!(client.lacks_heartbeat(900) && !client.lacks_heartbeat(500));
        let reply = |number| {
            frame(
                TEXT,
                format!(r#"[null,"{number}","phoenix","phx_reply",{{"status":"ok","response":{{}}}}]"#)
                    .as_bytes(),
            )
        };
        let seen = events(&mut client, &reply(1), 100, Some("room:lobby"));
        assert!(seen[0].starts_with("Unknown"), "{seen:?}");
        assert_eq!(events(&mut client, &reply(2), 100, Some("room:lobby")), ["Heartbeat(900)"]);
        assert!(!client.lacks_heartbeat(900));
    }

    #[test]
    fn a_leave_is_answered_like_a_join() {
        let mut client = Client { stage: Stage::In, ..Client::default() };
        client.write_leave(&mut Vec::new(), "room:lobby", 1);
        assert_eq!(client.stage, Stage::Joining);
        let reply = frame(TEXT, br#"["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]"#);
        assert_eq!(events(&mut client, &reply, 5, Some("room:lobby")), ["Joined"]);
    }

    #[test]
    fn what_no_server_sends_breaks_the_connection() {
        let mut client = Client { stage: Stage::In, ..Client::default() };
        assert_eq!(events(&mut client, &[0x81, 0x85, 0, 0, 0, 0], 100, None), ["Broken(Masked)"]);
        assert_eq!(client.stage, Stage::Off);
    }
}
