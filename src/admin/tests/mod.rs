mod doors;
mod fake;
mod live;
mod pages;
mod sending;
