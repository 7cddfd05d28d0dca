//! Hailer is a live-notification server that speaks the Phoenix Channels protocol.
pub mod http;
pub mod limits;
pub mod phoenix;
pub mod ws;
