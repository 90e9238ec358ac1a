//! The LTX file: one transaction, or a range of them, as page images.
//!
//! All integers are big-endian, but for the varints of the page index (LEB128, least significant
//! group first).
//!
//! | part | bytes | content |
//! |---|---|---|
//! | header | 100 | see [`Header`] |
//! | frames | any | see [`frame`]: page number, flags, length, compressed page; ascending page numbers |
//! | terminator | 6 | zeros |
//! | index | any | see [`index`]: page number, offset, length of each frame; 0; length of all that in 8 bytes |
//! | trailer | 16 | post-apply checksum, file checksum |
//!
//! The file checksum is a CRC-64/GO-ISO with bit 63 forced to 1 over: header, each frame's header
//! and its *uncompressed* page, terminator, index with its length, post-apply checksum. It
//! therefore proves pages, not compressed bytes, and two encoders give different, equally valid
//! files.
//!
//! A file is valid if the header is, if page numbers ascend, are at most the header's commit and
//! never the lock page, if a file that begins at TXID 1 has every page, if each frame gives exactly
//! one page, and if the checksums agree. The index decides nothing: files with a wrong index
//! restore.
//!
//! Writing: [`encode_file`] for a batch in memory; [`FrameBlock`] on many cores and one [`Encoder`]
//! for images. Reading: [`Decoder`] for a stream, [`LtxReader`] around anything that reads;
//! [`Tail`], [`decode_frames`] and [`FileCheck`] for ranges decoded in parallel. [`Merge`] makes
//! one stream of several files.

mod check;
mod decode;
mod encode;
mod error;
pub mod frame;
mod header;
pub mod index;
mod legacy;
mod merge;
mod order;
mod reader;
pub mod times;
mod walk;

pub use check::{FileCheck, PartialCheck, decode_frames};
pub use decode::{Decoder, Step};
pub use encode::{BlockBuilder, Encoder, Ending, FrameBlock, encode_file, encode_file_into, encoded_len_max};
pub use error::LtxError;
pub use header::{HEADER_LEN, Header, TRAILER_LEN, Trailer, WalRange};
pub use index::{IndexEntry, Tail, TailState};
pub use merge::{Merge, PageSource};
pub use reader::LtxReader;
pub use times::TimesId;
pub use walk::{FileEnd, FrameWalk, IndexCheck, Next};

/// Set in every checksum that an LTX file stores, so that 0 can mean "none".
pub const CHECKSUM_FLAG: u64 = 1 << 63;

#[cfg(test)]
mod tests;
