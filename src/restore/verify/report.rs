//! What a verification is asked, and what it finds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::database::Compared;
use super::file::Checked;
use super::stream::Meter;
use crate::base::clock::Millis;
use crate::base::{DatabaseChecksum, Level, LtxId, Txid, limits};
use crate::ltx::WalRange;
use crate::restore::RestoreError;
use crate::restore::damage::{self, Damaged};
use crate::restore::object::Object;
use crate::store::Entry;

/// What a verification reads.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Percentage of the files to read that the newest state does not need, chosen at random; of
    /// level 0 a run of files. With more than 0, the files of one more state are read, to prove
    /// that each batch makes the state whose checksum it has.
    pub sample_percent: u8,
    /// Average read rate in bytes per second; `None` for no limit.
    pub bytes_per_second: Option<u64>,
    /// The source database, to be compared with the newest state. It may be in use.
    pub database: Option<PathBuf>,
    /// Counts the bytes that are read, including those of a failed attempt.
    pub meter: Meter,
    /// Set to the bytes of all files once they are known, if all of them are read.
    pub planned: Meter,
}

impl Default for VerifyOptions {
    fn default() -> VerifyOptions {
        VerifyOptions {
            sample_percent: 100,
            bytes_per_second: None,
            database: None,
            meter: Meter::default(),
            planned: Meter::default(),
        }
    }
}

/// Damage of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The damaged object.
    pub object: Object,
    /// The damage, as a message.
    pub cause: String,
}

/// The overall health of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// No damage in what was read.
    Sound,
    /// Something is damaged, but the newest state can be restored.
    Damaged,
    /// The newest state can be restored, but differs from the database.
    Differs,
    /// The newest state cannot be restored.
    NewestLost,
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Number of listed LTX files and files of Litestream 0.3.
    pub objects: u64,
    /// Number of files that were read.
    pub read: u64,
    /// Total bytes of the files that were read.
    pub bytes: u64,
    /// The first damaged objects, at most [`limits::VERIFY_FINDINGS`].
    pub damaged: Vec<Damage>,
    /// Number of damaged objects.
    pub damaged_count: u64,
    /// Files whose page index does not match their frames. They can be restored.
    pub wrong_indexes: Vec<LtxId>,
    /// TXIDs that are missing between the files of a level, as first and last.
    pub holes: Vec<(Level, Txid, Txid)>,
    /// Files that do not fit together, as sentences; at most [`limits::VERIFY_FINDINGS`].
    pub conflicts: Vec<String>,
    /// Only a new image of the database makes the newest state right, or sure.
    pub wants_image: bool,
    /// Number of files that were removed during the verification.
    pub vanished: u64,
    /// The newest state, if it can be restored.
    pub newest: Option<Newest>,
    /// Why the newest state cannot be restored.
    pub newest_lost: Option<String>,
    /// Number of states that files end at, among the newest [`limits::POINTS_MAX`].
    pub states: u64,
    /// How many of `states` can be restored without a damaged file.
    pub restorable: u64,
    /// The last restorable state of LTX files.
    pub last_restorable: Option<Txid>,
    /// The states that names of files lead to, and that a restore refuses all the same.
    pub refused: BTreeSet<Txid>,
    /// The result of the comparison with the database, if one was made.
    pub compared: Option<Compared>,
    /// Why a requested comparison could not be made.
    pub not_compared: Option<String>,
    /// Duration of the verification.
    pub time: Duration,
    /// Files with all pages that a restore may begin with, if they were looked for.
    pub bases: Vec<LtxId>,
    /// For each level-0 file that was read, its range in the WAL.
    pub(super) raw: BTreeMap<Txid, WalRange>,
    /// For each TXID that a file with a checksum ends at: the checksum, and the first such file.
    pub(super) sums: BTreeMap<Txid, (DatabaseChecksum, LtxId)>,
}

/// The newest state of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// Its TXID; 0 for a state of Litestream 0.3.
    pub txid: Txid,
    /// When the state was stored.
    pub created: Millis,
    /// Length of the database in bytes.
    pub bytes: u64,
    /// The checksum of its pages, if it is that of the database at this transaction; `None` if its
    /// last file has none, so that only its files are proven.
    pub checksum: Option<DatabaseChecksum>,
}

impl VerifyReport {
    /// The overall health that the findings add up to.
    #[must_use]
    pub fn health(&self) -> Health {
        match self {
            _ if self.newest.is_none() => Health::NewestLost,
            _ if self.compared.as_ref().is_some_and(|c| c.differ_count > 0) => Health::Differs,
            _ if self.damaged_count > 0
                || !self.conflicts.is_empty()
                || !self.holes.is_empty()
                || !self.wrong_indexes.is_empty() =>
            {
                Health::Damaged
            }
            _ => Health::Sound,
        }
    }

    /// Enters the result of one file.
    pub(super) fn note(
        &mut self,
        entry: Entry,
        checked: Result<Checked, RestoreError>,
        bad: &mut Damaged,
    ) -> Result<(), RestoreError> {
        match checked {
            Ok(checked) => {
                if entry.id.level == Level::RAW {
                    self.raw.insert(entry.id.max, checked.header.wal);
                }
                if let Some(sum) = checked.header.checksum {
                    self.sum(entry.id, sum);
                }
                if !checked.index_is_right && self.wrong_indexes.len() < limits::VERIFY_FINDINGS {
                    self.wrong_indexes.push(entry.id);
                }
            }
            Err(RestoreError::Vanished { .. }) => {
                self.vanished += 1;
                return Ok(());
            }
            Err(e @ (RestoreError::Store(_) | RestoreError::Interrupted)) => return Err(e),
            Err(e) => {
                bad.add(entry.id, damage::fault(&e).map_or_else(|| e.to_string(), |(_, why)| why));
                self.damage(Object::Ltx(entry.id), e.to_string());
            }
        }
        self.read += 1;
        self.bytes += entry.size;
        Ok(())
    }

    pub(super) fn conflict(&mut self, sentence: String) {
        if self.conflicts.len() < limits::VERIFY_FINDINGS {
            self.conflicts.push(sentence);
        }
    }

    /// Compares the checksum of a file with that of others that end with the same TXID.
    pub(super) fn sum(&mut self, id: LtxId, sum: DatabaseChecksum) {
        let (other, first) = *self.sums.entry(id.max).or_insert((sum, id));
        if other != sum {
            self.conflict(format!(
                "after TXID {} the database has checksum {other} by {first}, and {sum} by {id}: one of the two is of another \
                 database or another time",
                id.max
            ));
        }
    }

    pub(super) fn damage(&mut self, object: Object, cause: String) {
        self.damaged_count += 1;
        if self.damaged.len() < limits::VERIFY_FINDINGS {
            self.damaged.push(Damage { object, cause });
        }
    }
}
