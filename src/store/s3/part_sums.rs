//! Checksums of an object, from those of its parts.

use super::headers::base64_crc;

/// The CRC-32 of the whole, from the CRCs and lengths of its parts.
pub(super) fn joined(parts: impl Iterator<Item = (u32, u64)>) -> u32 {
    let mut whole = crc32fast::Hasher::new();
    parts.for_each(|(crc, len)| whole.combine(&crc32fast::Hasher::new_with_initial_len(crc, len)));
    whole.finalize()
}

/// The checksum of the parts' checksums, in S3's form `BASE64-N`.
pub(super) fn composite(parts: &[&str]) -> Option<String> {
    use base64::Engine as _;
    let mut crc = crc32fast::Hasher::new();
    for part in parts {
        crc.update(&base64::engine::general_purpose::STANDARD.decode(part).ok()?);
    }
    Some(format!("{}-{}", base64_crc(crc.finalize()), parts.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_parts_make_that_of_the_whole() {
        let of = |bytes: &[u8]| (crc32fast::hash(bytes), bytes.len() as u64);
        assert_eq!(joined([of(b"1234"), of(b""), of(b"567"), of(b"89")].into_iter()), 0xcbf4_3926);
        assert_eq!(joined(std::iter::empty()), 0);
    }

    #[test]
    fn checksum_of_checksums() {
        // CRC-32 of the eight bytes cbf43926 cbf43926.
        let part = base64_crc(0xcbf4_3926);
        let both = [0xcb, 0xf4, 0x39, 0x26, 0xcb, 0xf4, 0x39, 0x26];
        assert_eq!(composite(&[&part, &part]), Some(format!("{}-2", base64_crc(crc32fast::hash(&both)))));
        assert_eq!(composite(&["?"]), None);
    }
}
