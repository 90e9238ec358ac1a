//! Shared by the tests of this folder.

pub mod ltx_file;
pub mod vectors;
