//! Unix sockets by path, whatever its length: an address holds 107 bytes, a path may be longer.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::durable::{directory_of, temporary_beside};
use super::file::File;

/// Bytes of a path in an address, the zero at its end not counted.
const PATH_MAX: usize = 107;

/// A path that fits into an address. It leads through an open descriptor of the directory if need be, which must live as long as it is used.
fn short(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    if path.as_os_str().len() <= PATH_MAX {
        return Ok((path.to_owned(), None));
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = File::open(directory_of(path))?;
    let short = Path::new("/proc/self/fd").join(directory.std().as_raw_fd().to_string()).join(name);
    Ok((short, Some(directory)))
}

/// Listens at `path` with these permissions. A socket that is there is replaced, without a moment in which there is none.
///
/// # Errors
/// `AlreadyExists` if something else than a socket is there; those of the system.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there"));
        }
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    // Under another name until it has its permissions.
    let temporary = temporary_beside(path);
    let (address, _directory) = short(&temporary)?;
    let listener = UnixListener::bind(address)?;
    let ready = std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(mode))
        .and_then(|()| std::fs::rename(&temporary, path));
    if let Err(e) = ready {
        let _ = std::fs::remove_file(&temporary);
        return Err(e);
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Makes `path` another name of the socket at `existing`, in the same file system; who connects to either meets the same listener.
/// A socket that is there is replaced.
///
/// # Errors
/// Those of `link(2)` and `rename(2)`: `CrossesDevices`, `NotFound`, `TooManyLinks`, ...
pub fn link(existing: &Path, path: &Path) -> io::Result<()> {
    let temporary = temporary_beside(path);
    std::fs::hard_link(existing, &temporary)?;
    let renamed = std::fs::rename(&temporary, path);
    // It is still there after a failure, and if `path` was that socket already.
    let _ = std::fs::remove_file(&temporary);
    renamed
}

/// Connects to the socket at `path`.
///
/// # Errors
/// `NotFound` without one, `ConnectionRefused` if nobody listens at it any more, `PermissionDenied`.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let (address, _directory) = short(path)?;
    UnixStream::connect(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_works_and_a_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for depth in [0, 4] {
            let folder = (0..depth).fold(dir.path().to_owned(), |d, _| d.join("x".repeat(60)));
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join("socket");
            assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
            drop(listen(&path, 0o600).unwrap());
            assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            let listener = listen(&path, 0o640).unwrap();
            connect(&path).unwrap();
            listener.accept().unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
            assert_eq!(
                std::fs::read_dir(&folder).unwrap().filter(|e| e.as_ref().unwrap().path().is_file()).count(),
                0
            );
        }
    }

    #[test]
    fn two_names_lead_to_one_listener_and_either_may_go() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let listener = listen(&one, 0o600).unwrap();
        for _ in 0..2 {
            link(&one, &two).unwrap();
        }
        std::fs::remove_file(&one).unwrap();
        connect(&two).unwrap();
        listener.accept().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(link(&one, &two).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn nothing_but_a_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(listen(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
