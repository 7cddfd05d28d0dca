//! A connection for tests that wait.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use super::PATIENCE;

/// A connection whose reads and writes may take [`PATIENCE`], and which goes on as often as a signal interrupts it: where
/// a time-out is set the kernel does not by itself.
pub(crate) struct PatientStream(TcpStream);

impl PatientStream {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("an option can be set");
        Self(stream)
    }

    /// The socket, for all but reading and writing.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.0
    }

    /// The socket, to be read and written in another way.
    pub(crate) fn into_socket(self) -> TcpStream {
        self.0
    }

    fn retry<T>(&mut self, mut act: impl FnMut(&mut TcpStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            match act(&mut self.0) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl Read for PatientStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.retry(|stream| stream.read(buffer))
    }
}

impl Write for PatientStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(|stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
