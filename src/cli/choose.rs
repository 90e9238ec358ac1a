//! Which replica of a database to read, where it has several.

use anyhow::Context as _;

use super::setup::{Setup, Target};
use crate::base::Txid;
use crate::config::Location;
use crate::config::file::{DatabaseConfig, ReplicaConfig};
use crate::store::Scope;

/// The replica that an argument means: by its URL, or the best one of a database of the config file.
///
/// # Errors
/// As for [`newest`], and an argument that means nothing.
pub(super) async fn location(setup: &mut Setup, argument: &str) -> anyhow::Result<Location> {
    match setup.target(argument, "")? {
        Target::Replica(location) => Ok(*location),
        Target::Database(database) => newest(setup, &database, None).await,
    }
}

/// The replica called `name`, or the one that reaches furthest. One that can't be read is passed over, and said.
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
    let mut best: Option<(Txid, &ReplicaConfig)> = None;
    let mut first_error = None;
    for replica in &database.replicas {
        match reach(setup, &replica.location).await {
            // The first one named wins a tie.
            Ok(txid) if best.is_none_or(|(other, _)| other < txid) => best = Some((txid, replica)),
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

/// The largest TXID that is stored there; 0 for nothing.
async fn reach(setup: &Setup, location: &Location) -> anyhow::Result<Txid> {
    let entries = setup.open(location)?.list(Scope::All).await?;
    Ok(entries.iter().map(|e| e.id.max).max().unwrap_or(Txid(0)))
}
