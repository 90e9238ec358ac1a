//! Restore points and times: by headers, whatever the times of the uploads are, with few requests.

use bytes::Bytes;
use lsfast::base::{Level, LtxId, Pgno};
use lsfast::ltx::{Header, WalRange, encode_file, times};
use lsfast::restore::{PointState, choose, points};
use lsfast::store::PutOptions;

use super::*;
use crate::support::fault::FaultServer;
use crate::support::lsfast as program;
use crate::support::s3::{
    S3Server, {self},
};

fn time(value: &Value) -> Option<Millis> {
    value["before_ms"].as_i64().map(Millis)
}

/// The vectors in a bucket: the times of the uploads are all those of this test.
fn bucket(replica: &Value) -> (S3Server, FaultServer, Arc<dyn Store>) {
    let server = S3Server::start();
    for file in list(replica, "files") {
        let from = text(file, "path");
        let [_, level, name]: [&str; 3] =
            from.split('/').collect::<Vec<_>>().try_into().expect("three parts");
        let to = server.bucket_dir().join("db").join(format!("000{level}")).join(name);
        fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
        fs::copy(path(text(replica, "dir")).join(from), to).expect("a copy");
    }
    let proxy = FaultServer::start(Some(server.addr));
    let store = Arc::new(s3::open(&s3::url(proxy.addr, "db"), &s3::options()));
    (server, proxy, store)
}

#[test]
fn times_come_from_headers_and_few_of_them() {
    let manifest = manifest();
    for replica in [&list(&manifest, "v05")[1], &list(&manifest, "v05")[4]] {
        let (_server, proxy, store) = bucket(replica);
        let runtime = runtime();
        for wanted in list(replica, "restores") {
            let Some(time) = time(wanted) else { continue };
            let before = proxy.seen().len();
            let choice = runtime.block_on(choose(&*store, Until::Before(time).into())).expect("a plan");
            let requests = proxy.seen().len() - before;
            let plan = list(wanted, "plan").last().and_then(Value::as_str).expect("a name").to_owned();
            let txid = choice.txid().expect("a TXID").to_string();
            assert!(plan.ends_with(&format!("-{txid}.ltx")), "{plan} {txid}");
            // A bisection, one of the earliest perhaps, the listing, and whether levels clash.
            assert!(requests <= 1 + 7 + 3 + 2, "{requests} requests");
            // On a busy machine an answer may be late, and the request is sent once more.
            let lookups = choice.lookups as usize;
            assert!((lookups..=lookups + 2).contains(&(requests - 1)), "{lookups} of {requests}");
        }
        let early = time(&list(replica, "refused_before_ms")[0]).expect("a time");
        let e = runtime.block_on(choose(&*store, Until::Before(early).into())).expect_err("too early");
        assert!(e.to_string().contains(&format!("can restore is of {early}")), "{e}");
    }
}

/// A list of times stands for all headers; a damaged one for none.
#[test]
fn a_list_of_times_saves_the_headers() {
    let manifest = manifest();
    let replica = &list(&manifest, "v05")[1];
    let (server, proxy, store) = bucket(replica);
    let entries: Vec<(Txid, Millis)> = list(replica, "files")
        .iter()
        .filter(|f| text(f, "path").starts_with("ltx/0/"))
        .map(|f| (Txid(number(f, "max_txid")), Millis(f["timestamp"].as_i64().expect("a time"))))
        .collect();
    let (id, bytes) = times::encode(&entries).expect("a list");
    let runtime = runtime();
    runtime.block_on(store.put_times(id, Bytes::from(bytes))).expect("put");
    let wanted = list(replica, "restores").iter().filter(|r| time(r).is_some()).nth(2).expect("a time");
    let requests = || {
        let before = proxy.seen().len();
        let choice = runtime.block_on(choose(&*store, Until::Before(time(wanted).expect("a time")).into()));
        let plan = list(wanted, "plan").last().and_then(Value::as_str).expect("a name").to_owned();
        assert!(plan.contains(&choice.expect("a plan").txid().expect("a TXID").to_string()));
        proxy.seen().len() - before
    };
    let few = requests();
    assert!(few <= 5, "{few}: one listing, one list of times, and three headers that levels must agree in");
    let before = proxy.seen().len();
    let (found, more) = runtime.block_on(points(&store, 50)).expect("points");
    assert_eq!((found.len(), more), (entries.len(), false));
    assert!(proxy.seen().len() - before <= 5);
    let path = server.bucket_dir().join("db/times").join(id.file_name());
    fs::write(&path, "damaged").expect("written");
    assert!(requests() > few);
}

#[test]
fn points_are_what_the_real_binary_restores() {
    let manifest = manifest();
    for replica in list(&manifest, "v05") {
        let dir = copy_of(replica);
        let store: Arc<dyn Store> = Arc::new(FileStore::new(dir.path()));
        let (found, more) = runtime().block_on(points(&store, 1000)).expect("points");
        assert!(!more);
        let mut txids: Vec<u64> = found
            .iter()
            .map(|p| match p.state {
                PointState::Ltx { txid, .. } => txid.0,
                PointState::Legacy(_) => panic!("no generation is there"),
            })
            .collect();
        txids.sort_unstable();
        let mut expected: Vec<u64> =
            list(replica, "restores").iter().filter_map(|r| r["txid"].as_u64()).collect();
        expected.sort_unstable();
        assert_eq!(txids, expected, "{}", text(replica, "dir"));
        assert!(found.is_sorted_by_key(|p| p.created));
        let (last, more) = runtime().block_on(points(&store, 2)).expect("points");
        assert_eq!((&last[..], more), (&found[found.len() - 2..], found.len() > 2));
    }
    let replica = &list(&manifest, "v03")[1];
    let dir = copy_of(replica);
    let store: Arc<dyn Store> = Arc::new(FileStore::new(dir.path()));
    let (found, _) = runtime().block_on(points(&store, 1000)).expect("points");
    assert_eq!(found.len(), 16, "one for each segment");
}

/// Old level-0 files are gone, and the only image was made long after the states that it holds.
#[test]
fn an_image_made_later_serves_a_time_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = FileStore::new(dir.path());
    let size = lsfast::base::PageSize::new(512).expect("a page size");
    let put = |id: LtxId, fill, at| {
        let header = Header::new(size, 1, (id.min, id.max), Millis(at), WalRange::default());
        let page = made::page(size, fill, 1);
        let file = encode_file(&header, [(Pgno::FIRST, &page[..])]).expect("a file");
        // As if it had been copied: the time of the file means nothing.
        let options = PutOptions { created: Millis(77), create_only: true };
        runtime().block_on(store.put(id, vec![Bytes::from(file)], options)).expect("put");
    };
    put(LtxId::raw(Txid(3)), 3, 3_000);
    put(LtxId::new(Level::SNAPSHOT, Txid(1), Txid(3)).expect("a name"), 3, 9_000);
    put(LtxId::raw(Txid(4)), 4, 10_000);
    let at = |time| runtime().block_on(choose(&store, Until::Before(Millis(time)).into()));
    let choice = at(5_000).expect("a plan");
    assert_eq!((choice.txid(), choice.is_newest), (Some(Txid(3)), false));
    assert!(at(3_000).is_err(), "strictly before");
    assert_eq!(at(4_000).expect("a plan").txid(), Some(Txid(3)));
    assert!(at(10_001).expect("a plan").is_newest);
}

fn says(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = program::command(args);
    command.current_dir(dir);
    let output = program::run(command);
    let out = String::from_utf8(output.stdout.clone()).expect("text");
    (output.status.code().expect("an exit code"), out, program::stderr(&output))
}

#[test]
fn commands() {
    let manifest = manifest();
    let replica = &list(&manifest, "v05")[1];
    let (store, work) = (copy_of(replica), tempfile::tempdir().expect("a directory"));
    let url = format!("file://{}", store.path().display());
    let ok = |args: &[&str]| {
        let (code, out, err) = says(work.path(), args);
        assert_eq!(code, 0, "{err}");
        out
    };
    let table = ok(&["points", &url, "--limit", "3"]);
    assert!(table.starts_with("older states are not shown"), "{table}");
    let last = table.lines().last().expect("a line");
    assert!(last.contains("0000000000000013"), "{table}");
    let json: Value = serde_json::from_str(&ok(&["points", "--json", &url])).expect("JSON");
    assert_eq!(list(&json, "points").len(), 19);

    let plan: Value =
        serde_json::from_str(&ok(&["restore", "--dry-run", "--json", "--txid", "5", &url])).expect("JSON");
    assert_eq!(text(&plan, "txid"), "0000000000000005");
    let wanted = list(replica, "restores").iter().find(|r| r["txid"] == 5).expect("a restore");
    assert_eq!(list(&plan, "files").len(), list(wanted, "plan").len());
    assert!(ok(&["restore", "--dry-run", &url]).contains("TXID 0000000000000013 of 2026-11-21T"));
    assert!(others(work.path(), "").is_empty());

    let said = ok(&["restore", "-o", "a.db", "--timestamp", "2030-01-01T00:00:00Z", &url]);
    assert!(said.contains("nothing was stored between it and 2030-01-01T00:00:00Z"), "{said}");
    ok(&["restore", "-o", "b.db", "--txid", "0000000000000005", &url]);
    assert_eq!(sha256(&fs::read(work.path().join("b.db")).expect("the output")), text(wanted, "sha256"));
    let (code, _, err) = says(work.path(), &["restore", "-o", "c.db", "--timestamp", "1h ago", &url]);
    assert!(code == 0 || err.contains("no state of"), "{err}");
    let (code, _, err) = says(work.path(), &["restore", "-o", "d.db", "--timestamp", "soon", &url]);
    assert!(code == 2 && err.contains("is not a time"), "{err}");
    let (code, _, err) = says(work.path(), &["restore", "-o", "d.db", "--txid", "99", &url]);
    assert!(code == 1 && err.contains("TXID 0000000000000099 is not available"), "{err}");

    let old = copy_of(&list(&manifest, "v03")[1]);
    let url = format!("file://{}", old.path().display());
    let table = ok(&["generations", &url]);
    assert!(table.starts_with("generation        lag"), "{table}");
    assert_eq!(table.lines().count(), 3);
    assert_eq!(ok(&["snapshots", &url]).lines().count(), 3);
    let wal = ok(&["wal", &url, "--generation", "1608b9b89303d50f"]);
    assert!(wal.lines().count() == 4 && wal.contains("00002050"), "{wal}");
    let json: Value = serde_json::from_str(&ok(&["wal", "--json", &url])).expect("JSON");
    assert_eq!(list(&json, "wal").len(), 16);
    let plan = ok(&["restore", "--dry-run", "--generation", "237e1941487e92f5", "--index", "2", &url]);
    assert!(plan.contains("generation 237e1941487e92f5, index 00000002,"), "{plan}");
    let (code, _, err) = says(work.path(), &["restore", "-o", "d.db", "--txid", "1", &url]);
    assert!(code == 1 && err.contains("which have no TXIDs"), "{err}");
    let (code, _, err) = says(work.path(), &["snapshots", &format!("file://{}", store.path().display())]);
    assert!(code == 1 && err.contains("`lsfast points` lists"), "{err}");
}
