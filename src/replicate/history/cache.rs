//! Recent files in memory, so that merging what this process has just stored needs no GET. One
//! cache for the process, bounded in bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::base::{LtxId, limits};

/// Number of one replica in the cache.
type Owner = u64;

#[derive(Debug, Default)]
struct Inner {
    files: HashMap<(Owner, LtxId), (u64, Bytes)>,
    /// Oldest first. An entry is out of date if its number differs from that of the file.
    order: VecDeque<(u64, (Owner, LtxId))>,
    bytes: usize,
    next: u64,
}

/// Recent files of all replicas of the process.
#[derive(Debug, Clone, Default)]
pub struct Cache(Arc<Mutex<Inner>>);

/// The files of one replica. Dropping it removes them.
#[derive(Debug)]
pub struct ReplicaCache {
    cache: Cache,
    owner: Owner,
}

impl Cache {
    /// A part of the cache for one replica.
    #[must_use]
    pub fn inventory(&self) -> ReplicaCache {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        ReplicaCache { cache: self.clone(), owner: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Bytes held for all replicas.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    // A panic elsewhere cannot leave it half changed: nothing in here calls out.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, key: &(Owner, LtxId)) -> Option<Bytes> {
        let (_, bytes) = self.files.remove(key)?;
        self.bytes -= bytes.len();
        Some(bytes)
    }
}

impl ReplicaCache {
    /// Adds a file unless it is too long. Copies the bytes, because the buffer that they are part
    /// of may be larger.
    pub fn put(&self, id: LtxId, bytes: &Bytes) {
        if bytes.len() > limits::CACHE_OBJECT_BYTES {
            return;
        }
        let own = Bytes::copy_from_slice(bytes);
        let mut inner = self.cache.lock();
        let key = (self.owner, id);
        inner.take(&key);
        inner.next += 1;
        let number = inner.next;
        inner.bytes += own.len();
        inner.files.insert(key, (number, own));
        inner.order.push_back((number, key));
        while inner.bytes > limits::CACHE_BYTES || inner.order.len() > 2 * inner.files.len() + 64 {
            let Some((number, key)) = inner.order.pop_front() else { break };
            if inner.files.get(&key).is_some_and(|(n, _)| *n == number) {
                if inner.bytes > limits::CACHE_BYTES {
                    inner.take(&key);
                } else {
                    // Only the list of names was too long; this file is still valid.
                    inner.order.push_back((number, key));
                }
            }
        }
    }

    /// A file, if it is in the cache.
    #[must_use]
    pub fn get(&self, id: LtxId) -> Option<Bytes> {
        self.cache.lock().files.get(&(self.owner, id)).map(|(_, bytes)| bytes.clone())
    }

    /// Removes a file.
    pub fn forget(&self, id: LtxId) {
        self.cache.lock().take(&(self.owner, id));
    }
}

impl Drop for ReplicaCache {
    fn drop(&mut self) {
        self.forget_all();
    }
}

impl ReplicaCache {
    /// Removes all files of this replica.
    pub fn forget_all(&self) {
        let mut inner = self.cache.lock();
        let own: Vec<_> = inner.files.keys().filter(|(owner, _)| *owner == self.owner).copied().collect();
        own.iter().for_each(|key| drop(inner.take(key)));
        inner.order.retain(|(_, key)| key.0 != self.owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Txid;

    fn id(n: u64) -> LtxId {
        LtxId::raw(Txid(n))
    }

    #[test]
    fn the_oldest_go_first_and_owners_do_not_mix() {
        let cache = Cache::default();
        let (a, b) = (cache.inventory(), cache.inventory());
        let file = Bytes::from(vec![7; limits::CACHE_OBJECT_BYTES]);
        let room = (limits::CACHE_BYTES / limits::CACHE_OBJECT_BYTES) as u64;
        for n in 1..=room + 3 {
            a.put(id(n), &file);
        }
        assert_eq!(cache.bytes(), limits::CACHE_BYTES);
        assert!(a.get(id(3)).is_none() && a.get(id(4)).is_some());
        assert!(b.get(id(4)).is_none());
        a.put(id(90), &Bytes::from(vec![0; limits::CACHE_OBJECT_BYTES + 1]));
        assert!(a.get(id(90)).is_none(), "too long to be remembered");
        drop(a);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn names_of_what_is_gone_do_not_pile_up() {
        let cache = Cache::default();
        let a = cache.inventory();
        for n in 1..=10_000 {
            a.put(id(n), &Bytes::from_static(b"x"));
            a.forget(id(n));
            a.put(id(1), &Bytes::from_static(b"xy"));
        }
        let inner = cache.lock();
        assert_eq!((inner.files.len(), inner.bytes), (1, 2));
        assert!(inner.order.len() <= 66, "{}", inner.order.len());
    }
}
