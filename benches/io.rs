//! Plain calls beside both kinds of engine, for each use that the program has for files.
//!
//! `cargo bench --bench io`. Files lie in `target/bench-io`; put the target directory on the disk
//! in question. Only ratios of one run mean something.
#![allow(clippy::disallowed_methods, missing_docs, reason = "a bench opens whatever it likes")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use lsfast::io::{Engine, File, IoChoice, IoKind, wait};
use memmap2::{Advice, Mmap};

const FRAME: usize = 24 + 4096;
const PIECE: usize = 256 << 10;
const FILE: usize = 128 << 20;
const DEPTH: usize = 16;

/// Requests under way.
type Flying<T> = VecDeque<Pin<Box<dyn Future<Output = (std::io::Result<T>, Vec<u8>)>>>>;

struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench-io");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory");
        Place(dir)
    }

    fn file(&self, name: &str, bytes: usize) -> File {
        let file = File::create_new(&self.0.join(name), 0o600).expect("a file");
        let piece: Vec<u8> = (0..1 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for at in (0..bytes).step_by(piece.len()) {
            file.pwrite_all(&piece[..piece.len().min(bytes - at)], at as u64).expect("written");
        }
        file.std().sync_all().expect("flushed");
        file
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn engines() -> Vec<(&'static str, Engine)> {
    let plain = Engine::new(IoChoice::Plain).expect("an engine");
    let auto = Engine::new(IoChoice::Auto).expect("an engine");
    match auto.kind() {
        IoKind::Uring => vec![("engine plain", plain), ("engine uring", auto)],
        IoKind::Plain => {
            eprintln!("{}", auto.fallback().unwrap_or_default());
            vec![("engine plain", plain)]
        }
    }
}

/// The tail of a log: a few frames that have just been written.
fn cached_tail(c: &mut Criterion) {
    let place = Place::new();
    let file = place.file("log", 1 << 20);
    for frames in [1, 3] {
        let len = frames * FRAME;
        let mut group = c.benchmark_group(format!("cached tail, {frames} frame(s)"));
        group.bench_function("pread", |b| {
            let mut buf = vec![0; len];
            b.iter(|| file.pread_exact(&mut buf, 32).expect("read"));
        });
        group.bench_function("mapped, copied", |b| {
            let (map, mut buf) = (mapped(&file), vec![0; len]);
            b.iter(|| buf.copy_from_slice(black_box(&map[32..32 + len])));
        });
        for (name, engine) in engines() {
            let mut room = Some(vec![0; len]);
            group.bench_function(format!("{name}, page cache first"), |b| {
                b.iter(|| room = Some(wait(engine.read_at(&file, room.take().expect("a buffer"), 32)).1));
            });
            group.bench_function(format!("{name}, queued"), |b| {
                b.iter(|| {
                    room = Some(wait(engine.read_at_queued(&file, room.take().expect("a buffer"), 32)).1);
                });
            });
        }
        group.finish();
    }
}

/// The file as memory. Nobody else has it, so nobody cuts it short.
#[allow(unsafe_code, reason = "the one way to map a file")]
fn mapped(file: &File) -> Mmap {
    // SAFETY: the file is this bench's own, and as long as the mapping until it is gone.
    unsafe { Mmap::map(file.std()) }.expect("mapped")
}

/// `work` says how long it took.
fn timed(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, work: &mut dyn FnMut() -> Duration) {
    group.bench_function(name, |b| b.iter_custom(|rounds| (0..rounds).map(|_| work()).sum()));
}

/// A database image: large reads of what the cache does not have.
fn cold_reads(c: &mut Criterion) {
    let place = Place::new();
    let file = place.file("database", FILE);
    let offsets = || (0..FILE as u64).step_by(PIECE);
    let mut group = c.benchmark_group("cold reads of 256 KiB");
    group.sample_size(10).throughput(Throughput::Bytes(FILE as u64));
    timed(&mut group, "pread", &mut || {
        file.forget_cached();
        let mut buf = vec![0; PIECE];
        let start = Instant::now();
        offsets().for_each(|at| file.pread_exact(&mut buf, at).expect("read"));
        start.elapsed()
    });
    timed(&mut group, "mapped, copied", &mut || {
        file.forget_cached();
        let mut buf = vec![0; PIECE];
        let start = Instant::now();
        let map = mapped(&file);
        map.advise(Advice::Sequential).expect("advised");
        map.chunks_exact(PIECE).for_each(|piece| black_box(&mut buf).copy_from_slice(piece));
        start.elapsed()
    });
    for (name, engine) in engines() {
        timed(&mut group, &format!("{name}, {DEPTH} deep"), &mut || {
            file.forget_cached();
            let (mut flying, start): (Flying<usize>, _) = (VecDeque::new(), Instant::now());
            for at in offsets() {
                let buf = match flying.len() {
                    DEPTH => wait(flying.pop_front().expect("not empty")).1,
                    _ => vec![0; PIECE],
                };
                flying.push_back(Box::pin(engine.read_at_queued(&file, buf, at)));
            }
            flying.into_iter().for_each(|f| drop(wait(f)));
            start.elapsed()
        });
    }
    group.finish();
}

/// A restore: large writes into a new file, without and with the flush.
fn writes(c: &mut Criterion) {
    let place = Place::new();
    for flush in [false, true] {
        let title = if flush { "writes of 1 MiB and fsync" } else { "writes of 1 MiB" };
        let mut group = c.benchmark_group(title);
        group.sample_size(10).throughput(Throughput::Bytes(FILE as u64));
        let mut n = 0;
        let mut fresh = move || {
            n += 1;
            let path = place_path(&format!("out-{flush}-{n}"));
            let file = File::create_new(&path, 0o600).expect("a file");
            std::fs::remove_file(path).expect("removed");
            file.std().set_len(FILE as u64).expect("sized");
            file
        };
        let offsets = || (0..FILE as u64).step_by(1 << 20);
        timed(&mut group, "pwrite", &mut || {
            let (file, buf, start) = (fresh(), vec![7; 1 << 20], Instant::now());
            offsets().for_each(|at| file.pwrite_all(&buf, at).expect("written"));
            if flush {
                file.std().sync_all().expect("flushed");
            }
            start.elapsed()
        });
        for (name, engine) in engines() {
            timed(&mut group, &format!("{name}, {DEPTH} deep"), &mut || {
                let (file, mut flying): (_, Flying<()>) = (fresh(), VecDeque::new());
                let start = Instant::now();
                for at in offsets() {
                    let buf = match flying.len() {
                        DEPTH => wait(flying.pop_front().expect("not empty")).1,
                        _ => vec![7; 1 << 20],
                    };
                    flying.push_back(Box::pin(engine.write_all_at(&file, buf, at)));
                }
                flying.into_iter().for_each(|f| wait(f).0.expect("written"));
                if flush {
                    wait(engine.sync_all(&file)).expect("flushed");
                }
                start.elapsed()
            });
        }
        group.finish();
    }
    drop(place);
}

fn place_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench-io").join(name)
}

/// A spooled batch: a short write and its flush.
fn flushes(c: &mut Criterion) {
    let place = Place::new();
    let file = place.file("spool", 1 << 20);
    let mut group = c.benchmark_group("write of 4 KiB and fdatasync");
    group.sample_size(20);
    group.bench_function("plain calls", |b| {
        let buf = vec![7; 4096];
        b.iter(|| {
            file.pwrite_all(&buf, 0).expect("written");
            file.std().sync_data().expect("flushed");
        });
    });
    for (name, engine) in engines() {
        let mut room = Some(vec![7; 4096]);
        group.bench_function(name, |b| {
            b.iter(|| {
                let (result, back) = wait(engine.write_all_at(&file, room.take().expect("a buffer"), 0));
                result.expect("written");
                room = Some(back);
                wait(engine.sync_data(&file)).expect("flushed");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, cached_tail, cold_reads, writes, flushes);
criterion_main!(benches);
