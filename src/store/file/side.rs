//! The side files of a directory replica: lists of times and generations of Litestream 0.3.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;

use super::inner::{Inner, error, if_there};
use crate::base::clock::Millis;
use crate::io::Folder;
use crate::ltx::TimesId;
use crate::store::api::Result;
use crate::store::{SideEntry, SideId};

impl Inner {
    /// All side files, sorted by name.
    pub(super) fn list_sides(&self) -> Result<Vec<SideEntry>> {
        let mut found = Vec::new();
        self.list_folder("times", &mut found)?;
        for (generation, _) in self.names("generations")? {
            for folder in ["snapshots", "wal"] {
                self.list_folder(&format!("generations/{generation}/{folder}"), &mut found)?;
            }
        }
        found.sort_unstable_by_key(|e| e.id);
        Ok(found)
    }

    fn list_folder(&self, below: &str, into: &mut Vec<SideEntry>) -> Result<()> {
        for (name, folder) in self.names(below)? {
            let Some(id) = SideId::parse(&format!("{below}/{name}")) else { continue };
            let seen = if_there(folder.look(OsStr::new(&name), true));
            let seen = seen.map_err(|e| error("read", &folder.path().join(&name), &e))?;
            if let Some(seen) = seen.filter(|seen| seen.is_file) {
                into.push(SideEntry { id, size: seen.len, modified: Millis::from_system(seen.modified) });
            }
        }
        Ok(())
    }

    /// Names in a folder, each with the folder; none if the folder does not exist.
    fn names(&self, below: &str) -> Result<impl Iterator<Item = (String, Rc<Folder>)> + use<>> {
        let failed = |e| error("list", &self.root.join(below), &e);
        let folder = match self.folder(Path::new(below)) {
            Ok(folder) => Some(Rc::new(folder)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            Err(e) => return Err(failed(e)),
        };
        let names = folder.as_ref().map_or_else(|| Ok(Vec::new()), |f| f.names()).map_err(failed)?;
        let text = names.into_iter().filter_map(|name| name.into_string().ok());
        Ok(text.filter_map(move |name| folder.clone().map(|folder| (name, folder))))
    }

    pub(super) fn put_times(&self, id: TimesId, body: &Bytes) -> Result<()> {
        let path = SideId::Times(id).path();
        let (below, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let failed = |what| move |e: io::Error| error(what, &self.root.join(below), &e);
        let folder = self.make(Path::new(below)).map_err(failed("make"))?;
        folder.write(name, body, self.mode).map_err(failed("write to"))
    }

    pub(super) fn delete_times(&self, ids: &[TimesId]) -> Result<()> {
        for &id in ids {
            let path = SideId::Times(id).path();
            let (below, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let failed = |e| error("remove", &self.root.join(&path), &e);
            if let Some(folder) = if_there(self.folder(Path::new(below))).map_err(failed)? {
                folder.remove(name).map_err(failed)?;
            }
        }
        Ok(())
    }
}
