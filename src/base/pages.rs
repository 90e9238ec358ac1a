//! A set of page numbers, one bit for each.
//!
//! A transaction may change every page of a database. A hash table of that many numbers would take
//! more memory than the limit for page images. In this set the pages of 64 GiB (4 KiB each) take at
//! most 2 MiB.

use super::Pgno;

/// Page numbers in one chunk, which is allocated when the first of them is added.
const CHUNK_PAGES: u32 = 1 << 15;
const CHUNK_WORDS: usize = (CHUNK_PAGES / u64::BITS) as usize;

type Chunk = Box<[u64; CHUNK_WORDS]>;

/// A set of page numbers.
#[derive(Debug, Clone, Default)]
pub struct PageSet {
    /// Chunks in order of page numbers; `None` where no page is in the set.
    chunks: Vec<Option<Chunk>>,
    len: usize,
}

/// Position of a page's bit: chunk, word, and mask of the bit.
fn place(pgno: Pgno) -> (usize, usize, u64) {
    let n = pgno.get();
    let in_chunk = n % CHUNK_PAGES;
    ((n / CHUNK_PAGES) as usize, (in_chunk / u64::BITS) as usize, 1 << (in_chunk % u64::BITS))
}

impl PageSet {
    /// Number of pages in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a page is in the set.
    #[must_use]
    pub fn contains(&self, pgno: Pgno) -> bool {
        let (chunk, word, bit) = place(pgno);
        matches!(self.chunks.get(chunk), Some(Some(c)) if c[word] & bit != 0)
    }

    /// Adds a page.
    pub fn insert(&mut self, pgno: Pgno) {
        let (chunk, word, bit) = place(pgno);
        if self.chunks.len() <= chunk {
            self.chunks.resize(chunk + 1, None);
        }
        let chunk = self.chunks[chunk].get_or_insert_with(|| Box::new([0; CHUNK_WORDS]));
        self.len += usize::from(chunk[word] & bit == 0);
        chunk[word] |= bit;
    }

    /// Removes a page.
    pub fn remove(&mut self, pgno: Pgno) {
        let (chunk, word, bit) = place(pgno);
        if let Some(Some(chunk)) = self.chunks.get_mut(chunk) {
            self.len -= usize::from(chunk[word] & bit != 0);
            chunk[word] &= !bit;
        }
    }

    /// Adds all pages of another set.
    pub fn extend(&mut self, other: &PageSet) {
        if self.chunks.len() < other.chunks.len() {
            self.chunks.resize(other.chunks.len(), None);
        }
        for (mine, theirs) in self.chunks.iter_mut().zip(&other.chunks) {
            let Some(theirs) = theirs else { continue };
            let mine = mine.get_or_insert_with(|| Box::new([0; CHUNK_WORDS]));
            for (mine, theirs) in mine.iter_mut().zip(theirs.iter()) {
                self.len += (theirs & !*mine).count_ones() as usize;
                *mine |= theirs;
            }
        }
    }

    /// The pages in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Pgno> {
        (0..).zip(&self.chunks).flat_map(|(chunk, words)| {
            let first = chunk * CHUNK_PAGES;
            let words = (0..).step_by(u64::BITS as usize).zip(words.iter().flat_map(|w| w.iter()));
            words.flat_map(move |(at, word)| bits(*word).filter_map(move |bit| Pgno::new(first + at + bit)))
        })
    }

    /// Bytes of memory that the set takes.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn bytes(&self) -> usize {
        let chunks = self.chunks.iter().flatten().count();
        self.chunks.capacity() * size_of::<Option<Chunk>>() + chunks * CHUNK_WORDS * size_of::<u64>()
    }
}

/// Positions of the set bits of a word, from the lowest.
fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        let found = word != 0;
        word &= word.wrapping_sub(1);
        found.then_some(bit)
    })
}

impl FromIterator<Pgno> for PageSet {
    fn from_iter<I: IntoIterator<Item = Pgno>>(pages: I) -> PageSet {
        let mut set = PageSet::default();
        pages.into_iter().for_each(|p| set.insert(p));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn pg(n: u32) -> Pgno {
        Pgno::new(n).unwrap()
    }

    #[test]
    fn it_holds_what_a_tree_holds() {
        let mut random = fastrand::Rng::with_seed(7);
        let edges = [1, 63, 64, CHUNK_PAGES - 1, CHUNK_PAGES, CHUNK_PAGES + 1, 9 * CHUNK_PAGES];
        let (mut set, mut tree) = (PageSet::default(), BTreeSet::new());
        for _ in 0..20_000 {
            let n =
                if random.bool() { random.u32(1..200_000) } else { *random.choice(edges.iter()).unwrap() };
            if random.u32(0..4) == 0 {
                set.remove(pg(n));
                tree.remove(&n);
            } else {
                set.insert(pg(n));
                tree.insert(n);
            }
            assert_eq!((set.len(), set.contains(pg(n))), (tree.len(), tree.contains(&n)));
        }
        assert!(set.iter().map(Pgno::get).eq(tree.iter().copied()));
        let other: PageSet = (1..500_000).step_by(7).filter_map(Pgno::new).collect();
        set.extend(&other);
        tree.extend((1..500_000).step_by(7));
        assert_eq!(set.len(), tree.len());
        assert!(set.iter().map(Pgno::get).eq(tree));
        assert!(PageSet::from_iter([pg(u32::MAX)]).iter().eq([pg(u32::MAX)]));
    }

    #[test]
    fn every_page_of_64_gib_takes_2_mib() {
        let set: PageSet = (1..=1 << 24).filter_map(Pgno::new).collect();
        assert_eq!(set.len(), 1 << 24);
        assert!(set.bytes() < (2 << 20) + (64 << 10), "{} bytes", set.bytes());
    }
}
