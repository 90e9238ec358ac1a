//! The status server of the process: listeners, sockets, heartbeat.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::commands::Commands;
use super::database_sockets::{Homes, SOCKET};
use super::heartbeat::Heartbeat;
use super::offline::holder;
use super::scope::Scope;
use super::server;
use super::server::Command;
use super::standbys::Followers;
use crate::base::limits;
use crate::config::Secret;
use crate::replicate::state::{home_folder, home_of};
use crate::replicate::{Event, Observer, Vitals};
use crate::restore::standby::FollowStatus;

/// Permissions of a socket if the config file sets none.
pub const SOCKET_MODE: u32 = 0o600;

/// Where to listen, and where to send heartbeats.
#[derive(Debug, Default)]
pub struct Options {
    /// Listen in the folder of each database.
    pub homes: bool,
    /// Also listen at this path.
    pub socket: Option<PathBuf>,
    /// Permissions of all sockets; 0600 if `None`.
    pub mode: Option<u32>,
    /// Serve HTTP here: `HOST:PORT`, or `:PORT` for this host only.
    pub addr: Option<String>,
    /// Token that requests to `addr` have to show; `None` for nothing.
    pub token: Option<Secret>,
    /// Where to send heartbeats.
    pub heartbeat: Option<Heartbeat>,
    /// What sockets do for Litestream's commands; `None` for nothing.
    pub commands: Option<Commands>,
}

/// Handle of the status server's thread.
#[derive(Debug)]
pub struct Observatory {
    vitals: Arc<Vitals>,
    followers: Arc<Followers>,
    commands: mpsc::Sender<Command>,
    homes: bool,
    mode: u32,
    /// The socket of the process; removed on drop.
    socket: Option<PathBuf>,
}

/// Starts the thread. If it cannot listen somewhere, it only logs an error: this must not keep a
/// database from being replicated.
///
/// # Errors
/// The I/O error if the thread or its runtime cannot be created.
pub fn start(options: Options) -> io::Result<Observatory> {
    let vitals = Arc::new(Vitals::default());
    let mode = options.mode.unwrap_or(SOCKET_MODE);
    let (commands, queue) = mpsc::channel(limits::OBSERVE_QUEUE);
    let mut socket = options.socket;
    if let Some(path) = &socket {
        match server::listen_at(path, mode) {
            // This cannot fail, because the queue is empty.
            Ok(listener) => drop(commands.try_send(Command::Serve(path.clone(), listener, Scope::Process))),
            Err(e) => {
                tracing::error!(path = %path.display(), error = %e, "cannot listen at this socket; nothing else is affected");
                socket = None;
            }
        }
    }
    let followers = Arc::new(Followers::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = (Arc::clone(&vitals), Arc::clone(&followers));
    std::thread::Builder::new().name("lsfast-observe".into()).spawn(move || {
        runtime.block_on(server::run(
            seen,
            queue,
            (options.addr, options.token, options.commands),
            options.heartbeat,
        ));
    })?;
    Ok(Observatory { vitals, followers, commands, homes: options.homes, mode, socket })
}

impl Observatory {
    /// The state that the pipelines write.
    #[must_use]
    pub fn vitals(&self) -> Arc<Vitals> {
        Arc::clone(&self.vitals)
    }

    /// An observer for the replication events, which opens and closes the sockets in the folders of
    /// databases.
    #[must_use]
    pub fn observer(&self) -> Observer {
        if !self.homes {
            return Arc::new(|_| {});
        }
        let homes = Homes::new(self.commands.clone(), self.mode);
        Arc::new(move |event| match event {
            Event::Held { home, .. } => homes.serve(home),
            Event::Released { home } => homes.end(home),
            _ => {}
        })
    }
}

/// The socket in the folder of a standby. Dropping it removes the socket.
#[derive(Debug)]
pub struct FollowSocket(PathBuf);

impl Drop for FollowSocket {
    fn drop(&mut self) {
        forget_follow_socket(&self.0);
    }
}

/// Removes the socket that a standby process left in a database's folder, and the folder if it is
/// empty then.
pub fn forget_follow_socket(home: &Path) {
    // A process that holds the lock of the folder replicates the database, and the socket belongs
    // to it.
    if holder(home).is_none() {
        let _ = home_folder(home).open().and_then(|folder| folder.remove(SOCKET));
        // Fails if replication has left files there.
        let _ = std::fs::remove_dir(home);
    }
}

impl Observatory {
    /// An observer for the status of a standby.
    #[must_use]
    pub fn follow_observer(&self) -> Arc<dyn Fn(&FollowStatus) + Send + Sync> {
        let followers = Arc::clone(&self.followers);
        Arc::new(move |status| followers.tell(status))
    }

    /// Listens in the folder of a standby, unless another process answers there already.
    #[must_use]
    pub fn follow(&self, database: &Path) -> Option<FollowSocket> {
        let home = home_of(database);
        let path = home.join(SOCKET);
        let owner = std::fs::metadata(database).ok().map(|m| m.uid());
        let listened = home_folder(&home).make(owner).and_then(|folder| {
            server::nobody_listens(&path)?;
            folder.admit(self.mode)?;
            crate::io::socket::listen_in(&folder, SOCKET, self.mode)
        });
        let served = listened.and_then(|listener| {
            let full = |_| io::Error::other("too many sockets wait to be served");
            let scope = Scope::Home(home.clone());
            self.commands.try_send(Command::Serve(path.clone(), listener, scope)).map_err(full)
        });
        match served {
            Ok(()) => Some(FollowSocket(home)),
            // The other process follows or replicates the database; whether that is allowed is
            // checked elsewhere.
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => None,
            Err(e) => {
                tracing::warn!(path = %path.display(), error = %e, "lsfast status cannot be answered here; following is not affected");
                None
            }
        }
    }
}

impl Drop for Observatory {
    fn drop(&mut self) {
        if let Some(path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}
