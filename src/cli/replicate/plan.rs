//! What `lsfast replicate` is to do: databases with their replicas, by command line.

use std::path::{Path, PathBuf};

use super::ReplicateArgs;
use crate::cli::report::print_line;
use crate::cli::setup::Stores;
use crate::config::Location;
use crate::io::Engine;
use crate::replicate::{DatabaseOptions, DirectoryOptions, ReplicaOptions};

/// What to replicate.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) databases: Vec<DatabaseOptions>,
    pub(super) directories: Vec<DirectoryOptions>,
}

impl Plan {
    pub(super) fn new(stores: &Stores, args: &ReplicateArgs) -> anyhow::Result<Plan> {
        let mut replicas: Vec<ReplicaOptions> = Vec::new();
        for location in locations(stores, args)? {
            let store = stores.open(&location)?;
            if replicas.iter().any(|r| r.store.identity() == store.identity()) {
                anyhow::bail!("{} is named twice: each replica needs a place of its own", store.url());
            }
            replicas.push(ReplicaOptions { store, sync_interval: args.sync_interval });
        }
        Ok(Plan { databases: vec![DatabaseOptions::new(&args.db, replicas)], directories: Vec::new() })
    }

    /// Says in the log what begins.
    pub(super) fn announce(&self, engine: &Engine) {
        let (io, version) = (engine.kind().to_string(), env!("CARGO_PKG_VERSION"));
        if let ([database], []) = (&self.databases[..], &self.directories[..]) {
            let urls: Vec<&str> = database.replicas.iter().map(|r| r.store.url()).collect();
            tracing::info!(db = %database.path.display(), to = urls.join(" "), io, version, "replicating");
        } else {
            let (databases, directories) = (self.databases.len(), self.directories.len());
            tracing::info!(databases, directories, io, version, "replicating");
        }
    }
}

/// Where to: by URL, or beside the database, which is said before anything else.
fn locations(stores: &Stores, args: &ReplicateArgs) -> anyhow::Result<Vec<Location>> {
    if !args.urls.is_empty() {
        return args.urls.iter().map(|url| stores.resolve(url)).collect();
    }
    let location = Location::directory(std::path::absolute(default_replica(&args.db))?);
    print_line(&format!("replicating {} to {}", args.db.display(), location.url))?;
    Ok(vec![location])
}

/// `DB-replica` beside the database.
fn default_replica(db: &Path) -> PathBuf {
    let mut name = db.as_os_str().to_os_string();
    name.push("-replica");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_replica_stands_beside_the_database() {
        assert_eq!(default_replica(Path::new("/data/app.db")), Path::new("/data/app.db-replica"));
        assert_eq!(default_replica(Path::new("app.db")), Path::new("app.db-replica"));
    }
}
