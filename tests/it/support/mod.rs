//! Shared by the tests of this folder.

pub mod browser;
pub mod canned;
pub mod case;
pub mod fault;
pub mod http;
pub mod litestream;
pub mod logs;
pub mod lsfast;
pub mod ltx_file;
pub mod memory;
pub mod peers;
pub mod place;
pub mod process;
pub mod proxy;
pub mod s3;
pub mod sqlite;
pub mod standin;
pub mod tls;
pub mod vectors;
pub mod weed;
