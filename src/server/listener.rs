//! Binding the shards' listeners to one address.
//!
//! There is one `unsafe` call in it, for an option of Linux that no crate of ours sets: a client that comes in with its
//! request wakes the loop once and not twice, which is a good part of what its coming costs (`benches/README.md`).

#![cfg_attr(target_os = "linux", allow(unsafe_code))]

use std::io;
use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::Limits;

/// One listener for each shard, all on the same address; the kernel spreads connections over them.
pub(super) fn bind(
    address: SocketAddr,
    shards: usize,
    limits: &Limits,
) -> io::Result<Vec<mio::net::TcpListener>> {
    if address.port() != 0 {
        // With SO_REUSEPORT a second server would share the port silently; without it the kernel says so.
        open(address, false)?;
    }
    let mut address = address;
    let mut listeners = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = open(address, shards > 1)?;
        // Accepted sockets inherit these, which saves two system calls for each of them.
        socket.set_send_buffer_size(limits.send_buffer_bytes)?;
        socket.set_tcp_nodelay(true)?;
        if defers_accept(limits) {
            defer_accept(&socket, limits.defer_accept);
        }
        socket.listen(i32::try_from(limits.listen_backlog).unwrap_or(i32::MAX))?;
        let listener = std::net::TcpListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(mio::net::TcpListener::from_std(listener));
    }
    Ok(listeners)
}

/// Binds an address and lets it go again, without listening, so that nobody is accepted meanwhile.
#[cfg(feature = "cli")]
pub(super) fn probe(address: SocketAddr) -> io::Result<()> {
    open(address, false).map(drop)
}

/// Whether the kernel is asked to wait for a connection's first bytes.
pub(super) fn defers_accept(limits: &Limits) -> bool {
    cfg!(target_os = "linux") && !limits.defer_accept.is_zero()
}

/// Has the kernel wait for a connection's first bytes before it says that there is one. One that stays silent comes
/// after the next of 1, 3, 7 and so on seconds; meanwhile it costs the kernel little and the process nothing.
#[cfg(target_os = "linux")]
fn defer_accept(socket: &Socket, within: Duration) {
    let seconds = within.as_secs() + u64::from(within.subsec_nanos() > 0);
    let seconds = libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX);
    let len = size_of_val(&seconds) as libc::socklen_t;
    // A system that has no such option gives connections at once, which does no harm.
    // SAFETY: the value lives as long as the call, and has the length that is given.
    let _ = unsafe {
        let value = (&raw const seconds).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, value, len)
    };
}

#[cfg(not(target_os = "linux"))]
fn defer_accept(_: &Socket, _: Duration) {}

fn open(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A restarted server binds although connections of the old one are still in TIME_WAIT.
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}
