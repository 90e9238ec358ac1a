//! Encodes files.
//!
//! Pages are compressed directly into the bytes of the file, so nothing is copied afterwards. The
//! file checksum covers uncompressed pages, so each page is hashed and compressed while it is in
//! the cache.

use std::path::PathBuf;

use bytes::Bytes;
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use super::frame::{self, HEAD, TERMINATOR};
use super::header::{HEADER_LEN, Header, TRAILER_LEN, Trailer};
use super::index::{ENTRY_LEN_MAX, IndexWriter};
use super::order::PageOrder;
use super::shape::{HEAD_SHORT, payload_len_max};
use super::{CHECKSUM_FLAG, LtxError};
use crate::base::buffer_pool::Spare;
use crate::base::crc64::{Crc64, combine, crc64};
use crate::base::{DatabaseChecksum, PageSize, Pgno};

/// Upper bound of the length of a file with `pages` pages, in bytes.
#[must_use]
pub const fn encoded_len_max(page_size: PageSize, pages: usize) -> usize {
    let page = HEAD + payload_len_max(page_size) + ENTRY_LEN_MAX;
    HEADER_LEN + pages.saturating_mul(page) + HEAD_SHORT + 1 + 8 + TRAILER_LEN
}

/// Encodes a whole file into a new buffer. See [`encode_file_into`].
///
/// # Errors
/// The same as for [`encode_file_into`].
pub fn encode_file<'a>(
    header: &Header,
    pages: impl IntoIterator<Item = (Pgno, &'a [u8])>,
) -> Result<Vec<u8>, LtxError> {
    let mut out = Vec::new();
    encode_file_into(header, pages, &mut out)?;
    Ok(out)
}

/// Encodes a whole file into `out`, replaces its content and uses its capacity.
///
/// If the iterator knows its length, the buffer is allocated at most once.
///
/// # Errors
/// The header is not one of a replica, or pages do not ascend, do not fit the header or have the
/// wrong length. `out` then holds nothing useful.
pub fn encode_file_into<'a>(
    header: &Header,
    pages: impl IntoIterator<Item = (Pgno, &'a [u8])>,
    out: &mut Vec<u8>,
) -> Result<(), LtxError> {
    let bytes = writable(header)?;
    let pages = pages.into_iter();
    // The old content of the buffer stays until it is overwritten, which saves zeroing it.
    let len_max = encoded_len_max(header.page_size, pages.size_hint().0);
    out.reserve(len_max.saturating_sub(out.len()));
    out.resize(out.len().max(HEADER_LEN), 0);
    out[..HEADER_LEN].copy_from_slice(&bytes);
    let mut packer = Packer::new(header.page_size);
    packer.crc.update(&bytes);
    let mut order = PageOrder::new(header);
    let mut index = IndexWriter::default();
    let mut end = HEADER_LEN;
    for (pgno, page) in pages {
        order.accept(pgno)?;
        let len = packer.pack(pgno, page, out, end)?;
        index.push(pgno, end as u64, len);
        end += len as usize;
    }
    out.truncate(end);
    order.finish()?;
    index.finish(out);
    finish_file(out, end, packer.crc);
    Ok(())
}

/// Puts the checksum of the database into the header of an encoded file, and into `header`.
///
/// The checksum follows from hashes of the pages, which are made while the pages are compressed, so
/// it is known only when the file is complete. `pages` is the number of pages in the file.
pub fn set_checksum(file: &mut [u8], header: &mut Header, pages: usize, checksum: DatabaseChecksum) {
    let before = crc64(&header.to_bytes());
    header.checksum = Some(checksum);
    let bytes = header.to_bytes();
    file[..HEADER_LEN].copy_from_slice(&bytes);
    let (rest, trailer) = file.split_last_chunk_mut::<TRAILER_LEN>().expect("a file has a trailer");
    let index_len = rest.last_chunk().map_or(0, |len| u64::from_be_bytes(*len));
    // What the file checksum covers after the header: uncompressed pages, and the end as it is.
    let pages_len = (pages * (HEAD + header.page_size.bytes())) as u64;
    let covered = pages_len + HEAD_SHORT as u64 + index_len + 8 + 8;
    // A change of the header changes the CRC by the same amount whatever follows it.
    let change = combine(before ^ crc64(&bytes), 0, covered);
    let mut trailer_now = Trailer::parse(trailer);
    trailer_now.file_checksum = (trailer_now.file_checksum ^ change) | CHECKSUM_FLAG;
    *trailer = trailer_now.to_bytes();
}

/// Appends the trailer. `crc` covers the file up to `covered`; this function adds the rest.
fn finish_file(out: &mut Vec<u8>, covered: usize, mut crc: Crc64) -> Trailer {
    let post_apply = 0u64;
    out.extend_from_slice(&post_apply.to_be_bytes());
    crc.update(&out[covered..]);
    let trailer = Trailer { post_apply, file_checksum: crc.value() | CHECKSUM_FLAG };
    out.extend_from_slice(&trailer.file_checksum.to_be_bytes());
    trailer
}

/// The bytes of a header, if this program may write it.
fn writable(header: &Header) -> Result<[u8; HEADER_LEN], LtxError> {
    header.validate()?;
    if header.commit == 0 {
        return Err(LtxError::CommitZero);
    }
    if !header.no_checksum {
        return Err(LtxError::DatabaseChecksum);
    }
    Ok(header.to_bytes())
}

/// Hashes and compresses one page after the other.
struct Packer {
    page_size: PageSize,
    table: CompressTable,
    crc: Crc64,
}

impl Packer {
    fn new(page_size: PageSize) -> Packer {
        // The small table accepts inputs of up to 65534 bytes.
        let table = if page_size < PageSize::MAX { CompressTable::small() } else { CompressTable::large() };
        Packer { page_size, table, crc: Crc64::new() }
    }

    /// Writes the frame of a page at offset `at` of `out`, where the earlier frames end, and
    /// returns its length. The next frame uses the spare bytes of `out` after that, so in total no
    /// more is zeroed than written.
    fn pack(&mut self, pgno: Pgno, page: &[u8], out: &mut Vec<u8>, at: usize) -> Result<u32, LtxError> {
        let expected = self.page_size.bytes();
        if page.len() != expected {
            return Err(LtxError::PageLength { pgno, expected, found: page.len() });
        }
        let room = at + HEAD + get_maximum_output_size(expected);
        if out.len() < room {
            out.resize(room, 0);
        }
        let (head, payload) = out[at..room].split_at_mut(HEAD);
        let len = compress_into_with_table(page, payload, &mut self.table)
            .expect("the room is the one that the compressor asks for");
        assert!(len <= payload_len_max(self.page_size), "LZ4 block of page {pgno} is {len} bytes long");
        head.copy_from_slice(&frame::head(pgno, len));
        self.crc.update(head);
        self.crc.update(page);
        Ok((HEAD + len) as u32)
    }
}

/// A run of frames, compressed by one core. An [`Encoder`] puts it into its place in the file.
#[derive(Debug)]
pub struct FrameBlock {
    page_size: PageSize,
    bytes: Bytes,
    /// Page and frame length of each frame in `bytes`.
    frames: Vec<(Pgno, u32)>,
    crc: u64,
    crc_len: u64,
}

impl FrameBlock {
    /// Compresses pages.
    ///
    /// # Errors
    /// [`LtxError::PageLength`]. Everything else is checked when the block is pushed.
    #[cfg(feature = "internals")]
    pub fn encode<'a>(
        page_size: PageSize,
        pages: impl IntoIterator<Item = (Pgno, &'a [u8])>,
    ) -> Result<FrameBlock, LtxError> {
        FrameBlock::encode_in(Spare::default(), page_size, pages)
    }

    /// Compresses pages into the memory of `buffer`, which returns to its pool once the bytes of
    /// the block are dropped.
    ///
    /// # Errors
    /// [`LtxError::PageLength`]. Everything else is checked when the block is pushed.
    pub fn encode_in<'a>(
        buffer: Spare,
        page_size: PageSize,
        pages: impl IntoIterator<Item = (Pgno, &'a [u8])>,
    ) -> Result<FrameBlock, LtxError> {
        let pages = pages.into_iter();
        let mut builder = BlockBuilder::over(buffer, page_size, pages.size_hint().0);
        for (pgno, page) in pages {
            builder.push(pgno, page)?;
        }
        Ok(builder.finish())
    }

    /// Number of pages.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn pages(&self) -> usize {
        self.frames.len()
    }
}

/// Builds a [`FrameBlock`] page by page, for sources that lend one page at a time.
pub struct BlockBuilder {
    packer: Packer,
    bytes: Spare,
    end: usize,
    frames: Vec<(Pgno, u32)>,
}

impl BlockBuilder {
    /// Creates an empty block.
    #[must_use]
    pub fn new(page_size: PageSize) -> BlockBuilder {
        BlockBuilder::over(Spare::default(), page_size, 0)
    }

    /// Creates an empty block in `buffer`, with memory for `pages` pages, however badly they
    /// compress.
    fn over(mut buffer: Spare, page_size: PageSize, pages: usize) -> BlockBuilder {
        let slack = HEAD + get_maximum_output_size(page_size.bytes());
        let bytes = pages.saturating_mul(HEAD + payload_len_max(page_size)).saturating_add(slack);
        if pages > 0 && buffer.capacity() < bytes {
            // The old content of the buffer has no meaning.
            buffer.clear();
            buffer.reserve_exact(bytes);
        }
        BlockBuilder {
            packer: Packer::new(page_size),
            bytes: buffer,
            end: 0,
            frames: Vec::with_capacity(pages),
        }
    }

    /// Compresses one page.
    ///
    /// # Errors
    /// [`LtxError::PageLength`].
    pub fn push(&mut self, pgno: Pgno, page: &[u8]) -> Result<(), LtxError> {
        let len = self.packer.pack(pgno, page, &mut self.bytes, self.end)?;
        self.end += len as usize;
        self.frames.push((pgno, len));
        Ok(())
    }

    /// Number of compressed bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.end
    }

    /// Returns the finished block.
    #[must_use]
    pub fn finish(self) -> FrameBlock {
        let page_size = self.packer.page_size;
        let crc_len = self.frames.len() as u64 * (HEAD + page_size.bytes()) as u64;
        FrameBlock {
            page_size,
            bytes: self.bytes.into_bytes(self.end),
            frames: self.frames,
            crc: self.packer.crc.value(),
            crc_len,
        }
    }
}

/// Assembles a file from blocks, in the order of its pages.
#[derive(Debug)]
pub struct Encoder {
    header: Header,
    order: PageOrder,
    index: IndexWriter,
    /// CRC of what the file checksum covers after the header, and its length.
    crc: u64,
    crc_len: u64,
    size: u64,
}

impl Encoder {
    /// Begins a file. The returned bytes are its first ones.
    ///
    /// # Errors
    /// The header is not one of a replica.
    #[cfg(feature = "internals")]
    pub fn new(header: Header) -> Result<(Encoder, Bytes), LtxError> {
        Encoder::spilling(header, None)
    }

    /// Begins a file of any number of pages. The returned bytes are its first ones. The part of the
    /// page index beyond [`limits::INDEX_BYTES`](crate::base::limits::INDEX_BYTES) goes to a
    /// temporary file in `place`, an existing folder. Finish such a file with [`Encoder::end`].
    ///
    /// # Errors
    /// The header is not one of a replica.
    pub fn spilling(header: Header, place: Option<PathBuf>) -> Result<(Encoder, Bytes), LtxError> {
        let bytes = writable(&header)?;
        let order = PageOrder::new(&header);
        let (index, crc, size) = (IndexWriter::spilling(place), Crc64::new().value(), HEADER_LEN as u64);
        let encoder = Encoder { header, order, index, crc, crc_len: 0, size };
        Ok((encoder, Bytes::copy_from_slice(&bytes)))
    }

    /// Adds a block. The returned bytes are the next ones of the file; they are not copied.
    ///
    /// # Errors
    /// Pages do not ascend or do not fit the header. The file cannot be finished then.
    pub fn push(&mut self, block: FrameBlock) -> Result<Bytes, LtxError> {
        if block.page_size != self.header.page_size {
            let (before, after) = (self.header.page_size.get(), block.page_size.get());
            return Err(LtxError::PageSizeChanges { before, after });
        }
        for &(pgno, len) in &block.frames {
            self.order.accept(pgno)?;
            self.index.push(pgno, self.size, len);
            self.size += u64::from(len);
        }
        self.crc = combine(self.crc, block.crc, block.crc_len);
        self.crc_len += block.crc_len;
        Ok(block.bytes)
    }

    /// Notes the checksum of the database, which is often known only when all pages have been
    /// read. Returns the header with it. It must replace the first bytes of the file.
    #[allow(dead_code)]
    #[must_use]
    pub fn set_checksum(&mut self, checksum: DatabaseChecksum) -> Bytes {
        self.header.checksum = Some(checksum);
        Bytes::copy_from_slice(&self.header.to_bytes())
    }

    /// CRC of the header and everything after it so far.
    fn crc_with_header(&self) -> u64 {
        combine(crc64(&self.header.to_bytes()), self.crc, self.crc_len)
    }

    /// Ends the file. Returns its last bytes, its trailer and its size.
    ///
    /// # Errors
    /// [`LtxError::SnapshotGap`] if a file that begins at TXID 1 lacks a page.
    #[cfg(feature = "internals")]
    pub fn finish(self) -> Result<(Bytes, Trailer, u64), LtxError> {
        let crc = self.crc_with_header();
        self.order.finish()?;
        let mut tail = Vec::with_capacity(self.index.len() as usize + HEAD_SHORT + 1 + 8 + TRAILER_LEN);
        self.index.finish(&mut tail);
        let post_apply = 0u64;
        tail.extend_from_slice(&post_apply.to_be_bytes());
        let crc = combine(crc, crc64(&tail), tail.len() as u64);
        let trailer = Trailer { post_apply, file_checksum: crc | CHECKSUM_FLAG };
        tail.extend_from_slice(&trailer.file_checksum.to_be_bytes());
        let size = self.size + tail.len() as u64;
        Ok((Bytes::from(tail), trailer, size))
    }

    /// Ends the file. Its last bytes are returned in pieces, because a large file has a large page
    /// index.
    ///
    /// # Errors
    /// [`LtxError::SnapshotGap`] if a file that begins at TXID 1 lacks a page.
    pub fn end(self) -> Result<Ending, LtxError> {
        let crc = self.crc_with_header();
        self.order.finish()?;
        let index_len = self.index.len();
        let size = self.size + index_len + (HEAD_SHORT + 1 + 8 + TRAILER_LEN) as u64;
        Ok(Ending { index: self.index, index_len, crc, size, at: None, done: false })
    }
}

/// The last bytes of a file, in pieces.
#[derive(Debug)]
pub struct Ending {
    index: IndexWriter,
    index_len: u64,
    crc: u64,
    size: u64,
    /// Number of bytes of the index that were returned; `None` before the terminator.
    at: Option<u64>,
    done: bool,
}

impl Ending {
    /// Length of the whole file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// [`LtxError::IndexFile`] if the temporary file cannot be read.
    pub fn piece(&mut self) -> Result<Option<Bytes>, LtxError> {
        if self.done {
            return Ok(None);
        }
        let Some(at) = self.at else {
            self.at = Some(0);
            return Ok(Some(self.covered(TERMINATOR.to_vec())));
        };
        if at < self.index_len {
            let piece = self.index.piece(at).map_err(LtxError::IndexFile)?;
            self.at = Some(at + piece.len() as u64);
            return Ok(Some(self.covered(piece)));
        }
        assert_eq!(at, self.index_len, "all of the index has been given");
        self.done = true;
        let mut last = vec![0];
        last.extend_from_slice(&(self.index_len + 1).to_be_bytes());
        last.extend_from_slice(&0u64.to_be_bytes());
        let crc = combine(self.crc, crc64(&last), last.len() as u64) | CHECKSUM_FLAG;
        last.extend_from_slice(&crc.to_be_bytes());
        Ok(Some(last.into()))
    }

    fn covered(&mut self, bytes: Vec<u8>) -> Bytes {
        self.crc = combine(self.crc, crc64(&bytes), bytes.len() as u64);
        bytes.into()
    }
}
