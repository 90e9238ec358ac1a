//! Opens a state of a replica for SQLite.

use rusqlite::Connection;

use super::args::StateArgs;
use crate::cli::setup::{Setup, Target};
use crate::cli::{choose, runtime};
use crate::view::vfs::Mount;
use crate::view::{At, Replica, ViewError};

/// Opens the replica that the arguments name.
pub(super) fn replica(setup: &mut Setup, args: &StateArgs) -> anyhow::Result<Replica> {
    let event_loop = runtime::event_loop()?;
    let location = match setup.target(&args.url, "query")? {
        Target::Replica(location) => *location,
        Target::Database(database) => {
            event_loop.block_on(choose::newest(setup, &database, args.replica.as_deref()))?
        }
    };
    let store = setup.open(&location)?;
    Replica::keeping(store, args.cache.as_deref()).map_err(error)
}

/// A connection to one state.
pub(super) struct Session {
    /// Dropped before the mount.
    pub(super) connection: Connection,
    mount: Mount,
}

impl Session {
    pub(super) fn open(replica: &Replica, at: At) -> anyhow::Result<Session> {
        let mount = Mount::new(replica, at).map_err(error)?;
        let connection = mount.connect()?;
        let session = Session { connection, mount };
        // A state that cannot be opened is found here, not by the first statement.
        session.pragma("lsfast_txid")?;
        Ok(session)
    }

    /// The text that a pragma of the file system returns.
    pub(super) fn pragma(&self, name: &str) -> anyhow::Result<String> {
        let answer = self.connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0));
        answer.map_err(|e| self.explain(e))
    }

    /// The error of the replica behind an error of SQLite, or SQLite's own.
    pub(super) fn explain(&self, e: rusqlite::Error) -> anyhow::Error {
        self.mount.error().map_or_else(|| e.into(), error)
    }
}

/// Errors of a restore keep their type, which decides about the exit code.
fn error(e: ViewError) -> anyhow::Error {
    match e {
        ViewError::Restore(e) => e.into(),
        e => e.into(),
    }
}
