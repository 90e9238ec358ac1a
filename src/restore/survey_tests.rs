use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::base::clock::Millis;
use crate::base::{LtxId, PageSize, Pgno};
use crate::ltx::{Header, WalRange, encode_file};
use crate::restore::{RestoreError, Selection, Until, choose, points};
use crate::store::{BoxFuture, ErrorKind, PutOptions, Scope, Upload};

/// Files on one page of a listing.
const PAGE: usize = 5;

/// A replica in memory. The state at a TXID was stored at that many seconds.
#[derive(Debug, Default)]
struct Shelf {
    files: Vec<LtxId>,
    damaged: Vec<LtxId>,
    /// It lists nothing but everything.
    whole: bool,
    /// A stretch of level 0 has nothing.
    forgets: bool,
    /// Listed, but not there.
    gone: Mutex<Vec<LtxId>>,
    /// Listed until it is asked for.
    merged: Option<LtxId>,
    lists: Mutex<usize>,
}

impl Shelf {
    fn entries(&self) -> Vec<Entry> {
        let entry =
            |id: &LtxId| Entry { id: *id, size: 700, modified: Millis(1_000 * id.max.0 as i64 + 300) };
        let gone = self.gone.lock().unwrap();
        let is_listed = |id: &&LtxId| !(gone.contains(id) && self.merged == Some(**id));
        self.files.iter().filter(is_listed).map(entry).collect()
    }

    fn lists(&self) -> usize {
        std::mem::take(&mut *self.lists.lock().unwrap())
    }
}

fn now<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, std::result::Result<T, StoreError>> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Store for Shelf {
    fn url(&self) -> &str {
        "shelf:"
    }
    fn identity(&self) -> String {
        "shelf".to_owned()
    }
    fn list(&self, _: Scope) -> BoxFuture<'_, std::result::Result<Vec<Entry>, StoreError>> {
        *self.lists.lock().unwrap() += self.files.len() / PAGE + 1;
        now(self.entries())
    }
    fn list_part(&self, part: Part) -> BoxFuture<'_, std::result::Result<Option<Listed>, StoreError>> {
        if self.whole {
            return now(None);
        }
        let mut files = self.entries();
        let (once, keep): (bool, Box<dyn Fn(LtxId) -> bool>) = match part {
            Part::Start => (true, Box::new(|_| true)),
            Part::Above(level) => (false, Box::new(move |id| id.level > level)),
            Part::Stretch { level, from, to, once } => {
                (once, Box::new(move |id| id.level == level && from <= id.min && id.min <= to))
            }
        };
        files.retain(|e| keep(e.id));
        if self.forgets && matches!(part, Part::Stretch { level: Level::RAW, .. }) {
            files.clear();
        }
        *self.lists.lock().unwrap() += if once { 1 } else { files.len() / PAGE + 1 };
        let more = once && files.len() > PAGE;
        files.truncate(if once { PAGE } else { files.len() });
        now(Some(Listed { listing: Listing { files, sides: Vec::new() }, more }))
    }
    fn now(&self) -> Millis {
        Millis(1_000_000)
    }
    fn get<'a>(
        &'a self,
        id: LtxId,
        range: Range<u64>,
    ) -> BoxFuture<'a, std::result::Result<Bytes, StoreError>> {
        let mut gone = self.gone.lock().unwrap();
        if self.merged == Some(id) {
            gone.push(id);
        }
        if !self.files.contains(&id) || gone.contains(&id) {
            return Box::pin(std::future::ready(Err(StoreError::new(ErrorKind::NotFound, "gone"))));
        }
        if self.damaged.contains(&id) {
            return now(Bytes::from(vec![0; 100]));
        }
        let header = Header::new(
            PageSize::new(512).unwrap(),
            1,
            (id.min, id.max),
            Millis(1_000 * id.max.0 as i64),
            WalRange::default(),
        );
        let page = [7; 512];
        let bytes = Bytes::from(encode_file(&header, [(Pgno::new(1).unwrap(), &page[..])]).unwrap());
        now(bytes.slice(range.start as usize..(range.end as usize).min(bytes.len())))
    }
    fn put<'a>(
        &'a self,
        _: LtxId,
        _: Vec<Bytes>,
        _: PutOptions,
    ) -> BoxFuture<'a, std::result::Result<(), StoreError>> {
        unreachable!("nothing is written")
    }
    fn upload<'a>(
        &'a self,
        _: LtxId,
        _: u64,
        _: PutOptions,
    ) -> BoxFuture<'a, std::result::Result<Box<dyn Upload>, StoreError>> {
        unreachable!("nothing is written")
    }
    fn head<'a>(&'a self, _: LtxId) -> BoxFuture<'a, std::result::Result<Option<Entry>, StoreError>> {
        unreachable!("nothing is asked for")
    }
    fn delete<'a>(&'a self, _: &'a [LtxId]) -> BoxFuture<'a, std::result::Result<(), StoreError>> {
        unreachable!("nothing is written")
    }
    fn copy<'a>(
        &'a self,
        _: LtxId,
        _: LtxId,
        _: PutOptions,
    ) -> BoxFuture<'a, std::result::Result<(), StoreError>> {
        unreachable!("nothing is written")
    }
    fn prewarm(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn id(n: u32, min: u64, max: u64) -> LtxId {
    LtxId::new(level(n), Txid(min), Txid(max)).unwrap()
}

/// A replica as both programs leave it: raw files from `deleted` on, levels that are made of the
/// ones below, images at any TXID, and then anything at all.
fn replica() -> impl Strategy<Value = Shelf> {
    let odd = proptest::collection::vec((0u32..10, 1u64..70, 0u64..9, any::<bool>()), 0..4);
    let damage = proptest::collection::vec(any::<prop::sample::Index>(), 0..3);
    ((20u64..70, 0u64..60, 2u64..6, 2u64..5), proptest::collection::vec(1u64..70, 0..3), odd, damage)
        .prop_map(|((newest, deleted, first, second), images, odd, damage)| {
            let mut files = vec![id(9, 1, 1)];
            files.extend((1..=newest).filter(|n| *n > deleted || *n == newest).map(|n| id(0, n, n)));
            let merged = |n: u32, step: u64| {
                (0..)
                    .map(move |k| (2 + k * step, 1 + (k + 1) * step))
                    .take_while(move |(_, max)| *max <= newest)
                    .map(move |(min, max)| id(n, min, max))
            };
            files.extend(merged(1, first));
            files.extend(merged(2, first * second));
            files.extend(merged(3, first * second * second));
            files.extend(images.into_iter().filter(|n| *n <= newest).map(|n| id(9, 1, n)));
            for (n, min, more, remove) in odd {
                match remove {
                    true => files.retain(|f| f.level != level(n) || !(min..=min + more).contains(&f.min.0)),
                    false if n == 0 => files.push(id(0, min, min)),
                    false => files.push(id(n, if n == 9 { 1 } else { min }, min + more)),
                }
            }
            files.sort_unstable();
            files.dedup();
            let damaged = damage.iter().filter(|_| !files.is_empty()).map(|at| *at.get(&files)).collect();
            Shelf { files, damaged, ..Shelf::default() }
        })
}

fn block_on<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

/// What a choice is: its state and all else, or an error.
fn told(choice: std::result::Result<crate::restore::Choice, RestoreError>) -> (Option<Txid>, String) {
    match choice {
        Ok(c) => (c.txid(), format!("newest: {} created: {:?} {:?}", c.is_newest, c.created, c.instead_of)),
        Err(e) => (None, e.to_string()),
    }
}

/// Whether two choices are one. Which damage is known depends on the headers that were read.
fn are_one(part: &(Option<Txid>, String), whole: &(Option<Txid>, String), has_damage: bool) -> bool {
    let names_damage = |choice: &(Option<Txid>, String)| choice.0.is_none() && choice.1.contains("damaged");
    let same_state = part.0.is_some() && part.0 == whole.0;
    part == whole || has_damage && (same_state || names_damage(part) || names_damage(whole))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is stored, a survey leads to the state that a whole listing leads to.
    #[test]
    fn no_state_is_another_one_because_a_stretch_was_left_out(
        shelf in replica(),
        at in 1u64..75,
        salvage in any::<bool>(),
    ) {
        let whole = Shelf { files: shelf.files.clone(), damaged: shelf.damaged.clone(), whole: true, ..Shelf::default() };
        let all = [Until::Newest, Until::Txid(Txid(at)), Until::Before(Millis(1_000 * at as i64 + 1))];
        for until in all {
            let selection = Selection { salvage, ..Selection::from(until) };
            let part = told(block_on(choose(&shelf, selection)));
            let expected = told(block_on(choose(&whole, selection)));
            let has_damage = !shelf.damaged.is_empty();
            prop_assert!(
                are_one(&part, &expected, has_damage),
                "{:?}, not {:?}: {:?} of {:?}", part, expected, until, shelf
            );
        }
        let (shelf, whole) = (Arc::new(shelf), Arc::new(whole));
        for limit in [1, 7].into_iter().filter(|_| shelf.damaged.is_empty()) {
            let of = |shelf: &Arc<Shelf>| {
                let store: Arc<dyn Store> = shelf.clone();
                block_on(points(&store, limit)).map_err(|e| e.to_string()).map(|(points, more)| {
                    (points.iter().map(|p| (p.state, p.created)).collect::<Vec<_>>(), more)
                })
            };
            prop_assert_eq!(of(&shelf), of(&whole), "{} points of {:?}", limit, shelf.files);
        }
        let went = block_on(Survey::to_go_on(&*shelf)).unwrap();
        let gap = went.gap();
        let raw: Vec<LtxId> = went.listing().files.iter().map(|e| e.id).collect();
        let is_in_gap = |f: &LtxId| f.level == Level::RAW && gap.is_some_and(|(a, b)| a <= f.min && f.max <= b);
        // One gap may span two stretches, between which files were listed.
        let not_listed: Vec<&LtxId> = shelf.files.iter().filter(|f| !is_in_gap(f) && !raw.contains(f)).collect();
        prop_assert!(not_listed.is_empty(), "{not_listed:?} are outside the gap {gap:?}");
        prop_assert!(raw.iter().all(|f| shelf.files.contains(f)), "{raw:?}");
    }
}

/// The newest level-0 file is never deleted, so a stretch without it is not believed.
#[test]
fn a_stretch_without_the_newest_file_is_not_believed() {
    let raw = (10..=23).map(|n| id(0, n, n));
    let files = raw.chain([id(1, 2, 19), id(2, 2, 19), id(9, 1, 1)]).collect();
    let shelf = Shelf { files, forgets: true, ..Shelf::default() };
    for until in [Until::Newest, Until::Before(Millis(100_000))] {
        let choice = block_on(choose(&shelf, Selection::from(until))).unwrap();
        assert_eq!(choice.txid(), Some(Txid(23)), "{until:?}");
    }
    assert!(block_on(Survey::to_go_on(&shelf)).unwrap().is_whole());
}

/// The time of an upload that had to do for a damaged header counted although the batch itself
/// tells.
#[test]
fn a_damaged_header_does_not_make_a_state_older() {
    let raw = (10..=21).map(|n| id(0, n, n));
    let first = (1..=10).map(|k| id(1, 2 * k, 2 * k + 1));
    let second = [id(2, 2, 7), id(2, 8, 13), id(2, 14, 19), id(3, 2, 19), id(9, 1, 1)];
    let files = raw.chain(first).chain(second).collect();
    let shelf = Shelf { files, damaged: vec![id(1, 20, 21)], ..Shelf::default() };
    let until = Until::Before(Millis(21_001));
    let choice = block_on(choose(&shelf, Selection::from(until))).unwrap();
    assert_eq!(choice.txid(), Some(Txid(21)));
}

#[test]
fn a_small_replica_takes_one_request_and_a_border_is_no_end() {
    for newest in 1..=PAGE as u64 + 1 {
        let raw: Vec<LtxId> = (1..=newest).map(|n| id(0, n, n)).collect();
        // Without another level, and with a page that ends where level 0 does.
        for more in [vec![], vec![id(1, 2, newest + 3), id(9, 1, 1)]] {
            let files: Vec<LtxId> = raw.iter().copied().chain(more.clone()).collect();
            let is_small = files.len() <= PAGE;
            let shelf = Shelf { files, ..Shelf::default() };
            let choice = block_on(choose(&shelf, Selection::from(Until::Newest))).unwrap();
            let end = more.first().map_or(newest, |f| f.max.0);
            assert_eq!(choice.txid(), Some(Txid(end)));
            assert!(!is_small || shelf.lists() == 1, "{newest} files");
        }
    }
}

/// It was an error, "run it again".
#[test]
fn states_are_listed_again_when_a_file_is_merged_meanwhile() {
    let files = vec![id(9, 1, 1), id(0, 2, 2), id(0, 3, 3), id(1, 2, 3), id(0, 4, 4)];
    let txids = |shelf: Shelf| {
        let store: Arc<dyn Store> = Arc::new(shelf);
        let (points, _) = block_on(points(&store, 10)).unwrap();
        points.iter().map(|p| p.state).collect::<Vec<_>>()
    };
    let all = txids(Shelf { files: files.clone(), ..Shelf::default() });
    assert_eq!(all.len(), 4);
    let merged = txids(Shelf { files: files.clone(), merged: Some(id(0, 2, 2)), ..Shelf::default() });
    assert_eq!(merged, [&all[..1], &all[2..]].concat(), "the state in between is gone with its file");
    let unlisted = Shelf { files, gone: Mutex::new(vec![id(0, 4, 4)]), ..Shelf::default() };
    assert_eq!(txids(unlisted), all[..3], "a listing may be wrong");
}
