//! The read lock that the guard holds in place of CKPT.

use std::io;

use crate::wal::index::{READ_MARK_NOT_USED, lock_read};
use crate::wal::shm::{LockKind, Shm};

/// Takes READ(k) shared: on a slot whose mark is not used, or otherwise on the one with the
/// highest mark, which hinders checkpoints least. Marks stay when their readers leave, and only
/// checkpoints clear them; without the second choice no checkpoint might run again. `None` if
/// other connections hold all slots exclusively.
pub(super) fn take_read(shm: &Shm) -> io::Result<Option<usize>> {
    for slot in (1..=4).rev() {
        if !shm.try_lock(lock_read(slot), LockKind::Shared)? {
            continue;
        }
        // A mark changes only under the exclusive lock of its slot, so it is stable now.
        if shm.checkpoint_info().read_marks[slot] == READ_MARK_NOT_USED {
            return Ok(Some(slot));
        }
        shm.unlock(lock_read(slot))?;
    }
    let marks = shm.checkpoint_info().read_marks;
    let mut slots = [1, 2, 3, 4];
    slots.sort_by_key(|slot| std::cmp::Reverse(marks[*slot]));
    for slot in slots {
        if shm.try_lock(lock_read(slot), LockKind::Shared)? {
            return Ok(Some(slot));
        }
    }
    Ok(None)
}
