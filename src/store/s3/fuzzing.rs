//! Entry points for the fuzz targets, built with `--cfg fuzzing` only.

use std::ops::Range;
use std::time::SystemTime;

use http::{HeaderMap, StatusCode};

use super::{classify, get, head};

/// Classifies an error response and returns what would be shown of it.
#[must_use]
pub fn classify_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> String {
    let (class, detail) = classify::read(status, headers, body, SystemTime::UNIX_EPOCH);
    if let Some(region) = &detail.region {
        assert!(region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{region:?}");
    }
    format!("{class:?} {}", detail.said)
}

/// Reads the headers of a response to GET for `wanted`: the bytes to skip and the bytes to take.
#[must_use]
pub fn get_answer(status: StatusCode, headers: &HeaderMap, wanted: &Range<u64>) -> Option<(u64, u64)> {
    get::span_for_fuzzing(status, headers, wanted)
}

/// Reads the headers of a response to HEAD.
pub fn head_answer(headers: &HeaderMap) {
    let _ = head::found(headers);
}
