//! The integration tests: one binary, so that it links once.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod corpus;
mod symptoms;
