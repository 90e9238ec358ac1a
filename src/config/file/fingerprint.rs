//! Whether settings mean the same as before, on whatever line they are.
//!
//! A fingerprint is a hash of all values, keys included. It lives in memory only. The values of a
//! database and its replicas are those of the lines that explain them, and what no line shows.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use super::config::Config;
use super::database::{DatabaseConfig, Directory};
use super::inherited::Snapshots;
use crate::config::{CredentialSource, Kind, Location, S3Location, Secret, Sourced};

/// Collects values. Their order counts.
#[derive(Default)]
struct Print(DefaultHasher);

impl Print {
    fn add(&mut self, value: impl Hash) -> &mut Print {
        value.hash(&mut self.0);
        self
    }

    /// A value without a secret.
    fn text(&mut self, value: impl Debug) -> &mut Print {
        self.add(format!("{value:?}"))
    }

    fn value<T: Hash>(&mut self, value: &Option<Sourced<T>>) -> &mut Print {
        self.add(value.as_ref().map(|v| &v.value))
    }

    fn snapshots(&mut self, of: &Snapshots) -> &mut Print {
        self.value(&of.interval).value(&of.retention)
    }

    fn location(&mut self, location: &Location) {
        self.add(&location.url).add(location.identity());
        if let Kind::S3(s3) = &location.kind {
            self.s3(s3);
        }
    }

    fn s3(&mut self, s3: &S3Location) {
        self.text(&s3.endpoint.value).add(&s3.region.value).add(s3.addressing.value).add(&s3.tls);
        self.text(&s3.quirks).add(s3.provider).add(&s3.access_point).add(s3.origins.values());
        for secret in &s3.file_secrets {
            self.add(secret.expose());
        }
        if let CredentialSource::Static(keys) = &s3.credentials {
            self.add(&keys.access_key_id).add(keys.secret_access_key.expose());
            self.add(keys.session_token.as_ref().map(Secret::expose));
        }
    }

    fn database(&mut self, database: &DatabaseConfig) {
        self.add(&database.path.value);
        for line in database.explain() {
            self.add(line.name).add(line.value);
        }
        database.replicas.iter().for_each(|replica| self.location(&replica.location));
    }

    /// The settings of the file that each of its databases has.
    fn file(&mut self, config: &Config) {
        self.add(config.levels.as_ref().map(|levels| levels.iter().map(|l| l.value).collect::<Vec<_>>()));
        self.snapshots(&config.snapshot).value(&config.precision.grain).value(&config.precision.window);
        self.value(&config.l0_retention).value(&config.l0_retention_check_interval);
        self.value(&config.retention_enabled);
    }
}

impl Config {
    /// Equal for equal settings of a database, with those of the file that apply to it.
    #[must_use]
    pub fn fingerprint(&self, database: &DatabaseConfig) -> u64 {
        let mut print = Print::default();
        print.database(database);
        print.file(self);
        print.0.finish()
    }

    /// Equal for equal settings of a directory and its databases.
    #[must_use]
    pub fn fingerprint_of_directory(&self, directory: &Directory) -> u64 {
        let mut print = Print::default();
        print.database(directory.settings());
        print.add(&directory.path.value).add(&directory.pattern.value);
        print.add(directory.recursive).add(directory.watch).text(&directory.meta);
        print.file(self);
        print.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, Overrides};

    const FILE: &str = "access-key-id: AKID\nsecret-access-key: one\nsync-interval: 2s\ndbs:\n- path: /a.db\n  replicas:\n  - url: s3://bucket/a\n    region: eu-central-1\n- dir: /tenants\n  pattern: '*.db'\n  watch: true\n  replica: {path: /backup}\n";

    fn of(text: &str) -> (u64, u64) {
        let env = Env::new([] as [(String, String); 0]);
        let config = Config::load(text, "app.yml", &Overrides::default(), &env, true).unwrap();
        let (database, directory) = (&config.databases[0], &config.directories[0]);
        (config.fingerprint(database), config.fingerprint_of_directory(directory))
    }

    #[test]
    fn comments_and_other_lines_change_nothing() {
        let moved = format!(
            "# the same\n\nlogging: {{level: debug}}\naddr: ':9090'\n{}",
            FILE.replace("/a.db", "\"/a.db\"")
        );
        assert_eq!(of(FILE), of(&moved));
    }

    #[test]
    fn each_setting_counts_where_it_applies() {
        let before = of(FILE);
        for (from, to, database, directory) in [
            ("bucket/a", "bucket/b", true, false),
            ("key: one", "key: two", true, false),
            ("AKID", "AKIE", true, false),
            ("eu-central-1", "eu-central-1\n    sync-interval: 3s", true, false),
            ("eu-central-1", "eu-central-1\n    storage-class: GLACIER_IR", true, false),
            ("'*.db'", "'*.sqlite'", false, true),
            ("/backup", "/elsewhere", false, true),
            ("dbs:", "l0-retention: 1h\ndbs:", true, true),
            ("dbs:", "snapshot: {interval: 1h}\ndbs:", true, true),
        ] {
            let after = of(&FILE.replace(from, to));
            assert_eq!((before.0 != after.0, before.1 != after.1), (database, directory), "{to}");
        }
    }
}
