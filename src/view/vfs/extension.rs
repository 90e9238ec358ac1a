//! The file system in a library that another SQLite loads.
//!
//! UNSAFE ISLAND. The entry point of an extension gets a pointer to the functions of that SQLite.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::sync::Mutex;

use super::opener::{NAME, States};
use super::sys::{self, Api};

/// Registers the file system `lsfast` with the SQLite that loads an extension, once in a process.
///
/// # Errors
/// The code to return to SQLite, or 0 if it is too old.
///
/// # Safety
/// `routines` is the pointer that SQLite passed to the entry point of the extension.
pub unsafe fn register_extension(routines: *const c_void) -> Result<(), c_int> {
    static DONE: Mutex<bool> = Mutex::new(false);
    let mut done = DONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if *done {
        return Ok(());
    }
    // SAFETY: the contract of this function is that of the called one.
    let api = unsafe { Api::of_loader(routines) }.ok_or(0)?;
    sys::register(api, NAME, Box::new(States))?;
    *done = true;
    Ok(())
}
