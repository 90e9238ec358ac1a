//! Which replica of a database to read, where it has several.

use anyhow::Context as _;

use super::setup::{Setup, Target};
use crate::base::clock::Millis;
use crate::config::Location;
use crate::config::file::{DatabaseConfig, ReplicaConfig};
use crate::restore::{self, RestoreError, Selection};
use crate::store::Store;

/// The replica that an argument means: by its URL, or the best one of a database of the config
/// file.
///
/// # Errors
/// As for [`newest`], and an argument that means nothing.
pub(super) async fn location(setup: &mut Setup, argument: &str) -> anyhow::Result<Location> {
    match setup.target(argument, "")? {
        Target::Replica(location) => Ok(*location),
        Target::Database(database) => newest(setup, &database, None).await,
    }
}

/// The replica called `name`, or the one whose newest state is the youngest. One that can't be read
/// is passed over, and said.
///
/// # Errors
/// An unknown name; the first error, if none can be read.
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
            // The first one named wins a tie.
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

/// When the newest state that is stored there was stored; `None` for nothing. TXIDs say nothing:
/// each replica counts its own batches.
///
/// # Errors
/// A replica that can't be read.
pub(super) async fn newest_state(store: &dyn Store) -> anyhow::Result<Option<Millis>> {
    match restore::choose(store, Selection::default()).await {
        Ok(choice) => Ok(Some(choice.created(store).await?)),
        Err(RestoreError::Empty { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
