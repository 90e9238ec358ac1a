//! Releases a database whose path now names another file, or none.
//!
//! Without lsfast, the last application to close a database copies its WAL into it, and removes the
//! WAL and the wal-index. lsfast prevents that while it runs. So if an application later finds
//! another database under the name, it must not take the old WAL for the new one's; and the old
//! database, moved elsewhere, must be complete.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use crate::sqlite::database::{Database, FileId, sibling};
use crate::wal::format;
use crate::wal::frames::Frames;
use crate::wal::index::WalIndexHeader;
use crate::wal::tail::{Found, Tail, TailError};

/// Releases all locks on `db`, after [`Shm::leave`](crate::wal::shm::Shm::leave). If no process has
/// it open, first does what the last connection would have done on closing it.
pub(crate) async fn tidy(db: &Arc<Database>) {
    let end = match begin(db) {
        Ok(Some(header)) => {
            let db = Arc::clone(db);
            let whole = tokio::task::spawn_blocking(move || {
                make_whole(&db, &header)?;
                forget_wal(&db).map_err(TailError::Io)
            });
            whole.await.map_err(io::Error::other).map_err(TailError::Io).flatten()
        }
        Ok(None) => Ok(()),
        Err(e) => Err(e.into()),
    };
    if let Err(e) = end {
        tracing::debug!(db = %db.path().display(), error = %e, "the files of the former database stay as they are");
    }
    if let Err(e) = db.leave() {
        tracing::warn!(db = %db.path().display(), error = %e, "releasing the locks of the former database failed");
    }
}

/// The header of the WAL that has to be copied into a database that still exists elsewhere; `None`
/// if nothing is to be copied.
fn begin(db: &Database) -> io::Result<Option<WalIndexHeader>> {
    let present = FileId::at(db.path())?;
    if present == Some(FileId::of(db.file().std())?) || !db.have_alone()? {
        return Ok(None);
    }
    let exists = db.file().metadata()?.nlink() > 0;
    match db.shm().header() {
        Ok(header) if exists && header.mx_frame.0 > 0 => Ok(Some(header)),
        // It is not known what would be copied: the WAL stays as it is.
        Err(_) if exists => Ok(None),
        _ => forget_wal(db).map(|()| None),
    }
}

/// Copies the committed frames, once all of them are proven, as the last checkpoint would.
fn make_whole(db: &Database, header: &WalIndexHeader) -> Result<(), TailError> {
    let page_bytes = u64::from(db.page_size().get());
    for write in [false, true] {
        let mut tail = Tail::new(db.wal().clone(), db.page_size(), header.salts);
        let mut written = Ok(());
        let mut put = |frames: Frames<'_>| {
            for (_, pgno, page) in frames {
                if write && written.is_ok() {
                    written = db.file().pwrite_all(page, u64::from(pgno.get() - 1) * page_bytes);
                }
            }
        };
        while !tail.read_to(header.mx_frame, usize::MAX, |found| match found {
            Found::Open(frames) => put(frames),
            Found::Committed(_, run) => put(run.frames()),
        })? {}
        tail.check_published(header)?;
        written?;
    }
    db.file().set_len(u64::from(header.n_page) * page_bytes)?;
    Ok(db.file().sync_data()?)
}

/// Makes the WAL look empty to SQLite, in case the next database of this name finds it. Its frames
/// stay for those that still read them.
fn forget_wal(db: &Database) -> io::Result<()> {
    if FileId::at(&sibling(db.path(), "-wal"))? == Some(FileId::of(db.wal().std())?) {
        db.wal().pwrite_all(&[0; format::HEADER_BYTES], 0)?;
    }
    Ok(())
}
