//! What a hostile world sends to the listener of the API and the back office, tried on the real program.

mod demo;
mod framing;
mod hosts;
mod keys;
mod logs;
mod office;
mod overload;
mod secrets;
mod world;
