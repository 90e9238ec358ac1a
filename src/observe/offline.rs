//! The status of a database without a process, from the files that the last process left next to
//! it.

use std::io;
use std::path::Path;

use super::snapshot::position;
use super::status::{DatabaseStatus, DurableStatus, FollowState, ReplicaStatus};
use crate::base::Txid;
use crate::io::read_small;
use crate::replicate::state::{LOCK, folder_of, home_folder, noted_url, read_state};
use crate::restore::standby::noted_position;

/// Longest list of locks that is read from the kernel, in bytes. A longer one is ignored.
const LOCKS_BYTES: u64 = 8 << 20;

/// A configured replica.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its [`identity`](crate::store::Store::identity).
    pub identity: String,
    /// Its URL, for messages.
    pub url: String,
}

/// Reads the local state of a database. Configured replicas come first, then those of which only
/// the state exists.
///
/// # Errors
/// The I/O error if a folder cannot be read.
pub fn without_process(db: &Path, home: &Path, places: &[Place]) -> io::Result<DatabaseStatus> {
    let mut folders = state_folders(home)?;
    let mut replicas = Vec::new();
    for place in places {
        let folder = folder_of(&place.identity);
        folders.retain(|f| *f != folder);
        replicas.push(replica(&home.join(folder), Some(place.url.clone()))?);
    }
    for folder in folders {
        let dir = home.join(folder);
        let replica = replica(&dir, noted_url(&dir))?;
        replicas.extend(Some(replica).filter(|r| r.durable.is_some()));
    }
    let noted = noted_position(db).filter(|_| replicas.is_empty());
    let state = if noted.is_some() { "read replica" } else { "not running" };
    let follows = noted.map(|txid| FollowState {
        state: "not running".into(),
        txid: Some(txid.to_string()),
        ..FollowState::default()
    });
    Ok(DatabaseStatus { replicas, follows, ..DatabaseStatus::of_files(db, home, state) })
}

/// Names of the folders with state; none if the home does not exist.
fn state_folders(home: &Path) -> io::Result<Vec<String>> {
    let found = match home_folder(home).open().and_then(|folder| folder.names()) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let names = found.iter().filter_map(|name| name.to_str().filter(|n| is_replica_folder(n)));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

/// The process that holds the lock of a folder, according to the kernel's list. The lock itself is
/// neither taken nor waited for.
#[must_use]
pub fn holder(home: &Path) -> Option<u32> {
    let inode = home_folder(home).open().ok()?.inode(LOCK).ok()?.to_string();
    let locks = read_small(Path::new("/proc/locks"), LOCKS_BYTES).ok()?;
    // A line such as `1: FLOCK  ADVISORY  WRITE 4711 08:01:123456 0 EOF`.
    String::from_utf8_lossy(&locks).lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = words[..] else { return None };
        let same = file.rsplit(':').next() == Some(&inode);
        pid.parse().ok().filter(|_| same)
    })
}

/// Whether this is the name of a replica's folder.
#[must_use]
pub fn is_replica_folder(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn replica(dir: &Path, url: Option<String>) -> io::Result<ReplicaStatus> {
    let state = read_state(dir)?.filter(|s| s.durable.txid != Txid(0));
    let durable = state.map(|s| DurableStatus {
        txid: s.durable.txid.to_string(),
        time: s.timestamp.to_rfc3339(),
        position: position(s.page_size, (s.durable.pos.salts, s.durable.pos.frame.0, s.durable.size_pages)),
    });
    Ok(ReplicaStatus {
        url,
        is_proven: false,
        state: "not running".into(),
        since: None,
        durable,
        lag: None,
        batches: 0,
        batch_bytes: 0,
        errors: 0,
        error: None,
        latency: None,
        history: None,
        verification: None,
    })
}
