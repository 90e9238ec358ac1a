//! What is asked of an engine, and the answers.

use std::io;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::File;

/// The answer to a request with a buffer: the buffer comes back whatever happened.
pub(super) type WithBuffer<T> = (io::Result<T>, Vec<u8>);

/// One piece of work.
pub(super) enum Work {
    /// Fill the buffer from the file, until it is full or the file ends.
    Read { buf: Vec<u8>, offset: u64, reply: oneshot::Sender<WithBuffer<usize>> },
    /// Write the whole buffer.
    Write { buf: Vec<u8>, offset: u64, reply: oneshot::Sender<WithBuffer<()>> },
    /// Flush to the disk, without metadata that is not needed to read the data back if `data_only`.
    Sync { data_only: bool, reply: oneshot::Sender<io::Result<()>> },
    /// Cut or extend.
    SetLen { len: u64, reply: oneshot::Sender<io::Result<()>> },
}

/// A piece of work with its file and its place in the queue, which is free again when this is
/// dropped.
pub(super) struct Request {
    pub file: File,
    pub work: Work,
    pub permit: OwnedSemaphorePermit,
}

impl Work {
    /// Does it with plain calls on this thread, and answers. A caller that has gone away is no
    /// error.
    pub(super) fn run_plainly(self, file: &File) {
        match self {
            Work::Read { mut buf, offset, reply } => {
                let result = file.pread(&mut buf, offset);
                let _ = reply.send((result, buf));
            }
            Work::Write { buf, offset, reply } => {
                let result = file.pwrite_all(&buf, offset);
                let _ = reply.send((result, buf));
            }
            Work::Sync { data_only, reply } => {
                let result = if data_only { file.std().sync_data() } else { file.std().sync_all() };
                let _ = reply.send(result);
            }
            Work::SetLen { len, reply } => {
                let _ = reply.send(file.std().set_len(len));
            }
        }
    }
}
