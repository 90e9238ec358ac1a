//! Finds the config file and reads it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::{Config, Warning};
use super::error::{FileError, Mark, Problem};
use crate::base::limits;
use crate::config::sourced::Origin;
use crate::config::{Env, Overrides};
use crate::io::read_small_with_mode;

/// A path where a config file may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Path of the file.
    pub path: PathBuf,
    /// Who named the path; the file has to exist then.
    pub named_by: Option<Origin>,
}

/// Paths to try, in this order: the flag `--config`, `$LSFAST_CONFIG`, `$LITESTREAM_CONFIG`. The
/// first of these that is set is the only one; otherwise `/etc/lsfast.yml` and
/// `/etc/litestream.yml`.
#[must_use]
pub fn default_paths(flag: Option<&Path>, env: &Env) -> Vec<Candidate> {
    let named = |path: &Path, by| vec![Candidate { path: env.absolute(path), named_by: Some(by) }];
    if let Some(path) = flag {
        return named(path, Origin::Flag("config"));
    }
    if let Some((name, path)) = env.first(&["LSFAST_CONFIG", "LITESTREAM_CONFIG"]) {
        return named(Path::new(path), Origin::Env(name));
    }
    let usual = ["/etc/lsfast.yml", "/etc/litestream.yml"];
    usual.map(|path| Candidate { path: path.into(), named_by: None }).into()
}

impl Config {
    /// Finds, reads and checks the config file. `None` if no path was named and the usual paths
    /// have no file.
    ///
    /// # Errors
    /// [`FileError`], also if a named file does not exist.
    pub fn open(
        flag: Option<&Path>,
        flags: &Overrides,
        env: &Env,
        expand: bool,
    ) -> Result<Option<Config>, FileError> {
        for candidate in default_paths(flag, env) {
            if let Some(config) = candidate.open(flags, env, expand)? {
                return Ok(Some(config));
            }
        }
        Ok(None)
    }
}

impl Candidate {
    fn open(&self, flags: &Overrides, env: &Env, expand: bool) -> Result<Option<Config>, FileError> {
        let path: Arc<str> = self.path.display().to_string().into();
        let fail = |problem| FileError::new(&path, Mark::default(), problem);
        let (bytes, mode) = match (read_small_with_mode(&self.path, limits::CONFIG_BYTES), &self.named_by) {
            (Ok(read), _) => read,
            (Err(e), None) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            (Err(e), Some(by)) if e.kind() == io::ErrorKind::NotFound => {
                return Err(fail(Problem::Absent(by.clone())));
            }
            (Err(e), _) => return Err(fail(Problem::Unreadable(e.to_string()))),
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| fail(Problem::Unreadable("it is not text in UTF-8".to_owned())))?;
        let mut config = Config::load(&text, &path, flags, env, expand)?;
        config.warnings.extend(exposed(&config, mode));
        Ok(Some(config))
    }
}

/// Warns if the file contains a secret and its mode lets every user read it.
pub(super) fn exposed(config: &Config, mode: u32) -> Option<Warning> {
    let line = config.secret_line.filter(|_| mode & 0o004 != 0)?;
    let message = format!(
        "this line holds a secret, and every user of this machine can read the file (mode {:04o}): chmod o-r {}",
        mode & 0o7777,
        config.path
    );
    Some(Warning { path: Arc::clone(&config.path), line, message })
}
