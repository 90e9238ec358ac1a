//! The I/O engine: one interface with two implementations.
//!
//! # Cancellation
//!
//! Dropping a future does not cancel a request that has started: it runs to its end, its buffer is
//! then freed, and its answer is discarded. A request that has not started is dropped with its
//! future.

use std::future::Future;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::{fmt, io};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::direct::Aligned;
#[cfg(feature = "internals")]
use super::request::WithBuffer;
use super::request::{Request, RunWritten, Work};
use super::{File, plain};
use crate::base::limits;

/// Bytes of the longest read that is first tried in the page cache. Longer ones go to the I/O
/// engine at once.
#[cfg(feature = "internals")]
pub(super) const CACHED_READ_BYTES: usize = 256 << 10;

/// The engine that the user asks for (`--io`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoChoice {
    /// io_uring where it works, otherwise plain calls.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// Plain calls.
    Plain,
}

impl FromStr for IoChoice {
    type Err = String;

    fn from_str(s: &str) -> Result<IoChoice, String> {
        match s {
            "auto" => Ok(IoChoice::Auto),
            "uring" => Ok(IoChoice::Uring),
            "plain" => Ok(IoChoice::Plain),
            _ => Err(format!("`{s}` is not an I/O engine: use auto, uring or plain")),
        }
    }
}

impl fmt::Display for IoChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IoChoice::Auto => "auto",
            IoChoice::Uring => "uring",
            IoChoice::Plain => "plain",
        })
    }
}

/// The engine that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoKind {
    /// `tokio_uring` on its own thread.
    #[cfg_attr(not(feature = "uring"), allow(dead_code))]
    Uring,
    /// Plain calls on a few threads.
    Plain,
}

impl fmt::Display for IoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IoKind::Uring => "uring",
            IoKind::Plain => "plain",
        })
    }
}

/// Why no engine could be started.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// The user demanded io_uring, which does not work here.
    #[error("{cause}; run with --io auto or --io plain")]
    NoUring {
        /// The cause, as a sentence without its end.
        cause: String,
    },
    /// The operating system refused the threads of the plain engine.
    #[error("cannot start the threads for file work: {0}")]
    Threads(#[source] io::Error),
}

/// Reads, writes and flushes files; see [`crate::io`]. Clones are cheap, and the threads end with
/// the last one.
///
/// A request starts when its method is called, not when the future is polled, while fewer than
/// [`limits::IO_DEPTH`] are in flight. Further ones start in order, when they are polled and a
/// place is free.
#[derive(Clone)]
pub struct Engine {
    queue: Queue,
    places: Arc<Semaphore>,
    fallback: Option<Arc<str>>,
}

#[derive(Clone)]
enum Queue {
    #[cfg(feature = "uring")]
    Uring(tokio::sync::mpsc::UnboundedSender<Request>),
    Plain(std::sync::mpsc::Sender<Request>),
}

impl Engine {
    /// Starts an engine.
    ///
    /// # Errors
    /// [`IoError::NoUring`] if io_uring is demanded and not available, [`IoError::Threads`] if no
    /// thread can be started.
    pub fn new(choice: IoChoice) -> Result<Engine, IoError> {
        let places = Arc::new(Semaphore::new(limits::IO_DEPTH));
        let (queue, fallback) = match choice {
            IoChoice::Plain => (plain_queue()?, None),
            IoChoice::Uring => (uring_queue(&places).map_err(|cause| IoError::NoUring { cause })?, None),
            IoChoice::Auto => match uring_queue(&places) {
                Ok(queue) => (queue, None),
                Err(cause) => (plain_queue()?, Some(format!("{cause}: using plain calls").into())),
            },
        };
        Ok(Engine { queue, places, fallback })
    }

    /// The engine that runs.
    #[must_use]
    pub fn kind(&self) -> IoKind {
        match &self.queue {
            #[cfg(feature = "uring")]
            Queue::Uring(_) => IoKind::Uring,
            Queue::Plain(_) => IoKind::Plain,
        }
    }

    /// One line for the log if [`IoChoice::Auto`] fell back to plain calls.
    #[must_use]
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// Fills `buf` up to its length, not its capacity, from the file at `offset`. Reads less only
    /// where the file ends. The result is the number of bytes, and the buffer.
    ///
    /// A short piece in the page cache is read at once on the calling thread. There a system call
    /// is several times cheaper than a ring.
    #[cfg(feature = "internals")]
    pub fn read_at(
        &self,
        file: &File,
        mut buf: Vec<u8>,
        offset: u64,
    ) -> impl Future<Output = (io::Result<usize>, Vec<u8>)> + Send + 'static + use<> {
        let mut cached = None;
        if buf.len() <= CACHED_READ_BYTES {
            cached = file.pread_cached(&mut buf, offset);
        }
        let pending = match cached {
            Some(n) => Err((n, buf)),
            None => Ok(self.submit(file, |reply| Work::Read { buf, offset, reply })),
        };
        async move {
            match pending {
                Err((n, buf)) => (Ok(n), buf),
                Ok(answer) => answer.await.unwrap_or_else(|| (Err(stopped()), Vec::new())),
            }
        }
    }

    /// Like [`Engine::read_at`], but does not try the page cache. For data that is known not to be
    /// there.
    #[cfg(feature = "internals")]
    pub fn read_at_queued(
        &self,
        file: &File,
        buf: Vec<u8>,
        offset: u64,
    ) -> impl Future<Output = (io::Result<usize>, Vec<u8>)> + Send + 'static + use<> {
        let answer: Answer<WithBuffer<usize>> = self.submit(file, |reply| Work::Read { buf, offset, reply });
        async move { answer.await.unwrap_or_else(|| (Err(stopped()), Vec::new())) }
    }

    /// Like [`Engine::read_at`], but a file that ends too early is an error of kind
    /// `UnexpectedEof`.
    #[cfg(feature = "internals")]
    pub fn read_exact_at(
        &self,
        file: &File,
        buf: Vec<u8>,
        offset: u64,
    ) -> impl Future<Output = (io::Result<()>, Vec<u8>)> + Send + 'static + use<> {
        let read = self.read_at(file, buf, offset);
        async move {
            match read.await {
                (Ok(n), buf) if n < buf.len() => {
                    let message =
                        format!("the file ends after {n} of {} bytes at offset {offset}", buf.len());
                    (Err(io::Error::new(io::ErrorKind::UnexpectedEof, message)), buf)
                }
                (result, buf) => (result.map(|_| ()), buf),
            }
        }
    }

    /// Writes all of `buf` to the file at `offset`, and returns the buffer.
    #[cfg(feature = "internals")]
    pub fn write_all_at(
        &self,
        file: &File,
        buf: Vec<u8>,
        offset: u64,
    ) -> impl Future<Output = (io::Result<()>, Vec<u8>)> + Send + 'static + use<> {
        let answer: Answer<WithBuffer<()>> = self.submit(file, |reply| Work::Write { buf, offset, reply });
        async move { answer.await.unwrap_or_else(|| (Err(stopped()), Vec::new())) }
    }

    /// Writes the part `part` of the bytes of `run` to the file at `offset`. Returns the memory,
    /// unless the engine has died.
    pub fn write_run(
        &self,
        file: &File,
        run: Aligned,
        part: Range<usize>,
        offset: u64,
    ) -> impl Future<Output = (io::Result<()>, Option<Aligned>)> + Send + 'static + use<> {
        let answer: Answer<RunWritten> =
            self.submit(file, |reply| Work::WriteRun { run, part, offset, reply });
        async move { answer.await.map_or_else(|| (Err(stopped()), None), |(result, run)| (result, Some(run))) }
    }

    /// Flushes data and the metadata that is needed to read it back to the disk (`fdatasync`).
    pub fn sync_data(&self, file: &File) -> impl Future<Output = io::Result<()>> + Send + 'static + use<> {
        self.sync(file, true)
    }

    /// Flushes data and metadata to the disk (`fsync`).
    pub fn sync_all(&self, file: &File) -> impl Future<Output = io::Result<()>> + Send + 'static + use<> {
        self.sync(file, false)
    }

    /// Cuts or extends the file.
    #[cfg(feature = "internals")]
    pub fn set_len(
        &self,
        file: &File,
        len: u64,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static + use<> {
        let answer = self.submit(file, |reply| Work::SetLen { len, reply });
        async move { answer.await.unwrap_or_else(|| Err(stopped())) }
    }

    fn sync(
        &self,
        file: &File,
        data_only: bool,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static + use<> {
        let answer = self.submit(file, |reply| Work::Sync { data_only, reply });
        async move { answer.await.unwrap_or_else(|| Err(stopped())) }
    }

    /// Waits until no request is in flight.
    #[cfg(test)]
    pub(super) async fn idle(&self) {
        drop(self.places.acquire_many(limits::IO_DEPTH as u32).await.expect("never closed"));
    }

    /// Queues a request at once if a place is free, otherwise when the answer is first polled. The
    /// answer is `None` if the engine has died.
    fn submit<T: Send + 'static>(
        &self,
        file: &File,
        work: impl FnOnce(oneshot::Sender<T>) -> Work,
    ) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        let work = work(reply);
        let file = file.clone();
        let later = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => {
                self.queue.send(Request { file, work, permit });
                None
            }
            Err(_) => Some((self.queue.clone(), Arc::clone(&self.places), file, work)),
        };
        Box::pin(async move {
            if let Some((queue, places, file, work)) = later {
                let permit: OwnedSemaphorePermit = places.acquire_owned().await.ok()?;
                queue.send(Request { file, work, permit });
            }
            answer.await.ok()
        })
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({})", self.kind())
    }
}

/// The future answer; `None` if the engine has died.
type Answer<T> = std::pin::Pin<Box<dyn Future<Output = Option<T>> + Send>>;

impl Queue {
    /// If the engine has ended, the request is dropped together with its reply channel, which the
    /// waiting side notices.
    fn send(&self, request: Request) {
        match self {
            #[cfg(feature = "uring")]
            Queue::Uring(queue) => drop(queue.send(request)),
            Queue::Plain(queue) => drop(queue.send(request)),
        }
    }
}

fn plain_queue() -> Result<Queue, IoError> {
    plain::start().map(Queue::Plain).map_err(IoError::Threads)
}

#[cfg(feature = "uring")]
fn uring_queue(places: &Arc<Semaphore>) -> Result<Queue, String> {
    super::uring::probe()
        .and_then(|()| super::uring::start(Arc::clone(places)))
        .map(Queue::Uring)
        .map_err(|e| no_uring(&e))
}

#[cfg(not(feature = "uring"))]
fn uring_queue(_places: &Arc<Semaphore>) -> Result<Queue, String> {
    Err("this program was built without io_uring".into())
}

/// Why io_uring does not work, as a sentence without its end.
#[cfg(feature = "uring")]
fn no_uring(e: &io::Error) -> String {
    match e.raw_os_error() {
        Some(libc::EPERM) => {
            "io_uring is not permitted here (EPERM; containers and hardened kernels forbid it)".into()
        }
        Some(libc::ENOSYS) => "this kernel has no io_uring (ENOSYS)".into(),
        Some(libc::ENOMEM) => "io_uring may not lock enough memory here (ENOMEM; see ulimit -l)".into(),
        _ => format!("io_uring does not work here ({e})"),
    }
}

fn stopped() -> io::Error {
    io::Error::other("the I/O engine has stopped; this is a defect of lsfast")
}
