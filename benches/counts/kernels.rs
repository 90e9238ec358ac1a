//! The inner loops, each with input that is the same on every machine.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method};
use lsfast::base::clock::Millis;
use lsfast::base::crc64::crc64;
use lsfast::base::{LtxId, PageSize, Pgno, Txid};
use lsfast::config::{Credentials, Secret};
use lsfast::ltx::{
    Decoder, FileCheck, Header, LtxReader, Merge, Step, Tail, TailState, WalRange, decode_frames,
    encode_file, encode_file_into,
};
use lsfast::replicate::state::page_hashes::hash_page;
use lsfast::store::s3::sign::{Signed, Signer, SigningKey, sign};
use lsfast::store::s3::xml;
use lsfast::wal::checksum::{
    Sum, {self},
};
use lsfast::wal::format::{HEADER_BYTES, MAGIC, VERSION, WalHeader};
use lsfast::wal::frames::{Chain, UNLIMITED};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use crate::allocator;
use crate::bounds::Measured;

const PAGE_BYTES: usize = 4096;
const PAGES: usize = 256;
/// Files over the one that has all pages; each has every so-manieth page.
const FILES_OVER: u32 = 8;
const ENTRIES: u64 = 1_000;
const MIB: usize = 1 << 20;

/// One of them.
pub struct Kernel {
    pub name: &'static str,
    /// What one run does, in pages, frames, MiB, requests or entries.
    pub units: usize,
    pub run: Box<dyn FnMut()>,
}

fn kernel(name: &'static str, units: usize, run: impl FnMut() + 'static) -> Kernel {
    Kernel { name, units, run: Box::new(run) }
}

/// Numbers that no version of a library changes.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

/// Rows of words, numbers and some noise, as the leaves of a table have them.
fn pages() -> Vec<Vec<u8>> {
    const WORDS: [&str; 8] =
        ["customer", "order", "was shipped to", "warehouse", "status", "2026-11-22", "open", "paid"];
    let mut numbers = Numbers(1);
    let page = |_| {
        let mut page = Vec::with_capacity(PAGE_BYTES + 64);
        while page.len() < PAGE_BYTES {
            for _ in 0..6 {
                page.extend(WORDS[numbers.next() as usize % WORDS.len()].as_bytes());
                page.extend(format!(" {} ", numbers.next() % 5_000).as_bytes());
            }
            page.extend((0..numbers.next() % 60).map(|_| numbers.next() as u8));
        }
        page.truncate(PAGE_BYTES);
        page
    };
    (0..PAGES).map(page).collect()
}

fn page_size() -> PageSize {
    PageSize::new(PAGE_BYTES as u32).expect("a page size")
}

fn header(txid: u64) -> Header {
    Header::new(page_size(), PAGES as u32, (Txid(txid), Txid(txid)), Millis(0), WalRange::default())
}

fn numbered(pages: &[Vec<u8>]) -> impl ExactSizeIterator<Item = (Pgno, &[u8])> {
    pages.iter().enumerate().map(|(i, page)| (Pgno::new(i as u32 + 1).expect("not 0"), &page[..]))
}

/// The log of commits of 8 frames.
fn log(pages: &[Vec<u8>]) -> Vec<u8> {
    let fields = [MAGIC, VERSION, PAGE_BYTES as u32, 0, 7, 8];
    let mut log: Vec<u8> = fields.iter().flat_map(|f| f.to_be_bytes()).collect();
    let mut sum = checksum::sum(false, Sum::ZERO, &log);
    log.extend(sum.to_be_bytes());
    for (no, page) in (1u32..).zip(pages) {
        let head = [no, if no.is_multiple_of(8) { no } else { 0 }, 7, 8].map(u32::to_be_bytes);
        sum = checksum::sum(false, sum, &head.as_flattened()[..8]);
        sum = checksum::sum(false, sum, page);
        log.extend(head.as_flattened());
        log.extend(sum.to_be_bytes());
        log.extend(page);
    }
    log
}

fn read_stream(file: &[u8]) -> u64 {
    let (mut decoder, mut sum) = (Decoder::new(), 0);
    for mut input in file.chunks(64 << 10) {
        loop {
            match decoder.step(&mut input).expect("a file") {
                Step::NeedInput => break,
                Step::Header => {}
                Step::Page(_) => sum += u64::from(decoder.page()[0]),
            }
        }
    }
    sum + decoder.finish().expect("a file").file_checksum
}

fn read_ranges(file: &[u8]) -> u64 {
    let TailState::Parsed(tail) = Tail::parse(file.len() as u64, file).expect("a file") else {
        panic!("the whole file is there")
    };
    let mut check = FileCheck::new(file.first_chunk().expect("a header")).expect("a header");
    let mut sum = 0;
    for entries in tail.index.chunks(PAGES / 4) {
        let sink = |_, page: &[u8]| sum += u64::from(page[0]);
        let part = decode_frames(check.header(), file, 0, entries, sink).expect("frames");
        check.add(&part).expect("frames");
    }
    sum + check.finish(&tail).expect("a file").file_checksum
}

fn merged(files: &[Vec<u8>]) -> u64 {
    let sources = files.iter().map(|f| LtxReader::new(&f[..]).expect("a file")).collect();
    let mut merge = Merge::new(sources).expect("files");
    let mut sum = 0;
    while let Some((_, page)) = merge.next_page().expect("files") {
        sum += u64::from(page[0]);
    }
    sum
}

fn listing() -> String {
    let mut page = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
    for n in 1..=ENTRIES {
        let name = LtxId::raw(Txid(n)).file_name();
        page += &format!(
            "<Contents><Key>db/0000/{name}</Key><LastModified>2026-11-21T21:14:10.000Z</LastModified>\
             <ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>434234</Size>\
             <StorageClass>STANDARD</StorageClass></Contents>"
        );
    }
    page + "</ListBucketResult>"
}

fn signature() -> impl FnMut() {
    const HOST: &str = "bucket.s3.eu-central-1.amazonaws.com";
    const PATH: &str = "/db/0000/0000000000000001-0000000000000001.ltx";
    let credentials = Credentials {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        session_token: None,
        origin: "a count".into(),
        expires: None,
    };
    let mut given = HeaderMap::new();
    given.insert("content-type", HeaderValue::from_static("application/octet-stream"));
    given.insert("x-amz-checksum-crc32", HeaderValue::from_static("y/Q5Jg=="));
    given.insert("x-amz-meta-litestream-timestamp", HeaderValue::from_static("2026-11-21T21:14:10.801Z"));
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
    let kept = SigningKey::default();
    move || {
        let mut headers = given.clone();
        let signer = Signer { credentials: &credentials, region: "eu-central-1", time, kept: &kept };
        sign(signer, &Method::PUT, black_box((HOST, PATH)), &mut headers, Signed::Unsigned)
            .expect("a signature");
        black_box(headers);
    }
}

/// Blocks one after the other; their lengths.
fn compress(pages: &[Vec<u8>], table: &mut CompressTable, room: &mut [u8]) -> Vec<usize> {
    let mut at = 0;
    let block = |page: &Vec<u8>| {
        let len = compress_into_with_table(page, &mut room[at..], table).expect("room");
        at += len;
        len
    };
    pages.iter().map(block).collect()
}

/// What each allocates, once its buffers have grown.
pub fn allocations() -> Vec<Measured> {
    let mut calls = BTreeMap::new();
    for mut kernel in all() {
        (kernel.run)();
        let before = allocator::asked().calls;
        (kernel.run)();
        calls.insert(kernel.name, (allocator::asked().calls - before) as f64);
    }
    let row = |name, of: &str| Measured { part: "allocations", name, value: calls[of] };
    vec![
        row("WAL scan: allocations per log of 256 frames", "scan"),
        row("LTX encode: allocations per file of 256 pages", "encode"),
        row("LTX encode: allocations per file of 1 page", "encode one page"),
        row("LTX decode: allocations per file of 256 pages", "decode"),
        row("LTX decode by ranges: allocations per file of 256 pages", "decode ranges"),
        row("merge: allocations per 9 files with 512 pages", "merge"),
        row("signature: allocations per request", "sign"),
        row("listing: allocations per 1,000 entries", "list"),
    ]
}

/// All, in the order in which they are shown.
pub fn all() -> Vec<Kernel> {
    let mut kernels = of_the_log();
    kernels.extend(of_files());
    kernels.extend(of_requests());
    kernels
}

fn of_the_log() -> Vec<Kernel> {
    let (flat, log) = (pages().concat(), log(&pages()));
    assert_eq!(flat.len(), MIB);
    let (plain, summed) = (flat.clone(), flat);
    let fold = |bytes: &[u8], f: fn(bool, Sum, &[u8]) -> Sum| {
        black_box(bytes.chunks_exact(PAGE_BYTES).fold(Sum::ZERO, |s, page| f(black_box(false), s, page)));
    };
    let scan = move || {
        let header = WalHeader::parse(&log).expect("a header");
        let mut scan = Chain::start(&header).scan(black_box(&log[HEADER_BYTES..]), UNLIMITED);
        assert_eq!(scan.by_ref().map(|run| run.frames().len()).sum::<usize>(), PAGES);
        black_box(scan.finish().after_valid);
    };
    vec![
        kernel("plain loop", 1, move || fold(&plain, checksum::plain)),
        kernel("checksum", 1, move || fold(&summed, checksum::sum)),
        kernel("scan", PAGES, scan),
    ]
}

fn of_files() -> Vec<Kernel> {
    let pages = pages();
    let mut room = vec![0; PAGES * get_maximum_output_size(PAGE_BYTES)];
    let lens = compress(&pages, &mut CompressTable::default(), &mut room);
    let (blocks, mut page, mut table) = (room.clone(), vec![0; PAGE_BYTES], CompressTable::default());
    let bare_decompress = move || {
        let mut at = 0;
        for &len in &lens {
            decompress_into(&blocks[at..at + len], black_box(&mut page)).expect("a page");
            at += len;
        }
    };
    let file = encode_file(&header(1), numbered(&pages)).expect("a file");
    let mut files = vec![file.clone()];
    for i in 0..FILES_OVER {
        let some = numbered(&pages).filter(|(n, _)| n.get() % FILES_OVER == i);
        files.push(encode_file(&header(u64::from(i) + 2), some).expect("a file"));
    }
    let (alone, by_ranges, hashed) = (files.clone(), file.clone(), pages.clone());
    let (given, small, flat) = (pages.clone(), pages.clone(), pages.concat());
    let (mut out, mut out_small) = (Vec::new(), Vec::new());
    let one_page = move || {
        let page = [(Pgno::new(7).expect("not 0"), &small[6][..])];
        encode_file_into(&header(2), page, black_box(&mut out_small)).expect("a file");
    };
    vec![
        kernel("bare compress", PAGES, move || drop(black_box(compress(&given, &mut table, &mut room)))),
        kernel("encode", PAGES, {
            let pages = pages.clone();
            move || encode_file_into(&header(1), numbered(&pages), black_box(&mut out)).expect("a file")
        }),
        kernel("encode one page", 1, one_page),
        kernel("bare decompress", PAGES, bare_decompress),
        kernel("decode", PAGES, move || _ = black_box(read_stream(&file))),
        kernel("decode ranges", PAGES, move || _ = black_box(read_ranges(&by_ranges))),
        kernel("read alone", 2 * PAGES, move || alone.iter().for_each(|f| _ = black_box(read_stream(f)))),
        kernel("merge", 2 * PAGES, move || _ = black_box(merged(&files))),
        kernel("page hash", PAGES, move || {
            hashed.iter().for_each(|p| _ = black_box(hash_page(1, Pgno::FIRST, p)));
        }),
        kernel("crc64", 1, move || _ = black_box(crc64(&flat))),
    ]
}

fn of_requests() -> Vec<Kernel> {
    let listing = listing();
    let list = move || _ = black_box(xml::list(black_box(listing.as_bytes())).expect("a listing"));
    vec![kernel("sign", 1, signature()), kernel("list", ENTRIES as usize, list)]
}
