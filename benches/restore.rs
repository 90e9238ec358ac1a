//! Restore of a large database from a directory, beside `cp` and fsync of the same file, in the
//! same run.
//!
//! `cargo bench --bench restore`; `LSFAST_BENCH_MB` sets the size (1000), `LSFAST_BENCH_ROUNDS` the
//! rounds (5). The data lies in `target/bench-restore` and is kept for the next run.
#![allow(clippy::disallowed_methods, missing_docs, reason = "a bench opens whatever it likes")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lsfast::base::clock::Millis;
use lsfast::base::{Level, LtxId, PageSize, Pgno, Txid};
use lsfast::io::{Engine, IoChoice};
use lsfast::ltx::{Encoder, FrameBlock, Header, WalRange};
use lsfast::restore::{Integrity, RestoreOptions, Silent, run};
use lsfast::store::file::FileStore;
use lsfast::store::{PutOptions, Store};

const PAGE: PageSize = match PageSize::new(4096) {
    Ok(size) => size,
    Err(_) => unreachable!(),
};

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Rows of texts and numbers with an index, which LZ4 makes about half as long.
fn make_database(path: &Path, bytes: usize) {
    let mut db = rusqlite::Connection::open(path).expect("open");
    db.execute_batch(
        "pragma journal_mode=off; pragma synchronous=off; pragma page_size=4096;
         create table t(id integer primary key, a text, b blob, c real);",
    )
    .expect("schema");
    let mut random = fastrand::Rng::with_seed(1);
    let words: Vec<String> =
        (0..2000).map(|_| (0..random.usize(3..10)).map(|_| random.lowercase()).collect()).collect();
    while fs::metadata(path).expect("the database").len() < bytes as u64 * 9 / 10 {
        let tx = db.transaction().expect("begin");
        for _ in 0..20_000 {
            let mut word = || words[random.usize(..words.len())].as_str();
            let text = format!(
                r#"{{"customer":"{} {}","address":{{"street":"{} street","city":"{}"}},"note":"{} {} {}","state":"open"}}"#,
                word(),
                word(),
                word(),
                word(),
                word(),
                word(),
                word(),
            );
            let blob: Vec<u8> = (0..24).map(|_| random.u8(..)).collect();
            tx.execute("insert into t(a, b, c) values(?1, ?2, ?3)", (text, blob, random.f64()))
                .expect("insert");
        }
        tx.commit().expect("commit");
    }
    db.execute_batch("create index i on t(c); pragma journal_mode=wal;").expect("index");
}

async fn make_replica(database: &Path, store: &FileStore) {
    let bytes = fs::read(database).expect("the database");
    let pages = (bytes.len() / PAGE.bytes()) as u32;
    let id = LtxId::new(Level::SNAPSHOT, Txid(1), Txid(1)).expect("an id");
    let options = PutOptions { created: Millis(1), create_only: false };
    let header = Header::new(PAGE, pages, (Txid(1), Txid(1)), Millis(1), WalRange::default());
    let (mut encoder, first) = Encoder::new(header).expect("a header");
    let mut upload = store.upload(id, u64::MAX, options).await.expect("upload");
    upload.write(first).await.expect("write");
    let all = bytes.chunks_exact(PAGE.bytes()).zip(1..).map(|(p, n)| (Pgno::new(n).expect("a page"), p));
    let all: Vec<_> = all.filter(|(n, _)| *n != PAGE.lock_page()).collect();
    for some in all.chunks(1024) {
        let block = FrameBlock::encode(PAGE, some.iter().copied()).expect("a block");
        upload.write(encoder.push(block).expect("in order")).await.expect("write");
    }
    upload.write(encoder.finish().expect("whole").0).await.expect("write");
    upload.finish().await.expect("finish");
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("--reflink=never").args([from, to]).status().expect("cp").success());
    fs::File::open(to).and_then(|f| f.sync_all()).expect("fsync");
}

fn main() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench-restore");
    let (megabytes, rounds) = (number("LSFAST_BENCH_MB", 1000), number("LSFAST_BENCH_ROUNDS", 5));
    let place = dir.join(format!("{megabytes}"));
    let (database, replica, out) = (place.join("source.db"), place.join("replica"), place.join("out.db"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let store = FileStore::new(&replica);
    if !replica.exists() {
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).expect("a directory");
        make_database(&database, megabytes << 20);
        runtime.block_on(make_replica(&database, &store));
    }
    let size = fs::metadata(&database).expect("the database").len();
    let store: Arc<dyn Store> = Arc::new(store);
    let restore = |choice, integrity| {
        let engine = Engine::new(choice).expect("an engine");
        let options = RestoreOptions { force: true, integrity, ..RestoreOptions::new(&out) };
        let report = runtime.block_on(run(Arc::clone(&store), &engine, options, &Silent)).expect("restore");
        assert_eq!(report.output_bytes, size);
        (report.time, report.pages_time)
    };
    let variants = [
        ("restore, plain engine", Some((IoChoice::Plain, Integrity::None))),
        ("restore, auto engine", Some((IoChoice::Auto, Integrity::None))),
        ("restore, plain engine, quick check", Some((IoChoice::Plain, Integrity::Quick))),
        ("cp and fsync", None),
    ];
    let mut times = variants.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..rounds {
        for ((_, variant), times) in variants.iter().zip(&mut times) {
            let _ = fs::remove_file(&out);
            // What the last round left to be written must not slow down this one.
            assert!(Command::new("sync").status().expect("sync").success());
            let start = Instant::now();
            let pages = match *variant {
                Some((choice, integrity)) => restore(choice, integrity).1,
                None => {
                    copy(&database, &out);
                    start.elapsed()
                }
            };
            times.0.push(start.elapsed());
            times.1.push(pages);
        }
    }
    let megabytes = size as f64 / 1e6;
    println!("{megabytes:.0} MB, {rounds} rounds, medians");
    let reference = median(&mut times[3].0);
    for ((name, _), (whole, pages)) in variants.iter().zip(&mut times) {
        let (whole, pages) = (median(whole), median(pages));
        let (rate, ratio) = (megabytes / whole, whole / reference);
        println!("{name:<36} {whole:>7.3} s  {rate:>6.0} MB/s  {ratio:>5.2} of cp  (pages {pages:.3} s)");
    }
    let _ = fs::remove_file(&out);
}
