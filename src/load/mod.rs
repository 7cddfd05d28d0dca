//! Load: what `hailer bench` makes, checks and tells, without a socket.

/// The topic of load tests, where no customer is; the open demo has it. It is as long as `room:lobby`, so that messages
/// of both are.
pub const TOPIC: &str = "room:bench";

pub mod check;
pub mod client;
pub mod figures;
pub mod ledger;
pub mod message;
pub mod outcome;
pub mod phoenix_js;
pub mod poller;
pub mod report;
pub mod share;
pub mod times;
pub mod wire;
