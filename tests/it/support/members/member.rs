//! One user's client: bytes of the server in, requests and frames out.

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hailer::testing::{upgrade_request, write_masked};
use memchr::memmem;
use mio::net::TcpStream;
use serde_json::Value;
use socket2::SockRef;

use super::{Arrival, LOBBY, Pass, Place, Transport};
use crate::support::peer::{CLOSE, TEXT, frame_len};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Asks for a WebSocket or a session.
    Open,
    /// Has asked for its places, so many of which have not been granted yet.
    Join(usize),
    Joined,
    /// Has answered the server's close frame.
    Closing,
}

/// What has become of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    Nothing,
    /// It has a session, with which it goes on on a connection of its own.
    Opened,
    /// Nobody could decide about it in time.
    PutOff,
    /// The server has closed its WebSocket, which will end.
    Closed,
    /// Its WebSocket has ended.
    Ended,
    /// Its session is there no more; it has another one, or opens one.
    Gone,
}

pub(super) struct Member {
    pub(super) pass: Pass,
    /// Its own topic.
    own: Arc<str>,
    transport: Transport,
    /// `None` while it stays away.
    stream: Option<TcpStream>,
    connected: bool,
    step: Step,
    /// The token of its session.
    session: String,
    /// The beginning of an answer or frame that is not whole.
    partial: Vec<u8>,
    /// The last number that came in each place.
    pub(super) last: [Option<u64>; 2],
    /// How many have come there.
    pub(super) received: [u64; 2],
    /// Whether the next number there may leave some out, since the member was away.
    gap: [bool; 2],
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pass, transport, step, last, .. } = self;
        write!(f, "{transport:?} of {} at {step:?}, last {last:?}", pass.user)
    }
}

impl Member {
    pub(super) fn new(pass: Pass, transport: Transport) -> Self {
        Self {
            own: format!("user:{}", pass.user).into(),
            pass,
            transport,
            stream: None,
            connected: false,
            step: Step::Open,
            session: String::new(),
            partial: Vec::new(),
            last: [None; 2],
            received: [0; 2],
            gap: [false; 2],
        }
    }

    pub(super) fn is_joined(&self) -> bool {
        self.step == Step::Joined
    }

    /// Ends its connection for good, if it has joined.
    pub(super) fn retire(&mut self) -> bool {
        self.is_joined() && self.stream.take().is_some()
    }

    /// The connection, once there may be something to read on it.
    pub(super) fn readable(&mut self) -> Option<&mut TcpStream> {
        self.stream.as_mut().filter(|_| self.connected)
    }

    /// Takes a fresh connection. The one before has ended.
    pub(super) fn begin(&mut self, stream: TcpStream) {
        self.stream = Some(stream);
        self.connected = false;
        self.partial.clear();
        if self.transport == Transport::WebSocket {
            self.step = Step::Open;
        }
    }

    /// Ends the connection with a reset as soon as it is dropped.
    pub(super) fn reset(&mut self) {
        let Some(stream) = &self.stream else { return };
        SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("an option can be set");
    }

    /// Sends the first request once the connection is there.
    pub(super) fn connected(&mut self, places: &[Place]) {
        let Some(stream) = self.stream.as_ref().filter(|_| !self.connected) else { return };
        if let Some(error) = stream.take_error().expect("a socket has its error") {
            panic!("{self:?} can't connect: {error}");
        }
        // The event may be one of the connection before.
        if stream.peer_addr().is_ok() {
            self.connected = true;
            self.ask(places);
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let stream = self.stream.as_mut().expect("it is connected");
        stream.write_all(bytes).expect("a few bytes are taken");
    }

    /// Sends the request of the step that it is at.
    fn ask(&mut self, places: &[Place]) {
        let Pass { token, .. } = &self.pass;
        let session = &self.session;
        let request = match (self.transport, self.step) {
            (Transport::WebSocket, _) => {
                upgrade_request(&format!("/socket/websocket?token={token}&vsn=2.0.0"))
            }
            (Transport::LongPoll, Step::Join(_)) => {
                let joins = self.joins(places).join("\n");
                format!(
                    "POST /socket/longpoll?vsn=2.0.0&token={session} HTTP/1.1\r\nhost: localhost\r\n\
                     content-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n{joins}",
                    joins.len()
                )
            }
            (Transport::LongPoll, _) => return self.poll(),
        };
        self.send(request.as_bytes());
    }

    fn joins(&self, places: &[Place]) -> Vec<String> {
        let join = |(place, number): (&Place, usize)| {
            let topic = match place {
                Place::Lobby => LOBBY,
                Place::Own => &self.own,
            };
            format!(r#"["{number}","{number}","{topic}","phx_join",{{}}]"#)
        };
        places.iter().zip(1..).map(join).collect()
    }

    /// It is closed by the server, or has lost its session: what is said until it is back is not for it.
    fn lose(&mut self) {
        self.gap = [true; 2];
    }

    /// Takes what was read; nothing is the server's end.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        places: &[Place],
        mut arrivals: Option<&mut Vec<Arrival>>,
    ) -> Happened {
        if bytes.is_empty() {
            assert!(self.step == Step::Closing, "the server has ended the connection of {self:?}");
            self.stream = None;
            return Happened::Ended;
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(bytes);
        let mut used = 0;
        let mut happened = Happened::Nothing;
        while happened == Happened::Nothing {
            let taken = if self.transport == Transport::LongPoll || self.step == Step::Open {
                self.take_answer(&whole[used..], places, arrivals.as_deref_mut())
            } else {
                self.take_frame(&whole[used..], arrivals.as_deref_mut())
            };
            let Some((len, what)) = taken else { break };
            (used, happened) = (used + len, what);
        }
        self.partial.extend_from_slice(&whole[used..]);
        happened
    }

    fn take_frame(&mut self, bytes: &[u8], arrivals: Option<&mut Vec<Arrival>>) -> Option<(usize, Happened)> {
        let len = frame_len(bytes)?;
        let frame = bytes.get(..len)?;
        let payload = &frame[match frame[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        }..];
        match frame[0] & 0x0f {
            TEXT => self.take_message(payload, arrivals),
            CLOSE => {
                let code = payload.first_chunk().copied().map(u16::from_be_bytes);
                assert_eq!(code, Some(1001), "{self:?}: {:?}", String::from_utf8_lossy(payload));
                self.lose();
                self.step = Step::Closing;
                let mut answer = Vec::new();
                write_masked(&mut answer, CLOSE, true, &1001u16.to_be_bytes());
                self.send(&answer);
                return Some((len, Happened::Closed));
            }
            opcode => panic!("opcode {opcode} for {self:?}"),
        }
        Some((len, Happened::Nothing))
    }

    /// Takes an answer of HTTP, if it is whole.
    fn take_answer(
        &mut self,
        bytes: &[u8],
        places: &[Place],
        arrivals: Option<&mut Vec<Arrival>>,
    ) -> Option<(usize, Happened)> {
        let head_len = memmem::find(bytes, b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..head_len]).expect("a head is ASCII");
        let status = head.get(9..12).unwrap_or_default();
        if self.transport == Transport::WebSocket && status == "101" {
            let mut frames = Vec::new();
            for join in self.joins(places) {
                write_masked(&mut frames, TEXT, true, join.as_bytes());
            }
            self.send(&frames);
            self.step = Step::Join(places.len());
            return Some((head_len, Happened::Nothing));
        }
        let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.split_once('\r'));
        let length: usize = length.map_or(0, |(length, _)| length.parse().expect("a length"));
        let body = bytes.get(head_len..head_len + length)?;
        let happened = match (self.transport, status) {
            (Transport::WebSocket, "503") => self.put_off(),
            (Transport::LongPoll, "200") => {
                let body = serde_json::from_slice(body).expect("a body is JSON");
                self.take_body(&body, places, arrivals)
            }
            _ => panic!("{self:?}: {head}"),
        };
        Some((head_len + length, happened))
    }

    fn put_off(&mut self) -> Happened {
        self.stream = None;
        self.step = Step::Open;
        Happened::PutOff
    }

    /// Takes what a request of long-poll was answered.
    fn take_body(&mut self, body: &Value, places: &[Place], arrivals: Option<&mut Vec<Arrival>>) -> Happened {
        match body["status"].as_u64() {
            Some(410) => {
                let opened = self.step == Step::Open && self.session.is_empty();
                self.session = body["token"].as_str().unwrap_or_default().to_owned();
                self.step = if self.session.is_empty() { Step::Open } else { Step::Join(places.len()) };
                self.reset();
                if opened {
                    assert!(!self.session.is_empty(), "an opened session has a token: {body}");
                    return Happened::Opened;
                }
                self.lose();
                return Happened::Gone;
            }
            Some(500) => return self.put_off(),
            Some(204) if self.step != Step::Open => {}
            Some(200) if body["messages"].is_array() => {
                let messages = body["messages"].as_array().expect("it is one");
                let texts = messages.iter().map(|message| message.as_str().expect("a message is a text"));
                let mut arrivals = arrivals;
                texts.for_each(|text| self.take_message(text.as_bytes(), arrivals.as_deref_mut()));
            }
            Some(200) => {}
            _ => panic!("{self:?}: {body}"),
        }
        self.poll();
        Happened::Nothing
    }

    /// Asks for messages, or for a session if it has none.
    fn poll(&mut self) {
        let (session, token) = (&self.session, &self.pass.token);
        let request = format!(
            "GET /socket/longpoll?vsn=2.0.0&token={session} HTTP/1.1\r\nhost: localhost\r\n\
             x-phoenix-authtoken: {token}\r\n\r\n"
        );
        self.send(request.as_bytes());
    }

    fn take_message(&mut self, text: &[u8], arrivals: Option<&mut Vec<Arrival>>) {
        let message: Value = serde_json::from_slice(text).expect("a message is JSON");
        let (topic, event, payload) = (&message[2], message[3].as_str(), &message[4]);
        match (self.step, event) {
            (Step::Join(left), Some("phx_reply")) => {
                assert_eq!(payload["status"], "ok", "{self:?}: {message}");
                self.step = if left == 1 { Step::Joined } else { Step::Join(left - 1) };
            }
            // A place may have messages before the next one is granted.
            (Step::Join(_) | Step::Joined, Some("new_msg")) => {
                let place = if *topic == LOBBY {
                    Place::Lobby
                } else {
                    assert_eq!(*topic, *self.own, "somebody else's message for {self:?}");
                    Place::Own
                };
                let number = payload["body"]["number"].as_u64().expect("messages have numbers");
                self.check(place as usize, number);
                if let Some(arrivals) = arrivals.filter(|_| place == Place::Lobby) {
                    arrivals.push((number, Instant::now()));
                }
            }
            _ => panic!("{self:?}: {message}"),
        }
    }

    /// The next in order is the only one that is right, so none is lost, doubled or overtaken.
    fn check(&mut self, place: usize, number: u64) {
        let next = self.last[place].map_or(0, |last| last + 1);
        let is_right = number == next || (self.gap[place] && number > next);
        assert!(is_right, "{number} instead of {next} for {self:?}");
        self.gap[place] = false;
        self.last[place] = Some(number);
        self.received[place] += 1;
    }
}
