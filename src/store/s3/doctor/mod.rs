//! Checks a replica in a bucket step by step for `lsfast doctor`: the connection, the keys, and
//! each request that replication makes. Scratch objects next to the replica serve for it, and are
//! deleted in the end.

mod certificate;
mod examine;
mod reach;
mod rights;

pub use examine::examine;
