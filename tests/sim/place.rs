//! Where the replica of a history is: a bucket in memory, or a directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use fastrand::Rng;
use lsfast::store::{FileStore, Forward, Store};

use super::bucket::{Bucket, Objects};
use super::manners::Manners;

/// A place for one replica. Clones are the same one.
#[derive(Debug, Clone)]
pub enum Place {
    Bucket(Bucket),
    Directory(PathBuf),
}

/// Everything that is stored, to be put back later.
#[derive(Debug, Clone)]
pub enum Copy {
    Bucket(Objects),
    Directory(Files),
}

/// What happens to a stored file. The numbers are places in it, in bytes, modulo its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    Remove,
    /// The byte there is changed.
    Change(usize),
    /// The file ends there.
    Cut(usize),
}

impl Harm {
    /// What is left of this content, if anything.
    fn of(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = bytes.to_vec();
        let len = bytes.len().max(1);
        match self {
            Harm::Remove => return None,
            Harm::Change(at) => bytes.iter_mut().skip(at % len).take(1).for_each(|b| *b ^= 0x21),
            Harm::Cut(at) => bytes.truncate(at % len),
        }
        Some(bytes)
    }
}

/// Files by path, each with the time of its last change.
pub type Files = BTreeMap<PathBuf, (Vec<u8>, SystemTime)>;

/// The files below a directory.
pub fn files_below(dir: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(m) if m.is_dir() => folders.push(entry.path()),
                Ok(m) if m.is_file() => {
                    let content = std::fs::read(entry.path()).unwrap_or_default();
                    files.insert(entry.path(), (content, m.modified().unwrap_or(SystemTime::UNIX_EPOCH)));
                }
                _ => {}
            }
        }
    }
    files
}

/// Makes a directory hold these files and no others.
pub fn put_files(dir: &Path, files: &Files) {
    let _ = std::fs::remove_dir_all(dir);
    for (path, (content, modified)) in files {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, content).expect("a file");
        let file = std::fs::File::options().write(true).open(path).expect("a file");
        file.set_modified(*modified).expect("a time");
    }
}

/// The store in a directory, whose identity is the same in each process: the moments of compactions
/// and verifications depend on it.
#[derive(Debug)]
struct Named(FileStore);

impl Forward for Named {
    fn inner(&self) -> &dyn Store {
        &self.0
    }

    fn identity(&self) -> String {
        "file:///replica".to_owned()
    }
}

impl Place {
    /// A client of a new process.
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Place::Bucket(bucket) => bucket.store(),
            Place::Directory(dir) => Arc::new(Named(FileStore::new(dir))),
        }
    }

    pub fn copy(&self) -> Copy {
        match self {
            Place::Bucket(bucket) => Copy::Bucket(bucket.objects()),
            Place::Directory(dir) => Copy::Directory(files_below(dir)),
        }
    }

    /// A copy that nothing else changes, for a directory in `dir`.
    pub fn frozen(&self, dir: &Path) -> Place {
        match self {
            Place::Bucket(bucket) => {
                let copy = Bucket::new("bucket", 0, Manners { page: 1000, ..Manners::default() });
                copy.set_objects(bucket.objects());
                Place::Bucket(copy)
            }
            Place::Directory(from) => {
                let moved = |path: PathBuf| dir.join(path.strip_prefix(from).unwrap_or(&path));
                put_files(dir, &files_below(from).into_iter().map(|(p, f)| (moved(p), f)).collect());
                Place::Directory(dir.to_owned())
            }
        }
    }

    pub fn put_back(&self, copy: &Copy) {
        match (self, copy) {
            (Place::Bucket(bucket), Copy::Bucket(objects)) => bucket.set_objects(objects.clone()),
            (Place::Directory(dir), Copy::Directory(files)) => put_files(dir, files),
            _ => unreachable!("a copy of this place"),
        }
    }

    /// The files of a directory come in another order when they are listed.
    pub fn shuffle(&self, rng: &mut Rng) {
        let Place::Directory(dir) = self else { return };
        let mut paths: Vec<PathBuf> = files_below(dir).into_keys().collect();
        rng.shuffle(&mut paths);
        for path in paths {
            // A name that was given again is the last one.
            let other = path.with_extension("moved");
            let _ = std::fs::rename(&path, &other).and_then(|()| std::fs::rename(&other, &path));
        }
    }

    pub fn clear(&self) {
        match self {
            Place::Bucket(bucket) => bucket.set_objects(Objects::new()),
            Place::Directory(dir) => drop(std::fs::remove_dir_all(dir)),
        }
    }

    /// Damages one stored file. Returns its name.
    pub fn harm(&self, which: usize, harm: Harm) -> Option<String> {
        match self {
            Place::Bucket(bucket) => bucket.change(|objects| {
                let key = objects.keys().nth(which % objects.len().max(1))?.clone();
                match objects.get(&key).and_then(|object| harm.of(&object.body)) {
                    Some(bytes) => objects.get_mut(&key)?.body = bytes.into(),
                    None => drop(objects.remove(&key)),
                }
                Some(key)
            }),
            Place::Directory(dir) => {
                let files = files_below(dir);
                let (path, (bytes, modified)) = files.iter().nth(which % files.len().max(1))?;
                match harm.of(bytes) {
                    Some(bytes) => {
                        std::fs::write(path, bytes).ok()?;
                        std::fs::File::options().write(true).open(path).ok()?.set_modified(*modified).ok()?;
                    }
                    None => std::fs::remove_file(path).ok()?,
                }
                Some(path.display().to_string())
            }
        }
    }

    /// Whether no request fails.
    pub fn is_sound(&self) -> bool {
        match self {
            Place::Bucket(bucket) => bucket.is_sound(),
            Place::Directory(_) => true,
        }
    }

    /// Requests so far, without those of the checker.
    pub fn requests(&self) -> u64 {
        match self {
            Place::Bucket(bucket) => bucket.requests(),
            Place::Directory(_) => 0,
        }
    }

    /// Whether the checker asks, which meets no fault.
    pub fn calm(&self, calm: bool) {
        if let Place::Bucket(bucket) = self {
            bucket.calm(calm);
        }
    }
}
