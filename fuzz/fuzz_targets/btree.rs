//! Two databases of any pages of 512 bytes, and the rows that differ between them: no panic and no
//! loop.
//!
//! The first two bytes are the number of pages of the older database; its pages follow, then those
//! of the newer one.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use lsfast::view::btree::{BtreeError, Schema, Source, State};
use lsfast::view::change::{Direction, Labels, Sides, diff, script};

const PAGE: usize = 512;

struct Image(Vec<Arc<[u8]>>);

impl Source for Image {
    fn page_size(&self) -> usize {
        PAGE
    }

    fn page_count(&self) -> u32 {
        self.0.len() as u32
    }

    fn page(&self, number: u32) -> Result<Arc<[u8]>, BtreeError> {
        Ok(Arc::clone(&self.0[number as usize - 1]))
    }
}

fuzz_target!(|input: &[u8]| {
    let [a, b, bytes @ ..] = input else { return };
    let pages: Vec<Arc<[u8]>> = bytes.chunks_exact(PAGE).map(Arc::from).collect();
    let (before, after) = pages.split_at(pages.len().min(usize::from(u16::from_be_bytes([*a, *b]))));
    let (before, after) = (Image(before.to_vec()), Image(after.to_vec()));
    let (Ok(old), Ok(new)) = (State::open(&before), State::open(&after)) else { return };
    let Ok(old_schema) = Schema::read(&old, None) else { return };
    let Ok(new_schema) = Schema::read(&new, Some(&old_schema)) else { return };
    let sides = Sides { old, old_schema: &old_schema, new, new_schema: &new_schema };
    let differs = |n: &u32| before.0.get(*n as usize - 1) != after.0.get(*n as usize - 1);
    let changed: Vec<u32> = (1..=after.page_count()).filter(differs).collect();
    if let Ok(diff) = diff(&sides, &changed, None) {
        let labels = Labels {
            database: String::new(),
            old: String::new(),
            new: String::new(),
            left_out: Vec::new(),
        };
        let _ = script(&diff, Direction::Undo, &labels);
    }
});
