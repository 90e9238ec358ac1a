//! The sockets in the folders of databases. Each one has a separate listener that shows only its
//! database: access to one folder reveals nothing about other databases.

use std::io;
use std::path::Path;

use tokio::sync::mpsc;

use super::scope::Scope;
use super::server::Command;
use crate::io::{is_news, socket};
use crate::replicate::state::{self, home_folder};

/// Name of the socket in the folder of a database.
pub const SOCKET: &str = state::SOCKET;

/// Opens and closes these sockets.
#[derive(Debug)]
pub(super) struct Homes {
    commands: mpsc::Sender<Command>,
    mode: u32,
}

impl Homes {
    pub(super) fn new(commands: mpsc::Sender<Command>, mode: u32) -> Homes {
        Homes { commands, mode }
    }

    /// Listens in `home`. Call this while the lock of the folder is held.
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
            if !is_news(&e) {
                return;
            }
            tracing::warn!(path = %path.display(), error = %e, "lsfast status cannot be answered here; replication is not affected");
        }
    }

    /// Stops listening in `home`. The socket file is removed soon after, independently of this.
    pub(super) fn end(&self, home: &Path) {
        // If the queue is full, a listener stays that no path leads to.
        let _ = self.commands.try_send(Command::End(home.join(SOCKET)));
    }
}
