//! Following live databases and storing what they commit, in the order of the data: capture, batch, upload, acknowledgement.

pub mod board;
pub mod capture;
pub mod guard;
pub mod pending;
