//! The loadable extension of SQLite: `.load ./liblsfast`, then
//! `file:NAME?vfs=lsfast&replica=URL`.
//!
//! All it does is to register the file system of `lsfast` with the SQLite that loads it.

use std::ffi::{c_char, c_int, c_void};

/// SQLite's codes.
const ERROR: c_int = 1;
/// The library stays loaded when the connection is closed: the file system is for all connections
/// of the process.
const OK_LOAD_PERMANENTLY: c_int = 256;

/// The entry point that SQLite looks for.
///
/// # Safety
/// SQLite calls this, with the table of its functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_lsfast_init(
    _connection: *mut c_void,
    _message: *mut *mut c_char,
    routines: *const c_void,
) -> c_int {
    // SAFETY: the pointer is the one that SQLite passed.
    match unsafe { program::register_extension(routines) } {
        Ok(()) => OK_LOAD_PERMANENTLY,
        Err(code) if code != 0 => code,
        Err(_) => ERROR,
    }
}
