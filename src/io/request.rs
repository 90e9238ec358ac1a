//! Requests to an engine, and their answers.

use std::io;
use std::ops::Range;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::File;
use super::direct::Aligned;

/// The answer to a request with a buffer. It returns the buffer in every case.
#[cfg(feature = "internals")]
pub(super) type WithBuffer<T> = (io::Result<T>, Vec<u8>);

/// The answer to the write of a run. It returns the memory in every case.
pub(super) type RunWritten = (io::Result<()>, Aligned);

/// One request without its file.
pub(super) enum Work {
    /// Fills the buffer from the file until the buffer is full or the file ends.
    #[cfg(feature = "internals")]
    Read { buf: Vec<u8>, offset: u64, reply: oneshot::Sender<WithBuffer<usize>> },
    /// Writes the whole buffer.
    #[cfg(feature = "internals")]
    Write { buf: Vec<u8>, offset: u64, reply: oneshot::Sender<WithBuffer<()>> },
    /// Writes a part of the bytes.
    WriteRun { run: Aligned, part: Range<usize>, offset: u64, reply: oneshot::Sender<RunWritten> },
    /// Flushes to the disk; with `data_only` without metadata that is not needed to read the data
    /// back.
    Sync { data_only: bool, reply: oneshot::Sender<io::Result<()>> },
    /// Cuts or extends the file.
    #[cfg(feature = "internals")]
    SetLen { len: u64, reply: oneshot::Sender<io::Result<()>> },
}

/// A request with its file and its place in the queue, which is released when this is dropped.
pub(super) struct Request {
    pub file: File,
    pub work: Work,
    pub permit: OwnedSemaphorePermit,
}

impl Work {
    /// Performs the request with plain calls on this thread, drops the file, and sends the answer.
    /// It is not an error if the caller has dropped the receiver.
    pub(super) fn run_plainly(self, file: File) {
        match self {
            #[cfg(feature = "internals")]
            Work::Read { mut buf, offset, reply } => {
                let result = file.pread(&mut buf, offset);
                drop(file);
                let _ = reply.send((result, buf));
            }
            #[cfg(feature = "internals")]
            Work::Write { buf, offset, reply } => {
                let result = file.pwrite_all(&buf, offset);
                drop(file);
                let _ = reply.send((result, buf));
            }
            Work::WriteRun { run, part, offset, reply } => {
                let result = file.pwrite_all(&run.bytes()[part], offset);
                drop(file);
                let _ = reply.send((result, run));
            }
            Work::Sync { data_only, reply } => {
                let result = if data_only { file.std().sync_data() } else { file.std().sync_all() };
                drop(file);
                let _ = reply.send(result);
            }
            #[cfg(feature = "internals")]
            Work::SetLen { len, reply } => {
                let result = file.std().set_len(len);
                drop(file);
                let _ = reply.send(result);
            }
        }
    }
}
