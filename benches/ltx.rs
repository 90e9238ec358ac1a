//! The LTX codec beside bare LZ4 on the same pages, on one core.
//!
//! What to read off: `encode/*/file` against `encode/*/lz4`, `decode/*/ranges` against
//! `decode/*/lz4`.

#![allow(clippy::disallowed_methods, reason = "the database is closed when it is read")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lsfast::base::clock::Millis;
use lsfast::base::crc64::Crc64;
use lsfast::base::{PageSize, Pgno, Txid};
use lsfast::ltx::{
    Decoder, FileCheck, FrameBlock, Header, LtxReader, Merge, Step, Tail, TailState, WalRange, decode_frames,
    encode_file, encode_file_into,
};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

/// Pages of one kind.
struct Sample {
    name: &'static str,
    page_size: PageSize,
    pages: Vec<Vec<u8>>,
}

impl Sample {
    fn lend(&self) -> impl ExactSizeIterator<Item = (Pgno, &[u8])> {
        self.pages.iter().enumerate().map(|(i, page)| (Pgno::new(i as u32 + 1).unwrap(), &page[..]))
    }

    fn bytes(&self) -> u64 {
        (self.pages.len() * self.page_size.bytes()) as u64
    }

    fn header(&self, min: u64) -> Header {
        let commit = self.pages.len() as u32;
        Header::new(self.page_size, commit, (Txid(min), Txid(min)), Millis(0), WalRange::default())
    }
}

/// A real database: words, ids and some blobs.
fn sqlite(page_size: u32) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(&format!(
        "PRAGMA page_size={page_size}; PRAGMA journal_mode=OFF;
         CREATE TABLE t(id INTEGER PRIMARY KEY, at TEXT, name TEXT, note TEXT, data BLOB);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 40000)
         INSERT INTO t SELECT i, datetime(1700000000 + i * 37, 'unixepoch'), 'customer ' || (i * 7919 % 5000),
           'order ' || i || ' was shipped to warehouse ' || (i % 17) || ', status ' || hex(randomblob(8)),
           randomblob(i % 90) FROM n;
         CREATE INDEX tn ON t(name, at);"
    ))
    .unwrap();
    drop(db);
    std::fs::read(path).unwrap()
}

fn samples() -> Vec<Sample> {
    let cut = |bytes: Vec<u8>, page_size: u32| -> Vec<Vec<u8>> {
        bytes.chunks_exact(page_size as usize).map(<[u8]>::to_vec).collect()
    };
    let mut noise = vec![0; 8 << 20];
    fastrand::Rng::with_seed(1).fill(&mut noise);
    let sample = |name, page_size, bytes| Sample {
        name,
        page_size: PageSize::new(page_size).unwrap(),
        pages: cut(bytes, page_size),
    };
    vec![
        sample("sqlite-4096", 4096, sqlite(4096)),
        sample("sqlite-65536", 65536, sqlite(65536)),
        sample("noise-4096", 4096, noise),
    ]
}

/// Nothing but LZ4, the blocks one after the other in `out`; their lengths.
fn bare_compress(sample: &Sample, table: &mut CompressTable, out: &mut [u8]) -> Vec<usize> {
    let (mut at, mut lens) = (0, Vec::with_capacity(sample.pages.len()));
    for page in &sample.pages {
        let len = compress_into_with_table(page, &mut out[at..], table).unwrap();
        lens.push(len);
        at += len;
    }
    lens
}

fn compress_room(sample: &Sample) -> Vec<u8> {
    vec![0; sample.pages.len() * get_maximum_output_size(sample.page_size.bytes())]
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    for sample in &samples() {
        group.throughput(Throughput::Bytes(sample.bytes()));
        let header = sample.header(1);
        let mut room = compress_room(sample);
        let mut table = CompressTable::default();
        group.bench_function(BenchmarkId::new("lz4", sample.name), |b| {
            b.iter(|| black_box(bare_compress(sample, &mut table, &mut room)));
        });
        let mut out = Vec::new();
        group.bench_function(BenchmarkId::new("file", sample.name), |b| {
            b.iter(|| encode_file_into(&header, sample.lend(), black_box(&mut out)).unwrap());
        });
        group.bench_function(BenchmarkId::new("file-new-buffer", sample.name), |b| {
            b.iter(|| black_box(encode_file(&header, sample.lend()).unwrap()));
        });
        let pages: Vec<_> = sample.lend().collect();
        group.bench_function(BenchmarkId::new("blocks-1M", sample.name), |b| {
            b.iter(|| {
                for block in pages.chunks((1 << 20) / sample.page_size.bytes()) {
                    black_box(FrameBlock::encode(sample.page_size, block.iter().copied()).unwrap());
                }
            });
        });
        group.throughput(Throughput::Bytes(sample.page_size.bytes() as u64));
        group.bench_function(BenchmarkId::new("one-page-file", sample.name), |b| {
            let mut rest = pages.iter().cycle();
            b.iter(|| {
                let &(n, page) = rest.next().unwrap();
                encode_file_into(&sample.header(2), [(n, page)], black_box(&mut out)).unwrap();
            });
        });
    }
    group.finish();
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for sample in &samples() {
        group.throughput(Throughput::Bytes(sample.bytes()));
        let mut room = compress_room(sample);
        let lens = bare_compress(sample, &mut CompressTable::default(), &mut room);
        let mut page = vec![0; sample.page_size.bytes()];
        let mut bare = |with_crc: bool| {
            let (mut at, mut crc) = (0, Crc64::new());
            for &len in &lens {
                decompress_into(&room[at..at + len], &mut page).unwrap();
                if with_crc {
                    crc.update(&page);
                }
                at += len;
            }
            crc.value()
        };
        group.bench_function(BenchmarkId::new("lz4", sample.name), |b| b.iter(|| black_box(bare(false))));
        group.bench_function(BenchmarkId::new("lz4+crc", sample.name), |b| b.iter(|| black_box(bare(true))));
        let file = encode_file(&sample.header(1), sample.lend()).unwrap();
        group.bench_function(BenchmarkId::new("stream", sample.name), |b| {
            b.iter(|| black_box(read_stream(&file)));
        });
        group.bench_function(BenchmarkId::new("ranges", sample.name), |b| {
            b.iter(|| black_box(read_ranges(&file)));
        });
    }
    group.finish();
}

fn read_stream(file: &[u8]) -> u64 {
    let (mut decoder, mut pages) = (Decoder::new(), 0);
    for mut input in file.chunks(64 << 10) {
        loop {
            match decoder.step(&mut input).unwrap() {
                Step::NeedInput => break,
                Step::Header => {}
                Step::Page(_) => pages += u64::from(decoder.page()[0]),
            }
        }
    }
    pages + decoder.finish().unwrap().file_checksum
}

fn read_ranges(file: &[u8]) -> u64 {
    let TailState::Parsed(tail) = Tail::parse(file.len() as u64, file).unwrap() else { panic!() };
    let mut check = FileCheck::new(file.first_chunk().unwrap()).unwrap();
    let mut pages = 0;
    for entries in tail.index.chunks(2048) {
        let sink = |_, page: &[u8]| pages += u64::from(page[0]);
        let part = decode_frames(check.header(), file, 0, entries, sink).unwrap();
        check.add(&part).unwrap();
    }
    pages + check.finish(&tail).unwrap().file_checksum
}

/// Eight files that have every eighth page, and one with all of them underneath.
fn merge(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge");
    for sample in &samples() {
        let mut files = vec![encode_file(&sample.header(1), sample.lend()).unwrap()];
        for i in 0..8 {
            let pages = sample.lend().filter(|(n, _)| n.get() % 8 == i);
            files.push(encode_file(&sample.header(u64::from(i) + 2), pages).unwrap());
        }
        group.throughput(Throughput::Bytes(2 * sample.bytes()));
        group.bench_function(BenchmarkId::new("read-alone", sample.name), |b| {
            b.iter(|| files.iter().map(|f| black_box(read_stream(f))).max());
        });
        group.bench_function(BenchmarkId::new("nine-files", sample.name), |b| {
            b.iter(|| {
                let sources = files.iter().map(|f| LtxReader::new(&f[..]).unwrap()).collect();
                let mut merge = Merge::new(sources).unwrap();
                let mut pages = 0;
                while let Some((_, page)) = merge.next_page().unwrap() {
                    pages += u64::from(page[0]);
                }
                black_box(pages)
            });
        });
    }
    group.finish();
}

/// The best of many short rounds, all variants in turn, so that a busy machine disturbs all alike.
fn side_by_side(what: &str, sample: &Sample, variants: &mut [(&str, &mut dyn FnMut())]) {
    let mut best = vec![f64::MAX; variants.len()];
    for _ in 0..60 {
        for ((_, run), best) in variants.iter_mut().zip(&mut best) {
            let start = std::time::Instant::now();
            run();
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    for ((name, _), seconds) in variants.iter().zip(&best) {
        let rate = sample.bytes() as f64 / seconds / 1e6;
        println!("{what}/{:<13} {name:<10} {rate:7.0} MB/s  {:.3} of lz4", sample.name, best[0] / seconds);
    }
}

/// Prints every variant as a fraction of bare LZ4, measured in one run.
fn ratios(_: &mut Criterion) {
    for sample in &samples() {
        let header = sample.header(1);
        let (mut room, mut table) = (compress_room(sample), CompressTable::default());
        let (mut out, pages) = (Vec::new(), sample.lend().collect::<Vec<_>>());
        let mut block = || {
            for block in pages.chunks((1 << 20) / sample.page_size.bytes()) {
                black_box(FrameBlock::encode(sample.page_size, block.iter().copied()).unwrap());
            }
        };
        side_by_side(
            "encode",
            sample,
            &mut [
                ("lz4", &mut || drop(black_box(bare_compress(sample, &mut table, &mut room)))),
                ("file", &mut || encode_file_into(&header, sample.lend(), black_box(&mut out)).unwrap()),
                ("blocks-1M", &mut block),
            ],
        );
        let lens = bare_compress(sample, &mut table, &mut room);
        let file = encode_file(&header, sample.lend()).unwrap();
        let mut page = vec![0; sample.page_size.bytes()];
        let mut bare = || {
            let mut at = 0;
            for &len in &lens {
                decompress_into(&room[at..at + len], black_box(&mut page)).unwrap();
                at += len;
            }
        };
        let mut crc = || {
            for page in &sample.pages {
                black_box(lsfast::base::crc64::crc64(page));
            }
        };
        side_by_side(
            "decode",
            sample,
            &mut [
                ("lz4", &mut bare),
                ("stream", &mut || _ = black_box(read_stream(&file))),
                ("ranges", &mut || _ = black_box(read_ranges(&file))),
                ("crc alone", &mut crc),
            ],
        );
    }
}

criterion_group!(benches, ratios, encode, decode, merge);
criterion_main!(benches);
