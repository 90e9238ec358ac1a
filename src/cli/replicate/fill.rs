//! `--restore-if-db-not-exists`: a new host gets its databases before an application opens them.

use std::sync::Arc;

use anyhow::Context as _;

use crate::cli::choose;
use crate::io::{Engine, durable};
use crate::replicate::{DatabaseOptions, ReplicaOptions};
use crate::restore::{self, RestoreError, RestoreOptions, Silent};

/// Restores each database that does not exist, from the replica whose newest state is the youngest.
///
/// # Errors
/// If a replica cannot be read: an application must not start with an empty database, or an old
/// state, because a store was unreachable.
pub(super) async fn fill(databases: &[DatabaseOptions], engine: &Engine) -> anyhow::Result<()> {
    for database in databases {
        // A path that cannot be examined is passed to the restore, whose error says why.
        if !restore::is_there(&database.path).unwrap_or(false) {
            fill_one(database, engine)
                .await
                .with_context(|| format!("{} cannot be restored", database.path.display()))?;
        }
    }
    Ok(())
}

async fn fill_one(database: &DatabaseOptions, engine: &Engine) -> anyhow::Result<()> {
    let path = &database.path;
    durable::create_dir_all(durable::directory_of(path))?;
    for replica in youngest_first(&database.replicas).await? {
        let url = replica.store.url();
        let options = RestoreOptions::new(path);
        match restore::run(Arc::clone(&replica.store), engine, options, &Silent).await {
            Ok(report) => {
                tracing::info!(db = %path.display(), from = url, txid = %report.txid, pages = report.pages, "restored");
                return Ok(());
            }
            Err(RestoreError::Empty { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    tracing::info!(db = %path.display(), "no replica holds it yet: nothing to restore");
    Ok(())
}

async fn youngest_first(replicas: &[ReplicaOptions]) -> anyhow::Result<Vec<&ReplicaOptions>> {
    if let [only] = replicas {
        return Ok(vec![only]);
    }
    let mut aged = Vec::new();
    for replica in replicas {
        aged.push((choose::newest_state(&*replica.store).await?, replica));
    }
    // The sort is stable, so the replica named first wins a tie.
    aged.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    Ok(aged.into_iter().map(|(_, replica)| replica).collect())
}
