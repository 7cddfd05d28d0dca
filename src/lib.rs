//! Hailer is a live-notification server that speaks the Phoenix Channels protocol.

pub mod broker;
pub mod channel;
#[cfg(feature = "cli")]
pub mod cli;
mod connection;
pub mod endpoint;
pub mod fault;
pub mod http;
mod hub;
pub mod limits;
pub mod notification;
pub mod phoenix;
mod prepared;
#[cfg(feature = "server")]
pub mod server;
mod socket;
pub mod stats;
pub mod testing;
pub mod web;
pub mod ws;
