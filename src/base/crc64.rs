//! CRC-64/GO-ISO, the checksum of LTX files.
//!
//! The polynomial is x^64 + x^4 + x^3 + x + 1, reflected. The initial value and the final XOR are
//! all ones. It is not CRC-64/XZ, CRC-64/ECMA-182 or CRC-64/WE.

use crc_fast::{CrcAlgorithm, Digest, checksum};

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
    /// The CRC of no bytes.
    #[must_use]
    pub fn new() -> Crc64 {
        Crc64(Digest::new(ALGORITHM))
    }

    /// Appends bytes to the input.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The CRC of all bytes so far; more can follow.
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
    // The CRC of `a` followed by zeros of the length of `b` is the CRC of `a` times x^(8 *
    // `b_len`). Initial value and final XOR cancel out.
    let mut shifted = a;
    let mut left = b_len;
    while left != 0 {
        shifted = times(shifted, SQUARES[left.trailing_zeros() as usize + 3]);
        left &= left - 1;
    }
    shifted ^ b
}

/// The polynomial without x^64, reflected: bit 63 is x^0.
const POLYNOMIAL: u64 = 0xd800_0000_0000_0000;

/// x to the power of 2^n, modulo the polynomial.
const SQUARES: [u64; 67] = {
    let mut all = [1 << 62; 67];
    let mut n = 1;
    while n < all.len() {
        all[n] = times(all[n - 1], all[n - 1]);
        n += 1;
    }
    all
};

/// The product of two polynomials modulo the polynomial, all reflected.
const fn times(a: u64, mut b: u64) -> u64 {
    let (mut product, mut left) = (0, a);
    while left != 0 {
        product ^= b & (left >> 63).wrapping_neg();
        left <<= 1;
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
    }
    product
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
            let other = crc_fast::checksum_combine(ALGORITHM, crc64(a), crc64(b), b.len() as u64);
            assert_eq!(other, crc64(&bytes), "cut at {cut}, by the library");
            let mut d = Crc64::new();
            d.update(a);
            d.update(b);
            assert_eq!(d.value(), crc64(&bytes));
        }
    }

    /// Includes lengths for which no test could have the bytes.
    #[test]
    fn any_length_combines_as_the_library_says() {
        let (a, b) = (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
        for shift in 0..64 {
            for len in [1_u64 << shift, u64::MAX >> shift, 0x9e37_79b9_7f4a_7c15 >> shift] {
                let expected = crc_fast::checksum_combine(ALGORITHM, a, b, len);
                assert_eq!(combine(a, b, len), expected, "{len} bytes");
            }
        }
    }
}
