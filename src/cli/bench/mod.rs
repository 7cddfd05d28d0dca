//! `hailer bench`

#[allow(dead_code)]
mod compare;
#[allow(dead_code)]
mod process;
#[allow(dead_code)]
mod progress;
