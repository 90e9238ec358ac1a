//! The checks that need the server, in their order.

use crate::base::finding::{Finding, Tell};

/// The checks that are skipped when an earlier one fails.
pub(super) const REQUESTS: [&str; 11] = [
    "signature",
    "bucket",
    "list",
    "put",
    "checksum",
    "get",
    "head",
    "create-only",
    "copy",
    "multipart",
    "delete",
];

/// Reports each of `names` as skipped, and why.
pub(super) fn skip(names: &[&'static str], why: &str, tell: Tell<'_>) {
    names.iter().for_each(|name| tell(Finding::skipped(name, why)));
}
