//! The frame checksum by definition and by dot products, and the walk over a whole log.
//!
//! `cargo bench --bench wal`. Only ratios of one run mean something.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lsfast::base::PageSize;
use lsfast::wal::checksum::{
    Sum, {self},
};
use lsfast::wal::format::{HEADER_BYTES, MAGIC, VERSION, WalHeader};
use lsfast::wal::frames::{Chain, UNLIMITED};

/// Fits into the second-level cache of any processor of the last ten years.
const L2_BYTES: usize = 256 << 10;
const LARGE_BYTES: usize = 16 << 20;
const LOG_BYTES: usize = 64 << 20;

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    bytes
}

fn checksums(c: &mut Criterion) {
    for (name, len) in [("L2", L2_BYTES), ("16MB", LARGE_BYTES)] {
        let bytes = noise(len);
        let mut group = c.benchmark_group(format!("checksum/{name}"));
        group.throughput(Throughput::Bytes(len as u64));
        for page in [512, 4096, 65536] {
            type Function = fn(bool, Sum, &[u8]) -> Sum;
            let functions: [(&str, Function); 2] = [("plain", checksum::plain), ("sum", checksum::sum)];
            for (function, f) in functions {
                group.bench_with_input(BenchmarkId::new(function, page), &page, |b, &page| {
                    b.iter(|| {
                        bytes.chunks_exact(page).fold(Sum::ZERO, |s, page| f(black_box(false), s, page))
                    });
                });
            }
        }
        group.finish();
    }
}

/// A log of commits of 8 frames.
fn log(page_size: PageSize, big_endian: bool) -> Vec<u8> {
    let fields = [MAGIC | u32::from(big_endian), VERSION, page_size.get(), 0, 7, 8];
    let mut log: Vec<u8> = fields.iter().flat_map(|f| f.to_be_bytes()).collect();
    let mut sum = checksum::sum(big_endian, Sum::ZERO, &log);
    log.extend(sum.to_be_bytes());
    let page = noise(page_size.bytes());
    for no in 1u32.. {
        if log.len() >= LOG_BYTES {
            break;
        }
        let head = [no, if no.is_multiple_of(8) { no } else { 0 }, 7, 8].map(u32::to_be_bytes);
        sum = checksum::sum(big_endian, sum, &head.as_flattened()[..8]);
        sum = checksum::sum(big_endian, sum, &page);
        log.extend(head.as_flattened());
        log.extend(sum.to_be_bytes());
        log.extend(&page);
    }
    log
}

fn scans(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    group.throughput(Throughput::Bytes(LOG_BYTES as u64)).sample_size(20);
    for page in [512, 4096, 65536] {
        for big_endian in [false, true] {
            let log = log(PageSize::new(page).expect("a page size"), big_endian);
            let header = WalHeader::parse(&log).expect("a header");
            let order = if big_endian { "big" } else { "little" };
            group.bench_function(BenchmarkId::new(order, page), |b| {
                b.iter(|| {
                    let mut scan = Chain::start(&header).scan(black_box(&log[HEADER_BYTES..]), UNLIMITED);
                    assert!(scan.by_ref().map(|run| run.frames().len()).sum::<usize>() > 1_000 - 8);
                    scan.finish().after_valid
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, checksums, scans);
criterion_main!(benches);
