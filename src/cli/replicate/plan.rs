//! The databases and replicas of `lsfast replicate`, from the command line or the config file.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::args::ReplicateArgs;
use super::socket::process_socket;
use super::{history, verification};
use crate::base::limits;
use crate::cli::report::print_line;
use crate::cli::setup::{Setup, default_replica};
use crate::config::Location;
use crate::config::file::{Config, DatabaseConfig, Directory};
use crate::io::Engine;
use crate::replicate::{Choose, DatabaseOptions, DirectoryOptions, ReplicaOptions};

/// What to replicate.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) databases: Vec<DatabaseOptions>,
    pub(super) directories: Vec<DirectoryOptions>,
    /// The databases to restore first if they do not exist.
    pub(super) to_fill: Vec<DatabaseOptions>,
    /// How often to look for commits without a hint: the shortest interval of any database.
    pub(super) safety_tick: Duration,
    /// The servers of the replicas, with their regions, for the log.
    servers: BTreeSet<String>,
}

impl Plan {
    pub(super) fn new(setup: &mut Setup, args: &ReplicateArgs) -> anyhow::Result<Plan> {
        let mut plan = Plan {
            databases: Vec::new(),
            directories: Vec::new(),
            to_fill: Vec::new(),
            safety_tick: limits::SAFETY_TICK,
            servers: BTreeSet::new(),
        };
        match &args.db {
            Some(db) => plan.by_arguments(setup, args, db)?,
            None => plan.by_config(setup, args)?,
        }
        Ok(plan)
    }

    fn by_arguments(&mut self, setup: &mut Setup, args: &ReplicateArgs, db: &Path) -> anyhow::Result<()> {
        let configured = match setup.config() {
            Some(config) if args.urls.is_empty() => config.database(db, setup.env())?,
            _ => None,
        };
        if let Some(database) = configured {
            return self.add(setup, &database, args);
        }
        let locations = locations(setup, args, db)?;
        self.servers.extend(locations.iter().filter_map(Location::server));
        self.push(by_locations(setup, args, db, &locations)?, args.restore_if_db_not_exists);
        Ok(())
    }

    fn by_config(&mut self, setup: &Setup, args: &ReplicateArgs) -> anyhow::Result<()> {
        let config = Arc::clone(setup.need_config("write lsfast replicate DB URL")?);
        let may_come = process_socket(&config).is_some() && !args.once;
        if config.databases.is_empty() && config.directories.is_empty() && !may_come {
            anyhow::bail!("{} names no databases: add one under dbs", config.path);
        }
        for database in &config.databases {
            self.add(setup, database, args)?;
        }
        for directory in &config.directories {
            // All of its databases are at the same servers. Any name of a database shows which.
            if let Ok(any) = directory.database(Path::new("any.db")) {
                self.servers.extend(any.replicas.iter().filter_map(|r| r.location.server()));
            }
            self.directories.push(directory_options(setup, &config, directory, args));
        }
        Ok(())
    }

    fn add(&mut self, setup: &Setup, database: &DatabaseConfig, args: &ReplicateArgs) -> anyhow::Result<()> {
        if let Some(interval) = &database.monitor_interval {
            self.safety_tick = self.safety_tick.min(interval.value);
        }
        self.servers.extend(database.replicas.iter().filter_map(|r| r.location.server()));
        let fill =
            args.restore_if_db_not_exists || database.restore_if_missing.as_ref().is_some_and(|r| r.value);
        self.push(database_options(setup, database, args)?, fill);
        Ok(())
    }

    fn push(&mut self, database: DatabaseOptions, fill: bool) {
        if fill {
            self.to_fill.push(database.clone());
        }
        self.databases.push(database);
    }

    /// Logs what is replicated.
    pub(super) fn announce(&self, engine: &Engine) {
        let (io, version) = (engine.kind().to_string(), env!("CARGO_PKG_VERSION"));
        let servers = self.servers.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let at = Some(servers.as_str()).filter(|servers| !servers.is_empty());
        if let ([database], []) = (&self.databases[..], &self.directories[..]) {
            let urls: Vec<&str> = database.replicas.iter().map(|r| r.store.url()).collect();
            tracing::info!(db = %database.path.display(), to = urls.join(" "), at, io, version, "replicating");
        } else {
            let (databases, directories) = (self.databases.len(), self.directories.len());
            tracing::info!(databases, directories, at, io, version, "replicating");
        }
    }
}

/// A database with replicas at these places, and the settings that no entry of the file changes.
fn by_locations(
    setup: &Setup,
    args: &ReplicateArgs,
    db: &Path,
    locations: &[Location],
) -> anyhow::Result<DatabaseOptions> {
    let interval = args.sync_interval.unwrap_or(SYNC_INTERVAL);
    let mut replicas: Vec<ReplicaOptions> = Vec::new();
    for location in locations {
        let store = setup.open(location)?;
        if replicas.iter().any(|r| r.store.identity() == store.identity()) {
            anyhow::bail!("{} is named twice: each replica needs a place of its own", store.url());
        }
        let history = history::options(setup.config().map(Arc::as_ref), None)?;
        let verification = verification::options(args, setup.config().map(|c| &c.verification));
        replicas.push(ReplicaOptions { store, sync_interval: interval, history, verification });
    }
    let mut options = DatabaseOptions::new(db, replicas);
    options.addresses = locations.iter().map(Location::address).collect();
    Ok(options)
}

/// The options of a database that a request names.
pub(super) fn registered(
    setup: &mut Setup,
    args: &ReplicateArgs,
    db: &Path,
    url: &str,
) -> anyhow::Result<DatabaseOptions> {
    let location = setup.resolve(url)?;
    by_locations(setup, args, &setup.env().absolute(db), &[location])
}

/// The sync interval if neither a flag nor the config file sets one.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

fn database_options(
    setup: &Setup,
    database: &DatabaseConfig,
    args: &ReplicateArgs,
) -> anyhow::Result<DatabaseOptions> {
    let mut replicas = Vec::new();
    for replica in &database.replicas {
        let said = replica.sync_interval.as_ref().map(|i| i.value);
        let sync_interval = args.sync_interval.or(said).unwrap_or(SYNC_INTERVAL);
        let history = history::options(setup.config().map(Arc::as_ref), Some(replica))?;
        let verification = verification::options(args, Some(&replica.verification));
        let store = setup.open(&replica.location)?;
        replicas.push(ReplicaOptions { store, sync_interval, history, verification });
    }
    let mut options = DatabaseOptions::new(&database.path.value, replicas);
    options.busy_timeout = database.busy_timeout.as_ref().map(|t| t.value);
    options.home = database.meta_path.as_ref().map(|m| m.value.clone());
    options.addresses = database.replicas.iter().map(|r| r.location.address()).collect();
    options.fingerprint = setup.config().map_or(0, |config| config.fingerprint(database));
    Ok(options)
}

fn directory_options(
    setup: &Setup,
    config: &Config,
    directory: &Directory,
    args: &ReplicateArgs,
) -> DirectoryOptions {
    let (owned, setup, args) = (directory.clone(), setup.clone(), args.clone());
    let choose: Choose = Arc::new(move |path| {
        let relative = path.strip_prefix(&owned.path.value).ok().filter(|r| owned.matches(r))?;
        let options = owned
            .database(relative)
            .map_err(anyhow::Error::from)
            .and_then(|database| database_options(&setup, &database, &args));
        Some(options.map_err(|e| crate::cli::one_line(&e)))
    });
    DirectoryOptions {
        path: directory.path.value.clone(),
        recursive: directory.recursive,
        watch: directory.watch,
        choose,
        fingerprint: config.fingerprint_of_directory(directory),
    }
}

/// The replicas: by URL, or a directory next to the database, which is printed before any other
/// output.
fn locations(setup: &mut Setup, args: &ReplicateArgs, db: &Path) -> anyhow::Result<Vec<Location>> {
    if !args.urls.is_empty() {
        return args.urls.iter().map(|url| setup.resolve(url)).collect();
    }
    let location = Location::directory(std::path::absolute(default_replica(db))?);
    print_line(&format!("replicating {} to {}", db.display(), location.url))?;
    Ok(vec![location])
}
