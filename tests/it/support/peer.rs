//! A peer without manners: raw bytes over TCP, and the server's frames as they come.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use hailer::testing::{Frame, read_frames, upgrade_request, write_masked};
use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;
use super::patient::PatientStream;

pub(crate) const PATH: &str = "/socket/websocket?vsn=2.0.0";

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// One TCP connection to the server.
pub(crate) struct Peer {
    stream: PatientStream,
    received: Vec<u8>,
}

/// A whole HTTP response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Start line and fields.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::from_stream(TcpStream::connect_timeout(&address, PATIENCE).expect("the server accepts"))
    }

    /// Connects with little room for what the server sends, so that it soon can't send any more.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer is allowed");
        socket.connect_timeout(&address.into(), PATIENCE).expect("the server accepts");
        Self::from_stream(socket.into())
    }

    /// Connects and opens a WebSocket.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let mut peer = Self::connect(address);
        peer.upgrade(PATH);
        peer
    }

    /// Connects, opens a WebSocket and joins the lobby.
    pub(crate) fn join(address: SocketAddr) -> Self {
        let mut peer = Self::open(address);
        peer.join_lobby();
        peer
    }

    fn from_stream(stream: TcpStream) -> Self {
        Self { stream: PatientStream::new(stream), received: Vec::new() }
    }

    /// The same connection for another thread, to write while this one reads.
    pub(crate) fn second(&self) -> Self {
        Self::from_stream(self.stream.socket().try_clone().expect("a descriptor is left"))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes the bytes");
    }

    /// Sends bytes that the server need not take; whether it has.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends until the server has taken nothing for a moment, or `most` bytes are sent; how many it has taken.
    pub(crate) fn send_until_stuck(&mut self, bytes: &[u8], most: usize) -> usize {
        let mut socket = self.stream.socket();
        let moment = Duration::from_millis(500);
        socket.set_write_timeout(Some(moment)).expect("a timeout can be set");
        let mut taken = 0;
        for part in bytes.iter().copied().cycle().take(most).collect::<Vec<u8>>().chunks(16 * 1024) {
            match socket.write(part) {
                Ok(n) => taken += n,
                Err(_) => break,
            }
            if taken < part.len() {
                break;
            }
        }
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        taken
    }

    /// Ends this side; the server may still send.
    pub(crate) fn half_close(&self) {
        self.stream.socket().shutdown(Shutdown::Write).expect("the connection is there");
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        SockRef::from(self.stream.socket()).set_linger(Some(Duration::ZERO)).expect("an option can be set");
    }

    /// Reads once; `false` at the server's end.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(n) => {
                self.received.extend_from_slice(&buffer[..n]);
                n > 0
            }
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&self.received)),
        }
    }

    /// Reads to the server's end: what came before it.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.received)
    }

    /// Reads to the server's end; nothing may come before it.
    pub(crate) fn expect_end(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    }

    /// Reads one response to a request other than HEAD.
    pub(crate) fn response(&mut self) -> Response {
        let head_len = loop {
            if let Some(at) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill(), "no response: {:?}", String::from_utf8_lossy(&self.received));
        };
        let head = String::from_utf8(self.received.drain(..head_len).collect()).expect("a head is ASCII");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let mut response = Response { status, head, body: String::new() };
        let len: usize = response.field("content-length").map_or(0, |len| len.parse().expect("a length"));
        while self.received.len() < len {
            assert!(self.fill(), "the body ends too early");
        }
        response.body = String::from_utf8_lossy(&self.received.drain(..len).collect::<Vec<_>>()).into();
        response
    }

    /// The response, if something of it has come.
    pub(crate) fn response_if_any(&mut self) -> Option<Response> {
        self.stream.socket().set_nonblocking(true).expect("an option can be set");
        let peeked = self.stream.socket().peek(&mut [0]);
        self.stream.socket().set_nonblocking(false).expect("an option can be set");
        matches!(peeked, Ok(1)).then(|| self.response())
    }

    /// Opens the WebSocket.
    pub(crate) fn upgrade(&mut self, target: &str) {
        self.send(upgrade_request(target).as_bytes());
        let response = self.response();
        assert_eq!(response.status, 101, "{response:?}");
    }

    pub(crate) fn join_lobby(&mut self) {
        self.send_text(r#"["1","1","room:lobby","phx_join",{}]"#);
        let reply = self.message();
        assert_eq!(reply[4]["status"], "ok", "{reply}");
    }

    pub(crate) fn send_frame(&mut self, opcode: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        write_masked(&mut bytes, opcode, true, payload);
        self.send(&bytes);
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.send_frame(TEXT, text.as_bytes());
    }

    /// The next frame; `None` at the server's end.
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        loop {
            // One frame alone, so that what comes after it stays.
            if let Some(len) = frame_len(&self.received)
                && self.received.len() >= len
            {
                let bytes: Vec<u8> = self.received.drain(..len).collect();
                return read_frames(&bytes).0.pop();
            }
            if !self.fill() {
                assert!(self.received.is_empty(), "the end inside a frame: {:?}", self.received);
                return None;
            }
        }
    }

    /// The next message.
    pub(crate) fn message(&mut self) -> Value {
        let frame = self.next_frame().expect("a message comes before the end");
        assert_eq!(frame.opcode, TEXT, "{:?}", String::from_utf8_lossy(&frame.payload));
        serde_json::from_slice(&frame.payload).expect("a message is JSON")
    }

    /// The server's close frame, which is the next one.
    pub(crate) fn close_frame(&mut self) -> (u16, String) {
        let frame = self.next_frame().expect("a close frame comes before the end");
        assert_eq!(frame.opcode, CLOSE, "{:?}", String::from_utf8_lossy(&frame.payload));
        read_close(&frame)
    }
}

/// Code and reason of a close frame.
pub(crate) fn read_close(frame: &Frame) -> (u16, String) {
    let (code, reason) = frame.payload.split_at_checked(2).expect("the server gives a code");
    let reason = String::from_utf8(reason.to_vec()).expect("a reason is UTF-8");
    (u16::from_be_bytes([code[0], code[1]]), reason)
}

/// Bytes of a server's frame with its header, if the header is whole.
pub(crate) fn frame_len(bytes: &[u8]) -> Option<usize> {
    let payload = |len: &[u8]| len.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    match *bytes.get(1)? {
        126 => Some(4 + payload(bytes.get(2..4)?)),
        127 => Some(10 + payload(bytes.get(2..10)?)),
        len => Some(2 + usize::from(len)),
    }
}
