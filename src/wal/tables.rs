//! The lookup tables of the wal-index, by which SQLite finds the frames of a page.
//!
//! # Blocks of 32 KiB
//!
//! | offset | size | content |
//! |---|---|---|
//! | 0 | 16,384 | page numbers of 4,096 frames, 4 bytes each |
//! | 16,384 | 16,384 | 8,192 hash slots of 2 bytes |
//!
//! The first block begins with 136 bytes of header, and has page numbers of 4,062 frames.
//!
//! A slot holds the position, from 1 on, of a page number in the block; 0 marks an empty slot. The
//! search for a page begins at slot `page * 383 mod 8192`, continues with the next ones, and ends
//! at the first empty slot. It finds a frame only if no slot before the frame's is empty.
//!
//! # Validity
//!
//! No checksum covers the tables, and SQLite does not check them. A connection that is the first to
//! open the wal-index rebuilds them; all others rely on them.

use super::index::{BLOCK_BYTES, BLOCK_FRAMES, FIRST_BLOCK_FRAMES, LEAD_BYTES};
use crate::base::FrameNo;
use crate::base::fields::Fields;

/// Hash slots in a block.
const SLOTS: usize = 8192;

/// Offset of the hash slots in a block.
const SLOTS_OFFSET: usize = BLOCK_BYTES as usize - 2 * SLOTS;

/// Number of blocks for `mx` frames: SQLite makes at least one.
#[must_use]
pub const fn blocks_for(mx: FrameNo) -> u32 {
    1 + mx.0.saturating_sub(FIRST_BLOCK_FRAMES).div_ceil(BLOCK_FRAMES)
}

/// Whether a search in block `number` finds each of its frames up to `mx`.
///
/// # Panics
/// If `block` is not a block of 32 KiB.
#[must_use]
pub fn finds_all(block: &[u8], number: u32, mx: FrameNo) -> bool {
    assert_eq!(block.len() as u64, BLOCK_BYTES, "a block has 32 KiB");
    let (before, capacity, from) = match number {
        0 => (0, FIRST_BLOCK_FRAMES, LEAD_BYTES),
        n => (FIRST_BLOCK_FRAMES + (n - 1) * BLOCK_FRAMES, BLOCK_FRAMES, 0),
    };
    let frames = mx.0.saturating_sub(before).min(capacity) as usize;
    let page = |at: usize| Fields::new(&block[from + 4 * (at - 1)..]).ne32();
    let slot = |at: usize| usize::from(Fields::new(&block[SLOTS_OFFSET + 2 * at..]).ne16());
    let Some(empty) = (0..SLOTS).find(|at| slot(*at) == 0) else { return false };
    let (mut found, mut count, mut used) = (vec![false; frames + 1], 0, 0);
    // From behind an empty slot, so that each run of used ones is seen from its beginning.
    for at in (empty..empty + SLOTS).map(|at| at % SLOTS) {
        let position = slot(at);
        used = if position == 0 { 0 } else { used + 1 };
        if position > capacity as usize {
            return false;
        }
        if position == 0 || position > frames || page(position) == 0 {
            continue;
        }
        let first = (page(position) as usize).wrapping_mul(383) % SLOTS;
        if (at + SLOTS - first) % SLOTS < used && !std::mem::replace(&mut found[position], true) {
            count += 1;
        }
    }
    count == frames
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block as SQLite fills it.
    fn block(number: u32, pages: impl IntoIterator<Item = u32>) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES as usize];
        let from = if number == 0 { LEAD_BYTES } else { 0 };
        for (i, page) in pages.into_iter().enumerate() {
            block[from + 4 * i..][..4].copy_from_slice(&page.to_ne_bytes());
            let mut at = page as usize * 383 % SLOTS;
            while block[SLOTS_OFFSET + 2 * at..][..2] != [0, 0] {
                at = (at + 1) % SLOTS;
            }
            block[SLOTS_OFFSET + 2 * at..][..2].copy_from_slice(&(i as u16 + 1).to_ne_bytes());
        }
        block
    }

    #[test]
    fn blocks() {
        assert_eq!([0, 1, 4062, 4063, 8158, 8159].map(|n| blocks_for(FrameNo(n))), [1, 1, 1, 2, 2, 3]);
    }

    #[test]
    fn sound_blocks_are_sound() {
        // Collisions that reach over the end of the slots, and one page in many frames.
        let first = block(0, (0..4062).map(|i| if i % 2 == 0 { 7 } else { i * 8192 + 171 }));
        for mx in [0, 1, 2, 4000, 4062, 5000] {
            assert!(finds_all(&first, 0, FrameNo(mx)), "{mx}");
        }
        let second = block(1, 1..=4096);
        for mx in [4062, 4063, 5000, 8158, 9000] {
            assert!(finds_all(&second, 1, FrameNo(mx)), "{mx}");
        }
    }

    #[test]
    fn whatever_hides_a_frame_is_found() {
        let sound = block(0, (0..1000).map(|i| i % 90 + 1));
        for at in 0..1000 {
            let mut harmed = sound.clone();
            harmed[LEAD_BYTES + 4 * at..][..4].fill(0);
            assert!(!finds_all(&harmed, 0, FrameNo(1000)), "page number {at}");
            assert!(finds_all(&harmed, 0, FrameNo(at as u32)), "only published frames count");
        }
        for at in (0..SLOTS).map(|at| SLOTS_OFFSET + 2 * at) {
            let mut harmed = sound.clone();
            harmed[at..at + 2].fill(0);
            let used = sound[at..at + 2] != [0, 0];
            assert_eq!(!finds_all(&harmed, 0, FrameNo(1000)), used, "slot at {at}");
            harmed[at..at + 2].copy_from_slice(&4063u16.to_ne_bytes());
            assert!(!finds_all(&harmed, 0, FrameNo(1000)), "no such position, at {at}");
        }
        assert!(!finds_all(&vec![0; BLOCK_BYTES as usize], 0, FrameNo(1)));
        assert!(!finds_all(&vec![1; BLOCK_BYTES as usize], 0, FrameNo(1)), "no slot is empty");
    }
}
