//! Writes, copies and streams files into a directory replica.

use std::ffi::OsStr;
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::inner::{Inner, error, level_path};
use crate::base::LtxId;
use crate::base::clock::Millis;
use crate::io::durable::{self, Existing, Pending};
use crate::io::{File, Folder};
use crate::store::api::{BoxFuture, PutOptions, Result, Upload};
use crate::store::{ErrorKind, StoreError, progress};

/// An upload gathers this many bytes before it hands them to a blocking thread.
const GATHER_BYTES: usize = 1 << 20;

impl Inner {
    pub(super) fn put(&self, id: LtxId, body: &[Bytes], options: PutOptions) -> Result<()> {
        let mut draft = self.draft(id, options)?;
        draft.append(body)?;
        draft.finish(|existing| same_as_body(existing, body))
    }

    /// Copies a file. A hard link is made if both have the same time, because an inode has only
    /// one. Otherwise the kernel copies, and shares the blocks where the file system can. Files of
    /// a replica are never changed in place, so a link is as good as a copy.
    pub(super) fn copy(&self, from: LtxId, to: LtxId, options: PutOptions) -> Result<()> {
        let source = self.path(from);
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => {
                StoreError::new(ErrorKind::NotFound, format!("there is no {} to copy", source.display()))
            }
            _ => error("copy", &source, &e),
        };
        let folder = self.folder(&level_path(from.level)).map_err(failed)?;
        let original = folder.open_file(from.file_name()).map_err(failed)?;
        let modified = original.metadata().and_then(|m| m.modified()).map_err(failed)?;
        if Millis::from_system(modified) == options.created
            && self.link((&folder, &from.file_name(), &original), to, options)?
        {
            return Ok(());
        }
        let draft = self.draft(to, options)?;
        io::copy(&mut original.std(), &mut draft.pending.file().std()).map_err(failed)?;
        draft.finish(|existing| same_files(existing, &original))
    }

    /// Tries a hard link. Returns whether it succeeded.
    fn link(
        &self,
        (source, name, original): (&Folder, &str, &File),
        to: LtxId,
        options: PutOptions,
    ) -> Result<bool> {
        self.sweep();
        let (target, new) = (self.path(to), to.file_name());
        let failed = |e: io::Error| error("write", &target, &e);
        let folder = self.make(&level_path(to.level)).map_err(failed)?;
        if options.create_only {
            match source.link(name, &folder, &new) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    let same = folder.open_file(&new).and_then(|there| same_files(&there, original));
                    return conflict_unless(same, &target).map(|()| true);
                }
                Err(_) => return Ok(false),
            }
        } else {
            let temporary = durable::temporary_beside(&target);
            let Some(temporary) = temporary.file_name().and_then(OsStr::to_str) else { return Ok(false) };
            if source.link(name, &folder, temporary).is_err() {
                return Ok(false);
            }
            let renamed = folder.rename(temporary, &new);
            // Renaming one link of a file over another link of the same file does nothing.
            let _ = folder.remove(temporary);
            renamed.map_err(failed)?;
        }
        folder.sync().map_err(failed)?;
        Ok(true)
    }

    /// Creates a temporary file next to the place of `id`, and its directories if they are missing.
    fn draft(&self, id: LtxId, options: PutOptions) -> Result<Draft> {
        self.sweep();
        let (target, below) = (self.path(id), level_path(id.level));
        let folder = self.folder(&below).or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => self.make(&below),
            _ => Err(e),
        });
        let failed = |e: io::Error| error("write", &target, &e);
        let folder = folder.map_err(failed)?;
        let pending = folder.begin(&target, self.mode).map_err(failed)?;
        Ok(Draft { pending, folder, name: id.file_name(), target, options, len: 0 })
    }
}

/// An LTX file that does not have its name yet. It is removed if it is dropped unfinished.
struct Draft {
    pending: Pending,
    folder: Folder,
    name: String,
    target: PathBuf,
    options: PutOptions,
    len: u64,
}

impl Draft {
    fn append(&mut self, body: &[Bytes]) -> Result<()> {
        let mut slices: Vec<IoSlice<'_>> = body.iter().map(|b| IoSlice::new(b)).collect();
        let mut rest = slices.as_mut_slice();
        IoSlice::advance_slices(&mut rest, 0);
        let mut out = self.pending.file().std();
        while !rest.is_empty() {
            match out.write_vectored(rest) {
                Ok(0) => return Err(error("write", &self.target, &io::ErrorKind::WriteZero.into())),
                Ok(n) => {
                    progress::note();
                    self.len += n as u64;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(error("write", &self.target, &e)),
            }
        }
        Ok(())
    }

    /// Flushes the file and gives it its name. For a name that may not be replaced, `same` compares
    /// the existing file.
    fn finish(self, same: impl FnOnce(&File) -> io::Result<bool>) -> Result<()> {
        let Draft { pending, folder, name, target, options, .. } = self;
        let failed = |e: io::Error| error("write", &target, &e);
        let file = pending.file().std();
        file.set_modified(options.created.to_system()).map_err(failed)?;
        // I1: the file is flushed before it gets its name.
        file.sync_all().map_err(failed)?;
        let existing = if options.create_only { Existing::Refuse } else { Existing::Replace };
        match pending.commit(&target, existing) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                conflict_unless(folder.open_file(&name).and_then(|there| same(&there)), &target)
            }
            Err(e) => Err(failed(e)),
        }
    }
}

fn conflict_unless(same: io::Result<bool>, target: &Path) -> Result<()> {
    match same {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError::new(
            ErrorKind::Conflict,
            format!(
                "{} exists with other content: another program writes this replica; stop one of the two, or choose \
                 another path for this one",
                target.display()
            ),
        )),
        Err(e) => Err(error("compare", target, &e)),
    }
}

fn same_as_body(file: &File, body: &[Bytes]) -> io::Result<bool> {
    if file.len()? != body.iter().map(|b| b.len() as u64).sum::<u64>() {
        return Ok(false);
    }
    let mut offset = 0;
    let mut buf = vec![0; 64 << 10];
    for piece in body.iter().flat_map(|b| b.chunks(64 << 10)) {
        let there = &mut buf[..piece.len()];
        file.pread_exact(there, offset)?;
        if *there != *piece {
            return Ok(false);
        }
        offset += piece.len() as u64;
    }
    Ok(true)
}

fn same_files(theirs: &File, ours: &File) -> io::Result<bool> {
    let len = ours.len()?;
    if theirs.len()? != len {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut offset = 0;
    while offset < len {
        let n = theirs.pread(&mut a, offset)?;
        if n == 0 || ours.pread(&mut b[..n], offset)? != n || a[..n] != b[..n] {
            return Ok(false);
        }
        offset += n as u64;
    }
    Ok(true)
}

/// Begins a streamed file.
pub(super) async fn begin(store: Arc<Inner>, id: LtxId, options: PutOptions) -> Result<Box<dyn Upload>> {
    let draft = store.blocking(move |inner| inner.draft(id, options)).await?;
    Ok(Box::new(Stream { store, draft: Some(draft), waiting: Vec::new(), waiting_bytes: 0 }))
}

/// A streamed file. Small pieces are gathered, so that each one does not cost a switch of threads.
struct Stream {
    store: Arc<Inner>,
    /// `None` after an error: the upload has failed.
    draft: Option<Draft>,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
}

impl Stream {
    async fn flush(&mut self) -> Result<()> {
        let over = || StoreError::new(ErrorKind::Fatal, "this upload has failed before");
        let mut draft = self.draft.take().ok_or_else(over)?;
        let pieces = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let draft = self.store.blocking(move |_| {
            let from = draft.len;
            draft.append(&pieces)?;
            draft.pending.file().start_writeback(from, draft.len - from);
            Ok(draft)
        });
        self.draft = Some(draft.await?);
        Ok(())
    }
}

impl Upload for Stream {
    fn hold_start(&mut self) {}

    fn replace_start<'a>(&'a mut self, start: Bytes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.flush().await?;
            let Some(draft) = self.draft.take() else { return Ok(()) };
            let draft = self.store.blocking(move |_| {
                assert!(draft.len >= start.len() as u64, "the bytes to be replaced were written");
                let written = draft.pending.file().pwrite_all(&start, 0);
                written.map_err(|e| error("write", &draft.target, &e)).map(|()| draft)
            });
            self.draft = Some(draft.await?);
            Ok(())
        })
    }

    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.waiting_bytes += bytes.len();
            self.waiting.push(bytes);
            if self.waiting_bytes >= GATHER_BYTES { self.flush().await } else { Ok(()) }
        })
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            self.flush().await?;
            let Some(draft) = self.draft.take() else { return Ok(()) };
            let own = draft.pending.file().clone();
            self.store.blocking(move |_| draft.finish(|existing| same_files(existing, &own))).await
        })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Stream { store, draft, .. } = *self;
            let removed = store.blocking(move |_| {
                drop(draft);
                Ok(())
            });
            let _ = removed.await;
        })
    }
}
