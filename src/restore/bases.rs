//! Looks for files with all pages that do not begin at TXID 1.
//!
//! A restore may begin with such a file where no image leads to the wanted state, because its files
//! are damaged or missing. It is found among the largest files, by the header and the page index.

use super::damage::{self, Damaged};
use super::object::Object;
use super::{RestoreError, times};
use crate::base::{Txid, limits};
use crate::ltx::{Tail, TailState};
use crate::store::{Entry, Store};

/// Bytes of the first read at the end of a file, where the page index is.
const TAIL_BYTES: u64 = 16 << 10;

/// How many of the largest files are looked at.
const FILES: usize = 4;

/// Adds files with all pages that may lead to `wanted`. True if one is found that was not known.
/// Takes two small requests for each file that is looked at.
///
/// # Errors
/// An error of the store. A file that cannot be read is passed over.
pub(super) async fn find(
    store: &dyn Store,
    files: &[Entry],
    damaged: &mut Damaged,
    wanted: Txid,
) -> Result<bool, RestoreError> {
    let mut largest = damaged.sound(files);
    largest.retain(|e| e.id.min.0 > 1 && e.id.max <= wanted);
    largest.sort_unstable_by_key(|e| std::cmp::Reverse((e.size, e.id.max)));
    let mut found = false;
    for entry in largest.into_iter().take(FILES) {
        match has_all_pages(store, &entry).await {
            Ok(true) => found |= damaged.add_base(entry.id),
            Ok(false) => {}
            Err(e) if damage::fault(&e).is_some() || damage::moved(&e).is_some() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// Whether a file has every page of the database. The lock page is in no file.
async fn has_all_pages(store: &dyn Store, entry: &Entry) -> Result<bool, RestoreError> {
    let header = times::header(store, entry).await?;
    let pages = header.commit - u32::from(header.page_size.lock_page().get() <= header.commit);
    let mut want = TAIL_BYTES;
    loop {
        let tail = store.get(entry.id, entry.size.saturating_sub(want)..entry.size).await;
        let tail = tail.map_err(|e| damage::of_read(store, Object::Ltx(entry.id), e))?;
        match Tail::parse(entry.size, &tail) {
            Ok(TailState::Parsed(tail)) => return Ok(pages > 0 && tail.index.len() == pages as usize),
            Ok(TailState::NeedMore(more)) if more > want && more <= limits::XML_BYTES as u64 * 8 => {
                want = more;
            }
            _ => return Ok(false),
        }
    }
}
