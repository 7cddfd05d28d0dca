//! Many sends with one system call: io_uring, for the broadcasts of a flush alone.
//!
//! The loop stays mio's. A batch is submitted and waited for before anything else is done, so the ring is empty
//! between two batches, and what is sent lies still meanwhile. A send that would block is answered at once, as
//! `send(2)` with `MSG_DONTWAIT` answers, and such a connection goes on along the ordinary path.
//!
//! There is `unsafe` in it: the kernel reads memory through pointers in the ring, which the compiler
//! can't follow. A bare loop saves a tenth of the processor time of one `send(2)` for each subscriber this way
//! (`benches/README.md`).

#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, opcode, types};

use tracing::error;

use crate::endpoint::{OFFERS_MAX, Offer};

/// Fewer sends than this cost less one by one.
pub(super) const SENDS_MIN: usize = 8;

/// The queues of one shard.
pub(super) struct Ring {
    queues: IoUring,
}

impl Ring {
    /// Queues for the batches of the calling thread.
    ///
    /// # Errors
    /// The kernel has no io_uring, or the process may not use it (`kernel.io_uring_disabled`, a seccomp profile).
    pub(super) fn new() -> io::Result<Self> {
        let entries = u32::try_from(OFFERS_MAX).map_err(io::Error::other)?;
        // One thread submits and takes what is done, so the kernel need not interrupt it to say so (Linux 6.1).
        let mut builder = IoUring::builder();
        let lean = builder.setup_submit_all().setup_single_issuer().setup_defer_taskrun().build(entries);
        let queues = match lean {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::new(entries)?,
            other => other?,
        };
        let mut ring = Self { queues };
        ring.prove()?;
        Ok(ring)
    }

    /// Submits one operation that does nothing: a profile may allow the queues and refuse their use.
    fn prove(&mut self) -> io::Result<()> {
        // SAFETY: the operation has no buffer.
        let pushed = unsafe { self.queues.submission().push(&opcode::Nop::new().build()) };
        pushed.map_err(io::Error::other)?;
        self.queues.submit_and_wait(1)?;
        self.queues.completion().next().map(drop).ok_or_else(|| io::Error::other("no completion"))
    }

    /// Offers the ends of `bytes` to the sockets that `socket_of` names, at most [`OFFERS_MAX`] of them. `on_taken` is
    /// told of each that was taken, and how many bytes of it, and must not panic; about the others the ordinary path
    /// decides.
    ///
    /// # Errors
    /// The ring has failed and is not to be used again. What it had done until then is told all the same.
    pub(super) fn send(
        &mut self,
        bytes: &[u8],
        offers: &mut [Offer],
        socket_of: impl Fn(&Offer) -> Option<RawFd>,
        on_taken: impl FnMut(&mut Offer, usize),
    ) -> io::Result<()> {
        let mut waiting = 0;
        let mut submission = self.queues.submission();
        for (at, offer) in offers.iter().enumerate() {
            let Some(socket) = socket_of(offer) else { continue };
            let part = offer.bytes_of(bytes);
            let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
            let send = opcode::Send::new(types::Fd(socket), part.as_ptr(), len);
            let entry = send.flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).build().user_data(at as u64);
            // SAFETY: `bytes` is borrowed until this function returns, and it does not return before the kernel is
            // done with every entry that it has taken (`complete`).
            if unsafe { submission.push(&entry) }.is_ok() {
                waiting += 1;
            }
        }
        drop(submission);
        self.complete(waiting, offers, on_taken)
    }

    /// Has the kernel take the entries, and waits until it is done with each.
    fn complete(
        &mut self,
        mut waiting: usize,
        offers: &mut [Offer],
        mut on_taken: impl FnMut(&mut Offer, usize),
    ) -> io::Result<()> {
        while waiting > 0 {
            let submitted = self.queues.submit_and_wait(waiting);
            for completion in self.queues.completion() {
                let at = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
                if let (Some(offer), Ok(taken)) = (offers.get_mut(at), completion.result().try_into()) {
                    on_taken(offer, taken);
                }
                waiting -= 1;
            }
            let Err(error) = submitted else { continue };
            if error
                .raw_os_error()
                .is_some_and(|code| [libc::EAGAIN, libc::EBUSY, libc::EINTR].contains(&code))
            {
                continue;
            }
            if self.queues.submission().len() != waiting {
                // The kernel still reads memory that is about to be used for something else.
                error!(%error, "io_uring has failed with sends under way");
                std::process::abort();
            }
            // What the kernel has not taken yet it never will, since a failed ring is dropped.
            return Err(error);
        }
        Ok(())
    }
}
