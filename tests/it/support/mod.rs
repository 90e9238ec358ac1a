//! Shared by the tests of this folder.

pub mod fault;
pub mod logs;
pub mod ltx_file;
pub mod s3;
pub mod tls;
pub mod canned;
pub mod http;
pub mod litestream;
pub mod lsfast;
pub mod peers;
pub mod place;
pub mod process;
pub mod sqlite;
pub mod vectors;
pub mod weed;
