//! The back office over a desk in memory, by what visitors and attackers send.

mod doors;
mod fake;
mod keeping;
mod live;
mod pages;
mod sending;
