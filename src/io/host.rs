//! Facts about this host: space and kind of file systems, permissions, and the limits of inotify,
//! io_uring and file descriptors.
//!
//! This module only asks. It opens no files except below `/proc`, and `/etc/passwd`.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Engine, IoChoice, read_small, sys};
use crate::base::limits;

/// Bytes of a file below `/proc`, or of `/etc/passwd`, at most. A longer one counts as missing.
const PROC_BYTES: u64 = 1 << 20;

/// Facts about a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// Bytes that an ordinary user may still write.
    pub free: u64,
    /// Kind of the file system, as far as it matters to lsfast.
    pub kind: FsKind,
}

/// Kinds of file systems on which a database is at risk, and all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsKind {
    /// A local disk, or a file system of unknown kind.
    Local,
    /// On another machine, with the name of its protocol.
    Network(&'static str),
    /// In memory, with its name: lost when the host restarts.
    Memory(&'static str),
    /// The writable layer of a container: lost with the container.
    Overlay,
}

/// The file system that `path` is on.
///
/// # Errors
/// Any error of `statfs(2)`.
pub fn file_system(path: &Path) -> io::Result<FileSystem> {
    let (free, magic) = sys::file_system(path)?;
    let kind = match magic {
        0x6969 => FsKind::Network("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => FsKind::Network("SMB"),
        0x0102_1997 => FsKind::Network("9p"),
        0x00c3_6400 => FsKind::Network("Ceph"),
        0x6573_5546 => FsKind::Network("FUSE"),
        0x0102_1994 => FsKind::Memory("tmpfs"),
        0x8584_58f6 => FsKind::Memory("ramfs"),
        0x794c_7630 => FsKind::Overlay,
        _ => FsKind::Local,
    };
    Ok(FileSystem { free, kind })
}

/// Whether this process may read and write `path`.
///
/// # Errors
/// Any error of `faccessat(2)`: `PermissionDenied`, `ReadOnlyFilesystem`, ...
pub fn may_write(path: &Path) -> io::Result<()> {
    sys::may(path, libc::R_OK | libc::W_OK)
}

/// Whether this process may create files in the directory `path`.
///
/// # Errors
/// Any error of `faccessat(2)`.
pub fn may_fill(path: &Path) -> io::Result<()> {
    sys::may(path, libc::R_OK | libc::W_OK | libc::X_OK)
}

/// Number of the effective user of this process.
///
/// # Errors
/// Any error of reading `/proc/self`, for example if `/proc` is not mounted.
pub fn user() -> io::Result<u32> {
    fs::metadata("/proc/self").map(|m| m.uid())
}

/// Name of a user, or `number UID` if `/etc/passwd` has none.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let passwd = read_small(Path::new("/etc/passwd"), PROC_BYTES).unwrap_or_default();
    let passwd = String::from_utf8_lossy(&passwd);
    let found = passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, _, id) = (parts.next()?, parts.next()?, parts.next()?);
        (id.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| format!("number {uid}"))
}

/// The name of this host; `None` without `/proc`.
#[must_use]
pub fn name() -> Option<String> {
    Some(text(Path::new("/proc/sys/kernel/hostname"))?.trim().to_owned())
}

/// The number in a file below `/proc/sys`; `None` if the kernel has no such setting.
#[must_use]
pub fn setting(name: &str) -> Option<u64> {
    let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
    text(&path)?.trim().parse().ok()
}

/// The soft limit of open files. `None` without `/proc` or without a limit.
#[must_use]
pub fn open_files_max() -> Option<u64> {
    let limits = text(Path::new("/proc/self/limits"))?;
    let line = limits.lines().find(|l| l.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Whether this process ignores a signal, as it does when `nohup` started it. `false` without
/// `/proc`.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    let status = text(Path::new("/proc/self/status")).unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap_or(0);
    (1..=64).contains(&signal) && mask >> (signal - 1) & 1 == 1
}

/// Why io_uring does not work here, as a sentence without its end; `None` if it works.
#[must_use]
pub fn without_uring() -> Option<String> {
    Engine::new(IoChoice::Uring).err().map(|e| match e {
        super::IoError::NoUring { cause } => cause,
        e @ super::IoError::Threads(_) => e.to_string(),
    })
}

fn text(path: &Path) -> Option<String> {
    let bytes = read_small(path, PROC_BYTES).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A process whose descriptors we may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Short name, from `comm`.
    pub name: String,
}

/// Open files of the processes of this host, as far as we may see them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Open {
    /// Processes, other than this one, that have one of the wanted files open.
    pub by: Vec<Process>,
    /// Number of inotify instances of our user.
    pub inotify_instances: u64,
    /// Number of watches of these instances.
    pub inotify_watches: u64,
}

/// Finds the processes that have a file open with one of these devices and inodes. Also counts the
/// use of inotify by our user.
#[must_use]
pub fn look_at_processes(wanted: &[(u64, u64)]) -> Open {
    let mut open = Open::default();
    let (own, user) = (std::process::id(), user().unwrap_or(u32::MAX));
    let Ok(entries) = fs::read_dir("/proc") else { return open };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.take(limits::PROCESSES_MAX) {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let is_ours = fs::metadata(&folder).is_ok_and(|m| m.uid() == user);
        // We may not look into processes of other users, and some processes end meanwhile.
        let Ok(descriptors) = fs::read_dir(folder.join("fd")) else { continue };
        let mut has = false;
        for descriptor in descriptors.flatten() {
            let path = descriptor.path();
            if is_ours && fs::read_link(&path).is_ok_and(|l| l.as_os_str() == "anon_inode:inotify") {
                open.inotify_instances += 1;
                let info = folder.join("fdinfo").join(descriptor.file_name());
                let lines = text(&info).unwrap_or_default();
                open.inotify_watches += lines.lines().filter(|l| l.starts_with("inotify wd:")).count() as u64;
            }
            // `stat` follows the link, so nothing is opened.
            has = has || fs::metadata(&path).is_ok_and(|m| wanted.contains(&(m.dev(), m.ino())));
        }
        if has && pid != own {
            let name = text(&folder.join("comm")).unwrap_or_default().trim().to_owned();
            open.by.push(Process { pid, name });
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host() {
        let dir = tempfile::tempdir().unwrap();
        assert!(file_system(dir.path()).unwrap().free > 0);
        assert!(matches!(
            file_system(Path::new("/dev/shm")).map(|f| f.kind),
            Ok(FsKind::Memory("tmpfs")) | Err(_)
        ));
        may_write(dir.path()).unwrap();
        assert_eq!(may_write(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_000), "number 4000000000");
        assert!(setting("fs.inotify.max_user_watches").unwrap() > 0);
        assert_eq!(setting("fs.no.such.setting"), None);
        assert!(open_files_max().is_none_or(|n| n > 3));
        // Rust's runtime ignores SIGPIPE.
        assert!(is_ignored(libc::SIGPIPE) && !is_ignored(libc::SIGSEGV));
    }

    #[test]
    fn who_has_a_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"x").unwrap();
        let m = fs::metadata(&path).unwrap();
        let wanted = [(m.dev(), m.ino())];
        assert_eq!(look_at_processes(&wanted).by, []);
        // The child prints a line when it has the file open, and ends when its input is closed.
        let mut child = std::process::Command::new("sh")
            .args(["-c", "exec 3<\"$0\"; echo open; read end"])
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 5];
        io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        let by = look_at_processes(&wanted).by;
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(by.iter().map(|p| p.pid).collect::<Vec<_>>(), [child.id()]);
    }
}
