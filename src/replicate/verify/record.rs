//! What is remembered of the last verification: the file `verified` in the folder of the replica's
//! state, one JSON object.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::clock::Millis;
use crate::base::limits;
use crate::replicate::state::replica_folder;

const NAME: &str = "verified";

/// Permissions: names of files are nobody else's business.
const MODE: u32 = 0o600;

/// The last verification that came to an end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// When it began.
    pub(super) begun: Option<Millis>,
    /// When the last one began that found nothing wrong.
    pub(super) sound: Option<Millis>,
    /// What it found.
    pub(super) fault: Option<String>,
    /// How many things.
    pub(super) faults: u64,
}

/// Its form in the file: milliseconds since 1970.
#[derive(Serialize, Deserialize)]
struct Stored {
    begun: Option<i64>,
    sound: Option<i64>,
    fault: Option<String>,
    faults: u64,
}

impl Record {
    /// One that can't be read is as good as none: the replica is verified sooner.
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

    /// Without times that have not come: the clock was set back, and they would put off the next
    /// one.
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
