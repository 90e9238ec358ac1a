//! Shared by the tests of this folder.

pub mod fault;
pub mod logs;
pub mod ltx_file;
pub mod s3;
pub mod tls;
pub mod vectors;
