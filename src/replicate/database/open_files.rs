//! Which files are followed, so that none is followed under two names, and which store locations
//! are replicas, so that none belongs to two databases.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::replicate::database::FollowError;
use crate::sqlite::database::FileId;
use crate::store::Store;

/// The files that the databases of this process have open, or are about to open.
///
/// Opening a file twice would not only store everything twice: closing one descriptor would drop
/// the POSIX locks of the other.
#[derive(Debug, Clone, Default)]
pub struct Files(Rc<RefCell<HashMap<FileId, PathBuf>>>);

/// The right to open one file; returned when dropped.
#[derive(Debug)]
pub struct Followed {
    /// Device and inode of the file.
    pub id: FileId,
    files: Files,
}

impl Files {
    /// Takes the file that `path` names now.
    ///
    /// # Errors
    /// [`FollowError::Same`] if it is taken under another name.
    pub fn take(&self, id: FileId, path: &Path) -> Result<Followed, FollowError> {
        let mut files = self.0.borrow_mut();
        if let Some(other) = files.get(&id) {
            return Err(FollowError::Same { db: path.to_owned(), other: other.clone() });
        }
        files.insert(id, path.to_owned());
        Ok(Followed { id, files: self.clone() })
    }
}

/// The store locations that are replicas of this process's databases.
#[derive(Debug, Clone, Default)]
pub struct Places(Rc<RefCell<HashMap<String, PathBuf>>>);

/// The right to write to one store location; returned when dropped.
#[derive(Debug)]
pub struct Reservation {
    identity: String,
    places: Places,
}

impl Places {
    /// Takes the location of `store` for a database.
    ///
    /// # Errors
    /// [`FollowError::SharedPlace`] if another database has taken it.
    pub fn take(&self, store: &dyn Store, db: &Path) -> Result<Reservation, FollowError> {
        let (identity, mut places) = (store.identity(), self.0.borrow_mut());
        if let Some(other) = places.get(&identity) {
            let (db, other, url) = (db.to_owned(), other.clone(), store.url().to_owned());
            return Err(FollowError::SharedPlace { db, other, url });
        }
        places.insert(identity.clone(), db.to_owned());
        Ok(Reservation { identity, places: self.clone() })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.places.0.borrow_mut().remove(&self.identity);
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.files.0.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::FileStore;

    #[test]
    fn a_place_is_the_replica_of_one_database_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = |name: &str| FileStore::new(dir.path().join(name));
        let places = Places::default();
        let first = places.take(&store("a"), Path::new("one.db")).unwrap();
        let _other = places.take(&store("b"), Path::new("two.db")).unwrap();
        let refused = places.take(&store("x/../a/"), Path::new("two.db")).unwrap_err().to_string();
        assert!(refused.contains("two.db") && refused.contains("one.db"), "{refused}");
        drop(first);
        places.take(&store("a"), Path::new("two.db")).unwrap();
    }
}
