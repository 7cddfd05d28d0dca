//! Applications whose code panics, wherever it is called: all other clients of the shard go on.
//!
//! Every place is a row of a table here or, where threads are needed, of the one in `server`. The sources are read for
//! places that no row names.

mod faulty;
mod places;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod server;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod sources;
