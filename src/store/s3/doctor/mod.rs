//! Checks a replica in a bucket step by step for `lsfast doctor`: the connection, the keys, and
//! each request that replication makes. The checks use scratch objects next to the replica, and
//! delete them in the end.

mod certificate;
mod examine;
mod reach;
mod requests;
mod rights;

pub use examine::examine;
