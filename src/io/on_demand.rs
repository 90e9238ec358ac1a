//! Files that are open only while they are used: of many databases most are at rest.
#![allow(clippy::disallowed_methods)]
// Never for a database or its `-shm`: closing those drops locks.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::file::File;
use super::private::Private;

/// A file in a folder of ours, for reading and writing, that is opened when it is first needed,
/// made if it is not there, and closed by [`OnDemand::rest`].
#[derive(Debug)]
pub struct OnDemand {
    folder: Private,
    name: &'static str,
    mode: u32,
    file: Mutex<Option<File>>,
}

impl OnDemand {
    /// Not open yet.
    #[must_use]
    pub fn new(folder: Private, name: &'static str, mode: u32) -> OnDemand {
        OnDemand { folder, name, mode, file: Mutex::new(None) }
    }

    /// The same, open already.
    #[must_use]
    pub fn opened(self, file: File) -> OnDemand {
        OnDemand { file: Mutex::new(Some(file)), ..self }
    }

    /// The file, opened if it is not.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn get(&self) -> io::Result<File> {
        let mut file = self.lock();
        match &*file {
            Some(file) => Ok(file.clone()),
            None => {
                let opened = self.folder.open()?.open_or_create(self.name, self.mode)?;
                Ok(file.insert(opened).clone())
            }
        }
    }

    /// Closes it until it is needed again; clones that are still used stay open.
    pub fn rest(&self) {
        *self.lock() = None;
    }

    /// The same file, which has got another name meanwhile.
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
