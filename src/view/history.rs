//! The files between two states.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::source::{Needed, Source};
use super::stored_file::StoredFile;
use super::{Replica, ViewError};
use crate::base::clock::Millis;
use crate::base::{Level, Txid};
use crate::restore::{RestoreError, Until};
use crate::store::Entry;

/// The files that lead from one state to another, oldest first, in steps as small as the replica
/// has them.
#[derive(Debug)]
pub struct History {
    changes: Vec<Change>,
}

/// What one file changes: the pages that differ between the states before and after it, and
/// perhaps some that do not.
#[derive(Debug, Clone)]
pub struct Change {
    replica: Replica,
    file: Arc<StoredFile>,
    numbers: Arc<[u32]>,
}

impl History {
    /// Finds the files of the TXIDs after `from` up to `to`. Lists them, and reads the page index
    /// of each file. `from` 0 means from the beginning.
    ///
    /// # Errors
    /// [`ViewError::NoHistory`], if the files leave a gap or do not begin or end there.
    pub fn files(replica: &Replica, from: Txid, to: Txid) -> Result<History, ViewError> {
        let mut source = Source::list(replica, Needed::Steps(from, to))?;
        loop {
            let chain = match chain(&source.sound(), from, to) {
                Ok(chain) => chain,
                Err(_) if source.complete(replica)? => continue,
                Err(reached) => {
                    let url = replica.store().url().to_owned();
                    return Err(ViewError::NoHistory { url, from, to, reached });
                }
            };
            match opened(replica, &chain) {
                Ok(changes) => return Ok(History { changes }),
                Err(e) => source.around(replica, e)?,
            }
        }
    }

    /// Finds the newest `count` steps that end at `to`. They begin at a state that can be read,
    /// not before `after`. Also returns whether there are older ones.
    ///
    /// # Errors
    /// [`ViewError`], if the replica cannot be listed or a file cannot be read.
    pub fn newest(
        replica: &Replica,
        after: Txid,
        to: Txid,
        count: usize,
    ) -> Result<(History, bool), ViewError> {
        // A step has at least one TXID.
        let listed = Txid(to.0.saturating_sub(count as u64).max(after.0));
        let mut source = Source::list(replica, Needed::Steps(listed, to))?;
        loop {
            let files = source.sound();
            let mut steps = Vec::new();
            for from in reachable(&files, after, to) {
                let readable = from == Txid(0)
                    || source.choose(replica, Until::Txid(from)).is_ok_and(|(c, _)| c.txid() == Some(from));
                if readable && let Ok(found) = chain(&files, from, to) {
                    steps = found;
                    break;
                }
            }
            if steps.len() <= count && source.complete(replica)? {
                continue;
            }
            let first = steps.len().saturating_sub(count);
            match opened(replica, &steps[first..]) {
                Ok(changes) => return Ok((History { changes }, first > 0)),
                Err(e) => source.around(replica, e)?,
            }
        }
    }

    /// The files, oldest first. Each begins at the TXID after the last one of the file before.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

/// Opens files with the numbers of their pages.
fn opened(replica: &Replica, entries: &[Entry]) -> Result<Vec<Change>, RestoreError> {
    let of = |file: Arc<StoredFile>| {
        let numbers = replica.driver().run(file.numbers(&**replica.store()))?.into();
        Ok(Change { replica: replica.clone(), file, numbers })
    };
    replica.files(entries)?.into_iter().map(of).collect()
}

impl Change {
    /// The file in the listing, with its level and its TXIDs.
    #[must_use]
    pub fn entry(&self) -> Entry {
        self.file.entry()
    }

    /// When the file was made. For files of levels below 9 that is the time of their last state.
    #[must_use]
    pub fn time(&self) -> Millis {
        self.file.header().timestamp
    }

    /// Pages of the database after this file.
    #[must_use]
    pub fn page_count(&self) -> u32 {
        self.file.header().commit
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_size(&self) -> u32 {
        self.file.header().page_size.get()
    }

    /// The numbers of the pages that the file has, ascending.
    #[must_use]
    pub fn numbers(&self) -> Vec<u32> {
        self.numbers.to_vec()
    }

    /// The image of a page after this file, which must be one of [`Change::numbers`].
    ///
    /// # Errors
    /// [`ViewError`], if the page cannot be read, or if the file does not have it.
    pub fn page(&self, number: u32) -> Result<Arc<[u8]>, ViewError> {
        let Some(entry) = self.replica.locate(&self.file, number)? else {
            let id = self.file.entry().id;
            return Err(ViewError::NotChanged { number, txids: format!("{}-{}", id.min, id.max) });
        };
        Ok(self.replica.page(&self.file, entry)?)
    }
}

/// The states from which files without images lead to `to`, oldest first, and at most some of them:
/// those at which a file ends, and the beginning.
fn reachable(files: &[Entry], after: Txid, to: Txid) -> Vec<Txid> {
    const TRIED: usize = 64;
    let ends: BTreeSet<Txid> = files.iter().map(|e| e.id.max).chain([Txid(0)]).collect();
    let mut by_end: BTreeMap<Txid, Vec<Txid>> = BTreeMap::new();
    for entry in files.iter().filter(|e| e.id.level != Level::SNAPSHOT && e.id.max <= to) {
        by_end.entry(entry.id.max).or_default().push(Txid(entry.id.min.0 - 1));
    }
    let mut found = BTreeSet::new();
    let mut waiting = vec![to];
    while let Some(end) = waiting.pop() {
        for begin in by_end.get(&end).into_iter().flatten() {
            if *begin >= after && found.insert(*begin) {
                waiting.push(*begin);
            }
        }
    }
    found.into_iter().filter(|txid| ends.contains(txid)).take(TRIED).collect()
}

/// The files that lead from `from` to `to` without images, the smallest steps first; the last TXID
/// that is reached if they do not lead there.
fn chain(files: &[Entry], from: Txid, to: Txid) -> Result<Vec<Entry>, Txid> {
    let fits = |e: &&Entry| e.id.min > from && e.id.max <= to && e.id.level != Level::SNAPSHOT;
    let mut fitting: Vec<&Entry> = files.iter().filter(fits).collect();
    // Of the files that begin at one TXID, the one that ends first.
    fitting.sort_unstable_by_key(|e| (e.id.min, e.id.max, e.id.level));
    let mut reached = from;
    let mut chain: Vec<Entry> = Vec::new();
    // A smaller step may lead nowhere, where a larger one goes on. So the search begins at the end.
    let mut best: BTreeMap<Txid, (usize, Entry)> = BTreeMap::new();
    for entry in fitting.iter().rev() {
        let steps =
            if entry.id.max == to { Some(0) } else { best.get(&entry.id.max.next()).map(|(n, _)| *n) };
        let Some(steps) = steps else { continue };
        let known = best.get(&entry.id.min).map(|(n, _)| *n);
        if known.is_none_or(|n| steps + 1 >= n) {
            best.insert(entry.id.min, (steps + 1, **entry));
        }
    }
    while reached < to {
        let Some((_, next)) = best.get(&reached.next()) else {
            let follows = fitting.iter().filter(|e| e.id.min == reached.next()).map(|e| e.id.max).max();
            return Err(follows.unwrap_or(reached));
        };
        chain.push(*next);
        reached = next.id.max;
    }
    Ok(chain)
}
