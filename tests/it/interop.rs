//! Real Litestream 0.5.17 and lsfast on the same replicas: each restores, and takes over, what the
//! other wrote.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::place::Place;
use crate::support::s3::S3Server;
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::weed::Weed;
use crate::support::{litestream, lsfast};

/// The smallest, the usual and the largest.
const PAGE_SIZES: [u32; 3] = [512, 4096, 65536];

/// A database, a writer, and a replica of its own in a place.
struct Scene<'a> {
    dir: TempDir,
    place: &'a Place,
    prefix: String,
    connection: Connection,
    workload: Workload,
}

impl Scene<'_> {
    fn new(place: &Place, page_size: u32) -> Scene<'_> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let connection = sqlite::create(&dir.path().join("app.db"), page_size);
        let workload = Workload::new(u64::from(page_size));
        Scene { dir, place, prefix: format!("p{page_size}"), connection, workload }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn db(&self) -> PathBuf {
        self.dir().join("app.db")
    }

    fn write(&mut self) {
        self.workload.run(&self.connection, 25);
    }

    fn last_txid(&self) -> u64 {
        self.place.last_txid(&self.prefix, 0)
    }

    /// lsfast replicates while the application writes, and ends with a final sync.
    fn write_under_lsfast(&mut self) {
        let before = self.last_txid();
        let url = self.place.url(&self.prefix);
        let process = lsfast::replicate(&self.db(), &[url], &self.place.env());
        self.write();
        self.place.wait_for_txid(&self.prefix, 0, before + 1);
        self.write();
        process.stop();
        assert!(self.last_txid() > before);
        self.assert_level_0_has_no_hole();
    }

    /// Litestream replicates and compacts while the application writes.
    fn write_under_litestream(&mut self) {
        sqlite::leave_checkpoints_to_litestream(&self.connection);
        let before = self.last_txid();
        let process = litestream::replicate(self.dir(), &self.db(), self.place, &self.prefix);
        self.write();
        self.place.wait_for_txid(&self.prefix, 1, before + 1);
        self.write();
        self.place.wait_for_txid(&self.prefix, 0, before + 2);
        process.stop();
        self.assert_level_0_has_no_hole();
    }

    fn assert_level_0_has_no_hole(&self) {
        let names = self.place.names(&self.prefix, 0);
        let first = u64::from_str_radix(&names[0][..16], 16).expect("a TXID");
        for (txid, name) in (first..).zip(&names) {
            assert_eq!(*name, format!("{txid:016x}-{txid:016x}.ltx"));
        }
    }

    /// Both programs restore the newest state; the two are equal in every page and hold what the
    /// database holds.
    fn assert_both_restore_it(&self) -> PathBuf {
        let by_litestream = self.restore_by_litestream(None);
        let by_lsfast = self.dir().join(format!("lsfast-{}", self.last_txid()));
        lsfast::restore(&by_lsfast, &self.place.url(&self.prefix), &self.place.env(), &[]);
        sqlite::assert_same_pages(
            "both restored",
            &sqlite::image(&by_litestream),
            &sqlite::image(&by_lsfast),
        );
        assert_eq!(sqlite::dump_hash(&by_lsfast), sqlite::dump_hash(&self.db()), "{}", self.prefix);
        sqlite::assert_sound(&by_lsfast);
        by_lsfast
    }

    fn restore_by_litestream(&self, txid: Option<u64>) -> PathBuf {
        let out = self.dir().join(format!("litestream-{}", txid.unwrap_or(0)));
        _ = std::fs::remove_file(&out);
        litestream::restore(self.dir(), &self.db(), &out, self.place, &self.prefix, txid);
        out
    }
}

/// (a) What lsfast wrote, Litestream restores: the newest state and one before it, in every page.
fn litestream_restores_from(place: &Place) {
    for page_size in PAGE_SIZES {
        let mut scene = Scene::new(place, page_size);
        scene.write();
        scene.write_under_lsfast();
        let (first, first_image) = (scene.last_txid(), sqlite::image(&scene.db()));
        scene.write();
        scene.write_under_lsfast();
        let restored = scene.restore_by_litestream(Some(first));
        sqlite::assert_same_pages("by TXID", &sqlite::image(&restored), &first_image);
        let restored = scene.assert_both_restore_it();
        sqlite::assert_same_pages("newest", &sqlite::image(&restored), &sqlite::image(&scene.db()));
    }
}

/// (b) What Litestream wrote, compacted included, lsfast restores.
fn lsfast_restores_from(place: &Place) {
    for page_size in PAGE_SIZES {
        let mut scene = Scene::new(place, page_size);
        scene.write();
        scene.write_under_litestream();
        scene.assert_both_restore_it();
        scene.write();
        litestream::replicate_once(scene.dir(), &scene.db(), place, &scene.prefix, &["-force-snapshot"]);
        scene.assert_both_restore_it();
    }
}

/// (c) lsfast takes over Litestream's replica and goes on.
fn lsfast_takes_over_in(place: &Place) {
    for page_size in PAGE_SIZES {
        let mut scene = Scene::new(place, page_size);
        scene.write();
        scene.write_under_litestream();
        scene.write();
        scene.write_under_lsfast();
        let restored = scene.assert_both_restore_it();
        sqlite::assert_same_pages("taken over", &sqlite::image(&restored), &sqlite::image(&scene.db()));
        scene.write();
        scene.write_under_lsfast();
        scene.assert_both_restore_it();
    }
}

/// (d) Litestream takes over lsfast's replica, goes on and compacts it; lsfast takes it back.
fn litestream_takes_over_in(place: &Place) {
    for page_size in PAGE_SIZES {
        let mut scene = Scene::new(place, page_size);
        scene.write();
        scene.write_under_lsfast();
        scene.write_under_litestream();
        scene.assert_both_restore_it();
        scene.write_under_lsfast();
        scene.assert_both_restore_it();
    }
}

/// After the files of a replica were deleted lsfast begins with an image at its next TXID;
/// Litestream restores that, and takes it over.
#[test]
fn litestream_takes_over_what_follows_a_deletion_of_all_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = directory(&folder);
    let mut scene = Scene::new(&place, 4096);
    scene.write();
    scene.write_under_lsfast();
    std::fs::remove_dir_all(folder.path().join("replicas")).expect("the replica");
    let process = lsfast::replicate(&scene.db(), &[place.url(&scene.prefix)], &place.env());
    scene.write();
    place.wait_for_txid(&scene.prefix, 9, 2);
    scene.write();
    process.stop();
    scene.assert_level_0_has_no_hole();
    scene.assert_both_restore_it();
    scene.write_under_litestream();
    scene.assert_both_restore_it();
    scene.write_under_lsfast();
    scene.assert_both_restore_it();
}

/// lsfast deletes the level-0 file of the first image as soon as others follow, before level 1 is
/// written.
#[test]
fn litestream_takes_over_where_only_level_9_has_the_first_image() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = directory(&folder);
    let mut scene = Scene::new(&place, 4096);
    scene.write();
    let process = lsfast::replicate(&scene.db(), &[place.url(&scene.prefix)], &place.env());
    place.wait_for_txid(&scene.prefix, 9, 1);
    process.stop();
    let first_image = sqlite::image(&scene.db());
    scene.write();
    scene.write_under_lsfast();
    let levels = folder.path().join("replicas").join(&scene.prefix).join("ltx");
    let first = place.names(&scene.prefix, 0).remove(0);
    assert_eq!(place.names(&scene.prefix, 9), std::slice::from_ref(&first));
    std::fs::remove_file(levels.join("0").join(first)).expect("the first image");
    for level in ["1", "2", "3"] {
        _ = std::fs::remove_dir_all(levels.join(level));
    }
    let restored = scene.restore_by_litestream(Some(1));
    sqlite::assert_same_pages("by TXID", &sqlite::image(&restored), &first_image);
    scene.assert_both_restore_it();
    scene.write_under_litestream();
    scene.assert_both_restore_it();
    scene.write_under_lsfast();
    scene.assert_both_restore_it();
}

fn directory(dir: &TempDir) -> Place {
    Place::Dir(dir.path().join("replicas"))
}

#[test]
fn litestream_restores_what_lsfast_wrote_to_a_directory() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    litestream_restores_from(&directory(&dir));
}

#[test]
fn litestream_restores_what_lsfast_wrote_to_weed() {
    litestream_restores_from(&Place::Weed(Weed::start()));
}

#[test]
fn lsfast_restores_what_litestream_wrote_to_a_directory() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    lsfast_restores_from(&directory(&dir));
}

#[test]
fn lsfast_restores_what_litestream_wrote_to_weed() {
    lsfast_restores_from(&Place::Weed(Weed::start()));
}

#[test]
fn lsfast_takes_over_a_directory() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    lsfast_takes_over_in(&directory(&dir));
}

#[test]
fn lsfast_takes_over_in_weed() {
    lsfast_takes_over_in(&Place::Weed(Weed::start()));
}

#[test]
fn litestream_takes_over_a_directory() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    litestream_takes_over_in(&directory(&dir));
}

#[test]
fn litestream_takes_over_in_weed() {
    litestream_takes_over_in(&Place::Weed(Weed::start()));
}

#[test]
fn litestream_restores_what_lsfast_wrote_to_an_s3_server_in_process() {
    litestream_restores_from(&Place::S3s(S3Server::start()));
}

#[test]
fn lsfast_restores_what_litestream_wrote_to_an_s3_server_in_process() {
    lsfast_restores_from(&Place::S3s(S3Server::start()));
}

#[test]
fn lsfast_takes_over_in_an_s3_server_in_process() {
    lsfast_takes_over_in(&Place::S3s(S3Server::start()));
}

#[test]
fn litestream_takes_over_in_an_s3_server_in_process() {
    litestream_takes_over_in(&Place::S3s(S3Server::start()));
}
