//! What bounds the memory of the process.
//!
//! Each row has its bound as a constant below, and the sums are asserted. They are worst cases,
//! with every part at its bound at once; what is measured is much less (`docs/performance.md`).
//!
//! | of | part | bound, MiB |
//! |---|---|---|
//! | the process | program, heap, tables of TLS | [`PROGRAM_BYTES`] 16 |
//! | | recent files for merges | [`CACHE_BYTES`] 8 |
//! | a database | one read of the WAL, or a walk through an old generation | [`WALK_BYTES`] 16 |
//! | | pages of a transaction without its commit | [`OPEN_BYTES`] 16 |
//! | a replica | pages that wait for the next batch | [`PENDING_BYTES`] 16 |
//! | | batch in flight: pages, and the encoded file | 2 x [`PENDING_BYTES`] 32 |
//! | | hashes of the pages of that batch | [`BATCH_HASHES`] 1 |
//! | | instead of the batch: image or large batch in flight | [`IMAGE_BYTES`] 41 |
//! | history, all databases | one large merge | [`LARGE_MERGE_BYTES`] 56 |
//! | | each of three small jobs: input and output | 2 x [`HISTORY_LARGE_BYTES`] 32 |
//! | a restore | files requested and not decoded | [`RESTORE_BYTES`] 40 |
//! | | writes, 8 or one for each of up to 16 threads | [`RESTORE_RUN_BYTES`] 2 |
//! | a verification | two parts of each of four files | 40 |
//! | a reader of pages | recent pages | [`VIEW_PAGE_BYTES`] 64 |
//! | | short files, in one piece | [`VIEW_FILE_BYTES`] 32 |
//!
//! Sums: one database with one replica and its history [`REPLICATE_BYTES`] 176; a restore or a
//! verification [`READ_BYTES`] 96.
//!
//! Some memory grows with what is stored, by design a little:
//!
//! | grows with | for | bytes |
//! |---|---|---|
//! | databases | idle database | about 50,000 each |
//! | pages of a database | large batch, repair, restore, verification | 1 bit each |
//! | | verification: hashes of pages | 8 each, up to [`VERIFY_CHAIN_PAGES`] |
//! | pages of a batch | verification: hashes of pages | 16 each, up to [`VERIFY_BATCH_PAGES`] |
//! | frames that are not in the database file | image | 4 each, at most 8 MiB |
//! | files of a replica | inventory | about 50 each, at most [`SHELF_OBJECTS`] on each level |
//! | | listing | about 50 each, at most [`LIST_OBJECTS`] |
//!
//! Not bounded for all databases together: replicas that store an image or a large batch at once.
//!
//! [`SHELF_OBJECTS`]: super::limits::SHELF_OBJECTS
//! [`LIST_OBJECTS`]: super::limits::LIST_OBJECTS
//! [`VERIFY_CHAIN_PAGES`]: super::limits::VERIFY_CHAIN_PAGES
//! [`VERIFY_BATCH_PAGES`]: super::limits::VERIFY_BATCH_PAGES

const MIB: usize = 1 << 20;

/// Bytes of the idle program without databases: its code, heap and tables of TLS. Measured, not
/// enforced.
pub const PROGRAM_BYTES: usize = 16 * MIB;

// # Capture

/// Bytes of one read of the WAL at most. More frames take several reads.
pub const TAIL_READ_BYTES: usize = 1 << 20;

/// Bytes that one walk through an old generation of the WAL holds in memory at most. A longer walk
/// ends without a proof, and page hashes decide.
pub const WALK_BYTES: usize = 16 * MIB;
const _: () = assert!(TAIL_READ_BYTES <= WALK_BYTES, "a walk begins with one read");

/// Bytes of page images of transactions whose commit frame has not been read yet. Beyond this only
/// page numbers are kept, and the pages are read from the database when the batch is made. Frames
/// that are not published are not kept and don't count here.
pub const OPEN_BYTES: usize = 16 << 20;

// # Upload

/// Bytes of page images that wait in memory for one replica. Beyond this only page numbers are
/// kept, and the pages are read from the database when the batch is made.
pub const PENDING_BYTES: usize = 16 << 20;

/// Bytes of page images from which on a batch is uploaded without waiting for `sync-interval`.
/// Without this bound a fast writer would reach [`PENDING_BYTES`] within the interval. Its pages
/// would then be read again, which would keep its WAL from starting over.
pub const BATCH_BYTES: usize = 4 << 20;
const _: () = assert!(BATCH_BYTES < PENDING_BYTES, "a batch leaves before its images are dropped");

/// Page hashes of one batch in memory, each 16 bytes and a page number. Beyond this they wait for
/// the store's answer in a file next to the database.
pub const BATCH_HASHES: usize = 32 << 10;

/// Bytes of the smallest part of a multipart upload, by S3's rule. The last part may be smaller.
pub const PART_BYTES_MIN: u64 = 5 << 20;

/// Bytes of a part of a multipart upload. Parts are longer only where the object would otherwise
/// have more than [`PARTS_MAX`](super::limits::PARTS_MAX).
pub const PART_BYTES: u64 = 5 << 20;
const _: () = assert!(PART_BYTES >= PART_BYTES_MIN, "S3 takes parts of this length");

/// Parts of an upload in flight at once; further ones wait. Up to two more are held in memory.
pub const TRANSFERS: usize = 4;

/// Bytes of the parts of one upload in memory: those in flight, one that is filled, one that waits,
/// and the first, which may be kept until the last. Longer parts (`part-size`, or an object of more
/// than 50 GB) take more.
pub const UPLOAD_BYTES: usize = (TRANSFERS + 3) * PART_BYTES as usize;

/// Bytes of one image or large batch in flight: its upload, and the chunks that are read and
/// compressed.
pub const IMAGE_BYTES: usize = UPLOAD_BYTES + 6 * MIB;

// # History

/// Bytes of the inputs of one merge that are in memory at once. Further input is read when these
/// are used.
pub const MERGE_BYTES: usize = 16 << 20;

/// Bytes of recent files that the process keeps so that merging them needs no GET. Beyond this the
/// oldest are dropped.
pub const CACHE_BYTES: usize = 8 << 20;

/// Bytes of the longest recent file that the process keeps; a longer one takes a GET when merged.
pub const CACHE_OBJECT_BYTES: usize = 1 << 20;
const _: () = assert!(CACHE_OBJECT_BYTES <= CACHE_BYTES, "the cache holds at least one file");

/// Bytes of a page index under construction that are in memory. Beyond this they go to a file next
/// to the database.
pub const INDEX_BYTES: usize = 1 << 20;

/// Bytes beyond which a job counts as large.
pub const HISTORY_LARGE_BYTES: u64 = 16 << 20;

/// Bytes of one large merge: input, blocks of output, parts of the upload, and page index.
pub const LARGE_MERGE_BYTES: usize = MERGE_BYTES + 4 * MIB + UPLOAD_BYTES + INDEX_BYTES;

// # Restore and verification

/// Bytes of the shortest read that may leave nothing in the page cache. Shorter ones would drop
/// what the kernel has read ahead, and read it from the disk again.
pub const PASSING_READ_BYTES_MIN: usize = 256 << 10;

/// Bytes of the shortest write that leaves nothing in the page cache. The kernel begins such a
/// write at once, and shorter ones would take more time.
pub const PASSING_WRITE_BYTES_MIN: usize = 64 << 10;

/// Bytes of one ranged GET of a restore. Longer files take several. Stores that keep the parts of
/// an upload as they arrived have less work for the same ranges.
pub const RESTORE_PART_BYTES: u64 = PART_BYTES;

/// Bytes of LTX files that a restore has requested and not decoded yet. Further requests wait.
pub const RESTORE_BYTES: u64 = 8 * RESTORE_PART_BYTES;

/// Bytes that a restore from a local directory has read and not decoded yet, for each decoding
/// thread, but [`RESTORE_BYTES`] at most. A read takes less time than decoding what it returns, so
/// more would only leave the caches of the processor before they are used.
pub const RESTORE_LOCAL_BYTES: u64 = RESTORE_PART_BYTES;

/// Bytes of pages that a thread of a restore decodes in one go, one page after the other. More take
/// several.
pub const RESTORE_BATCH_BYTES: usize = 1 << 20;

/// Bytes of one write of a restore into the page cache. Longer runs of pages take several; longer
/// writes take more time.
pub const RESTORE_WRITE_BYTES: usize = 256 << 10;

/// Bytes of one direct write of a restore. Longer runs of pages take several.
pub const RESTORE_DIRECT_BYTES: usize = 1 << 20;

/// Bytes of memory that one write of a restore has: a huge page.
pub const RESTORE_RUN_BYTES: usize = 2 << 20;

/// Bytes of the shortest run of pages that a restore writes directly. For shorter ones the page
/// cache takes less time, since the kernel makes longer writes of them.
pub const RESTORE_DIRECT_BYTES_MIN: usize = 64 << 10;

/// Direct writes of a restore that are under way or being gathered, or one for each thread if there
/// are more threads. Further ones wait.
pub const RESTORE_WRITES: usize = 8;

/// Decoding threads of a restore at most; on fewer cores one for each.
pub const RESTORE_THREADS: usize = 16;

/// Files of a replica that are verified at once. Further ones wait.
pub const VERIFY_FILES: usize = 4;

// # View

/// Bytes of recent pages that the readers of one replica share. With more, those that were not used
/// for the longest time are read again when they are wanted.
pub const VIEW_PAGE_BYTES: usize = 64 * MIB;

/// Bytes of short files in memory that the readers of one replica share. With more, further files
/// are read in parts, like long ones.
pub const VIEW_FILE_BYTES: usize = 32 * MIB;

// # Sums

/// Bytes of a process that replicates one database to one replica, with everything at its bound.
pub const REPLICATE_BYTES: usize = 176 * MIB;
const DATABASE: usize = WALK_BYTES + OPEN_BYTES;
const IN_FLIGHT: usize = max(2 * PENDING_BYTES + BATCH_HASHES * 20, IMAGE_BYTES);
const REPLICA: usize = PENDING_BYTES + IN_FLIGHT;
const HISTORY: usize = max(LARGE_MERGE_BYTES, 2 * HISTORY_LARGE_BYTES as usize);
const _: () = assert!(
    PROGRAM_BYTES + CACHE_BYTES + DATABASE + REPLICA + HISTORY <= REPLICATE_BYTES,
    "the sum of the table"
);

/// Bytes of a process that restores or verifies one replica, without the bit for each page.
pub const READ_BYTES: usize = 96 * MIB;
const RESTORE: usize = RESTORE_BYTES as usize + max(RESTORE_WRITES, RESTORE_THREADS) * RESTORE_RUN_BYTES;
const VERIFICATION: usize = VERIFY_FILES * 2 * RESTORE_PART_BYTES as usize;
const _: () = assert!(PROGRAM_BYTES + max(RESTORE, VERIFICATION) <= READ_BYTES, "the sum of the table");

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}
