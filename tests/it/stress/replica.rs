//! What lsfast stored during a run: no hole, and no image of the whole database after the first.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use lsfast::base::{Level, LtxId, Txid};

use crate::support::ltx_file;

/// Checks level 0 and gives its number of files.
///
/// A run without VACUUM leaves the cold pages alone, so a file with all pages is an image. A VACUUM changes all
/// pages itself, and several may be in one file.
pub fn check(level_0: &Path, vacuums: u64) -> anyhow::Result<u64> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(level_0).with_context(|| level_0.display().to_string())? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        // Drafts of a killed lsfast may lie about.
        ids.extend(LtxId::parse_file_name(Level::RAW, &name));
    }
    ids.sort_unstable();
    let mut images = Vec::new();
    for (id, txid) in ids.iter().zip(1..) {
        ensure!((id.min, id.max) == (Txid(txid), Txid(txid)), "{id} stands where TXID {txid} should");
        let name = id.file_name();
        let file = ltx_file::stream(&fs::read(level_0.join(&name))?, usize::MAX).context(name)?;
        let header = &file.header;
        ensure!((header.min, header.max) == (id.min, id.max), "{id} says {header:?}");
        if txid > 1 && file.pages.len() as u32 == header.commit {
            images.push(id);
        }
    }
    ensure!(
        images.len() as u64 <= vacuums,
        "{} full images after the first, with {vacuums} vacuums: {images:?}",
        images.len()
    );
    Ok(ids.len() as u64)
}
