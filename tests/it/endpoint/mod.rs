//! What clients see of an endpoint, in memory and on virtual time.
//!
//! [`dialogue`] says how most tests are written; [`probe`] is the channel that they talk to.

mod dialogue;
mod doorman;
mod probe;

mod admission;
mod binary;
mod broadcasting;
mod calls;
mod direct;
mod draining;
mod frames;
mod http;
mod inspect;
mod joining;
mod kept;
mod lifetimes;
mod origins;
mod overload;
mod pushing;
mod receipts;
mod refused;
mod slow_readers;
mod supabase;
mod undecodable;
mod upgrades;
mod users;
mod windows;
