//! Hours and days of history within a moment: the executor works against a store in memory that can
//! fail at any request, by a clock that the test moves.

mod damage;
pub mod memory;
mod requests;
mod simulation;
pub mod world;
