//! Reads the b-trees of one state of a database, page by page.
//!
//! Pages come from a replica, so their content is not trusted: each offset is checked against the
//! page, each chain and each walk against the number of pages, each descent against the depth that
//! SQLite allows. A page that fails a check is [`BtreeError::Damaged`], never a panic or a loop.
//!
//! | module | what it reads |
//! |---|---|
//! | `state` | the database header, pages by number |
//! | `page` | one b-tree page and its cells |
//! | `row` | a row: its cell, and the overflow pages that continue it |
//! | `record` | the values of a row |
//! | `key` | the order of keys in an index b-tree |
//! | `find` | the way from a root to the page that holds a key |
//! | `walk` | all rows of a tree in order |
//! | `free` | the freelist and the pointer map |
//! | `schema`, `describe`, `table` | tables, their columns and keys |

mod describe;
mod error;
mod find;
mod free;
mod key;
mod page;
mod record;
mod row;
mod schema;
mod state;
mod table;
mod walk;

pub use error::BtreeError;
pub use find::{Way, find_key, find_rowid};
pub use free::{Pointer, free_pages, is_pointer_map, pointer};
pub use key::{Collation, Key, KeyColumn, compare_keys};
pub use page::{BtreePage, Cell, Kind};
pub use record::{Value, parse_record};
pub use row::Row;
pub use schema::{Entry, Schema};
pub use state::{Encoding, Source, State};
pub use table::{Affinity, Column, ForeignKey, Stored, Table};
pub use walk::Walk;
