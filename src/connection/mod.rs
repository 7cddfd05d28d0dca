//! One TCP connection's protocol state, and what waits to be written to it.

mod outbox;

use crate::http::HeadScanner;
use crate::socket::Socket;
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
/// | `Http` | an answer that ends the connection | `Finishing` |
/// | `WebSocket` | a close frame from both sides, or a fault | `Finishing` |
/// | `Finishing` | all bytes are written | `Lingering` |
/// | `Lingering` | the peer's end, or the deadline | freed |
pub(crate) enum State {
    /// Reads request heads.
    Http(Box<Http>),
    /// Speaks Phoenix over WebSocket.
    WebSocket(Box<WebSocket>),
    /// Writes what is left; what the peer sends is discarded.
    Finishing,
    /// Has ended its own side and waits for the peer's end, so that an unread byte doesn't make the kernel
    /// reset the connection before the peer has read the last ones (RFC 9112 section 9.6).
    Lingering,
}

/// Between requests.
pub(crate) struct Http {
    /// Bytes of a head that is not whole yet.
    pub(crate) buffer: Vec<u8>,
    pub(crate) scanner: HeadScanner,
    pub(crate) requests: usize,
    /// A head has begun; it is what the deadline is for.
    pub(crate) begun: bool,
}

pub(crate) struct WebSocket {
    pub(crate) decoder: ws::Decoder,
    pub(crate) socket: Socket,
    /// The server has sent its close frame and waits for the peer's.
    pub(crate) closing: bool,
    /// Messages go to the plain handler: there is no Phoenix on this WebSocket.
    pub(crate) plain: bool,
    /// Pongs queued since the connection was last written out.
    pub(crate) pongs_waiting: u16,
}

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
}

impl Connection {
    pub(crate) fn new(generation: u32) -> Self {
        let http = Http { buffer: Vec::new(), scanner: HeadScanner::default(), requests: 0, begun: false };
        Self {
            state: State::Http(Box::new(http)),
            outbox: Outbox::new(),
            generation,
            blocked: false,
            queued: false,
            half_closed: false,
        }
    }

    /// The socket, while the connection speaks for one.
    pub(crate) fn socket(&self) -> Option<&Socket> {
        match &self.state {
            State::WebSocket(web_socket) => Some(&web_socket.socket),
            _ => None,
        }
    }

    /// The socket, to be changed.
    pub(crate) fn socket_mut(&mut self) -> Option<&mut Socket> {
        match &mut self.state {
            State::WebSocket(web_socket) => Some(&mut web_socket.socket),
            _ => None,
        }
    }

    /// Whether the walk over a topic's subscribers may write to it: nothing else has to be written first.
    pub(crate) fn is_free(&self) -> bool {
        !self.blocked && self.outbox.is_empty()
    }
}
