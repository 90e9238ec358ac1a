//! The lists of times beside the levels, as Litestream 0.5.17 sees them: not at all.

use super::*;
use crate::support::s3::S3Server;

fn lists(root: &Path) -> Vec<PathBuf> {
    let dir = std::fs::read_dir(root.join("times"));
    let mut all: Vec<PathBuf> = dir.into_iter().flatten().map(|e| e.expect("an entry").path()).collect();
    all.sort();
    all
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

/// A replica with a list of times, made by a history in which 16 batches and more were merged.
async fn with_lists() -> Scene {
    let mut scene = Scene::new(HistoryOptions::default(), 4 * HOUR).await;
    for _ in 0..24 {
        scene.pass(SECOND).await;
        scene.write(1).await;
    }
    scene.pass(2 * HOUR).await;
    scene.write(1).await;
    scene.pass(MINUTE).await;
    scene
}

/// Restores by it, lets it take over, restores again.
fn litestream_goes_on(scene: &mut Scene, place: &Place) {
    let restored = |scene: &Scene, txid| {
        let out = scene.out("out");
        litestream::restore(scene.dir.path(), &scene.db(), &out, place, "db", txid);
        std::fs::read(&out).expect("the output")
    };
    let (last, (image, _)) = scene.states.last_key_value().expect("a state");
    sqlite::assert_same_pages("newest", &restored(scene, None), image);
    sqlite::assert_same_pages("TXID 9", &restored(scene, Some(9)), &scene.states[&9].0);
    let last = *last;
    sqlite::leave_checkpoints_to_litestream(&scene.app);
    let process = litestream::replicate(scene.dir.path(), &scene.db(), place, "db");
    scene.workload.run(&scene.app, 10);
    place.wait_for_txid("db", 0, last + 1);
    place.wait_for_txid("db", 1, last + 1);
    let output = process.stop();
    assert!(
        !output.contains("/times") && !output.contains(".times") && !output.contains("level=ERROR"),
        "{output}"
    );
    let out = scene.out("out");
    litestream::restore(scene.dir.path(), &scene.db(), &out, place, "db", None);
    sqlite::assert_sound(&out);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&scene.db()));
}

#[test]
fn litestream_ignores_lists_of_times_in_a_directory() {
    run(async {
        let mut scene = with_lists().await;
        let root = scene.dir.path().join("replica/db");
        let before = lists(&root);
        assert!(!before.is_empty(), "a list was written");
        let place = Place::Dir(scene.dir.path().join("replica"));
        litestream_goes_on(&mut scene, &place);
        assert_eq!(lists(&root), before);
    });
}

#[test]
fn litestream_ignores_lists_of_times_in_a_bucket() {
    run(async {
        let mut scene = with_lists().await;
        let (from, server) = (scene.dir.path().join("replica/db"), S3Server::start());
        // The same replica, by the names that a bucket has.
        let to = server.bucket_dir().join("db");
        for level in 0..=9 {
            let level_dir = from.join(format!("ltx/{level}"));
            if level_dir.is_dir() {
                copy_tree(&level_dir, &to.join(format!("{level:04x}")));
            }
        }
        copy_tree(&from.join("times"), &to.join("times"));
        let before = lists(&to);
        assert!(!before.is_empty(), "a list was written");
        let place = Place::S3s(server);
        litestream_goes_on(&mut scene, &place);
        assert_eq!(lists(&to), before);
    });
}
