//! A database whose path now names another file, or none.

use std::time::Duration;

use super::abandon;
use super::run::{End, Follower};
use crate::sqlite::database::FileId;

/// How long storing the last commits of a removed database may take.
const LAST_WORDS: Duration = Duration::from_secs(10);

impl Follower<'_> {
    /// The files are gone, but their captured pages are in memory or readable through open
    /// descriptors: stores them if that takes no longer than [`LAST_WORDS`]. Returns whether all of
    /// it is stored.
    pub(super) async fn store_the_last(&mut self) -> bool {
        self.handoff.close();
        let (handoff, hint, replicas) = (&self.handoff, &self.hint, &mut self.replicas);
        let all = async {
            let mut stored = true;
            loop {
                // No lock of ours keeps the files as they are. No program writes to them either, or
                // reading them shows it.
                handoff.grant_pins();
                tokio::select! {
                    ended = replicas.join_next() => match ended {
                        Some(ended) => stored &= matches!(ended, Ok(Ok(()))),
                        None => return stored,
                    },
                    () = hint.wait() => {}
                }
            }
        };
        let stored = tokio::time::timeout(LAST_WORDS, all).await == Ok(true);
        if !stored {
            tracing::warn!(db = %self.path().display(), "the last commits before the database was removed could not be stored in time");
        }
        stored
    }

    /// Whether the names still lead to the files that were opened. `true` if that cannot be
    /// determined.
    pub(super) fn is_same(&self) -> bool {
        let named = FileId::at(self.named).map(|now| now == Some(self.id));
        match named.and_then(|same| Ok(same && self.capture.db().is_same()?)) {
            Ok(same) => same,
            Err(e) => {
                tracing::debug!(db = %self.named.display(), error = %e, "its path cannot be looked up");
                true
            }
        }
    }

    /// The path no longer names these files: releases them.
    pub(super) async fn abandon(&mut self) -> End {
        self.capture.leave();
        abandon::tidy(self.capture.db()).await;
        End::Replaced { stored: false }
    }
}
