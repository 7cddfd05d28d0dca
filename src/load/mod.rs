//! Load: what `hailer bench` makes, checks and tells, without a socket.

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
