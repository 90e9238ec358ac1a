//! The calls of SQLite to a virtual file system, and their safe face.
//!
//! UNSAFE ISLAND. SQLite calls functions with C's calling convention and passes pointers to
//! structures of its own. No crate with a safe face passes on the parameters of a URI.
//!
//! # Rules
//!
//! - Database files are ours and can only be read. All others (temporary ones, mostly of sorters)
//!   are those of the file system that SQLite uses by default.
//! - A panic does not leave a function that SQLite calls: it becomes an I/O error.
//! - What is registered lives as long as the process, as SQLite demands of it.
//! - SQLite calls the functions of one file from one thread at a time.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use rusqlite::ffi;

use super::face::{Answer, DatabaseFile, Opener};

/// Bytes of the longest name of a database.
const NAME_MAX: c_int = 4096;

type Find = unsafe extern "C" fn(*const c_char) -> *mut ffi::sqlite3_vfs;
type Register = unsafe extern "C" fn(*mut ffi::sqlite3_vfs, c_int) -> c_int;
type Malloc = unsafe extern "C" fn(ffi::sqlite3_uint64) -> *mut c_void;
type Parameter = unsafe extern "C" fn(ffi::sqlite3_filename, *const c_char) -> *const c_char;

/// Positions of functions in `struct sqlite3_api_routines` of `sqlite3ext.h`. All its fields are
/// pointers, and new versions of SQLite only add fields at its end.
const VFS_FIND: usize = 141;
const VFS_REGISTER: usize = 142;
const URI_PARAMETER: usize = 189;
const MALLOC64: usize = 197;

/// The functions of the SQLite that will call: of the one in this program, or of the one that
/// loads an extension.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    find: Find,
    register: Register,
    malloc: Malloc,
    parameter: Parameter,
}

impl Api {
    /// The SQLite in this program.
    #[must_use]
    pub fn linked() -> Api {
        Api {
            find: ffi::sqlite3_vfs_find,
            register: ffi::sqlite3_vfs_register,
            malloc: ffi::sqlite3_malloc64,
            parameter: ffi::sqlite3_uri_parameter,
        }
    }

    /// The SQLite that loads an extension; `None` if it is too old to have all functions.
    ///
    /// # Safety
    /// `routines` is the pointer that SQLite passed to the entry point of the extension.
    #[must_use]
    pub unsafe fn of_loader(routines: *const c_void) -> Option<Api> {
        if routines.is_null() {
            return None;
        }
        // SAFETY: by the contract of this function it points to that structure, which has the
        // fields read here since SQLite 3.8.7 and lives as long as SQLite.
        let field = |at: usize| unsafe { routines.cast::<*const c_void>().add(at).read() };
        let [find, register, malloc, parameter] =
            [VFS_FIND, VFS_REGISTER, MALLOC64, URI_PARAMETER].map(field);
        if [find, register, malloc, parameter].iter().any(|f| f.is_null()) {
            return None;
        }
        // SAFETY: the fields are functions of these types, and not null.
        unsafe {
            Some(Api {
                find: std::mem::transmute::<*const c_void, Find>(find),
                register: std::mem::transmute::<*const c_void, Register>(register),
                malloc: std::mem::transmute::<*const c_void, Malloc>(malloc),
                parameter: std::mem::transmute::<*const c_void, Parameter>(parameter),
            })
        }
    }
}

/// What all files of the registered file system share.
struct Shared {
    api: Api,
    opener: Box<dyn Opener>,
    /// The file system that SQLite uses by default.
    base: *mut ffi::sqlite3_vfs,
}

/// One open database, in memory that SQLite allocates: `szOsFile` bytes.
#[repr(C)]
struct File {
    /// First, because SQLite knows only this part.
    head: ffi::sqlite3_file,
    open: *mut Open,
}

struct Open {
    file: Box<dyn DatabaseFile>,
    api: Api,
    is_locked: bool,
}

/// Registers a file system under `name`.
///
/// # Errors
/// SQLite's code, if it refuses.
pub fn register(api: Api, name: &CStr, opener: Box<dyn Opener>) -> Result<(), c_int> {
    // SAFETY: a null name asks for the default; the result lives as long as the process.
    let base = unsafe { (api.find)(ptr::null()) };
    // SAFETY: it is null or a registered file system, which is not changed any more.
    let Some(sizes) = (unsafe { base.as_ref() }) else { return Err(ffi::SQLITE_ERROR) };
    let own = c_int::try_from(size_of::<File>()).unwrap_or(c_int::MAX);
    let shared = Box::into_raw(Box::new(Shared { api, opener, base }));
    let vfs = Box::into_raw(Box::new(ffi::sqlite3_vfs {
        iVersion: 2,
        szOsFile: own.max(sizes.szOsFile),
        mxPathname: NAME_MAX,
        pNext: ptr::null_mut(),
        zName: CString::from(name).into_raw(),
        pAppData: shared.cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_name),
        xDlOpen: Some(dl_open),
        xDlError: Some(dl_error),
        xDlSym: Some(dl_sym),
        xDlClose: Some(dl_close),
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(last_error),
        xCurrentTimeInt64: Some(current_time_int64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }));
    // SAFETY: the structure is complete, and it is never freed.
    match unsafe { (api.register)(vfs, 0) } {
        ffi::SQLITE_OK => Ok(()),
        code => Err(code),
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    // Version 1 has no shared memory, so SQLite does not try to open a WAL.
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// The result of `work`, or the code if it panics.
fn caught(code: c_int, work: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(code)
}

/// Runs `work` with the open database of a file.
///
/// # Safety
/// SQLite passed `file`, and our `xOpen` has filled it.
unsafe fn with(file: *mut ffi::sqlite3_file, code: c_int, work: impl FnOnce(&mut Open) -> c_int) -> c_int {
    caught(code, || {
        // SAFETY: the caller's contract; SQLite uses a file from one thread at a time, so that
        // nothing else has a reference to it.
        match unsafe { (*file.cast::<File>()).open.as_mut() } {
            Some(open) => work(open),
            None => code,
        }
    })
}

/// Text of SQLite, or nothing for a null pointer.
///
/// # Safety
/// `text` is null or ends in a zero byte, and lives as long as the result is used.
unsafe fn text<'a>(text: *const c_char) -> Option<std::borrow::Cow<'a, str>> {
    // SAFETY: the caller's contract.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy())
}

/// # Safety
/// SQLite passed `vfs`, and it is the one that [`register`] made.
unsafe fn shared<'a>(vfs: *mut ffi::sqlite3_vfs) -> &'a Shared {
    // SAFETY: `register` sets the field, and neither structure is ever freed.
    unsafe { &*(*vfs).pAppData.cast::<Shared>() }
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite calls this with the file system that has this function.
    let shared = unsafe { shared(vfs) };
    if flags & ffi::SQLITE_OPEN_MAIN_DB == 0 {
        // SAFETY: the base is registered, and the memory is large enough for its files. It sets
        // its own methods, so that later calls go to it directly.
        return unsafe {
            match (*shared.base).xOpen {
                Some(base) => base(shared.base, name, file, flags, out_flags),
                None => ffi::SQLITE_CANTOPEN,
            }
        };
    }
    let file = file.cast::<File>();
    // SAFETY: SQLite allocates at least `szOsFile` bytes. Without methods it does not close a file
    // whose opening failed.
    unsafe { file.write(File { head: ffi::sqlite3_file { pMethods: ptr::null() }, open: ptr::null_mut() }) };
    caught(ffi::SQLITE_CANTOPEN, || {
        let parameter = |key: &str| {
            let key = CString::new(key).ok()?;
            // SAFETY: the name of a main database is one that SQLite made, with its parameters.
            unsafe { text((shared.api.parameter)(name, key.as_ptr())) }.map(std::borrow::Cow::into_owned)
        };
        // SAFETY: SQLite passes a text that lives as long as the file is open.
        let Some(of) = (unsafe { text(name) }) else { return ffi::SQLITE_CANTOPEN };
        let Ok(opened) = shared.opener.open(&of, &parameter) else { return ffi::SQLITE_CANTOPEN };
        let open = Box::new(Open { file: opened, api: shared.api, is_locked: false });
        // SAFETY: as above; `close` frees the box.
        unsafe {
            (*file).open = Box::into_raw(open);
            (*file).head.pMethods = &raw const METHODS;
            if let Some(out) = out_flags.as_mut() {
                *out = (flags & !ffi::SQLITE_OPEN_READWRITE & !ffi::SQLITE_OPEN_CREATE)
                    | ffi::SQLITE_OPEN_READONLY;
            }
        }
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let file = file.cast::<File>();
    // SAFETY: `open` filled the file, and SQLite closes it once.
    let open = unsafe { std::mem::replace(&mut (*file).open, ptr::null_mut()) };
    if !open.is_null() {
        // SAFETY: the pointer came from `Box::into_raw`, and was just taken out.
        let open = unsafe { Box::from_raw(open) };
        caught(ffi::SQLITE_OK, || {
            drop(open);
            ffi::SQLITE_OK
        });
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    out: *mut c_void,
    len: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let (Ok(len), Ok(offset)) = (usize::try_from(len), u64::try_from(offset)) else {
        return ffi::SQLITE_IOERR_READ;
    };
    // SAFETY: SQLite passes a buffer of that length. It may be uninitialised, so it is filled.
    let out = unsafe {
        ptr::write_bytes(out.cast::<u8>(), 0, len);
        std::slice::from_raw_parts_mut(out.cast::<u8>(), len)
    };
    // SAFETY: a method of our file.
    unsafe {
        with(file, ffi::SQLITE_IOERR_READ, |open| {
            let size = match open.file.size() {
                Ok(size) => size,
                Err(_) if open.is_locked => return ffi::SQLITE_IOERR_READ,
                // SQLite reads the header when it opens a file. The error is left to the first
                // transaction, so that there is a connection that can be asked for its message.
                Err(_) => return ffi::SQLITE_IOERR_SHORT_READ,
            };
            let there = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(len);
            match open.file.read(offset, &mut out[..there]) {
                Ok(()) if there == len => ffi::SQLITE_OK,
                Ok(()) => ffi::SQLITE_IOERR_SHORT_READ,
                Err(_) => ffi::SQLITE_IOERR_READ,
            }
        })
    }
}

unsafe extern "C" fn write(
    _: *mut ffi::sqlite3_file,
    _: *const c_void,
    _: c_int,
    _: ffi::sqlite3_int64,
) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn truncate(_: *mut ffi::sqlite3_file, _: ffi::sqlite3_int64) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn sync(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, out: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: a method of our file; SQLite passes a place for the size.
    unsafe {
        with(file, ffi::SQLITE_IOERR_FSTAT, |open| match open.file.size() {
            Ok(size) => {
                *out = ffi::sqlite3_int64::try_from(size).unwrap_or(ffi::sqlite3_int64::MAX);
                ffi::SQLITE_OK
            }
            Err(_) => ffi::SQLITE_IOERR_FSTAT,
        })
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    if level > ffi::SQLITE_LOCK_SHARED {
        return ffi::SQLITE_READONLY;
    }
    // SAFETY: a method of our file.
    unsafe {
        with(file, ffi::SQLITE_IOERR_LOCK, |open| {
            if !open.is_locked && open.file.begin().is_err() {
                return ffi::SQLITE_IOERR_LOCK;
            }
            open.is_locked = true;
            ffi::SQLITE_OK
        })
    }
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: a method of our file.
    unsafe {
        with(file, ffi::SQLITE_IOERR_UNLOCK, |open| {
            if level == ffi::SQLITE_LOCK_NONE && std::mem::replace(&mut open.is_locked, false) {
                open.file.end();
            }
            ffi::SQLITE_OK
        })
    }
}

unsafe extern "C" fn reserved(_: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite passes a place for the answer.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(file: *mut ffi::sqlite3_file, op: c_int, arg: *mut c_void) -> c_int {
    if op != ffi::SQLITE_FCNTL_PRAGMA {
        return ffi::SQLITE_NOTFOUND;
    }
    let arg = arg.cast::<*mut c_char>();
    // SAFETY: a method of our file. For this operation SQLite passes an array of pointers: the
    // place for the answer, the name of the pragma, and its value or null.
    unsafe {
        with(file, ffi::SQLITE_ERROR, |open| {
            let (name, value) = (text(*arg.add(1)), text(*arg.add(2)));
            let (code, answer) = match open.file.pragma(&name.unwrap_or_default(), value.as_deref()) {
                Answer::Unknown => return ffi::SQLITE_NOTFOUND,
                Answer::Text(answer) => (ffi::SQLITE_OK, answer),
                Answer::Error(message) => (ffi::SQLITE_ERROR, message),
            };
            let answer = CString::new(answer.replace('\0', " ")).unwrap_or_default();
            let bytes = answer.as_bytes_with_nul();
            // SQLite frees the answer, so SQLite allocates it.
            let place = (open.api.malloc)(bytes.len() as u64).cast::<u8>();
            if place.is_null() {
                return ffi::SQLITE_NOMEM;
            }
            ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len());
            *arg = place.cast();
            code
        })
    }
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN | ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, _: *const c_char, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

/// No state has a journal or a WAL.
unsafe extern "C" fn access(_: *mut ffi::sqlite3_vfs, _: *const c_char, _: c_int, out: *mut c_int) -> c_int {
    // SAFETY: SQLite passes a place for the answer.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

/// A name is no path, so it stays as it is.
unsafe extern "C" fn full_name(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite passes a text, and a buffer of `len` bytes for the result.
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if bytes.len() > usize::try_from(len).unwrap_or(0) {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(bytes.as_ptr(), out.cast(), bytes.len());
    }
    ffi::SQLITE_OK
}

/// Passes a call on to the default file system, with its own pointer.
macro_rules! pass_on {
    ($($name:ident = $field:ident($($arg:ident: $type:ty),*) $(-> $result:ty, $otherwise:expr)?;)*) => {$(
        unsafe extern "C" fn $name(vfs: *mut ffi::sqlite3_vfs $(, $arg: $type)*) $(-> $result)? {
            // SAFETY: SQLite calls this with the file system that has this function, and with the
            // arguments that the same function of another one takes.
            unsafe {
                let base = shared(vfs).base;
                match (*base).$field {
                    Some(call) => call(base $(, $arg)*),
                    None => { $($otherwise as $result)? }
                }
            }
        }
    )*};
}

type Symbol = Option<unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *mut c_void, *const c_char)>;

pass_on! {
    dl_open = xDlOpen(path: *const c_char) -> *mut c_void, ptr::null_mut();
    dl_error = xDlError(len: c_int, out: *mut c_char);
    dl_close = xDlClose(library: *mut c_void);
    randomness = xRandomness(len: c_int, out: *mut c_char) -> c_int, 0;
    sleep = xSleep(microseconds: c_int) -> c_int, 0;
    current_time = xCurrentTime(out: *mut f64) -> c_int, ffi::SQLITE_ERROR;
    current_time_int64 = xCurrentTimeInt64(out: *mut ffi::sqlite3_int64) -> c_int, ffi::SQLITE_ERROR;
    last_error = xGetLastError(len: c_int, out: *mut c_char) -> c_int, 0;
}

unsafe extern "C" fn dl_sym(vfs: *mut ffi::sqlite3_vfs, library: *mut c_void, name: *const c_char) -> Symbol {
    // SAFETY: as in `pass_on`.
    unsafe {
        let base = shared(vfs).base;
        (*base).xDlSym.and_then(|call| call(base, library, name))
    }
}
