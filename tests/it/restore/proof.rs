//! Restores that prove themselves by the checksum of the database, which the files have.

use lsfast::base::{DatabaseChecksum, Level, LtxId, PageSize};
use lsfast::restore::{Health, Object, ProvenBy, VerifyOptions, VerifyReport, verify_replica};

use super::made::{Step, file_with, image};
use super::*;
use crate::support::lsfast as program;

/// The files of each replica here: their names are the same for every database.
pub const FILES: [(u32, u64, u64); 10] = [
    (0, 1, 1),
    (0, 2, 2),
    (0, 3, 3),
    (0, 4, 4),
    (0, 5, 5),
    (0, 6, 6),
    (1, 2, 4),
    (2, 2, 6),
    (9, 1, 1),
    (9, 1, 5),
];

/// A replica of one database, of which all files end with a checksum.
pub struct Sealed {
    pub dir: tempfile::TempDir,
    steps: Vec<Step>,
}

fn size() -> PageSize {
    PageSize::new(512).expect("a size")
}

pub fn id((level, min, max): (u32, u64, u64)) -> LtxId {
    LtxId::new(Level::new(level).expect("a level"), Txid(min), Txid(max)).expect("a name")
}

impl Sealed {
    /// Databases of different numbers have different pages; all have as many.
    pub fn new(number: u8) -> Sealed {
        Sealed::fork(number, number, 0)
    }

    /// The database `number` for its first batches, and then `other`.
    pub fn fork(number: u8, other: u8, first: usize) -> Sealed {
        let mut steps = Sealed::steps(number);
        steps.truncate(first);
        steps.extend(Sealed::steps(other).into_iter().skip(first));
        let sealed = Sealed { dir: tempfile::tempdir().expect("a directory"), steps };
        FILES.iter().for_each(|file| sealed.write(id(*file), &sealed.content(id(*file))));
        sealed
    }

    fn steps(number: u8) -> Vec<Step> {
        let fill = |n: u8| number.wrapping_mul(50).wrapping_add(n);
        let first = Step { commit: 9, pages: (1..=9).map(|n| (n, fill(10))).collect() };
        let change = |n: u32| Step {
            commit: 9 + n,
            pages: [(n, fill(20 + n as u8)), (n + 1, fill(30 + n as u8)), (9 + n, fill(40))].into(),
        };
        std::iter::once(first).chain((1..=5).map(change)).collect()
    }

    pub fn path(&self, id: LtxId) -> PathBuf {
        self.dir.path().join(format!("ltx/{}/{}", id.level, id.file_name()))
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.dir.path().display())
    }

    pub fn write(&self, id: LtxId, step: &Step) {
        let sum = DatabaseChecksum::of(size(), &image(size(), &self.steps[..id.max.0 as usize]));
        self.put(id, &file_with(size(), id, step, Some(sum)));
    }

    pub fn put(&self, id: LtxId, bytes: &[u8]) {
        let path = self.path(id);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, bytes).expect("written");
    }

    pub fn content(&self, id: LtxId) -> Step {
        let steps = &self.steps[id.min.0 as usize - 1..id.max.0 as usize];
        let mut all = Step { commit: steps[steps.len() - 1].commit, pages: Default::default() };
        steps.iter().for_each(|s| all.pages.extend(&s.pages));
        all
    }

    /// Puts the file of the same name of another replica in the place of one of this.
    pub fn exchange(&self, id: LtxId, other: &Sealed) {
        fs::copy(other.path(id), self.path(id)).expect("a copy");
    }

    fn newest(&self) -> Vec<u8> {
        self.state(self.steps.len())
    }

    pub fn state(&self, txid: usize) -> Vec<u8> {
        image(size(), &self.steps[..txid])
    }

    fn restore(&self) -> Result<(Report, Vec<u8>), RestoreError> {
        let dir = tempfile::tempdir().expect("a directory");
        let out = dir.path().join("out.db");
        let store = FileStore::new(self.dir.path());
        let report =
            restore(store, &Engine::new(IoChoice::Plain).expect("an engine"), RestoreOptions::new(&out))?;
        Ok((report, fs::read(&out).expect("a database")))
    }
}

/// What the command does: its exit code, and all that it prints.
pub fn command(args: &[&str]) -> (Option<i32>, String) {
    let output = program::run(program::command(args));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &program::stderr(&output);
    (output.status.code(), text)
}

/// SQLite would refuse these pages. It is not asked where the checksum says more.
#[test]
fn a_checksum_proves_a_restore() {
    let sealed = Sealed::new(1);
    let (report, found) = sealed.restore().expect("a restore");
    assert!(found == sealed.newest());
    let sum = DatabaseChecksum::of(size(), &found);
    assert_eq!((report.proof, report.checksum), (ProvenBy::Checksum, Some(sum)));
    assert_eq!(report.integrity, Verdict::Skipped);

    let out = sealed.dir.path().join("out.db");
    let out = out.to_str().expect("a path");
    let (code, said) = command(&["restore", "--json", "-o", out, &sealed.url()]);
    let json: Value = serde_json::from_str(said.lines().next().unwrap_or_default()).expect("JSON");
    assert_eq!((code, text(&json, "proof")), (Some(0), "checksum"), "{said}");
    assert_eq!(text(&json, "checksum"), sum.to_string());
    let (code, said) = command(&["restore", "--force", "-o", out, &sealed.url()]);
    let words = format!("equal to the database at that transaction (checksum {sum})");
    assert!(code == Some(0) && said.contains(&words), "{said}");
    // Checks that are asked for are made besides.
    let (code, said) =
        command(&["restore", "--force", "--integrity-check", "quick", "-o", out, &sealed.url()]);
    assert!(code == Some(1) && said.contains("fails SQLite's integrity check"), "{said}");

    // The newest file has none, as if Litestream had written it: SQLite looks at the pages.
    let newest = id((0, 6, 6));
    fs::remove_file(sealed.path(id((2, 2, 6)))).expect("removed");
    sealed.put(newest, &file_with(size(), newest, &sealed.content(newest), None));
    let e = sealed.restore().map(|(r, _)| r).expect_err("not a database of SQLite");
    assert!(matches!(e, RestoreError::Integrity { .. }), "{e}");
}

/// A file of another database with the same name, a right CRC and a checksum of its own was
/// restored as if nothing were wrong.
#[test]
fn a_file_of_another_database_is_never_restored() {
    let other = Sealed::new(2);
    for exchanged in FILES.map(id) {
        let sealed = Sealed::new(1);
        sealed.exchange(exchanged, &other);
        let (report, found) = sealed.restore().unwrap_or_else(|e| panic!("{exchanged}: {e}"));
        assert!(found == sealed.newest() && report.proof == ProvenBy::Checksum, "{exchanged}");
        // Files that the plan does not need are not read.
        let named = report.damaged.iter().any(|(id, _)| *id == exchanged);
        assert!(named || report.damaged.is_empty(), "{exchanged}: {:?}", report.damaged);
    }
    // An image and what it was made of: no plan is right.
    let sealed = Sealed::new(1);
    for name in [(0, 1, 1), (9, 1, 1), (9, 1, 5)] {
        sealed.exchange(id(name), &other);
    }
    let e = sealed.restore().map(|(r, _)| r).expect_err("no plan is right");
    let RestoreError::Checksum { expected, found, .. } = &e else { panic!("{e}") };
    assert_eq!(*expected, DatabaseChecksum::of(size(), &sealed.newest()));
    assert!(e.is_loss() && e.to_string().contains(&found.to_string()), "{e}");

    let out = sealed.dir.path().join("out.db");
    fs::write(&out, "what was there").expect("written");
    let path = out.to_str().expect("a path");
    for check in ["auto", "none"] {
        let (code, said) =
            command(&["restore", "--force", "--integrity-check", check, "-o", path, &sealed.url()]);
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains(&expected.to_string()) && said.contains("lsfast repair"), "{said}");
        assert_eq!(fs::read(&out).expect("a file"), b"what was there");
    }
}

/// The page of one transaction is in no file, and every file is whole.
#[test]
fn a_page_that_is_missing_is_noticed() {
    for (name, page, lost) in [((0, 6, 6), 6, true), ((2, 2, 6), 6, false), ((9, 1, 5), 5, false)] {
        let sealed = Sealed::new(1);
        if lost {
            fs::remove_file(sealed.path(id((2, 2, 6)))).expect("removed");
        }
        let mut content = sealed.content(id(name));
        assert!(content.pages.remove(&page).is_some());
        // A full image has every page: an older one in its place.
        if name.0 == 9 {
            content.pages.insert(page, 77);
        }
        sealed.write(id(name), &content);
        match sealed.restore() {
            Ok((_, found)) => assert!(!lost && found == sealed.newest(), "{name:?}"),
            Err(e) => assert!(lost && matches!(e, RestoreError::Checksum { .. }), "{name:?}: {e}"),
        }
    }
}

pub fn verify(sealed: &Sealed) -> VerifyReport {
    let store: Arc<dyn Store> = Arc::new(FileStore::new(sealed.dir.path()));
    runtime().block_on(verify_replica(&store, VerifyOptions::default())).expect("a report")
}

/// Without the database, `verify` knows whether the newest state is the one that was committed.
#[test]
fn verify_proves_the_newest_state() {
    let (sealed, other) = (Sealed::new(1), Sealed::new(2));
    let sum = DatabaseChecksum::of(size(), &sealed.newest());
    let found = verify(&sealed);
    assert_eq!(
        (found.health(), found.newest.and_then(|n| n.checksum)),
        (Health::Sound, Some(sum)),
        "{found:?}"
    );
    let (code, said) = command(&["verify", &sealed.url()]);
    assert!(code == Some(0) && said.contains(&format!("(checksum {sum})")), "{said}");
    let (_, said) = command(&["verify", "--json", &sealed.url()]);
    let json: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(text(&json["newest"], "proof"), "checksum");

    for exchanged in FILES.map(id) {
        let sealed = Sealed::new(1);
        sealed.exchange(exchanged, &other);
        let found = verify(&sealed);
        let newest = found.newest.and_then(|n| n.checksum);
        assert_eq!(newest, Some(sum), "{exchanged}: the other files make the newest state: {found:?}");
        // Where one file alone ends, the batch after it tells.
        assert_eq!(found.health(), Health::Damaged, "{exchanged}: {found:?}");
    }
    for name in [(0, 1, 1), (9, 1, 1), (9, 1, 5)] {
        sealed.exchange(id(name), &other);
    }
    let found = verify(&sealed);
    assert!(found.health() == Health::NewestLost && found.wants_image, "{found:?}");
    let why = found.newest_lost.expect("a reason");
    assert!(why.contains(&sum.to_string()) && why.contains("is not the one that was committed"), "{why}");
    assert_eq!(command(&["verify", &sealed.url()]).0, Some(4));
}

/// Any bit of any object, for what the CRC covers, and a checksum that is not that of the pages.
#[test]
fn verify_finds_what_is_changed_in_any_file() {
    for name in FILES.map(id) {
        let sealed = Sealed::new(1);
        let bytes = fs::read(sealed.path(name)).expect("a file");
        for at in [3, 20, 85, 90, bytes.len() / 2, bytes.len() - 20, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            sealed.put(name, &changed);
            let found = verify(&sealed);
            assert!(found.damaged.iter().any(|d| d.object == Object::Ltx(name)), "{name} at {at}: {found:?}");
        }
        sealed.put(name, &file_with(size(), name, &sealed.content(name), Some(DatabaseChecksum(7))));
        let found = verify(&sealed);
        assert!(found.health() == Health::Damaged, "{name}: {found:?}");
        assert!(!found.conflicts.is_empty() || found.damaged_count == 1, "{name}: {found:?}");
    }
}

/// The checksums are shown where headers are read.
#[test]
fn points_and_files_have_their_checksums() {
    let sealed = Sealed::new(1);
    let sum = DatabaseChecksum::of(size(), &sealed.newest()).to_string();
    for (list, args) in [("points", &["points", "--json"][..]), ("files", &["ltx", "--json", "--precise"])] {
        let (code, said) = command(&[args, &[&sealed.url()]].concat());
        let json: Value = serde_json::from_str(&said).expect("JSON");
        let has = |item: &Value| item["checksum"].as_str() == Some(&sum);
        assert!(code == Some(0) && json[list].as_array().expect("a list").iter().any(has), "{said}");
    }
}
