//! Entry points for the fuzz targets, built only with `--cfg fuzzing`.

use super::mark::{self, Mark};
use crate::base::Pgno;

/// Reads the mark in page 1 of a standby. A mark that is valid must survive being written and read
/// again.
pub fn mark(page: &[u8]) {
    let Some(found) = Mark::of(page) else { return };
    if found.txid <= mark::TXID_MAX {
        let mut again = page.to_vec();
        found.put(&mut again);
        assert_eq!(Mark::of(&again), Some(found));
        mark::clear(&mut again);
        assert_eq!(Mark::of(&again), None);
        if page.len() >= 512 {
            assert_eq!(mark::share(Pgno::FIRST, &again), mark::share(Pgno::FIRST, page));
        }
    }
}
