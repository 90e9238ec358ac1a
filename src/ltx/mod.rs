//! The LTX file: one transaction, or a range of them, as page images.
//!
//! # Format
//!
//! All integers are big-endian, except the varints of the page index (LEB128, least significant
//! group first).
//!
//! | part | bytes | content |
//! |---|---|---|
//! | header | 100 | see [`Header`] |
//! | frames | any | see [`frame`]: page number, flags, length, compressed page; numbers ascend |
//! | terminator | 6 | zeros |
//! | index | any | see [`index`]: page number, offset, length per frame; 0; length in 8 bytes |
//! | trailer | 16 | post-apply checksum, file checksum |
//!
//! The file checksum is a CRC-64/GO-ISO with bit 63 forced to 1. It covers the header, each frame's
//! header and its *uncompressed* page, the terminator, the index with its length, and the
//! post-apply checksum. So it proves pages, not compressed bytes, and two encoders produce
//! different, equally valid files.
//!
//! A file is valid if all of this holds:
//!
//! - The header is valid.
//! - Page numbers ascend, do not exceed the header's commit, and leave out the lock page.
//! - A file that begins at TXID 1 has every page.
//! - Each frame decompresses to exactly one page.
//! - The checksums match.
//!
//! The index does not count: a file with a wrong index can be restored.
//!
//! # Parts of this module
//!
//! Encoders: [`encode_file`] for a batch in memory; [`FrameBlock`] on many cores and one
//! [`Encoder`] for images. Decoders: [`Decoder`] for a stream, [`LtxReader`] around anything that
//! can be read; [`Tail`], [`decode_frames`] and [`FileCheck`] for ranges that are decoded in
//! parallel. [`Merge`] turns several files into one stream of pages.

mod check;
mod decode;
mod encode;
mod error;
pub mod frame;
mod header;
pub mod index;
pub mod index_part;
mod legacy;
mod merge;
mod order;
mod reader;
pub mod shape;
pub mod times;
mod walk;

pub use check::{FileCheck, Pages, PartialCheck, decode_frames, decode_frames_into};
pub use decode::{Decoder, Step};
#[cfg(feature = "internals")]
pub use encode::encode_file_into;
pub use encode::{BlockBuilder, Encoder, FrameBlock, encode_file, encoded_len_max, set_checksum};
pub use error::LtxError;
pub use header::{CHECKSUM_FLAG, HEADER_LEN, Header, TRAILER_LEN, Trailer, WalRange};
pub use index::{IndexEntry, Tail, TailState};
pub use merge::{Merge, PageSource};
pub use reader::LtxReader;
pub use times::TimesId;
pub use walk::{FileEnd, FrameWalk, IndexCheck, Next};

#[cfg(test)]
mod tests;
