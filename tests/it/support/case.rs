//! A temporary folder with databases and replicas.

use std::path::{Path, PathBuf};

use super::place::Place;
use super::process::Process;
use super::{lsfast, process, sqlite};

/// A temporary folder, which is also the place of the replicas.
pub struct Case {
    /// The folder.
    pub dir: tempfile::TempDir,
    /// The same folder, as a place.
    pub place: Place,
}

impl Case {
    /// An empty folder.
    pub fn new() -> Case {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let place = Place::Dir(dir.path().to_path_buf());
        Case { dir, place }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts to replicate the database `name` to `replica`.
    pub fn replicate(&self, name: &str) -> Process {
        lsfast::replicate(&self.path(name), &[self.place.url("replica")], &[])
    }

    /// The content of what a restore of `replica` makes.
    fn restored(&self, replica: &str) -> String {
        let out = self.path("out.db");
        lsfast::restore(&out, &self.place.url(replica), &[], &["--force"]);
        sqlite::dump_hash(&out)
    }

    /// `replica` is as the database.
    pub fn is_restored_as(&self, db: &Path) {
        assert_eq!(self.restored("replica"), sqlite::dump_hash(db), "{}", db.display());
    }

    /// Waits until a replica is as the database `name`.
    pub fn until_restored_as(&self, replica: &str, name: &str) {
        let expected = sqlite::dump_hash(&self.path(name));
        process::until("the database to be stored", || (self.restored(replica) == expected).then_some(()));
    }
}
