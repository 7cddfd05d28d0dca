//! Beginning to connect, at a pace.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

/// `EINPROGRESS`: what a connection that begins says on every Unix.
const IN_PROGRESS: i32 = libc::EINPROGRESS;

/// Begins to connect, from an address of this machine or the one that the kernel chooses.
///
/// With a receive buffer, the kernel holds about so many bytes that were not read.
pub(super) fn connect(
    source: Option<Ipv4Addr>,
    to: SocketAddr,
    receive_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source.filter(|_| to.is_ipv4()) {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Who is to connect, and when.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: VecDeque<u32>,
    /// Clients in a second, or 0.
    rate: u32,
    started: u64,
    begun: u64,
    /// Clients that are connecting or joining.
    pub(super) under_way: u32,
    under_way_max: u32,
}

impl Line {
    pub(super) fn new(rate: u32, under_way_max: u32) -> Self {
        Self { rate, under_way_max, ..Self::default() }
    }

    /// Lets clients connect from now on.
    pub(super) fn start(&mut self, clients: impl Iterator<Item = u32>, now: u64) {
        self.waiting.extend(clients);
        (self.started, self.begun) = (now, 0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the next one may begin; `None` if there is none, or one that is under way has to get in first.
    pub(super) fn due(&self) -> Option<u64> {
        if self.waiting.is_empty() || self.under_way >= self.under_way_max {
            return None;
        }
        let micros = (self.begun * 1_000_000).checked_div(u64::from(self.rate)).unwrap_or(0);
        Some(self.started + micros)
    }

    /// Who begins now.
    pub(super) fn next(&mut self, now: u64) -> Option<u32> {
        self.due().filter(|due| *due <= now)?;
        self.begun += 1;
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who begins at which time, when each client needs `takes` to get in.
    fn begun(rate: u32, under_way_max: u32, takes: u64) -> Vec<u64> {
        let mut line = Line::new(rate, under_way_max);
        line.start(0..6, 1_000);
        let (mut times, mut inside): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
        for now in (1_000..20_000).step_by(100) {
            line.under_way -= inside.extract_if(.., |end| *end <= now).count() as u32;
            while line.next(now).is_some() {
                line.under_way += 1;
                inside.push(now + takes);
                times.push(now);
            }
        }
        assert!(line.is_empty() && line.due().is_none());
        times
    }

    #[test]
    fn clients_begin_at_a_pace_and_no_more_than_may_be_under_way() {
        assert_eq!(begun(1_000, 10, 500), [1_000, 2_000, 3_000, 4_000, 5_000, 6_000]);
        assert_eq!(begun(0, 10, 500), [1_000; 6]);
        assert_eq!(begun(0, 2, 500), [1_000, 1_000, 1_500, 1_500, 2_000, 2_000]);
    }
}
