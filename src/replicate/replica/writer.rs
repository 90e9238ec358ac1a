//! One writer for each replica: whether the store honours create-only PUTs, and the first steps of
//! a newcomer.
//!
//! # Overview
//!
//! A *newcomer* is a pipeline whose local state does not know the newest object of the replica.
//! Another program may still be writing there. So the newcomer looks for a sign of life, which is a
//! newer object, before it writes.
//!
//! - With a sign of life it stops, even if it could be the first to write the next object.
//! - If the local state belongs to this replica, as after a deployment that overlaps with the
//!   process before it, it waits for the other program to end instead.
//! - So it does if the newest object was made from the newcomer's WAL, or an earlier generation of
//!   that WAL. Either the newcomer has lost its state, or it is a copy of a database and its WAL
//!   beside the living original. Equal pages prove nothing of this kind, because a restored copy of
//!   the database has them, too.
//! - If the newest object is an upload of the newcomer's own, as its state remembers, it need not
//!   look.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::error::ReplicaError;
use super::resume::Remote;
use super::task::Replica;
use crate::base::clock::Millis;
use crate::base::{LtxId, Salts, Txid, limits};
use crate::io::{durable, read_small};
use crate::ltx::Header;
use crate::replicate::remote::{RemoteError, header_of};
use crate::store::{CreateOnly, ErrorKind, PutOptions, StoreError};
use crate::wal::format;
use crate::wal::index::WalIndexHeader;

/// When to look for a sign of life, counted from the beginning of the wait. If the last look finds
/// none either, the newcomer writes.
const LOOKS: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(6),
];

/// How many times a WAL may have started over since the newest object and still be recognised. With
/// this number, the first salt of another database matches by chance once in a million times.
const RESTARTS_MAX: u32 = 4096;

/// If the newest object of a replica is younger than this, its writer may still run.
const YOUNG: Duration = Duration::from_secs(3600);

/// Time between two checks whether a proof of create-only PUTs is due, and between two attempts.
const PROOF_AGAIN: Duration = Duration::from_secs(600);

/// File in the replica's state folder: `1 MILLISECONDS` if create-only PUTs were proven to be
/// honoured at that time, `0 MILLISECONDS` if they were not.
const PROOF: &str = "create-only";

/// Permissions of the file [`PROOF`], as in the rest of the folder.
const MODE: u32 = 0o600;

/// Most bytes that are read of the file [`PROOF`].
const PROOF_BYTES: u64 = 64;

impl Replica {
    /// Tells the store what an earlier process has proven about it.
    pub(super) fn recall_create_only(&self) {
        if let Some(proof) =
            read_proof(self.local.dir()).filter(|p| p.proven <= self.history_options.clock.now())
        {
            self.store.know_create_only(proof);
        }
    }

    /// Proves once a day, with a batch that was just stored, whether the store honours create-only
    /// PUTs.
    pub(super) async fn prove_create_only(&mut self, id: LtxId, created: Millis, body: &Bytes) {
        let now = Instant::now();
        let due = self.proof_due.is_none_or(|due| now >= due);
        if !due || body.len() > limits::CREATE_ONLY_BYTES || self.handoff.is_closing() {
            return;
        }
        self.proof_due = Some(now + PROOF_AGAIN);
        let options = PutOptions { created, create_only: true };
        match self.store.prove_create_only(id, body.clone(), options).await {
            Ok(Some(proof)) => {
                let folder = self.local.dir().to_owned();
                let written = tokio::task::spawn_blocking(move || write_proof(&folder, proof)).await;
                if let Err(e) = written.map_err(io::Error::other).and_then(|r| r) {
                    tracing::debug!(db = %self.db_name(), error = %e, "cannot remember what the store honours");
                }
            }
            Ok(None) => {}
            // A later batch tries again.
            Err(e) => {
                self.count_failure(&e, now);
                tracing::debug!(db = %self.db_name(), error = %e, "cannot prove what the store honours");
            }
        }
    }

    /// Whether the local state does not know the newest object.
    fn is_newcomer(&self, remote: &Remote) -> bool {
        let state = self.local.state();
        let former = self.local.former().map_or(Txid(0), |point| point.txid);
        remote.newest > state.durable.txid.max(former)
    }

    /// Lets a newcomer look for a sign of life of another writer. Returns what the replica holds
    /// after that.
    pub(super) async fn wait_for_a_sign(&mut self, mut remote: Remote) -> Result<Remote, ReplicaError> {
        if !self.is_newcomer(&remote) {
            return Ok(remote);
        }
        let mut newest = self.newest_header(&remote).await?;
        if newest.is_some_and(|header| self.local.state().is_of_our_upload(&header)) {
            return Ok(remote);
        }
        self.say_waiting(&remote);
        let is_of_its_wal = newest.is_some_and(|header| self.is_of_its_wal(&header));
        let continues = is_of_its_wal || self.local.state().durable.txid != Txid(0);
        let begun = Instant::now();
        let mut said = false;
        while let Some(sign) = self.sign_of_life(&remote).await? {
            if !may_overlap(continues, begun.elapsed()) {
                return Err(other_writer(self.store.url(), sign).into());
            }
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(
                    db = %self.db_name(), replica = self.store.url(), txid = %sign.max,
                    "another program still writes to this replica; waiting for it to end"
                );
            }
            remote = self.first_contact().await?;
            newest = self.newest_header(&remote).await?;
        }
        if !is_of_its_wal {
            self.say_taken_over(&remote, newest);
        }
        Ok(remote)
    }

    fn say_waiting(&self, remote: &Remote) {
        tracing::info!(
            db = %self.db_name(), replica = self.store.url(), txid = %remote.newest, longest = ?LOOKS[LOOKS.len() - 1],
            "another program may be writing to this replica; waiting for a sign of it"
        );
    }

    /// Warns of a replica that another program wrote to a short while ago: a copy of a database
    /// with the configuration of the original takes its replica away from it.
    fn say_taken_over(&self, remote: &Remote, newest: Option<Header>) {
        let now = self.history_options.clock.now();
        let young = YOUNG.as_millis();
        let Some(written) = newest.map(|header| header.timestamp) else { return };
        if i128::from(now.0) - i128::from(written.0) < young.cast_signed() {
            tracing::warn!(
                db = %self.db_name(), replica = self.store.url(), txid = %remote.newest, written = %written,
                "this database takes over a replica that another program has just written to; if that program still runs, it stops with its \
                 next upload: give one of them a path of its own"
            );
        }
    }

    /// The header of the newest object; `None` if it is not a readable level-0 file.
    async fn newest_header(&mut self, remote: &Remote) -> Result<Option<Header>, ReplicaError> {
        if remote.newest_raw != remote.newest {
            return Ok(None);
        }
        loop {
            let asked = Instant::now();
            match header_of(&*self.store, LtxId::raw(remote.newest)).await {
                Ok(header) => {
                    self.works();
                    return Ok(Some(header));
                }
                Err(RemoteError::Store(e)) if e.is_transient() => self.wait_out(e, asked).await?,
                // `resume::decide` judges the file later.
                Err(_) => return Ok(None),
            }
        }
    }

    /// Whether an object was made from the WAL of this database.
    fn is_of_its_wal(&self, object: &Header) -> bool {
        self.db.shm().header().is_ok_and(|now| goes_on_from(object, &now))
    }

    /// The replica holds another history, of the same length or shorter. Fails if its writer shows
    /// a sign of life.
    pub(super) async fn leave_a_living_writer_alone(&mut self, remote: &Remote) -> Result<(), ReplicaError> {
        if self.is_newcomer(remote) {
            // A newcomer has looked already.
            return Ok(());
        }
        self.say_waiting(remote);
        match self.sign_of_life(remote).await? {
            Some(sign) => Err(other_writer(self.store.url(), sign).into()),
            None => Ok(()),
        }
    }

    /// The object after the newest one, if it appears within [`LOOKS`].
    async fn sign_of_life(&mut self, remote: &Remote) -> Result<Option<LtxId>, ReplicaError> {
        let next = LtxId::raw(remote.newest.next());
        let begun = Instant::now();
        for at in LOOKS {
            tokio::time::sleep_until(begun + at).await;
            loop {
                let asked = Instant::now();
                match self.store.head(next).await {
                    Ok(Some(_)) => return Ok(Some(next)),
                    Ok(None) => break,
                    Err(e) => self.wait_out(e, asked).await?,
                }
            }
            self.works();
        }
        Ok(None)
    }
}

/// Whether the WAL with this index is the one that `object` was made from, or a later generation of
/// it. SQLite increments the first salt when it starts the WAL over; a newly created WAL has two
/// random salts.
fn goes_on_from(object: &Header, now: &WalIndexHeader) -> bool {
    let then = object.wal;
    if then.salts == Salts::default() {
        return false;
    }
    if then.salts == now.salts {
        return then.end() <= format::frame_end(object.page_size, now.mx_frame);
    }
    (1..=RESTARTS_MAX).contains(&now.salts.one.wrapping_sub(then.salts.one))
}

/// Whether a newcomer waits for the living writer of a replica to end. One whose database
/// `continues` the replica does for [`limits::OVERLAP`]: deployments overlap.
fn may_overlap(continues: bool, waited: Duration) -> bool {
    continues && waited < limits::OVERLAP
}

fn other_writer(url: &str, sign: LtxId) -> StoreError {
    let message = format!(
        "{url}: TXID {} exists already, written by another program since this lsfast started: another program writes to this \
         replica; stop it, or give this database a path of its own",
        sign.max
    );
    StoreError::new(ErrorKind::Conflict, message)
}

fn proof_path(folder: &Path) -> PathBuf {
    folder.join(PROOF)
}

/// An unreadable proof counts as none: it is made again.
fn read_proof(folder: &Path) -> Option<CreateOnly> {
    let bytes = read_small(&proof_path(folder), PROOF_BYTES).ok()?;
    let (honoured, proven) = std::str::from_utf8(&bytes).ok()?.trim().split_once(' ')?;
    Some(CreateOnly { proven: Millis(proven.parse().ok()?), honoured: honoured == "1" })
}

fn write_proof(folder: &Path, proof: CreateOnly) -> io::Result<()> {
    let text = format!("{} {}\n", u8::from(proof.honoured), proof.proven.0);
    durable::write(&proof_path(folder), text.as_bytes(), MODE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{FrameNo, PageSize};
    use crate::ltx::WalRange;
    use crate::wal::checksum::Sum;

    #[test]
    fn a_wal_goes_on_from_what_was_made_from_it() {
        let salts = |one, two| Salts { one, two };
        let size = PageSize::new(4096).unwrap();
        let at = |salts, frame| {
            let wal = WalRange { offset: 32, size: format::frame_end(size, FrameNo(frame)) - 32, salts };
            Header::new(size, 9, (Txid(7), Txid(7)), Millis(1), wal)
        };
        let now = |salts, frame| WalIndexHeader {
            change: 1,
            big_endian: false,
            page_size: Some(size),
            mx_frame: FrameNo(frame),
            n_page: 9,
            frame_sum: Sum::ZERO,
            salts,
        };
        let object = at(salts(100, 5), 8);
        assert!(goes_on_from(&object, &now(salts(100, 5), 8)));
        assert!(goes_on_from(&object, &now(salts(100, 5), 20)));
        assert!(!goes_on_from(&object, &now(salts(100, 5), 7)), "it was cut");
        assert!(goes_on_from(&object, &now(salts(101, 77), 0)), "it started over");
        assert!(!goes_on_from(&object, &now(salts(100, 6), 20)), "another one");
        assert!(!goes_on_from(&object, &now(salts(99, 5), 20)), "an earlier one");
        assert!(!goes_on_from(&object, &now(salts(u32::MAX / 2, 5), 20)));
        assert!(!goes_on_from(&at(Salts::default(), 0), &now(Salts::default(), 0)), "no WAL at all");
    }

    #[test]
    fn only_a_deployment_of_the_same_database_waits_for_the_other_to_end() {
        assert!(may_overlap(true, Duration::ZERO) && may_overlap(true, limits::OVERLAP / 2));
        assert!(!may_overlap(true, limits::OVERLAP), "it does not end");
        assert!(!may_overlap(false, Duration::ZERO), "another database");
    }

    #[test]
    fn a_proof_is_remembered_and_a_damaged_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_proof(dir.path()), None);
        for honoured in [true, false] {
            let proof = CreateOnly { proven: Millis(1_764_300_000_000), honoured };
            write_proof(dir.path(), proof).unwrap();
            assert_eq!(read_proof(dir.path()), Some(proof));
        }
        for damaged in ["", "1", "1 x", "\u{0}\u{0}"] {
            std::fs::write(proof_path(dir.path()), damaged).unwrap();
            assert_eq!(read_proof(dir.path()), None, "{damaged:?}");
        }
    }
}
