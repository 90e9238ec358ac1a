//! Builds a [`Config`] from sections.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::config::{Config, LogFormat, LogLevel, Logging, Socket, Warning};
use super::database::Meta;
use super::error::{FileError, Mark, Problem};
use super::expand::{expand, has_variable};
use super::inherited::{Precisions, Snapshots, Verifications};
use super::keys::{Key, Kind, Use};
use super::yaml::{Section, Text, Value};
use super::{DatabaseConfig, Directory, ReplicaConfig, pattern};
use crate::base::Level;
use crate::config::fields::Given;
use crate::config::sourced::Origin;
use crate::config::values::{parse_bool, parse_rate};
use crate::config::{
    Env, Location, Overrides, ReplicaFields, Secret, Sourced, connection_path, parse_duration,
};

/// Shortest time between two heartbeats, as in Litestream.
const HEARTBEAT_MIN: Duration = Duration::from_secs(60);

type Read<T> = Result<Option<Sourced<T>>, FileError>;

pub(super) struct Builder<'a> {
    path: Arc<str>,
    flags: &'a Overrides,
    env: &'a Env,
    expand: bool,
    warnings: Vec<Warning>,
    secret_line: Option<u32>,
    /// Line of `l0-retention`, which takes precedence over `precision`.
    l0_line: Option<u32>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(path: Arc<str>, flags: &'a Overrides, env: &'a Env, expand: bool) -> Builder<'a> {
        Builder { path, flags, env, expand, warnings: Vec::new(), secret_line: None, l0_line: None }
    }

    pub(super) fn config(mut self, top: &Section) -> Result<Config, FileError> {
        self.review(top, Some("s3"), "")?;
        let snapshot = self.snapshots(top.section("snapshot"))?;
        let l0_retention = self.positive(top, "l0-retention")?;
        self.l0_line = l0_retention.as_ref().and(top.text("l0-retention")).map(|t| t.at.line);
        let global = self.fields(top)?;
        let sync_interval = self.interval(top, "sync-interval")?;
        let precision = self.precisions(top)?;
        let verification = self.verifications(top)?;
        let (mut databases, mut directories) = (Vec::new(), Vec::new());
        for section in top.list("dbs") {
            let shared = Shared {
                global: &global,
                sync_interval: &sync_interval,
                snapshot: &snapshot,
                precision: &precision,
                verification: &verification,
            };
            match self.database(section, &shared)? {
                Entry::Database(database) => databases.push(*database),
                Entry::Directory(directory) => directories.push(*directory),
            }
        }
        let empty = Section { at: top.at, entries: Vec::new() };
        let of = |name| top.section(name).unwrap_or(&empty);
        let config = Config {
            databases,
            directories,
            levels: self.levels(top)?,
            snapshot,
            precision,
            verification,
            l0_retention,
            l0_retention_check_interval: self.positive(top, "l0-retention-check-interval")?,
            retention_enabled: self.flag(of("retention"), "enabled")?,
            logging: self.logging(of("logging"))?,
            addr: self.text(top, "addr")?,
            addr_token: self.addr_token(top)?,
            socket: self.socket(of("socket"))?,
            exec: self.text(top, "exec")?,
            heartbeat_url: self.heartbeat_url(top)?,
            heartbeat_interval: self.read(top, "heartbeat-interval", |t| match parse_duration(t) {
                Ok(d) if d < HEARTBEAT_MIN => Err("at least 1m".to_owned()),
                other => other.map_err(|_| DURATION.to_owned()),
            })?,
            shutdown_sync_timeout: self.interval(top, "shutdown-sync-timeout")?,
            shutdown_sync_interval: self.positive(top, "shutdown-sync-interval")?,
            warnings: self.warnings,
            secret_line: self.secret_line,
            path: self.path,
        };
        Ok(config)
    }

    fn error(&self, at: Mark, problem: impl Into<Problem>) -> FileError {
        FileError::new(&self.path, at, problem)
    }

    fn origin(&self, at: Mark) -> Origin {
        Origin::File { path: Arc::clone(&self.path), line: at.line }
    }

    /// Warns about keys without effect, and refuses those that must not be ignored. `kind` is the
    /// type of the replica.
    fn review(&mut self, section: &Section, kind: Option<&str>, inside: &str) -> Result<(), FileError> {
        for (key, at, value) in &section.entries {
            let why = match (key.becomes, value) {
                (Use::Used, Value::Section(inner))
                    if key.kind != Kind::Section(super::keys::Scope::Replica) =>
                {
                    self.review(inner, kind, &format!("{}.", key.name))?;
                    continue;
                }
                (Use::Used, _) => {
                    self.note_secret(key, value);
                    continue;
                }
                (Use::Refused(why), _) => {
                    return Err(self.error(*at, Problem::Refused { key: key.name, why }));
                }
                (Use::Other(other), _) if kind == Some(other) => continue,
                (Use::Other(other), _) => {
                    self.note_secret(key, value);
                    format!("it belongs to {other} replicas, which lsfast does not have")
                }
                (Use::Ignored(why), _) => why.to_owned(),
            };
            let message = format!("{inside}{} is ignored: {why}", key.name);
            self.warnings.push(Warning { path: Arc::clone(&self.path), line: at.line, message });
        }
        Ok(())
    }

    /// Remembers the line of a secret that is in the file itself.
    fn note_secret(&mut self, key: &Key, value: &Value) {
        if let (Kind::Secret, Value::Text(text)) = (key.kind, value)
            && key.name != "access-key-id"
            && !text.text.is_empty()
            && !(self.expand && has_variable(&text.text))
        {
            self.secret_line.get_or_insert(text.at.line);
        }
    }

    /// A value with its variables expanded; `None` if it is empty.
    fn expanded(
        &self,
        section: &Section,
        key: &'static str,
        secret: bool,
    ) -> Result<Option<Text>, FileError> {
        let Some(text) = section.text(key) else { return Ok(None) };
        let value = if self.expand {
            expand(&text.text, key, secret, self.env).map_err(|problem| self.error(text.at, problem))?
        } else {
            text.text.clone()
        };
        let value = value.trim();
        Ok((!value.is_empty()).then(|| Text { text: value.to_owned(), at: text.at }))
    }

    fn text(&self, section: &Section, key: &'static str) -> Read<String> {
        let text = self.expanded(section, key, false)?;
        Ok(text.map(|t| Sourced::new(t.text, self.origin(t.at))))
    }

    fn secret(&self, section: &Section, key: &'static str) -> Read<Secret> {
        let text = self.expanded(section, key, true)?;
        Ok(text.map(|t| Sourced::new(Secret::new(t.text), self.origin(t.at))))
    }

    /// Parses a value. The error of `parse` says what is expected.
    fn read<T, E: Into<String>>(
        &self,
        section: &Section,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Read<T> {
        let Some(text) = self.expanded(section, key, false)? else { return Ok(None) };
        match parse(&text.text) {
            Ok(value) => Ok(Some(Sourced::new(value, self.origin(text.at)))),
            Err(expected) => {
                let problem = Problem::Value { key, value: text.text, expected: expected.into() };
                Err(self.error(text.at, problem))
            }
        }
    }

    fn flag(&self, section: &Section, key: &'static str) -> Read<bool> {
        self.read(section, key, |t| parse_bool(t).ok_or("true or false"))
    }

    /// A duration of 0 or more.
    fn interval(&self, section: &Section, key: &'static str) -> Read<Duration> {
        self.read(section, key, |t| parse_duration(t).map_err(|_| DURATION))
    }

    /// A duration above 0.
    fn positive(&self, section: &Section, key: &'static str) -> Read<Duration> {
        self.read(section, key, |t| match parse_duration(t) {
            Ok(Duration::ZERO) => Err("more than 0"),
            other => other.map_err(|_| DURATION),
        })
    }

    /// An absolute path.
    fn file(&self, section: &Section, key: &'static str) -> Read<PathBuf> {
        let text = self.text(section, key)?;
        Ok(text.map(|t| {
            let bare = connection_path(&t.value);
            let path = self.env.absolute(Path::new(bare.unwrap_or(&t.value)));
            Sourced::new(path, t.origin)
        }))
    }

    fn snapshots(&self, section: Option<&Section>) -> Result<Snapshots, FileError> {
        let Some(section) = section else { return Ok(Snapshots::default()) };
        Ok(Snapshots {
            interval: self.positive(section, "interval")?,
            retention: self.positive(section, "retention")?,
        })
    }

    fn precisions(&mut self, section: &Section) -> Result<Precisions, FileError> {
        for key in ["precision", "precision-window"] {
            if let (Some(line), Some(text)) = (self.l0_line, section.text(key)) {
                let message =
                    format!("{key} is ignored: l0-retention (line {line}) says how long raw files stay");
                self.warnings.push(Warning { path: Arc::clone(&self.path), line: text.at.line, message });
            }
        }
        Ok(Precisions {
            grain: self.positive(section, "precision")?,
            window: self.interval(section, "precision-window")?,
        })
    }

    fn verifications(&self, section: &Section) -> Result<Verifications, FileError> {
        Ok(Verifications {
            interval: self.interval(section, "verify-interval")?,
            rate: self.read(section, "verify-rate", parse_rate)?,
        })
    }

    fn levels(&self, top: &Section) -> Result<Option<Vec<Sourced<Duration>>>, FileError> {
        let sections = top.list("levels");
        if sections.is_empty() {
            return Ok(None);
        }
        // Level 0 holds what was written, and the last level holds the snapshots.
        let levels_max = usize::from(Level::SNAPSHOT.get()) - 1;
        if let Some(section) = sections.get(levels_max) {
            return Err(self
                .error(section.at, Problem::Keys("there are at most 8 levels between 0 and the snapshots")));
        }
        let missing = "a level needs an interval, as in interval: 30s";
        let read = |s: &Section| {
            self.positive(s, "interval")?.ok_or_else(|| self.error(s.at, Problem::Keys(missing)))
        };
        sections.iter().map(read).collect::<Result<_, _>>().map(Some)
    }

    fn logging(&self, section: &Section) -> Result<Logging, FileError> {
        Ok(Logging {
            level: self.read(section, "level", |t| match t.to_ascii_lowercase().as_str() {
                "trace" => Ok(LogLevel::Trace),
                "debug" => Ok(LogLevel::Debug),
                "info" => Ok(LogLevel::Info),
                "warn" | "warning" => Ok(LogLevel::Warn),
                "error" => Ok(LogLevel::Error),
                _ => Err("trace, debug, info, warn or error"),
            })?,
            format: self.read(section, "type", |t| match t {
                "text" => Ok(LogFormat::Text),
                "json" => Ok(LogFormat::Json),
                _ => Err("text or json"),
            })?,
            stderr: self.flag(section, "stderr")?,
        })
    }

    fn socket(&self, section: &Section) -> Result<Socket, FileError> {
        Ok(Socket {
            enabled: self.flag(section, "enabled")?,
            path: self.file(section, "path")?,
            permissions: self.read(section, "permissions", |t| {
                let digits = t.strip_prefix("0o").unwrap_or(t);
                match u32::from_str_radix(digits, 8) {
                    Ok(mode) if mode <= 0o777 => Ok(mode),
                    _ => Err("an octal mode such as 0600"),
                }
            })?,
        })
    }

    /// A token that is empty, as from a variable without a value, must not open `addr` to everyone.
    fn addr_token(&self, top: &Section) -> Read<Secret> {
        let (key, token) = ("addr-token", self.secret(top, "addr-token")?);
        match top.text(key) {
            Some(text) if token.is_none() => {
                let (value, expected) = (String::new(), "a token, or no such line".to_owned());
                Err(self.error(text.at, Problem::Value { key, value, expected }))
            }
            _ => Ok(token),
        }
    }

    fn heartbeat_url(&self, top: &Section) -> Read<Secret> {
        let key = "heartbeat-url";
        let Some(url) = self.secret(top, key)? else { return Ok(None) };
        let text = url.value.expose();
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Some(url));
        }
        // I7: such URLs often contain a token.
        let (value, expected) = ("...".to_owned(), "an http:// or https:// URL".to_owned());
        let at = top.text(key).map_or(top.at, |t| t.at);
        Err(self.error(at, Problem::Value { key, value, expected }))
    }

    fn fields(&self, section: &Section) -> Result<ReplicaFields, FileError> {
        let given = InSection(self, section);
        Ok(ReplicaFields {
            bucket: given.text("bucket")?,
            sse_customer_algorithm: given.text("sse-customer-algorithm")?,
            sse_customer_key: self.secret(section, "sse-customer-key")?,
            sse_customer_key_path: given.path("sse-customer-key-path")?,
            access_key_id: self.secret(section, "access-key-id")?.map(|s| s.map(|s| s.expose().to_owned())),
            secret_access_key: self.secret(section, "secret-access-key")?,
            session_token: self.secret(section, "session-token")?,
            ..ReplicaFields::of_parameters(&given)?
        })
    }

    fn replica(&mut self, section: &Section, shared: &Shared<'_>) -> Result<ReplicaConfig, FileError> {
        let mut fields = self.fields(section)?;
        fields.url = self.text(section, "url")?;
        fields.kind = self.text(section, "type")?;
        fields.path = self.text(section, "path")?;
        let scheme = fields.url.as_ref().and_then(|u| u.value.split_once("://")).map(|(s, _)| s.to_owned());
        let kind = scheme.or_else(|| fields.kind.as_ref().map(|k| k.value.clone()));
        // `review` does not warn about keys of an unsupported kind: the kind itself is refused
        // below.
        let place = [section.text("url"), section.text("type"), section.text("path")];
        let at = place.into_iter().flatten().next().map_or(section.at, |t| t.at);
        self.review(section, kind.as_deref(), "")?;
        // A directory takes nothing from the top of the file: a bucket there is for the other
        // replicas.
        let is_file = matches!(kind.as_deref(), Some("file") | None) && fields.bucket.is_none();
        let fields = if is_file { fields } else { fields.or_global(shared.global.clone()) };
        let location = Location::of_fields(fields, self.flags, self.env).map_err(|e| self.error(at, e))?;
        let interval = self.positive(section, "snapshot-interval")?;
        let retention = self.positive(section, "retention")?;
        Ok(ReplicaConfig {
            line: section.at.line,
            name: self.text(section, "name")?,
            location,
            sync_interval: self.interval(section, "sync-interval")?.or_else(|| shared.sync_interval.clone()),
            snapshot: Snapshots {
                interval: interval.or_else(|| shared.snapshot.interval.clone()),
                retention: retention.or_else(|| shared.snapshot.retention.clone()),
            },
            precision: self.precisions(section)?.or(shared.precision),
            verification: self.verifications(section)?.or(shared.verification),
        })
    }

    fn replicas(&mut self, section: &Section, shared: &Shared<'_>) -> Result<Vec<ReplicaConfig>, FileError> {
        let (one, many) = (section.section("replica"), section.list("replicas"));
        let problem = match (one, many) {
            (Some(one), []) => return Ok(vec![self.replica(one, shared)?]),
            (None, [_, ..]) => return many.iter().map(|s| self.replica(s, shared)).collect(),
            (Some(_), _) => "replica and replicas exclude each other: write all of them under replicas",
            (None, []) => "a database needs a replica: write replica: and below it url: s3://BUCKET/PREFIX",
        };
        Err(self.error(section.at, Problem::Keys(problem)))
    }

    fn database(&mut self, section: &Section, global: &Shared<'_>) -> Result<Entry, FileError> {
        self.review(section, None, "")?;
        let own = self.snapshots(section.section("snapshot"))?;
        let snapshot = Snapshots {
            interval: own.interval.or_else(|| global.snapshot.interval.clone()),
            retention: own.retention.or_else(|| global.snapshot.retention.clone()),
        };
        let verification = self.verifications(section)?.or(global.verification);
        let precision = self.precisions(section)?.or(global.precision);
        let shared =
            Shared { snapshot: &snapshot, precision: &precision, verification: &verification, ..*global };
        let (path, dir) = (self.file(section, "path")?, self.file(section, "dir")?);
        let (meta_path, meta_dir) = (self.file(section, "meta-path")?, self.file(section, "meta-dir")?);
        let pattern = self.read(section, "pattern", |t| pattern::check(t).map(|()| t.to_owned()))?;
        let (recursive, watch) = (self.flag(section, "recursive")?, self.flag(section, "watch")?);
        let only_dirs = pattern.is_some()
            || meta_dir.is_some()
            || recursive.as_ref().is_some_and(|r| r.value)
            || watch.as_ref().is_some_and(|w| w.value);
        let problem = match (&path, &dir) {
            (Some(_), Some(_)) => Some("path and dir exclude each other: write two entries"),
            (None, None) => {
                Some("a database needs a path: write path: /DIRECTORY/NAME.db, or dir: and pattern:")
            }
            (Some(_), None) if only_dirs => {
                Some("pattern, recursive, watch and meta-dir go with dir, and this entry has a path")
            }
            (None, Some(_)) if pattern.is_none() => Some("dir needs a pattern, as in pattern: \"*.db\""),
            _ if meta_path.is_some() && meta_dir.is_some() => {
                Some("meta-path and meta-dir exclude each other")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(self.error(section.at, Problem::Keys(problem)));
        }
        let meta = if meta_dir.is_some() { Meta::Dir } else { Meta::Path };
        let replicas = self.replicas(section, &shared)?;
        let common = |path| DatabaseConfig {
            path,
            meta_path: meta_path.or(meta_dir),
            busy_timeout: None,
            monitor_interval: None,
            restore_if_missing: None,
            replicas,
        };
        let timings = (
            self.interval(section, "busy-timeout")?,
            self.positive(section, "monitor-interval")?,
            self.flag(section, "restore-if-db-not-exists")?,
        );
        let with = |database: DatabaseConfig| {
            let (busy_timeout, monitor_interval, restore_if_missing) = timings;
            DatabaseConfig { busy_timeout, monitor_interval, restore_if_missing, ..database }
        };
        Ok(match (path, dir, pattern) {
            (_, Some(dir), Some(pattern)) => Entry::Directory(Box::new(Directory {
                path: dir.clone(),
                pattern,
                recursive: recursive.is_some_and(|r| r.value),
                watch: watch.is_some_and(|w| w.value),
                meta,
                common: with(common(dir)),
            })),
            (Some(path), ..) | (None, Some(path), None) => Entry::Database(Box::new(with(common(path)))),
            (None, None, _) => {
                return Err(self.error(section.at, Problem::Keys("a database needs a path")));
            }
        })
    }
}

const DURATION: &str = "a duration: write a number with a unit, as in 500ms, 30s, 1m30s or 24h";

/// The settings of a replica in a section of the file.
struct InSection<'a>(&'a Builder<'a>, &'a Section);

impl Given for InSection<'_> {
    type Error = FileError;

    fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<Option<Sourced<T>>, FileError> {
        self.0.read(self.1, name, parse)
    }

    fn path(&self, name: &'static str) -> Result<Option<Sourced<PathBuf>>, FileError> {
        let text = self.text(name)?;
        Ok(text.map(|t| t.map(|t| self.0.env.absolute(Path::new(&t)))))
    }
}

/// The settings of the enclosing sections.
#[derive(Clone, Copy)]
struct Shared<'s> {
    global: &'s ReplicaFields,
    sync_interval: &'s Option<Sourced<Duration>>,
    snapshot: &'s Snapshots,
    precision: &'s Precisions,
    verification: &'s Verifications,
}

enum Entry {
    Database(Box<DatabaseConfig>),
    Directory(Box<Directory>),
}
