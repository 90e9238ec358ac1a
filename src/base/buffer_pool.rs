//! A pool of buffers for reuse. A new large buffer costs a page fault for each of its memory pages
//! when they are first touched; a reused one does not.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The pool of one job: dropped buffers return to it. Its memory is freed when the last clone of
/// the pool and the last of its buffers are dropped.
#[derive(Debug, Clone)]
pub struct Spares(Arc<Mutex<Free>>);

#[derive(Debug)]
struct Free {
    spares: Vec<Vec<u8>>,
    /// Number of buffers that may still be created for the pool.
    left: usize,
}

impl Spares {
    /// A pool that keeps at most `max` buffers. Further buffers in use at the same time are freed
    /// when dropped. Each buffer keeps the largest capacity that it ever had.
    #[must_use]
    pub fn new(max: usize) -> Spares {
        Spares(Arc::new(Mutex::new(Free { spares: Vec::new(), left: max })))
    }

    /// The buffer that was returned last, with its old contents. An empty buffer if none is in the
    /// pool.
    #[must_use]
    pub fn take(&self) -> Spare {
        let mut free = self.lock();
        if let Some(bytes) = free.spares.pop() {
            return Spare { bytes, home: Some(self.clone()) };
        }
        let home = (free.left > 0).then(|| self.clone());
        free.left = free.left.saturating_sub(1);
        Spare { bytes: Vec::new(), home }
    }

    // A panic elsewhere can't leave the state half changed, so a poisoned lock is used as it is.
    fn lock(&self) -> MutexGuard<'_, Free> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that returns to its pool when dropped.
#[derive(Debug, Default)]
pub struct Spare {
    bytes: Vec<u8>,
    home: Option<Spares>,
}

impl Spare {
    /// The first `len` bytes, without a copy. The buffer returns to its pool when the last
    /// reference to these bytes is dropped.
    #[must_use]
    pub fn into_bytes(self, len: usize) -> Bytes {
        Bytes::from_owner(self).split_to(len)
    }
}

impl Deref for Spare {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Spare {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Spare {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let bytes = std::mem::take(&mut self.bytes);
            home.lock().spares.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_bytes_are_gone() {
        let spares = Spares::new(1);
        let mut buffer = spares.take();
        buffer.extend_from_slice(b"0123456789");
        let at = buffer.as_ptr();
        let mut bytes = buffer.into_bytes(4);
        assert_eq!((bytes.as_ptr(), &bytes[..]), (at, &b"0123"[..]));
        let head = bytes.split_to(1);
        drop(bytes);
        assert!(spares.take().is_empty(), "a byte of it is in use");
        drop(head);
        let again = spares.take();
        assert_eq!((again.as_ptr(), &again[..]), (at, &b"0123456789"[..]));
    }

    #[test]
    fn no_more_are_kept_than_allowed() {
        let spares = Spares::new(2);
        let mut taken: Vec<Spare> = (0..3).map(|_| spares.take()).collect();
        taken.iter_mut().for_each(|b| b.push(1));
        taken.clear();
        let lengths: Vec<usize> =
            (0..3).map(|_| spares.take()).collect::<Vec<_>>().iter().map(|b| b.len()).collect();
        assert_eq!(lengths, [1, 1, 0]);
    }

    #[test]
    fn buffers_outlive_their_home() {
        let spares = Spares::new(1);
        let mut buffer = spares.take();
        buffer.push(7);
        drop(spares);
        assert_eq!(buffer.into_bytes(1)[..], [7]);
    }
}
