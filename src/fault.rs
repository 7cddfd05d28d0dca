//! What goes wrong on a WebSocket: whose fault it is, what the peer is told, how it is counted.
//!
//! A peer's fault never becomes an error of the endpoint, and is never logged louder than `debug`.

use crate::phoenix::DecodeError;
use crate::stats::Stats;
use crate::ws::{CloseCode, ProtocolError};

/// Close code of a client that has fallen behind, or stopped taking bytes. phoenix.js comes back after it.
pub const SLOW_READER: u16 = 4008;

/// Close code of a client whose token has run out. phoenix.js comes back after it, and asks its `params` function
/// for fresh ones.
pub const TOKEN_EXPIRED: u16 = 4001;
/// Close code of a client that may be here no longer: its user was denied, or its fresh token is another's.
pub const DENIED: u16 = 4003;

/// Who has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client, or the network between.
    Peer,
    /// Neither client nor network: the server is being stopped, or the application has failed.
    Server,
}

/// Why the server ends a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The bytes break RFC 6455, or a limit of it.
    Frame(ProtocolError),
    /// The message is no Phoenix message, and nothing in it says what a reply could refer to.
    Message(DecodeError),
    /// Nothing came from the client for `idle_timeout`.
    Idle,
    /// The topic's log has moved past the client's place in it.
    SlowReader,
    /// The client took (nearly) nothing of what waits for it during `stall_timeout`.
    Stalled,
    /// More than `outbox_bytes_max` waits for the client alone.
    OutboxFull,
    /// The handler of a plain WebSocket has panicked.
    Crashed,
    /// The server is being stopped or restarted.
    Shutdown,
    /// `disconnect` was broadcast to the socket's id: the client may come back.
    Disconnected,
    /// `disconnect` was broadcast to the socket's id: the client is to stay away.
    StayAway,
    /// The client's token has run out, and its grace has passed.
    TokenExpired,
    /// The key that the client's token was verified with is no longer used.
    KeyRemoved,
    /// The client has given a token of another user.
    OtherUser,
    /// The client's token was denied while it was connected, or its user is no longer welcome.
    Denied,
}

impl Fault {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::Crashed | Self::Shutdown | Self::Disconnected | Self::StayAway => Blame::Server,
            _ => Blame::Peer,
        }
    }

    /// The close code (RFC 6455 section 7.4). 1000, which tells phoenix.js to stay away, only where that is
    /// meant.
    #[must_use]
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Frame(error) => error.close_code(),
            Self::Message(_) => CloseCode::Invalid,
            Self::Idle => CloseCode::Protocol,
            Self::SlowReader | Self::Stalled | Self::OutboxFull => CloseCode::from(SLOW_READER),
            Self::Crashed => CloseCode::Error,
            Self::Shutdown => CloseCode::Restart,
            Self::Disconnected => CloseCode::Away,
            Self::StayAway => CloseCode::Normal,
            Self::TokenExpired | Self::KeyRemoved => CloseCode::from(TOKEN_EXPIRED),
            Self::OtherUser | Self::Denied => CloseCode::from(DENIED),
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
            Self::Crashed => "the handler of this WebSocket has crashed",
            Self::Shutdown | Self::Disconnected | Self::StayAway => "",
            Self::TokenExpired => "the token has run out: come back with a fresh one",
            Self::KeyRemoved => "the token's key is no longer used: come back with a fresh token",
            Self::OtherUser => "the fresh token is another user's",
            Self::Denied => "access was withdrawn",
        }
    }

    pub(crate) fn count(self, stats: &mut Stats) {
        stats.closed_stay_away += u64::from(self == Self::StayAway);
        if let Self::Frame(error) = self {
            stats.closed_bad_text += u64::from(error.close_code() == CloseCode::Invalid);
            stats.closed_too_big += u64::from(error.close_code() == CloseCode::Size);
        }
        let counter = match self {
            Self::Frame(_) => &mut stats.closed_bad_frame,
            Self::Message(_) => &mut stats.closed_bad_message,
            Self::Idle => &mut stats.closed_idle,
            Self::SlowReader => &mut stats.closed_slow_reader,
            Self::Stalled => &mut stats.closed_stalled,
            Self::OutboxFull => &mut stats.closed_outbox_full,
            Self::Crashed => &mut stats.closed_crashed,
            Self::Shutdown => &mut stats.closed_shutdown,
            Self::Disconnected | Self::StayAway => &mut stats.closed_disconnected,
            Self::TokenExpired => &mut stats.closed_token_expired,
            Self::KeyRemoved => &mut stats.closed_key_removed,
            Self::OtherUser | Self::Denied => &mut stats.closed_denied,
        };
        *counter += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fault_tells_the_client_to_stay_away_by_accident() {
        let faults = [
            Fault::Idle,
            Fault::SlowReader,
            Fault::Stalled,
            Fault::OutboxFull,
            Fault::Crashed,
            Fault::Shutdown,
            Fault::Disconnected,
            Fault::TokenExpired,
            Fault::KeyRemoved,
            Fault::OtherUser,
            Fault::Denied,
        ];
        for fault in faults {
            assert_ne!(u16::from(fault.close_code()), 1000, "{fault:?}");
            assert!(fault.reason().len() <= 123, "{fault:?}");
        }
    }
}
