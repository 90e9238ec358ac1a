//! What a listener shows, and to how many at once.

use std::path::{Path, PathBuf};

use crate::base::limits;

/// The databases that a listener shows.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    /// All databases of the process.
    Process,
    /// The database whose local state is in this folder.
    Home(PathBuf),
}

impl Scope {
    /// Whether to show the database with its local state in `home`.
    pub(super) fn shows(&self, home: &Path) -> bool {
        match self {
            Scope::Process => true,
            Scope::Home(own) => own == home,
        }
    }

    /// Connections at once. Each listener has its own limit, so a client that uses up one listener
    /// does not block the others.
    pub(super) fn connections_max(&self) -> usize {
        match self {
            Scope::Process => limits::OBSERVE_CONNECTIONS,
            Scope::Home(_) => limits::OBSERVE_HOME_CONNECTIONS,
        }
    }
}
