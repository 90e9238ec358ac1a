//! The files and replicas of a benchmark run, and their removal.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use crate::base::clock::Millis;
use crate::base::{LtxId, Txid};
use crate::cli::setup::Setup;
use crate::config::{Kind, Location};
use crate::store::{PutOptions, Scope, Store};

/// A local folder, and two replicas: one for the pipeline and one for raw PUTs.
#[derive(Debug)]
pub(super) struct BenchFiles {
    /// Folder of the database and the restored database.
    pub(super) local: PathBuf,
    /// The location of the replica, for the output.
    pub(super) name: String,
    /// The replica that the pipeline writes.
    pub(super) replica: Arc<dyn Store>,
    /// The replica for raw PUTs of the same bytes.
    pub(super) raw: Arc<dyn Store>,
    /// The directory of the replicas, to be removed.
    directory: Option<PathBuf>,
}

impl BenchFiles {
    /// Creates the folder. `url` is where the replica goes; without one, it goes into the folder.
    pub(super) fn new(setup: &mut Setup, url: Option<&str>) -> anyhow::Result<BenchFiles> {
        let unique = format!("lsfast-bench-{:08x}", fastrand::u32(..));
        let local = std::env::temp_dir().join(&unique);
        let (name, replica, raw, directory) = match url {
            None => {
                let at = |part: &str| Location::directory(local.join("store").join(part));
                (String::from("a temporary directory"), at("replica"), at("raw"), None)
            }
            Some(url) => {
                let mut at = |part: &str| setup.resolve(&below(url, part));
                let scratch = at(&unique)?;
                let directory = match scratch.kind {
                    Kind::File(path) => Some(path),
                    Kind::S3(_) => None,
                };
                let [replica, raw] = ["replica", "raw"].map(|part| at(&format!("{unique}/{part}")));
                (scratch.url, replica?, raw?, directory)
            }
        };
        let (replica, raw) = (setup.open(&replica)?, setup.open(&raw)?);
        std::fs::create_dir(&local).with_context(|| format!("cannot make the folder {}", local.display()))?;
        Ok(BenchFiles { local, name, replica, raw, directory })
    }

    /// Lists and writes once, because replication would retry forever if either is impossible.
    ///
    /// # Errors
    /// The error of the store after a few attempts.
    pub(super) async fn try_out(&self) -> anyhow::Result<()> {
        self.replica.list(Scope::All).await?;
        let options = PutOptions { created: Millis::now(), create_only: false };
        self.raw.put(LtxId::raw(Txid::MAX), Vec::new(), options).await?;
        Ok(())
    }

    /// Removes everything, and continues after a failure.
    ///
    /// # Errors
    /// The first failure.
    pub(super) async fn clean(&self) -> anyhow::Result<()> {
        let mut cleaned = Ok(());
        for store in [&self.replica, &self.raw] {
            cleaned = cleaned.and(empty(&**store).await);
        }
        for directory in self.directory.iter().chain([&self.local]) {
            match std::fs::remove_dir_all(directory) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    let removed = Err(e).with_context(|| format!("cannot remove {}", directory.display()));
                    cleaned = cleaned.and(removed);
                }
                _ => {}
            }
        }
        cleaned
    }
}

async fn empty(store: &dyn Store) -> anyhow::Result<()> {
    let ids: Vec<_> = store.list(Scope::All).await?.iter().map(|e| e.id).collect();
    Ok(store.delete(&ids).await?)
}

/// Inserts `/part` before the parameters of the URL.
fn below(url: &str, part: &str) -> String {
    let (path, parameters) = url.split_once('?').map_or((url, None), |(p, q)| (p, Some(q)));
    let path = path.trim_end_matches('/');
    match parameters {
        Some(parameters) => format!("{path}/{part}?{parameters}"),
        None => format!("{path}/{part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_goes_before_the_parameters() {
        assert_eq!(
            below("s3://b/p/?region=x&endpoint=http://h/", "q"),
            "s3://b/p/q?region=x&endpoint=http://h/"
        );
        assert_eq!(below("s3://b", "q/r"), "s3://b/q/r");
        assert_eq!(below("file:///d/", "q"), "file:///d/q");
    }
}
