//! Any bytes as the files that lsfast keeps: state, verification, the position in a standby,
//! lists of times. No panic,
//! and what is believed can be written and read again. With the first byte odd, checksums are
//! repaired first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lsfast::base::Txid;
use lsfast::ltx::{TimesId, times};

mod support;

fuzz_target!(|input: &[u8]| {
    let [choice, min, max, file @ ..] = input else { return };
    let repaired = choice % 2 == 1;

    let mut state = file.to_vec();
    if repaired {
        for slot in state.chunks_exact_mut(512) {
            slot[..12].copy_from_slice(b"LSFSTATE\x01\0\0\0");
            support::repair_crc64(slot, true);
        }
    }
    lsfast::replicate::fuzzing::state(&state);
    lsfast::replicate::fuzzing::verified(file);

    let mut page = file.to_vec();
    if let Some(magic) = page.get_mut(72..74).filter(|_| repaired) {
        magic.copy_from_slice(b"lF");
    }
    lsfast::restore::standby::fuzzing::mark(&page);

    let mut list = file.to_vec();
    if repaired && let Some(magic) = list.first_chunk_mut::<8>() {
        *magic = *b"LSTIMES1";
        support::repair_crc64(&mut list, false);
    }
    let id = TimesId { min: Txid(u64::from(*min)), max: Txid(u64::from(*max)) };
    if let Ok(entries) = times::decode(id, &list) {
        assert_eq!(times::encode(&entries).expect("what was read").0, id);
    }
});
