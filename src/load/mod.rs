//! Load: what `hailer bench` makes, checks and tells, without a socket.

pub mod figures;
pub mod outcome;
pub mod report;
