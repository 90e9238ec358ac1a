//! A database whose path names another file by now, or none.

use std::time::Duration;

use super::abandon;
use super::run::{End, Follower};
use crate::sqlite::database::FileId;

/// How long the last commits of a database that was removed may take to be stored.
const LAST_WORDS: Duration = Duration::from_secs(10);

impl Follower<'_> {
    /// The files are gone, but what was captured of them is in memory or behind open descriptors:
    /// it is stored for as long as that is quick. Whether all of it is.
    pub(super) async fn store_the_last(&mut self) -> bool {
        self.board.close();
        let (board, hint, replicas) = (&self.board, &self.hint, &mut self.replicas);
        let all = async {
            let mut stored = true;
            loop {
                // No lock of ours keeps the files as they are. Nor does anybody
                // write to them, or what is
                // read shows it.
                board.grant_pins();
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

    /// Whether the names still lead to the files that were opened. What can't be told is no reason
    /// to let go of them.
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

    /// The path no longer names these files.
    pub(super) async fn abandon(&mut self) -> End {
        self.capture.leave();
        abandon::tidy(self.capture.db()).await;
        End::Replaced { stored: false }
    }
}
