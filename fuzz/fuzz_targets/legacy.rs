//! Any bytes as files of Litestream 0.3, as names below a replica and as a list of times: no panic, and what is read can
//! be written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lsfast::base::Txid;
use lsfast::legacy::{Apply, Generation, LegacyName, WalIndex};
use lsfast::ltx::{TimesId, times};
use lsfast::store::SideId;

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input)
        && let Some(id) = SideId::parse(text)
    {
        assert_eq!(id.path(), text);
    }
    if let [.., min, max] = input {
        let id = TimesId { min: Txid(u64::from(*min)), max: Txid(u64::from(*max)) };
        if let Ok(entries) = times::decode(id, input) {
            assert_eq!(times::encode(&entries).expect("what was read").0, id);
        }
    }
    // As a snapshot and as a log: first as they are, then packed, so that the content is reached.
    let packed = lz4(input);
    for bytes in [input, &packed] {
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

/// An LZ4 frame of one uncompressed block without a checksum; the header check is that of these flags.
fn lz4(content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73];
    if !content.is_empty() {
        frame.extend_from_slice(&(content.len() as u32 | 1 << 31).to_le_bytes());
        frame.extend_from_slice(content);
    }
    frame.extend_from_slice(&[0; 4]);
    frame
}
