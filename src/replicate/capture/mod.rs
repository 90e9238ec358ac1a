//! Takes every committed page of one live database, and proves that it missed none.
//!
//! # The proof
//!
//! Two independent facts prove that nothing was missed.
//!
//! - The locks: while CKPT or one of READ(0) to READ(4) is held, a generation of the WAL can end
//!   only when all its frames are captured (`docs/design/guard.md`).
//! - The count: the change counter in SQLite's wal-index grows by one with each commit, and capture
//!   counts the commit frames it takes. Equal counts mean that capture took each commit, whatever
//!   happened to the WAL meanwhile.
//!
//! The count decides where no lock was held: at the end of a turn in which a checkpoint was seen
//! running, and when an idle WAL was truncated.
//!
//! Some writers pad the WAL to whole sectors and repeat their commit frame, so that the two counts
//! drift apart. Capture notices this in cruise, where the locks alone are proof, and from then on
//! does without the count.
//!
//! If the proof fails, the commits in question are *lost* to capture: every replica compares page
//! hashes with the database, and capture continues from the present.
//!
//! # Modules
//!
//! | module | what it does |
//! |---|---|
//! | `look` | one look at the WAL: takes new commits, follows the guard |
//! | `state` | what capture knows of one database |
//! | `taken` | how far capture has read |
//! | `outcome` | the result of a look |
//! | `loss` | a proof has failed: capture restarts from the present |
//! | `early` | turns that began early, and what ends them |
//! | `damage` | frames or a wal-index that cannot be proven |
//! | `mend` | a wal-index that would mislead the next application |

mod damage;
mod early;
mod look;
mod loss;
mod mend;
mod outcome;
mod state;
mod taken;

pub(super) use damage::READ_TRIES;
pub(super) use loss::by_index;
pub use outcome::Look;
pub use state::Capture;
