//! States as the user names them: by a time or by a TXID.

use crate::cli::{restore, when};
use crate::restore::RestoreError;
use crate::view::btree::BtreeError;
use crate::view::{At, Replica, Snapshot, ViewError, open};

/// Hex digits of a TXID as `lsfast points` and `lsfast log` print it.
const TXID_DIGITS: usize = 16;

/// Parses a time, or a TXID in hex, with or without leading zeros. What could be both is a time,
/// such as `1d` and seconds since 1970, unless it has all 16 digits of a TXID.
pub(in crate::cli) fn parse(text: &str) -> Result<At, String> {
    let hex = (1..=TXID_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let time = when::parse(text).map(At::Time);
    match time {
        Ok(time) if text.len() < TXID_DIGITS || !hex => Ok(time),
        _ if hex => restore::txid(text).map(At::Txid),
        time => time.map_err(|e| format!("{e}, or a TXID: up to {TXID_DIGITS} hex digits")),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Txid;

    #[test]
    fn a_txid_of_any_length_is_told_from_a_time() {
        for (text, txid) in
            [("1", 1), ("ab", 0xab), ("0003", 3), ("1403", 0x1403), ("00000000000000AB", 0xab)]
        {
            assert_eq!(parse(text), Ok(At::Txid(Txid(txid))), "{text}");
        }
        for text in ["1d", "2h", "now", "14:03", "1795295650", "2026-11-21"] {
            assert!(matches!(parse(text), Ok(At::Time(_))), "{text}");
        }
        assert!(matches!(parse("soon"), Err(e) if e.contains("or a TXID: up to 16 hex digits")));
        assert_eq!(parse("000000000000001d"), Ok(At::Txid(Txid(0x1d))));
        for text in ["0", "ffffffffffffffff", "1x", ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
