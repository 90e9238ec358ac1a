use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use super::super::inner::error;
use super::*;
use crate::base::clock::Millis;
use crate::base::{Level, Txid};
use crate::store::{ErrorKind, StoreError};

const WHEN: Millis = Millis(1_795_295_650_801);

fn replace() -> PutOptions {
    PutOptions { created: WHEN, create_only: false }
}

fn create_only() -> PutOptions {
    PutOptions { created: WHEN, create_only: true }
}

fn id(level: u32, min: u64, max: u64) -> LtxId {
    LtxId::new(Level::new(level).unwrap(), Txid(min), Txid(max)).unwrap()
}

fn raw(n: u64) -> LtxId {
    LtxId::raw(Txid(n))
}

fn body(s: &str) -> Vec<Bytes> {
    s.split_inclusive(' ').map(|p| Bytes::copy_from_slice(p.as_bytes())).collect()
}

fn store() -> (tempfile::TempDir, FileStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::new(dir.path().join("replica"));
    (dir, store)
}

/// All files below a directory, by path.
fn tree(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for e in fs::read_dir(dir).into_iter().flatten().flatten() {
        match e.file_type().unwrap().is_dir() {
            true => all.extend(tree(&e.path())),
            false => all.push(e.path().to_str().unwrap().to_string()),
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn what_was_put_is_listed_and_read() {
    let (dir, store) = store();
    assert_eq!(store.list(Scope::All).await.unwrap(), [], "a replica that is not there is empty");
    assert_eq!(store.head(raw(1)).await.unwrap(), None);
    for n in [2, 1] {
        store.put(raw(n), body("some words to keep"), create_only()).await.unwrap();
    }
    store.put(id(9, 1, 2), body(""), replace()).await.unwrap();
    let entry = |id, size| Entry { id, size, modified: WHEN };
    let all = [entry(raw(1), 18), entry(raw(2), 18), entry(id(9, 1, 2), 0)];
    assert_eq!(store.list(Scope::All).await.unwrap(), all);
    assert_eq!(store.list(Scope::Level(Level::RAW)).await.unwrap(), all[..2]);
    assert_eq!(store.head(raw(2)).await.unwrap(), Some(all[1]));
    assert_eq!(&store.get(raw(1), 5..10).await.unwrap()[..], b"words");
    assert_eq!(&store.get(raw(1), 14..u64::MAX).await.unwrap()[..], b"keep");
    assert_eq!(&store.get(raw(1), 18..20).await.unwrap()[..], b"");
    assert_eq!(&store.get(raw(1), 40..50).await.unwrap()[..], b"");
    let path = dir.path().join("replica/ltx/0/0000000000000001-0000000000000001.ltx");
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_795_295_650, 801_000_000));
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    let missing = store.get(raw(7), 0..10).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().ends_with("ltx/0/0000000000000007-0000000000000007.ltx"), "{missing}");
}

#[tokio::test]
async fn create_only_means_the_same_content_or_a_conflict() {
    let (dir, store) = store();
    store.put(raw(1), body("mine and only mine"), create_only()).await.unwrap();
    store.put(raw(1), body("mine and only mine"), create_only()).await.unwrap();
    for other in ["mine and only thine", "mine and only Mine", ""] {
        let e = store.put(raw(1), body(other), create_only()).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Conflict);
        assert!(e.to_string().contains("another program writes this replica"), "{e}");
    }
    assert_eq!(&store.get(raw(1), 0..99).await.unwrap()[..], b"mine and only mine");
    store.put(raw(1), body("newer"), replace()).await.unwrap();
    assert_eq!(&store.get(raw(1), 0..99).await.unwrap()[..], b"newer");
    assert_eq!(tree(dir.path()).len(), 1, "no temporary file is left");
}

#[tokio::test]
async fn an_upload_is_seen_when_it_is_finished_and_not_before() {
    let (dir, store) = store();
    let pieces: Vec<Bytes> = (0..40u8).map(|i| Bytes::from(vec![i; 100_000])).collect();
    let whole = pieces.concat();
    for round in 0..2 {
        let mut upload = store.upload(raw(1), 1 << 40, create_only()).await.unwrap();
        for piece in &pieces {
            upload.write(piece.clone()).await.unwrap();
        }
        assert_eq!(store.list(Scope::All).await.unwrap().len(), round);
        upload.finish().await.unwrap();
        assert!(store.get(raw(1), 0..u64::MAX).await.unwrap() == whole);
    }
    let mut other = store.upload(raw(1), 10, create_only()).await.unwrap();
    other.write(Bytes::from_static(b"other")).await.unwrap();
    assert_eq!(other.finish().await.unwrap_err().kind(), ErrorKind::Conflict);
    for (n, later) in [(4, 10), (5, 3_000_000)] {
        let mut patched = store.upload(raw(n), 1 << 40, create_only()).await.unwrap();
        patched.hold_start();
        patched.write(Bytes::from_static(b"a start that is replaced; ")).await.unwrap();
        patched.write(Bytes::from(vec![b'.'; later])).await.unwrap();
        patched.replace_start(Bytes::from_static(b"A START")).await.unwrap();
        patched.write(Bytes::from_static(b"the end")).await.unwrap();
        patched.finish().await.unwrap();
        let whole = ["A START that is replaced; ", &".".repeat(later), "the end"].concat();
        assert!(store.get(raw(n), 0..u64::MAX).await.unwrap() == whole);
        store.delete(&[raw(n)]).await.unwrap();
    }
    let mut given_up = store.upload(raw(2), 10, create_only()).await.unwrap();
    given_up.write(Bytes::from_static(b"gone")).await.unwrap();
    given_up.abort().await;
    let mut dropped = store.upload(raw(3), 10, create_only()).await.unwrap();
    dropped.write(Bytes::from_static(b"gone")).await.unwrap();
    drop(dropped);
    assert_eq!(tree(dir.path()).len(), 1, "{:?}", tree(dir.path()));
}

#[tokio::test]
async fn a_copy_lives_on_its_own() {
    let (dir, store) = store();
    store.put(raw(1), body("the first image"), replace()).await.unwrap();
    let later = PutOptions { created: Millis(WHEN.0 + 5), create_only: true };
    for (to, options) in [(id(1, 1, 1), create_only()), (id(2, 1, 1), later), (id(9, 1, 1), replace())] {
        store.copy(raw(1), to, options).await.unwrap();
        // The second put finds the same content.
        store.copy(raw(1), to, options).await.unwrap();
    }
    store.delete(&[raw(1), raw(8)]).await.unwrap();
    let times: Vec<_> = store.list(Scope::All).await.unwrap().iter().map(|e| e.modified.0 - WHEN.0).collect();
    assert_eq!(times, [0, 5, 0]);
    for to in [id(1, 1, 1), id(2, 1, 1), id(9, 1, 1)] {
        assert_eq!(&store.get(to, 0..99).await.unwrap()[..], b"the first image");
    }
    assert_eq!(tree(dir.path()).len(), 3, "{:?}", tree(dir.path()));
    store.put(raw(2), body("another image"), replace()).await.unwrap();
    for options in [create_only(), later] {
        let e = store.copy(raw(2), id(1, 1, 1), options).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Conflict);
    }
    assert_eq!(store.copy(raw(9), raw(10), replace()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn strangers_are_not_listed() {
    let (dir, store) = store();
    store.put(raw(1), body("x"), replace()).await.unwrap();
    let level = dir.path().join("replica/ltx/0");
    for name in [
        "0000000000000002-0000000000000002.ltx.tmp",
        ".0000000000000002-0000000000000002.ltx.1-0.tmp",
        "0000000000000002-000000000000000A.ltx",
        "notes",
    ] {
        fs::write(level.join(name), "?").unwrap();
    }
    fs::create_dir(level.join("0000000000000003-0000000000000003.ltx")).unwrap();
    fs::create_dir_all(dir.path().join("replica/ltx/0001")).unwrap();
    // What has a right name and is not a file cannot be read, but must not pass for missing.
    let listed = store.list(Scope::All).await.unwrap();
    let sizes: Vec<_> = listed.iter().map(|e| (e.id.max.0, e.size)).collect();
    assert_eq!(sizes, [(1, 1), (3, 0)]);
}

/// A finished draft may have an old modification time just before its rename; only the inode's
/// change time counts.
#[tokio::test]
async fn abandoned_temporary_files_go_and_others_stay() {
    let (dir, store) = store();
    let level = dir.path().join("replica/ltx/0");
    fs::create_dir_all(&level).unwrap();
    let fresh = level.join(".x.ltx.1-0.tmp");
    fs::write(&fresh, "").unwrap();
    fs::File::options()
        .write(true)
        .open(&fresh)
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(90_000))
        .unwrap();
    store.put(raw(1), body("x"), replace()).await.unwrap();
    assert!(fresh.exists());
}

#[tokio::test]
async fn errors_name_the_path_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("plain"), "").unwrap();
    let store = FileStore::new(dir.path().join("plain/replica"));
    for e in [
        store.list(Scope::All).await.unwrap_err(),
        store.put(raw(1), body("x"), replace()).await.unwrap_err(),
    ] {
        assert_eq!(e.kind(), ErrorKind::Fatal, "{e}");
        let text = e.to_string();
        assert!(text.contains("plain/replica/ltx/0") && text.contains("is not a directory"), "{text}");
    }
    // The cause is in the message already.
    let own = error("list", Path::new("/r/x"), &io::Error::other("x is a symbolic link"));
    assert!(own.to_string().ends_with("x is a symbolic link") && std::error::Error::source(&own).is_none());
    let e = |raw_os_error| error("write", Path::new("/r/x"), &io::Error::from_raw_os_error(raw_os_error));
    for (number, kind, words) in [
        (libc::ENOSPC, ErrorKind::Full, "cannot write /r/x: the disk or the quota is full; make room"),
        (libc::EDQUOT, ErrorKind::Full, "the disk or the quota is full"),
        (libc::EACCES, ErrorKind::Credentials, "permission denied"),
        (libc::EROFS, ErrorKind::Fatal, "mounted read-only"),
        (libc::EIO, ErrorKind::Transient, "cannot write /r/x: "),
        (libc::ESTALE, ErrorKind::Transient, "cannot write /r/x: "),
    ] {
        assert_eq!(e(number).kind(), kind, "{number}");
        assert!(e(number).to_string().contains(words), "{}", e(number));
    }
}

#[test]
fn one_directory_has_one_identity() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("real");
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
    let of = |p: &str| FileStore::new(dir.path().join(p)).identity();
    assert_eq!(of("real/not/yet"), of("link/not/yet/"));
    assert_ne!(of("real/not/yet"), of("real/not"));
    assert_eq!(of("real/not"), of("no/../link/yet/../not/"));
    // The existing link's target decides for the part that does not exist.
    assert_eq!(of("real"), of("no/../link"));
    assert!(of("real").starts_with("file:///"));
}

#[tokio::test]
async fn what_lies_beside_the_levels_is_listed_read_and_kept_apart() {
    let (dir, store) = store();
    let root = dir.path().join("replica");
    store.put(raw(1), body("words"), create_only()).await.unwrap();
    let snapshot = "generations/c9576ca0d0b8b360/snapshots/00000001.snapshot.lz4";
    let segment = "generations/c9576ca0d0b8b360/wal/00000001_00000020.wal.lz4";
    for name in [snapshot, segment, &format!("{segment}.tmp"), "generations/x/wal/y", "generations/file"] {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(WHEN.to_system()).unwrap();
    }
    let times = TimesId { min: Txid(1), max: Txid(3) };
    store.put_times(times, Bytes::from_static(b"old")).await.unwrap();
    store.put_times(times, Bytes::from_static(b"times")).await.unwrap();
    let listing = store.list_all().await.unwrap();
    assert_eq!(listing.files, store.list(Scope::All).await.unwrap());
    let found: Vec<_> = listing.sides.iter().map(|e| (e.id.path(), e.size)).collect();
    let times_name = "times/0000000000000001-0000000000000003.times";
    let all = [snapshot, segment].map(|n| (n.to_owned(), n.len() as u64));
    assert_eq!(found, [&all[..], &[(times_name.to_owned(), 5)]].concat());
    assert_eq!(listing.sides[0].modified, WHEN);
    for (side, content) in listing.sides.iter().zip([snapshot, segment, "times"]) {
        assert_eq!(store.get_side(side.id, 0..100).await.unwrap(), content.as_bytes());
        assert_eq!(store.get_side(side.id, 2..4).await.unwrap(), content.as_bytes()[2..4]);
    }
    store.delete_times(&[times, times]).await.unwrap();
    let e = store.get_side(SideId::Times(times), 0..1).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert_eq!(store.list_all().await.unwrap().sides, listing.sides[..2]);
}

#[tokio::test]
async fn a_replica_is_its_owners_alone_and_what_is_above_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().mode() & 0o777;
    let above = dir.path().join("plain");
    fs::create_dir(&above).unwrap();
    let usual = mode("plain");
    let store = FileStore::new(dir.path().join("backups/replica"));
    store.put(raw(1), body("x"), replace()).await.unwrap();
    assert_eq!(mode("backups"), usual);
    for name in ["backups/replica", "backups/replica/ltx", "backups/replica/ltx/0"] {
        assert_eq!(mode(name), 0o700, "{name}");
    }
    let store = FileStore::with_mode(dir.path().join("shared"), 0o640);
    store.put(raw(1), body("x"), replace()).await.unwrap();
    assert_eq!(mode("shared/ltx/0"), 0o750 & usual);
}

/// The owner of a replica's folder can put links to other users' files into it.
#[tokio::test]
async fn a_link_in_a_replica_is_listed_and_never_read_or_copied() {
    let (dir, store) = store();
    store.put(raw(1), body("ours"), replace()).await.unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "root only").unwrap();
    let place = |id: LtxId| dir.path().join("replica/ltx").join(id.level.to_string()).join(id.file_name());
    std::os::unix::fs::symlink(&secret, place(raw(2))).unwrap();
    assert_eq!(
        store.list(Scope::All).await.unwrap().len(),
        2,
        "a state that is not there must not look newest"
    );
    let e = store.get(raw(2), 0..100).await.unwrap_err().to_string();
    assert!(e.contains("symbolic link"), "{e}");
    assert!(store.copy(raw(2), id(1, 2, 2), replace()).await.is_err());
    assert!(!place(id(1, 2, 2)).exists());
    let made = std::process::Command::new("mkfifo").arg(place(raw(3))).status().unwrap();
    assert!(made.success());
    let e = store.get(raw(3), 0..100).await.unwrap_err().to_string();
    assert!(e.contains("FIFO"), "{e}");
    // No write goes through a link.
    store.put(raw(2), body("new"), replace()).await.unwrap();
    assert_eq!(fs::read(&secret).unwrap(), b"root only");
    assert_eq!(&store.get(raw(2), 0..100).await.unwrap()[..], b"new");
}

/// A user who may write to a replica could have any file of the host read or written through a
/// link.
#[tokio::test]
async fn no_link_below_the_root_is_followed() {
    use std::os::unix::fs::symlink;
    for link in ["ltx", "ltx/0", "ltx/1", "times", "generations"] {
        let (dir, store) = store();
        let victim = dir.path().join("victim");
        let inside = |name: &str| victim.join(name);
        // Any read, removal or replacement of these files is noticed.
        fs::create_dir_all(inside("0")).unwrap();
        fs::create_dir_all(inside("1")).unwrap();
        let name = raw(1).file_name();
        for path in [inside(&name), inside("0").join(&name), inside("1").join(&name), inside("x.tmp")] {
            fs::write(path, "theirs").unwrap();
        }
        let before = tree(&victim);
        let root = dir.path().join("replica");
        fs::create_dir_all(root.join(link).parent().unwrap()).unwrap();
        symlink(&victim, root.join(link)).unwrap();
        let said = |e: StoreError| {
            let text = e.to_string();
            assert!(text.contains("is a symbolic link, which is not followed"), "{link}: {text}");
        };
        let times = TimesId { min: Txid(1), max: Txid(1) };
        said(store.list_all().await.unwrap_err());
        if link == "times" {
            said(store.put_times(times, Bytes::from_static(b"x")).await.unwrap_err());
            said(store.delete_times(&[times]).await.unwrap_err());
            said(store.get_side(SideId::Times(times), 0..9).await.unwrap_err());
        } else if link != "generations" {
            let there = if link == "ltx/1" { id(1, 1, 1) } else { raw(1) };
            said(store.put(there, body("ours"), replace()).await.unwrap_err());
            said(store.upload(there, 9, replace()).await.err().unwrap());
            said(store.get(there, 0..9).await.unwrap_err());
            said(store.head(there).await.unwrap_err());
            said(store.delete(&[there]).await.unwrap_err());
            said(store.copy(there, id(9, 1, 1), replace()).await.unwrap_err());
        }
        if link == "ltx/1" {
            store.put(raw(1), body("ours"), replace()).await.unwrap();
            said(store.copy(raw(1), id(1, 1, 1), replace()).await.unwrap_err());
        }
        assert_eq!(tree(&victim), before, "{link}");
        assert!(before.iter().all(|path| fs::read(path).unwrap() == b"theirs"), "{link}");
    }
    // The root itself may be a link: that is the user's choice.
    let (dir, _) = store();
    fs::create_dir(dir.path().join("disk")).unwrap();
    symlink(dir.path().join("disk"), dir.path().join("replica")).unwrap();
    let store = FileStore::new(dir.path().join("replica"));
    store.put(raw(1), body("ours"), create_only()).await.unwrap();
    assert_eq!(store.list(Scope::All).await.unwrap().len(), 1);
    assert!(dir.path().join("disk/ltx/0").exists());
}
