//! The sockets in the folders of databases. Each has a listener of its own, which shows that
//! database alone: who may look into one folder need not know of the others.

use std::io;
use std::path::Path;

use tokio::sync::mpsc;

use super::scope::Scope;
use super::server::Command;
use crate::io::socket;
use crate::replicate::state::{self, home_folder};

/// The name of the socket in the folder of a database.
pub const SOCKET: &str = state::SOCKET;

/// Makes and ends them.
#[derive(Debug)]
pub(super) struct Homes {
    commands: mpsc::Sender<Command>,
    mode: u32,
}

impl Homes {
    pub(super) fn new(commands: mpsc::Sender<Command>, mode: u32) -> Homes {
        Homes { commands, mode }
    }

    /// Listens in `home`, at once: its lock is held for sure now.
    pub(super) fn serve(&self, home: &Path) {
        let path = home.join(SOCKET);
        let folder = home_folder(home).open();
        if let Ok(folder) = &folder
            && let Err(e) = folder.admit(self.mode)
        {
            tracing::debug!(folder = %home.display(), error = %e, "others than its owner cannot reach the socket");
        }
        let served =
            folder.and_then(|folder| socket::listen_in(&folder, SOCKET, self.mode)).and_then(|listener| {
                let full = |_| io::Error::other("too many sockets wait to be served");
                let scope = Scope::Home(home.to_owned());
                self.commands.try_send(Command::Serve(path.clone(), listener, scope)).map_err(full)
            });
        if let Err(e) = served {
            tracing::warn!(path = %path.display(), error = %e, "lsfast status cannot be answered here; replication is not affected");
        }
    }

    /// No longer in `home`, whose socket is removed in a moment, with or without this.
    pub(super) fn end(&self, home: &Path) {
        // A full queue leaves a listener that no path leads to.
        let _ = self.commands.try_send(Command::End(home.join(SOCKET)));
    }
}
