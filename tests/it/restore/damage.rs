//! Restores around files that are damaged, empty, cut or gone, on whatever level.

use bytes::Bytes;
use lsfast::base::{Level, LtxId, PageSize};
use lsfast::restore::{VerifyOptions, points, verify_replica};
use lsfast::store::PutOptions;

use super::made::{Step, file_of, image, put};
use super::*;
use crate::support::lsfast as program;

const SIZE: u32 = 512;

/// What befalls a file.
const HARMS: [&str; 5] = ["empty", "cut", "changed", "garbage", "gone"];

fn harm(dir: &Path, id: LtxId, how: &str) {
    let path = dir.join(format!("ltx/{}/{}", id.level, id.file_name()));
    let mut bytes = fs::read(&path).expect("a file");
    match how {
        "empty" => bytes.clear(),
        "cut" => bytes.truncate(bytes.len() - 20),
        "changed" => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
        }
        "garbage" => bytes.fill(b'x'),
        _ => return fs::remove_file(&path).expect("removed"),
    }
    fs::write(&path, bytes).expect("written");
}

fn id(level: u32, min: u64, max: u64) -> LtxId {
    LtxId::new(Level::new(level).expect("a level"), Txid(min), Txid(max)).expect("a name")
}

fn steps() -> Vec<Step> {
    let first = Step { commit: 9, pages: (1..=9).map(|n| (n, 10)).collect() };
    let change = |n: u32| Step { commit: 9 + n, pages: [(n, 20 + n as u8), (9 + n, 30)].into() };
    std::iter::once(first).chain((1..=5).map(change)).collect()
}

/// Six batches, a file of level 1 with the second to the fourth, and images of the first and the
/// fifth state.
fn replica() -> (tempfile::TempDir, FileStore, Vec<Step>) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = FileStore::new(dir.path());
    let (size, steps) = (PageSize::new(SIZE).expect("a size"), steps());
    put(&store, size, &steps);
    let merged = |range: std::ops::Range<usize>| {
        let mut all = Step { commit: steps[range.end - 1].commit, pages: Default::default() };
        steps[range].iter().for_each(|s| all.pages.extend(&s.pages));
        all
    };
    runtime().block_on(async {
        for (id, step) in
            [(id(1, 2, 4), merged(1..4)), (id(9, 1, 1), merged(0..1)), (id(9, 1, 5), merged(0..5))]
        {
            let options = PutOptions { created: Millis(1_000 * id.max.0 as i64), create_only: true };
            store.put(id, vec![Bytes::from(file_of(size, id, &step))], options).await.expect("put");
        }
    });
    (dir, store, steps)
}

fn take(store: &FileStore, until: Until) -> Result<(Report, Vec<u8>), RestoreError> {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out.db");
    let mut options = RestoreOptions::new(&out);
    (options.integrity, options.state) = (Integrity::None, until.into());
    let report = restore(store.clone(), &Engine::new(IoChoice::Plain).expect("an engine"), options)?;
    Ok((report, fs::read(&out).expect("a database")))
}

/// One damaged file made a restore fail, though others had the same.
#[test]
fn other_files_are_used_whatever_is_damaged() {
    for how in HARMS {
        for harmed in [
            vec![id(9, 1, 5)],
            vec![id(9, 1, 1), id(9, 1, 5)],
            vec![id(9, 1, 5), id(1, 2, 4)],
            vec![id(9, 1, 5), id(0, 2, 2), id(0, 3, 3), id(0, 4, 4)],
            vec![id(1, 2, 4), id(0, 1, 1), id(0, 3, 3), id(0, 5, 5)],
        ] {
            let (dir, store, steps) = replica();
            harmed.iter().for_each(|id| harm(dir.path(), *id, how));
            let wanted = image(PageSize::new(SIZE).expect("a size"), &steps);
            for until in [Until::Newest, Until::Txid(Txid(6)), Until::Before(Millis(9_999))] {
                let (report, found) =
                    take(&store, until).unwrap_or_else(|e| panic!("{how} {harmed:?} {until:?}: {e}"));
                assert!(found == wanted, "{how} {harmed:?} {until:?}");
                assert_eq!((report.txid, report.created), (Txid(6), Millis(6_000)), "{how} {harmed:?}");
            }
        }
    }
}

/// The newest state cannot be had: never an older one in its place, unless that is asked for.
#[test]
fn an_older_state_is_not_restored_in_silence() {
    for how in HARMS.iter().filter(|how| **how != "gone") {
        let (dir, store, steps) = replica();
        harm(dir.path(), id(0, 6, 6), how);
        let later = Until::Before(Millis(Millis::now().0 + 60_000));
        for until in [Until::Newest, Until::Txid(Txid(6)), later] {
            let e = take(&store, until).map(|(r, _)| r).expect_err("lost");
            assert!(e.is_loss() && e.to_string().contains("--txid 0000000000000005"), "{how} {until:?}: {e}");
        }
        let (report, found) = take(&store, Until::Txid(Txid(5))).expect("the state before");
        assert_eq!((report.txid, report.is_newest), (Txid(5), false));
        assert!(found == image(PageSize::new(SIZE).expect("a size"), &steps[..5]));

        let (url, out) = (format!("file://{}", dir.path().display()), dir.path().join("out.db"));
        let command = |more: &[&str]| {
            let mut command = program::command(["restore", "--integrity-check", "none", "--json", "-o"]);
            command.arg(&out).args(more).arg(&url);
            let output = program::run(command);
            (
                output.status.code(),
                String::from_utf8_lossy(&output.stdout).into_owned() + &program::stderr(&output),
            )
        };
        let (code, said) = command(&[]);
        assert!(code == Some(4) && said.contains("--salvage") && !out.exists(), "{how}: {code:?} {said}");
        let (code, said) = command(&["--salvage"]);
        assert!(
            code == Some(0) && said.contains("0000000000000005") && out.exists(),
            "{how}: {code:?} {said}"
        );
        assert!(said.contains("cannot be restored"), "{said}");
    }
}

/// A list of what can be restored ended with the first header that could not be read.
#[test]
fn points_leave_out_what_is_lost() {
    let (dir, store, _) = replica();
    harm(dir.path(), id(0, 6, 6), "garbage");
    harm(dir.path(), id(0, 4, 4), "empty");
    let store: Arc<dyn Store> = Arc::new(store);
    let (found, _) = runtime().block_on(points(&store, 50)).expect("points");
    let times: Vec<i64> = found.iter().map(|p| p.created.0).collect();
    assert_eq!(
        times,
        [1_000, 2_000, 3_000, 4_000, 5_000],
        "level 1 and the images have the fourth and the fifth"
    );
}

/// `verify` called a replica lost because of one file that others replace.
#[test]
fn verify_judges_what_a_restore_would_do() {
    use lsfast::restore::{Health, VerifyOptions, verify_replica};
    for how in HARMS.iter().filter(|how| **how != "gone") {
        for (harmed, health) in [
            (id(9, 1, 5), Health::Damaged),
            (id(1, 2, 4), Health::Damaged),
            (id(0, 6, 6), Health::NewestLost),
        ] {
            let (dir, store, _) = replica();
            harm(dir.path(), harmed, how);
            let store: Arc<dyn Store> = Arc::new(store);
            let found =
                runtime().block_on(verify_replica(&store, VerifyOptions::default())).expect("a report");
            assert_eq!((found.health(), found.damaged_count), (health, 1), "{how} {harmed:?}: {found:?}");
            assert_eq!(found.newest.map(|n| n.txid), (health == Health::Damaged).then_some(Txid(6)));
        }
    }
}

/// One header from the future gave its time to each later state, or moved what a time means.
#[test]
fn a_time_from_the_future_is_corrected_by_the_order() {
    let (dir, store, mut steps) = replica();
    let size = PageSize::new(SIZE).expect("a size");
    // The present: states a minute apart, the newest a minute ago; the third claims to be of 2100.
    let now = Millis::now().0;
    let real = |txid: u64| Millis(now - 60_000 * (7 - txid as i64));
    for name in ["1/0000000000000002-0000000000000004.ltx", "9/0000000000000001-0000000000000005.ltx"] {
        fs::remove_file(dir.path().join("ltx").join(name)).expect("removed");
    }
    for (n, step) in steps.drain(..).enumerate() {
        let id = LtxId::raw(Txid(n as u64 + 1));
        let created = if id.max.0 == 3 { Millis(4_102_444_800_000) } else { real(id.max.0) };
        let mut bytes = file_of(size, id, &step);
        bytes[32..40].copy_from_slice(&created.0.to_be_bytes());
        let end = bytes.len() - 8;
        let checksum = made::checksum_of(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_be_bytes());
        let options = PutOptions { created, create_only: false };
        runtime().block_on(store.put(id, vec![Bytes::from(bytes)], options)).expect("put");
    }
    for (time, txid) in [(2, 1), (3, 2), (4, 2), (5, 4), (6, 5)] {
        let (report, _) = take(&store, Until::Before(real(time))).expect("a state");
        assert_eq!(report.txid, Txid(txid), "before that of {time}");
    }
    let store: Arc<dyn Store> = Arc::new(store);
    let (found, _) = runtime().block_on(points(&store, 50)).expect("points");
    let times: Vec<Millis> = found.iter().map(|p| p.created).collect();
    assert_eq!(
        times[1..],
        [real(2), real(4), real(4), real(5), real(6)],
        "not later than the state after it"
    );
    // The third is now the newest: what verifies it prints the same time.
    let future = LtxId::raw(Txid(3));
    let removed: Vec<LtxId> = (4..=6).map(|n| LtxId::raw(Txid(n))).collect();
    runtime().block_on(store.delete(&removed)).expect("deleted");
    // Next to a directory that was copied, a time of the upload is known.
    let path = dir.path().join("ltx/0").join(future.file_name());
    let file = fs::File::options().write(true).open(path).expect("the file");
    file.set_modified(real(3).to_system()).expect("a time");
    let (found, _) = runtime().block_on(points(&store, 50)).expect("points");
    let verified = runtime().block_on(verify_replica(&store, VerifyOptions::default())).expect("a report");
    assert_eq!(found.last().map(|p| p.created), Some(real(3)));
    assert_eq!(verified.newest.map(|n| n.created), Some(real(3)));
}

/// `lsfast` with these arguments after the replica's URL: its exit code and all that it prints.
fn command(args: &[&str], dir: &Path) -> (Option<i32>, String) {
    let mut command = program::command(args);
    command.arg(format!("file://{}", dir.display()));
    let output = program::run(command);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &program::stderr(&output))
}

/// With --txid or a time a hole was another kind of error than without, or an older state was
/// restored.
#[test]
fn a_hole_is_a_loss_however_the_state_is_asked_for() {
    let (dir, store, _) = replica();
    for id in [id(1, 2, 4), id(9, 1, 5), id(0, 3, 3)] {
        fs::remove_file(dir.path().join(format!("ltx/{}/{}", id.level, id.file_name()))).expect("removed");
    }
    let txid = |n| Until::Txid(Txid(n));
    for until in [Until::Newest, txid(6), txid(4), txid(3), Until::Before(Millis(5_500))] {
        let e = take(&store, until).map(|(r, _)| r).expect_err("a hole");
        let words = "reach TXID 0000000000000002";
        assert!(e.is_loss() && e.to_string().contains(words), "{until:?}: {e}");
    }
    let out = dir.path().join("out.db");
    let out = out.to_str().expect("a path");
    assert_eq!(command(&["restore", "-o", out, "--txid", "6"], dir.path()).0, Some(4));
    // A state that never was is not lost, and what is before the hole can be had.
    let e = take(&store, txid(7)).map(|(r, _)| r).expect_err("never there");
    assert!(!e.is_loss(), "{e}");
    assert_eq!(take(&store, txid(2)).expect("a state").0.txid, Txid(2));
    assert_eq!(take(&store, Until::Before(Millis(2_500))).expect("a state").0.txid, Txid(2));
    let (code, said) =
        command(&["restore", "-o", out, "--txid", "6", "--salvage", "--integrity-check", "none"], dir.path());
    assert!(code == Some(0) && said.contains("TXID 0000000000000002"), "{said}");
}

/// A directory with the name of the newest file was left out in silence, and an older state
/// restored.
#[test]
fn what_is_not_a_file_is_named() {
    let newest = id(0, 6, 6);
    for kind in ["directory", "link to nothing", "pipe"] {
        let (dir, store, _) = replica();
        let path = dir.path().join(format!("ltx/0/{}", newest.file_name()));
        fs::remove_file(&path).expect("removed");
        match kind {
            "directory" => fs::create_dir(&path).expect("a directory"),
            "pipe" => {
                let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
                assert!(made.success());
            }
            _ => std::os::unix::fs::symlink("/nowhere/at/all", &path).expect("a link"),
        }
        let e = take(&store, Until::Newest).map(|(r, _)| r).expect_err("lost");
        let named = e.to_string();
        assert!(
            e.is_loss() && named.contains("0000000000000006 is damaged") && named.contains("not a file"),
            "{kind}: {e}"
        );
        let (code, said) = command(&["verify"], dir.path());
        assert!(code == Some(4) && said.contains(&newest.file_name()), "{kind}: {said}");
        let (report, _) = take(&store, Until::Txid(Txid(5))).expect("the state before");
        assert!(!report.is_newest, "{kind}");
    }
}

/// Exit code 1, and advice that does not fit, where an older file is of another database.
#[test]
fn a_file_of_another_page_size_is_a_loss() {
    let (dir, store, _) = replica();
    let other = PageSize::new(1024).expect("a size");
    for name in [id(0, 1, 1), id(9, 1, 1), id(9, 1, 5)] {
        let content = Step { commit: 3, pages: (1..=3).map(|n| (n, 5)).collect() };
        let path = dir.path().join(format!("ltx/{}/{}", name.level, name.file_name()));
        fs::write(path, file_of(other, name, &content)).expect("written");
    }
    let e = take(&store, Until::Newest).map(|(r, _)| r).expect_err("lost");
    assert!(e.is_loss() && e.to_string().contains("it is of another database"), "{e}");
    let out = dir.path().join("out.db");
    let (code, said) = command(&["restore", "-o", out.to_str().expect("a path")], dir.path());
    assert!(code == Some(4) && !out.exists(), "{said}");
    // A standby that has no database yet ends in the same way.
    let (code, said) = command(&["restore", "-f", "-o", out.to_str().expect("a path")], dir.path());
    assert!(code == Some(4) && said.contains("another database"), "{said}");
}
