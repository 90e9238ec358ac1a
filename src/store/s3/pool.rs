//! Kept-alive connections to one host.
//!
//! # Overview
//!
//! The pool is last in, first out, so that a few connections stay warm and the others time out. A
//! connection is reused only if it is ready, younger than [`limits::POOL_AGE`] and idle for less
//! than [`limits::POOL_IDLE_TIME`]. After a request, a spare connection is opened in the
//! background. If the used connection turns out to be dead, the next attempt needs no handshake. A
//! pool without requests closes its connections, and its background task ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use hyper::client::conn::http1::{self, SendRequest};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::body::Chunks;
use super::failure::{Class, Failure};
use super::http::{Connect, connect_failure};
use crate::base::limits;
use crate::config::Proxy;

/// Connections to one scheme, host and port.
#[derive(Debug)]
pub(super) struct Pool {
    to: Uri,
    /// The HTTP proxy that the connections end at.
    forwarder: Option<Proxy>,
    connector: Arc<dyn Connect>,
    idle: Mutex<Vec<Idle>>,
    idle_time: Duration,
    spare: bool,
    opening_spare: AtomicBool,
    reaping: AtomicBool,
    opened: AtomicU64,
    places: Semaphore,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Chunks>,
    born: Instant,
    parked: Instant,
}

/// A connection taken from the pool, or just opened.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) sender: SendRequest<Chunks>,
    born: Instant,
    /// Whether it has already served a request, or was idle in the pool.
    pub(super) reused: bool,
}

/// Clears a flag when its task ends in any way, also when the runtime is dropped.
struct Flag<F: Fn(&Pool) -> &AtomicBool>(Arc<Pool>, F);

impl<F: Fn(&Pool) -> &AtomicBool> Drop for Flag<F> {
    fn drop(&mut self) {
        (self.1)(&self.0).store(false, Ordering::Release);
    }
}

impl Pool {
    /// `to` has a scheme and an authority. `spare` keeps one more connection open than is in use.
    pub(super) fn new(to: Uri, connector: Arc<dyn Connect>, spare: bool, idle_time: Duration) -> Arc<Pool> {
        Arc::new(Pool {
            forwarder: connector.forwarder(&to),
            to,
            connector,
            idle: Mutex::default(),
            idle_time,
            spare,
            opening_spare: AtomicBool::new(false),
            reaping: AtomicBool::new(false),
            opened: AtomicU64::new(0),
            places: Semaphore::new(limits::POOL_REQUESTS),
        })
    }

    /// The HTTP proxy that the connections end at. Requests to it need the whole URL.
    pub(super) fn forwarder(&self) -> Option<&Proxy> {
        self.forwarder.as_ref()
    }

    /// Number of connections opened so far.
    #[cfg(feature = "internals")]
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Waits for one of the [`limits::POOL_REQUESTS`] places of requests in flight. The semaphore
    /// is never closed.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.places.acquire().await.ok()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an idle connection or a new one; with `fresh`, always a new one.
    pub(super) async fn checkout(&self, fresh: bool) -> Result<Conn, Failure> {
        while let Some(mut idle) = if fresh { None } else { self.pop() } {
            // Fails at once if the server has closed the connection; otherwise waits until the
            // previous response is drained.
            if idle.sender.ready().await.is_ok() {
                return Ok(Conn { sender: idle.sender, born: idle.born, reused: true });
            }
        }
        self.open().await
    }

    fn pop(&self) -> Option<Idle> {
        let now = Instant::now();
        let mut idle = self.idle();
        while let Some(last) = idle.pop() {
            if self.usable(&last, now) {
                return Some(last);
            }
        }
        None
    }

    fn usable(&self, idle: &Idle, now: Instant) -> bool {
        !idle.sender.is_closed()
            && now.duration_since(idle.parked) < self.idle_time
            && now.duration_since(idle.born) < limits::POOL_AGE
    }

    async fn open(&self) -> Result<Conn, Failure> {
        // The connector limits the time for TCP; this limit covers TLS as well.
        let connecting = tokio::time::timeout(limits::CONNECT_TIME * 2, self.connector.connect(&self.to));
        let io = match connecting.await {
            Ok(Ok(io)) => io,
            Ok(Err(e)) => return Err(connect_failure(&self.to, e)),
            Err(_) => {
                let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(connect_failure(&self.to, late.into()));
            }
        };
        let (sender, driver) = http1::Builder::new()
            .handshake::<_, Chunks>(io)
            .await
            .map_err(|e| Failure::new(Class::Transient, "the connection failed at once").with_source(e))?;
        // The driver ends by itself when the sender is dropped or the server closes. Requests
        // report its errors.
        tokio::spawn(async move {
            let _ = driver.await;
        });
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Conn { sender, born: Instant::now(), reused: false })
    }

    /// Takes back a connection whose last response has been read to its end.
    pub(super) fn park(self: &Arc<Self>, conn: Conn) {
        if conn.sender.is_closed() {
            return;
        }
        let now = Instant::now();
        let waiting = {
            let mut idle = self.idle();
            idle.push(Idle { sender: conn.sender, born: conn.born, parked: now });
            if idle.len() > limits::POOL_IDLE {
                idle.remove(0);
            }
            idle.len()
        };
        self.reap();
        if self.spare && waiting == 1 {
            self.open_spare();
        }
    }

    /// Opens one connection in the background, unless one is being opened already.
    fn open_spare(self: &Arc<Self>) {
        if self.opening_spare.swap(true, Ordering::AcqRel) {
            return;
        }
        let flag = Flag(Arc::clone(self), |p| &p.opening_spare);
        tokio::spawn(async move {
            let pool = &flag.0;
            match pool.open().await {
                Ok(conn) => pool.park_below(conn),
                Err(e) => tracing::debug!(to = %pool.to, error = %e, "no spare connection"),
            }
        });
    }

    /// Puts a spare below the connections in use, so that it is taken last.
    fn park_below(self: &Arc<Self>, conn: Conn) {
        let now = Instant::now();
        self.idle().insert(0, Idle { sender: conn.sender, born: conn.born, parked: now });
        self.reap();
    }

    /// Ensures that at least one connection is ready.
    pub(super) async fn prewarm(self: &Arc<Self>) -> Result<(), Failure> {
        let now = Instant::now();
        if self.idle().iter().any(|i| self.usable(i, now)) {
            return Ok(());
        }
        let conn = self.open().await?;
        self.park_below(conn);
        Ok(())
    }

    /// Closes connections when their time is over. The task ends when none is left.
    fn reap(self: &Arc<Self>) {
        if self.reaping.swap(true, Ordering::AcqRel) {
            return;
        }
        let flag = Flag(Arc::clone(self), |p| &p.reaping);
        tokio::spawn(async move {
            let pool = &flag.0;
            loop {
                let next = {
                    let now = Instant::now();
                    let mut idle = pool.idle();
                    idle.retain(|i| pool.usable(i, now));
                    if idle.is_empty() {
                        // Cleared under the lock, so that the next `park` starts a new task.
                        pool.reaping.store(false, Ordering::Release);
                    }
                    idle.iter().map(|i| i.parked + pool.idle_time).min()
                };
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => break,
                }
            }
        });
    }
}
