//! The first part of an upload whose first bytes may be replaced.

use bytes::Bytes;

/// Where the first part is.
#[derive(Debug)]
pub(super) enum FirstPart {
    /// It is sent as soon as it is full, or was sent.
    Free,
    /// Its first bytes may be replaced.
    Announced,
    /// It is full, and its first bytes may be replaced.
    Held(Vec<Bytes>),
}

impl FirstPart {
    /// Puts `start` in place of the first bytes. `filling` are those of the part that is not full
    /// yet. Returns `false` if the first part may have been sent.
    pub(super) fn replace_start(&mut self, filling: &mut Vec<Bytes>, start: Bytes) -> bool {
        let pieces = match self {
            FirstPart::Free => return false,
            FirstPart::Announced => filling,
            FirstPart::Held(pieces) => pieces,
        };
        let mut old = start.len();
        while old > 0 {
            let piece = pieces.first_mut().expect("the bytes to be replaced were written");
            let cut = old.min(piece.len());
            *piece = piece.slice(cut..);
            old -= cut;
            if piece.is_empty() {
                pieces.remove(0);
            }
        }
        pieces.insert(0, start);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_may_end_inside_of_a_piece_or_between_two() {
        let pieces = || vec![Bytes::from_static(b"ab"), Bytes::from_static(b"cd"), Bytes::from_static(b"ef")];
        for (start, whole) in [("X", "Xbcdef"), ("XY", "XYcdef"), ("XYZ", "XYZdef"), ("XYZXYZ", "XYZXYZ")] {
            let mut filling = pieces();
            assert!(FirstPart::Announced.replace_start(&mut filling, start.into()));
            assert_eq!(filling.concat(), whole.as_bytes());
            let (mut held, mut filling) = (FirstPart::Held(pieces()), pieces());
            assert!(held.replace_start(&mut filling, start.into()));
            assert!(matches!(held, FirstPart::Held(now) if now.concat() == whole.as_bytes()));
            assert_eq!(filling, pieces());
        }
        assert!(!FirstPart::Free.replace_start(&mut pieces(), Bytes::from_static(b"X")));
    }
}
