//! Maxima of what a view of a replica reads and keeps; part of [`limits`](super::limits).

use std::time::Duration;

/// Requests in flight at once for one reader of pages. Further ones wait.
pub const VIEW_TRANSFERS: usize = 16;

/// Bytes of a file up to which it is read whole, so that its checksum proves it. Of longer files
/// only parts are read.
pub const VIEW_WHOLE_BYTES: u64 = 128 << 10;

/// Bytes at the beginning of a longer file that are read with its header.
pub const VIEW_HEAD_BYTES: u64 = 64 << 10;

/// Bytes at the end of a longer file that are read for its page index. A longer index takes another
/// request.
pub const VIEW_END_BYTES: u64 = 64 << 10;
const _: () = assert!(VIEW_HEAD_BYTES + VIEW_END_BYTES <= VIEW_WHOLE_BYTES, "both are in the file");

/// Bytes of the frames that one request reads, if they follow the wanted one.
pub const VIEW_AHEAD_BYTES: u64 = 64 << 10;

/// Bytes of the end of a file up to which its page index is read whole. Of a longer index parts are
/// read.
pub const VIEW_INDEX_BYTES: u64 = 256 << 10;

/// Bytes of one part of a page index.
pub const VIEW_INDEX_PART_BYTES: u64 = 64 << 10;

/// Parts of the page index of one file in memory. With more, the oldest is read again when it is
/// wanted.
pub const VIEW_INDEX_PARTS: usize = 64;

/// Parts of a page index that are read to find one page. With more the index is taken for damaged.
pub const VIEW_INDEX_READS: usize = 64;

/// Bytes between two frames that are read with them, because a request costs more.
pub const VIEW_GAP_BYTES: u64 = 16 << 10;

/// Bytes of one request for frames. More take several.
pub const VIEW_READ_BYTES: u64 = 1 << 20;

/// Interior pages of b-trees whose children are remembered, so that a scan can read ahead.
pub const VIEW_INTERIORS: usize = 16;

/// Children of an interior page that a scan reads ahead at most.
pub const VIEW_CHILDREN_AHEAD: usize = 128;

/// Time for which a connection that follows a replica stays at a state before a new transaction
/// asks for the newest one, which takes a listing.
pub const VIEW_FOLLOW: Duration = Duration::from_secs(1);

/// Time after which a connection tries again to open a state that it could not open. Until then
/// each statement fails with the same error.
pub const VIEW_RETRY: Duration = Duration::from_secs(1);

/// Bytes of one block in the folder that keeps what was read.
pub const VIEW_BLOCK_BYTES: u64 = 64 << 10;

/// Bytes of the shortest read that is kept. Headers that are read for their times are shorter.
pub const VIEW_KEPT_BYTES_MIN: u64 = 4 << 10;

/// Bytes of the folder that keeps what was read. Beyond this the blocks that were not used for the
/// longest time are deleted.
pub const VIEW_FOLDER_BYTES: u64 = 1 << 30;

/// Rows of a query that are printed together. The rows of one print decide about the widths of a
/// table's columns.
pub const QUERY_ROWS: usize = 1_000;

/// Bytes of one statement in `lsfast shell`. A longer one is refused.
pub const SHELL_BYTES: usize = 16 << 20;

/// Headers that are read to find the state of a replica that a database file is. A file that is
/// none of these states is restored whole.
pub const DELTA_HEADERS: usize = 1_000;

/// Entries of listings in parts that a folder of `--cache` knows, some 48 bytes each. With more
/// it forgets them, and blocks of files that are listed no longer are not kept.
pub const VIEW_LISTED_MAX: usize = 200_000;

/// Pages that are looked up one by one in a long page index. For more of them it is read whole.
pub const DELTA_LOOKUPS: usize = 16;
