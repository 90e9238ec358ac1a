//! Applies one or more files in one transaction: reads them from the newest to the oldest, checks
//! them, and writes each page once.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::FollowError;
use super::lineage::Made;
use super::mark::TXID_MAX;
use super::replica::{Apply, Replica};
use crate::base::{LtxId, Txid};
use crate::ltx::{Decoder, Header, LtxError, Step};
use crate::restore::claims::Claims;

/// The next bytes of the files.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// Whether the file ends with this piece.
    pub(super) is_last: bool,
    /// Memory budget of `bytes`, returned when the piece is dropped.
    pub(super) hold: Option<Arc<OwnedSemaphorePermit>>,
}

/// The state that has become visible to readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Applied {
    /// Header of the newest file.
    pub(super) header: Header,
    pub(super) made: Made,
}

/// Applies `files`, ordered from the newest to the oldest. `pieces` has their bytes in the same
/// order. Blocks its thread.
pub(super) fn apply(
    replica: &mut Replica,
    url: &str,
    files: &[LtxId],
    pieces: impl Iterator<Item = Piece>,
) -> Result<Applied, FollowError> {
    let position = replica.txid();
    let mut reading = Reading { url, pages: replica.pages(), claims: None, newest: None, position };
    let mut pieces = pieces;
    let mut apply = replica.apply()?;
    for (i, &id) in files.iter().enumerate() {
        reading.file(&mut apply, id, files.get(i + 1), &mut pieces)?;
    }
    let (Some(header), Some(claims), Some(newest)) = (reading.newest, reading.claims, files.first()) else {
        return Err(FollowError::Interrupted);
    };
    if let Some(missing) = claims.missing_above(reading.pages) {
        return Err(FollowError::Missing { file: *newest, txid: header.max, pages: header.commit, missing });
    }
    let made = Made::by(&header, newest.level);
    apply.shorten(header.commit)?;
    if let Err(found) = apply.checksum().must_be(header.checksum) {
        let expected = header.checksum.unwrap_or_default();
        let (file, oldest) = (*newest, *files.last().unwrap_or(newest));
        return Err(FollowError::Checksum { url: url.to_owned(), file, oldest, position, expected, found });
    }
    apply.finish(header.max, made, header.commit)?;
    Ok(Applied { header, made })
}

struct Reading<'a> {
    url: &'a str,
    position: Txid,
    /// The shortest length so far, in pages, of the database and of the states of the files. Each
    /// page above has to be in one of the files.
    pages: u32,
    claims: Option<Claims>,
    newest: Option<Header>,
}

impl Reading<'_> {
    fn file(
        &mut self,
        apply: &mut Apply<'_>,
        id: LtxId,
        older: Option<&LtxId>,
        pieces: &mut impl Iterator<Item = Piece>,
    ) -> Result<(), FollowError> {
        let corrupt = |cause: LtxError| FollowError::Corrupt { id, url: self.url.to_owned(), cause };
        let mut decoder = Decoder::new();
        loop {
            let Some(piece) = pieces.next() else { return Err(FollowError::Interrupted) };
            let mut input = &piece.bytes[..];
            loop {
                match decoder.step(&mut input).map_err(corrupt)? {
                    Step::NeedInput => break,
                    Step::Header => {
                        let header = *decoder.header().expect("a step says that it is there");
                        let follows = older.map_or(self.position, |o| o.max);
                        header_fits(&header, id, follows, apply)?;
                        self.pages = self.pages.min(header.commit);
                        match &mut self.claims {
                            Some(claims) => claims.next_file(header.commit),
                            None => self.claims = Some(Claims::new(header.commit, header.page_size)),
                        }
                        if self.newest.is_none() {
                            apply.has_room_for(header.commit)?;
                        }
                        self.newest.get_or_insert(header);
                    }
                    Step::Page(pgno) => {
                        if self.claims.as_mut().is_some_and(|c| c.claim(pgno)) {
                            apply.page(pgno, decoder.page())?;
                        }
                    }
                }
            }
            drop(piece.hold);
            if piece.is_last {
                decoder.finish().map_err(corrupt)?;
                return Ok(());
            }
        }
    }
}

/// Checks that the file is what its name says, follows the file before it, and has the page size of
/// the database.
fn header_fits(header: &Header, id: LtxId, follows: Txid, apply: &Apply<'_>) -> Result<(), FollowError> {
    apply.page_size_is(header.page_size)?;
    let (min, max) = (header.min, header.max);
    if (min, max) != (id.min, id.max) || min.0 > follows.0.saturating_add(1) || max > TXID_MAX {
        return Err(FollowError::Order { id, position: follows, min, max });
    }
    Ok(())
}
