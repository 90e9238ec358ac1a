//! Which files are followed, so that none is twice under two names.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::follow::FollowError;
use crate::sqlite::database::FileId;

/// The files that databases of this process have, or are about to, open.
///
/// Two openings of one file would not only store everything twice: closing one would drop the POSIX locks of the other.
#[derive(Debug, Clone, Default)]
pub struct Files(Rc<RefCell<HashMap<FileId, PathBuf>>>);

/// The right to open one file; given back when dropped.
#[derive(Debug)]
pub struct Followed {
    /// The file.
    pub id: FileId,
    files: Files,
}

impl Files {
    /// Takes the file that `path` names now.
    ///
    /// # Errors
    /// [`FollowError::Same`] if another name of it was first.
    pub fn take(&self, id: FileId, path: &Path) -> Result<Followed, FollowError> {
        let mut files = self.0.borrow_mut();
        if let Some(other) = files.get(&id) {
            return Err(FollowError::Same { db: path.to_owned(), other: other.clone() });
        }
        files.insert(id, path.to_owned());
        Ok(Followed { id, files: self.clone() })
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.files.0.borrow_mut().remove(&self.id);
    }
}
