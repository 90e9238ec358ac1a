//! Drives the asynchronous store from synchronous code.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

use super::ViewError;

/// Threads that do requests. SQLite asks for pages in its own threads, and waits there.
#[derive(Debug)]
pub(super) struct Driver(Option<Runtime>);

impl Driver {
    pub(super) fn new() -> Result<Driver, ViewError> {
        let mut threads = Builder::new_multi_thread();
        let threads = threads.worker_threads(1).thread_name("lsfast-view").enable_all();
        threads.build().map(|runtime| Driver(Some(runtime))).map_err(ViewError::Driver)
    }

    /// Waits for `future` on the calling thread, which must not be one that drives futures.
    pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.as_ref().expect("taken only when it is dropped").block_on(future)
    }
}

impl Drop for Driver {
    /// Leaves idle connections to their tasks: nothing waits for them.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
