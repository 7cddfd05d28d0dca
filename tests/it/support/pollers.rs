//! Very many long-poll clients on one thread, some of which lose their connections in the middle of an answer.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use super::{PATIENCE, eventually};
use crate::simulator::rng::Rng;

/// Clients that may be opening a session or joining at one time, as in [`super::swarm`].
const UNDER_WAY_MAX: usize = 256;

const JOIN: &str = r#"["1","1","room:lobby","phx_join",{}]"#;
/// The reply to it, which is every client's first message.
const JOINED: &str = r#"["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]"#;

/// What a client has asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Open,
    Join,
    Poll,
}

/// What all clients have seen.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Answers with messages that were read whole.
    pub(crate) answers: usize,
    /// Answers without messages.
    pub(crate) empty: usize,
    /// Answers with messages that were read in part only.
    pub(crate) cuts: usize,
    joined: usize,
    /// Clients that have everything that is expected.
    complete: usize,
}

struct Client {
    /// `None` only between two connections.
    stream: Option<TcpStream>,
    connected: bool,
    step: Step,
    token: String,
    /// Messages that have come, in order.
    received: usize,
    /// Messages of the answer that was cut, all of which the next one brings again.
    owed: usize,
    /// The answer to come is to be cut.
    cuts: bool,
    choices: Rng,
    /// The beginning of an answer that is not whole, hence nearly always empty.
    partial: Vec<u8>,
}

/// Clients of `room:lobby` on long-poll.
///
/// Each opens its session on a connection of its own and does all else on a second one, which stays open and
/// always polls. With two shards, the kernel puts half of the second ones where the session is not.
pub(crate) struct Pollers {
    address: SocketAddr,
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    buffer: Box<[u8]>,
    /// The messages that every client is to get, in order, as JSON strings.
    expected: Vec<Vec<u8>>,
    choices: Rng,
    cut_percent: usize,
    pub(crate) tally: Tally,
}

impl Pollers {
    /// So many of a hundred answers with messages are cut.
    pub(crate) fn new(address: SocketAddr, seed: u64, cut_percent: usize) -> Self {
        Self {
            address,
            poll: Poll::new().expect("the system has an event queue"),
            events: Events::with_capacity(1024),
            clients: Vec::new(),
            buffer: vec![0; 64 * 1024].into_boxed_slice(),
            expected: vec![as_json_string(JOINED)],
            choices: Rng::new(seed),
            cut_percent,
            tally: Tally::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Connects and joins so many clients.
    pub(crate) fn join(&mut self, count: usize) {
        self.run("pollers that have joined", |pollers| {
            while pollers.len() < count && pollers.len() - pollers.tally.joined < UNDER_WAY_MAX {
                let choices = pollers.choices.fork();
                pollers.clients.push(Client::new(choices));
                pollers.connect(pollers.len() - 1);
            }
            (pollers.tally.joined, count)
        });
    }

    /// What all clients are to get next.
    pub(crate) fn expect(&mut self, messages: impl IntoIterator<Item = String>) {
        self.expected.extend(messages.into_iter().map(|message| as_json_string(&message)));
        self.tally.complete = 0;
    }

    /// Reads and polls until so many clients have got everything that is expected.
    pub(crate) fn receive(&mut self, clients: usize) {
        self.run("pollers that have everything", |pollers| (pollers.tally.complete, clients));
    }

    /// Ends all connections, every other one with a reset; the tokens of the sessions.
    pub(crate) fn leave(&mut self) -> Vec<String> {
        let leave = |(key, mut client): (usize, Client)| {
            if key % 2 == 0 {
                client.reset();
            }
            client.token
        };
        self.clients.drain(..).enumerate().map(leave).collect()
    }

    /// Gives a client a new connection; it sends its request as soon as that is there.
    fn connect(&mut self, key: usize) {
        let client = &mut self.clients[key];
        client.stream = None;
        // Other programs of the machine may have all ports for a while.
        let mut stream = eventually("a port that is left", || match TcpStream::connect(self.address) {
            Ok(stream) => Some(stream),
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => None,
            Err(error) => panic!("{error}"),
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(key), interest).expect("it can be watched");
        client.stream = Some(stream);
        client.connected = false;
        client.partial.clear();
    }

    /// Serves the clients until the first of the two numbers that `progress` gives reaches the second.
    fn run(&mut self, what: &str, mut progress: impl FnMut(&mut Self) -> (usize, usize)) {
        let mut deadline = Instant::now() + PATIENCE;
        let mut best = 0;
        loop {
            let (now, wanted) = progress(self);
            if now >= wanted {
                return;
            }
            if now > best {
                best = now;
                deadline = Instant::now() + PATIENCE;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                panic!("{now} of {wanted} {what}, and no more within {PATIENCE:?}: {}", self.laggards());
            }
            let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
            match self.poll.poll(&mut events, Some(left)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            for event in &events {
                let key = event.token().0;
                if event.is_writable() {
                    self.connected(key);
                }
                while self.read(key, &mut buffer) {}
            }
            self.buffer = buffer;
            self.events = events;
        }
    }

    /// The first few clients that lack something.
    fn laggards(&self) -> String {
        let lacks = |(_, client): &(usize, &Client)| client.received < self.expected.len();
        let show = |(key, client): (usize, &Client)| {
            let Client { step, connected, received, owed, partial, .. } = client;
            let address = client.stream.as_ref().and_then(|stream| stream.local_addr().ok());
            format!(
                "\n{key} at {step:?} from {address:?}, connected {connected}: {received} messages, {owed} cut, \
                 {} bytes of an answer",
                partial.len()
            )
        };
        self.clients.iter().enumerate().filter(lacks).take(5).map(show).collect()
    }

    fn connected(&mut self, key: usize) {
        let client = &mut self.clients[key];
        let Some(stream) = client.stream.as_ref().filter(|_| !client.connected) else { return };
        if let Some(error) = stream.take_error().expect("a socket has its error") {
            panic!("poller {key} can't connect: {error}");
        }
        // The event may be one of the connection before.
        if stream.peer_addr().is_ok() {
            client.connected = true;
            client.ask(self.cut_percent);
        }
    }

    /// Reads once from a client's connection; whether there may be more.
    fn read(&mut self, key: usize, buffer: &mut [u8]) -> bool {
        if !self.clients[key].connected || self.cut(key, buffer) {
            return false;
        }
        let client = &mut self.clients[key];
        let Some(stream) = &mut client.stream else { return false };
        let n = match stream.read(buffer) {
            Ok(0) => panic!("the server has ended the connection of poller {key} at {:?}", client.step),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            Err(error) => panic!("poller {key} at {:?}: {error}", client.step),
        };
        let mut whole = std::mem::take(&mut client.partial);
        whole.extend_from_slice(&buffer[..n]);
        match Answer::parse(&whole) {
            Some(answer) => {
                assert_eq!(answer.len, whole.len(), "one answer for one request");
                self.take(key, &answer);
            }
            None => client.partial = whole,
        }
        n == buffer.len()
    }

    /// Reads a part of an answer that is to be cut, forgets it, ends the connection and asks again on a new
    /// one. `false` if there is no whole answer with messages.
    fn cut(&mut self, key: usize, buffer: &mut [u8]) -> bool {
        let client = &mut self.clients[key];
        if !client.cuts || !client.partial.is_empty() {
            return false;
        }
        let Some(stream) = &client.stream else { return false };
        let Ok(len) = stream.peek(buffer) else { return false };
        let Some(answer) = Answer::parse(&buffer[..len]).filter(|answer| answer.status == 200) else {
            return false;
        };
        client.owed = client.check(key, answer.messages, &self.expected) - client.received;
        let seen = client.choices.range(1, len - 1);
        let Some(stream) = &mut client.stream else { return false };
        stream.read_exact(&mut buffer[..seen]).expect("what was there is still there");
        if client.choices.chance(50) {
            client.reset();
        }
        // Without it the kernel sends a reset as well, because of what is unread.
        self.tally.cuts += 1;
        self.connect(key);
        true
    }

    fn take(&mut self, key: usize, answer: &Answer<'_>) {
        let client = &mut self.clients[key];
        match (client.step, answer.status) {
            (Step::Open, 410) => {
                client.token = answer.token.to_owned();
                client.step = Step::Join;
                // It has all it was sent, and leaves no port in TIME_WAIT.
                client.reset();
                self.connect(key);
                return;
            }
            (Step::Join, 200) => client.step = Step::Poll,
            (Step::Poll, 204) => self.tally.empty += 1,
            (Step::Poll, 200) => {
                let received = client.check(key, answer.messages, &self.expected);
                self.tally.answers += 1;
                self.tally.joined += usize::from(client.received == 0);
                self.tally.complete += usize::from(received == self.expected.len());
                (client.received, client.owed) = (received, 0);
            }
            (step, status) => panic!("status {status} for poller {key} at {step:?}"),
        }
        client.ask(self.cut_percent);
    }
}

impl Client {
    fn new(choices: Rng) -> Self {
        Self {
            stream: None,
            connected: false,
            step: Step::Open,
            token: String::new(),
            received: 0,
            owed: 0,
            cuts: false,
            choices,
            partial: Vec::new(),
        }
    }

    /// Sends the request of the step that the client is at.
    fn ask(&mut self, cut_percent: usize) {
        const PATH: &str = "/socket/longpoll?vsn=2.0.0";
        let token = &self.token;
        let request = match self.step {
            Step::Open => format!("GET {PATH} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
            Step::Join => format!(
                "POST {PATH}&token={token} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n{JOIN}",
                JOIN.len()
            ),
            Step::Poll => format!("GET {PATH}&token={token} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        };
        self.cuts = self.step == Step::Poll && self.choices.chance(cut_percent);
        let stream = self.stream.as_mut().expect("a client that asks is connected");
        stream.write_all(request.as_bytes()).expect("a few bytes are taken");
    }

    /// How many messages the client has had after these, which must be the next ones in order. So none is
    /// lost, doubled or overtaken.
    fn check(&self, key: usize, messages: &[u8], expected: &[Vec<u8>]) -> usize {
        let mut received = self.received;
        let mut left = messages;
        while !left.is_empty() {
            let next = expected.get(received).and_then(|next| left.strip_prefix(next.as_slice()));
            let Some(rest) = next else {
                panic!("poller {key} at message {received}: {:?}", String::from_utf8_lossy(messages));
            };
            received += 1;
            left = rest.strip_prefix(b",").unwrap_or(rest);
        }
        let new = received - self.received;
        assert!(new > 0, "poller {key}: an answer of status 200 has messages");
        assert!(new >= self.owed, "poller {key}: {new} messages again, but {} were cut", self.owed);
        received
    }

    /// Ends the connection with a reset as soon as it is dropped.
    fn reset(&mut self) {
        let Some(stream) = &self.stream else { return };
        SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("an option can be set");
    }
}

fn as_json_string(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).expect("text is JSON")
}

/// A whole answer, as the server writes it.
struct Answer<'a> {
    /// Bytes of its head and body.
    len: usize,
    /// That of the body.
    status: u16,
    token: &'a str,
    /// What stands between the brackets.
    messages: &'a [u8],
}

impl<'a> Answer<'a> {
    /// `None` while it is not whole.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let head = memmem::find(bytes, b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&bytes[..head]).expect("a head is ASCII");
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let length = text.split_once("content-length: ").and_then(|(_, rest)| rest.split_once('\r'));
        let length: usize = length.and_then(|(length, _)| length.parse().ok()).expect("a length");
        let body = bytes.get(head..head + length)?;
        let text = std::str::from_utf8(body).expect("a body is UTF-8");
        let what = "an answer is one of long-poll's";
        let rest = text.strip_prefix(r#"{"status":"#).expect(what);
        let status = rest.get(..3).and_then(|status| status.parse().ok()).expect(what);
        let (mut token, mut messages) = ("", "");
        if let Some(rest) = rest[3..].strip_prefix(r#","token":""#) {
            let parts = rest.strip_suffix("]}").and_then(|rest| rest.split_once(r#"","messages":["#));
            (token, messages) = parts.expect(what);
        }
        Some(Self { len: head + length, status, token, messages: messages.as_bytes() })
    }
}
