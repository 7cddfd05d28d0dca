//! Dialogues between clients and a server in memory, written down as they go over the wire.
//!
//! ```text
//! a -> ["1","1","room:lobby","phx_join",{}]
//! a <- ["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]
//! ```
//!
//! A line is what one client sends or gets, byte for byte. A client connects when it is first named. Between
//! two lines that send, every client must have got exactly what the lines say: neither more nor less, in this
//! order. Lines are written for serializer V2; [`check`] plays them with V1 as well, translated by what the
//! protocol says of the two: no join_ref, and so no ref in `phx_close` and `phx_error`. And it plays them both
//! over WebSocket and over long-poll, whose messages are the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hailer::endpoint::Config;
use hailer::phoenix::Serializer;
use hailer::testing::{ClientId, Frame, TestServer, write_masked};
use serde_json::value::RawValue;

pub(super) const BOTH: [Serializer; 2] = [Serializer::V1, Serializer::V2];

/// How the clients of a dialogue are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    WebSocket,
    LongPoll,
}

/// Each serializer over each transport.
pub(super) const FORMS: [(Serializer, Transport); 4] = [
    (Serializer::V1, Transport::WebSocket),
    (Serializer::V2, Transport::WebSocket),
    (Serializer::V1, Transport::LongPoll),
    (Serializer::V2, Transport::LongPoll),
];

/// A server and its clients by name.
pub(super) struct Dialogue {
    pub(super) server: TestServer,
    serializer: Serializer,
    transport: Transport,
    clients: BTreeMap<String, ClientId>,
    /// Frames that no line has named.
    unread: BTreeMap<String, Vec<Frame>>,
}

/// Plays the lines with both serializers, over both transports.
#[track_caller]
pub(super) fn check(lines: &str) {
    check_with(&super::probe::config(), lines);
}

/// The same on a server of this configuration.
#[track_caller]
pub(super) fn check_with(config: &Config, lines: &str) {
    for form in FORMS {
        Dialogue::over(config, form).play(lines);
    }
}

/// Plays lines that mean something for one serializer alone.
#[track_caller]
pub(super) fn check_only(serializer: Serializer, lines: &str) {
    Dialogue::new(&super::probe::config(), serializer).play(lines);
}

/// Lines that join each of the clients, named with spaces between, to a topic, with join_ref "1".
pub(super) fn joined(clients: &str, topic: &str) -> String {
    let join = |client: &str| {
        format!(
            r#"
            {client} -> ["1","1","{topic}","phx_join",{{}}]
            {client} <- ["1","1","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]
            "#
        )
    };
    clients.split(' ').map(join).collect()
}

impl Dialogue {
    pub(super) fn new(config: &Config, serializer: Serializer) -> Self {
        Self::on_shards(config, serializer, 1)
    }

    /// The clients are connected in this way.
    pub(super) fn over(config: &Config, (serializer, transport): (Serializer, Transport)) -> Self {
        Self { transport, ..Self::new(config, serializer) }
    }

    /// The clients are on the shards in turn, in the order in which they are first named.
    pub(super) fn on_shards(config: &Config, serializer: Serializer, shards: u16) -> Self {
        Self {
            server: TestServer::with_config(config, shards),
            serializer,
            transport: Transport::WebSocket,
            clients: BTreeMap::new(),
            unread: BTreeMap::new(),
        }
    }

    /// The client of this name, connected if it is new.
    pub(super) fn client(&mut self, name: &str) -> ClientId {
        if let Some(client) = self.clients.get(name) {
            return *client;
        }
        let client = match self.transport {
            Transport::WebSocket => self.server.connect_with(self.serializer),
            Transport::LongPoll => self.server.connect_long_poll(self.serializer),
        };
        self.clients.insert(name.to_owned(), client);
        client
    }

    #[track_caller]
    pub(super) fn play(&mut self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no client in: {line}"));
            match rest.split_at(2) {
                ("->", text) => {
                    self.expect_nothing(line);
                    self.send(name, text.trim_start());
                }
                ("<-", text) => self.expect(name, text.trim_start(), line),
                _ => panic!("neither -> nor <- in: {line}"),
            }
        }
        self.expect_nothing("the end");
    }

    /// Sends a line's text: `close 1000`, `ping x`, or a message.
    pub(super) fn send(&mut self, name: &str, text: &str) {
        let client = self.client(name);
        match self.transport {
            Transport::WebSocket => {
                let bytes = self.masked(text);
                self.server.send_bytes(client, &bytes);
            }
            Transport::LongPoll => {
                let text = self.message(text);
                self.server.send_text(client, &text);
            }
        }
    }

    /// The message of a line's text in the form of this dialogue's serializer.
    fn message(&self, text: &str) -> String {
        match self.serializer {
            Serializer::V2 => text.to_owned(),
            Serializer::V1 => to_v1(text, true),
        }
    }

    /// The frame of a line's text.
    pub(super) fn masked(&self, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        match text.split_once(' ') {
            Some(("close", code)) => {
                let code: u16 = code.parse().expect("a close code");
                write_masked(&mut bytes, 0x8, true, &code.to_be_bytes());
            }
            Some(("ping", payload)) => write_masked(&mut bytes, 0x9, true, payload.as_bytes()),
            _ => write_masked(&mut bytes, 0x1, true, self.message(text).as_bytes()),
        }
        bytes
    }

    /// Serializer and transport, for whoever reads of a failure.
    fn form(&self) -> String {
        format!("{:?} over {:?}", self.serializer, self.transport)
    }

    #[track_caller]
    fn expect(&mut self, name: &str, text: &str, line: &str) {
        self.client(name);
        self.read();
        let form = self.form();
        let unread = self.unread.entry(name.to_owned()).or_default();
        assert!(!unread.is_empty(), "{form}: nothing came for: {line}");
        let got = show(&unread.remove(0));
        let is_message = text.starts_with('[');
        let expected = if is_message && self.serializer == Serializer::V1 {
            to_v1(text, false)
        } else {
            text.to_owned()
        };
        assert_eq!(got, expected, "{form}: {line}");
    }

    #[track_caller]
    fn expect_nothing(&mut self, line: &str) {
        self.read();
        for (name, frames) in &self.unread {
            let shown: Vec<_> = frames.iter().map(show).collect();
            assert!(shown.is_empty(), "{}: before {line}, {name} got also {shown:#?}", self.form());
        }
    }

    /// Takes what has come for a client as lines would show it.
    pub(super) fn take(&mut self, name: &str) -> Vec<String> {
        self.client(name);
        self.read();
        self.unread.remove(name).unwrap_or_default().iter().map(show).collect()
    }

    /// Takes the frames that have come for a client.
    pub(super) fn take_frames(&mut self, name: &str) -> Vec<Frame> {
        self.client(name);
        self.read();
        self.unread.remove(name).unwrap_or_default()
    }

    fn read(&mut self) {
        for (name, client) in &self.clients {
            let frames = self.server.take_frames(*client);
            self.unread.entry(name.clone()).or_default().extend(frames);
        }
    }
}

/// A frame as a line shows it.
pub(super) fn show(frame: &Frame) -> String {
    let text = String::from_utf8_lossy(&frame.payload);
    match frame.opcode {
        0x1 => text.into_owned(),
        0x8 => match frame.payload.split_first_chunk() {
            Some((code, [])) => format!("close {}", u16::from_be_bytes(*code)),
            Some((code, reason)) => {
                format!("close {} {}", u16::from_be_bytes(*code), String::from_utf8_lossy(reason))
            }
            None => "close".to_owned(),
        },
        0xa => format!("pong {text}"),
        opcode => frame.payload.iter().fold(format!("{opcode:#x}:"), |mut shown, byte| {
            let _ = write!(shown, " {byte:02x}");
            shown
        }),
    }
}

/// A V2 message in the form of V1. A client's has no join_ref, so the server has none to give back.
fn to_v1(text: &str, from_client: bool) -> String {
    let Ok(fields) = serde_json::from_str::<[Box<RawValue>; 5]>(text) else { return text.to_owned() };
    let [_, message_ref, topic, event, payload] = fields.each_ref().map(|field| field.get());
    let ends = !from_client && matches!(event, r#""phx_close""# | r#""phx_error""#);
    let message_ref = if ends { "null" } else { message_ref };
    format!(r#"{{"topic":{topic},"event":{event},"payload":{payload},"ref":{message_ref}}}"#)
}
