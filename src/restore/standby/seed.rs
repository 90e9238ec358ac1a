//! The start of a standby: opens the existing database, or restores one.

use super::FollowError;
use super::files::{FOLLOW_MODE, position_path};
use super::lineage::Made;
use super::replica::{self, Replica};
use super::run::{Follower, blocking};
use super::status::Lag;
use crate::base::Level;
use crate::io::{Engine, durable};
use crate::restore::options::RestoreOptions;
use crate::restore::progress::Progress;
use crate::restore::{self, RestoreError};

impl Follower {
    /// Opens the database, or restores it. Retries while the store is unreachable.
    pub(super) async fn begin(
        &mut self,
        engine: &Engine,
        progress: &dyn Progress,
    ) -> Result<bool, FollowError> {
        let path = self.options.output.clone();
        let exists = restore::is_there(&path)?;
        let half = exists && self.lock.was_seeding && !replica::is_followed_file(&path)?;
        let mut opened = None;
        if exists && !half {
            let path = path.clone();
            match blocking(move || Replica::open(&path, None, None)).await? {
                Ok(replica) => opened = Some(replica),
                Err(e) if self.options.force && !matches!(e, FollowError::NoDbpage) => {
                    tracing::warn!(reason = %e, "restoring again, as --force says");
                }
                Err(e) => return Err(e),
            }
        }
        let replica = match opened {
            Some(replica) => replica,
            None => self.seed(engine, progress, exists).await?,
        };
        self.install(replica)?;
        Ok(true)
    }

    /// Closes the database and restores it again. It must have no readers.
    pub(super) async fn begin_anew(
        &mut self,
        engine: &Engine,
        progress: &dyn Progress,
    ) -> Result<(), FollowError> {
        let old = self.replica.take();
        blocking(move || drop(old)).await?;
        let replica = self.seed(engine, progress, true).await?;
        self.install(replica)
    }

    fn install(&mut self, replica: Replica) -> Result<(), FollowError> {
        self.lock.following()?;
        self.status.txid = replica.txid();
        self.made = replica.made();
        self.status.created = self.made.map(|made| made.at);
        self.status.lag = Lag::of(self.status.created);
        self.log_end = None;
        let db = replica.path().display();
        tracing::info!(%db, replica = self.store.url(), txid = %replica.txid(), "following");
        self.replica = Some(replica);
        Ok(())
    }

    async fn seed(
        &mut self,
        engine: &Engine,
        progress: &dyn Progress,
        replace: bool,
    ) -> Result<Replica, FollowError> {
        self.lock.seeding()?;
        // A position must never be next to a database that it does not belong to.
        let path = position_path(&self.options.output);
        match std::fs::remove_file(&path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(FollowError::File { what: "remove", path, cause });
            }
            _ => {}
        }
        let report = loop {
            let options = RestoreOptions {
                force: replace,
                integrity: self.options.integrity,
                parallel: self.options.parallel,
                ..RestoreOptions::new(&self.options.output)
            };
            match restore::run(self.store.clone(), engine, options, progress).await {
                Ok(report) => break report,
                Err(RestoreError::Store(e)) if e.is_transient() => {
                    let e = FollowError::Store(e);
                    let pause = self.trouble.says(&e, &mut self.status, self.store.url());
                    tokio::time::sleep(pause).await;
                }
                Err(e) => return Err(e.into()),
            }
        };
        self.trouble.over(&mut self.status, self.store.url());
        if report.legacy.is_some() {
            return Err(FollowError::Legacy { url: self.store.url().to_owned(), path: report.output });
        }
        let of_image = report.newest_file.is_some_and(|id| id.level == Level::SNAPSHOT);
        let made = Made { at: report.created, exact: !of_image };
        let path = position_path(&report.output);
        durable::write(&path, format!("{}\n", report.txid).as_bytes(), FOLLOW_MODE)
            .map_err(|cause| FollowError::File { what: "write", path, cause })?;
        blocking(move || Replica::open(&report.output, Some(made), report.checksum)).await?
    }
}
