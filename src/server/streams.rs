//! The sockets of a shard, in places that are the endpoint's own.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
#[cfg(feature = "api")]
use std::net::SocketAddr;
use std::net::{IpAddr, Shutdown};

#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use tracing::warn;

#[cfg(target_os = "linux")]
use super::ring::{Ring, SENDS_MIN};
use crate::endpoint::{ConnectionId, Gone, Sink};
#[cfg(target_os = "linux")]
use crate::endpoint::{OFFERS_MAX, Offer};

/// Four bytes and a bit for each connection.
#[derive(Default)]
pub(super) struct Streams {
    sockets: Vec<Option<TcpStream>>,
    watch: Watch,
    /// Sockets that are there.
    open: usize,
    /// Sends many with one system call, where that is wanted and can be had.
    #[cfg(target_os = "linux")]
    ring: Option<Ring>,
}

/// Of which sockets the kernel says when they take bytes again. Hardly any connection has to know, and one that asks is
/// told at once that it may write, which would be a turn of the loop for nothing as each of them comes.
#[derive(Default)]
struct Watch {
    /// A bit for each place.
    watched: Vec<u64>,
    /// Those that have not taken all they were offered, and are not watched yet.
    short: Vec<ConnectionId>,
}

impl Watch {
    /// Notes how much of an offer of `offered` bytes was taken.
    fn note(&mut self, id: ConnectionId, taken: usize, offered: usize) {
        let (word, bit) = place(id);
        if taken < offered && self.watched.get(word).is_some_and(|bits| bits & bit == 0) {
            self.short.push(id);
        }
    }
}

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
    /// For the calling thread; `with_ring` has its broadcasts sent by io_uring.
    pub(super) fn of_this_thread(with_ring: bool) -> Self {
        let mut streams = Self::default();
        if with_ring && let Err(error) = streams.use_ring() {
            warn!(%error, "io_uring can't be used: a shard sends its broadcasts one by one");
        }
        streams
    }

    /// Has broadcasts sent by io_uring from here on, for the calling thread.
    ///
    /// # Errors
    /// It can't be had; everything is sent one by one.
    #[cfg(target_os = "linux")]
    pub(super) fn use_ring(&mut self) -> io::Result<()> {
        self.ring = Some(Ring::new()?);
        Ok(())
    }

    /// Has broadcasts sent by io_uring from here on, which other systems don't have.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn use_ring(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes a socket, and has the kernel say when there is something to read.
    ///
    /// # Errors
    /// The kernel has no memory for it; the socket is closed.
    pub(super) fn insert(
        &mut self,
        id: ConnectionId,
        mut stream: TcpStream,
        registry: &Registry,
    ) -> io::Result<()> {
        registry.register(&mut stream, token(id)?, Interest::READABLE)?;
        if id.slot() >= self.sockets.len() {
            self.sockets.resize_with(id.slot() + 1, || None);
            self.watch.watched.resize(id.slot() / 64 + 1, 0);
        }
        let (word, bit) = place(id);
        self.watch.watched[word] &= !bit;
        self.open += usize::from(self.sockets[id.slot()].replace(stream).is_none());
        Ok(())
    }

    /// Has the kernel say when those take bytes again that have not taken all. `Some` is one for which it can't, which
    /// is to be closed; to be called again until `None`.
    pub(super) fn watch(&mut self, registry: &Registry) -> Option<ConnectionId> {
        while let Some(id) = self.watch.short.pop() {
            let (word, bit) = place(id);
            let Some(Some(stream)) = self.sockets.get_mut(id.slot()) else { continue };
            let interest = Interest::READABLE | Interest::WRITABLE;
            match token(id).and_then(|token| registry.reregister(stream, token, interest)) {
                Ok(()) => self.watch.watched[word] |= bit,
                Err(_) => return Some(id),
            }
        }
        None
    }

    /// Takes the socket out, to be given to another shard.
    pub(super) fn take(&mut self, id: ConnectionId) -> Option<TcpStream> {
        let taken = self.sockets.get_mut(id.slot())?.take();
        self.open -= usize::from(taken.is_some());
        taken
    }

    /// Closes the socket.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        drop(self.take(id));
    }

    /// How many sockets there are.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Gives the memory back of places behind the last socket.
    pub(super) fn shrink(&mut self) {
        let used = self.sockets.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.sockets.truncate(used);
        self.sockets.shrink_to_fit();
        self.watch.watched.truncate(used.div_ceil(64));
        self.watch.watched.shrink_to_fit();
    }

    /// Gives the memory back when all sockets are closed.
    pub(super) fn clear(&mut self) {
        self.sockets = Vec::new();
        self.watch = Watch::default();
        self.open = 0;
    }

    /// Where the connection comes from, if the system still knows.
    #[cfg(feature = "api")]
    pub(super) fn peer(&self, id: ConnectionId) -> Option<SocketAddr> {
        self.sockets.get(id.slot())?.as_ref()?.peer_addr().ok()
    }

    /// The address of this machine that the connection came to, if the system still knows.
    pub(super) fn local(&self, id: ConnectionId) -> Option<IpAddr> {
        Some(self.sockets.get(id.slot())?.as_ref()?.local_addr().ok()?.ip())
    }

    /// Makes offers one by one.
    #[cfg(target_os = "linux")]
    fn send_each<'o>(&mut self, bytes: &[u8], offers: impl Iterator<Item = &'o mut Offer>) {
        for offer in offers {
            let taken = self.send(offer.id(), &[IoSlice::new(offer.bytes_of(bytes))]);
            offer.set_taken(taken);
        }
    }

    pub(super) fn receive(&mut self, id: ConnectionId, buffer: &mut [u8]) -> Received {
        let Some(Some(stream)) = self.sockets.get_mut(id.slot()) else { return Received::Nothing };
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

/// `send(2)` by the bare system call: glibc's is one at which a thread can be cancelled, and what it does for that takes
/// as long as the rest of our part of a delivery.
#[cfg(target_os = "linux")]
fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(stream, bytes, rustix::net::SendFlags::NOSIGNAL)?)
}

#[cfg(not(target_os = "linux"))]
fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    stream.write(bytes)
}

/// What the kernel calls a connection.
fn token(id: ConnectionId) -> io::Result<Token> {
    usize::try_from(id.to_bits()).map(Token).map_err(io::Error::other)
}

/// Where the bit of a connection is.
fn place(id: ConnectionId) -> (usize, u64) {
    (id.slot() / 64, 1 << (id.slot() % 64))
}

impl Sink for Streams {
    fn send(&mut self, id: ConnectionId, pieces: &[IoSlice<'_>]) -> Result<usize, Gone> {
        let Some(Some(stream)) = self.sockets.get_mut(id.slot()) else { return Err(Gone) };
        loop {
            // A plain send costs the kernel less than a vector of one.
            let result = match pieces {
                [piece] => send(stream, piece),
                _ => stream.write_vectored(pieces),
            };
            let taken = match result {
                Ok(taken) => taken,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock => 0,
                    _ => return Err(Gone),
                },
            };
            self.watch.note(id, taken, pieces.iter().map(|piece| piece.len()).sum());
            return Ok(taken);
        }
    }

    #[cfg(target_os = "linux")]
    fn send_many(&mut self, bytes: &[u8], offers: &mut [Offer]) {
        for offers in offers.chunks_mut(OFFERS_MAX) {
            let Some(ring) = self.ring.as_mut().filter(|_| offers.len() >= SENDS_MIN) else {
                self.send_each(bytes, offers.iter_mut());
                continue;
            };
            let sockets = &self.sockets;
            let socket_of = |offer: &Offer| Some(sockets.get(offer.id().slot())?.as_ref()?.as_raw_fd());
            let watch = &mut self.watch;
            let sent = ring.send(bytes, offers, socket_of, |offer, taken| {
                offer.set_taken(Ok(taken));
                watch.note(offer.id(), taken, offer.bytes_of(bytes).len());
            });
            self.send_each(bytes, offers.iter_mut().filter(|offer| !offer.is_taken()));
            if let Err(error) = sent {
                warn!(%error, "io_uring has failed: broadcasts are sent one by one from here on");
                self.ring = None;
            }
        }
    }

    fn shutdown(&mut self, id: ConnectionId) {
        if let Some(Some(stream)) = self.sockets.get_mut(id.slot()) {
            // It fails when the peer has reset the connection, and then there is nothing to end.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn has_failed(&mut self, id: ConnectionId) -> bool {
        let Some(Some(stream)) = self.sockets.get_mut(id.slot()) else { return true };
        // Whoever asks takes the error away, so a read would bring no more than the end.
        !matches!(stream.take_error(), Ok(None))
    }
}
