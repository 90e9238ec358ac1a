//! The sockets in the folders of databases. All lead to the same few listeners, one for each file system, because a socket can have many
//! names and a descriptor for each of thousands of databases would be a waste.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;

use super::SOCKET;
use super::server::Command;
use crate::io::durable::directory_of;
use crate::io::local;
use crate::replicate::state::home_folder;

/// Names of a listener that are tried: somebody may have removed a folder.
const TRIES: usize = 4;

/// The names of one listener.
#[derive(Debug)]
struct Group {
    /// What the server calls it.
    key: PathBuf,
    names: HashSet<PathBuf>,
}

/// All names of all listeners.
#[derive(Debug)]
pub(super) struct Homes {
    commands: mpsc::Sender<Command>,
    mode: u32,
    groups: Mutex<Vec<Group>>,
}

impl Homes {
    pub(super) fn new(commands: mpsc::Sender<Command>, mode: u32) -> Homes {
        Homes { commands, mode, groups: Mutex::default() }
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
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        // The newest first: an older one may have all the names that its file system allows.
        for group in groups.iter_mut().rev() {
            let linked = folder.as_ref().is_ok_and(|folder| {
                group.names.iter().take(TRIES).any(|name| {
                    let from = home_folder(directory_of(name)).open();
                    from.is_ok_and(|from| local::link(&from, folder, SOCKET).is_ok())
                })
            });
            if linked {
                group.names.insert(path);
                return;
            }
        }
        let served =
            folder.and_then(|folder| local::listen_in(&folder, SOCKET, self.mode)).and_then(|listener| {
                let full = |_| io::Error::other("too many sockets wait to be served");
                self.commands.try_send(Command::Serve(path.clone(), listener)).map_err(full)
            });
        match served {
            Ok(()) => groups.push(Group { key: path.clone(), names: HashSet::from([path]) }),
            Err(e) => {
                tracing::warn!(path = %path.display(), error = %e, "lsfast status cannot be answered here; replication is not affected");
            }
        }
    }

    /// No longer in `home`, whose socket is removed in a moment, with or without this.
    pub(super) fn end(&self, home: &Path) {
        let path = home.join(SOCKET);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain_mut(|group| {
            if group.names.remove(&path) && group.names.is_empty() {
                let _ = self.commands.try_send(Command::End(group.key.clone()));
            }
            !group.names.is_empty()
        });
    }
}
