//! Headers that a store may refuse: `If-None-Match: *` (create-only), `x-amz-checksum-crc32`, and
//! `x-amz-checksum-mode` with HEAD. A store may also require one: `Content-MD5`, for a bucket with
//! Object Lock.
//!
//! A request that fails with 501 or 400, or with a 403 that names one of these headers, is retried
//! with fewer of them. The combination that succeeds is remembered for the life of the process. If
//! none succeeds, the first response is the error.

use std::sync::atomic::Ordering;

use super::failure::{Class, Failure};
use super::headers::CHECKSUM;
use super::inner::Inner;
use crate::config::Checksum;
use crate::store::ErrorKind;

/// The optional headers of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) create_only: bool,
    pub(super) checksum: bool,
    /// Set once the store has required it.
    pub(super) md5: bool,
}

/// The ways to send one request, from all optional headers to none.
#[derive(Debug)]
pub(super) struct Ways {
    asked: Wishes,
    pub(super) now: Wishes,
    left: Vec<Wishes>,
    first: Option<Failure>,
}

impl Ways {
    /// Moves to the next way after `failure`. Returns the failure that counts if this one is not a
    /// refused header, or if no way is left.
    pub(super) fn next(&mut self, failure: Failure) -> Result<(), Failure> {
        if !self.now.md5 && asks_for_md5(&failure) {
            self.now.md5 = true;
            self.asked.md5 = true;
            return Ok(());
        }
        if !may_be_refusal(&failure) {
            return Err(failure);
        }
        if self.first.is_none() {
            self.left = fewer(self.asked, &failure);
            self.first = Some(failure);
        }
        match self.left.pop() {
            Some(now) => {
                self.now = now;
                Ok(())
            }
            None => Err(self.first.take().unwrap_or_else(|| {
                Failure::new(Class::Unsupported, "the store refuses the request in every form")
            })),
        }
    }
}

/// Whether the store requires Content-MD5 and the request has none.
pub(super) fn asks_for_md5(failure: &Failure) -> bool {
    let said = failure.detail.said.to_ascii_lowercase();
    matches!(failure.code(), "MissingContentMD5" | "MissingDigest")
        || (matches!(failure.status(), Some(400 | 403))
            && said.contains("content-md5")
            && !said.contains("invalid"))
}

/// Whether the store blames a checksum header or parameter. A gateway may do so with a 403, as if
/// it were a matter of rights.
pub(super) fn blames_checksum(failure: &Failure) -> bool {
    let said = failure.detail.said.to_ascii_lowercase();
    matches!(failure.status(), Some(400 | 403 | 501))
        && ["x-amz-checksum", "x-amz-sdk-checksum", "checksumalgorithm", "checksum algorithm"]
            .iter()
            .any(|name| said.contains(name))
}

/// Whether the store blames `If-None-Match`. A gateway may do so with a 403, as if it were a matter
/// of rights.
pub(super) fn blames_condition(failure: &Failure) -> bool {
    matches!(failure.status(), Some(400 | 403 | 501))
        && failure.detail.said.to_ascii_lowercase().contains("if-none-match")
}

/// Whether the failure may be about a header rather than the request itself.
pub(super) fn may_be_refusal(failure: &Failure) -> bool {
    match failure.class {
        Class::Unsupported => true,
        Class::Credentials => blames_checksum(failure) || blames_condition(failure),
        Class::Final(ErrorKind::Fatal) => {
            let other =
                ["EntityTooLarge", "EntityTooSmall", "KeyTooLongError", "InvalidBucketName", "InvalidPart"];
            failure.status() == Some(400) && !other.contains(&failure.code())
        }
        _ => false,
    }
}

/// Combinations with fewer headers than `asked`, the most likely one last. If the store names the
/// header that it refuses, that one is dropped first.
fn fewer(asked: Wishes, failure: &Failure) -> Vec<Wishes> {
    let none = Wishes { create_only: false, checksum: false, ..asked };
    let unchecked = Wishes { checksum: false, ..asked };
    let replacing = Wishes { create_only: false, ..asked };
    let blames_checksum = failure.detail.said.to_ascii_lowercase().contains("checksum");
    let mut ways =
        if blames_checksum { vec![none, replacing, unchecked] } else { vec![none, unchecked, replacing] };
    ways.retain(|w| *w != asked);
    ways.dedup();
    if !asked.create_only || !asked.checksum {
        ways.truncate(1);
    }
    ways
}

impl Inner {
    /// All ways to send a request, without the headers that the store is known to refuse.
    pub(super) fn ways(&self, create_only: bool) -> Ways {
        let (quirks, refused) = (&self.location.quirks, &self.client.refused);
        let honoured = quirks.create_only.unwrap_or(true) && !refused.create_only.load(Ordering::Relaxed);
        let checked = quirks.checksum == Checksum::Crc32 && !refused.checksum.load(Ordering::Relaxed);
        let md5 = self.client.wants_md5.load(Ordering::Relaxed);
        let asked = Wishes { create_only: create_only && honoured, checksum: checked, md5 };
        Ways { asked, now: asked, left: Vec::new(), first: None }
    }

    /// Remembers that the store refuses checksums.
    pub(super) fn refuse_checksum(&self) {
        if !self.client.refused.checksum.swap(true, Ordering::Relaxed) {
            tracing::debug!(replica = %self.url, "the store refuses {CHECKSUM}: it is left out from now on");
        }
    }

    /// Remembers the headers that were dropped or added, after the store has accepted the request.
    pub(super) fn remember_refusal(&self, ways: &Ways) {
        let refused = &self.client.refused;
        let (asked, granted) = (ways.asked, ways.now);
        if asked.create_only && !granted.create_only && !refused.create_only.swap(true, Ordering::Relaxed) {
            tracing::debug!(replica = %self.url, "the store refuses If-None-Match: LIST comes before PUT from now on");
        }
        if granted.md5 && !self.client.wants_md5.swap(true, Ordering::Relaxed) {
            tracing::debug!(replica = %self.url, "the store asks for Content-MD5: it goes with each upload from now on");
        }
        if asked.checksum && !granted.checksum {
            self.refuse_checksum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(create_only: bool, checksum: bool) -> Ways {
        let asked = Wishes { create_only, checksum, md5: false };
        Ways { asked, now: asked, left: Vec::new(), first: None }
    }

    fn refusal(said: &str) -> Failure {
        let mut failure = Failure::new(Class::Unsupported, said);
        said.clone_into(&mut failure.detail.said);
        failure
    }

    fn walk(mut ways: Ways, said: &str) -> Vec<(bool, bool)> {
        let mut seen = vec![(ways.now.create_only, ways.now.checksum)];
        while ways.next(refusal(said)).is_ok() {
            seen.push((ways.now.create_only, ways.now.checksum));
        }
        seen
    }

    #[test]
    fn every_way_once_and_the_blamed_header_first() {
        let (t, f) = (true, false);
        assert_eq!(walk(ways(t, t), ""), [(t, t), (f, t), (t, f), (f, f)]);
        assert_eq!(walk(ways(t, t), "unknown Checksum"), [(t, t), (t, f), (f, t), (f, f)]);
        assert_eq!(walk(ways(t, f), ""), [(t, f), (f, f)]);
        assert_eq!(walk(ways(f, t), ""), [(f, t), (f, f)]);
        assert_eq!(walk(ways(f, f), ""), [(f, f)]);
    }

    #[test]
    fn content_md5_is_added_where_it_is_asked_for_and_nothing_is_dropped() {
        let mut asked = ways(true, true);
        let said = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters";
        let mut failure = refusal(said);
        failure.class = Class::Final(ErrorKind::Fatal);
        failure.detail.status = Some(http::StatusCode::BAD_REQUEST);
        asked.next(failure).unwrap();
        assert_eq!(asked.now, Wishes { create_only: true, checksum: true, md5: true });
        asked.next(refusal("unknown checksum")).unwrap();
        assert_eq!(asked.now, Wishes { create_only: true, checksum: false, md5: true });
    }

    #[test]
    fn a_403_that_names_the_condition_is_a_refusal_of_it() {
        let denial = |said: &str| {
            let mut failure = refusal(said);
            failure.class = Class::Credentials;
            failure.detail.status = Some(http::StatusCode::FORBIDDEN);
            failure
        };
        let mut asked = ways(true, true);
        asked.next(denial("If-None-Match is not allowed")).unwrap();
        assert_eq!(asked.now, Wishes { create_only: false, checksum: true, md5: false });
        ways(true, true).next(denial("Access Denied")).unwrap_err();
    }

    #[test]
    fn the_first_answer_is_the_error_and_others_end_it_at_once() {
        let mut two = ways(true, true);
        two.next(refusal("first")).unwrap();
        two.next(refusal("second")).unwrap();
        two.next(refusal("third")).unwrap();
        assert_eq!(two.next(refusal("fourth")).unwrap_err().message, "first");
        let other = Failure::new(Class::Final(ErrorKind::NoBucket), "no bucket");
        assert_eq!(ways(true, true).next(other).unwrap_err().message, "no bucket");
    }
}
