//! Entry points for the fuzz targets, built with `--cfg fuzzing` only.

use super::{state, verify};

/// Reads a state file; a slot that was believed is written and read again.
pub fn state(bytes: &[u8]) {
    state::round_trip_for_fuzzing(bytes);
}

/// Reads the file that remembers the last verification.
pub fn verified(bytes: &[u8]) {
    verify::parse_record_for_fuzzing(bytes);
}
