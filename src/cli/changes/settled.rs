//! An answer that comes from one listing, while files are merged and removed.
//!
//! The state at either end of a history finds other files by itself (`view::Snapshot`). The files
//! in between are the steps themselves: once they are merged there are fewer and longer steps. So
//! the whole answer is made again from a new listing.

use crate::base::limits;
use crate::restore::{RestoreError, damage};
use crate::view::ViewError;

/// Runs `work`, and again where a file that it had listed is gone.
pub(super) fn settled<T>(mut work: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut listings = 1;
    loop {
        match work() {
            Err(e) if listings < limits::RESTORE_LISTINGS && is_moved(&e) => {
                tracing::debug!(reason = %e, "a listed file is gone; listing the replica again");
                listings += 1;
            }
            done => return done,
        }
    }
}

/// Whether a file that was listed is missing, or shorter than its listing says.
fn is_moved(e: &anyhow::Error) -> bool {
    let of_view = e.downcast_ref::<ViewError>().and_then(|e| match e {
        ViewError::Restore(e) => Some(e),
        _ => None,
    });
    of_view.or_else(|| e.downcast_ref::<RestoreError>()).is_some_and(|e| damage::moved(e).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Level, LtxId, Txid};
    use crate::cli::changes::when;
    use crate::restore::Object;
    use crate::view::btree::BtreeError;

    fn gone() -> RestoreError {
        let id = LtxId::new(Level::RAW, Txid(1), Txid(1)).unwrap();
        RestoreError::Vanished { object: Object::Ltx(id), url: "file:///r".to_owned() }
    }

    /// The steps of a history were not found again: `log` of a replica whose first image had just
    /// been moved to its level ended with "run it again".
    #[test]
    fn a_listed_file_that_is_gone_leads_to_another_listing() {
        let of_a_page = || when::error(BtreeError::Source(Box::new(ViewError::from(gone()))));
        let of_a_listing = || anyhow::Error::from(ViewError::from(gone()));
        for e in [&of_a_page as &dyn Fn() -> anyhow::Error, &of_a_listing] {
            let mut runs = 0;
            let answer = settled(|| {
                runs += 1;
                if runs < 3 { Err(e()) } else { Ok(runs) }
            });
            assert_eq!(answer.unwrap(), 3);
            let mut runs = 0;
            let answer = settled(|| {
                runs += 1;
                Err::<(), _>(e())
            });
            assert!(answer.unwrap_err().to_string().contains("was removed"));
            assert_eq!(runs, limits::RESTORE_LISTINGS);
        }
        let mut runs = 0;
        let answer = settled(|| {
            runs += 1;
            Err::<(), _>(anyhow::anyhow!("another error"))
        });
        assert_eq!((answer.unwrap_err().to_string().as_str(), runs), ("another error", 1));
    }
}
