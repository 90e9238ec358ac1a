//! The file of a batch whose pages are all in memory.

use bytes::Bytes;

use crate::base::clock::Millis;
use crate::base::{LtxId, Pgno};
use crate::ltx::{Header, LtxError, encode_file, set_checksum};
use crate::replicate::pending::{Mark, Page, Pending};
use crate::replicate::state::next_checksum::NextChecksum;
use crate::replicate::state::page_hashes::hash_page;
use crate::replicate::state::{Point, print_of};

/// A batch with more pages than this is compressed on a worker thread.
pub(super) const INLINE_PAGES: usize = 64;

/// An encoded batch, ready to be uploaded.
pub(super) struct Batch {
    pub(super) id: LtxId,
    pub(super) point: Point,
    pub(super) mark: Mark,
    pub(super) created: Millis,
    pub(super) bytes: Bytes,
    pub(super) hashes: Vec<(Pgno, u128)>,
}

impl Batch {
    pub(super) fn new(mark: Mark, (header, bytes, hashes): Encoded) -> Batch {
        let (pos, size_pages, print) = (mark.pos, mark.size_pages, print_of(&header));
        let point = Point { txid: header.max, pos, size_pages, print, checksum: header.checksum };
        let (id, created) = (LtxId::raw(header.max), header.timestamp);
        Batch { id, point, mark, created, bytes: bytes.into(), hashes }
    }
}

/// A batch made of a transaction that was not published when it was encoded.
pub struct Prepared {
    /// The mark before that transaction.
    pub(super) before: Mark,
    /// The durable point when it was encoded, on which its checksum and its range of the WAL rest.
    pub(super) durable: Point,
    pub(super) batch: Batch,
}

/// The pages of a batch, sorted; all have images.
pub(super) fn sorted(pending: Pending, mark: &Mark) -> Vec<(Pgno, Page)> {
    pending.into_sorted(mark.size_pages)
}

/// The header and the bytes of a file, and the hashes of its pages.
pub(super) type Encoded = (Header, Vec<u8>, Vec<(Pgno, u128)>);

/// Makes the file of a batch. Each page is hashed when it is compressed. Hashing later would read
/// it from memory again, and would need all pages until the store has answered.
pub(super) fn encode(
    mut header: Header,
    pages: &[(Pgno, Page)],
    seed: u64,
    checksum: Option<NextChecksum>,
) -> Result<Encoded, LtxError> {
    let mut hashes = Vec::with_capacity(pages.len());
    let hashed = pages.iter().map(|(p, page)| {
        hashes.push((*p, hash_page(seed, *p, page)));
        (*p, &**page)
    });
    let mut bytes = encode_file(&header, hashed)?;
    if let Some(mut checksum) = checksum {
        checksum.take(&hashes);
        if let Some(checksum) = checksum.finish() {
            set_checksum(&mut bytes, &mut header, pages.len(), checksum);
        }
    }
    Ok((header, bytes, hashes))
}
