//! Proves a file from parts that are decoded in any order.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::base::LtxId;
use crate::ltx::{FileCheck, FileEnd, LtxError, PartialCheck};

/// One file whose proof is in progress.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) object: LtxId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` once the file is proven, or has failed.
    check: Option<FileCheck>,
    /// Number of the next part to check.
    due: u64,
    /// Parts that were decoded before their turn. Bounded by the number of parts in flight.
    ahead: BTreeMap<u64, PartialCheck>,
    /// The number of parts and what follows them, once the file has been read to its end.
    end: Option<(u64, FileEnd)>,
    proven: bool,
}

impl Proof {
    pub(super) fn new(object: LtxId, check: FileCheck) -> Proof {
        let state = State { check: Some(check), due: 0, ahead: BTreeMap::new(), end: None, proven: false };
        Proof { object, state: Mutex::new(state) }
    }

    /// Notes that part `number` has been decoded.
    pub(super) fn add(&self, number: u64, part: PartialCheck) -> Result<(), LtxError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ahead.insert(number, part);
        state.go_on()
    }

    /// Notes that the file has been read to its end and has `parts` parts.
    pub(super) fn end(&self, parts: u64, end: FileEnd) -> Result<(), LtxError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.end = Some((parts, end));
        state.go_on()
    }

    /// Whether every byte of the file is proven.
    pub(super) fn is_proven(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).proven
    }
}

impl State {
    fn go_on(&mut self) -> Result<(), LtxError> {
        let Some(mut check) = self.check.take() else { return Err(LtxError::AlreadyFailed) };
        while let Some(part) = self.ahead.remove(&self.due) {
            check.add(&part)?;
            self.due += 1;
        }
        match self.end.take() {
            Some((parts, end)) if parts == self.due => {
                check.finish_in_order(end)?;
                self.proven = true;
            }
            end => {
                self.end = end;
                self.check = Some(check);
            }
        }
        Ok(())
    }
}
