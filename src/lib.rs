//! Hailer is a live-notification server that speaks the Phoenix Channels protocol, so that unmodified
//! phoenix.js and every other Phoenix client works against it. It is made for massive fan-out to very many,
//! mostly idle, clients.
//!
//! There are two ways to use it: the program `hailer` with its built-in [`notification`] channel, and this
//! library, with channels of one's own. A channel is a [`channel::Channel`]; a [`channel::Router`] says which
//! topics it serves; a [`server::Server`] runs it; [`testing::TestServer`] tests it in memory.
//!
//! ```no_run
//! use hailer::channel::Router;
//! use hailer::endpoint::Config;
//! use hailer::notification::Notification;
//! use hailer::server::{Server, ServerConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let router = Router::new().channel("room:*".parse()?, Notification::default());
//! let server = Server::start(&ServerConfig::new(Config::new(router)))?;
//! let payload = serde_json::json!({ "body": "maintenance in 5 minutes" });
//! server.handle().broadcast("room:lobby", "new_msg", payload.into())?;
//! # Ok(())
//! # }
//! ```
//!
//! The crate is a pure core in a thin shell: everything but [`server`] and [`cli`] takes bytes, messages and
//! times as arguments and gives bytes, closes and deadlines back. Without the default features only the core
//! is built, and nothing of an event loop is among its dependencies.

#![cfg_attr(not(feature = "cli"), allow(rustdoc::broken_intra_doc_links))]

#[cfg(feature = "api")]
pub mod admin;
#[cfg(feature = "api")]
pub mod api;
pub mod auth;
pub mod board;
pub mod broker;
pub mod channel;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "config")]
pub mod config;
mod connection;
pub mod desk;
pub mod endpoint;
pub mod fault;
mod guard;
pub mod http;
mod hub;
pub mod limits;
#[cfg(feature = "cli")]
pub mod load;
pub mod longpoll;
pub mod notification;
pub mod phoenix;
mod prepared;
#[cfg(feature = "server")]
pub mod server;
pub mod service;
mod socket;
#[cfg(feature = "cli")]
pub mod standalone;
pub mod stats;
mod suggest;
mod tables;
pub mod testing;
pub mod web;
pub mod ws;
