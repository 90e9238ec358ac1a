//! Random histories of a database, encoded, decoded and merged, compared with a map of pages.

use proptest::prelude::*;

use super::*;

/// One transaction: the size of the database after it, and the pages that it writes besides those
/// it adds.
#[derive(Debug, Clone)]
struct Change {
    commit: u32,
    touched: Vec<u32>,
    seed: u64,
}

#[derive(Debug, Clone)]
struct History {
    page_size: PageSize,
    changes: Vec<Change>,
}

/// The database after each transaction, and the file of each transaction.
struct Played {
    images: Vec<Pages>,
    files: Vec<Vec<u8>>,
}

fn histories() -> impl Strategy<Value = History> {
    let page_size = prop_oneof![4 => Just(512), 2 => Just(4096), 1 => Just(65536)];
    let change = (1..24u32, prop::collection::vec(1..24u32, 0..6), any::<u64>())
        .prop_map(|(commit, touched, seed)| Change { commit, touched, seed });
    (page_size, prop::collection::vec(change, 1..9))
        .prop_map(|(bytes, changes)| History { page_size: size(bytes), changes })
}

/// A page made from the seed: noise, one repeated byte, or text with some noise.
fn content(page_size: PageSize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; page_size.bytes()];
    match random.u8(..3) {
        0 => random.fill(&mut bytes),
        1 => bytes.fill(random.u8(..)),
        _ => {
            for (i, b) in bytes.iter_mut().enumerate() {
                *b = if random.u8(..20) == 0 { random.u8(..) } else { b"the same words "[i % 15] };
            }
        }
    }
    bytes
}

impl History {
    fn play(&self) -> Played {
        let (mut image, mut old_commit) = (Pages::new(), 0);
        let mut played = Played { images: Vec::new(), files: Vec::new() };
        for (i, change) in self.changes.iter().enumerate() {
            let touched = change.touched.iter().copied().filter(|&n| n <= change.commit);
            let mut written = Pages::new();
            for n in touched.chain(old_commit + 1..=change.commit) {
                written.insert(n, content(self.page_size, change.seed.wrapping_add(u64::from(n))));
            }
            image.retain(|&n, _| n <= change.commit);
            image.extend(written.clone());
            old_commit = change.commit;
            let txid = i as u64 + 1;
            let header = header(self.page_size, change.commit, txid, txid);
            played.files.push(encode_file(&header, lend(&written)).unwrap());
            played.images.push(image.clone());
        }
        played
    }
}

/// The file made of blocks of the given sizes.
fn in_blocks(header: Header, pages: &Pages, sizes: &[usize]) -> Vec<u8> {
    let (mut encoder, begin) = Encoder::new(header).unwrap();
    let mut file = begin.to_vec();
    let all: Vec<_> = lend(pages).collect();
    let (mut rest, mut sizes) = (&all[..], sizes.iter().cycle());
    while !rest.is_empty() {
        let (block, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        rest = after;
        let block = FrameBlock::encode(header.page_size, block.iter().copied()).unwrap();
        file.extend_from_slice(&encoder.push(block).unwrap());
    }
    let (end, trailer, len) = encoder.finish().unwrap();
    file.extend_from_slice(&end);
    assert_eq!(len, file.len() as u64);
    assert_eq!(file[file.len() - 16..], trailer.to_bytes());
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn files_read_as_they_were_written(
        history in histories(),
        cuts in prop::collection::vec(1..3000usize, 1..8),
        blocks in prop::collection::vec(1..5usize, 1..4),
        frames in 1..5usize,
    ) {
        let played = history.play();
        for (file, change) in played.files.iter().zip(&history.changes) {
            let (header, pages, trailer) = stream(file, &cuts).unwrap();
            prop_assert_eq!(header.commit, change.commit);
            prop_assert_eq!(&ranges(file, frames).unwrap(), &(header, pages.clone(), trailer));
            prop_assert_eq!(&in_order(file, cuts[0]).unwrap(), &(header, pages.clone(), trailer));
            prop_assert_eq!(&in_blocks(header, &pages, &blocks), file);
            prop_assert!(file.len() <= encoded_len_max(history.page_size, pages.len()));
        }
    }

    #[test]
    fn merges_give_the_image(history in histories(), groups in prop::collection::vec(1..4usize, 1..4)) {
        let played = history.play();
        let last = history.changes.len() - 1;
        let (header, pages) = merge(&played.files).unwrap();
        prop_assert_eq!(&pages, &played.images[last]);
        prop_assert_eq!((header.min, header.max.0, header.commit), (Txid(1), last as u64 + 1, history.changes[last].commit));

        // Merging in groups first and then merging the groups has the same result.
        let (mut merged, mut rest, mut sizes) = (Vec::new(), &played.files[..], groups.iter().cycle());
        while !rest.is_empty() {
            let (group, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            rest = after;
            let (header, pages) = merge(group).unwrap();
            merged.push(encode_file(&header, lend(&pages)).unwrap());
        }
        prop_assert_eq!(merge(&merged).unwrap(), (header, pages.clone()));

        // An image of an earlier state, then merged files that overlap it.
        for at in 0..=last {
            let header = super::header(history.page_size, history.changes[at].commit, 1, at as u64 + 1);
            let image = encode_file(&header, lend(&played.images[at])).unwrap();
            let from = at / 2;
            let mut plan = vec![image];
            if at < last {
                let (header, pages) = merge(&played.files[from..]).unwrap();
                if from == 0 { continue; }
                plan.push(encode_file(&header, lend(&pages)).unwrap());
            }
            prop_assert_eq!(&merge(&plan).unwrap().1, &pages);
        }
    }

    /// If the stream accepts a file, reading by index may refuse it only for a fault of the index.
    /// If the stream refuses a file, reading by index refuses it too.
    #[test]
    fn readers_agree_on_damaged_files(
        history in histories(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        in_index in any::<bool>(),
    ) {
        for mut file in history.play().files {
            let end = file.len() - 24;
            for (at, byte) in &damage {
                let at = if in_index { end - 1 - at.index(end.min(60)) } else { at.index(file.len()) };
                file[at] = *byte;
            }
            if let Err(LtxError::FileChecksum { computed, .. }) = stream(&file, &[usize::MAX]) {
                file[end + 16..].copy_from_slice(&computed.to_be_bytes());
            }
            match (stream(&file, &[usize::MAX]), in_order(&file, 9)) {
                (Ok(streamed), Ok(walked)) => prop_assert_eq!(streamed, walked),
                (streamed, walked) => prop_assert!(streamed.is_err() && walked.is_err()),
            }
            match (stream(&file, &[usize::MAX]), ranges(&file, 2)) {
                (Ok(streamed), Ok(indexed)) => prop_assert_eq!(streamed, indexed),
                (Ok(_), Err(e)) => prop_assert!(e.is_index_fault(), "{}", e),
                (Err(_), indexed) => prop_assert!(indexed.is_err()),
            }
        }
    }

    #[test]
    fn noise_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400), valid_header in any::<bool>()) {
        let mut file = if valid_header { header(size(512), 9, 2, 2).to_bytes().to_vec() } else { Vec::new() };
        file.extend_from_slice(&bytes);
        prop_assert!(stream(&file, &[64]).is_err());
        if let Ok(TailState::Parsed(_)) = Tail::parse(file.len() as u64, &file) {
            prop_assert!(ranges(&file, 3).is_err());
        }
    }
}

#[test]
fn noise_becomes_longer_and_still_reads() {
    for bytes in [512, 4096, 65536] {
        let page_size = size(bytes);
        let mut pages = Pages::new();
        let mut random = fastrand::Rng::with_seed(u64::from(bytes));
        for n in 1..=40 {
            let mut noise = vec![0; page_size.bytes()];
            random.fill(&mut noise);
            pages.insert(n, noise);
        }
        let header = header(page_size, 40, 1, 1);
        let file = encode_file(&header, lend(&pages)).unwrap();
        assert!(file.len() > 40 * page_size.bytes());
        assert!(file.len() <= encoded_len_max(page_size, 40));
        assert_eq!(stream(&file, &[1000, 1]).unwrap().1, pages);
        assert_eq!(ranges(&file, 7).unwrap().1, pages);
    }
}

#[test]
fn a_buffer_is_used_again() {
    let mut buffer = Vec::new();
    for n in [9, 3, 9] {
        let pages: Pages = (1..=n).map(|p| (p, content(size(4096), u64::from(p)))).collect();
        let header = header(size(4096), n, 1, 1);
        let before = (buffer.as_ptr(), buffer.capacity());
        encode_file_into(&header, lend(&pages), &mut buffer).unwrap();
        assert_eq!(buffer, encode_file(&header, lend(&pages)).unwrap());
        if before.1 != 0 {
            assert_eq!((buffer.as_ptr(), buffer.capacity()), before);
        }
    }
}
