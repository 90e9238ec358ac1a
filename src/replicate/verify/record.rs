//! The result of the last verification: the file `verified` in the folder of the replica's state,
//! one JSON object.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::clock::Millis;
use crate::base::limits;
use crate::replicate::state::replica_folder;

const NAME: &str = "verified";

/// Permissions of the file: the names of stored files are private.
const MODE: u32 = 0o600;

/// The last completed verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// When it began.
    pub(super) begun: Option<Millis>,
    /// When the last verification that found no fault began.
    pub(super) sound: Option<Millis>,
    /// The worst faults, as text; `None` if there are none.
    pub(super) fault: Option<String>,
    /// Number of faults.
    pub(super) faults: u64,
}

/// The record as it is in the file; times in milliseconds since 1970.
#[derive(Serialize, Deserialize)]
struct Stored {
    begun: Option<i64>,
    sound: Option<i64>,
    fault: Option<String>,
    faults: u64,
}

impl Record {
    /// Reads the record. An unreadable one counts as none: the replica is verified sooner.
    pub(super) fn read(folder: &Path) -> Record {
        let folder = replica_folder(folder).open();
        let bytes = folder.and_then(|f| f.read_small(NAME, limits::VERIFY_RECORD_BYTES)).unwrap_or_default();
        Record::parse(&bytes)
    }

    pub(super) fn parse(bytes: &[u8]) -> Record {
        let Ok(stored) = serde_json::from_slice::<Stored>(bytes) else { return Record::default() };
        let Stored { begun, sound, fault, faults } = stored;
        Record { begun: begun.map(Millis), sound: sound.map(Millis), fault, faults }
    }

    /// Removes times in the future. They come from a clock that was set back, and would delay the
    /// next verification.
    pub(super) fn not_after(mut self, now: Millis) -> Record {
        for time in [&mut self.begun, &mut self.sound] {
            *time = time.filter(|t| *t <= now);
        }
        self
    }

    pub(super) async fn write(&self, folder: &Path) -> io::Result<()> {
        let (begun, sound) = (self.begun.map(|t| t.0), self.sound.map(|t| t.0));
        let stored = Stored { begun, sound, fault: self.fault.clone(), faults: self.faults };
        let (folder, bytes) = (replica_folder(folder), serde_json::to_vec(&stored)?);
        let write = move || folder.open()?.write(NAME, &bytes, MODE);
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(io::Error::other)?
    }
}
