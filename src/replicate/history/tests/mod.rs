//! Histories of hours and days in a moment: the keeper against a store in memory that can die at
//! any request, by a clock that the test moves.

mod damage;
pub mod memory;
mod requests;
mod simulation;
pub mod world;
