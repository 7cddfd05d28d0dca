//! The integration tests: one binary, so that it links once.

// Tests read files and start threads.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[cfg(all(feature = "cli", target_os = "linux"))]
mod accounts;
#[cfg(feature = "api")]
mod admin;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod bench;
mod board;
mod corpus;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod desk;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod doctor;
mod endpoint;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod help;
mod isolation;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod load;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod load_api;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod load_longpoll;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod load_processes;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod load_users;
mod longpoll;
mod mixed_room;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod server;
mod simulator;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod support;
mod symptoms;
mod tidy;
mod users_room;
