//! The real program on real sockets, as its peers see it.

mod api_cli;
mod api_keys;
mod attacks;
mod budgets;
mod closing;
mod config;
mod connecting;
mod denials;
mod gaps;
mod http;
mod inspect;
mod io_uring;
mod library;
mod messages;
mod pressure;
mod process;
mod secrets;
mod service;
mod slow_readers;
mod staff;
pub(crate) mod users;
