//! The engine that makes ordinary system calls: a few threads and one queue.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use super::request::Request;
use crate::base::limits;

/// Starts the threads. They end when the sender is dropped and the queue is empty.
pub(super) fn start() -> io::Result<mpsc::Sender<Request>> {
    let (sender, queue) = mpsc::channel::<Request>();
    let queue = Arc::new(Mutex::new(queue));
    for n in 0..limits::IO_THREADS {
        let queue = Arc::clone(&queue);
        std::thread::Builder::new().name(format!("lsfast-io-{n}")).spawn(move || {
            loop {
                // One thread waits in `recv` with the lock held, and the others wait for the lock.
                // This has the same effect as if all of them waited for the queue. A poisoned lock
                // guards nothing that could be half done.
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(Request { file, work, permit }) = next else { return };
                work.run_plainly(file);
                drop(permit);
            }
        })?;
    }
    Ok(sender)
}
