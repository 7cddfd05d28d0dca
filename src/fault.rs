//! What goes wrong on a WebSocket: whose fault it is, what the peer is told, how it is counted.
//!
//! A peer's fault never becomes an error of the endpoint, and is never logged louder than `debug`.

use crate::phoenix::DecodeError;
use crate::stats::Stats;
use crate::ws::{CloseCode, ProtocolError};

/// Close code of a client that has fallen behind, or stopped taking bytes. phoenix.js comes back after it.
pub const SLOW_READER: u16 = 4008;

/// Who has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client, or the network between.
    Peer,
    /// Nobody: the server is being stopped.
    Server,
}

/// Why the server ends a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The bytes break RFC 6455, or a limit of it.
    Frame(ProtocolError),
    /// The message is no Phoenix message.
    Message(DecodeError),
    /// Nothing came from the client for `idle_timeout`.
    Idle,
    /// The topic's log has moved past the client's place in it.
    SlowReader,
    /// The client took (nearly) nothing of what waits for it during `stall_timeout`.
    Stalled,
    /// More than `outbox_bytes_max` waits for the client alone.
    OutboxFull,
    /// The server is being stopped or restarted.
    Shutdown,
}

impl Fault {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::Shutdown => Blame::Server,
            _ => Blame::Peer,
        }
    }

    /// The close code (RFC 6455 section 7.4). Never 1000, which tells phoenix.js to stay away.
    #[must_use]
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Frame(error) => error.close_code(),
            Self::Message(_) => CloseCode::Invalid,
            Self::Idle => CloseCode::Protocol,
            Self::SlowReader | Self::Stalled | Self::OutboxFull => CloseCode::from(SLOW_READER),
            Self::Shutdown => CloseCode::Restart,
        }
    }

    /// The close reason: a sentence of at most 123 bytes.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Frame(error) => error.reason(),
            Self::Message(error) => error.reason(),
            Self::Idle => "nothing came from the client within idle_timeout: send heartbeats",
            Self::SlowReader => "the client reads too slowly: the topic's log has moved past it",
            Self::Stalled => "the client takes no bytes (stall_timeout)",
            Self::OutboxFull => "the client does not read its replies (outbox_bytes_max)",
            Self::Shutdown => "",
        }
    }

    pub(crate) fn count(self, stats: &mut Stats) {
        let counter = match self {
            Self::Frame(_) => &mut stats.closed_bad_frame,
            Self::Message(_) => &mut stats.closed_bad_message,
            Self::Idle => &mut stats.closed_idle,
            Self::SlowReader => &mut stats.closed_slow_reader,
            Self::Stalled => &mut stats.closed_stalled,
            Self::OutboxFull => &mut stats.closed_outbox_full,
            Self::Shutdown => &mut stats.closed_shutdown,
        };
        *counter += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fault_tells_the_client_to_stay_away() {
        let faults = [Fault::Idle, Fault::SlowReader, Fault::Stalled, Fault::OutboxFull, Fault::Shutdown];
        for fault in faults {
            assert_ne!(u16::from(fault.close_code()), 1000, "{fault:?}");
            assert!(fault.reason().len() <= 123, "{fault:?}");
        }
    }
}
