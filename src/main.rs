//! The `hailer` program.
fn main() {}
