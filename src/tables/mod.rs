//! What grows with the number of clients: places and tables that grow and shrink part by part, so that no client
//! waits while everything is moved, and a peak leaves nothing behind for long.

mod hashes;
mod slots;

pub(crate) use hashes::Hashes;
pub(crate) use slots::Slots;
