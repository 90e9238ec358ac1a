//! Writes the fetched pages into the database.

use std::io;
use std::time::Duration;

use super::fetch::Fetched;
use super::journal;
use crate::base::checksum::page_hash;
use crate::base::{Pgno, limits};
use crate::io::File;
use crate::io::durable::{Directory, Existing, Pending, temporary_beside};
use crate::restore::{ProvenBy, Report, RestoreError, Verdict, check_integrity, remove_leftovers, take_over};

/// Mode of the journal before it gets that of the database.
const MODE: u32 = 0o600;

/// One step that changes what is on the disk. Tests record and stop them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// Bytes of the database at an offset.
    Write(u64, &'a [u8]),
    /// The length of the database.
    Length(u64),
    /// The flush of the database.
    Flush,
    /// The journal has its name, and is flushed.
    Journal,
    /// The journal is removed.
    Commit,
    /// The directory is flushed.
    Folder,
}

/// Sees each step before it is made. An error takes its place.
pub(super) type Watch<'a> = &'a mut dyn FnMut(Step<'_>) -> io::Result<()>;

impl Fetched {
    /// Writes the pages. Not to be interrupted: what was begun ends or is rolled back. Blocks its
    /// thread.
    ///
    /// # Errors
    /// [`RestoreError`]. The database is as it was; after [`RestoreError::HalfDone`], once SQLite
    /// opens it.
    pub fn apply(self) -> Result<Report, RestoreError> {
        self.apply_watched(&mut |_| Ok(()))
    }

    pub(super) fn apply_watched(self, watch: Watch<'_>) -> Result<Report, RestoreError> {
        let local = &self.plan.local;
        local.is_unchanged()?;
        let verdict = if self.pages.is_empty() && local.pages == self.plan.found.header.commit {
            self.check()?
        } else {
            self.replace(watch)?
        };
        Ok(self.report(verdict))
    }

    fn replace(&self, watch: Watch<'_>) -> Result<Verdict, RestoreError> {
        let local = &self.plan.local;
        remove_leftovers(&local.path);
        let journal = Pending::create(temporary_beside(&local.path), MODE).map_err(|e| {
            RestoreError::output("write", &local.sibling("-journal"), self.journal_bytes(), e)
        })?;
        let folder = journal.directory();
        self.write_journal(journal, &folder, watch)?;
        let done = self.write_pages(watch).and_then(|()| self.prove()).and_then(|()| self.check());
        match done {
            Ok(verdict) => {
                let removed = self.remove_journal(&folder, watch);
                removed.map_err(|e| self.half_done("remove the journal of", &e))?;
                // From here on the database is the wanted state.
                let flushed = flush(&folder, watch);
                let path = &self.plan.local.path;
                flushed
                    .map_err(|e| RestoreError::output("flush the directory of the changed", path, 0, e))?;
                Ok(verdict)
            }
            Err(e) => match self.roll_back(&folder, watch) {
                Ok(()) => Err(e),
                Err(why) => Err(self.half_done("roll back", &io::Error::other(format!("{why}, after: {e}")))),
            },
        }
    }

    fn half_done(&self, what: &'static str, cause: &io::Error) -> RestoreError {
        let path = self.plan.local.path.clone();
        RestoreError::HalfDone { what, path, cause: cause.to_string() }
    }

    /// Length of the journal.
    fn journal_bytes(&self) -> u64 {
        let record = self.plan.local.page_size.bytes() + journal::RECORD;
        (journal::SECTOR + self.plan.replaced().count() * record) as u64
    }

    /// Gives the journal its name, complete and flushed. Files of an earlier journal or WAL have no
    /// content that counts, and are removed.
    fn write_journal(
        &self,
        journal: Pending,
        folder: &Directory,
        watch: Watch<'_>,
    ) -> Result<(), RestoreError> {
        let local = &self.plan.local;
        let name = local.sibling("-journal");
        let failed = |e| RestoreError::output("write", &name, self.journal_bytes(), e);
        // Tells other restores that this file is in use, until it has its name.
        journal.file().std().lock().map_err(failed)?;
        take_over(local.stat(), journal.file());
        let nonce = fastrand::u32(..);
        let mut out = vec![0; journal::SECTOR];
        let (mut at, mut records) = (0, 0);
        let mut page = vec![0; local.page_size.bytes()];
        for pgno in self.plan.replaced() {
            let read = local.file.pread_exact(&mut page, pgno.offset(local.page_size));
            read.map_err(|e| RestoreError::output("read", &local.path, 0, e))?;
            if local.hash(pgno) != Some(page_hash(pgno, &page)) {
                return Err(RestoreError::Changed { path: local.path.clone() });
            }
            journal::record(&mut out, nonce, pgno, &page);
            records += 1;
            if out.len() >= limits::RESTORE_WRITE_BYTES {
                journal.file().pwrite_all(&out, at).map_err(failed)?;
                at += out.len() as u64;
                out.clear();
            }
        }
        journal.file().pwrite_all(&out, at).map_err(failed)?;
        let head = journal::header(records, nonce, local.pages, local.page_size);
        journal.file().pwrite_all(&head, 0).map_err(failed)?;
        journal.file().std().sync_all().map_err(failed)?;
        for suffix in ["-wal", "-shm"] {
            let path = local.sibling(suffix);
            folder.remove(&path).map_err(|e| RestoreError::output("remove", &path, 0, e))?;
        }
        // What was seen before must still be so, and the directory that of the path.
        local.is_unchanged()?;
        if !journal.is_itself() || !folder.is_at(local.folder()) {
            return Err(RestoreError::Exchanged { path: name });
        }
        watch(Step::Journal).map_err(failed)?;
        journal.commit(&name, Existing::Replace).map_err(failed)
    }

    fn write_pages(&self, watch: Watch<'_>) -> Result<(), RestoreError> {
        let (local, length) = (&self.plan.local, self.plan.length());
        let failed = |e| RestoreError::output("write", &local.path, length, e);
        let old = u64::from(local.pages) * u64::from(local.page_size.get());
        let resize = |watch: Watch<'_>| {
            watch(Step::Length(length)).map_err(failed)?;
            local.file.set_len(length).map_err(failed)
        };
        if length > old {
            resize(watch)?;
        }
        let mut page = vec![0; local.page_size.bytes()];
        let (mut begun, size) = (0, page.len() as u64);
        for fetched in &self.pages {
            self.spool.pread_exact(&mut page, fetched.slot * size).map_err(failed)?;
            let offset = fetched.pgno.offset(local.page_size);
            watch(Step::Write(offset, &page)).map_err(failed)?;
            local.file.pwrite_all(&page, offset).map_err(failed)?;
            begun += size;
            if begun >= limits::RESTORE_WRITEBACK_BYTES {
                local.file.start_writeback(0, 0);
                begun = 0;
            }
        }
        if length < old {
            resize(watch)?;
        }
        watch(Step::Flush).map_err(failed)?;
        local.file.std().sync_all().map_err(failed)
    }

    /// Reads the written pages back and compares the checksum.
    fn prove(&self) -> Result<(), RestoreError> {
        let local = &self.plan.local;
        let failed = |e| RestoreError::output("read", &local.path, 0, e);
        let mut page = vec![0; local.page_size.bytes()];
        let mut hashes: Vec<(Pgno, u64)> = Vec::with_capacity(self.pages.len());
        for fetched in &self.pages {
            local.file.pread_exact(&mut page, fetched.pgno.offset(local.page_size)).map_err(failed)?;
            hashes.push((fetched.pgno, page_hash(fetched.pgno, &page)));
        }
        let found = self.plan.sum_with(hashes.into_iter());
        let length = local.file.len().map_err(failed)?;
        if found != self.plan.found.sum || length != self.plan.length() {
            let (path, expected) = (local.path.clone(), self.plan.found.sum);
            return Err(RestoreError::Unproven { path, expected, found });
        }
        Ok(())
    }

    fn check(&self) -> Result<Verdict, RestoreError> {
        check_integrity(&self.plan.local.path, self.plan.options.integrity.given(true))
    }

    fn remove_journal(&self, folder: &Directory, watch: Watch<'_>) -> io::Result<()> {
        watch(Step::Commit)?;
        folder.remove(&self.plan.local.sibling("-journal"))
    }

    /// Writes the pages of the journal back, as SQLite would.
    fn roll_back(&self, folder: &Directory, watch: Watch<'_>) -> io::Result<()> {
        let local = &self.plan.local;
        let journal = File::open_itself(&local.sibling("-journal"))?;
        let mut record = vec![0; local.page_size.bytes() + journal::RECORD];
        let size = record.len() as u64;
        for (pgno, n) in self.plan.replaced().zip(0..) {
            journal.pread_exact(&mut record, journal::SECTOR as u64 + n * size)?;
            let page = &record[4..record.len() - 4];
            watch(Step::Write(pgno.offset(local.page_size), page))?;
            local.file.pwrite_all(page, pgno.offset(local.page_size))?;
        }
        let length = u64::from(local.pages) * u64::from(local.page_size.get());
        watch(Step::Length(length))?;
        local.file.set_len(length)?;
        watch(Step::Flush)?;
        local.file.std().sync_all()?;
        self.remove_journal(folder, watch)?;
        flush(folder, watch)
    }

    fn report(&self, integrity: Verdict) -> Report {
        let found = &self.plan.found;
        Report {
            output: self.plan.local.path.clone(),
            txid: found.header.max,
            newest_file: Some(found.newest_file),
            legacy: None,
            created: found.created,
            is_newest: found.is_newest,
            damaged: Vec::new(),
            page_size: found.header.page_size,
            pages: found.header.commit,
            files: found.frames.len(),
            fetched_bytes: self.plan.meter.bytes(),
            output_bytes: self.plan.length(),
            checksum: Some(found.sum),
            proof: ProvenBy::Checksum,
            integrity,
            pages_time: Duration::ZERO,
            time: Duration::ZERO,
        }
    }
}

fn flush(folder: &Directory, watch: Watch<'_>) -> io::Result<()> {
    watch(Step::Folder)?;
    folder.sync()
}
