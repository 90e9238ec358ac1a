//! Files of a replica that are damaged while its history is kept.

use std::time::Duration;

use super::world::World;
use crate::base::{Level, LtxId, Txid, limits};
use crate::replicate::Once;
use crate::replicate::history::cache::Cache;
use crate::replicate::history::plan::{Job, Next};
use crate::replicate::history::{HistoryOptions, mend, mendable};
use crate::restore::damage::Damaged;
use crate::store::Store as _;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test);
}

fn id(level: u32, min: u64, max: u64) -> LtxId {
    LtxId::new(Level::new(level).unwrap(), Txid(min), Txid(max)).unwrap()
}

/// A replica at TXID 21 that nothing but the store remembers.
async fn started(seed: u64) -> World {
    let mut world = World::new(HistoryOptions::default(), 30, seed).await;
    world.pass(MINUTE).await;
    for _ in 0..20 {
        world.write().await;
        world.pass(SECOND).await;
    }
    world
}

async fn forget(world: &mut World) {
    world.cache = Cache::default();
    world.restart().await;
}

/// A damaged file of a level stopped all compaction above it, and a restore failed, although the
/// batches in it were still there.
#[test]
fn a_compacted_file_is_made_again_of_its_batches() {
    run(async {
        let mut world = started(31).await;
        world.pass(2 * MINUTE).await;
        let (min, max) = world.store.level(1)[0];
        let compacted = id(1, min, max);
        let good = world.store.file(compacted);
        world.store.spoil(compacted);
        forget(&mut world).await;
        world.write().await;
        world.pass(10 * MINUTE).await;
        assert!(world.store.file(compacted) == good, "the same bytes as before");
        assert!(
            world.store.level(2).iter().any(|(from, to)| *from <= min && *to >= max),
            "{:?}",
            world.store.level(2)
        );
        world.verify();
    });
}

/// A damaged batch was retried forever, so that the levels stopped there.
#[test]
fn a_damaged_batch_does_not_stop_the_levels_and_its_loss_is_known() {
    run(async {
        let mut world = started(32).await;
        // Not compacted yet, and not in memory.
        for _ in 0..6 {
            world.write().await;
        }
        let lost = world.txid() - 3;
        world.store.spoil(id(0, lost, lost));
        forget(&mut world).await;
        assert!(!world.feed.is_broken(), "a listing does not show it");
        world.pass(2 * MINUTE).await;
        assert!(world.feed.is_broken());
        let compacted = world.store.level(1);
        assert!(compacted.iter().any(|(_, to)| *to == lost - 1), "{compacted:?}");
        assert!(compacted.iter().any(|(from, to)| *from == lost + 1 && *to == lost + 3), "{compacted:?}");
        assert!(world.executor.next_snapshot(world.now).is_some_and(|due| due <= world.now));
        // A batch with all pages is enough for an image, and the image for the newest state.
        world.write_all().await;
        // The attempts without it have failed: the next one may come only after the longest wait.
        world.pass(2 * limits::BACKOFF_MAX).await;
        assert!(!world.feed.is_broken());
        assert!(world.store.level(9).iter().any(|(_, to)| *to > lost), "{:?}", world.store.level(9));
    });
}

/// The newest batch was found to be damaged, and the newest image ended right before it. That image
/// was copied onto itself, again and again without a pause.
#[test]
fn the_image_before_a_damaged_batch_is_not_copied_onto_itself() {
    run(async {
        let mut world = started(35).await;
        let once = Once { snapshot: true, retention: false };
        world.executor.finish(once, world.now).await.unwrap();
        let before = world.txid();
        assert_eq!(world.store.level(9).last(), Some(&(1, before)));
        world.write().await;
        world.feed.damaged([(id(0, before + 1, before + 1), "a byte is wrong".to_owned())]);
        assert!(world.feed.is_broken());
        let next = world.executor.next(world.now);
        assert!(matches!(next, Next::Job(Job::Snapshot)), "{next:?}");
    });
}

#[test]
fn an_empty_file_is_known_by_the_listing() {
    run(async {
        let mut world = started(33).await;
        let entry = world.store.entries().into_iter().find(|e| e.id == id(0, 5, 5)).unwrap();
        let mut listing = world.store.list_all().await.unwrap();
        listing.files.iter_mut().filter(|e| e.id == entry.id).for_each(|e| e.size = 0);
        listing.files.retain(|e| e.id.level == Level::RAW || e.id.max < Txid(5));
        world.feed.listed(&listing, world.now);
        assert!(world.feed.is_broken());
        let damaged = Damaged::of_listing(&listing.files);
        assert!(damaged.has(entry.id) && mendable(&listing.files, &damaged).is_empty());
        world.restart().await;
        assert!(!world.feed.is_broken());
    });
}

/// Content that other files have is rewritten, an image too; what they do not have is left alone.
#[test]
fn mending_takes_what_there_is() {
    run(async {
        let mut world = started(34).await;
        world.pass(30 * MINUTE).await;
        let (level_1, level_2) = (world.store.level(1), world.store.level(2));
        let (l1, l2) = (id(1, level_1[0].0, level_1[0].1), id(2, level_2[0].0, level_2[0].1));
        let (image, batch) = (id(9, 1, 1), id(0, l1.min.0 + 1, l1.min.0 + 1));
        let good: Vec<_> = [l1, l2, image].iter().map(|id| world.store.file(*id)).collect();
        let mut damaged = Damaged::default();
        for id in [l1, l2, image, batch] {
            world.store.spoil(id);
            damaged.add(id, "spoiled".into());
        }
        let listing = world.store.list_all().await.unwrap();
        let store = std::sync::Arc::new(world.store.clone());
        // Level 1 had the batch, and only level 2 has the content of level 1.
        let mended = mend(store, &listing, damaged, world.now).await.unwrap();
        assert_eq!(mended, [image]);
        assert!(world.store.file(image) == good[2]);
    });
}
