//! CRC-64/GO-ISO, the checksum of LTX files.
//!
//! Polynomial x^64 + x^4 + x^3 + x + 1, reflected, initial value and final XOR all ones. Not CRC-64/XZ, not
//! CRC-64/ECMA-182, not CRC-64/WE.

use crc_fast::{CrcAlgorithm, Digest, checksum, checksum_combine};

const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc64GoIso;

/// A running CRC-64/GO-ISO.
#[derive(Clone)]
pub struct Crc64(Digest);

impl Default for Crc64 {
    fn default() -> Self {
        Crc64::new()
    }
}

impl Crc64 {
    /// The CRC of nothing.
    #[must_use]
    pub fn new() -> Crc64 {
        Crc64(Digest::new(ALGORITHM))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The CRC of all bytes so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.finalize()
    }
}

impl std::fmt::Debug for Crc64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crc64({:016x})", self.value())
    }
}

/// The CRC of `bytes`.
#[must_use]
pub fn crc64(bytes: &[u8]) -> u64 {
    checksum(ALGORITHM, bytes)
}

/// The CRC of `a` followed by `b`, from the CRC of each and the length of `b` in bytes.
#[must_use]
pub fn combine(a: u64, b: u64, b_len: u64) -> u64 {
    checksum_combine(ALGORITHM, a, b, b_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let mut zeros_then_one: &[u8] = &[0, 0, 0, 1];
        assert_eq!(crc64(zeros_then_one), 0x6e4f_ffff_9000_0000);
        zeros_then_one = &[];
        assert_eq!(crc64(zeros_then_one), 0);
        assert_eq!(crc64(b"123456789"), 0xb909_56c7_75a4_1001);
        assert_eq!(crc64(&[0; 100]), 0xaca9_9cff_9690_6906);
        assert_eq!(crc64(&[0xff; 8]), u64::MAX);
    }

    #[test]
    fn pieces_combine_to_the_whole() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i * 7 + i / 255) as u8).collect();
        for cut in [0, 1, 63, 64, 4096, 9_999, 10_000] {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(combine(crc64(a), crc64(b), b.len() as u64), crc64(&bytes), "cut at {cut}");
            let mut d = Crc64::new();
            d.update(a);
            d.update(b);
            assert_eq!(d.value(), crc64(&bytes));
        }
    }
}
