//! Work that blocks, on threads of the runtime.

use super::error::RestoreError;

/// Runs `work` on a blocking thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RestoreError> + Send + 'static,
) -> Result<T, RestoreError> {
    tokio::task::spawn_blocking(work).await.map_err(join_error)?
}

/// Repeats the panic of a failed assertion on this thread.
pub(super) fn join_error(e: tokio::task::JoinError) -> RestoreError {
    match e.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => RestoreError::Interrupted,
    }
}
