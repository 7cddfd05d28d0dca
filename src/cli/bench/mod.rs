//! `hailer bench`

#[allow(dead_code)]
mod process;
