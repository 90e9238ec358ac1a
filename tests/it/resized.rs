//! Databases whose page size is changed while nothing follows them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::lineage::{Scene, insert};
use crate::support::process::until;
use crate::support::{lsfast, sqlite};

fn resize(db: &Path, page_size: u32) {
    let app = sqlite::open(db);
    let sql =
        format!("PRAGMA journal_mode=DELETE; PRAGMA page_size={page_size}; VACUUM; PRAGMA journal_mode=WAL");
    app.execute_batch(&sql).expect("SQL");
}

/// For each level, the first and last TXIDs of its files.
fn files(replica: &Path) -> BTreeMap<u8, Vec<(u64, u64)>> {
    let mut levels = BTreeMap::new();
    for level in 0..=9 {
        let entries = std::fs::read_dir(replica.join(format!("ltx/{level}"))).into_iter().flatten().flatten();
        let names = entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.ends_with(".ltx"));
        let hex = |s: &str| u64::from_str_radix(s, 16).expect("a TXID");
        levels.insert(level, names.map(|n| (hex(&n[..16]), hex(&n[17..33]))).collect());
    }
    levels
}

fn at_txid(scene: &Scene, replica: &str, txid: u64) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out.db");
    lsfast::restore(&out, &scene.url(replica), &[], &["--txid", &format!("{txid:x}")]);
    sqlite::dump_hash(&out)
}

fn verify(scene: &Scene, replica: &str) -> (Option<i32>, String) {
    let output = lsfast::run(lsfast::command(["verify", &scene.url(replica)]));
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &lsfast::stderr(&output))
}

/// A start ended with an error, and the way out was a new replica.
#[test]
fn a_new_page_size_begins_with_a_new_image() {
    for batches in [1, 4] {
        let scene = Scene::new();
        let app = scene.create("app", 4096);
        assert!(scene.once("app", "replica").0);
        for _ in 1..batches {
            insert(&app, "with the old size");
            assert!(scene.once("app", "replica").0);
        }
        let before = sqlite::dump_hash(&scene.db("app"));
        assert_eq!(scene.last_txid("replica"), batches);
        drop(app);
        resize(&scene.db("app"), 8192);
        let (done, log) = scene.once("app", "replica");
        assert!(done && log.contains("goes on with the new page size"), "{log}");
        assert!(!log.contains("waiting for a sign"), "it is the same database: {log}");
        scene.assert_restores("replica", "app");
        assert_eq!(at_txid(&scene, "replica", batches), before);

        // It goes on, with merges of what is new.
        let config = scene.db("config").with_extension("yml");
        let text = format!(
            "levels: [{{interval: 1s}}, {{interval: 2s}}]\ndbs: [{{path: '{}', replica: {{url: '{}', sync-interval: 50ms}}}}]\n",
            scene.db("app").display(),
            scene.url("replica")
        );
        std::fs::write(&config, text).expect("a config file");
        let mut command = lsfast::command(["replicate", "--config"]);
        command.arg(&config);
        let process = crate::support::process::Process::start("lsfast replicate", command);
        let app = sqlite::open(&scene.db("app"));
        until("a merge of the new size", || {
            insert(&app, "with the new size");
            let last = |level| files(&scene.replica("replica"))[&level].iter().map(|f| f.1).max();
            (last(1) > Some(batches) && last(2) > Some(batches)).then_some(())
        });
        let log = process.stop();
        assert!(!log.contains("level=error") && !log.contains("trying again"), "{log}");
        scene.assert_restores("replica", "app");
        assert_eq!(at_txid(&scene, "replica", batches), before);
        let (code, said) = verify(&scene, "replica");
        assert_eq!(code, Some(0), "{said}");
        for (level, files) in files(&scene.replica("replica")) {
            if level < 9 {
                assert!(files.iter().all(|f| f.1 <= batches || f.0 > batches), "{level}: {files:?}");
            }
            if batches > 1 && (1..9).contains(&level) {
                assert!(
                    files.iter().any(|f| f.1 == batches),
                    "a later merge begins after it: {level}: {files:?}"
                );
            }
        }
    }
}

/// The process may end between the batch with all pages and the full image.
#[test]
fn a_crash_before_the_image_of_the_new_size_is_made_good() {
    let scene = Scene::new();
    let app = scene.create("app", 4096);
    assert!(scene.once("app", "replica").0);
    insert(&app, "with the old size");
    assert!(scene.once("app", "replica").0);
    drop(app);
    resize(&scene.db("app"), 1024);
    assert!(scene.once("app", "replica").0);
    let image = scene.replica("replica").join("ltx/9/0000000000000001-0000000000000003.ltx");
    std::fs::remove_file(&image).expect("the image");
    // lsfast begins with the batch that has all pages.
    scene.assert_restores("replica", "app");
    let reset = lsfast::run({
        let mut command = lsfast::command(["reset"]);
        command.arg(scene.db("app"));
        command
    });
    assert!(reset.status.success(), "{}", lsfast::stderr(&reset));
    assert!(scene.once("app", "replica").0);
    let images = &files(&scene.replica("replica"))[&9];
    assert!(images.iter().any(|f| f.1 > 2), "{images:?}");
    scene.assert_restores("replica", "app");
}

/// A database of another page size is not grafted on a replica that it knows nothing of.
#[test]
fn another_database_with_another_page_size_is_refused() {
    let scene = Scene::new();
    drop((scene.create("a", 4096), scene.create("b", 1024)));
    assert!(scene.once("a", "replica").0);
    let (done, log) = scene.once("b", "replica");
    assert!(!done && log.contains("lsfast reset"), "{log}");
    scene.assert_restores("replica", "a");
    let mut reset = lsfast::command(["reset"]);
    reset.arg(scene.db("b"));
    assert!(lsfast::run(reset).status.success());
    let (done, log) = scene.once("b", "replica");
    assert!(done, "{log}");
    scene.assert_restores("replica", "b");
}
