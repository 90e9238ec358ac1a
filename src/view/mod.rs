//! View: pages of one state of a replica, read on demand.
//!
//! # Overview
//!
//! A [`Snapshot`] is one state: the plan of a restore, of which only the pages that are asked for
//! are read. The page index at the end of each file says where its pages are. The newest file that
//! has a page has the right one.
//!
//! ```text
//! listing -> plan -> page index of each file -> frame of the page -> LZ4 -> page
//! ```
//!
//! A [`History`] has the files between two states, each with the numbers of its pages. So a change
//! is found without reading what did not change.
//!
//! `btree` reads tables from the pages of one state. `change` finds the rows that differ between
//! two states. A [`Timeline`] has all states between two as sources of pages for them.
//!
//! `delta` makes an existing database file a state of the replica, by the pages that differ.
//!
//! All share the memory of a [`Replica`]: page indexes, small files and recent pages.
//!
//! # What is proven
//!
//! A small file is read whole, and its checksum proves it. Of a long file only parts are read, and
//! the format has no checksum for one page. Then a page is proven as far as this goes: header and
//! name of the file agree, the frame has the number and the length that the index says, and it
//! decompresses to exactly one page. `docs/design/view.md` says what only a restore proves.
//!
//! # Failure
//!
//! A file that is damaged or has vanished is left out, and another plan for the same state replaces
//! the first. If there is none, the error says so; an older state never replaces the wanted one.

#![cfg_attr(not(feature = "internals"), allow(dead_code, unused_imports))]

mod ahead;
pub mod btree;
pub mod change;
pub mod delta;
mod driver;
mod error;
mod folder;
mod history;
mod lru;
mod page_index;
mod pages;
mod replica;
mod snapshot;
mod source;
mod stored_file;
mod timeline;
pub mod vfs;

pub use error::ViewError;
pub use history::{Change, History};
pub use pages::{At, Pages};
pub use replica::Replica;
pub use snapshot::{Snapshot, open};
pub use timeline::{Moment, Still, Timeline};
