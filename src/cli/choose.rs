//! Chooses the replica of a database to read, if the database has several.

use anyhow::Context as _;

use super::setup::{Setup, Target};
use crate::base::clock::Millis;
use crate::config::Location;
use crate::config::file::{DatabaseConfig, ReplicaConfig};
use crate::restore::{self, RestoreError, Selection};
use crate::store::Store;

/// Finds the replica that an argument names: by its URL, or the best one of a database of the
/// config file.
///
/// # Errors
/// Those of [`newest`], and an argument that is neither.
pub(super) async fn location(setup: &mut Setup, argument: &str) -> anyhow::Result<Location> {
    match setup.target(argument, "")? {
        Target::Replica(location) => Ok(*location),
        Target::Database(database) => newest(setup, &database, None).await,
    }
}

/// The replica called `name`; without a name, the one whose newest state is the youngest. A replica
/// that cannot be read is skipped with a warning.
///
/// # Errors
/// An unknown name. If no replica can be read, the first error.
pub(super) async fn newest(
    setup: &Setup,
    database: &DatabaseConfig,
    name: Option<&str>,
) -> anyhow::Result<Location> {
    if let Some(name) = name {
        return named(database, name).map(|r| r.location.clone());
    }
    if let [only] = &database.replicas[..] {
        return Ok(only.location.clone());
    }
    let mut best: Option<(Option<Millis>, &ReplicaConfig)> = None;
    let mut first_error = None;
    for replica in &database.replicas {
        let age = async { newest_state(&*setup.open(&replica.location)?).await };
        match age.await {
            // On a tie, the replica named first wins.
            Ok(time) if best.is_none_or(|(other, _)| other < time) => best = Some((time, replica)),
            Ok(_) => {}
            Err(e) => {
                tracing::warn!(replica = %replica.location.url, error = %super::one_line(&e), "this replica cannot be read; looking at the others");
                first_error.get_or_insert(e);
            }
        }
    }
    match (best, first_error) {
        (Some((_, replica)), _) => Ok(replica.location.clone()),
        (None, Some(e)) => Err(e),
        (None, None) => anyhow::bail!("{} has no replica", database.path.value.display()),
    }
}

fn named<'a>(database: &'a DatabaseConfig, name: &str) -> anyhow::Result<&'a ReplicaConfig> {
    let is = |r: &&ReplicaConfig| r.name.as_ref().is_some_and(|n| n.value == name) || r.location.url == name;
    database.replicas.iter().find(is).with_context(|| {
        let names: Vec<&str> = database
            .replicas
            .iter()
            .map(|r| r.name.as_ref().map_or(r.location.url.as_str(), |n| n.value.as_str()))
            .collect();
        format!(
            "{} has no replica called {name:?}; it has {}",
            database.path.value.display(),
            names.join(", ")
        )
    })
}

/// When the newest stored state was made; `None` for an empty replica. TXIDs are not comparable,
/// because each replica counts its own batches.
///
/// # Errors
/// A replica that cannot be read.
pub(super) async fn newest_state(store: &dyn Store) -> anyhow::Result<Option<Millis>> {
    match restore::choose(store, Selection::default()).await {
        Ok(choice) => Ok(Some(choice.created(store).await?)),
        Err(RestoreError::Empty { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
