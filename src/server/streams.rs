//! The sockets of a shard, in places that are the endpoint's own.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
#[cfg(feature = "api")]
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::endpoint::{ConnectionId, Gone, Sink};

/// Four bytes for each connection.
#[derive(Default)]
pub(super) struct Streams(Vec<Option<TcpStream>>);

/// What a read has brought.
pub(super) enum Received {
    Bytes(usize),
    /// The peer has ended its side.
    End,
    /// Nothing more for now.
    Nothing,
    Failed,
}

impl Streams {
    pub(super) fn insert(&mut self, id: ConnectionId, stream: TcpStream) {
        if id.slot() >= self.0.len() {
            self.0.resize_with(id.slot() + 1, || None);
        }
        self.0[id.slot()] = Some(stream);
    }

    /// Takes the socket out, to be given to another shard.
    pub(super) fn take(&mut self, id: ConnectionId) -> Option<TcpStream> {
        self.0.get_mut(id.slot())?.take()
    }

    /// Closes the socket.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        if let Some(place) = self.0.get_mut(id.slot()) {
            *place = None;
        }
    }

    /// Gives the memory back when all sockets are closed.
    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// Where the connection comes from, if the system still knows.
    #[cfg(feature = "api")]
    pub(super) fn peer(&self, id: ConnectionId) -> Option<SocketAddr> {
        self.0.get(id.slot())?.as_ref()?.peer_addr().ok()
    }

    pub(super) fn receive(&mut self, id: ConnectionId, buffer: &mut [u8]) -> Received {
        let Some(Some(stream)) = self.0.get_mut(id.slot()) else { return Received::Nothing };
        loop {
            match stream.read(buffer) {
                // An end that a reset came behind reads as an end, but what was written since is lost.
                Ok(0) => {
                    return match stream.take_error() {
                        Ok(None) => Received::End,
                        _ => Received::Failed,
                    };
                }
                Ok(n) => return Received::Bytes(n),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return Received::Nothing,
                    _ => return Received::Failed,
                },
            }
        }
    }
}

impl Sink for Streams {
    fn send(&mut self, id: ConnectionId, pieces: &[IoSlice<'_>]) -> Result<usize, Gone> {
        let Some(Some(stream)) = self.0.get_mut(id.slot()) else { return Err(Gone) };
        loop {
            // A plain send costs the kernel less than a vector of one.
            let result = match pieces {
                [piece] => stream.write(piece),
                _ => stream.write_vectored(pieces),
            };
            match result {
                Ok(taken) => return Ok(taken),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return Ok(0),
                    _ => return Err(Gone),
                },
            }
        }
    }

    fn shutdown(&mut self, id: ConnectionId) {
        if let Some(Some(stream)) = self.0.get_mut(id.slot()) {
            // It fails when the peer has reset the connection, and then there is nothing to end.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn has_failed(&mut self, id: ConnectionId) -> bool {
        let Some(Some(stream)) = self.0.get_mut(id.slot()) else { return true };
        // Whoever asks takes the error away, so a read would bring no more than the end.
        !matches!(stream.take_error(), Ok(None))
    }
}
