//! What a running process tells of itself: its state to `lsfast status`, metrics to Prometheus, a page to people, and a heartbeat to
//! a service that waits for it.
//!
//! One thread with a loop of its own does all of it. It reads [`Vitals`], which the pipelines write and never wait for; an idle process
//! does nothing here. Where it listens:
//!
//! - at `socket` in the folder of each database that it follows, so that `lsfast status DB` finds it without a config file; all these are
//!   names of one socket, as far as one file system reaches. The folder's lock is held meanwhile, so the socket is that of the process that follows the database. One that was left behind by a
//!   killed process refuses connections, and is replaced by the next;
//! - at `socket.path` of the config file, if that is enabled;
//! - at `addr` of the config file.
//!
//! All of them answer the same GET requests: `/status` (JSON), `/metrics`, `/`. There is nothing to command, and nothing secret to see.

mod client;
mod heartbeat;
mod homes;
mod local;
mod metrics;
mod page;
mod server;
mod snapshot;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

pub use client::ask;
pub use heartbeat::{Heartbeat, INTERVAL as HEARTBEAT_INTERVAL};
pub use local::{Place, holder, is_replica_folder, without_process};
pub use snapshot::{
    DatabaseStatus, DurableStatus, FailureStatus, HistoryState, LagStatus, LatencyStatus, LevelState,
    Position, ReplicaStatus, Status, VerificationState,
};

use crate::base::limits;
use crate::replicate::{Event, Observer, Vitals};
use homes::Homes;
use server::Command;

/// Permissions of a socket, where nobody says otherwise.
pub const SOCKET_MODE: u32 = 0o600;

/// Where to listen, and what to do.
#[derive(Debug, Default)]
pub struct Options {
    /// Listen in the folder of each database.
    pub homes: bool,
    /// Listen here, too.
    pub socket: Option<PathBuf>,
    /// Permissions of all sockets.
    pub mode: Option<u32>,
    /// Serve HTTP here: `HOST:PORT`, or `:PORT` for all addresses of the host.
    pub addr: Option<String>,
    /// Whom to tell that all is well.
    pub heartbeat: Option<Heartbeat>,
}

/// The thread that tells.
#[derive(Debug)]
pub struct Observatory {
    vitals: Arc<Vitals>,
    commands: mpsc::Sender<Command>,
    homes: bool,
    mode: u32,
    /// The socket of the process.
    socket: Option<PathBuf>,
}

/// Starts the thread. A place where it can't listen is an error in the log and nothing else: it must not keep a database from being
/// replicated.
///
/// # Errors
/// No thread can be had.
pub fn start(options: Options) -> io::Result<Observatory> {
    let vitals = Arc::new(Vitals::default());
    let mode = options.mode.unwrap_or(SOCKET_MODE);
    let (commands, queue) = mpsc::channel(limits::OBSERVE_QUEUE);
    let mut socket = options.socket;
    if let Some(path) = &socket {
        match server::listen_at(path, mode) {
            // The queue is empty.
            Ok(listener) => drop(commands.try_send(Command::Serve(path.clone(), listener))),
            Err(e) => {
                tracing::error!(path = %path.display(), error = %e, "cannot listen at socket.path; replication is not affected");
                socket = None;
            }
        }
    }
    let (runtime, seen) =
        (tokio::runtime::Builder::new_current_thread().enable_all().build()?, Arc::clone(&vitals));
    std::thread::Builder::new().name("lsfast-observe".into()).spawn(move || {
        runtime.block_on(server::run(seen, queue, options.addr, options.heartbeat));
    })?;
    Ok(Observatory { vitals, commands, homes: options.homes, mode, socket })
}

impl Observatory {
    /// Where the pipelines are to show what they do.
    #[must_use]
    pub fn vitals(&self) -> Arc<Vitals> {
        Arc::clone(&self.vitals)
    }

    /// To be told of what happens, so that it listens in the folders of databases.
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

impl Drop for Observatory {
    fn drop(&mut self) {
        if let Some(path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The name of the socket in the folder of a database.
pub const SOCKET: &str = crate::replicate::state::SOCKET;
