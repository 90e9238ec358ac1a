//! States as the user names them: by a time or by a TXID.

use crate::base::Txid;
use crate::cli::when;
use crate::restore::RestoreError;
use crate::view::btree::BtreeError;
use crate::view::{At, Replica, Snapshot, ViewError, open};

/// Parses a time, or a TXID as `lsfast points` and `lsfast log` print it.
pub(super) fn parse(text: &str) -> Result<At, String> {
    let hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match u64::from_str_radix(text, 16).ok().filter(|_| hex).and_then(Txid::checked) {
        Some(txid) if txid.0 > 0 => Ok(At::Txid(txid)),
        _ => when::parse(text).map(At::Time).map_err(|e| format!("{e}, or a TXID of 16 hex digits")),
    }
}

/// The state, or `None` if a time is before the first one.
pub(super) fn state(replica: &Replica, at: At) -> Result<Option<Snapshot>, ViewError> {
    match open(replica, at) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(ViewError::Restore(RestoreError::TooEarly { .. })) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The error of the store inside an error of a b-tree, so that the exit code is the right one.
pub(super) fn error(e: BtreeError) -> anyhow::Error {
    match e {
        BtreeError::Source(e) => match e.downcast::<ViewError>() {
            Ok(e) => match *e {
                ViewError::Restore(e) => e.into(),
                e => e.into(),
            },
            Err(e) => anyhow::Error::from_boxed(e),
        },
        e => e.into(),
    }
}
