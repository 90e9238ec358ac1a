//! Attaches to a database: takes the guard, and reads from the WAL what each replica lacks.
//!
//! Where the WAL cannot tell what changed since a replica's durable point, that replica gets a
//! reason instead of pages, and compares page hashes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::{FrameNo, Txid, count};
use crate::replicate::capture::{READ_TRIES, by_index};
use crate::replicate::pending::{Mark, OpenPages, Pending};
use crate::replicate::state::{Point, State};
use crate::sqlite::database::{Database, Stamp};
use crate::sqlite::guard::{self, Guard};
use crate::wal::index::{LOCK_CKPT, WalIndexHeader};
use crate::wal::shm::LockKind;
use crate::wal::tail::{Found, Tail, TailError, WalPos};

/// How long the wal-index may stay unreadable at the start.
const HEADER_WAIT: Duration = Duration::from_secs(5);

/// Looks at an unreadable wal-index, a millisecond apart, before it counts as damaged.
const HEADER_TRIES: u32 = 3;

/// Reason for comparing page hashes: the WAL alone does not show what has changed.
const EDITED: &str = "the database file was written to while lsfast was stopped";

/// The same if its modification time and length are as before.
const TOUCHED: &str = "the database file was changed while lsfast was stopped: written to with its time set back, or only its mode, owner \
                       or name";

/// Why the pages of a database file have to be compared that had the stamp `before` when it was
/// last known, and has `now`; `None` if only SQLite can have written to it, or nothing is known.
pub(super) fn edited(before: &Stamp, now: &Stamp) -> Option<&'static str> {
    if *before == Stamp::default() {
        return None;
    }
    let reason = if now.is_written(before) { EDITED } else { TOUCHED };
    now.differs(before).then_some(reason)
}

/// A database whose guard is taken and whose WAL is read up to its newest commit.
pub struct Opened {
    /// Holds CKPT.
    pub guard: Guard,
    /// Positioned after the newest commit.
    pub tail: Tail,
    /// The newest commit.
    pub mark: Mark,
    /// For each replica: all that changed since its durable point, or why that is not known.
    pub since: Vec<Result<Pending, String>>,
    /// Set if frames up to this header's mxFrame cannot be proven: the reason, and the header.
    pub damage: Option<(String, WalIndexHeader)>,
}

/// Takes the guard and reads the WAL to its end. Blocks: not for the loop.
///
/// # Errors
/// [`TailError`] if the WAL cannot be read as the wal-index publishes it.
pub fn open(db: &Arc<Database>, states: &[State]) -> Result<Opened, TailError> {
    let mut guard = Guard::take(db)?;
    let give_up = Instant::now() + HEADER_WAIT;
    let (mut tries, mut header_tries) = (0, 0);
    loop {
        let header = match db.shm().header() {
            Ok(header) => header,
            Err(e) if Instant::now() >= give_up => return Err(std::io::Error::other(e).into()),
            Err(_) => {
                header_tries += 1;
                if header_tries < HEADER_TRIES {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                // This is damage; a header is published faster. Nothing is proven yet that a
                // checkpoint could spoil.
                db.shm().unlock(LOCK_CKPT)?;
                guard::rebuild(db)?;
                db.shm().lock_blocking(LOCK_CKPT, LockKind::Exclusive)?;
                guard.enter_cruise();
                continue;
            }
        };
        match read(db, &header, states) {
            Ok((tail, mark, since)) => return Ok(Opened { guard, tail, mark, since, damage: None }),
            Err(e) if !e.is_damage() => return Err(e),
            // With CKPT held the WAL can be reset once more, between the header and the reading.
            Err(_) if tries < READ_TRIES => tries += 1,
            // A checkpoint copies what cannot be proven into the database file; then the WAL may
            // well start over.
            Err(_) if tries == READ_TRIES => {
                guard.copy_before_capture()?;
                tries += 1;
            }
            Err(e) => {
                let reason = e.to_string();
                let since = states.iter().map(|_| Err(reason.clone())).collect();
                let (tail, mark) = by_index(db, &header);
                return Ok(Opened { guard, tail, mark, since, damage: Some((reason, header)) });
            }
        }
    }
}

type Read = (Tail, Mark, Vec<Result<Pending, String>>);

fn read(db: &Arc<Database>, header: &WalIndexHeader, states: &[State]) -> Result<Read, TailError> {
    let mut since: Vec<Result<Pending, String>> = states.iter().map(|s| begins_in(s, header)).collect();
    // The frames of the replicas' durable points, in order, then the end.
    let mut stops: Vec<FrameNo> =
        states.iter().zip(&since).filter(|(_, s)| s.is_ok()).map(|(s, _)| s.durable.pos.frame).collect();
    stops.push(header.mx_frame);
    stops.sort_unstable();
    stops.dedup();
    let mut tail = Tail::new(db.wal().clone(), db.page_size(), header.salts);
    // Pages of a transaction that continues after a stop. No replica's durable point can be at such
    // a stop.
    let mut open = OpenPages::default();
    for stop in stops {
        let from = tail.last();
        let whole = read_piece(&mut tail, stop, stop == header.mx_frame, &mut open, |pages| {
            for (state, pending) in states.iter().zip(&mut since) {
                if let Ok(pending) = pending
                    && state.durable.pos.frame <= from
                {
                    pending.add(pages);
                }
            }
        })?;
        for (state, pending) in states.iter().zip(&mut since) {
            let pos = state.durable.pos;
            if pending.is_ok() && pos.frame == stop && from < stop && !(whole && tail.pos() == pos) {
                *pending =
                    Err("the WAL was cut and rewritten since it was stored, as after a loss of power"
                        .to_owned());
            }
        }
    }
    // I3: the last frame read is the published one, with the published checksum.
    tail.check_published(header)?;
    let mark =
        Mark { pos: tail.pos(), size_pages: header.n_page, change: header.change, by_index: FrameNo(0) };
    Ok((tail, mark, since))
}

/// Reads up to `stop` and passes on the pages of the transactions that end there or before. Returns
/// whether a transaction ends at `stop`; at the end of the WAL (`last`) one must.
fn read_piece(
    tail: &mut Tail,
    stop: FrameNo,
    last: bool,
    open: &mut OpenPages,
    mut committed: impl FnMut(&OpenPages),
) -> Result<bool, TailError> {
    let mut take = |found: Found<'_>| match found {
        Found::Open(frames) => frames.for_each(|(_, pgno, page)| open.push(pgno, page)),
        Found::Committed(_, run) => {
            run.frames().for_each(|(_, pgno, page)| open.push(pgno, page));
            committed(open);
            open.clear();
        }
    };
    loop {
        match tail.read_to(stop, usize::MAX, &mut take) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(TailError::Published { .. }) if !last => return Ok(false),
            Err(e) => return Err(e),
        }
    }
}

/// Whether a replica's durable point may lie in the present generation of the WAL.
fn begins_in(state: &State, header: &WalIndexHeader) -> Result<Pending, String> {
    let Point { txid, pos, .. } = state.durable;
    if txid == Txid(0) {
        Err("nothing is known of it on this host".to_owned())
    } else if pos == WalPos::default() {
        Err("the WAL was empty, or the host or the database is not the same as before".to_owned())
    } else if pos.salts != header.salts {
        Err(format!("the WAL was restarted while lsfast was not running ({} to {})", pos.salts, header.salts))
    } else if pos.frame > header.mx_frame {
        Err(format!(
            "the WAL has {}, but {} were stored: the database was set back",
            count(header.mx_frame.0, "frame"),
            pos.frame.0
        ))
    } else {
        Ok(Pending::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that was written to while lsfast was stopped is compared, even if its time was set
    /// back.
    #[test]
    fn a_file_with_another_stamp_was_edited() {
        let before = Stamp { modified: 5, len: 4096, changed: 5 };
        assert_eq!(edited(&before, &before), None);
        assert_eq!(edited(&before, &Stamp { modified: 6, ..before }), Some(EDITED));
        assert_eq!(edited(&before, &Stamp { len: 8192, ..before }), Some(EDITED));
        assert_eq!(edited(&before, &Stamp { changed: 6, ..before }), Some(TOUCHED));
        assert_eq!(edited(&Stamp::default(), &before), None, "nothing is known");
    }
}
