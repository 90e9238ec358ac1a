//! Unix sockets at paths of any length. A socket address holds only 107 bytes of a path.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::durable::{directory_of, temporary_beside};
use super::file::File;
use super::private::Folder;

/// Bytes of a path in a socket address, without the final zero.
const PATH_MAX: usize = 107;

/// A path that fits into a socket address. If necessary it leads through an open descriptor of the
/// directory, which must stay open while the path is used.
fn short(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    if path.as_os_str().len() <= PATH_MAX {
        return Ok((path.to_owned(), None));
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = File::open_directory(directory_of(path))?;
    let short = Path::new("/proc/self/fd").join(directory.std().as_raw_fd().to_string()).join(name);
    Ok((short, Some(directory)))
}

/// Listens with the mode bits `mode` at `path`, which a user named. Replaces an existing socket,
/// without a moment in which there is none.
///
/// # Errors
/// `AlreadyExists` if something other than a socket has this name; otherwise any error of binding
/// or renaming the socket.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    listen_named(&Folder::named(directory_of(path))?, name, mode)
}

/// Like [`listen`], in a folder of lsfast.
///
/// # Errors
/// As [`listen`].
pub fn listen_in(folder: &Folder, name: &str, mode: u32) -> io::Result<UnixListener> {
    listen_named(folder, OsStr::new(name), mode)
}

fn listen_named(folder: &Folder, name: &OsStr, mode: u32) -> io::Result<UnixListener> {
    if folder.kind(name)?.is_some_and(|kind| kind != FileType::Socket) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is not a socket is there"));
    }
    // The socket has another name until its mode is set.
    let temporary = temporary_beside(Path::new(name));
    let temporary = temporary.as_os_str();
    let listener = UnixListener::bind(folder.short_path(temporary))?;
    let ready = folder.set_socket_mode(temporary, mode);
    if let Err(e) = ready.and_then(|()| folder.rename_socket(temporary, name)) {
        let _ = folder.remove_name(temporary);
        return Err(e);
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to the socket at `path`.
///
/// # Errors
/// `NotFound` if there is no socket, `ConnectionRefused` if no process listens at it any more,
/// `PermissionDenied`.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let (address, _directory) = short(path)?;
    UnixStream::connect(address)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::io::Private;

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
    fn nothing_but_a_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(listen(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let other = Private::new(dir.path().join("other"), 1).make(None).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        // A link to a socket does not count as a socket.
        let real = dir.path().join("real");
        let _listener = listen(&real, 0o600).unwrap();
        std::os::unix::fs::symlink(&real, other.path().join("socket")).unwrap();
        assert_eq!(listen_in(&other, "socket", 0o666).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
