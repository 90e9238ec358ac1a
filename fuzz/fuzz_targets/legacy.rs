//! Any bytes as files of Litestream 0.3 and as names below a replica: no panic, and what is
//! read can be written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lsfast::legacy::{Apply, Generation, LegacyName, WalIndex};
use lsfast::store::SideId;

mod support;

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input)
        && let Some(id) = SideId::parse(text)
    {
        assert_eq!(id.path(), text);
    }
    // As a snapshot and as a log: first as they are, then packed, so that the content is reached.
    // A third time with the checksums of its frames repaired, so that pages are applied.
    let packed = support::lz4(input);
    let mut repaired = input.to_vec();
    support::repair_wal(&mut repaired);
    let repaired = support::lz4(&repaired);
    for bytes in [input, &packed, &repaired] {
        let mut apply = Apply::prove();
        if apply.snapshot(bytes).is_ok()
            && let Ok(applied) = apply.finish()
        {
            assert!(applied.bytes > 0);
        }
        let mut apply = Apply::prove();
        let (generation, index) = (Generation(1), WalIndex::new(0).expect("an index"));
        let name = LegacyName::Segment { generation, index, offset: 0, digits: 8 };
        if apply.segment(name, bytes).is_ok() {
            let _ = apply.finish();
        }
    }
});
