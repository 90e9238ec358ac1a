//! Who may read at `addr`, and how much a response is compressed.

use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION};
use sha2::{Digest as _, Sha256};

use crate::config::Secret;

/// Whether a request shows the token: as `Authorization: Bearer TOKEN`, or as the password of
/// `Basic`, which browsers ask their users for.
pub(super) fn shows(headers: &HeaderMap, token: &Secret) -> bool {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, rest) = value.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(rest.trim().to_owned());
        }
        let decoded =
            BASE64_STANDARD.decode(rest.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let text = String::from_utf8(decoded).ok()?;
        text.split_once(':').map(|(_, password)| password.to_owned())
    });
    // Hashes are compared, so the time says nothing of how much of the token is right.
    given.is_some_and(|given| Sha256::digest(given.as_bytes()) == Sha256::digest(token.expose().as_bytes()))
}

/// Whether the client takes gzip.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let all = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    all.flat_map(|v| v.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = |p: &str| p.strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
        is_gzip && !parts.any(refused)
    })
}

/// The body compressed; `None` if that fails, which it does not in memory.
pub(super) fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn the_token_opens_and_nothing_else_does() {
        let token = Secret::new("tok:en");
        let shown = |value: &str| shows(&with(AUTHORIZATION, value), &token);
        assert!(shown("Bearer tok:en") && shown("bearer  tok:en"));
        assert!(shown(&format!("Basic {}", BASE64_STANDARD.encode("anyone:tok:en"))));
        for wrong in ["", "Bearer", "Bearer tok", "Bearer tok:en2", "tok:en", "Basic tok:en", "Digest tok:en"]
        {
            assert!(!shown(wrong), "{wrong}");
        }
        assert!(!shown(&format!("Basic {}", BASE64_STANDARD.encode("tok:en"))));
        assert!(!shows(&HeaderMap::new(), &token));
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for yes in ["gzip", "deflate, gzip;q=0.5", "GZIP ; q=1"] {
            assert!(takes_gzip(&with(ACCEPT_ENCODING, yes)), "{yes}");
        }
        for no in ["identity", "gzip;q=0", "br, gzip; q=0.0", "xgzip"] {
            assert!(!takes_gzip(&with(ACCEPT_ENCODING, no)), "{no}");
        }
        let packed = gzip(&b"lsfast".repeat(1_000)).unwrap();
        assert!(packed.len() < 200);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed[..]), &mut text).unwrap();
        assert_eq!(text, "lsfast".repeat(1_000));
    }
}
