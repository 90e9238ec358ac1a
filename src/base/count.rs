//! A number with the noun that it counts.

use std::fmt::Display;

/// `1 file`, `2 files`: the number with the noun, which has an `s` in the plural.
pub fn count<N: Copy + Display + PartialEq + From<u8>>(n: N, noun: &str) -> String {
    let s = if n == N::from(1) { "" } else { "s" };
    format!("{n} {noun}{s}")
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn one_is_singular() {
        assert_eq!([0_u64, 1, 2].map(|n| count(n, "file")), ["0 files", "1 file", "2 files"]);
        assert_eq!(count(1_usize, "commit"), "1 commit");
    }
}
