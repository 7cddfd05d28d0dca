#![no_main]
#[path = "../checks/phoenix_v1.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
