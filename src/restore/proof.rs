//! Proving each file from parts that were decoded in any order.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::base::LtxId;
use crate::ltx::{FileCheck, FileEnd, LtxError, PartialCheck};

/// One file on its way to being proven.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) object: LtxId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` when it is proven, or has failed.
    check: Option<FileCheck>,
    /// Number of the part that is due.
    due: u64,
    /// Parts that are ahead of it; no more than there are parts in the works.
    ahead: BTreeMap<u64, PartialCheck>,
    /// How many parts there are, and what follows them.
    end: Option<(u64, FileEnd)>,
    proven: bool,
}

impl Proof {
    pub(super) fn new(object: LtxId, check: FileCheck) -> Proof {
        let state = State { check: Some(check), due: 0, ahead: BTreeMap::new(), end: None, proven: false };
        Proof { object, state: Mutex::new(state) }
    }

    /// Part `number` has been decoded.
    pub(super) fn add(&self, number: u64, part: PartialCheck) -> Result<(), LtxError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ahead.insert(number, part);
        state.go_on()
    }

    /// The file has been read to its end and has that many parts.
    pub(super) fn end(&self, parts: u64, end: FileEnd) -> Result<(), LtxError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.end = Some((parts, end));
        state.go_on()
    }

    /// Whether every byte of the file is accounted for.
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
