//! What the user says, as values: durations here, URLs and files beside them. No side effects.

mod duration;

pub use duration::{DurationError, parse_duration};
