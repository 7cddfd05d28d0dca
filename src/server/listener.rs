//! Binding the shards' listeners to one address.

use std::io;
use std::net::SocketAddr;

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
        socket.listen(i32::try_from(limits.listen_backlog).unwrap_or(i32::MAX))?;
        let listener = std::net::TcpListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(mio::net::TcpListener::from_std(listener));
    }
    Ok(listeners)
}

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
