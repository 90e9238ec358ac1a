//! A task that ends with its replica.

use tokio::task::AbortHandle;

/// A task that is aborted when its replica ends.
pub(super) struct Background(Option<AbortHandle>);

impl Background {
    pub(super) fn none() -> Background {
        Background(None)
    }

    pub(super) fn spawn(task: impl Future<Output = ()> + 'static) -> Background {
        Background(Some(tokio::task::spawn_local(task).abort_handle()))
    }

    /// Whether no task is under way.
    pub(super) fn is_over(&self) -> bool {
        self.0.as_ref().is_none_or(AbortHandle::is_finished)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
