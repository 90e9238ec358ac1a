use super::*;

fn snapshot(generation: u64, index: u32, modified: i64) -> LegacyFile {
    let (generation, index) = (Generation(generation), WalIndex::new(index).unwrap());
    LegacyFile { name: LegacyName::Snapshot { generation, index }, size: 100, modified: Millis(modified) }
}

fn segment(generation: u64, index: u32, offset: u64, modified: i64) -> LegacyFile {
    let (generation, index) = (Generation(generation), WalIndex::new(index).unwrap());
    let name = LegacyName::Segment { generation, index, offset, digits: 8 };
    LegacyFile { name, size: 10, modified: Millis(modified) }
}

fn index(n: u32) -> Want {
    Want::Index(WalIndex::new(n).unwrap())
}

/// The index of the snapshot, and the segments of a plan as (index, offset).
fn names(plan: &LegacyPlan) -> (u32, Vec<(u32, u64)>) {
    let of = |f: &LegacyFile| match f.name {
        LegacyName::Segment { index, offset, .. } => (index.get(), offset),
        LegacyName::Snapshot { .. } => panic!("a snapshot among segments"),
    };
    (plan.snapshot.name.index().get(), plan.segments.iter().map(of).collect())
}

fn two_generations() -> Vec<LegacyFile> {
    vec![
        snapshot(7, 1, 10),
        segment(7, 1, 0, 11),
        segment(7, 1, 50, 20),
        segment(7, 2, 0, 30),
        snapshot(7, 2, 35),
        segment(7, 2, 70, 40),
        snapshot(3, 0, 60),
        segment(3, 0, 0, 61),
    ]
}

#[test]
fn newest_index_and_time() {
    let files = two_generations();
    let at = |generation: Option<u64>, want| plan(&files, generation.map(Generation), want);
    let newest = at(None, Want::Newest).unwrap();
    assert_eq!((newest.generation.0, names(&newest), newest.is_newest), (3, (0, vec![(0, 0)]), true));
    let older = at(Some(7), Want::Newest).unwrap();
    assert_eq!((names(&older), older.is_newest), ((2, vec![(2, 0), (2, 70)]), false));
    assert_eq!(names(&at(Some(7), index(1)).unwrap()), (1, vec![(1, 0), (1, 50)]));
    // The time is inclusive, and nothing counts after a segment that is too new.
    assert_eq!(names(&at(None, Want::At(Millis(20))).unwrap()), (1, vec![(1, 0), (1, 50)]));
    assert_eq!(names(&at(None, Want::At(Millis(34))).unwrap()), (1, vec![(1, 0), (1, 50), (2, 0)]));
    assert_eq!(names(&at(None, Want::At(Millis(39))).unwrap()), (2, vec![(2, 0)]));
    // Between the generations the older one counts, after all of them the newer one.
    assert_eq!(at(None, Want::At(Millis(59))).unwrap().generation.0, 7);
    assert!(at(None, Want::At(Millis(1000))).unwrap().is_newest);
    let e = at(None, Want::At(Millis(9))).unwrap_err();
    assert_eq!(e, LegacyError::TooEarly { wanted: Millis(9), earliest: Millis(10) });
}

#[test]
fn what_cannot_be_had() {
    let files = two_generations();
    let e = plan(&files, Some(Generation(8)), Want::Newest).unwrap_err().to_string();
    assert_eq!(e, "there is no generation 0000000000000008: there are 0000000000000003, 0000000000000007");
    for n in [0, 3] {
        let e = plan(&files, Some(Generation(7)), index(n)).unwrap_err();
        assert!(matches!(e, LegacyError::NoIndex { .. }), "{e}");
    }
    assert_eq!(plan(&[], None, Want::Newest), Err(LegacyError::Empty));
    assert_eq!(plan(&[], Some(Generation(1)), Want::Newest), Err(LegacyError::Empty));
    let e = plan(&[segment(5, 0, 0, 1)], None, Want::Newest);
    assert_eq!(e, Err(LegacyError::NoSnapshot(Generation(5))));
    assert_eq!(plan(&[segment(5, 0, 0, 1)], None, Want::At(Millis(2))), e);
}

#[test]
fn gaps_are_named() {
    let gap = |files: &[LegacyFile]| match plan(files, None, Want::Newest).unwrap_err() {
        LegacyError::Gap { generation, index, offset, .. } => (generation.0, index.get(), offset),
        e => panic!("{e}"),
    };
    let missing_log = [snapshot(7, 1, 1), segment(7, 1, 0, 2), segment(7, 3, 0, 3)];
    assert_eq!(gap(&missing_log), (7, 2, 0));
    assert_eq!(names(&plan(&missing_log, None, index(1)).unwrap()), (1, vec![(1, 0)]));
    assert_eq!(gap(&[snapshot(7, 1, 1), segment(7, 2, 0, 3)]), (7, 1, 0));
    assert_eq!(gap(&[snapshot(7, 1, 1), segment(7, 1, 20, 3)]), (7, 1, 0));
    assert_eq!(gap(&[snapshot(7, 1, 1), segment(7, 1, 0, 2), segment(7, 2, 20, 3)]), (7, 2, 0));
}

#[test]
fn states_are_what_can_be_had() {
    let files = two_generations();
    let found: Vec<_> = states(&files)
        .iter()
        .map(|s| (s.created.0, s.generation.0, s.index.get(), s.offset, s.files))
        .collect();
    assert_eq!(
        found,
        [
            (11, 7, 1, Some(0), 2),
            (20, 7, 1, Some(50), 3),
            (30, 7, 2, Some(0), 2),
            (40, 7, 2, Some(70), 3),
            (61, 3, 0, Some(0), 2)
        ]
    );
    assert_eq!(states(&[snapshot(1, 4, 9)]).len(), 1);
    let gap = [snapshot(7, 1, 1), segment(7, 1, 0, 2), segment(7, 3, 0, 3), segment(7, 3, 9, 3)];
    assert_eq!(states(&gap).len(), 1);
}

/// Regression: from a copy without times, a restore silently produced another state than the wanted
/// one.
#[test]
fn times_that_a_copy_has_lost_are_noticed() {
    let seconds = |n: i64| 1_795_295_650_000 + 1000 * n;
    let kept = |at: &dyn Fn(i64) -> i64| {
        vec![
            snapshot(7, 1, at(0)),
            segment(7, 1, 0, at(1)),
            segment(7, 1, 50, at(2)),
            segment(7, 2, 0, at(3)),
        ]
    };
    assert!(!times_are_lost(&kept(&seconds)));
    assert!(!times_are_lost(&kept(&seconds)[..1]));
    // All at the same time, as `cp` leaves them; and out of order, as if copied in the order of a
    // directory.
    assert!(times_are_lost(&kept(&|n| seconds(0) + n)));
    assert!(times_are_lost(&kept(&|n| seconds(-n))));
    // One generation is intact, the other has lost its times.
    let mut files = kept(&seconds);
    files.extend([snapshot(3, 0, seconds(9)), segment(3, 0, 0, seconds(9))]);
    assert!(times_are_lost(&files));
}
