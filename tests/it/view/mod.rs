//! Pages of a replica on demand.

mod counting;
mod extension;
mod large;
mod live;
mod pages;
mod query;
mod random;
mod session;
mod vanished;
