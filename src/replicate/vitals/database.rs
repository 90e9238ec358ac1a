//! The numbers of one database, and the list of all databases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::cells::{Failure, WalPlace, lock};
use super::replica::ReplicaVitals;
use crate::base::clock::Millis;
use crate::base::{PageSize, Salts};
use crate::replicate::pending::Mark;

/// The state of a database's replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabasePhase {
    /// The file does not exist, or is not a database yet.
    Waiting,
    /// The loop follows its WAL.
    Following,
    /// It is not replicated; [`DatabaseVitals::failure`] has the reason.
    Failed,
    /// Its replication has ended as requested.
    Stopped,
}

/// All databases of the process.
#[derive(Debug)]
pub struct Vitals {
    begun: Instant,
    databases: Mutex<BTreeMap<PathBuf, Arc<DatabaseVitals>>>,
    config: Mutex<Option<(bool, Millis)>>,
}

impl Default for Vitals {
    fn default() -> Vitals {
        Vitals { begun: Instant::now(), databases: Mutex::default(), config: Mutex::default() }
    }
}

impl Vitals {
    /// The databases, sorted by path.
    #[must_use]
    pub fn databases(&self) -> Vec<Arc<DatabaseVitals>> {
        lock(&self.databases).values().cloned().collect()
    }

    /// The numbers of a database. They are created if the database is new, or if its name now leads
    /// to another state folder.
    #[must_use]
    pub(crate) fn database(&self, path: &Path, home: &Path, urls: &[&str]) -> Arc<DatabaseVitals> {
        let make = || Arc::new(DatabaseVitals::new(path, home, urls, self.begun));
        let mut databases = lock(&self.databases);
        let known = databases.entry(path.to_owned()).or_insert_with(make);
        if known.home != home && !home.as_os_str().is_empty() {
            *known = make();
        }
        Arc::clone(known)
    }

    /// Whether the config file was usable when it was last read, and when that of now was read;
    /// `None` without one.
    #[must_use]
    pub fn config(&self) -> Option<(bool, Millis)> {
        *lock(&self.config)
    }

    /// Notes that the config file was read, or could not be used.
    pub fn read_config(&self, usable: bool) {
        let mut config = lock(&self.config);
        let read = config.filter(|_| !usable).map_or_else(Millis::now, |(_, at)| at);
        *config = Some((usable, read));
    }

    /// Notes that a database is not replicated, for this reason.
    pub(crate) fn failed(&self, path: &Path, error: &str) {
        let known = lock(&self.databases).get(path).cloned();
        known.unwrap_or_else(|| self.database(path, Path::new(""), &[])).fail(error);
    }

    /// Notes that the replication of a database has ended as requested.
    pub(crate) fn stopped(&self, path: &Path) {
        if let Some(database) = lock(&self.databases).get(path) {
            database.set_phase(DatabasePhase::Stopped);
        }
    }

    /// Removes a database that is gone and not waited for.
    pub(crate) fn forget(&self, path: &Path) {
        lock(&self.databases).remove(path);
    }
}

/// The numbers of one database.
#[derive(Debug)]
pub struct DatabaseVitals {
    /// Path of the database.
    pub path: PathBuf,
    /// Its state folder.
    pub home: PathBuf,
    /// The numbers of its replicas.
    pub replicas: Vec<ReplicaVitals>,
    phase: AtomicU8,
    page_size: AtomicU32,
    commits: AtomicU64,
    mark: WalPlace,
    failure: Mutex<Option<Failure>>,
    wal_damage: Mutex<Option<Failure>>,
    wal_damages: AtomicU64,
}

impl DatabaseVitals {
    fn new(path: &Path, home: &Path, urls: &[&str], begun: Instant) -> DatabaseVitals {
        DatabaseVitals {
            path: path.to_owned(),
            home: home.to_owned(),
            replicas: urls.iter().map(|url| ReplicaVitals::new(url, begun)).collect(),
            phase: AtomicU8::new(DatabasePhase::Waiting as u8),
            page_size: AtomicU32::new(0),
            commits: AtomicU64::new(0),
            mark: WalPlace::default(),
            failure: Mutex::default(),
            wal_damage: Mutex::default(),
            wal_damages: AtomicU64::new(0),
        }
    }

    /// Numbers for a handoff that no status shows.
    #[cfg(feature = "internals")]
    pub(crate) fn unseen(replicas: usize) -> Arc<DatabaseVitals> {
        Arc::new(DatabaseVitals::new(Path::new(""), Path::new(""), &vec![""; replicas], Instant::now()))
    }

    /// The present phase.
    #[must_use]
    pub fn phase(&self) -> DatabasePhase {
        use DatabasePhase::{Failed, Following, Stopped, Waiting};
        let phase = self.phase.load(Relaxed);
        [Waiting, Following, Failed].into_iter().find(|p| *p as u8 == phase).unwrap_or(Stopped)
    }

    pub(crate) fn set_phase(&self, phase: DatabasePhase) {
        self.phase.store(phase as u8, Relaxed);
    }

    /// Bytes in a page; `None` before the database is opened.
    #[must_use]
    pub fn page_size(&self) -> Option<PageSize> {
        PageSize::new(self.page_size.load(Relaxed)).ok()
    }

    /// Commits captured since the start of the process.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.load(Relaxed)
    }

    /// The newest captured commit: salts and frame in the WAL, and pages of the database.
    #[must_use]
    pub fn position(&self) -> (Salts, u32, u32) {
        self.mark.get()
    }

    /// Why the database is not replicated, or was not the last time.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        lock(&self.failure).clone()
    }

    pub(crate) fn fail(&self, message: &str) {
        self.set_phase(DatabasePhase::Failed);
        *lock(&self.failure) = Some(Failure { at: Millis::now(), message: message.to_owned() });
    }

    /// Since when the WAL has frames that cannot be proven, and the reason; `None` if there are
    /// none.
    #[must_use]
    pub fn wal_damage(&self) -> Option<Failure> {
        lock(&self.wal_damage).clone()
    }

    /// How often unproven frames were met since the start of the process.
    #[must_use]
    pub fn wal_damages(&self) -> u64 {
        self.wal_damages.load(Relaxed)
    }

    pub(crate) fn wal_is_damaged(&self, message: &str) {
        self.wal_damages.fetch_add(1, Relaxed);
        let mut damage = lock(&self.wal_damage);
        let at = damage.as_ref().map_or_else(Millis::now, |d| d.at);
        *damage = Some(Failure { at, message: message.to_owned() });
    }

    pub(crate) fn wal_is_sound(&self) {
        *lock(&self.wal_damage) = None;
    }

    /// Notes that the database was opened: nothing is pending yet.
    pub(crate) fn opened(&self, page_size: PageSize) {
        self.page_size.store(page_size.get(), Relaxed);
        self.wal_is_sound();
        self.set_phase(DatabasePhase::Following);
        self.replicas.iter().for_each(ReplicaVitals::opened);
    }

    pub(crate) fn marked(&self, mark: &Mark) {
        self.mark.set(mark.pos.salts, mark.pos.frame.0, mark.size_pages);
    }

    /// Notes that the wal-index publishes this many frames that capture has not read. They are at
    /// least one commit.
    pub(crate) fn unread(&self, frames: u32) {
        let bytes = u64::from(frames) * u64::from(self.page_size.load(Relaxed));
        for replica in &self.replicas {
            replica.note_unread(bytes);
        }
    }

    /// Notes captured commits that changed `pages` pages.
    pub(crate) fn captured(&self, commits: u64, pages: usize, mark: &Mark) {
        self.marked(mark);
        self.commits.fetch_add(commits, Relaxed);
        for replica in &self.replicas {
            self.awaits(replica, commits, pages);
        }
    }

    /// Notes that commits wait for one replica.
    pub(crate) fn awaits(&self, replica: &ReplicaVitals, commits: u64, pages: usize) {
        let bytes = pages as u64 * u64::from(self.page_size.load(Relaxed));
        replica.captured.add(commits, bytes);
        if pages > 0 {
            replica.waits();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::replica::{Lag, ReplicaPhase};
    use super::*;

    #[test]
    fn what_comes_during_an_upload_stays_behind() {
        let database = DatabaseVitals::unseen(2);
        database.page_size.store(512, Relaxed);
        let replica = &database.replicas[0];
        database.captured(2, 3, &Mark::default());
        assert!(replica.lag().age > Duration::ZERO || replica.behind_since.load(Relaxed) > 0);
        replica.take();
        database.captured(1, 1, &Mark::default());
        replica.answered(100, Some(Instant::now()));
        let lag = replica.lag();
        assert_eq!((lag.commits, lag.bytes), (1, 512));
        assert_ne!(replica.behind_since.load(Relaxed), 0);
        replica.take();
        replica.answered(100, None);
        assert_eq!(replica.lag(), Lag::default());
        assert_eq!((replica.stored(), database.commits()), ((2, 200), 3));
        let noted: u64 = replica.latencies.buckets.iter().map(|b| b.load(Relaxed)).sum();
        assert_eq!(noted, 2);
        // The other replica has stored nothing.
        assert_eq!(database.replicas[1].lag().commits, 3);
    }

    /// A transaction of many pages is published as a whole, and read over many looks.
    #[test]
    fn what_is_published_and_not_read_is_behind() {
        let database = DatabaseVitals::unseen(1);
        database.page_size.store(512, Relaxed);
        let replica = &database.replicas[0];
        database.unread(100);
        let first = replica.lag();
        assert_eq!((first.commits, first.bytes), (1, 51_200));
        database.unread(60);
        let lag = replica.lag();
        assert!((lag.commits, lag.bytes) == (1, 30_720) && lag.age >= first.age, "{lag:?}");
        while replica.lag().age == lag.age {}
        database.captured(3, 100, &Mark::default());
        database.unread(0);
        let read = replica.lag();
        assert_eq!((read.commits, read.bytes), (3, 51_200));
        assert!(read.age > lag.age, "{read:?}: they wait since they were published");
        replica.take();
        replica.answered(1, None);
        assert_eq!(replica.lag(), Lag::default());
    }

    #[test]
    fn a_store_that_is_away_is_away_since_its_first_failure() {
        let database = DatabaseVitals::unseen(1);
        let replica = &database.replicas[0];
        replica.fail("one");
        let since = replica.away_since().unwrap();
        replica.fail("two");
        assert_eq!((replica.away_since(), replica.failures()), (Some(since), 2));
        assert_eq!(replica.failure().unwrap().message, "two");
        replica.answered(1, None);
        assert_eq!(replica.away_since(), None);
        assert!(replica.failure().is_some());
    }

    #[test]
    fn phases_survive_their_numbers() {
        let database = DatabaseVitals::unseen(1);
        use DatabasePhase as D;
        for phase in [D::Waiting, D::Following, D::Failed, D::Stopped] {
            database.set_phase(phase);
            assert_eq!(database.phase(), phase);
        }
        use ReplicaPhase as R;
        for phase in [R::Starting, R::Following, R::Comparing, R::Image, R::Stopped] {
            database.replicas[0].set_phase(phase);
            assert_eq!(database.replicas[0].phase(), phase);
        }
        let place = WalPlace::default();
        place.set(Salts { one: u32::MAX, two: 7 }, 9, u32::MAX);
        assert_eq!(place.get(), (Salts { one: u32::MAX, two: 7 }, 9, u32::MAX));
    }
}
