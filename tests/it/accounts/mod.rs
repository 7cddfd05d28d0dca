//! The store, the accounts that are looked up, and the commands that change them.

mod commands;
mod directory;
mod killed;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_server;
mod records;
#[cfg(feature = "postgres")]
mod served;
mod store;
mod support;
mod writer;
