//! The io_uring engine: one thread that runs `tokio_uring`. No other module uses that crate.
#![allow(unsafe_code)]
// Why unsafe: `tokio_uring` owns the files that it works on, and closes them when they are dropped.
// Our files have other owners, so it gets wrappers around borrowed descriptor numbers, which are
// never dropped. And the ring has to be told where the memory of a write is.

use std::collections::HashMap;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

use io_uring::opcode;
use tokio::sync::{Semaphore, mpsc};
use tokio_uring::buf::{BoundedBuf, IoBuf};

use super::File;
use super::direct::Aligned;
#[cfg(feature = "internals")]
use super::request::WithBuffer;
use super::request::{Request, Work};
use crate::base::limits;

/// Bytes of one operation at most. The kernel's own maximum for one read or write is a little below
/// 2 GiB.
const OP_BYTES_MAX: usize = 1 << 30;

/// A file of `tokio_uring` that is never closed.
type Borrowed = Rc<ManuallyDrop<tokio_uring::fs::File>>;

/// Entries of the submission queue. The completion queue has twice as many, so it can't overflow
/// with at most [`limits::IO_DEPTH`] requests in flight.
const ENTRIES: u32 = limits::IO_DEPTH as u32;

/// Checks that io_uring works here with all required operations. Creates a ring and drops it again.
pub(super) fn probe() -> io::Result<()> {
    let ring = io_uring::IoUring::new(ENTRIES)?;
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    for (code, name) in [
        (opcode::Read::CODE, "IORING_OP_READ"),
        (opcode::Write::CODE, "IORING_OP_WRITE"),
        (opcode::Fsync::CODE, "IORING_OP_FSYNC"),
        (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL"),
    ] {
        if !probe.is_supported(code) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, format!("the kernel has no {name}")));
        }
    }
    Ok(())
}

/// Starts the thread, after [`probe`] has succeeded. The thread ends when the sender is dropped and
/// all requests are answered.
pub(super) fn start(places: Arc<Semaphore>) -> io::Result<mpsc::UnboundedSender<Request>> {
    let (sender, queue) = mpsc::unbounded_channel();
    let (started, start) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("lsfast-io".into()).spawn(move || {
        let mut builder = tokio_uring::builder();
        builder.entries(ENTRIES);
        match tokio_uring::Runtime::new(&builder) {
            Ok(runtime) => {
                let _ = started.send(Ok(()));
                runtime.block_on(serve(queue, &places));
            }
            Err(e) => {
                let _ = started.send(Err(e));
            }
        }
    })?;
    start.recv().unwrap_or_else(|_| Err(io::Error::other("the io_uring thread ended at once")))?;
    Ok(sender)
}

/// Receives requests and spawns a task for each, so that the ring has many in flight.
async fn serve(mut queue: mpsc::UnboundedReceiver<Request>, places: &Semaphore) {
    let mut wrappers: HashMap<RawFd, Borrowed> = HashMap::new();
    while let Some(Request { file, work, permit }) = queue.recv().await {
        let fd = file.as_raw_fd();
        // A wrapper is only a descriptor number with a reference count. So one wrapper serves every
        // file that ever has that number, and there are never more wrappers than descriptors.
        let wrapper = wrappers.entry(fd).or_insert_with(|| {
            // SAFETY: this creates no owner. The wrapper is never dropped, so it never closes the
            // descriptor. It is only used in tasks that hold `file`, which keeps the number open
            // and its meaning fixed.
            Rc::new(ManuallyDrop::new(unsafe { tokio_uring::fs::File::from_raw_fd(fd) }))
        });
        let wrapper = Rc::clone(wrapper);
        tokio_uring::spawn(async move {
            run(work, file, &wrapper).await;
            drop(permit);
        });
    }
    // The runtime must not end while the kernel has buffers.
    let all = u32::try_from(limits::IO_DEPTH).unwrap_or(u32::MAX);
    let _ = places.acquire_many(all).await;
}

/// Performs the request, drops the file, and sends the answer.
async fn run(work: Work, file: File, uring: &tokio_uring::fs::File) {
    match work {
        #[cfg(feature = "internals")]
        Work::Read { buf, offset, reply } => {
            let answer = read(uring, buf, offset).await;
            drop(file);
            let _ = reply.send(answer);
        }
        #[cfg(feature = "internals")]
        Work::Write { buf, offset, reply } => {
            let all = 0..buf.len();
            let answer = write(uring, buf, all, offset).await;
            drop(file);
            let _ = reply.send(answer);
        }
        Work::WriteRun { run, part, offset, reply } => {
            let answer = write(uring, run, part, offset).await;
            drop(file);
            let _ = reply.send(answer);
        }
        Work::Sync { data_only, reply } => {
            let result = if data_only { uring.sync_data().await } else { uring.sync_all().await };
            drop(file);
            let _ = reply.send(result);
        }
        #[cfg(feature = "internals")]
        Work::SetLen { len, reply } => set_len(file, len, reply).await,
    }
}

// SAFETY: the memory is a map that the value owns, so it stays where it is while the value moves,
// and lives as long as it. All of it is initialised. `bytes` is a part of the map, which ends there
// as far as the ring is concerned.
unsafe impl IoBuf for Aligned {
    fn stable_ptr(&self) -> *const u8 {
        self.bytes().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }

    fn bytes_total(&self) -> usize {
        self.len()
    }
}

/// io_uring cuts and extends files from Linux 6.9 on, but `tokio_uring` has no such operation. So
/// this is a plain call, on another thread.
#[cfg(feature = "internals")]
async fn set_len(file: File, len: u64, reply: tokio::sync::oneshot::Sender<io::Result<()>>) {
    let done = tokio::task::spawn_blocking(move || file.std().set_len(len)).await;
    let _ = reply.send(done.unwrap_or_else(|e| Err(io::Error::other(e))));
}

#[cfg(feature = "internals")]
async fn read(file: &tokio_uring::fs::File, mut buf: Vec<u8>, offset: u64) -> WithBuffer<usize> {
    let len = buf.len();
    let mut done = 0;
    while done < len {
        let end = len.min(done + OP_BYTES_MAX);
        let (result, slice) = file.read_at(buf.slice(done..end), offset + done as u64).await;
        buf = slice.into_inner();
        match result {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (Err(e), buf),
        }
    }
    (Ok(done), buf)
}

/// Writes a range of the buffer.
async fn write<T: IoBuf>(
    file: &tokio_uring::fs::File,
    mut buf: T,
    range: Range<usize>,
    offset: u64,
) -> (io::Result<()>, T) {
    let mut done = range.start;
    while done < range.end {
        let end = range.end.min(done + OP_BYTES_MAX);
        let at = offset + (done - range.start) as u64;
        let (result, slice) = file.write_at(buf.slice(done..end), at).submit().await;
        buf = slice.into_inner();
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buf),
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (Err(e), buf),
        }
    }
    (Ok(()), buf)
}
