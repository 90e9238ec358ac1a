//! Finds stored files that were exchanged, by the landmarks.

use std::io;

use tokio::time::Instant;

use super::error::ReplicaError;
use super::landmarks::{Landmark, Landmarks, MODE, NAME, Written};
use super::resume::Mismatch;
use super::task::Replica;
use crate::replicate::remote::{RemoteError, header_of};
use crate::replicate::state::replica_folder;
use crate::store::Entry;

impl Replica {
    /// Compares the listing of the start with what is remembered.
    pub(super) fn look_for_landmarks(&mut self, files: &[Entry]) {
        let mut landmarks = Landmarks::of(self.local.dir());
        landmarks.compare(files);
        self.landmarks = landmarks;
    }

    /// Judges the landmarks that are listed otherwise than they are known, by their headers.
    /// Returns the first one that is another file than was stored.
    pub(super) async fn exchanged_landmark(&mut self) -> Result<Option<Mismatch>, ReplicaError> {
        for (landmark, entry) in std::mem::take(&mut self.landmarks.changed) {
            let header = loop {
                let begun = Instant::now();
                match header_of(&*self.store, landmark.id).await {
                    Ok(header) => break Some(header),
                    Err(RemoteError::Store(e)) if e.is_transient() => self.wait_out(e, begun).await?,
                    // It is damaged or gone; the history deals with that.
                    Err(_) => break None,
                }
            };
            self.works();
            let same = match (header, landmark.created) {
                (None, _) => true,
                (Some(header), Some(created)) => header.timestamp == created,
                // Nothing is known of its content. A copy of a bucket has new times.
                (Some(_), None) => entry.size == landmark.size,
            };
            if !same {
                let reason = format!(
                    "{} is not the file that was stored: it has {} bytes instead of {}, or another time",
                    landmark.id, entry.size, landmark.size
                );
                return Ok(Some(Mismatch { reason, stranger: false }));
            }
        }
        Ok(None)
    }

    /// Remembers what is stored now.
    pub(super) async fn note_landmarks(&mut self) {
        let (stored, is_local) = (self.history.landmarks(), self.store.is_local());
        if !self.landmarks.update(&stored, is_local) {
            return;
        }
        let written: Vec<Written> = self.landmarks.known.iter().map(Landmark::written).collect();
        let folder = replica_folder(self.local.dir());
        let write = move || folder.open()?.write(NAME, &serde_json::to_vec(&written)?, MODE);
        let noted = tokio::task::spawn_blocking(write).await.map_err(io::Error::other).flatten();
        if let Err(e) = noted {
            tracing::debug!(db = %self.db_name(), error = %e, "cannot remember which files are stored");
        }
    }
}
