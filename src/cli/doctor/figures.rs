//! What a client costs, as it was measured. Everything that the doctor reckons with stands here.

/// Resident memory of the server for a WebSocket that has joined one topic (`tests/it/load.rs`,
/// `tests/it/load_processes.rs`).
pub(super) const OPEN_USER_BYTES: u64 = 184;

/// The same for a user with a token of Guardian's eight claims who has joined its own topic as well
/// (`tests/it/load_users/idle.rs`).
pub(super) const TOKEN_USER_BYTES: u64 = 622;

/// The kernel's objects for the server's end of an idle connection, with what the pages of its slabs leave unused: the
/// socket (2,368), its inode (832), the file (192), its directory entry (192), its place in the event queue (128 and
/// 64), and what security modules note (72). `tests/it/load_processes.rs` prints them on Linux 6.18, x86-64; other
/// versions and architectures differ by a few hundred bytes.
pub(super) const KERNEL_BYTES: u64 = 4_130;

/// What the kernel keeps of a small message for one client as long as it is under way: the buffer and what describes it
/// (`tests/it/load_processes.rs` prints 1,112, at other times 900 to 1,300, for five messages in one write).
pub(super) const UNDER_WAY_BYTES: u64 = 1_112;

/// `SO_SNDBUF` is doubled by Linux, for its own bookkeeping.
pub(super) const SEND_BUFFER_FACTOR: u64 = 2;

/// Descriptors besides the clients': the log, the store and its journal, listeners and connections of the API, the
/// accounts' database.
pub(super) const DESCRIPTORS_BESIDE: u64 = 128;

/// Descriptors of a shard: its listener, its event queue, what wakes it, its timer and its io_uring.
pub(super) const DESCRIPTORS_OF_A_SHARD: u64 = 5;

/// What a shard watches besides connections: its listener, what wakes it and its timer.
pub(super) const WATCHES_OF_A_SHARD: u64 = 3;

/// Memory of the server and the kernel besides the clients' shares: the program, its threads, the sockets' tables.
pub(super) const MEMORY_BESIDE_BYTES: u64 = 64 * 1024 * 1024;

/// One of so many parts of the memory is left for what comes and goes: messages, mailboxes, growing tables.
pub(super) const MEMORY_SPARE_PART: u64 = 10;

/// The kernel accounts bytes on their way by pages, and a connection has at least one for a small message
/// (`tests/it/load_processes.rs` prints 380,672 for 380,000 clients).
pub(super) const PAGES_UNDER_WAY: u64 = 1;

/// Time between two heartbeats of phoenix.js.
pub(super) const HEARTBEAT_SECONDS: u64 = 30;

/// Processor time of a heartbeat, nearly all of it the kernel's.
pub(super) const HEARTBEAT_MICROS: u64 = 15;

/// Processor time of a message to one subscriber, over 90 % of it the kernel's.
pub(super) const DELIVERY_MICROS: u64 = 6;

/// The share of the processors that heartbeats may take, as one of so many parts, so that the rest is for messages.
pub(super) const HEARTBEAT_PART: u64 = 4;
