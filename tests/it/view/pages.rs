//! A state read page by page is the state that a restore makes.

use std::sync::Arc;

use lsfast::base::Txid;
use lsfast::base::clock::Millis;
use lsfast::store::{FileStore, Store};
use lsfast::view::{self, At, History, Pages, Replica};

use crate::support::vectors::{list, manifest, number, path, sha256, text};

fn replica(dir: &str) -> Replica {
    let store: Arc<dyn Store> = Arc::new(FileStore::new(path(dir)));
    Replica::new(store).expect("threads")
}

/// All pages of a state, one after the other.
fn whole(pages: &mut impl Pages) -> Vec<u8> {
    (1..=pages.page_count()).flat_map(|n| pages.page(n).expect("a page").to_vec()).collect()
}

/// Each state that the real Litestream restored has the same bytes when it is read page by page.
#[test]
fn every_state_of_the_real_binary() {
    let mut checked = 0;
    for of in list(&manifest(), "v05") {
        let replica = replica(text(of, "dir"));
        for restore in list(of, "restores") {
            let at = match (restore["txid"].as_u64(), restore["before_ms"].as_i64()) {
                (Some(txid), _) => At::Txid(Txid(txid)),
                (_, Some(time)) => At::Time(Millis(time)),
                _ => At::Newest,
            };
            let mut snapshot = view::open(&replica, at).expect("a state");
            let image = whole(&mut snapshot);
            assert_eq!(image.len() as u64, number(restore, "size"), "{} {at:?}", text(of, "dir"));
            assert_eq!(sha256(&image), text(restore, "sha256"), "{} {at:?}", text(of, "dir"));
            assert!(snapshot.page(snapshot.page_count() + 1).is_err() && snapshot.page(0).is_err());
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}

/// The files between two states, applied to the first, make the second.
#[test]
fn changes_lead_from_one_state_to_the_next() {
    let replica = replica("v05/p4096");
    let newest = view::open(&replica, At::Newest).expect("a state").txid();
    let mut checked = 0;
    for from in 1..newest.0 {
        let Ok(mut before) = view::open(&replica, At::Txid(Txid(from))) else { continue };
        let Ok(history) = History::files(&replica, Txid(from), newest) else { continue };
        let mut image = whole(&mut before);
        for change in history.changes() {
            let size = change.page_size() as usize;
            image.resize(change.page_count() as usize * size, 0);
            for number in change.numbers() {
                let at = (number as usize - 1) * size;
                image[at..at + size].copy_from_slice(&change.page(number).expect("a page"));
            }
        }
        assert_eq!(image, whole(&mut view::open(&replica, At::Newest).expect("a state")), "from {from}");
        checked += 1;
    }
    assert!(checked > 5, "{checked}");
}
