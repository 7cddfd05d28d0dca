//! Sends through io_uring: hundreds with one entry into the kernel.

use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, opcode, types};

const BATCH: usize = 1024;

pub struct Ring(IoUring);

/// A send that did not take all of it: to whom, and how many bytes went or the error's number, negated.
pub type Short = (RawFd, i32);

impl Ring {
    pub fn new() -> io::Result<Self> {
        // One thread enters the ring and waits for all it has submitted: the kernel need not interrupt it meanwhile.
        let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(BATCH as u32)?;
        Ok(Self(ring))
    }

    /// Sends `bytes` to each once, and adds to `short` whom it did not reach as a whole. Returns when all is done, so
    /// that a second call never overtakes the first.
    pub fn send_all(
        &mut self,
        to: impl Iterator<Item = RawFd>,
        bytes: &[u8],
        short: &mut Vec<Short>,
    ) -> io::Result<()> {
        let mut waiting = 0;
        for fd in to {
            let send = opcode::Send::new(types::Fd(fd), bytes.as_ptr(), bytes.len() as u32)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .user_data(fd as u64);
            // SAFETY: `bytes` outlives all sends: `finish` waits for them before this function returns. The queue
            // has room for a batch.
            unsafe { self.0.submission().push(&send).expect("there is room for a batch") };
            waiting += 1;
            if waiting == BATCH {
                self.finish(waiting, bytes.len(), short)?;
                waiting = 0;
            }
        }
        self.finish(waiting, bytes.len(), short)
    }

    fn finish(&mut self, mut waiting: usize, bytes: usize, short: &mut Vec<Short>) -> io::Result<()> {
        while waiting > 0 {
            match self.0.submit_and_wait(waiting) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for done in self.0.completion() {
                waiting -= 1;
                if done.result() != bytes as i32 {
                    short.push((done.user_data() as RawFd, done.result()));
                }
            }
        }
        Ok(())
    }
}
