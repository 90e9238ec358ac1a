//! Survives a wal-index that another program cuts while it is mapped.
//!
//! # Overview
//!
//! An access to a mapped page beyond the end of the file raises SIGBUS. By default the signal ends
//! the process, and with it the replication of all other databases. So everything that reads a
//! wal-index, [`Shm`](super::map::Shm) or an SQLite connection, runs inside [`survive`] or
//! [`survive_in`]. The signal handler maps a private page of zeros at the address, the access
//! continues, and the function returns that it happened.
//!
//! # What SQLite does with the zeros
//!
//! Zeros are not a valid header, so SQLite considers the wal-index damaged. Nothing that it writes
//! after that may reach other processes. A checkpoint that read zeros in place of page numbers
//! would publish the frames it skipped as copied. So at the first fault the handler also makes the
//! connection's page with the header private. The locks stay real. A TRUNCATE checkpoint would go
//! on to cut the WAL, with frames that it did not copy. [`survive_truncation`] makes that call
//! fail.
//!
//! # Other faults
//!
//! A fault outside of these functions goes to the handler that was installed before.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence};
use std::{io, ptr};

use rusqlite::{Connection, ffi};

/// Bytes of a wal-index that SQLite maps in one call (one region).
const REGION_BYTES: libc::c_int = 32 << 10;

/// What the handler may do on this thread. Only this thread and its handler use it, so relaxed
/// accesses suffice; compiler fences keep them in order.
struct Section {
    /// Range of addresses whose faults are survived; empty outside of a section.
    from: AtomicUsize,
    to: AtomicUsize,
    /// Address in the page to make private at the first fault; 0 for none.
    header: AtomicUsize,
    cut: AtomicBool,
    /// While [`survive_truncation`] runs: SQLite's own function that cuts a file.
    truncate: AtomicUsize,
}

/// SQLite's function that cuts a file.
type Truncate = unsafe extern "C" fn(*mut ffi::sqlite3_file, ffi::sqlite3_int64) -> libc::c_int;

thread_local! {
    // A constant with nothing to drop: the handler needs neither the heap nor a lock to reach it.
    static SECTION: Section = const {
        Section {
            from: AtomicUsize::new(0),
            to: AtomicUsize::new(0),
            header: AtomicUsize::new(0),
            cut: AtomicBool::new(false),
            truncate: AtomicUsize::new(0),
        }
    };
}

static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);
static BEFORE: OnceLock<io::Result<libc::sigaction>> = OnceLock::new();

/// Installs the handler, once in the process.
pub(super) fn watch() -> io::Result<()> {
    match BEFORE.get_or_init(install) {
        Ok(_) => Ok(()),
        Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
    }
}

fn install() -> io::Result<libc::sigaction> {
    // SAFETY: takes no pointers.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    PAGE_BYTES.store(usize::try_from(page).map_err(io::Error::other)?, Ordering::SeqCst);
    // SAFETY: `sigaction` is a plain structure of integers, for which zeros are a valid value.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: writes the present action to `before`, which lives until the call returns.
    if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_bus_error as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `on_bus_error` has the signature that SA_SIGINFO requires, and calls only functions
    // that a signal handler may call.
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(before)
}

/// Runs `work`, which may read mapped files at the addresses `at`. Also returns whether one of the
/// files was too short, so that `work` read zeros.
pub(super) fn survive<T>(at: Range<usize>, work: impl FnOnce() -> T) -> (T, bool) {
    run(at, 0, work)
}

/// Runs `work`, in which SQLite may use the wal-index of `conn`, or of a connection that `work`
/// opens. Also returns whether the wal-index was cut meanwhile. If so, no result of `work` is
/// valid, and the connection must be closed.
///
/// # Errors
/// Any error of installing the handler.
pub(crate) fn survive_in<T>(conn: Option<&Connection>, work: impl FnOnce() -> T) -> io::Result<(T, bool)> {
    watch()?;
    Ok(run(1..usize::MAX, conn.and_then(header_of).unwrap_or(0), work))
}

/// The same for a checkpoint of `conn` that cuts the WAL. After a fault it fails instead: it may
/// have skipped frames, which only the WAL has then.
///
/// # Errors
/// An error of installing the handler, or SQLite does not name its file of the WAL.
pub(crate) fn survive_truncation<T>(conn: &Connection, work: impl FnOnce() -> T) -> io::Result<(T, bool)> {
    watch()?;
    let header = header_of(conn).unwrap_or(0);
    let (file, own) = wal_of(conn).ok_or_else(|| io::Error::other("the connection has no WAL"))?;
    // SAFETY: `file` is the WAL of an open connection, which only this thread uses; it stays open
    // as long as the connection. The methods are SQLite's own, with one replaced. They live until
    // `_back` has put SQLite's own ones back. Only SQLite's calls during `work` use them.
    unsafe {
        let Some(truncate) = (*own).xTruncate else { return Err(io::Error::other("the WAL cannot be cut")) };
        let methods = ffi::sqlite3_io_methods { xTruncate: Some(truncate_unless_cut), ..*own };
        SECTION.with(|section| section.truncate.store(truncate as usize, Ordering::Relaxed));
        (*file).pMethods = &raw const methods;
        let _back = Back { file, own };
        Ok(run(1..usize::MAX, header, work))
    }
}

/// Puts SQLite's own methods back, also if `work` panics.
struct Back {
    file: *mut ffi::sqlite3_file,
    own: *const ffi::sqlite3_io_methods,
}

impl Drop for Back {
    fn drop(&mut self) {
        // SAFETY: the connection, and with it the file, outlives this value.
        unsafe { (*self.file).pMethods = self.own };
    }
}

/// SQLite's file of the WAL, and its methods.
fn wal_of(conn: &Connection) -> Option<(*mut ffi::sqlite3_file, *const ffi::sqlite3_io_methods)> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: as in `header_of`. JOURNAL_POINTER writes one pointer, to the WAL of a connection
    // that has one open.
    unsafe {
        let rc = ffi::sqlite3_file_control(
            conn.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_JOURNAL_POINTER,
            (&raw mut file).cast(),
        );
        let found = rc == ffi::SQLITE_OK && !file.is_null() && !(*file).pMethods.is_null();
        found.then(|| (file, (*file).pMethods))
    }
}

/// Cuts a file as SQLite would, unless the wal-index was cut since the section began.
unsafe extern "C" fn truncate_unless_cut(
    file: *mut ffi::sqlite3_file,
    size: ffi::sqlite3_int64,
) -> libc::c_int {
    let (cut, own) = SECTION
        .with(|section| (section.cut.load(Ordering::Relaxed), section.truncate.load(Ordering::Relaxed)));
    if cut || own == 0 {
        return ffi::SQLITE_IOERR_TRUNCATE;
    }
    // SAFETY: `survive_truncation` has stored SQLite's function for this very file, with this type.
    unsafe { std::mem::transmute::<usize, Truncate>(own)(file, size) }
}

/// Ends the section, also if `work` panics.
struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        SECTION.with(|section| section.to.store(0, Ordering::Relaxed));
    }
}

fn run<T>(at: Range<usize>, header: usize, work: impl FnOnce() -> T) -> (T, bool) {
    SECTION.with(|section| {
        section.cut.store(false, Ordering::Relaxed);
        section.header.store(header, Ordering::Relaxed);
        section.from.store(at.start, Ordering::Relaxed);
        section.to.store(at.end, Ordering::Relaxed);
    });
    compiler_fence(Ordering::SeqCst);
    let ended = Ended;
    let value = work();
    drop(ended);
    (value, SECTION.with(|section| section.cut.load(Ordering::Relaxed)))
}

/// Address at which the connection has mapped the header of its wal-index.
fn header_of(conn: &Connection) -> Option<usize> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the handle is that of an open connection which only this thread uses. FILE_POINTER
    // writes one pointer to `file`. The methods of an open file stay valid as long as its
    // connection. Mapping the first region again returns the address of the existing mapping.
    // rusqlite has no safe call for either.
    unsafe {
        let rc = ffi::sqlite3_file_control(
            conn.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            (&raw mut file).cast(),
        );
        if rc != ffi::SQLITE_OK || file.is_null() || (*file).pMethods.is_null() {
            return None;
        }
        let map = (*(*file).pMethods).xShmMap.filter(|_| (*(*file).pMethods).iVersion >= 2)?;
        let mut region: *mut libc::c_void = ptr::null_mut();
        let rc = map(file, 0, REGION_BYTES, 0, &raw mut region);
        (rc == ffi::SQLITE_OK && !region.is_null()).then_some(region as usize)
    }
}

extern "C" fn on_bus_error(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `info`, whose address is set for the faults that `si_code`
    // names. `__errno_location` always returns a valid pointer.
    let (code, address, errno) =
        unsafe { ((*info).si_code, (*info).si_addr() as usize, *libc::__errno_location()) };
    let survived =
        code == libc::BUS_ADRERR && SECTION.try_with(|section| section.put_zeros(address)).unwrap_or(false);
    if survived {
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = errno };
        return;
    }
    // SAFETY: `before` was the action of this signal until `install` replaced it. After the return
    // the access is repeated and reaches that action. A signal that another process sent is raised
    // again.
    unsafe {
        if let Some(Ok(before)) = BEFORE.get() {
            libc::sigaction(libc::SIGBUS, before, ptr::null_mut());
        }
        if code <= 0 {
            libc::raise(libc::SIGBUS);
        }
    }
}

impl Section {
    /// Maps a private page of zeros at an address, if faults there are survived.
    fn put_zeros(&self, address: usize) -> bool {
        if address < self.from.load(Ordering::Relaxed) || address >= self.to.load(Ordering::Relaxed) {
            return false;
        }
        let first = !self.cut.swap(true, Ordering::Relaxed);
        let header = self.header.load(Ordering::Relaxed);
        (!first || header == 0 || zeros_at(header)) && zeros_at(address)
    }
}

fn zeros_at(address: usize) -> bool {
    let bytes = PAGE_BYTES.load(Ordering::Relaxed);
    let page = address & !(bytes - 1);
    // SAFETY: `page` belongs to a mapping of a file. One case: the access to it has just failed,
    // because the file ends before it. The other: it holds the header of the wal-index that the
    // connection in use has mapped. Inside a section the only such mappings in use are those of
    // wal-indexes, which are shared memory without references to it. `mmap` is a plain system call.
    let mapped = unsafe {
        libc::mmap(
            page as *mut libc::c_void,
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    mapped != libc::MAP_FAILED
}
