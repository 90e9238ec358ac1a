//! Counts the requests that a history costs.

use std::time::Duration;

use super::memory::Counts;
use super::world::World;
use crate::base::clock::Millis;
use crate::base::{Level, LtxId, Txid, limits};
use crate::ltx::times;
use crate::replicate::history::HistoryOptions;
use crate::replicate::history::cache::Cache;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test);
}

fn since(before: Counts, after: Counts) -> Counts {
    Counts {
        lists: after.lists - before.lists,
        gets: after.gets - before.gets,
        puts: after.puts - before.puts,
        copies: after.copies - before.copies,
        deletes: after.deletes - before.deletes,
        put_bytes: after.put_bytes - before.put_bytes,
    }
}

#[test]
fn the_first_image_costs_its_bytes_once_and_one_copy() {
    run(async {
        let mut world = World::new(HistoryOptions::default(), 4_000, 1).await;
        let image = world.store.entries()[0].size;
        assert!(image > 2_000_000);
        world.pass(100 * HOUR).await;
        let expected = Counts { lists: 1, puts: 1, copies: 1, put_bytes: image, ..Counts::default() };
        assert_eq!(world.store.counts(), expected);
        assert_eq!((world.store.level(0), world.store.level(9)), (vec![(1, 1)], vec![(1, 1)]));
        // Later batches are compacted without it.
        let before = world.store.counts();
        for _ in 0..10 {
            world.write().await;
            world.pass(SECOND).await;
        }
        world.pass(4 * HOUR).await;
        let cost = since(before, world.store.counts());
        assert!(cost.put_bytes < 100_000, "{cost:?}");
        assert_eq!(world.store.level(0)[0], (2, 2));
        assert_eq!(world.store.level(3), [(2, 11)]);
    });
}

#[test]
fn an_hour_at_rest_makes_no_request() {
    run(async {
        let mut world = World::new(HistoryOptions::default(), 30, 2).await;
        for _ in 0..50 {
            world.write().await;
            world.pass(7 * SECOND).await;
        }
        // Until the last file has become too old.
        world.pass(60 * HOUR).await;
        let before = world.store.counts();
        world.pass(1000 * HOUR).await;
        assert_eq!(world.store.counts(), before);
        world.verify();
        let status = world.executor.status(world.now);
        assert_eq!((status.next_snapshot, &status.last_error), (None, &None));
    });
}

#[test]
fn a_busy_hour_lists_and_gets_nothing() {
    run(async {
        let options = HistoryOptions { l0_retention: Some(5 * MINUTE), ..HistoryOptions::default() };
        let mut world = World::new(options, 30, 3).await;
        world.pass(HOUR).await;
        let before = world.store.counts();
        for _ in 0..3600 {
            world.write().await;
            world.pass(SECOND).await;
        }
        let cost = since(before, world.store.counts());
        assert_eq!((cost.lists, cost.gets, cost.copies), (0, 0, 0));
        // 3600 batches, 120 files of level 1, 12 of level 2, one of level 3, one list of times.
        let compacted = cost.puts - 3600;
        assert!((120 + 12 + 1..=120 + 12 + 3).contains(&compacted), "{cost:?}");
        assert!(cost.deletes <= 240, "{cost:?}: what is deleted goes together");
        assert!(world.store.level(0).len() < 400);
        // The list has the times of the batches at the ends of files.
        world.pass(2 * HOUR).await;
        let lists = world.store.times();
        assert!(!lists.is_empty());
        let (id, bytes) = &lists[0];
        let entries = times::decode(*id, bytes).unwrap();
        assert!(entries.len() >= 100, "{} in {lists:?}", entries.len());
        for (txid, created) in entries {
            assert_eq!(world.batches[&txid.0].created, created);
        }
    });
}

#[test]
fn what_another_process_wrote_is_fetched_once() {
    run(async {
        let mut world = World::new(HistoryOptions::default(), 30, 4).await;
        world.pass(MINUTE).await;
        for _ in 0..20 {
            world.write().await;
        }
        world.restart().await;
        let before = world.store.counts();
        world.pass(6 * MINUTE).await;
        let cost = since(before, world.store.counts());
        // Level 1 needs the 20 files; level 2 finds level 1 in memory.
        assert_eq!((cost.lists, cost.gets, cost.puts), (0, 20, 2), "{cost:?}");
        assert_eq!((world.store.level(1), world.store.level(2)), (vec![(2, 21)], vec![(2, 21)]));
    });
}

#[test]
fn an_image_among_batches_is_copied_from_level_to_level() {
    run(async {
        let mut world = World::new(HistoryOptions::default(), 2_000, 5).await;
        world.pass(HOUR).await;
        for _ in 0..3 {
            world.write().await;
        }
        let before = world.store.counts();
        world.write_all().await;
        let image = since(before, world.store.counts()).put_bytes;
        for _ in 0..3 {
            world.write().await;
        }
        world.pass(2 * HOUR).await;
        let cost = since(before, world.store.counts());
        assert!(image > 300_000 && cost.put_bytes < image + 100_000, "{cost:?} for an image of {image}");
        assert_eq!(cost.copies, 3);
        assert_eq!(world.store.level(3), [(2, 4), (5, 5), (6, 8)]);
        world.verify();
    });
}

#[test]
fn without_retention_nothing_is_ever_deleted() {
    run(async {
        let options = HistoryOptions {
            retention_enabled: false,
            snapshot_interval: Some(HOUR),
            snapshot_retention: HOUR,
            ..HistoryOptions::default()
        };
        let mut world = World::new(options, 30, 6).await;
        for _ in 0..30 {
            world.write().await;
            world.pass(10 * MINUTE).await;
        }
        assert_eq!(world.store.counts().deletes, 0);
        assert_eq!(world.store.level(0).len(), 31);
        assert!(world.store.level(9).len() >= 4);
        world.verify();
    });
}

#[test]
fn a_store_that_refuses_deletions_is_asked_once_a_day_and_all_else_goes_on() {
    run(async {
        let options = HistoryOptions { l0_retention: Some(5 * MINUTE), ..HistoryOptions::default() };
        let mut world = World::new(options, 30, 7).await;
        world.store.refuse_deletes();
        for _ in 0..30 {
            world.write().await;
            world.pass(20 * MINUTE).await;
        }
        assert_eq!(world.store.counts().deletes, 1);
        let status = world.executor.status(world.now).clone();
        assert!(status.deletions_refused && status.last_error.is_none(), "{status:?}");
        assert_eq!(world.store.level(1).last().unwrap().1, 31, "compaction goes on");
        world.pass(25 * HOUR).await;
        assert!((2..=4).contains(&world.store.counts().deletes));
    });
}

#[test]
fn a_file_that_is_gone_costs_one_listing_and_is_said() {
    run(async {
        let mut world = World::new(HistoryOptions::default(), 30, 8).await;
        world.pass(MINUTE).await;
        for _ in 0..4 {
            world.write().await;
        }
        world.restart().await;
        world.store.remove(LtxId::raw(Txid(3)));
        let before = world.store.counts();
        world.pass(5 * MINUTE).await;
        assert_eq!(since(before, world.store.counts()).lists, 1);
        // Without a live database nothing fills the hole. The rest is compacted around it, and the
        // status shows it.
        let status = world.executor.status(world.now);
        assert!(status.last_error.as_ref().is_some_and(|e| e.contains("cannot write level 9")), "{status:?}");
        assert_eq!(world.store.level(1), [(2, 2), (4, 5)]);
    });
}

#[test]
fn images_of_a_small_database_are_made_in_memory_and_old_ones_go() {
    run(async {
        let options = HistoryOptions {
            snapshot_interval: Some(HOUR),
            snapshot_retention: 3 * HOUR,
            ..HistoryOptions::default()
        };
        let mut world = World::new(options, 20, 9).await;
        for _ in 0..100 {
            world.write().await;
            world.pass(10 * MINUTE).await;
        }
        let counts = world.store.counts();
        assert_eq!((counts.lists, counts.gets), (1, 0));
        // The images of the last three hours, and the one before, with which they begin.
        let images = world.store.level(9);
        assert!((4..=5).contains(&images.len()), "{images:?}");
        let oldest = images[0].1;
        let end = world.batches[&oldest].created;
        assert!(world.now.0 - end.0 >= 3 * 3_600_000 && end > Millis(0));
        world.verify();
        world.verify_promise();
    });
}

/// A merge holds one piece of each input; all pieces together have at most [`limits::MERGE_BYTES`].
#[test]
fn inputs_of_a_merge_are_read_in_pieces_that_fit_into_memory_together() {
    run(async {
        let mut world = World::new(HistoryOptions::default(), 4_000, 10).await;
        world.pass(MINUTE).await;
        for _ in 0..30 {
            world.write_all().await;
        }
        // Nothing is in memory, and no file makes up nearly all of the merge.
        world.restart().await;
        let total: u64 = world.store.entries().iter().map(|e| e.size).sum();
        assert!(total > 3 * limits::MERGE_BYTES as u64, "{total}");
        world.pass(MINUTE).await;
        assert_eq!(world.store.level(1), [(2, 31)]);
        assert!(
            world.store.largest_get() <= (limits::MERGE_BYTES / 30) as u64,
            "{}",
            world.store.largest_get()
        );
        assert!(world.store.counts().gets > 100);
        world.verify();
    });
}

#[test]
fn a_backlog_is_merged_in_runs_of_bounded_length() {
    run(async {
        let mut world = World::new(HistoryOptions::default(), 10, 11).await;
        world.pass(MINUTE).await;
        for _ in 0..600 {
            world.write().await;
        }
        world.restart().await;
        world.pass(MINUTE).await;
        let runs: Vec<u64> = world.store.level(1).iter().map(|(min, max)| max - min + 1).collect();
        assert_eq!(runs, [256, 256, 88]);
        world.verify();
    });
}

/// The first image was stored twice for a day: as a batch, and on level 9.
#[test]
fn an_image_is_stored_once_as_soon_as_a_batch_follows() {
    run(async {
        let mut world = World::new(HistoryOptions::default(), 4_000, 6).await;
        let image = world.store.entries()[0].size;
        let stored = |world: &World| world.store.entries().iter().map(|e| e.size).sum::<u64>();
        // I4: the newest batch is the position.
        world.pass(HOUR).await;
        assert_eq!(stored(&world), 2 * image);
        world.write().await;
        world.pass(30 * SECOND).await;
        assert_eq!(world.store.level(0), [(1, 1), (2, 2)], "the position on the host is not flushed yet");
        world.pass(30 * SECOND).await;
        assert_eq!((world.store.level(0), world.store.level(9)), (vec![(2, 2)], vec![(1, 1)]));
        assert!(stored(&world) < image + 100_000);
        world.verify();
        world.verify_promise();

        // So is a later one, of which the levels have a copy.
        world.write_all().await;
        let all = world.txid();
        world.pass(MINUTE).await;
        assert_eq!(world.store.level(0).last(), Some(&(all, all)));
        world.write().await;
        world.pass(6 * MINUTE).await;
        assert!(world.store.level(1).contains(&(all, all)), "{:?}", world.store.level(1));
        assert!(!world.store.level(0).contains(&(all, all)), "{:?}", world.store.level(0));
        world.verify();
        world.verify_promise();

        // Whoever asks for batches to be kept keeps this one, too.
        let options = HistoryOptions { l0_retention: Some(HOUR), ..HistoryOptions::default() };
        let mut world = World::new(options, 4_000, 7).await;
        world.write().await;
        world.pass(30 * MINUTE).await;
        assert_eq!(world.store.level(0), [(1, 1), (2, 2)]);
    });
}

/// A restart listed all batches of a day.
#[test]
fn older_batches_are_listed_in_pieces_when_they_are_due() {
    run(async {
        let mut world = World::new(HistoryOptions::default(), 30, 8).await;
        for _ in 0..1_500 {
            world.write().await;
            world.pass(10 * SECOND).await;
        }
        let batches = world.store.level(0).len() as u64;
        assert_eq!(batches, 1_501);
        world.store.paged(100);
        world.cache = Cache::default();
        world.restart().await;
        let held = || world.feed.inventory(|s| s.level(Level::RAW).len());
        assert!(held() < 250, "{} batches are held", held());
        assert_eq!(world.executor.status(world.now).levels[0].objects, batches);
        let before = world.store.counts();
        world.pass(15 * HOUR).await;
        assert_eq!(since(before, world.store.counts()).lists, 0, "nothing is due");
        world.pass(15 * HOUR).await;
        let cost = since(before, world.store.counts());
        assert!((10..=20).contains(&cost.lists), "{cost:?}");
        assert_eq!(world.store.level(0), [(1_501, 1_501)]);
        world.verify();
        world.verify_promise();
    });
}

/// A batch that is not listed replaces a damaged file of a level.
#[test]
fn damage_lists_what_may_replace_the_file() {
    run(async {
        let mut world = World::new(HistoryOptions::default(), 30, 9).await;
        for _ in 0..300 {
            world.write().await;
            world.pass(10 * SECOND).await;
        }
        let (min, max) = world.store.level(1)[50];
        let file = LtxId::new(Level::new(1).unwrap(), Txid(min), Txid(max)).unwrap();
        let good = world.store.file(file);
        world.store.paged(20);
        world.cache = Cache::default();
        world.restart().await;
        assert!(world.feed.inventory(|s| s.gap().is_some_and(|(a, b)| a.0 < min && max < b.0)));
        world.store.spoil(file);
        world.feed.damaged([(file, "it is spoiled".to_owned())]);
        assert!(!world.feed.is_broken());
        world.pass(MINUTE).await;
        assert!(world.store.file(file) == good);
        assert!(world.feed.inventory(|s| s.gap().is_none()));
        world.verify();
    });
}
