//! Pretended sockets, and the client's side of RFC 6455 as far as tests need it.

use std::collections::HashMap;
use std::io::IoSlice;

use serde_json::{Value, json};

use super::{Closed, Received};
use crate::endpoint::{ConnectionId, Gone, Sink};
use crate::phoenix::{Serializer, events};

/// A frame that the server has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The opcode (RFC 6455 section 5.2).
    pub opcode: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

/// One client's end of a connection.
pub(super) struct Peer {
    pub(super) id: ConnectionId,
    pub(super) received: Vec<u8>,
    /// Bytes it takes before it is full.
    pub(super) window: Option<usize>,
    /// Bytes it takes in each turn.
    pub(super) pace: Option<usize>,
    pub(super) writes: usize,
    pub(super) shut_down: bool,
    /// The connection is broken: a write fails.
    pub(super) cut: bool,
    pub(super) gone: bool,
}

impl Peer {
    fn is_full_for_now(&self) -> bool {
        self.pace.is_some() && self.window == Some(0) && !self.gone
    }
}

/// The sockets of one shard.
#[derive(Default)]
pub(super) struct Wire {
    peers: Vec<Peer>,
    by_id: HashMap<ConnectionId, usize>,
}

impl Wire {
    pub(super) fn open(&mut self, id: ConnectionId) -> usize {
        self.peers.push(Peer {
            id,
            received: Vec::new(),
            window: None,
            pace: None,
            writes: 0,
            shut_down: false,
            cut: false,
            gone: false,
        });
        self.by_id.insert(id, self.peers.len() - 1);
        self.peers.len() - 1
    }

    /// Takes a connection out: where it stood, and its end.
    pub(super) fn take(&mut self, id: ConnectionId) -> Option<(usize, Peer)> {
        let index = self.by_id.remove(&id)?;
        let gone = Peer { received: Vec::new(), gone: true, ..self.peers[index] };
        Some((index, std::mem::replace(&mut self.peers[index], gone)))
    }

    /// Puts in a connection that comes from another shard: where it stands.
    pub(super) fn adopt(&mut self, id: ConnectionId, peer: Peer) -> usize {
        self.peers.push(Peer { id, ..peer });
        self.by_id.insert(id, self.peers.len() - 1);
        self.peers.len() - 1
    }

    pub(super) fn peer(&self, index: usize) -> &Peer {
        &self.peers[index]
    }

    pub(super) fn peer_mut(&mut self, index: usize) -> &mut Peer {
        &mut self.peers[index]
    }

    /// Begins a turn: the clients that were full and have taken their bytes since.
    pub(super) fn take_writable(&mut self) -> Vec<ConnectionId> {
        let mut writable = Vec::new();
        for peer in self.peers.iter_mut().filter(|peer| peer.pace.is_some()) {
            if peer.is_full_for_now() {
                writable.push(peer.id);
            }
            peer.window = peer.pace;
        }
        writable
    }

    /// Whether a client is full that takes more in the next turn.
    pub(super) fn is_awaiting_turn(&self) -> bool {
        self.peers.iter().any(Peer::is_full_for_now)
    }

    pub(super) fn close(&mut self, id: ConnectionId) {
        if let Some(index) = self.by_id.remove(&id) {
            self.peers[index].gone = true;
        }
    }
}

impl Sink for Wire {
    fn send(&mut self, id: ConnectionId, pieces: &[IoSlice<'_>]) -> Result<usize, Gone> {
        let peer = &mut self.peers[*self.by_id.get(&id).ok_or(Gone)?];
        assert!(!peer.shut_down, "nothing is sent after the end");
        if peer.cut {
            return Err(Gone);
        }
        peer.writes += 1;
        let mut taken = 0;
        for piece in pieces {
            let part = peer.window.map_or(piece.len(), |window| window.min(piece.len()));
            peer.received.extend_from_slice(&piece[..part]);
            peer.window = peer.window.map(|window| window - part);
            taken += part;
            if part < piece.len() {
                break;
            }
        }
        Ok(taken)
    }

    fn shutdown(&mut self, id: ConnectionId) {
        if let Some(index) = self.by_id.get(&id) {
            self.peers[*index].shut_down = true;
        }
    }

    fn has_failed(&mut self, id: ConnectionId) -> bool {
        self.by_id.get(&id).is_none_or(|index| self.peers[*index].cut)
    }
}

/// A request that opens a WebSocket at `target`.
#[must_use]
pub fn upgrade_request(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Reads the server's frames, none of which is masked or fragmented: the whole ones, and their bytes.
///
/// # Panics
/// The bytes are no frames of this server.
#[must_use]
pub fn read_frames(bytes: &[u8]) -> (Vec<Frame>, usize) {
    let mut frames = Vec::new();
    let mut used = 0;
    while let Some((frame, len)) = read_frame(&bytes[used..]) {
        frames.push(frame);
        used += len;
    }
    (frames, used)
}

fn read_frame(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(first & 0xf0, 0x80, "a server's frame is whole and has no reserved bits");
    assert_eq!(second & 0x80, 0, "a server's frame is not masked");
    let (len, start) = match second {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
        len => (usize::from(len), 2),
    };
    let payload = bytes.get(start..start + len)?.to_vec();
    Some((Frame { opcode: first & 0x0f, payload }, start + len))
}

pub(super) fn read_close(frame: &Frame) -> Closed {
    let code = frame.payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
    let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default()).into_owned();
    Closed { code, reason }
}

pub(super) fn read_message(serializer: Serializer, frame: &Frame) -> Received {
    if frame.opcode == 0x2 {
        return read_binary(&frame.payload);
    }
    let value: Value = serde_json::from_slice(&frame.payload).expect("the server sends JSON");
    let text = |value: &Value| value.as_str().expect("an event is a string").to_owned();
    match serializer {
        Serializer::V2 => Received {
            join_ref: value[0].clone(),
            message_ref: value[1].clone(),
            topic: value[2].clone(),
            event: text(&value[3]),
            payload: value[4].clone(),
        },
        Serializer::V1 => Received {
            join_ref: Value::Null,
            message_ref: value["ref"].clone(),
            topic: value["topic"].clone(),
            event: text(&value["event"]),
            payload: value["payload"].clone(),
        },
    }
}

/// The server's binary forms: push 0, reply 1, broadcast 2, broadcast from a user 4.
fn read_binary(bytes: &[u8]) -> Received {
    // Where the last has its fourth length, there is its encoding: 0.
    let count = [3, 4, 2, 0, 4][usize::from(bytes[0])];
    let mut at = 1 + count;
    let mut fields = bytes[1..=count].iter().map(|len| {
        let field = &bytes[at..at + usize::from(*len)];
        at += usize::from(*len);
        json!(String::from_utf8_lossy(field))
    });
    let mut next = || fields.next().unwrap_or_default();
    let (join_ref, message_ref, topic, event) = match bytes[0] {
        0 => (next(), Value::Null, next(), next()),
        1 => (next(), next(), next(), next()),
        _ => (Value::Null, Value::Null, next(), next()),
    };
    drop(fields);
    let data = json!(bytes[at..]);
    let event = event.as_str().unwrap_or_default().to_owned();
    match bytes[0] {
        1 => {
            let payload = json!({"status": event, "response": data});
            Received { join_ref, message_ref, topic, event: events::REPLY.to_owned(), payload }
        }
        4 => {
            let payload = json!({"type": events::BROADCAST, "event": event, "payload": data});
            Received { join_ref, message_ref, topic, event: events::BROADCAST.to_owned(), payload }
        }
        _ => Received { join_ref, message_ref, topic, event, payload: data },
    }
}
