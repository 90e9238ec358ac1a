//! Recent pages, bounded by their bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::base::LtxId;

/// A page by the file that has it and its number.
pub(super) type PageKey = (LtxId, u32);

/// The pages used last. With more than the bound, those that were not used for the longest time
/// are dropped.
#[derive(Debug)]
pub(super) struct RecentPages {
    pages: HashMap<PageKey, (Arc<[u8]>, u64)>,
    /// The same pages in the order of their last use.
    order: BTreeMap<u64, PageKey>,
    uses: u64,
    bytes: usize,
    bytes_max: usize,
}

impl RecentPages {
    pub(super) fn new(bytes_max: usize) -> RecentPages {
        RecentPages { pages: HashMap::new(), order: BTreeMap::new(), uses: 0, bytes: 0, bytes_max }
    }

    pub(super) fn get(&mut self, key: PageKey) -> Option<Arc<[u8]>> {
        let (page, used) = self.pages.get_mut(&key)?;
        self.uses += 1;
        self.order.remove(used);
        *used = self.uses;
        self.order.insert(self.uses, key);
        Some(Arc::clone(page))
    }

    pub(super) fn has(&self, key: PageKey) -> bool {
        self.pages.contains_key(&key)
    }

    pub(super) fn insert(&mut self, key: PageKey, page: Arc<[u8]>) {
        self.uses += 1;
        self.bytes += page.len();
        if let Some((old, used)) = self.pages.insert(key, (page, self.uses)) {
            self.bytes -= old.len();
            self.order.remove(&used);
        }
        self.order.insert(self.uses, key);
        while self.bytes > self.bytes_max
            && let Some((_, oldest)) = self.order.pop_first()
            && let Some((page, _)) = self.pages.remove(&oldest)
        {
            self.bytes -= page.len();
        }
    }

    /// Drops the pages of a file, because an object of that name has other content now.
    pub(super) fn forget(&mut self, file: LtxId) {
        let keys: Vec<PageKey> = self.pages.keys().filter(|(id, _)| *id == file).copied().collect();
        for key in keys {
            if let Some((page, used)) = self.pages.remove(&key) {
                self.bytes -= page.len();
                self.order.remove(&used);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Level, Txid};

    #[test]
    fn the_pages_used_last_stay() {
        let id = LtxId::new(Level::new(0).unwrap(), Txid(2), Txid(2)).unwrap();
        let page = |n: u8| Arc::<[u8]>::from(vec![n; 100]);
        let mut recent = RecentPages::new(300);
        for n in 1..=3 {
            recent.insert((id, n), page(n as u8));
        }
        assert_eq!(recent.get((id, 1)), Some(page(1)));
        recent.insert((id, 4), page(4));
        assert!(!recent.has((id, 2)), "page 2 was not used for the longest time");
        recent.insert((id, 4), page(5));
        assert_eq!((recent.get((id, 4)), recent.bytes), (Some(page(5)), 300));
        recent.forget(id);
        assert_eq!((recent.bytes, recent.order.len()), (0, 0));
    }
}
