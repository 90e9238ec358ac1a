//! Refuses databases that occur twice, and locations that two databases would write to.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::config::Config;
use super::error::{FileError, Mark, Problem};
use super::{Directory, ReplicaConfig};
use crate::config::sourced::Origin;

/// Refuses such overlaps.
pub(super) fn check(config: &Config) -> Result<(), FileError> {
    databases(config)?;
    places(config)
}

fn line(origin: &Origin) -> u32 {
    match origin {
        Origin::File { line, .. } => *line,
        _ => 0,
    }
}

/// The error names the later of the two lines.
fn twice(
    config: &Config,
    what: &'static str,
    name: &str,
    first: u32,
    second: u32,
    advice: &'static str,
) -> FileError {
    let (first, second) = (first.min(second), first.max(second));
    let problem = Problem::Twice { what, name: name.to_owned(), other: first, advice };
    FileError::new(&Arc::clone(&config.path), Mark { line: second, column: 1 }, problem)
}

fn databases(config: &Config) -> Result<(), FileError> {
    let mut seen = HashMap::with_capacity(config.databases.len());
    for second in &config.databases {
        let at = line(&second.path.origin);
        let name = second.path.value.display().to_string();
        if let Some(first) = seen.insert(&second.path.value, second) {
            let advice = "write one entry, with both replicas under replicas";
            return Err(twice(config, "the path", &name, line(&first.path.origin), at, advice));
        }
        let covers = |d: &&Directory| {
            second.path.value.strip_prefix(&d.path.value).is_ok_and(|relative| d.matches(relative))
        };
        if let Some(directory) = config.directories.iter().find(covers) {
            let advice = "the directory covers the database: leave one of them out";
            return Err(twice(config, "the path", &name, line(&directory.path.origin), at, advice));
        }
    }
    for (i, second) in config.directories.iter().enumerate() {
        for first in &config.directories[..i] {
            if overlap(first, second) {
                let name = second.path.value.display().to_string();
                let (first, second) = (line(&first.path.origin), line(&second.path.origin));
                let advice = "both cover the same files: write one entry";
                return Err(twice(config, "the directory", &name, first, second, advice));
            }
        }
    }
    Ok(())
}

/// Whether both may find the same file: judged by their directories, and by patterns that are equal
/// or match everything.
fn overlap(a: &Directory, b: &Directory) -> bool {
    let inside = |inner: &Path, outer: &Directory| {
        inner == outer.path.value || (outer.recursive && inner.starts_with(&outer.path.value))
    };
    let (p, q) = (&a.pattern.value, &b.pattern.value);
    (inside(&a.path.value, b) || inside(&b.path.value, a)) && (p == q || p == "*" || q == "*")
}

/// A replica, and the directory whose databases are written below it.
struct ReplicaPlace<'c> {
    replica: &'c ReplicaConfig,
    directory: Option<&'c Directory>,
    identity: String,
}

fn places(config: &Config) -> Result<(), FileError> {
    let of_databases = config.databases.iter().flat_map(|d| d.replicas.iter().map(move |r| (r, None)));
    let of_directories =
        config.directories.iter().flat_map(|d| d.settings().replicas.iter().map(move |r| (r, Some(d))));
    let mut places: Vec<ReplicaPlace<'_>> = of_databases
        .chain(of_directories)
        .map(|(replica, directory)| ReplicaPlace {
            replica,
            directory,
            identity: replica.location.identity(),
        })
        .collect();
    places.sort_by_key(|p| p.replica.line);
    // There may be thousands of databases, but few directories, so only directories are compared
    // with every other entry.
    let (mut databases, mut directories) =
        (HashMap::with_capacity(places.len()), Vec::<&ReplicaPlace<'_>>::new());
    for (i, second) in places.iter().enumerate() {
        let first = match second.directory {
            None => {
                let same = databases.insert(&second.identity, second);
                same.or_else(|| directories.iter().copied().find(|first| collide(first, second)))
            }
            Some(_) => {
                directories.push(second);
                places[..i].iter().find(|first| collide(first, second))
            }
        };
        if let Some(first) = first {
            let advice = "each database needs a place of its own: change the path of one of them";
            let (a, b) = (first.replica.line, second.replica.line);
            return Err(twice(
                config,
                "the place of the replica",
                &second.replica.location.url,
                a,
                b,
                advice,
            ));
        }
    }
    Ok(())
}

fn collide(a: &ReplicaPlace<'_>, b: &ReplicaPlace<'_>) -> bool {
    match (a.directory, b.directory) {
        (None, None) => a.identity == b.identity,
        // Two entries for one directory with different patterns: no file is in both.
        (Some(x), Some(y)) if x.path.value == y.path.value && !std::ptr::eq(x, y) => false,
        (Some(_), Some(_)) => a.identity == b.identity,
        (Some(directory), None) => below(directory, &a.identity, &b.identity),
        (None, Some(directory)) => below(directory, &b.identity, &a.identity),
    }
}

/// Whether a database of the directory would be written to `place`.
fn below(directory: &Directory, base: &str, place: &str) -> bool {
    let rest = place.strip_prefix(base.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
    rest.is_some_and(|relative| directory.matches(Path::new(relative)))
}
