//! A replica in a directory: `PATH/ltx/LEVEL/MIN-MAX.ltx`, as Litestream lays it out.
//!
//! A file gets its name only when it is whole: it is written beside its place under a name that
//! ends in `.tmp`, flushed, renamed, and then the directory is flushed. Its modification time is
//! the creation time of its header, exact to the millisecond. Names that are not those of LTX files
//! are ignored.
//!
//! Only the replica's own directory may be reached by links. Below it each step is opened by the
//! descriptor of the one above, and a link is refused: who may write there could otherwise have any
//! file of the host read or written.
//!
//! Calls run on the blocking threads of the tokio runtime that they are made from.

pub mod doctor;
mod side;
mod store;
mod write;

pub use store::FileStore;
