//! Resolves the path of a database through its links, and tells whether a database exists there.

use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::RestoreError;
use crate::io::durable::directory_of;
use crate::io::host;

/// How many links in a row are followed, as the kernel does; more count as a circle.
const LINKS_MAX: usize = 40;

/// Mode bit of a directory, such as `/tmp`, in which users may create files but remove only their
/// own.
const STICKY: u32 = 0o1000;

/// Mode bit (setgid) of a directory that passes its own group on to new files, whichever user
/// creates them.
const GIVES_GROUP: u32 = 0o2000;

/// The file that `output` means, whether or not it exists: the end of its links. SQLite keeps the
/// WAL next to that file.
///
/// # Errors
/// [`RestoreError`], if this cannot be the path of a database file.
pub fn resolve(output: &Path) -> Result<PathBuf, RestoreError> {
    let bytes = output.as_os_str().as_bytes();
    let names_directory = bytes.ends_with(b"/") || bytes.ends_with(b"/.") || output.file_name().is_none();
    if names_directory {
        // The collected components have no slash at their end.
        return Err(RestoreError::NotAFile { path: output.components().collect() });
    }
    let mut path = output.to_owned();
    for _ in 0..=LINKS_MAX {
        let link = match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => found,
            Ok(found) if found.is_file() => return Ok(path),
            Ok(_) => return Err(RestoreError::NotAFile { path }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(e) => return Err(RestoreError::output("look at", &path, 0, e)),
        };
        let target = std::fs::read_link(&path).map_err(|e| RestoreError::output("look at", &path, 0, e))?;
        let target = directory_of(&path).join(target);
        if target.file_name().is_none() || target.as_os_str().as_bytes().ends_with(b"/") {
            return Err(RestoreError::NotAFile { path: target });
        }
        trusted(&path, &link, &target)?;
        path = target;
    }
    Err(RestoreError::LinkCircle { path: output.to_owned() })
}

/// Refuses a link through which another user could make this process write where that user may not.
/// For root that holds everywhere, for other users in directories like `/tmp`.
fn trusted(path: &Path, link: &Metadata, target: &Path) -> Result<(), RestoreError> {
    let us = host::user().unwrap_or(0);
    let owner = link.uid();
    let from = std::fs::metadata(directory_of(path)).ok();
    let from = from.as_ref();
    let shared = from.is_some_and(|m| m.mode() & STICKY != 0 && m.mode() & 0o022 != 0);
    if owner == us || owner == 0 || (us != 0 && !shared) {
        return Ok(());
    }
    // A link cannot be changed, only replaced, and only by a user who may write to its directory.
    if from.is_some_and(|m| (m.uid() == us || m.uid() == 0) && m.mode() & 0o022 == 0) {
        return Ok(());
    }
    // The owner of the link could have written to the target's directory too: as its owner, as a
    // member of its group, or as any user.
    let gives_group = from.is_none_or(|m| m.mode() & GIVES_GROUP != 0);
    let may_write = |m: &Metadata| {
        let group = m.mode() & 0o020 != 0 && m.gid() == link.gid() && !gives_group;
        m.uid() == owner || (m.mode() & STICKY == 0 && (group || m.mode() & 0o002 != 0))
    };
    if std::fs::metadata(directory_of(target)).is_ok_and(|m| may_write(&m)) {
        return Ok(());
    }
    let (path, target, owner) = (path.to_owned(), target.to_owned(), host::user_name(owner));
    Err(RestoreError::ForeignLink { path, target, owner })
}

/// Whether a database exists at `path`. An empty file does not count: programs create one before
/// they write to it, and containers mount volumes over one.
///
/// # Errors
/// [`RestoreError`], if the file system does not tell.
pub fn is_there(path: &Path) -> Result<bool, RestoreError> {
    let path = resolve(path)?;
    match std::fs::symlink_metadata(&path) {
        Ok(found) => Ok(found.len() > 0),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(RestoreError::output("look at", &path, 0, e)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn links_lead_to_where_the_database_will_be() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("volume/data")).unwrap();
        symlink("volume", at("mounted")).unwrap();
        symlink("mounted/data/real.db", at("link.db")).unwrap();
        symlink(at("link.db"), at("again.db")).unwrap();
        for name in ["link.db", "again.db"] {
            assert_eq!(resolve(&at(name)).unwrap(), at("mounted/data/real.db"));
            assert!(!is_there(&at(name)).unwrap());
        }
        std::fs::write(at("volume/data/real.db"), "").unwrap();
        assert!(!is_there(&at("again.db")).unwrap(), "an empty file is no database");
        std::fs::write(at("volume/data/real.db"), "x").unwrap();
        assert!(is_there(&at("again.db")).unwrap());
    }

    #[test]
    fn what_no_database_can_be_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let says = |path: &Path, what: &str| {
            let e = resolve(path).unwrap_err().to_string();
            assert!(e.contains(what), "{}: {e}", path.display());
        };
        for name in ["new/", "new/.", "new/..", ".."] {
            says(&at(name), "name the database file itself");
        }
        says(dir.path(), "name the database file itself");
        symlink(dir.path(), at("to-directory")).unwrap();
        says(&at("to-directory"), "name the database file itself");
        symlink("nowhere/", at("to-slash")).unwrap();
        says(&at("to-slash"), "name the database file itself");
        symlink("two", at("one")).unwrap();
        symlink("one", at("two")).unwrap();
        says(&at("one"), "lead in a circle");
        symlink("self", at("self")).unwrap();
        says(&at("self"), "lead in a circle");
        std::fs::write(at("file"), "x").unwrap();
        says(&at("file/x.db"), "cannot look at");
    }

    #[test]
    fn a_link_of_another_user_leads_root_only_to_where_that_user_may_write() {
        if host::user().unwrap() != 0 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let owned = |name: &str, user: u32, mode: u32| {
            std::fs::create_dir(at(name)).unwrap();
            std::os::unix::fs::chown(at(name), Some(user), Some(user)).unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let tenant = 65534;
        owned("tenant", tenant, 0o755);
        owned("root", 0, 0o755);
        owned("any", 0, 0o777);
        owned("sticky", 0, 0o1777);
        owned("group", 0, 0o775);
        std::os::unix::fs::chown(at("group"), None, Some(tenant)).unwrap();
        for (link, target) in [
            ("tenant/own.db", "tenant/real.db"),
            ("tenant/any.db", "any/real.db"),
            ("tenant/group.db", "group/real.db"),
            ("root/handed-over.db", "root/real.db"),
            ("tenant/sticky.db", "sticky/real.db"),
            ("tenant/evil.db", "root/passwd"),
        ] {
            symlink(at(target), at(link)).unwrap();
            std::os::unix::fs::lchown(at(link), Some(tenant), Some(tenant)).unwrap();
        }
        for name in ["any", "group"] {
            assert_eq!(resolve(&at(&format!("tenant/{name}.db"))).unwrap(), at(name).join("real.db"));
        }
        assert_eq!(resolve(&at("root/handed-over.db")).unwrap(), at("root/real.db"));
        let e = resolve(&at("tenant/sticky.db")).unwrap_err().to_string();
        assert!(e.contains("is not followed"), "{e}");
        assert_eq!(resolve(&at("tenant/own.db")).unwrap(), at("tenant/real.db"));
        let e = resolve(&at("tenant/evil.db")).unwrap_err().to_string();
        assert!(e.contains("root/passwd") && e.contains("is not followed"), "{e}");
    }
}
