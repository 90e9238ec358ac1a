//! Uploads without an answer, which the store may still carry out.
//!
//! A killed process, a cut connection or a slow store can leave a request behind that takes effect
//! later: after the LIST of a later start, or while the same batch is made again with other bytes.
//! The next upload then meets an object of its name, which is ours. So the prints of such uploads
//! are part of the state, and are kept over any number of kills until the TXID has its answer.

use crate::base::Txid;
use crate::base::fields::Fields;

/// Attempts at one TXID whose prints are kept. With more, the oldest is forgotten, and if it
/// arrives late it counts as another program's.
const MOST: usize = 16;

/// Bytes of [`Unanswered::encode`].
#[cfg(test)]
const LEN: usize = 8 + 8 * MOST;

/// Prints of uploads to one TXID that were replaced before they had an answer. The intended point
/// of the state is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unanswered {
    txid: Txid,
    /// The oldest first; 0 where there is none.
    prints: [u64; MOST],
}

impl Unanswered {
    /// Notes an upload whose print is known.
    pub(super) fn note(&mut self, txid: Txid, print: u64) {
        if self.txid != txid {
            *self = Unanswered { txid, ..Unanswered::default() };
        }
        if print == 0 || self.prints.contains(&print) {
            return;
        }
        let free = self.prints.iter().position(|print| *print == 0).unwrap_or_else(|| {
            self.prints.rotate_left(1);
            MOST - 1
        });
        self.prints[free] = print;
    }

    /// Whether an upload to `txid` has this print.
    pub(super) fn has(&self, txid: Txid, print: u64) -> bool {
        txid == self.txid && print != 0 && self.prints.contains(&print)
    }

    /// The TXID and the prints, little-endian.
    pub(super) fn encode(&self) -> impl Iterator<Item = u8> {
        std::iter::once(self.txid.0).chain(self.prints).flat_map(u64::to_le_bytes)
    }

    /// `None` if the TXID is one that no replica can have.
    pub(super) fn decode(f: &mut Fields<'_>) -> Option<Unanswered> {
        let txid = Txid::checked(f.le64())?;
        Some(Unanswered { txid, prints: std::array::from_fn(|_| f.le64()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_read_as_they_were_written() {
        let mut unanswered = Unanswered::default();
        (51..60).for_each(|print| unanswered.note(Txid(5), print));
        let bytes: Vec<u8> = unanswered.encode().collect();
        assert_eq!(bytes.len(), LEN);
        assert_eq!(Unanswered::decode(&mut Fields::new(&bytes)), Some(unanswered));
        assert_eq!(Unanswered::decode(&mut Fields::new(&[0; LEN])), Some(Unanswered::default()));
        assert_eq!(Unanswered::decode(&mut Fields::new(&[0xff; LEN])), None);
    }
}
