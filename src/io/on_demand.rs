//! Files that are open only while they are used, because most of many databases are idle.
#![allow(clippy::disallowed_methods)]
// Not for a database or its `-shm`: closing those drops locks.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::file::File;
use super::private::Private;

/// A file for reading and writing in a folder of lsfast. It is opened, and if necessary created,
/// when it is first needed. [`OnDemand::rest`] closes it.
#[derive(Debug)]
pub struct OnDemand {
    folder: Private,
    name: &'static str,
    mode: u32,
    file: Mutex<Option<File>>,
}

impl OnDemand {
    /// The file `name` in `folder`, not open yet. It is created with the mode bits `mode`.
    #[must_use]
    pub fn new(folder: Private, name: &'static str, mode: u32) -> OnDemand {
        OnDemand { folder, name, mode, file: Mutex::new(None) }
    }

    /// The same with `file`, which is open already.
    #[must_use]
    pub fn opened(self, file: File) -> OnDemand {
        OnDemand { file: Mutex::new(Some(file)), ..self }
    }

    /// Returns the file, and opens it if it is not open.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn get(&self) -> io::Result<File> {
        let mut file = self.lock();
        match &*file {
            Some(file) => Ok(file.clone()),
            None => {
                let opened = self.folder.open()?.open_own(self.name, self.mode)?;
                Ok(file.insert(opened).clone())
            }
        }
    }

    /// Closes the file until it is needed again. Clones that are still in use stay open.
    pub fn rest(&self) {
        *self.lock() = None;
    }

    /// The same file after it was renamed to `name`.
    #[must_use]
    pub fn renamed(&self, name: &'static str) -> OnDemand {
        let (folder, file) = (self.folder.clone(), Mutex::new(self.lock().clone()));
        OnDemand { folder, name, mode: self.mode, file }
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_after_a_rest_and_under_a_new_name() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let file = OnDemand::new(Private::new(dir.path(), 1), "one", 0o600);
        assert!(!one.exists());
        file.get().unwrap().pwrite_all(b"kept", 0).unwrap();
        file.rest();
        assert_eq!(file.get().unwrap().len().unwrap(), 4);
        std::fs::rename(&one, &two).unwrap();
        let moved = file.renamed("two");
        moved.rest();
        assert_eq!(moved.get().unwrap().len().unwrap(), 4);
        assert!(!one.exists());
    }
}
