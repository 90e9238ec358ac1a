//! The extent of one frame, in either form.

use crate::base::{PageSize, Pgno};

/// Length in bytes of a page header without the payload length, as in the terminator and in the old
/// form.
pub const HEAD_SHORT: usize = 6;

/// Length in bytes of the longest LZ4 block that a page can become.
#[must_use]
pub const fn payload_len_max(page_size: PageSize) -> usize {
    page_size.bytes() + page_size.bytes() / 255 + 16
}

/// What the beginning of a frame shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// At least this many bytes are needed to decide.
    Need(usize),
    /// The terminator, six bytes long: no more frames follow.
    Terminator,
    /// A complete frame.
    Frame(Shape),
}

/// Extent of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) pgno: Pgno,
    /// Length of the page header in bytes: [`HEAD_SHORT`], or four more with the payload length.
    pub(super) head: usize,
    /// Total length in bytes.
    pub(super) len: usize,
}
