//! Proves a replica in a bucket step by step, for `lsfast doctor`: the way to it, the keys, and
//! each request that replication makes, on scratch objects beside the replica that are removed in
//! the end.

mod certificate;
mod examine;
mod reach;
mod rights;

pub use examine::examine;
