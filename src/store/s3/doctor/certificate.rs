//! Reads the parts of a certificate (X.509, DER) that are shown to a person: subject, issuer, end
//! of validity.
//!
//! ```text
//! Certificate SEQUENCE { tbs SEQUENCE { [0] version?, serial, algorithm, issuer Name, SEQUENCE
//! { from, until }, subject Name, ... } ... }
//! Name        SEQUENCE of SET of SEQUENCE { OID, string }
//! ```
//! Nothing is decided by these values: rustls decides whether a certificate is accepted.

use crate::base::clock::Millis;
use crate::base::untrusted;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// OID `2.5.4.3`, the common name.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// OID `2.5.4.10`, the organisation.
const ORGANISATION: [u8; 3] = [0x55, 0x04, 0x0a];

/// Longest name that is shown, in characters.
const NAME_MAX: usize = 80;

/// The parts of a certificate that are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) until: Millis,
}

impl Certificate {
    /// Reads a certificate; `None` for anything of another form.
    pub(super) fn read(der: &[u8]) -> Option<Certificate> {
        let (outer, _) = take(der, SEQUENCE)?;
        let (mut tbs, _) = take(outer, SEQUENCE)?;
        if tbs.first() == Some(&VERSION) {
            tbs = any(tbs)?.2;
        }
        // Skips the serial number and the algorithm.
        let rest = any(any(tbs)?.2)?.2;
        let (issuer, rest) = take(rest, SEQUENCE)?;
        let (validity, rest) = take(rest, SEQUENCE)?;
        let (subject, _) = take(rest, SEQUENCE)?;
        let (tag, until, _) = any(any(validity)?.2)?;
        Some(Certificate { subject: name(subject), issuer: name(issuer), until: time(tag, until)? })
    }
}

/// The next element: tag, content, and the bytes after it.
fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0usize, |n, b| (n << 8) | usize::from(*b)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any(der)?;
    (found == tag).then_some((content, rest))
}

/// The common name; without one, the organisation.
fn name(mut der: &[u8]) -> String {
    let mut best = (2, String::new());
    while let Some((_, set, rest)) = any(der) {
        der = rest;
        let Some((pair, _)) = take(set, SEQUENCE) else { continue };
        let Some((_, oid, value)) = any(pair) else { continue };
        let Some((_, value, _)) = any(value) else { continue };
        let rank = if oid == COMMON_NAME {
            0
        } else if oid == ORGANISATION {
            1
        } else {
            2
        };
        if rank < best.0 {
            let text = String::from_utf8_lossy(value);
            best = (rank, untrusted::line(&text, NAME_MAX));
        }
    }
    if best.1.is_empty() { "(no name)".into() } else { best.1 }
}

/// Parses `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &[u8]) -> Option<Millis> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let text = match (tag, text.len()) {
        (UTC_TIME, 12) => format!("{}{text}", if text < "50" { "20" } else { "19" }),
        (GENERALIZED_TIME, 14) => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| &text[from..to];
    let (year, month, day) = (part(0, 4), part(4, 6), part(6, 8));
    Millis::parse_rfc3339(&format!("{year}-{month}-{day}T{}:{}:{}Z", part(8, 10), part(10, 12), part(12, 14)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["s3.example.com".into()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "An Organisation");
        params.distinguished_name.push(rcgen::DnType::CommonName, "s3.example.com");
        params.not_after = rcgen::date_time_ymd(2031, 5, 6);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn who_by_whom_until_when() {
        let read = Certificate::read(&made()).unwrap();
        assert_eq!((read.subject.as_str(), read.issuer.as_str()), ("s3.example.com", "s3.example.com"));
        assert_eq!(read.until.to_rfc3339(), "2031-05-06T00:00:00Z");
        assert_eq!(time(GENERALIZED_TIME, b"20500102030405Z").unwrap().to_rfc3339(), "2050-01-02T03:04:05Z");
        assert_eq!(time(UTC_TIME, b"991231235959Z").unwrap().to_rfc3339(), "1999-12-31T23:59:59Z");
    }

    #[test]
    fn damage_is_no_certificate_and_no_panic() {
        let whole = made();
        for len in 0..whole.len().min(300) {
            assert_eq!(Certificate::read(&whole[..len]), None);
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            let _ = Certificate::read(&damaged);
        }
    }
}
