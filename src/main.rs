//! The `lsfast` program.
fn main() {}
