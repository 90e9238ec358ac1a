//! Replicas with two histories of one database.

use lsfast::base::{DatabaseChecksum, PageSize};
use lsfast::restore::Health;

use super::made::file_with;
use super::proof::{FILES, Sealed, command, id, verify};
use super::*;

const ONE: &str = "0000000000000001";
const SIX: &str = "0000000000000006";

/// The levels of one database, and level 0 of its fork after the second batch.
fn grafted() -> (Sealed, Sealed) {
    let (sealed, fork) = (Sealed::new(1), Sealed::fork(1, 2, 2));
    FILES.iter().filter(|f| f.0 == 0).for_each(|f| sealed.exchange(id(*f), &fork));
    (sealed, fork)
}

fn restored(sealed: &Sealed, more: &[&str]) -> (Option<i32>, String, Option<Vec<u8>>) {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out.db");
    let path = out.to_str().expect("a path").to_owned();
    let url = sealed.url();
    let (code, said) =
        command(&[&["restore", "--integrity-check", "none", "-o", &path, &url], more].concat());
    (code, said, fs::read(out).ok())
}

fn refused(sealed: &Sealed, more: &[&str], words: &[&str]) {
    let (code, said, found) = restored(sealed, more);
    assert!(code == Some(4) && found.is_none(), "{more:?}: {said}");
    for word in [&["two histories"], words].concat() {
        assert!(said.contains(word), "{more:?}: {word} in {said}");
    }
}

/// Level 0 of a fork was restored with a warning, or without one if a TXID was asked for, and
/// `verify` found the newest state whole.
#[test]
fn a_state_of_two_histories_is_refused() {
    let (sealed, fork) = grafted();
    let (raw, merged) = (id((0, 6, 6)).to_string(), id((2, 2, 6)).to_string());
    let sums = [&sealed, &fork]
        .map(|s| DatabaseChecksum::of(PageSize::new(512).expect("a size"), &s.state(6)).to_string());
    refused(&sealed, &[], &[&raw, &merged, &sums[0], &sums[1], "--txid 0000000000000001"]);
    // The last common state is 2, which only the level 0 has, so nothing tells.
    for txid in ["2", "3", "4", "5", "6"] {
        refused(&sealed, &["--txid", txid], &["--salvage"]);
    }
    for args in [&["--txid", "1"][..], &["--salvage"], &["--salvage", "--txid", "3"]] {
        let (code, said, found) = restored(&sealed, args);
        assert!(code == Some(0) && found == Some(sealed.state(1)), "{args:?}: {said}");
    }
    let found = verify(&sealed);
    assert!(found.health() == Health::NewestLost && found.wants_image, "{found:?}");
    // Of the states, only those count that a restore does not refuse.
    assert_eq!((found.states, found.restorable, found.last_restorable), (6, 1, Some(Txid(1))));
    assert_eq!(command(&["verify", &sealed.url()]).0, Some(4));
    for args in [&["points", &sealed.url()][..], &["restore", "--dry-run", &sealed.url()]] {
        let (code, said) = command(args);
        assert!(code == Some(0) && said.contains("different checksums"), "{said}");
    }
    // The pages of no database are shown, nor rows that no state had.
    for args in
        [&["query", &sealed.url(), "SELECT 1"][..], &["diff", "--from", ONE, "--to", SIX, &sealed.url()]]
    {
        let (code, said) = command(args);
        assert!(code == Some(4) && said.contains("two histories"), "{args:?}: {code:?} {said}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out.db");
    let (code, said) = command(&["restore", "-f", "-o", out.to_str().expect("a path"), &sealed.url()]);
    assert!(code == Some(4) && said.contains("two histories") && !out.exists(), "{said}");
}

/// The fork is shorter, or longer, than what the levels have of ours; or the levels are the fork's.
#[test]
fn the_length_of_the_fork_does_not_matter() {
    let (sealed, _) = grafted();
    fs::remove_file(sealed.path(id((0, 6, 6)))).expect("removed");
    refused(&sealed, &[], &["--txid 0000000000000001"]);
    for gone in [(2, 2, 6), (9, 1, 5)] {
        fs::remove_file(sealed.path(id(gone))).expect("removed");
    }
    // The newest state is after the one at which the levels meet.
    refused(&sealed, &[], &["after TXID 0000000000000004"]);

    let (sealed, fork) = (Sealed::new(1), Sealed::fork(1, 2, 2));
    FILES.iter().filter(|f| f.0 != 0).for_each(|f| sealed.exchange(id(*f), &fork));
    refused(&sealed, &[], &["--txid 0000000000000001"]);
}

/// What comes later is not doubtful if it needs nothing of what is.
#[test]
fn a_batch_with_all_pages_ends_the_doubt() {
    let (sealed, _) = grafted();
    for gone in [(0, 6, 6), (2, 2, 6)] {
        fs::remove_file(sealed.path(id(gone))).expect("removed");
    }
    refused(&sealed, &[], &[]);
    let whole = sealed.content(id((9, 1, 6)));
    sealed.write(id((0, 6, 6)), &whole);
    let (code, said, found) = restored(&sealed, &[]);
    assert!(code == Some(0) && found == Some(sealed.state(6)), "{said}");
    let found = verify(&sealed);
    assert_eq!(found.health(), Health::Damaged);
    assert_eq!((found.states, found.restorable, found.last_restorable), (6, 2, Some(Txid(6))));
}

/// The newest state is whole in later files, but not one of them begins at TXID 1.
#[test]
fn a_batch_with_all_pages_is_a_base() {
    let sealed = Sealed::new(1);
    for gone in [(9, 1, 1), (9, 1, 5), (0, 1, 1), (1, 2, 4), (2, 2, 6), (0, 3, 3)] {
        fs::remove_file(sealed.path(id(gone))).expect("removed");
    }
    let (code, said, _) = restored(&sealed, &[]);
    assert!(code == Some(4), "{said}");
    assert_eq!(verify(&sealed).health(), Health::NewestLost);
    sealed.write(id((0, 5, 5)), &sealed.content(id((9, 1, 5))));
    for (flags, txid) in [(&[][..], 6), (&["--txid", "5"], 5)] {
        let (code, said, found) = restored(&sealed, flags);
        assert!(code == Some(0) && found == Some(sealed.state(txid)), "{said}");
    }
    let (code, said, _) = restored(&sealed, &["--txid", "4"]);
    assert!(code == Some(4), "{said}");
    let found = verify(&sealed);
    assert!(found.health() == Health::Damaged && found.newest.is_some(), "{found:?}");
}

/// One batch of a fork at the end of no other file: its own state has the checksum that it says,
/// and those after it are refused. `verify` noticed nothing, because the image has the newest
/// state.
#[test]
fn a_batch_of_a_fork_that_no_level_ends_with_is_found() {
    let (sealed, fork) = (Sealed::new(1), Sealed::fork(1, 2, 2));
    for gone in [(1, 2, 4), (2, 2, 6), (0, 6, 6)] {
        fs::remove_file(sealed.path(id(gone))).expect("removed");
    }
    let counts = |said: &str| -> (Value, Value, Value) {
        let json: Value = serde_json::from_str(said.lines().next().unwrap_or_default()).expect("JSON");
        let of = |key: &str| json[key].clone();
        (of("restorable_states"), of("last_restorable_txid"), of("conflicts"))
    };
    let (code, said) = command(&["verify", "--json", &sealed.url()]);
    assert!(code == Some(0) && counts(&said).0 == 5, "{said}");
    sealed.exchange(id((0, 3, 3)), &fork);
    let (code, said) = command(&["verify", "--json", &sealed.url()]);
    let (restorable, last, conflicts) = counts(&said);
    assert_eq!(code, Some(3), "{said}");
    assert!(conflicts.to_string().contains(&id((0, 3, 3)).to_string()), "{said}");
    // 1, 2, the fork's 3, and the image at 5; not 4.
    assert!(restorable == 4 && last == "0000000000000005", "{said}");
    // Any run of four of the five batches has the one after that of the fork.
    let (code, said) = command(&["verify", "--sample", "80", "--json", &sealed.url()]);
    let (restorable, _, conflicts) = counts(&said);
    assert!(code == Some(3) && restorable == 4, "{said}");
    assert!(conflicts.to_string().contains(&id((0, 3, 3)).to_string()), "{said}");
    // None of them is read, and the newest state is whole.
    let (code, said) = command(&["verify", "--sample", "0", &sealed.url()]);
    assert!(code == Some(0), "{said}");
    // No file can be mended, and the newest state needs no image.
    for dry_run in [&["--dry-run"][..], &[]] {
        let (code, said) = command(&[&["repair", &sealed.url()], dry_run].concat());
        let lost = "lost for good: the state of TXID 0000000000000004";
        assert!(code == Some(3) && said.contains("conflict: ") && said.contains(lost), "{said}");
        assert_eq!(said.contains("not repaired: "), dry_run.is_empty(), "{said}");
        assert!(said.contains("the newest state, TXID 0000000000000005, can be restored"), "{said}");
        assert!(!said.contains("an image"), "{said}");
    }
    assert_eq!(restored(&sealed, &["--txid", "3"]).2, Some(fork.state(3)));
    let (code, said, found) = restored(&sealed, &["--txid", "4"]);
    assert!(code == Some(4) && found.is_none(), "{said}");
    assert_eq!(restored(&sealed, &[]).2, Some(sealed.state(5)));
}

/// Where another level has our batch, `repair` wrote its neighbour again, which was sound, and
/// `verify` found what it had found before.
#[test]
fn the_batch_of_a_fork_is_written_again_from_another_level() {
    // It goes on from our second state, or is of another database.
    for fork in [Sealed::fork(1, 2, 2), Sealed::new(2)] {
        let sealed = Sealed::new(1);
        for gone in [(1, 2, 4), (2, 2, 6), (0, 6, 6)] {
            fs::remove_file(sealed.path(id(gone))).expect("removed");
        }
        for txid in 2..=4 {
            let also = id((1, txid, txid));
            sealed.write(also, &sealed.content(also));
        }
        let (code, said) = command(&["verify", &sealed.url()]);
        assert_eq!(code, Some(0), "{said}");
        sealed.exchange(id((0, 3, 3)), &fork);
        let (code, said) = command(&["verify", &sealed.url()]);
        assert!(code == Some(3) && said.contains("damaged: 0/0000000000000003-"), "{said}");
        let (code, said) = command(&["repair", &sealed.url()]);
        assert!(code == Some(0) && said.contains("written again: 0/0000000000000003-"), "{said}");
        assert!(!said.contains("again: 0/0000000000000004-") && !said.contains("lost for good"), "{said}");
        let (code, said) = command(&["verify", &sealed.url()]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(restored(&sealed, &["--txid", "3"]).2, Some(sealed.state(3)));
    }
}

/// The files below level 0 lead to a state of which no batch is left, and another file ends there.
#[test]
fn a_run_of_batches_that_begins_with_a_state_of_a_fork_is_found() {
    let (sealed, fork) = (Sealed::new(1), Sealed::fork(1, 2, 2));
    for gone in [(0, 1, 1), (0, 2, 2), (0, 3, 3), (0, 4, 4), (2, 2, 6), (0, 6, 6)] {
        fs::remove_file(sealed.path(id(gone))).expect("removed");
    }
    assert_eq!(verify(&sealed).health(), Health::Sound);
    // It has pages of the fork, and the checksum of ours.
    let (odd, sum) =
        (id((1, 2, 4)), DatabaseChecksum::of(PageSize::new(512).expect("a size"), &sealed.state(4)));
    sealed.put(odd, &file_with(PageSize::new(512).expect("a size"), odd, &fork.content(odd), Some(sum)));
    let found = verify(&sealed);
    assert_eq!(found.health(), Health::Damaged, "{found:?}");
    assert!(found.conflicts.iter().any(|c| c.contains(&odd.to_string())), "{found:?}");
    // 1 and the image at 5.
    assert_eq!((found.states, found.restorable, found.last_restorable), (3, 2, Some(Txid(5))));
    assert_eq!(restored(&sealed, &["--txid", "4"]).0, Some(4));
}
