//! A database file that shows a state of a replica.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::face::{Answer, DatabaseFile, Failed};
use crate::base::clock::Millis;
use crate::base::{Txid, limits};
use crate::view::{At, Pages, Replica, Snapshot, ViewError, open};

/// Offsets in the database header, each of a field of that many bytes.
const VERSIONS: std::ops::Range<usize> = 18..20;
const CHANGE_COUNTER: std::ops::Range<usize> = 24..28;
const SCHEMA_COOKIE: std::ops::Range<usize> = 40..44;
const VALID_FOR: std::ops::Range<usize> = 92..96;

/// Added to the counters with each move, so that a few schema changes do not lead back to an old
/// value.
const STEP: u32 = 0x9e37_79b1;

/// Connects to the replica when the first state is opened.
pub(super) type Connect = Box<dyn FnMut() -> Result<Replica, ViewError> + Send>;

/// The last error of a file, which its owner can take.
pub(super) type LastError = Arc<Mutex<Option<ViewError>>>;

/// One connection's view of a replica.
pub(super) struct StateFile {
    connect: Connect,
    at: At,
    /// Each transaction moves to the newest state.
    follows: bool,
    url: String,
    state: Option<Snapshot>,
    /// Page 1 as SQLite is shown it.
    first: Option<Vec<u8>>,
    /// How often the file moved to another state.
    moves: u32,
    in_transaction: bool,
    /// When the state could not be opened.
    failed: Option<Instant>,
    /// When the newest state was asked for.
    looked: Option<Instant>,
    error: LastError,
    /// The text of the last error, also after its owner has taken it.
    message: String,
}

impl StateFile {
    pub(super) fn new(
        connect: Connect,
        url: String,
        (at, follows): (At, bool),
        error: LastError,
    ) -> StateFile {
        let (state, first, looked, message) = (None, None, None, String::new());
        StateFile {
            connect,
            at,
            follows,
            url,
            state,
            first,
            moves: 0,
            in_transaction: false,
            failed: None,
            looked,
            error,
            message,
        }
    }

    fn fail(&mut self, e: ViewError) -> Failed {
        self.message = e.to_string();
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
        Failed
    }

    /// Opens the state that was asked for, if it is not open.
    fn state(&mut self) -> Result<&mut Snapshot, Failed> {
        if self.state.is_none() {
            // SQLite asks several times for one statement.
            if self.failed.is_some_and(|at| at.elapsed() < limits::VIEW_RETRY) {
                return Err(Failed);
            }
            let opened = (self.connect)().and_then(|replica| open(&replica, self.at));
            self.looked = Some(Instant::now());
            self.failed = opened.is_err().then(Instant::now);
            self.state = Some(opened.map_err(|e| self.fail(e))?);
        }
        self.state.as_mut().ok_or(Failed)
    }

    fn go_to(&mut self, at: At) -> Result<(), ViewError> {
        let moved = open(&(self.connect)()?, at)?;
        self.looked = Some(Instant::now());
        self.at = at;
        if self.state.as_ref().is_none_or(|state| state.txid() != moved.txid()) {
            self.moves = self.moves.wrapping_add(1);
            self.state = Some(moved);
            self.first = None;
        }
        Ok(())
    }

    /// Page 1, with the fields changed that would mislead SQLite.
    fn first(&mut self) -> Result<&[u8], Failed> {
        if self.first.is_none() {
            let page = self.state()?.page(1);
            let mut page = page.map_err(|e| self.fail(e))?.to_vec();
            show(&mut page, self.moves);
            self.first = Some(page);
        }
        self.first.as_deref().ok_or(Failed)
    }

    fn read_page(&mut self, number: u32, from: usize, out: &mut [u8]) -> Result<(), Failed> {
        if number == 1 {
            out.copy_from_slice(&self.first()?[from..from + out.len()]);
            return Ok(());
        }
        let page = self.state()?.page(number);
        let page = page.map_err(|e| self.fail(e))?;
        out.copy_from_slice(&page[from..from + out.len()]);
        Ok(())
    }

    fn set(&mut self, what: &str, at: Result<At, String>) -> Answer {
        if self.in_transaction {
            return Answer::Error(format!("PRAGMA {what} cannot move within a transaction: end it first"));
        }
        let at = match at {
            Ok(at) => at,
            Err(e) => return Answer::Error(e),
        };
        match self.go_to(at) {
            Ok(()) => self.get(what),
            Err(e) => {
                let message = e.to_string();
                self.fail(e);
                Answer::Error(message)
            }
        }
    }

    fn get(&mut self, what: &str) -> Answer {
        let answer = match self.state() {
            Ok(state) if what == "lsfast_txid" => Ok(state.txid().to_string()),
            Ok(state) => Ok(state.time().to_rfc3339()),
            Err(Failed) => Err(self.message.clone()),
        };
        answer.map_or_else(Answer::Error, Answer::Text)
    }
}

/// Changes a database header to the one that SQLite is shown.
fn show(page: &mut [u8], moves: u32) {
    if page.len() < VALID_FOR.end {
        return;
    }
    page[VERSIONS].fill(1);
    let moved = moves.wrapping_mul(STEP);
    for field in [CHANGE_COUNTER, SCHEMA_COOKIE, VALID_FOR] {
        let bytes: &mut [u8] = &mut page[field];
        let value = bytes.iter().fold(0u32, |n, b| (n << 8) | u32::from(*b));
        bytes.copy_from_slice(&value.wrapping_add(moved).to_be_bytes());
    }
}

impl DatabaseFile for StateFile {
    fn size(&mut self) -> Result<u64, Failed> {
        let state = self.state()?;
        Ok(u64::from(state.page_count()) * u64::from(state.page_size()))
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), Failed> {
        let size = u64::from(self.state()?.page_size());
        let (mut at, mut rest) = (offset, out);
        while !rest.is_empty() {
            let number = u32::try_from(at / size + 1).map_err(|_| Failed)?;
            let from = at % size;
            let take = usize::try_from(size - from).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            self.read_page(number, usize::try_from(from).map_err(|_| Failed)?, now)?;
            at += take as u64;
            rest = later;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Failed> {
        let recent = self.looked.is_some_and(|at| at.elapsed() < limits::VIEW_FOLLOW);
        if self.follows && self.state.is_some() && !recent {
            self.go_to(At::Newest).map_err(|e| self.fail(e))?;
        }
        // A state that cannot be opened fails here, not in the middle of a statement.
        self.first()?;
        self.in_transaction = true;
        Ok(())
    }

    fn end(&mut self) {
        self.in_transaction = false;
    }

    fn pragma(&mut self, name: &str, value: Option<&str>) -> Answer {
        let name = name.to_ascii_lowercase();
        match (name.as_str(), value) {
            ("lsfast_txid" | "lsfast_time", None) => self.get(&name),
            ("lsfast_txid" | "lsfast_time", Some(value)) if value.eq_ignore_ascii_case("newest") => {
                self.set(&name, Ok(At::Newest))
            }
            ("lsfast_txid", Some(value)) => self.set(&name, txid(value)),
            ("lsfast_time", Some(value)) => self.set(&name, time(value)),
            ("lsfast_error", None) => Answer::Text(self.message.clone()),
            ("lsfast_replica", None) => Answer::Text(self.url.clone()),
            _ => Answer::Unknown,
        }
    }
}

/// A state by its TXID in hex.
pub(super) fn txid(text: &str) -> Result<At, String> {
    let hex = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = u64::from_str_radix(text, 16).ok().filter(|n| hex && *n > 0);
    let txid = number.and_then(Txid::checked);
    txid.map(At::Txid).ok_or_else(|| format!("{text:?} is not a TXID: write up to 16 hex digits, or newest"))
}

/// The newest state before a time.
pub(super) fn time(text: &str) -> Result<At, String> {
    let wrong = || {
        format!("{text:?} is not a time: write 2026-11-21T14:03:00Z or another time of RFC 3339, or newest")
    };
    Millis::parse_rfc3339(text.trim()).map(At::Time).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_that_is_shown() {
        let mut page = vec![0; 512];
        page[VERSIONS].copy_from_slice(&[2, 2]);
        page[CHANGE_COUNTER].copy_from_slice(&7u32.to_be_bytes());
        let mut moved = page.clone();
        show(&mut page, 0);
        assert_eq!((&page[VERSIONS], page[27]), (&[1, 1][..], 7), "only the mode differs");
        show(&mut moved, 1);
        assert_ne!(page[CHANGE_COUNTER], moved[CHANGE_COUNTER]);
        assert_ne!(page[SCHEMA_COOKIE], moved[SCHEMA_COOKIE]);
        show(&mut [0; 10], 1);
    }

    #[test]
    fn states_by_text() {
        assert_eq!(txid("00ab"), Ok(At::Txid(Txid(171))));
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(At::Time(Millis(1000))));
        for wrong in ["", "0", "xyz", "-1", "ffffffffffffffff", "00000000000000001"] {
            assert!(txid(wrong).is_err(), "{wrong}");
        }
        assert!(time("yesterday").is_err());
    }
}
