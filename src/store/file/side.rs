//! What lies beside the levels of a directory replica.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Inner, error};
use crate::base::clock::Millis;
use crate::io::durable;
use crate::ltx::TimesId;
use crate::store::{Result, SideEntry, SideId};

impl Inner {
    pub(super) fn side_path(&self, id: SideId) -> PathBuf {
        self.root.join(id.path())
    }

    /// All of them, in order of their names.
    pub(super) fn list_sides(&self) -> Result<Vec<SideEntry>> {
        let mut found = Vec::new();
        self.list_folder("times", &mut found)?;
        for generation in names(&self.root.join("generations"))? {
            for folder in ["snapshots", "wal"] {
                self.list_folder(&format!("generations/{generation}/{folder}"), &mut found)?;
            }
        }
        found.sort_unstable_by_key(|e| e.id);
        Ok(found)
    }

    fn list_folder(&self, folder: &str, into: &mut Vec<SideEntry>) -> Result<()> {
        for name in names(&self.root.join(folder))? {
            let Some(id) = SideId::parse(&format!("{folder}/{name}")) else { continue };
            let path = self.side_path(id);
            let meta = match std::fs::metadata(&path) {
                Ok(meta) => meta,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(error("read", &path, &e)),
            };
            let modified = meta.modified().map_err(|e| error("read", &path, &e))?;
            if meta.is_file() {
                into.push(SideEntry { id, size: meta.len(), modified: Millis::from_system(modified) });
            }
        }
        Ok(())
    }

    pub(super) fn put_times(&self, id: TimesId, body: &Bytes) -> Result<()> {
        let path = self.side_path(SideId::Times(id));
        let directory = durable::directory_of(&path);
        self.make(directory).map_err(|e| error("make", directory, &e))?;
        durable::write(&path, body, self.mode).map_err(|e| error("write", &path, &e))
    }

    pub(super) fn delete_times(&self, ids: &[TimesId]) -> Result<()> {
        for &id in ids {
            let path = self.side_path(SideId::Times(id));
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(error("remove", &path, &e)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Names in a directory; none if it is not there.
fn names(directory: &Path) -> Result<Vec<String>> {
    let failed = |e| error("list", directory, &e);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(failed(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    Ok(names)
}
