//! The system calls, each as thin as it can be.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const BACKLOG: i32 = 4096;

/// An epoll instance, level-triggered: most reads then need one `recv` and not a second one that finds nothing.
pub struct Poll(OwnedFd);

/// Room for what is ready in one turn.
pub type Events = Vec<libc::epoll_event>;

pub const IN: u32 = libc::EPOLLIN as u32;
pub const OUT: u32 = libc::EPOLLOUT as u32;

impl Poll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointer, and the descriptor it gives is nobody else's.
        unsafe { Ok(Self(OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?))) }
    }

    pub fn add(&self, fd: RawFd, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, interest)
    }

    pub fn change(&self, fd: RawFd, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, interest)
    }

    fn control(&self, operation: i32, fd: RawFd, interest: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: fd as u64 };
        // SAFETY: the event lives as long as the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &mut event) }).map(drop)
    }

    /// Waits until something is ready and puts as much of it into `events` as there is room for.
    pub fn wait(&self, events: &mut Events) -> io::Result<()> {
        events.clear();
        // SAFETY: the kernel writes no more than the capacity, and its answer is how many it has written.
        unsafe {
            let room = events.capacity() as i32;
            let count = libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), room, -1);
            events.set_len(check(count)? as usize);
        }
        Ok(())
    }
}

/// A listener whose connections get TCP_NODELAY from it.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    let (fd, on) = (listener.as_raw_fd(), 1i32);
    // SAFETY: the option's value lives as long as the call and has the size that is given.
    unsafe {
        let value = (&raw const on).cast();
        let size = size_of::<i32>() as libc::socklen_t;
        check(libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, value, size))?;
        // A second call changes the backlog, which the standard library chooses too small for a storm.
        check(libc::listen(fd, BACKLOG))?;
    }
    Ok(listener)
}

/// The next connection, `WouldBlock` when there is none.
pub fn accept(listener: &TcpListener) -> io::Result<RawFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: without a place for the peer's address the kernel writes nothing.
    check(unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) })
}

/// Reads once; 0 is the end.
pub fn recv(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes no more than the buffer's length.
    count(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) })
}

/// Writes once, perhaps less than all.
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads no more than the slice.
    count(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) })
}

pub fn close(fd: RawFd) {
    // SAFETY: the server's table owns the descriptor, and forgets it with this call.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

fn check(answer: i32) -> io::Result<i32> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn count(answer: isize) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}
