//! `lsfast points` on a terminal: the states day by day and hour by hour, to look into.
//!
//! `state` is what is shown and what a key does, without a terminal. `draw` shows it. `run` has the
//! terminal, and reads logs and differences on threads of their own.

mod draw;
mod run;
mod state;
#[cfg(test)]
mod tests;

pub(super) use run::run;
