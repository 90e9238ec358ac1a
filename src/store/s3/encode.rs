//! Percent-encoding by the rules of AWS Signature Version 4.
//!
//! Letters, digits and `-._~` stay, and in a path also the slash. Every other byte of the UTF-8
//! form becomes `%XX` in upper case. A space is `%20` and a plus is `%2B`, so the bytes on the wire
//! equal the signed ones.

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn push(out: &mut String, text: &str, keep_slash: bool) {
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') || (keep_slash && b == b'/') {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(b >> 4)]));
            out.push(char::from(HEX[usize::from(b & 15)]));
        }
    }
}

/// Appends an object key to a path.
pub(super) fn push_path(out: &mut String, key: &str) {
    push(out, key, true);
}

/// Appends a name or a value to a query.
pub(in crate::store) fn push_query(out: &mut String, text: &str) {
    push(out, text, false);
}

/// Appends bytes in lower-case hex.
pub(in crate::store) fn push_hex(out: &mut String, bytes: &[u8]) {
    for b in bytes {
        for digit in [b >> 4, b & 15] {
            out.push(char::from(HEX[usize::from(digit)].to_ascii_lowercase()));
        }
    }
}

/// Reverses the `encoding-type=url` of a listing, where a plus may stand for a space (AWS) or for
/// itself. Bytes that are not UTF-8 and percent signs that encode nothing stay as they are: the
/// replica has no such key.
pub(super) fn decode_key(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', ..) if plus_is_space => {
                out.push(b' ');
                at += 1;
            }
            (b, ..) => {
                out.push(b);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries() {
        for (key, expected) in [
            ("a/b.ltx", "a/b.ltx"),
            ("/0000/x", "/0000/x"),
            ("a//b", "a//b"),
            ("a b+c", "a%20b%2Bc"),
            ("t\u{e4}st/\u{1f600}", "t%C3%A4st/%F0%9F%98%80"),
            ("!*'()&$@=;:,?#%", "%21%2A%27%28%29%26%24%40%3D%3B%3A%2C%3F%23%25"),
        ] {
            let mut out = String::new();
            push_path(&mut out, key);
            assert_eq!(out, expected);
            assert_eq!(decode_key(&out, true), key);
        }
        let mut out = String::new();
        push_query(&mut out, "a/b~c");
        assert_eq!(out, "a%2Fb~c");
    }

    #[test]
    fn odd_listings_do_not_break() {
        assert_eq!(decode_key("a+b", true), "a b");
        assert_eq!(decode_key("a+b%2B", false), "a+b+");
        assert_eq!(decode_key("100%", true), "100%");
        assert_eq!(decode_key("%zz", true), "%zz");
        assert_eq!(decode_key("%ff", true), "%ff");
    }
}
