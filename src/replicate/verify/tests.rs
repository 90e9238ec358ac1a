//! Verifications of a replica in memory, by a clock that the test moves.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::*;
use crate::base::checksum::page_hash;
use crate::base::{DatabaseChecksum, Level, LtxId, Pgno};
use crate::ltx::{Header, LtxReader, PageSource as _, encode_file};
use crate::replicate::history::HistoryOptions;
use crate::replicate::history::tests::memory::MemoryStore;
use crate::replicate::history::tests::world::{START, World};

const HOUR: Duration = Duration::from_secs(3600);

/// A clock that jumps to each moment that is waited for.
#[derive(Debug)]
struct Clock(AtomicI64);

impl Clock {
    fn pass(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_millis()).unwrap(), Relaxed);
    }
}

impl Timeline for Clock {
    fn now(&self) -> Millis {
        Millis(self.0.load(Relaxed))
    }

    fn until(&self, then: Millis) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.0.fetch_max(then.0, Relaxed);
        Box::pin(tokio::task::yield_now())
    }
}

/// A replica with some batches and levels, and the folder of its verifier's record.
struct Case {
    world: World,
    clock: Arc<Clock>,
    folder: tempfile::TempDir,
    meter: Meter,
}

impl Case {
    async fn new() -> Case {
        let mut world = World::new(HistoryOptions::default(), 40, 7).await;
        for _ in 0..12 {
            world.pass(Duration::from_secs(20)).await;
            world.write().await;
        }
        let clock = Arc::new(Clock(AtomicI64::new(START.0)));
        clock.pass(HOUR);
        Case { world, clock, folder: tempfile::tempdir().unwrap(), meter: Meter::default() }
    }

    fn store(&self) -> &MemoryStore {
        &self.world.store
    }

    /// A verifier as a new process would create it.
    fn verifier(&self) -> Verifier {
        let clock: Arc<dyn Timeline> = Arc::clone(&self.clock) as _;
        let options = Verification { interval: 24 * HOUR, bytes_per_second: 1 << 40, clock };
        let store: Arc<dyn Store> = Arc::new(self.store().clone());
        Verifier::new(store, options, "app.db".into(), self.folder.path().to_owned(), self.meter.clone())
    }

    async fn verified(&self, verifier: &mut Verifier) -> VerificationStatus {
        verifier.run(Txid(self.world.txid())).await;
        verifier.status()
    }

    fn image(&self) -> LtxId {
        LtxId::new(Level::SNAPSHOT, Txid(1), Txid(1)).unwrap()
    }

    /// Puts another file in the place of one.
    fn rewrite(&self, id: LtxId, change: impl FnOnce(&mut Header, &mut Vec<(Pgno, Vec<u8>)>)) {
        let bytes = self.store().file(id);
        let mut reader = LtxReader::new(&bytes[..]).unwrap();
        let (mut header, mut pages) = (*reader.header(), Vec::new());
        while let Some(pgno) = reader.advance().unwrap() {
            pages.push((pgno, reader.page().to_vec()));
        }
        change(&mut header, &mut pages);
        let file = encode_file(&header, pages.iter().map(|(n, p)| (*n, &p[..]))).unwrap();
        let modified = self.store().entries().iter().find(|e| e.id == id).unwrap().modified;
        self.store().replace(id, file.into(), modified);
    }

    fn changed(&self, id: LtxId) -> Bytes {
        let mut bytes = self.store().file(id).to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes.into()
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_sound_replica_is_read_whole_with_one_listing() {
    run(async {
        let case = Case::new().await;
        let mut verifier = case.verifier();
        let before = case.store().counts();
        let status = case.verified(&mut verifier).await;
        let now = Some(case.clock.now());
        assert_eq!((status.last, status.sound, status.fault, status.error), (now, now, None, None));
        // Each file once, and those of the state before the first batch once more.
        let entries = case.store().entries();
        let total: u64 = entries.iter().map(|e| e.size).sum();
        assert!((total..2 * total).contains(&case.meter.bytes()), "{total}: {}", case.meter.bytes());
        let after = case.store().counts();
        assert_eq!(after.lists - before.lists, 1);
        // Besides each file, the headers of a few in which two levels could disagree.
        let more = (after.gets - before.gets) as usize - entries.len();
        assert!(more <= 12, "{more} of {}", entries.len());
    });
}

#[test]
fn the_next_one_is_an_interval_after_the_last_whatever_is_started_anew() {
    run(async {
        let case = Case::new().await;
        let begun = case.clock.now();
        let first = case.verifier().due();
        let (least, most) = (later(begun, limits::VERIFY_FIRST / 4), later(begun, limits::VERIFY_FIRST));
        assert!((least..=most).contains(&first), "{first}");
        let mut verifier = case.verifier();
        case.verified(&mut verifier).await;
        assert_eq!(verifier.due(), later(begun, 24 * HOUR));
        // A new process knows the result of the previous one.
        case.clock.pass(23 * HOUR);
        let next = case.verifier();
        assert_eq!((next.due(), next.status().sound), (later(begun, 24 * HOUR), Some(begun)));
        // A verification that is overdue does not begin immediately.
        case.clock.pass(5 * HOUR);
        assert_eq!(case.verifier().due().0 - case.clock.now().0, first.0 - begun.0);
        // A clock that was set back does not delay it forever.
        case.clock.0.store(begun.0 - 1, Relaxed);
        assert!(case.verifier().due() <= most);
    });
}

#[test]
fn a_flipped_bit_is_a_fault_until_it_is_gone() {
    run(async {
        let case = Case::new().await;
        let id = case.store().entries().iter().map(|e| e.id).find(|id| id.level.get() == 1).unwrap();
        let (whole, changed) = (case.store().file(id), case.changed(id));
        let modified = case.store().entries().iter().find(|e| e.id == id).unwrap().modified;
        let mut verifier = case.verifier();
        let sound = case.verified(&mut verifier).await.sound;
        case.store().replace(id, changed, modified);
        case.clock.pass(24 * HOUR);
        let status = case.verified(&mut verifier).await;
        let fault = status.fault.clone().unwrap();
        assert!(fault.contains(&id.file_name()) && status.faults > 0, "{status:?}");
        assert_eq!((status.sound, status.last), (sound, Some(case.clock.now())));
        // The fault is logged, and the next process knows it, too.
        assert_eq!(verifier.said.as_ref(), Some(&fault));
        assert_eq!(
            case.verifier().status(),
            VerificationStatus { next: Some(case.verifier().due()), ..status }
        );
        case.store().replace(id, whole, modified);
        let status = case.verified(&mut verifier).await;
        assert_eq!((status.fault, status.faults, verifier.said), (None, 0, None));
        assert_eq!(status.sound, status.last);
    });
}

/// Each file is whole, and together they make another state than the one that was committed: only
/// the database can help.
#[test]
fn files_that_do_not_fit_together_cause_an_image() {
    run(async {
        let case = Case::new().await;
        let newest = LtxId::raw(Txid(case.world.txid()));
        case.rewrite(newest, |header, _| header.checksum = Some(DatabaseChecksum(7)));
        let told = Rc::new(RefCell::new(Vec::new()));
        let tell = Rc::clone(&told);
        let mut verifier = case.verifier();
        verifier =
            verifier.telling_damage(Box::new(move |files, image| tell.borrow_mut().push((files, image))));
        let status = case.verified(&mut verifier).await;
        let fault = status.fault.unwrap();
        assert!(fault.contains("is not the one that was committed"), "{fault}");
        assert_eq!(*told.borrow(), [(Vec::new(), true)]);
    });
}

/// A batch of a fork is whole, and has the checksum of a state of that fork. The batch after it
/// shows that it is of another history.
#[test]
fn a_batch_of_a_fork_is_a_fault() {
    run(async {
        let case = Case::new().await;
        // The world's files have no checksums.
        for id in case.store().entries().iter().map(|e| e.id) {
            if [Level::RAW, Level::SNAPSHOT].contains(&id.level) {
                let image = case.world.batches[&id.max.0].image.concat();
                case.rewrite(id, |h, _| h.checksum = Some(DatabaseChecksum::of(h.page_size, &image)));
            }
        }
        assert_eq!(case.verified(&mut case.verifier()).await.fault, None);
        let batch = |txid: u64| LtxId::raw(Txid(txid));
        let has = |txid: u64| case.store().entries().iter().any(|e| e.id == batch(txid));
        let pages = |txid: u64| {
            let mut pages = Vec::new();
            let bytes = case.store().file(batch(txid));
            let mut reader = LtxReader::new(&bytes[..]).unwrap();
            while let Some(pgno) = reader.advance().unwrap() {
                pages.push(pgno);
            }
            pages
        };
        // A page that the next batch neither has nor cuts off.
        let keeps = |n: u64, p: &Pgno| p.index() < case.world.batches[&(n + 1)].image.len();
        let odd = (2..case.world.txid() - 1).filter(|n| has(*n) && has(*n + 1)).find_map(|n| {
            pages(n).into_iter().find(|p| keeps(n, p) && !pages(n + 1).contains(p)).map(|p| (n, p))
        });
        let (txid, pgno) = odd.unwrap();
        case.rewrite(batch(txid), |header, pages| {
            let page = &mut pages.iter_mut().find(|p| p.0 == pgno).unwrap().1;
            let sum = header.checksum.as_mut().unwrap();
            sum.toggle(page_hash(pgno, page));
            page[100] ^= 1;
            sum.toggle(page_hash(pgno, page));
        });
        let mut verifier = case.verifier();
        let status = case.verified(&mut verifier).await;
        let fault = status.fault.clone().unwrap();
        assert!(fault.contains("another checksum") && fault.contains(&batch(txid).file_name()), "{fault}");
        assert_eq!((status.faults, verifier.said), (1, Some(fault)));
    });
}

#[test]
fn what_the_store_had_answered_for_must_be_there() {
    run(async {
        let case = Case::new().await;
        let mut verifier = case.verifier();
        let newest = Txid(case.world.txid());
        for id in case.store().entries().iter().map(|e| e.id).filter(|id| id.max == newest) {
            case.store().remove(id);
        }
        let fault = case.verified(&mut verifier).await.fault.unwrap();
        assert!(fault.starts_with("it ends at TXID") && fault.contains(&newest.to_string()), "{fault}");
        case.store().entries().iter().for_each(|e| case.store().remove(e.id));
        let fault = case.verified(&mut verifier).await.fault.unwrap();
        assert!(fault.starts_with("it is empty"), "{fault}");
    });
}

/// Retention deletes an image while the newest state is read from it; its successors are there.
#[test]
fn a_file_that_goes_meanwhile_is_no_fault() {
    run(async {
        let case = Case::new().await;
        let image = case.image();
        assert!(case.store().entries().iter().any(|e| e.id == image));
        let lists = case.store().counts().lists;
        case.store().after_gets(0, Box::new(move |store| store.remove(image)));
        let status = case.verified(&mut case.verifier()).await;
        assert_eq!((status.fault, status.error), (None, None));
        assert_eq!(case.store().counts().lists, lists + 2);
    });
}

#[test]
fn a_file_that_is_replaced_while_it_is_read_is_no_fault() {
    run(async {
        let case = Case::new().await;
        let image = case.image();
        let whole = case.store().file(image);
        case.store().replace(image, case.changed(image), START);
        // The image is read last of the plan, the others after it.
        let gets = u32::try_from(case.store().entries().len() - 1).unwrap();
        let replace = move |store: &MemoryStore| store.replace(image, whole, later(START, HOUR));
        case.store().after_gets(gets, Box::new(replace));
        let status = case.verified(&mut case.verifier()).await;
        assert_eq!((status.fault, status.error), (None, None));
    });
}

/// Old files are deleted one by one, and the listing fell between two of these deletions.
#[test]
fn a_hole_that_was_there_for_a_moment_is_no_fault() {
    run(async {
        let case = Case::new().await;
        case.store().remove(LtxId::raw(Txid(4)));
        // Files of higher levels that cover the hole would make it harmless.
        let over = |id: &LtxId| id.level != Level::RAW && id.min <= Txid(4) && id.max >= Txid(4);
        let covering: Vec<_> = case.store().entries().into_iter().map(|e| e.id).filter(over).collect();
        let covering: Vec<_> = covering.into_iter().map(|id| (id, case.store().file(id))).collect();
        covering.iter().for_each(|(id, _)| case.store().remove(*id));
        let status = case.verified(&mut case.verifier()).await;
        assert!(status.fault.is_some_and(|f| f.contains("level 0 lacks")), "one that stays is a fault");
        for (id, file) in covering {
            case.store().replace(id, file, START);
        }
        case.store()
            .after_gets(0, Box::new(move |store| (1..=3).for_each(|n| store.remove(LtxId::raw(Txid(n))))));
        let status = case.verified(&mut case.verifier()).await;
        assert_eq!((status.fault, status.error), (None, None));
    });
}

#[test]
fn a_store_that_is_away_is_no_fault_and_is_tried_again() {
    run(async {
        let case = Case::new().await;
        let mut verifier = case.verifier();
        case.store().die_at(0, false);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let status = case.verified(&mut verifier).await;
            assert!(status.error.is_some() && status.fault.is_none() && status.last.is_none(), "{status:?}");
            waits.push(verifier.due().0 - case.clock.now().0);
        }
        let (min, max) = (ms(limits::VERIFY_REST_MIN), ms(limits::VERIFY_REST_MAX));
        assert!((min..=min * 3 / 2).contains(&waits[0]) && waits[7] >= max, "{waits:?}");
        assert!(waits.iter().all(|w| *w <= max * 3 / 2), "{waits:?}");
        case.store().revive();
        let status = case.verified(&mut verifier).await;
        assert_eq!((status.error, status.sound), (None, Some(case.clock.now())));
        assert_eq!(verifier.due(), later(case.clock.now(), 24 * HOUR));
    });
}

fn ms(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap()
}

#[test]
fn one_waits_for_the_other_and_for_a_replica_that_is_ready() {
    run(async {
        let case = Case::new().await;
        let turns = Turns::default();
        let other = turns.0.acquire().await.unwrap();
        let told: Rc<RefCell<Vec<VerificationStatus>>> = Rc::default();
        let (noted, ready) = (Rc::clone(&told), Rc::new(RefCell::new(None)));
        let (stored, txid) = (Rc::clone(&ready), Txid(case.world.txid()));
        let tell = move |status| noted.borrow_mut().push(status);
        let gets = case.store().counts().gets;
        let task = keep(case.verifier(), turns.clone(), move || *stored.borrow(), tell);
        let task = tokio::task::spawn_local(task);
        let idle = || async {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        };
        idle().await;
        assert_eq!((case.store().counts().gets, told.borrow().len()), (gets, 1), "another one is read");
        drop(other);
        idle().await;
        assert_eq!(case.store().counts().gets, gets, "it is not known what is stored");
        // Waiting for a replica that is not ready does not keep others from being verified.
        assert!(turns.0.try_acquire().is_ok());
        *ready.borrow_mut() = Some(txid);
        while told.borrow().last().is_none_or(|s| s.sound.is_none()) {
            tokio::task::yield_now().await;
        }
        assert!(told.borrow().iter().any(|s| s.next.is_none()), "under way");
        task.abort();
    });
}

/// Each database had a line of its own about an outage of their store.
#[tokio::test]
async fn a_store_that_does_not_answer_has_a_line_only_if_it_lasts() {
    let case = Case::new().await;
    for kind in [ErrorKind::Transient, ErrorKind::Full, ErrorKind::Credentials] {
        let error = || RestoreError::Store(crate::store::StoreError::new(kind, "no answer"));
        let mut verifier = case.verifier();
        for _ in 1..FAILURES {
            verifier.failed(&error());
            assert!(verifier.said_error.is_none() && verifier.status().error.is_some());
        }
        verifier.failed(&error());
        assert!(verifier.said_error.is_some());
    }
}
