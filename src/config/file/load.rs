//! Loads a config file: parses, builds and checks it.

use std::sync::Arc;

use super::config::Config;
use super::error::FileError;
use super::{build, check, yaml};
use crate::config::{Env, Overrides};

impl Config {
    /// Parses the text of the file called `path`. `expand` says whether to expand variables.
    ///
    /// # Errors
    /// [`FileError`] with line and column. If [`FileError::ambiguity`] returns an ambiguity, a
    /// probe may settle it: call [`Overrides::settle`] and load again.
    pub fn load(
        text: &str,
        path: &str,
        flags: &Overrides,
        env: &Env,
        expand: bool,
    ) -> Result<Config, FileError> {
        let path: Arc<str> = path.into();
        let sections = yaml::parse(text, &path)?;
        let config = build::Builder::new(path, flags, env, expand).config(&sections)?;
        check::check(&config)?;
        Ok(config)
    }
}
