//! The real program on real sockets, as its peers see it.

mod api_cli;
mod api_found;
mod api_keys;
mod attacks;
mod blocked_output;
mod budgets;
mod check_config;
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
mod no_effect;
mod pressure;
mod process;
mod secrets;
mod service;
mod slow_readers;
mod staff;
mod tokens;
mod topics_once;
pub(crate) mod users;
