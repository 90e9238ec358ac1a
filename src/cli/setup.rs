//! Shared by the commands: environment, config file and stores.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use super::global::Global;
use super::probe;
use crate::config::file::{DatabaseConfig, FileError};
use crate::config::{Config, CredentialError, Env, Location, Overrides, shown};
use crate::replicate::state::{home_of, noted_replicas};
use crate::store::credentials::Sources;
use crate::store::{self, ClientOptions, RetryPolicy, Store};

/// Flags, environment and config file. Opens stores; those of one endpoint share connections.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    flags: Overrides,
    env: Env,
    client: ClientOptions,
    sources: Sources,
    config: Option<Arc<Config>>,
}

/// A command's argument, resolved.
#[derive(Debug)]
pub(super) enum Target {
    /// A replica by its URL.
    Replica(Box<Location>),
    /// A database of the config file.
    Database(Box<DatabaseConfig>),
}

impl Setup {
    pub(super) fn new(global: &Global) -> Setup {
        let flags = Overrides {
            endpoint: global.endpoint.clone(),
            region: global.region.clone(),
            ca_cert: global.ca_cert.clone(),
            ..Overrides::default()
        };
        let vars = std::env::vars_os();
        let vars =
            vars.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        // As in Litestream, $PID in a config file is the process id, whatever the environment says.
        let pid = ("PID".to_owned(), std::process::id().to_string());
        let mut env = Env::new(vars.chain([pid]));
        if let Ok(directory) = std::env::current_dir() {
            env = env.in_directory(directory);
        }
        let client = ClientOptions { answers: global.resolve.clone(), ..ClientOptions::default() };
        let sources = Sources::new(env.clone(), &client.answers);
        Setup { flags, env, client, sources, config: None }
    }

    /// Reads the config file, if there is one. An ambiguous URL in it is settled by probing the
    /// servers.
    pub(super) fn load_config(&mut self, global: &Global) -> anyhow::Result<()> {
        let expand = !global.no_expand_env;
        loop {
            let error: FileError =
                match Config::open(global.config.as_deref(), &self.flags, &self.env, expand) {
                    Ok(config) => {
                        self.config = config.map(Arc::new);
                        return Ok(());
                    }
                    Err(error) => error,
                };
            let settled =
                error.ambiguity().and_then(|a| Some((a, probe::settle(a, &self.flags, &self.client)?)));
            let Some((ambiguity, reading)) = settled else { return Err(error.into()) };
            self.flags.settle(ambiguity, reading);
        }
    }

    /// The config file, if one was read.
    pub(super) fn config(&self) -> Option<&Arc<Config>> {
        self.config.as_ref()
    }

    /// The config file, or an error that names the paths that were tried.
    pub(super) fn need_config(&self, instead: &str) -> anyhow::Result<&Arc<Config>> {
        self.config.as_ref().with_context(|| {
            format!("there is no config file (/etc/lsfast.yml, /etc/litestream.yml): name one with --config FILE, or {instead}")
        })
    }

    /// The environment variables and the current directory.
    pub(super) fn env(&self) -> &Env {
        &self.env
    }

    /// How messages show an address that was noted in a state folder. No server is asked; `None`
    /// if the address cannot be read.
    pub(super) fn url_for_messages(&self, address: &str) -> Option<String> {
        let location = match plain_directory(address) {
            Some(directory) => Ok(Location::directory(self.env.absolute(directory))),
            None => Location::resolve(address, &self.flags, &self.env),
        };
        location.ok().map(|location| location.url)
    }

    /// Resolves a URL with flags and environment. An ambiguous one is settled by probing the
    /// servers.
    pub(super) fn resolve(&mut self, url: &str) -> anyhow::Result<Location> {
        use crate::config::ConfigError;
        if let Some(directory) = plain_directory(url) {
            let directory = self.env.absolute(directory);
            if directory.exists() && !directory.is_dir() {
                anyhow::bail!(
                    "{} is a file: a replica is a directory, or a URL such as s3://BUCKET/PREFIX",
                    directory.display()
                );
            }
            return Ok(Location::directory(directory));
        }
        match Location::resolve(url, &self.flags, &self.env) {
            Err(ConfigError::Ambiguous(ambiguity)) => {
                let Some(reading) = probe::settle(&ambiguity, &self.flags, &self.client) else {
                    return Err(ConfigError::Ambiguous(ambiguity).into());
                };
                self.flags.settle(&ambiguity, reading);
                Ok(Location::resolve(url, &self.flags, &self.env)?)
            }
            result => Ok(result?),
        }
    }

    /// A replica by its URL, or a database by its path in the config file.
    pub(super) fn target(&mut self, argument: &str, command: &str) -> anyhow::Result<Target> {
        if argument.contains("://") {
            return Ok(Target::Replica(Box::new(self.resolve(argument)?)));
        }
        let path = Path::new(argument);
        if let Some(config) = &self.config
            && let Some(database) = config.database(path, &self.env)?
        {
            return Ok(Target::Database(Box::new(database)));
        }
        // A database is a file, a replica is a directory.
        if self.env.absolute(path).is_dir() {
            return Ok(Target::Replica(Box::new(Location::directory(self.env.absolute(path)))));
        }
        // What the process knows or knew that replicates the database.
        if let Some(url) = noted_replicas(&home_of(&self.env.absolute(path))).into_iter().next() {
            return Ok(Target::Replica(Box::new(self.resolve(&url)?)));
        }
        // The replica that `lsfast replicate DB` creates next to the database.
        let beside = self.env.absolute(&default_replica(path));
        if beside.is_dir() {
            return Ok(Target::Replica(Box::new(Location::directory(beside))));
        }
        anyhow::bail!(self.no_such_entry(argument, command))
    }

    fn no_such_entry(&self, argument: &str, command: &str) -> String {
        // I7: a URL without its scheme may have a user name and a password.
        let is_url =
            !argument.starts_with('/') && argument.split('@').next().is_some_and(|a| a.contains(':'));
        let hidden = is_url.then(|| shown(argument));
        let argument = hidden.as_deref().unwrap_or(argument);
        let Some(config) = &self.config else {
            return format!(
                "{argument:?} is neither a replica URL (s3://BUCKET/PREFIX, file:///DIR) nor in a config file, since there is none: \
                 name one with --config FILE"
            );
        };
        let names = config.names();
        let first = names.first().map_or("DB", String::as_str);
        // A name with an ending is a file: most likely the one to restore to.
        let form = match command {
            "restore" if Path::new(argument).extension().is_some() => format!(
                ". DB is the path as the config file has it; to restore to another place, write: lsfast restore -o {argument} {first}"
            ),
            _ => String::new(),
        };
        format!(
            "{argument:?} is neither a directory nor a database of {}, which has {}{form}",
            config.path,
            names.join(", ")
        )
    }

    /// Opens the replica at `location`, without a request.
    pub(super) fn open(&self, location: &Location) -> anyhow::Result<Arc<dyn Store>> {
        let mut location = location.clone();
        self.complete(&mut location).with_context(|| location.url.clone())?;
        Ok(store::open(&location, &self.client)?)
    }

    /// The sources of keys.
    pub(super) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Sets up the chain of credential sources for a location without keys of its own. Makes no
    /// request.
    pub(super) fn complete(&self, location: &mut Location) -> Result<(), CredentialError> {
        self.sources.complete(location)
    }

    /// Certificates to trust in addition to the system's, from the flag or the environment.
    pub(super) fn ca_cert(&self) -> Option<PathBuf> {
        let named = ["AWS_CA_BUNDLE", "SSL_CERT_FILE"].iter().find_map(|name| self.env.get(name));
        self.flags.ca_cert.clone().or_else(|| named.map(PathBuf::from))
    }

    /// Sets the retry policy of a long-running process for all stores opened from now on: its
    /// callers back off by themselves.
    pub(super) fn serve(&mut self) {
        self.client.retry = RetryPolicy::of_a_service();
    }

    /// The options with which stores are opened.
    pub(super) fn client(&self) -> &ClientOptions {
        &self.client
    }
}

/// A replica that is named by its path alone. A scheme without slashes is a mistake, not a path.
fn plain_directory(text: &str) -> Option<&Path> {
    let scheme = text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.len() > 1
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    });
    (!scheme && !text.is_empty()).then(|| Path::new(text))
}

/// The default replica, `DB-replica` next to the database.
pub(super) fn default_replica(db: &Path) -> PathBuf {
    let mut name = db.as_os_str().to_os_string();
    name.push("-replica");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_directory_and_a_scheme_is_not() {
        for (text, is_path) in [
            ("/backup/app", true),
            ("../backup", true),
            ("backup", true),
            ("dir/with:colon", true),
            ("s3://bucket/app", false),
            ("s3:/bucket", false),
            ("https:bucket", false),
            ("", false),
        ] {
            assert_eq!(plain_directory(text).is_some(), is_path, "{text}");
        }
    }

    #[test]
    fn the_default_replica_stands_beside_the_database() {
        assert_eq!(default_replica(Path::new("/data/app.db")), Path::new("/data/app.db-replica"));
        assert_eq!(default_replica(Path::new("app.db")), Path::new("app.db-replica"));
    }
}
