//! The checksum of the WAL and of the wal-index, computed at 40 GB/s.
//!
//! # Definition
//!
//! The state is two 32-bit words `(s0, s1)`. The input is a multiple of 8 bytes, read as pairs `(a,
//! b)` of 32-bit words. The WAL's magic chooses the byte order of these words; the wal-index uses
//! that of the host. Each pair updates the state, modulo 2^32:
//!
//! ```text
//! s0 += a + s1
//! s1 += b + s0
//! ```
//!
//! # Without the serial chain
//!
//! Word by word this is a Fibonacci recurrence, `r(j) = r(j-2) + r(j-1) + w(j)` with
//! `r(-2) = s0` and `r(-1) = s1`. It is linear, so for `n` words, with `F(1) = F(2) = 1`:
//!
//! ```text
//! s1' = F(n)   s0 + F(n+1) s1 + sum of w(j) F(n-j)
//! s0' = F(n-1) s0 + F(n)   s1 + sum of w(j) F(n-j-1)
//! ```
//!
//! These are two dot products with a constant table, which the compiler turns into vector code.
//! [`plain`] implements the definition and [`sum`] the dot products. A test checks that both return
//! the same.
#![allow(unsafe_code)] // One call of a function with a target feature; see `sum`.

/// The running checksum: the two words `(s0, s1)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sum(pub u32, pub u32);

impl Sum {
    /// The state before the first word of a chain.
    pub const ZERO: Sum = Sum(0, 0);

    /// Reads the 8 bytes in a WAL header or frame. They are big-endian whatever the magic says.
    #[cfg(feature = "internals")]
    #[must_use]
    pub const fn from_be_bytes(b: [u8; 8]) -> Sum {
        Sum(u32::from_be_bytes([b[0], b[1], b[2], b[3]]), u32::from_be_bytes([b[4], b[5], b[6], b[7]]))
    }

    /// The 8 big-endian bytes that a WAL header or frame stores.
    #[cfg(feature = "internals")]
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 8] {
        let ([a, b, c, d], [e, f, g, h]) = (self.0.to_be_bytes(), self.1.to_be_bytes());
        [a, b, c, d, e, f, g, h]
    }
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}-{:08x}", self.0, self.1)
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}-{:08x}", self.0, self.1)
    }
}

/// Words in a block. A page of 4096 bytes has four blocks, and the table takes 1 KB.
const BLOCK_WORDS: usize = 256;

/// Words below which the plain loop is used instead of the dot products.
const DOT_WORDS_MIN: usize = 32;

/// Fibonacci numbers modulo 2^32 in descending order: `FIB[i]` is `F(BLOCK_WORDS + 1 - i)`, down to
/// `F(0)`.
const FIB: [u32; BLOCK_WORDS + 2] = {
    let mut t = [0u32; BLOCK_WORDS + 2];
    t[BLOCK_WORDS] = 1;
    let mut i = BLOCK_WORDS;
    while i > 0 {
        i -= 1;
        t[i] = t[i + 1].wrapping_add(t[i + 2]);
    }
    t
};

/// The checksum word by word. This is the definition, and the reference that tests compare [`sum`]
/// with.
///
/// # Panics
/// If the length of `bytes` is not a multiple of 8.
#[must_use]
pub fn plain(big_endian: bool, start: Sum, bytes: &[u8]) -> Sum {
    if big_endian { plain_words::<true>(start, bytes) } else { plain_words::<false>(start, bytes) }
}

/// The checksum of `bytes`, continued from `start`.
///
/// # Panics
/// If the length of `bytes` is not a multiple of 8.
#[must_use]
pub fn sum(big_endian: bool, start: Sum, bytes: &[u8]) -> Sum {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= 4 * DOT_WORDS_MIN && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that the function requires. Safe code can't
        // call it, because only this check at run time proves that.
        return unsafe { sum_avx2(big_endian, start, bytes) };
    }
    sum_portable(big_endian, start, bytes)
}

/// `sum_portable`, compiled for processors with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(big_endian: bool, start: Sum, bytes: &[u8]) -> Sum {
    sum_portable(big_endian, start, bytes)
}

#[inline(always)]
fn sum_portable(big_endian: bool, start: Sum, bytes: &[u8]) -> Sum {
    if big_endian { sum_blocks::<true>(start, bytes) } else { sum_blocks::<false>(start, bytes) }
}

#[inline(always)]
fn word<const BIG: bool>(b: [u8; 4]) -> u32 {
    if BIG { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
}

#[inline(always)]
fn plain_words<const BIG: bool>(Sum(mut s0, mut s1): Sum, bytes: &[u8]) -> Sum {
    let (words, rest) = bytes.as_chunks::<4>();
    let (pairs, odd) = words.as_chunks::<2>();
    assert!(rest.is_empty() && odd.is_empty(), "{} bytes are not whole pairs of words", bytes.len());
    for &[a, b] in pairs {
        s0 = s0.wrapping_add(word::<BIG>(a)).wrapping_add(s1);
        s1 = s1.wrapping_add(word::<BIG>(b)).wrapping_add(s0);
    }
    Sum(s0, s1)
}

#[inline(always)]
fn sum_blocks<const BIG: bool>(mut s: Sum, bytes: &[u8]) -> Sum {
    assert!(bytes.len().is_multiple_of(8), "{} bytes are not whole pairs of words", bytes.len());
    let (words, _) = bytes.as_chunks::<4>();
    let (blocks, rest) = words.as_chunks::<BLOCK_WORDS>();
    for block in blocks {
        s = dot::<BIG>(s, block);
    }
    if rest.len() < DOT_WORDS_MIN { plain_words::<BIG>(s, rest.as_flattened()) } else { dot::<BIG>(s, rest) }
}

/// The checksum of at most [`BLOCK_WORDS`] words by the two dot products.
#[inline(always)]
fn dot<const BIG: bool>(Sum(s0, s1): Sum, words: &[[u8; 4]]) -> Sum {
    let fib = &FIB[BLOCK_WORDS - words.len()..];
    let (f_above, f, f_below) = (fib[0], fib[1], fib[2]);
    let (mut d0, mut d1) = (0u32, 0u32);
    for ((&w, &c1), &c0) in words.iter().zip(&fib[1..]).zip(&fib[2..]) {
        let w = word::<BIG>(w);
        d1 = d1.wrapping_add(w.wrapping_mul(c1));
        d0 = d0.wrapping_add(w.wrapping_mul(c0));
    }
    let carry = |f0: u32, f1: u32| s0.wrapping_mul(f0).wrapping_add(s1.wrapping_mul(f1));
    Sum(d0.wrapping_add(carry(f_below, f)), d1.wrapping_add(carry(f, f_above)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        let bytes: [u8; 16] = std::array::from_fn(|i| i as u8);
        assert_eq!(plain(false, Sum::ZERO, &bytes), Sum(0x1814_100c, 0x312a_231c));
        assert_eq!(plain(true, Sum::ZERO, &bytes), Sum(0x0c10_1418, 0x1c23_2a31));
        let header = [0x377f_0682u32, 0x002d_e218, 0x200, 1, 0x6d44_e169, 0x03a6_c67d].map(u32::to_be_bytes);
        assert_eq!(sum(false, Sum::ZERO, header.as_flattened()), Sum(0x3fac_4780, 0x764c_c528));
    }

    #[test]
    fn bytes_round_trip() {
        let s = Sum(0x0102_0304, 0x0506_0708);
        assert_eq!(s.to_be_bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Sum::from_be_bytes(s.to_be_bytes()), s);
    }

    #[test]
    fn every_length_of_pairs_agrees() {
        let mut rng = fastrand::Rng::with_seed(1);
        let bytes: Vec<u8> = (0..3 * 4 * BLOCK_WORDS + 64).map(|_| rng.u8(..)).collect();
        for len in (0..=bytes.len()).step_by(8) {
            let start = Sum(rng.u32(..), rng.u32(..));
            for big in [false, true] {
                let oracle = plain(big, start, &bytes[..len]);
                assert_eq!(sum(big, start, &bytes[..len]), oracle, "{len} bytes, big-endian {big}");
                assert_eq!(sum_portable(big, start, &bytes[..len]), oracle, "{len} bytes, big-endian {big}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "12 bytes are not whole pairs of words")]
    fn half_a_pair_is_refused() {
        let _ = sum(false, Sum::ZERO, &[0; 12]);
    }

    #[test]
    #[should_panic(expected = "1028 bytes are not whole pairs of words")]
    fn half_a_pair_after_a_block_is_refused() {
        let _ = sum(false, Sum::ZERO, &[0; 1028]);
    }

    proptest! {
        #[test]
        fn dot_products_equal_the_definition(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..20_000),
            at in 0usize..8,
            (s0, s1, big) in any::<(u32, u32, bool)>(),
        ) {
            bytes.truncate(bytes.len() / 8 * 8 + at);
            if bytes.len() >= at {
                let bytes = &bytes[at..];
                let bytes = &bytes[..bytes.len() / 8 * 8];
                prop_assert_eq!(sum(big, Sum(s0, s1), bytes), plain(big, Sum(s0, s1), bytes));
            }
        }
    }
}
