//! Who a client is and what it may do: tokens, identities, rights, origins. Pure: the time is an argument, keys
//! are given as bytes, and where users are looked up is for the server to say.

pub mod connect;
pub mod deny;
pub mod gate;
mod identity;
pub mod origin;
mod packed;
#[cfg(feature = "api")]
pub mod password;
pub mod rights;
pub mod token;

pub use identity::{Identity, IdentityParts};

/// Seconds since 1970-01-01 00:00 UTC, leap seconds not counted (RFC 7519 calls it a NumericDate).
pub type UnixTime = u64;
