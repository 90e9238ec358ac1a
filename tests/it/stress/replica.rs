//! What lsfast stored during a run: no hole, no image of the whole database after the first, and
//! repairs that are no larger than what changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use lsfast::base::{Level, LtxId, Txid};

use crate::support::ltx_file::{
    Pages, {self},
};

/// Stands in the log wherever a new process began.
pub const STARTED: &str = "--- lsfast starts ---";

/// Bytes of a file that are not pages: header, trailer, end marks.
const FRAME_OF_FILE: usize = 200;

/// What the replica shows.
#[derive(Debug, Default)]
pub struct Stored {
    pub files: u64,
    pub repairs: u64,
}

/// Checks level 0 against the log.
///
/// A run without VACUUM leaves the cold pages alone, so a file with all pages is an image. A VACUUM
/// changes all pages itself, and several may be in one file.
pub fn check(level_0: &Path, log: &str, vacuums: u64) -> anyhow::Result<Stored> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(level_0).with_context(|| level_0.display().to_string())? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        // Drafts of a killed lsfast may lie about.
        ids.extend(LtxId::parse_file_name(Level::RAW, &name));
    }
    ids.sort_unstable();
    let repairs = repairs(log);
    let (mut images, mut state) = (Vec::new(), Pages::new());
    // The first image may be gone from level 0, if level 9 has it and a batch has followed.
    let image = LtxId::new(Level::SNAPSHOT, Txid(1), Txid(1))?;
    let is_stored_once = level_0.with_file_name("9").join(image.file_name()).exists();
    let first = if ids.first().is_some_and(|id| id.min == Txid(2)) && is_stored_once {
        let bytes = fs::read(level_0.with_file_name("9").join(image.file_name()))?;
        state.extend(ltx_file::stream(&bytes, usize::MAX).context("the image of level 9")?.pages);
        2
    } else {
        1
    };
    for (id, txid) in ids.iter().zip(first..) {
        ensure!((id.min, id.max) == (Txid(txid), Txid(txid)), "{id} stands where TXID {txid} should");
        let name = id.file_name();
        let bytes = fs::read(level_0.join(&name))?;
        let file = ltx_file::stream(&bytes, usize::MAX).context(name)?;
        let header = &file.header;
        ensure!((header.min, header.max) == (id.min, id.max), "{id} says {header:?}");
        if txid > 1 && file.pages.len() as u32 == header.commit {
            images.push(id);
        }
        state.retain(|pgno, _| *pgno <= header.commit);
        let changed = file.pages.iter().filter(|(pgno, page)| state.get(pgno) != Some(page)).count();
        let bytes_max = changed * header.page_size.bytes() * 6 / 5 + FRAME_OF_FILE;
        ensure!(
            !repairs.contains(&txid) || bytes.len() <= bytes_max,
            "repair {id} has {} pages in {} bytes, but {changed} pages changed",
            file.pages.len(),
            bytes.len()
        );
        state.extend(file.pages);
    }
    ensure!(
        images.len() as u64 <= vacuums,
        "{} full images after the first, with {vacuums} vacuums: {images:?}",
        images.len()
    );
    let more = log.lines().filter_map(|line| txid_of(line, "\"image stored\"")).find(|txid| *txid != 1);
    ensure!(more.is_none(), "the log tells of an image as TXID {more:?}");
    Ok(Stored { files: ids.len() as u64, repairs: repairs.len() as u64 })
}

/// The TXIDs with which lsfast stored what a comparison of page hashes had found.
fn repairs(log: &str) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut compared = false;
    for line in log.lines() {
        if line.contains(STARTED) {
            compared = false;
        } else if line.contains("msg=\"compared page hashes") {
            // Where nothing differs nothing is stored, and the file that is named
            // next is the one before.
            compared = !line.contains(" pages=0 ");
        } else if let Some(txid) = txid_of(line, "stored").filter(|_| compared) {
            compared = false;
            found.insert(txid);
        }
    }
    found
}

/// The TXID of a line with this message.
fn txid_of(line: &str, message: &str) -> Option<u64> {
    line.contains(&format!("msg={message} ")).then_some(())?;
    let txid = line.split(' ').find_map(|field| field.strip_prefix("txid="))?;
    u64::from_str_radix(txid, 16).ok()
}

#[test]
fn repairs_are_read_from_the_log() {
    let log = "\
        time=1 level=debug msg=stored db=a txid=0000000000000002 pages=3\n\
        time=1 level=info msg=\"compared page hashes; storing the pages that differ\" db=a pages=2\n\
        --- lsfast starts ---\n\
        time=1 level=debug msg=stored db=a txid=0000000000000003 pages=3\n\
        time=1 level=info msg=\"compared page hashes; storing the pages that differ\" db=a pages=2\n\
        time=1 level=debug msg=stored db=a txid=000000000000000a pages=3\n\
        time=1 level=debug msg=stored db=a txid=000000000000000b pages=3\n\
        time=1 level=info msg=\"compared page hashes; storing the pages that differ\" db=a pages=0 of=9\n\
        time=1 level=debug msg=stored db=a txid=000000000000000b pages=0\n";
    assert_eq!(repairs(log), BTreeSet::from([10]));
    let image = "level=info msg=\"image stored\" db=a txid=0000000000000001 bytes=3";
    assert_eq!(txid_of(image, "\"image stored\""), Some(1));
}
