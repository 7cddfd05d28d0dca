#![no_main]
#[path = "../checks/phoenix_v2.rs"]
mod check;
#[path = "../checks/heartbeat.rs"]
mod heartbeat;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
