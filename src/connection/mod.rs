//! One TCP connection's protocol state, and what waits to be written to it.

mod outbox;

use std::net::IpAddr;
use std::sync::Arc;

use crate::auth::connect::Transport;
use crate::http::{BodyDecoder, HeadScanner};
use crate::longpoll::Batch;
use crate::phoenix::Serializer;
use crate::service::ServiceRequest;
use crate::socket::Socket;
use crate::tables::Slots;
use crate::ws;

pub(crate) use outbox::{Bytes, Entry, Gap, Outbox};

/// A connection of one endpoint: its place, and which of the connections that have stood in it.
///
/// A stale readiness event can't reach a new connection in the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ConnectionId {
    /// The place alone, for a table beside the endpoint's own.
    #[must_use]
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// The id as one number, for a readiness token.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.slot)
    }

    /// The id that [`to_bits`](Self::to_bits) made the number from.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub fn from_bits(bits: u64) -> Self {
        Self { slot: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// The state of a connection.
///
/// | from | by | to |
/// |---|---|---|
/// | `Http` | a request for the WebSocket | `WebSocket` |
/// | `Http` | a request for a session of another shard | `HandingOver` |
/// | `Http` | an answer that ends the connection | `Finishing` |
/// | `WebSocket` | a close frame from both sides, or a fault | `Finishing` |
/// | `Finishing` | all bytes are written | `Lingering` |
/// | `HandingOver` | all bytes are written | given away |
/// | `Session` | no poll for a time, or a fault | freed |
/// | `Lingering` | the peer's end, or the deadline | freed |
pub(crate) enum State {
    /// Reads request heads.
    Http(Box<Http>),
    /// Speaks Phoenix over WebSocket.
    WebSocket(Box<WebSocket>),
    /// Has no socket of its own: a client's session on long-poll.
    Session(Box<Session>),
    /// Waits until its earlier answers are written, then goes over to another shard.
    HandingOver(Box<HandOver>),
    /// Writes what is left; what the peer sends is discarded.
    Finishing {
        /// The session whose messages the last answer carries.
        answered: Option<ConnectionId>,
    },
    /// Has ended its own side and waits for the peer's end, so that an unread byte doesn't make the kernel
    /// reset the connection before the peer has read the last ones (RFC 9112 section 9.6).
    Lingering {
        /// The session whose messages the last answer carried.
        answered: Option<ConnectionId>,
    },
}

/// A client's session on long-poll.
pub(crate) struct Session {
    pub(crate) socket: Socket,
    /// What its token holds that can't be guessed.
    pub(crate) nonce: [u8; 16],
    /// Where it was opened from.
    pub(crate) peer: IpAddr,
    /// The connection of the poll that waits.
    pub(crate) waiting: Option<ConnectionId>,
    /// The connection of the answer of which it is not yet known whether the client has it. The session's
    /// outbox knows what the answer carries.
    pub(crate) in_flight: Option<ConnectionId>,
    /// When it was opened, in seconds since the endpoint began.
    pub(crate) since: u32,
    /// It has ended for the server: what waits is still answered to polls, and nothing else happens to it.
    pub(crate) closing: bool,
}

/// The answer to a good opening handshake.
pub(crate) struct Accepted {
    /// The value of `Sec-WebSocket-Accept`.
    pub(crate) key: String,
    /// The subprotocol that was chosen.
    pub(crate) protocol: Option<Arc<str>>,
}

/// What a client that waits for a decision wants.
pub(crate) enum Wanted {
    /// A WebSocket; or the answer to its handshake, which is not good. Who may not connect is not told what was
    /// wrong with the rest.
    WebSocket(Result<Accepted, Box<[u8]>>),
    /// A session on long-poll.
    Session,
}

impl Wanted {
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::WebSocket(_) => Transport::WebSocket,
            Self::Session => Transport::LongPoll,
        }
    }
}

/// A request about whose sender somebody outside the loop decides.
pub(crate) struct Connecting {
    /// Tells it from an earlier one of its connection.
    pub(crate) serial: u32,
    pub(crate) serializer: Serializer,
    pub(crate) wanted: Wanted,
}

/// The body of a request, as far as it has come.
pub(crate) struct Body {
    pub(crate) decoder: BodyDecoder,
    pub(crate) bytes: Vec<u8>,
    pub(crate) of: BodyOf,
}

/// What a body belongs to.
pub(crate) enum BodyOf {
    /// Messages for a session on long-poll.
    Poll { session: ConnectionId, batch: Batch },
    /// A request for the service.
    Call(Box<ServiceRequest>),
}

impl Body {
    /// What it counts against `request_bytes_held_max`.
    pub(crate) fn call_bytes(&self) -> usize {
        if matches!(self.of, BodyOf::Call(_)) { self.bytes.len() } else { 0 }
    }
}

/// A request that the service is answering.
#[derive(Clone, Copy)]
pub(crate) struct Calling {
    /// Tells it from an earlier one of its connection.
    pub(crate) serial: u32,
    /// It is a HEAD: the body of the answer is not sent.
    pub(crate) head_only: bool,
}

/// A connection on its way to another shard.
pub(crate) struct HandOver {
    pub(crate) shard: u16,
    /// The bytes that were read and not used, the head of the request among them.
    pub(crate) bytes: Vec<u8>,
    pub(crate) requests: usize,
    pub(crate) peer: IpAddr,
}

/// Between requests, in the body of one, or waiting for the answer of one.
pub(crate) struct Http {
    pub(crate) peer: IpAddr,
    /// The session whose messages the request waits for.
    pub(crate) parked: Option<ConnectionId>,
    /// The request waits for a decision about its sender.
    pub(crate) connecting: Option<Box<Connecting>>,
    /// The request waits for the service's answer.
    pub(crate) calling: Option<Calling>,
    /// The session whose messages the last answer carried.
    pub(crate) answered: Option<ConnectionId>,
    /// Whether the connection goes on after the request at hand.
    pub(crate) keep_alive: bool,
    pub(crate) body: Option<Box<Body>>,
    /// Bytes of a head that is not whole yet.
    pub(crate) buffer: Vec<u8>,
    pub(crate) scanner: HeadScanner,
    pub(crate) requests: usize,
    /// A head has begun; it is what the deadline is for.
    pub(crate) begun: bool,
}

impl Http {
    /// Whether a request waits for its answer, so that no further one is read.
    pub(crate) fn is_waiting(&self) -> bool {
        self.parked.is_some() || self.connecting.is_some() || self.calling.is_some()
    }
}

pub(crate) struct WebSocket {
    pub(crate) decoder: ws::Decoder,
    pub(crate) socket: Socket,
    /// When it was opened, in seconds since the endpoint began.
    pub(crate) since: u32,
    /// The server has sent its close frame and waits for the peer's.
    pub(crate) closing: bool,
    /// Messages go to the plain handler: there is no Phoenix on this WebSocket.
    pub(crate) plain: bool,
    /// Pongs queued since the connection was last written out.
    pub(crate) pongs_waiting: u16,
}

/// The connections of a shard: a kilobyte of them in a part.
pub(crate) type Connections = Slots<Connection, 32>;

/// What the fan-out touches of a connection, and pointers to the rest: 32 bytes.
pub(crate) struct Connection {
    pub(crate) state: State,
    pub(crate) outbox: Outbox,
    pub(crate) generation: u32,
    /// The peer takes no more bytes until the socket is writable again.
    pub(crate) blocked: bool,
    /// Queued for a flush of its own.
    pub(crate) queued: bool,
    /// The peer has ended its side; it may still read.
    pub(crate) half_closed: bool,
    /// The socket has failed: the peer may not have read what was written.
    pub(crate) reset: bool,
}

impl Connection {
    /// A connection that has carried `requests` so far.
    pub(crate) fn http(id: ConnectionId, peer: IpAddr, requests: usize) -> Self {
        let http = Http {
            peer,
            parked: None,
            connecting: None,
            calling: None,
            answered: None,
            keep_alive: true,
            body: None,
            buffer: Vec::new(),
            scanner: HeadScanner::default(),
            requests,
            begun: false,
        };
        Self::with_state(id.generation, State::Http(Box::new(http)))
    }

    pub(crate) fn with_state(generation: u32, state: State) -> Self {
        Self {
            // A session can't be written to until a poll waits.
            blocked: matches!(state, State::Session(_)),
            state,
            outbox: Outbox::new(),
            generation,
            queued: false,
            half_closed: false,
            reset: false,
        }
    }

    /// The socket, while the connection speaks for one.
    pub(crate) fn socket(&self) -> Option<&Socket> {
        match &self.state {
            State::WebSocket(web_socket) => Some(&web_socket.socket),
            State::Session(session) => Some(&session.socket),
            _ => None,
        }
    }

    /// Whether the server has ended the socket, and only waits for its client.
    pub(crate) fn is_closing(&self) -> bool {
        match &self.state {
            State::WebSocket(web_socket) => web_socket.closing,
            State::Session(session) => session.closing,
            _ => false,
        }
    }

    /// The address of a peer that is not yet a WebSocket.
    pub(crate) fn peer_address(&self) -> IpAddr {
        match &self.state {
            State::Http(http) => http.peer,
            State::Session(session) => session.peer,
            _ => IpAddr::from([0; 4]),
        }
    }

    /// The socket, to be changed.
    pub(crate) fn socket_mut(&mut self) -> Option<&mut Socket> {
        match &mut self.state {
            State::WebSocket(web_socket) => Some(&mut web_socket.socket),
            State::Session(session) => Some(&mut session.socket),
            _ => None,
        }
    }

    /// Whether the walk over a topic's subscribers may write to it: nothing else has to be written first.
    pub(crate) fn is_free(&self) -> bool {
        !self.blocked && self.outbox.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Identity;
    use crate::hub::{Subscriber, Topic};
    use crate::socket::Join;

    #[test]
    fn the_parts_of_an_idle_client_stay_within_their_budgets() {
        // Eight bytes more are often sixteen more of the allocator's, for each client.
        let parts = [
            ("a connection's place", size_of::<Option<Connection>>(), 32),
            ("its WebSocket and socket", size_of::<WebSocket>(), 56),
            ("a joined channel", size_of::<Join>(), 40),
            ("a subscription", size_of::<Subscriber>(), 16),
            ("the user, without the text", size_of::<Identity>(), 40),
            ("a topic with one stream and one subscriber", size_of::<Option<Topic>>(), 104),
        ];
        for (part, bytes, budget) in parts {
            println!("{part}: {bytes} of {budget} bytes");
        }
        for (part, bytes, budget) in parts {
            assert!(bytes <= budget, "{part}: {bytes} bytes");
        }
    }
}
