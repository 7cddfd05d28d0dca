//! Very many clients on one thread: each a socket and a few bytes that say how far it has got.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hailer::testing::{upgrade_request, write_masked};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::{Domain, SockRef, Socket, Type};

use super::peer::{CLOSE, PATH, TEXT, frame_len};

/// Clients that may be connecting or joining at one time. The kernel's queue of connections that wait to be
/// accepted is longer, so none is refused.
const UNDER_WAY_MAX: usize = 256;

/// Clients that connect from one address. The kernel tries every other port first, and when these some 14,000 are
/// taken it looks at all of them again for each further client, which takes longer than all else; a port that was used
/// rests for a minute, so clients that come anew have theirs of further addresses.
const CLIENTS_OF_ADDRESS: usize = 4000;

/// How long the clients may go without any of them getting on.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Upgrading,
    Joining,
    Joined,
    /// Has sent its close frame.
    Closing,
    /// Has the server's as well.
    Closed,
}

/// The reply to a join.
const JOINED: &[u8] = br#"["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]"#;

/// How many clients have got how far.
#[derive(Default)]
struct Tally {
    joined: usize,
    /// They have everything that is expected.
    complete: usize,
    /// The server is being stopped, so it closes WebSockets by itself.
    stopping: bool,
}

struct Client {
    stream: TcpStream,
    state: State,
    /// Messages that have come, in order.
    received: usize,
    reads: bool,
    /// The beginning of a head or frame that is not whole, hence nearly always empty.
    partial: Vec<u8>,
}

/// How a client ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a close frame, and it waits for the server's.
    Handshake,
    /// Without a word.
    Fin,
    /// With a reset, which the kernel sends once: if it is lost, the server learns of the end by `idle_timeout`.
    Reset,
}

/// Clients of `room:lobby`.
pub(crate) struct Swarm {
    address: SocketAddr,
    /// The last byte of the address that clients connect from.
    source: u8,
    poll: Poll,
    events: Events,
    clients: Slab<Client>,
    buffer: Box<[u8]>,
    /// Payloads of the frames that every client is to get, in order.
    expected: Vec<Vec<u8>>,
    tally: Tally,
}

impl Swarm {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            source: 1,
            poll: Poll::new().expect("the system has an event queue"),
            events: Events::with_capacity(1024),
            clients: Slab::new(),
            buffer: vec![0; 64 * 1024].into_boxed_slice(),
            expected: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// The same with clients that connect from 127.0.0.`source` first, so that swarms of several processes don't
    /// look for ports at one address.
    pub(crate) fn from_source(address: SocketAddr, source: u8) -> Self {
        Self { source, ..Self::new(address) }
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Connects and joins so many clients.
    pub(crate) fn join(&mut self, count: usize) {
        assert!(self.clients.is_empty() && self.expected.is_empty(), "a swarm is filled once at a time");
        self.tally.joined = 0;
        self.run("clients that have joined", |swarm| {
            while swarm.len() < count && swarm.len() - swarm.tally.joined < UNDER_WAY_MAX {
                swarm.connect();
            }
            (swarm.tally.joined, count)
        });
    }

    fn connect(&mut self) {
        if self.len() % CLIENTS_OF_ADDRESS == CLIENTS_OF_ADDRESS - 1 && self.source < 250 {
            self.source += 1;
        }
        let mut stream = loop {
            let from = Ipv4Addr::new(127, 0, 0, self.source);
            match connect_from(from, self.address) {
                Ok(stream) => break stream,
                // An address has some 28,000 ports, and one that was used may rest for a minute.
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable && self.source < 250 => {
                    self.source += 1;
                }
                Err(error) => panic!("can't connect from {from}: {error}"),
            }
        };
        let entry = self.clients.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(entry.key()), interest).expect("it can be watched");
        entry.insert(Client {
            stream,
            state: State::Connecting,
            received: 0,
            reads: true,
            partial: Vec::new(),
        });
    }

    /// One of each `every` clients stops reading.
    pub(crate) fn stop_reading(&mut self, every: usize) -> usize {
        let slow = self.clients.iter_mut().filter(|(key, _)| key % every == every - 1);
        slow.map(|(_, client)| client.reads = false).count()
    }

    /// All clients read again.
    pub(crate) fn resume_reading(&mut self) {
        let keys: Vec<usize> =
            self.clients.iter().filter(|(_, client)| !client.reads).map(|(key, _)| key).collect();
        for key in keys {
            self.clients[key].reads = true;
            // Its edge has come long ago.
            self.read(key);
        }
    }

    /// What all clients are to get next, as payloads of frames.
    pub(crate) fn expect(&mut self, payloads: impl IntoIterator<Item = Vec<u8>>) {
        assert_eq!(self.tally.complete, if self.expected.is_empty() { 0 } else { self.len() });
        self.expected.extend(payloads);
        self.tally.complete = 0;
    }

    /// Reads until so many clients have got everything that is expected.
    pub(crate) fn receive(&mut self, clients: usize) {
        self.run("clients that have everything", |swarm| (swarm.tally.complete, clients));
        assert_eq!(self.tally.complete, clients);
    }

    /// Ends all connections, each in the way that `ending` gives for its number.
    pub(crate) fn close(&mut self, ending: impl Fn(usize) -> Ending) {
        let mut frame = Vec::new();
        write_masked(&mut frame, CLOSE, true, &1000u16.to_be_bytes());
        let keys: Vec<usize> = self.clients.iter().map(|(key, _)| key).collect();
        for key in keys {
            let how = ending(key);
            let client = &mut self.clients[key];
            match how {
                Ending::Handshake => {
                    client.stream.write_all(&frame).expect("a few bytes are taken");
                    client.state = State::Closing;
                    continue;
                }
                Ending::Fin => {}
                Ending::Reset => {
                    let socket = SockRef::from(&client.stream);
                    socket.set_linger(Some(Duration::ZERO)).expect("an option can be set");
                }
            }
            self.clients.remove(key);
        }
        let closing = self.len();
        self.run("connections that have ended", |swarm| (closing - swarm.len(), closing));
        self.expected.clear();
        self.tally.complete = 0;
    }

    /// Serves the clients until a server that is being stopped has ended all their connections, each with
    /// close code 1012.
    pub(crate) fn be_stopped(&mut self) {
        self.tally.stopping = true;
        let clients = self.len();
        self.run("connections that have ended", |swarm| (clients - swarm.len(), clients));
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
            assert!(!left.is_zero(), "{now} of {wanted} {what}, and no more within {PATIENCE:?}");
            let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
            match self.poll.poll(&mut events, Some(left)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
            for event in &events {
                let key = event.token().0;
                if event.is_writable() {
                    self.connected(key);
                }
                self.read(key);
            }
            self.events = events;
        }
    }

    /// Sends the upgrade request once the connection is there.
    fn connected(&mut self, key: usize) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.state != State::Connecting {
            return;
        }
        if let Some(error) = client.stream.take_error().expect("a socket has its error") {
            panic!("client {key} can't connect: {error}");
        }
        if client.stream.peer_addr().is_ok() {
            client.stream.write_all(upgrade_request(PATH).as_bytes()).expect("a few bytes are taken");
            client.state = State::Upgrading;
        }
    }

    /// Reads what there is for a client, until nothing is left.
    fn read(&mut self, key: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(client) = self.clients.get_mut(key) {
            if !client.reads || client.state == State::Connecting {
                break;
            }
            match client.stream.read(&mut buffer) {
                Ok(0) => {
                    assert!(
                        client.may_end(),
                        "the server has ended client {key}, which is {:?}",
                        client.state
                    );
                    self.clients.remove(key);
                }
                Ok(n) => client.take(&buffer[..n], &self.expected, &mut self.tally),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => break,
                    ErrorKind::Interrupted => {}
                    _ => panic!("client {key}: {error}"),
                },
            }
        }
        self.buffer = buffer;
    }
}

/// Begins to connect, from the address that the kernel would choose or from another one of this machine.
pub(super) fn connect_from(source: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    if source != Ipv4Addr::LOCALHOST {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

impl Client {
    /// Whether the server may end the connection here.
    fn may_end(&self) -> bool {
        self.state == State::Closed && self.partial.is_empty()
    }

    fn take(&mut self, bytes: &[u8], expected: &[Vec<u8>], tally: &mut Tally) {
        if self.partial.is_empty() {
            let used = self.consume(bytes, expected, tally);
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(bytes);
            let used = self.consume(&whole, expected, tally);
            self.partial.extend_from_slice(&whole[used..]);
        }
    }

    /// Goes through what is whole; the number of bytes that it had.
    fn consume(&mut self, bytes: &[u8], expected: &[Vec<u8>], tally: &mut Tally) -> usize {
        let mut used = 0;
        while let Some(len) = self.consume_one(&bytes[used..], expected, tally) {
            used += len;
        }
        used
    }

    fn consume_one(&mut self, bytes: &[u8], expected: &[Vec<u8>], tally: &mut Tally) -> Option<usize> {
        if self.state == State::Upgrading {
            let len = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
            assert!(bytes.starts_with(b"HTTP/1.1 101 "), "{:?}", String::from_utf8_lossy(bytes));
            self.state = State::Joining;
            let mut frame = Vec::new();
            write_masked(&mut frame, TEXT, true, br#"["1","1","room:lobby","phx_join",{}]"#);
            self.stream.write_all(&frame).expect("a few bytes are taken");
            return Some(len);
        }
        let len = frame_len(bytes)?;
        let frame = bytes.get(..len)?;
        let header = match frame[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let payload = &frame[header..];
        match (self.state, frame[0] & 0x0f) {
            (State::Joining, TEXT) => {
                assert_eq!(payload, JOINED, "{:?}", String::from_utf8_lossy(payload));
                self.state = State::Joined;
                tally.joined += 1;
            }
            (State::Joined, TEXT) => {
                // The next in order is the only one that is right, so none is lost, doubled or overtaken.
                let next = expected.get(self.received).map(Vec::as_slice);
                assert_eq!(
                    next,
                    Some(payload),
                    "message {}: {:?}",
                    self.received,
                    String::from_utf8_lossy(payload)
                );
                self.received += 1;
                tally.complete += usize::from(self.received == expected.len());
            }
            (State::Closing, CLOSE) => {
                assert_eq!(payload, 1000u16.to_be_bytes(), "the server's code is the client's");
                self.state = State::Closed;
            }
            (State::Joined, CLOSE) if tally.stopping => {
                assert_eq!(payload, 1012u16.to_be_bytes(), "the client is told to come back");
                let mut frame = Vec::new();
                write_masked(&mut frame, CLOSE, true, payload);
                self.stream.write_all(&frame).expect("a few bytes are taken");
                self.state = State::Closed;
            }
            (state, opcode) => {
                panic!("opcode {opcode} while {state:?}: {:?}", String::from_utf8_lossy(payload));
            }
        }
        Some(len)
    }
}
