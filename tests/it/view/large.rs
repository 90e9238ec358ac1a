//! A database of 10 GB, of which a lookup reads little.
//!
//! Its image is not stored anywhere: each frame is made when it is asked for. It is a real b-tree
//! of four levels with 2.6 million rows, one on each leaf. The lengths of the frames vary as those
//! of compressed pages do.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lsfast::base::clock::Millis;
use lsfast::base::{Level, LtxId, PageSize, Pgno, Txid};
use lsfast::ltx::{Header, WalRange, encode_file};
use lsfast::store::{BoxFuture, Entry, FileStore, Forward, Listed, Listing, Part, Result, Store};
use lsfast::view::vfs::Mount;
use lsfast::view::{At, Replica};

use super::counting::Counting;

const PAGE: usize = 4096;
/// Children of an interior page.
const FAN: u32 = 371;
const LEAVES: u32 = 2_600_000;
/// The page with the lock bytes, which has no frame.
const LOCK: u32 = 0x4000_0000 / PAGE as u32 + 1;

/// What a page is, by its place in the order of pages without the lock page.
enum Page {
    Schema,
    /// Level above the leaves, and number on that level.
    Interior(u32, u32),
    Leaf(u32),
}

/// Pages of a group: an interior page of level 1 and its leaves.
const GROUP: u32 = FAN + 1;
const GROUPS: u32 = LEAVES.div_ceil(FAN);
/// Pages of level 2.
const UPPER: u32 = GROUPS.div_ceil(FAN);
/// Page 1, the root, level 2, then the groups.
const FIRST_GROUP: u32 = 2 + UPPER;

const fn number(place: u32) -> u32 {
    if place + 1 < LOCK { place + 1 } else { place + 2 }
}

fn page_at(place: u32) -> Page {
    match place {
        0 => Page::Schema,
        1 => Page::Interior(3, 0),
        n if n < FIRST_GROUP => Page::Interior(2, n - 2),
        n => match ((n - FIRST_GROUP) / GROUP, (n - FIRST_GROUP) % GROUP) {
            (group, 0) => Page::Interior(1, group),
            (group, at) => Page::Leaf(group * FAN + at - 1),
        },
    }
}

/// Pages with a frame.
const fn pages() -> u32 {
    FIRST_GROUP + GROUPS + LEAVES
}

/// Bytes of the body of a row. Those of the first half are longer.
fn body_len(leaf: u32) -> usize {
    let noise = leaf.wrapping_mul(0x9e37_79b1) >> 16;
    if leaf < LEAVES / 2 { 1_500 + noise as usize % 2_400 } else { 200 + noise as usize % 900 }
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    let mut bytes = vec![(n & 0x7f) as u8];
    while n > 0x7f {
        n >>= 7;
        bytes.push((n & 0x7f) as u8 | 0x80);
    }
    out.extend(bytes.iter().rev());
}

/// Head and tail of a page; all between is zero.
fn parts(place: u32) -> (Vec<u8>, Vec<u8>) {
    match page_at(place) {
        Page::Schema => schema(),
        Page::Interior(level, n) => {
            let (count, first, below) = match level {
                3 => (UPPER, 0, FAN * FAN),
                2 => (FAN.min(GROUPS - n * FAN), n * FAN, FAN),
                _ => (FAN.min(LEAVES - n * FAN), n * FAN, 1),
            };
            let child = |at: u32| match level {
                3 => number(2 + at),
                2 => number(FIRST_GROUP + (first + at) * GROUP),
                _ => number(FIRST_GROUP + n * GROUP + 1 + at),
            };
            let (mut cells, mut starts) = (Vec::new(), Vec::new());
            for at in 0..count - 1 {
                starts.push(cells.len());
                cells.extend(child(at).to_be_bytes());
                varint(u64::from((first + at + 1) * below - 1), &mut cells);
            }
            let begin = PAGE - cells.len();
            let mut head = vec![5, 0, 0];
            head.extend((count as u16 - 1).to_be_bytes());
            head.extend((begin as u16).to_be_bytes());
            head.push(0);
            head.extend(child(count - 1).to_be_bytes());
            starts.iter().for_each(|at| head.extend(((begin + at) as u16).to_be_bytes()));
            (head, cells)
        }
        Page::Leaf(n) => {
            let len = body_len(n);
            let mut record = vec![];
            varint(2 * len as u64 + 12, &mut record);
            record.splice(0..0, [record.len() as u8 + 2, 0]);
            record.extend((0..len).map(|at| (n as usize + at) as u8));
            let mut cell = vec![];
            varint(record.len() as u64, &mut cell);
            varint(u64::from(n), &mut cell);
            cell.extend(record);
            (leaf_head(&cell), cell)
        }
    }
}

fn leaf_head(cell: &[u8]) -> Vec<u8> {
    let begin = ((PAGE - cell.len()) as u16).to_be_bytes();
    vec![13, 0, 0, 0, 1, begin[0], begin[1], 0, begin[0], begin[1]]
}

fn schema() -> (Vec<u8>, Vec<u8>) {
    let sql = "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)";
    let text = |s: &str| 13 + 2 * s.len() as u8;
    let mut record = vec![6, text("table"), text("t"), text("t"), 1, text(sql)];
    record.extend(b"tablett\x02");
    record.extend(sql.as_bytes());
    let mut cell = vec![record.len() as u8, 1];
    cell.extend(record);
    let mut head = b"SQLite format 3\0\x10\0\x02\x02\0\x40\x20\x20\0\0\0\x01".to_vec();
    head.extend(number(pages() - 1).to_be_bytes());
    head.resize(100, 0);
    for (at, value) in [(43, 1), (47, 4), (59, 1), (95, 1)] {
        head[at] = value;
    }
    head.extend(leaf_head(&cell));
    (head, cell)
}

/// Bytes of a head as it is stored, with zeros at its end.
fn stored_head(len: usize) -> usize {
    // A match copies what is there, so at least one zero is stored.
    (len + 1).max(15)
}

/// Appends a length of an LZ4 block that does not fit its token.
fn length(mut n: usize, out: &mut Vec<u8>) {
    n -= 15;
    while n >= 255 {
        out.push(255);
        n -= 255;
    }
    out.push(n as u8);
}

/// One frame: its header, and an LZ4 block of the head, a run of zeros, and the tail.
fn frame(place: u32) -> Vec<u8> {
    let (mut head, tail) = parts(place);
    head.resize(stored_head(head.len()), 0);
    let zeros = PAGE - head.len() - tail.len();
    let mut block = vec![0xff];
    length(head.len(), &mut block);
    block.extend(&head);
    block.extend([1, 0]);
    length(zeros - 4, &mut block);
    block.push(0xf0);
    length(tail.len(), &mut block);
    block.extend(tail);
    let mut out = number(place).to_be_bytes().to_vec();
    out.extend([0, 1]);
    out.extend((block.len() as u32).to_be_bytes());
    out.extend(block);
    out
}

/// The length of a frame, without making it.
fn frame_len(place: u32) -> u64 {
    let Page::Leaf(n) = page_at(place) else { return frame(place).len() as u64 };
    let varint_len = |n: usize| (usize::BITS - n.max(1).leading_zeros()).div_ceil(7) as usize;
    let body = body_len(n);
    let record = 2 + varint_len(2 * body + 12) + body;
    let tail = varint_len(record) + varint_len(n as usize) + record;
    let head = stored_head(10);
    let extra = |n: usize| (n - 15) / 255 + 1;
    let zeros = PAGE - head - tail;
    (10 + 1 + extra(head) + head + 2 + extra(zeros - 4) + 1 + extra(tail) + tail) as u64
}

/// The image of TXID 1, made where it is asked for, and what is stored besides.
#[derive(Debug)]
struct Image {
    inner: FileStore,
    id: LtxId,
    header: Vec<u8>,
    /// Where each frame begins, and where the last ends.
    offsets: Vec<u64>,
    /// The bytes after the frames.
    end: Vec<u8>,
}

fn leb(mut n: u64, out: &mut Vec<u8>) {
    while n > 0x7f {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn header(commit: u32, txid: u64) -> Header {
    let page_size = PageSize::new(PAGE as u32).expect("a page size");
    Header::new(page_size, commit, (Txid(txid), Txid(txid)), Millis(1_000 * txid as i64), WalRange::default())
}

impl Image {
    fn new(inner: FileStore) -> Image {
        let id = LtxId::new(Level::SNAPSHOT, Txid(1), Txid(1)).expect("an id");
        let header = header(number(pages() - 1), 1).to_bytes().to_vec();
        let (mut offsets, mut end) = (vec![header.len() as u64], vec![0; 6]);
        for place in 0..pages() {
            let (offset, len) = (*offsets.last().expect("one"), frame_len(place));
            [u64::from(number(place)), offset, len].into_iter().for_each(|n| leb(n, &mut end));
            offsets.push(offset + len);
        }
        end.push(0);
        end.extend((end.len() as u64 - 6).to_be_bytes());
        // Nobody reads all of the file, so nobody compares its checksum.
        end.extend([0; 8]);
        end.extend((1u64 << 63).to_be_bytes());
        Image { inner, id, header, offsets, end }
    }

    fn len(&self) -> u64 {
        self.offsets.last().expect("an end") + self.end.len() as u64
    }

    fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        let frames_end = *self.offsets.last().expect("an end");
        let mut at = range.start;
        while at < range.end {
            let (piece, start) = if at < self.offsets[0] {
                (self.header.clone(), 0)
            } else if at >= frames_end {
                (self.end.clone(), frames_end)
            } else {
                let place = self.offsets.partition_point(|offset| *offset <= at) - 1;
                (frame(place as u32), self.offsets[place])
            };
            let from = (at - start) as usize;
            let to = piece.len().min((range.end - start) as usize);
            out.extend(&piece[from..to]);
            at = start + to as u64;
        }
        out
    }
}

impl Forward for Image {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn list_all<'a>(&'a self) -> BoxFuture<'a, Result<Listing>> {
        Box::pin(async move {
            let mut listing = self.inner.list_all().await?;
            listing.files.push(Entry { id: self.id, size: self.len(), modified: Millis(1_000) });
            Ok(listing)
        })
    }

    fn list_part<'a>(&'a self, _: Part) -> BoxFuture<'a, Result<Option<Listed>>> {
        Box::pin(async move { Ok(Some(Listed { listing: Forward::list_all(self).await?, more: false })) })
    }

    fn get<'a>(&'a self, id: LtxId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        if id == self.id {
            return Box::pin(async move { Ok(Bytes::from(self.bytes(range))) });
        }
        self.inner.get(id, range)
    }
}

/// The image, and a batch after it that replaces page 1.
fn store(dir: &std::path::Path) -> Arc<Counting> {
    let (head, tail) = schema();
    let mut first = head;
    first.resize(PAGE - tail.len(), 0);
    first.extend(tail);
    let commit = number(pages() - 1);
    let file = encode_file(&header(commit, 2), [(Pgno::FIRST, &first[..])]).expect("a file");
    let folder = dir.join("ltx/0");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("0000000000000002-0000000000000002.ltx"), file).expect("written");
    Counting::new(Arc::new(Image::new(FileStore::new(dir))))
}

/// Opening the database and one lookup by primary key cost at most 12 requests and 2 MB.
#[test]
fn a_lookup_in_10_gb_costs_12_requests_and_2_mb() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = store(dir.path());
    let gigabytes = u64::from(number(pages() - 1)) * PAGE as u64 / 1_000_000_000;
    assert!(gigabytes >= 10, "{gigabytes} GB");
    let mut most = (0, 0);
    for id in [0, 1, 262_000, 799_999, LEAVES / 2, 1_300_001, 2_097_153, LEAVES - 1] {
        let replica = Replica::new(Arc::clone(&store) as Arc<dyn Store>).expect("threads");
        let mount = Mount::new(&replica, At::Newest).expect("a mount");
        let connection = mount.connect().expect("a connection");
        let found = connection
            .query_row("SELECT length(body), hex(substr(body, 1, 1)) FROM t WHERE id = ?1", [id], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            })
            .unwrap_or_else(|e| panic!("{id}: {e}: {:?}", mount.error()));
        assert_eq!(found, (body_len(id) as i64, format!("{:02X}", id as u8)), "{id}");
        let (requests, bytes) = store.take();
        println!("row {id}: {requests} requests, {bytes} bytes");
        assert!(requests <= 12 && bytes <= 2_000_000, "row {id}: {requests} requests, {bytes} bytes");
        most = (most.0.max(requests), most.1.max(bytes));
    }
    assert!(most.0 > 4, "the store counts");
}

/// A scan reads ahead: far fewer requests than pages, and hardly more bytes than the frames have.
#[test]
fn a_scan_reads_ahead() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = store(dir.path());
    let replica = Replica::new(Arc::clone(&store) as Arc<dyn Store>).expect("threads");
    let mount = Mount::new(&replica, At::Newest).expect("a mount");
    let connection = mount.connect().expect("a connection");
    let sum = "SELECT sum(length(body)) FROM t WHERE id BETWEEN 1000000 AND 1003999";
    let found: i64 = connection.query_row(sum, [], |row| row.get(0)).expect("a sum");
    let found = found.cast_unsigned();
    assert_eq!(found, (1_000_000..1_004_000).map(|n| body_len(n) as u64).sum::<u64>());
    let (requests, bytes) = store.take();
    println!("4,000 pages: {requests} requests, {bytes} bytes for {found} bytes of rows");
    assert!(requests < 150, "{requests} requests for 4,000 pages");
    assert!(bytes < 2 * found, "{bytes} bytes for {found}");
}
