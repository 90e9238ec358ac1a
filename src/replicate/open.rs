//! Beginning to follow a database: what the log says about what is stored already.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::Mark;
use super::guard::Guard;
use super::pending::{Page, Pending};
use super::state::{Point, State};
use crate::base::{FrameNo, Pgno, Txid};
use crate::sqlite::database::Database;
use crate::sqlite::walindex::WalIndexHeader;
use crate::wal::tail::{Found, Tail, TailError, WalPos};

/// How long the wal-index may stay unreadable at the start.
const HEADER_WAIT: Duration = Duration::from_secs(5);

/// A database that is guarded and read through to its newest commit.
pub struct Opened {
    /// The locks.
    pub guard: Guard,
    /// Behind the newest commit.
    pub tail: Tail,
    /// The newest commit.
    pub mark: Mark,
    /// For each replica: all that changed since its durable point, or why that is not known.
    pub since: Vec<Result<Pending, String>>,
}

/// Takes the guard and reads the log through. Blocks: not for the loop.
///
/// # Errors
/// [`TailError`], when the log can't be read as published.
pub fn open(db: &Arc<Database>, states: &[State]) -> Result<Opened, TailError> {
    let guard = Guard::take(db)?;
    let give_up = Instant::now() + HEADER_WAIT;
    loop {
        let header = match db.shm().header() {
            Ok(header) => header,
            Err(e) if Instant::now() >= give_up => return Err(std::io::Error::other(e).into()),
            Err(_) => {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
        };
        match read(db, &header, states) {
            Ok((tail, mark, since)) => return Ok(Opened { guard, tail, mark, since }),
            // With CKPT held the log can be reset once more, between the look and the reading.
            Err(e) if matches!(e, TailError::Io(_)) || Instant::now() >= give_up => return Err(e),
            Err(_) => {}
        }
    }
}

type Read = (Tail, Mark, Vec<Result<Pending, String>>);

fn read(db: &Arc<Database>, header: &WalIndexHeader, states: &[State]) -> Result<Read, TailError> {
    let mut since: Vec<Result<Pending, String>> = states.iter().map(|s| begins_in(s, header)).collect();
    // The places where replicas stand, in order, then the end.
    let mut stops: Vec<FrameNo> =
        states.iter().zip(&since).filter(|(_, s)| s.is_ok()).map(|(s, _)| s.durable.pos.frame).collect();
    stops.push(header.mx_frame);
    stops.sort_unstable();
    stops.dedup();
    let mut tail = Tail::new(db.wal().clone(), db.page_size(), header.salts);
    // Pages of a transaction that goes on behind a stop, which is then no place where a replica can stand.
    let mut open = Vec::new();
    for stop in stops {
        let from = tail.last();
        let whole = read_piece(&mut tail, stop, stop == header.mx_frame, &mut open, |pgno, page| {
            for (state, pending) in states.iter().zip(&mut since) {
                if let Ok(pending) = pending
                    && state.durable.pos.frame <= from
                {
                    pending.insert(pgno, page);
                }
            }
        })?;
        for (state, pending) in states.iter().zip(&mut since) {
            let pos = state.durable.pos;
            if pending.is_ok() && pos.frame == stop && from < stop && !(whole && tail.pos() == pos) {
                *pending =
                    Err("the log was cut and written anew since it was stored, as after a loss of power"
                        .to_owned());
            }
        }
    }
    tail.check_published(header)?;
    let mark = Mark { pos: tail.pos(), size_pages: header.n_page, change: header.change };
    Ok((tail, mark, since))
}

/// Reads up to `stop` and gives the pages of the transactions that end there or before. Whether one ends there; at the end of the log it must.
fn read_piece(
    tail: &mut Tail,
    stop: FrameNo,
    last: bool,
    open: &mut Vec<(Pgno, Page)>,
    mut page_of: impl FnMut(Pgno, &Page),
) -> Result<bool, TailError> {
    let mut take = |found: Found<'_>| match found {
        Found::Open(frames) => open.extend(frames.map(|(_, pgno, page)| (pgno, Page::from(page)))),
        Found::Committed(_, run) => {
            open.drain(..).for_each(|(pgno, page)| page_of(pgno, &page));
            run.frames().for_each(|(_, pgno, page)| page_of(pgno, &Page::from(page)));
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

/// Whether a replica's durable point may lie in the present generation of the log.
fn begins_in(state: &State, header: &WalIndexHeader) -> Result<Pending, String> {
    let Point { txid, pos, .. } = state.durable;
    if txid == Txid(0) {
        Err("nothing is known of it on this host".to_owned())
    } else if pos == WalPos::default() {
        Err("the log was empty, or the host or the database is not the same as before".to_owned())
    } else if pos.salts != header.salts {
        Err(format!("the log was restarted while lsfast was away ({} to {})", pos.salts, header.salts))
    } else if pos.frame > header.mx_frame {
        Err(format!(
            "the log has {} frames, but {} were stored: the database was set back",
            header.mx_frame.0, pos.frame.0
        ))
    } else {
        Ok(Pending::new())
    }
}
