//! The signals that end a restore.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::progress::Watcher;
use crate::restore::RestoreError;

/// SIGINT and SIGTERM end a restore. SIGXFSZ does nothing: the write that is beyond the limit fails
/// with an error of its own.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    _file_size: Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Signals> {
        let catch = |kind| signal(kind).context("signals cannot be caught");
        Ok(Signals {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            _file_size: catch(SignalKind::from_raw(libc::SIGXFSZ))?,
        })
    }

    /// The result of `work`, unless a signal comes first. Work that is dropped deletes its
    /// temporary file. Once the file gets its name nothing can be dropped any more, and the result
    /// is that of the work.
    pub(super) async fn or<T>(
        &mut self,
        watcher: &Watcher,
        work: impl Future<Output = Result<T, RestoreError>>,
    ) -> Result<T, RestoreError> {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        if watcher.is_installing() { work.await } else { Err(RestoreError::Interrupted) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::{Progress as _, Stage};

    /// The rename went on, and the restore said that nothing had been changed.
    #[tokio::test]
    async fn a_signal_while_the_database_gets_its_name_waits_for_the_end() {
        for (stage, expected) in [(Stage::Verify, None), (Stage::Install, Some(7))] {
            let watcher = Watcher::new(false);
            watcher.stage(stage);
            let mut signals = Signals::new().unwrap();
            let mut seen = signal(SignalKind::terminate()).unwrap();
            let work = async {
                let own = std::process::id().to_string();
                assert!(std::process::Command::new("kill").args(["-TERM", &own]).status().unwrap().success());
                seen.recv().await;
                // `signals` receives the signal before the work goes on.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                Ok(7)
            };
            match signals.or(&watcher, work).await {
                Ok(done) => assert_eq!(Some(done), expected),
                Err(e) => assert!(matches!(e, RestoreError::Interrupted) && expected.is_none(), "{e}"),
            }
        }
    }
}
