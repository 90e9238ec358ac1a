//! Buffers that are used again: a large one is cheap only the first time that its pages are
//! touched.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Where buffers of one job go when nobody needs them any more. They are freed with the last of its
/// clones and buffers.
#[derive(Debug, Clone)]
pub struct Spares(Arc<Mutex<Shelf>>);

#[derive(Debug)]
struct Shelf {
    spares: Vec<Vec<u8>>,
    /// Buffers that may still be made.
    left: usize,
}

impl Spares {
    /// For at most `max` buffers. More than that at once are not kept: each of them may grow to the
    /// longest that it ever was.
    #[must_use]
    pub fn new(max: usize) -> Spares {
        Spares(Arc::new(Mutex::new(Shelf { spares: Vec::new(), left: max })))
    }

    /// The buffer that was given back last, with what is in it; an empty one if there is none.
    #[must_use]
    pub fn take(&self) -> Spare {
        let mut shelf = self.lock();
        if let Some(bytes) = shelf.spares.pop() {
            return Spare { bytes, home: Some(self.clone()) };
        }
        let home = (shelf.left > 0).then(|| self.clone());
        shelf.left = shelf.left.saturating_sub(1);
        Spare { bytes: Vec::new(), home }
    }

    // A panic elsewhere can't leave it half changed.
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that goes back where it came from.
#[derive(Debug, Default)]
pub struct Spare {
    bytes: Vec<u8>,
    home: Option<Spares>,
}

impl Spare {
    /// Its first `len` bytes, without a copy. The buffer goes back with the last of them.
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
