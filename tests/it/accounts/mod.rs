//! The store, the accounts that are looked up, and the commands that change them.

mod store;
mod support;
