//! What the load tool tells: one run or several as text and as a page, and servers compared.

mod chart;
pub mod comparison;
mod hanging;
mod html;
mod text;
mod units;
mod verdict;

pub(crate) use hanging::hanging;
pub use html::{html, html_of};
pub use text::text;

#[cfg(test)]
mod tests;
