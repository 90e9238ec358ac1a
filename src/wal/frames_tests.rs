//! Writes a WAL as SQLite does, with rollbacks and restarts, and scans it whole and in pieces.

use proptest::prelude::*;

use super::*;
use crate::wal::format::{HEADER_BYTES, MAGIC, VERSION, frame_bytes};

/// A step of a generated WAL.
#[derive(Debug, Clone)]
enum Op {
    /// Appends a transaction: page numbers, and the size of the database after it.
    Commit(Vec<u32>, u32),
    /// Spills frames and rolls back. The frames stay until the next ones overwrite them.
    Rollback(Vec<u32>),
    /// Starts a new generation over the old one.
    Restart,
    /// Truncates the file to zero bytes and starts a new generation.
    Truncate,
    /// Appends zeros at the end of the file, as a file system may leave them.
    Zeros(u16),
}

/// Frame number, page number, page.
type Page = (u32, u32, Vec<u8>);

/// A WAL under construction, and what a reader must find in it.
#[derive(Clone)]
struct Log {
    page_size: PageSize,
    big_endian: bool,
    bytes: Vec<u8>,
    rng: fastrand::Rng,
    chain: Chain,
    /// The transactions of the present generation: frames, and pages in the database after each.
    committed: Vec<(Vec<Page>, u32)>,
}

impl Log {
    fn new(page_size: u32, big_endian: bool, seed: u64) -> Log {
        let page_size = PageSize::new(page_size).unwrap();
        let rng = fastrand::Rng::with_seed(seed);
        let chain =
            Chain { page_size, big_endian, salts: Salts::default(), next: FrameNo(1), sum: Sum::ZERO };
        let mut log = Log { page_size, big_endian, bytes: Vec::new(), rng, chain, committed: Vec::new() };
        log.restart();
        log
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = at as usize;
        self.bytes.resize(self.bytes.len().max(at + bytes.len()), 0);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn restart(&mut self) {
        let salts = [self.rng.u32(1..), self.rng.u32(..)];
        let fields =
            [MAGIC | u32::from(self.big_endian), VERSION, self.page_size.get(), 7, salts[0], salts[1]];
        let mut header: Vec<u8> = fields.iter().flat_map(|f| f.to_be_bytes()).collect();
        header.extend(checksum::plain(self.big_endian, Sum::ZERO, &header).to_be_bytes());
        self.put(0, &header);
        self.chain = Chain::start(&WalHeader::parse(&self.bytes).unwrap());
        self.committed.clear();
    }

    /// Writes frames. The chain advances only if they are committed.
    fn frames(&mut self, pages: &[u32], commit: u32) {
        let mut chain = self.chain;
        let mut taken = Vec::new();
        for (i, &pgno) in pages.iter().enumerate() {
            let mark = if i + 1 == pages.len() { commit } else { 0 };
            let mut frame: Vec<u8> =
                [pgno, mark, chain.salts.one, chain.salts.two].iter().flat_map(|f| f.to_be_bytes()).collect();
            let page: Vec<u8> = (0..self.page_size.bytes()).map(|_| self.rng.u8(..)).collect();
            chain.sum = checksum::plain(self.big_endian, chain.sum, &frame[..8]);
            chain.sum = checksum::plain(self.big_endian, chain.sum, &page);
            frame.extend(chain.sum.to_be_bytes());
            frame.extend(&page);
            self.put(chain.offset(), &frame);
            taken.push((chain.next.0, pgno, page));
            chain.next.0 += 1;
        }
        if commit != 0 {
            self.chain = chain;
            self.committed.push((taken, commit));
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Commit(pages, size) => self.frames(pages, *size),
            Op::Rollback(pages) => self.frames(pages, 0),
            Op::Restart => self.restart(),
            Op::Truncate => {
                self.bytes.clear();
                self.restart();
            }
            Op::Zeros(n) => self.bytes.resize(self.bytes.len() + usize::from(*n), 0),
        }
    }

    fn header(&self) -> WalHeader {
        WalHeader::parse(&self.bytes).unwrap()
    }

    fn body(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    fn mx_frame(&self) -> FrameNo {
        self.chain.last()
    }

    /// Counts the frames before the first invalid one, directly by the format's definition.
    fn valid_frames(&self) -> u32 {
        let header = self.header();
        let mut sum = header.sum;
        let mut valid = 0;
        for frame in self.body().chunks_exact(frame_bytes(self.page_size)) {
            let field = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
            sum = checksum::plain(self.big_endian, sum, &frame[..8]);
            sum = checksum::plain(self.big_endian, sum, &frame[24..]);
            let salts = Salts { one: field(8), two: field(12) };
            if field(0) == 0 || salts != header.salts || sum != Sum(field(16), field(20)) {
                break;
            }
            valid += 1;
        }
        valid
    }
}

fn owned(frames: Frames<'_>) -> Vec<Page> {
    frames.map(|(no, pgno, page)| (no.0, pgno.get(), page.to_vec())).collect()
}

/// Result of a scan: the transactions, the frames after the last commit, the position after the
/// last valid frame, and the end.
type Found = (Vec<(Vec<Page>, u32)>, Vec<Page>, Chain, End);

/// Scans in pieces of the given lengths, then the rest in one piece.
fn scan_in_pieces(log: &Log, limit: FrameNo, pieces: &[usize]) -> Found {
    let mut chain = Chain::start(&log.header());
    let mut pieces = pieces.iter();
    let (mut runs, mut open) = (Vec::new(), Vec::new());
    loop {
        let rest = log.bytes.get(chain.offset() as usize..).unwrap_or_default();
        let len = pieces.next().map_or(rest.len(), |&len| len.min(rest.len()));
        let mut scan = chain.scan(&rest[..len], limit);
        for run in &mut scan {
            assert_eq!(run.first().0 as usize + run.frames().len(), run.last().0 as usize + 1);
            assert_eq!(run.end.offset(), format::frame_offset(log.page_size, FrameNo(run.last().0 + 1)));
            let mut back: Vec<_> = run.frames().rev().map(|f| f.0.0).collect();
            back.reverse();
            assert!(back.into_iter().eq(run.first().0..=run.last().0));
            open.extend(owned(run.frames()));
            runs.push((std::mem::take(&mut open), run.size_pages));
        }
        let scanned = scan.finish();
        open.extend(owned(scanned.open));
        chain = scanned.after_valid;
        let whole = len == rest.len();
        if !whole && matches!(scanned.end, End::NeedBytes { .. }) {
            continue;
        }
        return (runs, open, chain, scanned.end);
    }
}

fn pages() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(1u32..40, 1..7)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (pages(), 1u32..40).prop_map(|(p, n)| Op::Commit(p, n)),
        3 => pages().prop_map(Op::Rollback),
        2 => Just(Op::Restart),
        1 => Just(Op::Truncate),
        1 => (0u16..1500).prop_map(Op::Zeros),
    ]
}

fn log() -> impl Strategy<Value = Log> {
    let size = prop_oneof![Just(512), Just(1024), Just(4096)];
    (size, any::<bool>(), any::<u64>(), proptest::collection::vec(op(), 0..12)).prop_map(
        |(size, big, seed, ops)| {
            let mut log = Log::new(size, big, seed);
            ops.iter().for_each(|op| log.apply(op));
            log
        },
    )
}

/// Short output, because a failing case would otherwise print every page.
impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sizes: Vec<_> = self.committed.iter().map(|(pages, _)| pages.len()).collect();
        write!(f, "log of {} bytes, page size {}, commits {sizes:?}", self.bytes.len(), self.page_size)
    }
}

proptest! {
    #[test]
    fn a_scan_finds_what_was_committed_however_it_is_cut(
        log in log(),
        pieces in proptest::collection::vec(0usize..9000, 0..20),
    ) {
        let (runs, open, after, end) = scan_in_pieces(&log, UNLIMITED, &[]);
        prop_assert_eq!(&runs, &log.committed);
        prop_assert_eq!(after.last().0, log.valid_frames());
        prop_assert_eq!(open.len() as u32, log.valid_frames() - log.mx_frame().0);
        prop_assert_ne!(end, End::Limit);
        prop_assert_eq!(scan_in_pieces(&log, UNLIMITED, &pieces), (runs, open, after, end));

        let final_only = scan_in_pieces(&log, log.mx_frame(), &pieces);
        prop_assert_eq!(final_only, (log.committed.clone(), Vec::new(), log.chain, End::Limit));
    }

    #[test]
    fn a_limit_cuts_between_frames(log in log(), limit in 0u32..60) {
        let (runs, open, after, end) = scan_in_pieces(&log, FrameNo(limit), &[]);
        let whole: Vec<_> =
            log.committed.iter().filter(|(pages, _)| pages.last().unwrap().0 <= limit).cloned().collect();
        prop_assert_eq!(&runs, &whole);
        prop_assert_eq!(after.last().0, limit.min(log.valid_frames()));
        prop_assert_eq!(end == End::Limit, limit <= log.valid_frames());
        prop_assert_eq!(open.len(), after.last().0 as usize - runs.iter().map(|r| r.0.len()).sum::<usize>());
    }

    #[test]
    fn a_cut_file_ends_at_the_last_whole_commit(log in log(), cut in any::<prop::sample::Index>()) {
        let mut log = log;
        let len = HEADER_BYTES + cut.index(log.bytes.len() - HEADER_BYTES + 1);
        log.bytes.truncate(len);
        let frames = ((len - HEADER_BYTES) / frame_bytes(log.page_size)) as u32;
        let (runs, _, after, end) = scan_in_pieces(&log, UNLIMITED, &[]);
        let whole: Vec<_> =
            log.committed.iter().filter(|(pages, _)| pages.last().unwrap().0 <= frames).cloned().collect();
        prop_assert_eq!(runs, whole);
        if after.last().0 == frames {
            let have = (len - HEADER_BYTES) % frame_bytes(log.page_size);
            prop_assert_eq!(end, End::NeedBytes { have });
        }
    }

    #[test]
    fn any_flipped_bit_ends_the_log_before_it(log in log(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut log = log;
        prop_assume!(!log.body().is_empty());
        let at = at.index(log.body().len());
        log.bytes[HEADER_BYTES + at] ^= 1 << bit;
        let bad = (at / frame_bytes(log.page_size)) as u32 + 1;
        let (runs, _, after, _) = scan_in_pieces(&log, UNLIMITED, &[]);
        let whole: Vec<_> =
            log.committed.iter().filter(|(pages, _)| pages.last().unwrap().0 < bad).cloned().collect();
        prop_assert_eq!(runs, whole);
        prop_assert!(after.next.0 <= bad.max(log.valid_frames() + 1));
    }
}

#[test]
fn each_end_has_its_name() {
    let mut log = Log::new(512, false, 3);
    log.apply(&Op::Commit(vec![1, 2], 2));
    let end = |log: &Log| scan_in_pieces(log, UNLIMITED, &[]).3;
    assert_eq!(end(&log), End::NeedBytes { have: 0 });

    let mut tail = log.clone();
    tail.apply(&Op::Zeros(600));
    assert_eq!(end(&tail), End::ZeroSalts);

    let mut zero_page = log.clone();
    zero_page.apply(&Op::Rollback(vec![0]));
    assert_eq!(end(&zero_page), End::ZeroPage);

    let old = log.chain.salts;
    let mut behind = log.clone();
    behind.apply(&Op::Restart);
    behind.apply(&Op::Commit(vec![1], 1));
    assert_eq!(end(&behind), End::OtherSalts(old));

    let mut left = log.clone();
    left.apply(&Op::Rollback(vec![1, 2, 3]));
    left.apply(&Op::Commit(vec![1], 1));
    assert!(matches!(end(&left), End::BrokenChain { .. }));
}

/// After a crash a WAL can be shorter, and other transactions with the same salts take the same
/// offsets. The position that a reader kept must not match them.
#[test]
fn a_position_does_not_fit_another_history() {
    let header_of = |log: &Log, no: u32| {
        let at = format::frame_offset(log.page_size, FrameNo(no)) as usize;
        FrameHeader::parse(log.bytes[at..].first_chunk().unwrap())
    };
    let mut log = Log::new(1024, true, 4);
    log.apply(&Op::Commit(vec![1, 2], 2));
    let fork = log.clone();
    log.apply(&Op::Commit(vec![3], 3));
    let kept = log.chain;
    assert!(kept.continues(&header_of(&log, 3)));

    let mut other = fork;
    other.rng = fastrand::Rng::with_seed(99);
    other.apply(&Op::Commit(vec![3], 3));
    assert_eq!(other.chain.salts, kept.salts);
    assert!(!kept.continues(&header_of(&other, 3)));
}

#[test]
#[should_panic(expected = "all committed runs are taken")]
fn finishing_early_is_a_mistake() {
    let log = Log::new(512, false, 5);
    let _ = Chain::start(&log.header()).scan(log.body(), UNLIMITED).finish();
}
