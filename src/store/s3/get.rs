//! Ranged GET, resumed where the response breaks off.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG};
use http::{HeaderMap, Method, StatusCode};

use super::call::Call;
use super::failure::{Class, Failure};
use super::inner::Inner;
use super::retry::Retry;
use super::web_page::unbelievable;
use crate::base::{limits, untrusted};
use crate::store::ErrorKind;
use crate::store::api::Result;

/// The part of the object that has arrived so far.
#[derive(Debug, Default)]
struct Got {
    bytes: BytesMut,
    /// ETag of the first response. If the object is replaced during the read, the halves must not
    /// be mixed.
    etag: Option<String>,
    /// Whether the object ends where `bytes` ends.
    at_end: bool,
}

impl Inner {
    /// Reads `range`. The result is shorter only where the object ends.
    pub(super) async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let mut got = Got::default();
        while !got.at_end {
            let at = range.start.saturating_add(got.bytes.len() as u64);
            if at >= range.end {
                break;
            }
            let end = range.end.min(at.saturating_add(limits::GET_PART_BYTES));
            self.get_piece(key, at..end, &mut got).await?;
        }
        Ok(got.bytes.freeze())
    }

    /// Reads one piece, with retries.
    async fn get_piece(&self, key: &str, piece: Range<u64>, got: &mut Got) -> Result<()> {
        let before = got.bytes.len() as u64;
        let mut call = get_call(key, piece.clone());
        let mut retry = Retry::new(self, &call);
        loop {
            let have = got.bytes.len();
            let Err(failure) = self.get_attempt(&call, &retry, got).await else { return Ok(()) };
            if failure.status() == Some(416) {
                got.at_end = true;
                return Ok(());
            }
            if got.bytes.len() > have {
                retry.progress();
            }
            retry.after(failure).await.map_err(|f| self.error(&call, f))?;
            let at = piece.start + (got.bytes.len() as u64 - before);
            if at >= piece.end {
                return Ok(());
            }
            call = get_call(key, at..piece.end);
        }
    }

    async fn get_attempt(
        &self,
        call: &Call<'_>,
        retry: &Retry<'_>,
        got: &mut Got,
    ) -> std::result::Result<(), Failure> {
        let attempt = || self.attempt(call, &retry.plan);
        let mut answer = match self.client.hedge(call) {
            Some(hedge) => hedge.run(attempt).await?,
            None => attempt().await?,
        };
        // Objects of a replica are stored as application/octet-stream. A full response of another
        // type is not such an object.
        let kind = answer.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let is_page = kind.starts_with("text/html");
        if answer.status == StatusCode::OK && (is_page || kind.starts_with("application/xml")) {
            let body = answer.body.collect(limits::ERROR_BYTES).await.unwrap_or_default();
            return Err(unbelievable(if is_page { "a web page" } else { "an XML document" }, &body));
        }
        let wanted = call.range.clone().unwrap_or_default();
        let span = Span::of(answer.status, &answer.headers, &wanted)?;
        let etag = answer.headers.get(ETAG).and_then(|v| v.to_str().ok()).map(str::to_owned);
        // A store says of what type an object is, or at least which one it is.
        let mut is_bare = answer.status == StatusCode::OK && kind.is_empty() && etag.is_none();
        if is_bare && span.is_empty() {
            return Err(unbelievable("empty", b""));
        }
        // I5: a read never mixes two versions of an object.
        if got.etag.is_some() && got.etag != etag {
            let message = "the object was replaced while it was read";
            return Err(Failure::new(Class::Final(ErrorKind::Corrupt), message));
        }
        got.etag = etag;
        let mut skip = span.skip;
        let mut left = span.take;
        // Reserves at most what was asked for. A buffer that grows step by step would be copied
        // repeatedly.
        got.bytes.reserve(usize::try_from(left).unwrap_or(0));
        while left > 0 {
            let Some(mut data) = answer.body.next().await? else {
                return Err(Failure::new(Class::Transient, format!("the answer ended {left} bytes early")));
            };
            // No object of a replica begins like this.
            if std::mem::take(&mut is_bare) && data.trim_ascii_start().starts_with(b"<") {
                return Err(unbelievable("an XML document", &data));
            }
            let skipped = data.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
            skip -= skipped as u64;
            let _ = data.split_to(skipped);
            data.truncate(usize::try_from(left).unwrap_or(usize::MAX).min(data.len()));
            left -= data.len() as u64;
            got.bytes.extend_from_slice(&data);
        }
        // Reads the end of the message, so that the connection can be reused.
        if span.whole {
            let more = answer.body.next().await?;
            if more.is_some_and(|m| !m.is_empty()) {
                let message = "the answer is longer than it announced";
                return Err(Failure::new(Class::Final(ErrorKind::Corrupt), message));
            }
        }
        got.at_end = span.at_end;
        Ok(())
    }
}

/// A GET of `range`, which is not empty.
pub(super) fn get_call(key: &str, range: Range<u64>) -> Call<'_> {
    let mut call =
        Call::new(Method::GET, Some(key)).header("range", format!("bytes={}-{}", range.start, range.end - 1));
    call.answer_bytes = range.end - range.start;
    call.range = Some(range);
    call
}

/// Which bytes of a response are the wanted ones.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    skip: u64,
    take: u64,
    /// Whether the object ends with the bytes taken.
    at_end: bool,
    /// Whether the response ends with the bytes taken.
    whole: bool,
}

impl Span {
    /// Whether the object of the response has no bytes, or none of the wanted ones.
    fn is_empty(&self) -> bool {
        self.skip == 0 && self.take == 0
    }

    /// Checks the range that the response announces against `wanted`.
    fn of(
        status: StatusCode,
        headers: &HeaderMap,
        wanted: &Range<u64>,
    ) -> std::result::Result<Span, Failure> {
        let text = |name: &http::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
        let corrupt = |message: String| Failure::new(Class::Final(ErrorKind::Corrupt), message);
        let length: Option<u64> = text(&http::header::CONTENT_LENGTH).and_then(|l| l.parse().ok());
        if status != StatusCode::PARTIAL_CONTENT {
            // The store ignores ranges: the response is the whole object.
            let size = length.ok_or_else(|| corrupt("the answer does not say how long it is".into()))?;
            let (start, end) = (wanted.start.min(size), wanted.end.min(size));
            return Ok(Span { skip: start, take: end - start, at_end: end == size, whole: end == size });
        }
        let said = untrusted::quote(text(&CONTENT_RANGE).unwrap_or_default());
        let (first, last, size) =
            content_range(&said).ok_or_else(|| corrupt(format!("the answer holds the range {said:?}")))?;
        let end = wanted.end.min(size.unwrap_or(u64::MAX));
        let expected = format!("bytes {}-{}", wanted.start, end.saturating_sub(1));
        // I5: only the requested bytes are accepted.
        if first != wanted.start || last + 1 != end {
            return Err(corrupt(format!("the answer holds {said:?}, expected {expected:?}")));
        }
        let take = last - first + 1;
        if length.is_some_and(|l| l != take) {
            return Err(corrupt(format!(
                "the answer announces {} bytes for {said:?}",
                length.unwrap_or_default()
            )));
        }
        Ok(Span { skip: 0, take, at_end: size.is_some_and(|s| end == s), whole: true })
    }
}

/// The bytes to skip and the bytes to take of a response, for `wanted`.
#[cfg(fuzzing)]
pub(super) fn span_for_fuzzing(
    status: StatusCode,
    headers: &HeaderMap,
    wanted: &Range<u64>,
) -> Option<(u64, u64)> {
    Span::of(status, headers, wanted).ok().map(|span| (span.skip, span.take))
}

/// First byte, last byte and size of the object in `bytes 0-9/100` or `bytes 0-9/*`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse::<u64>().ok()?);
    let size = match size.trim() {
        "*" => None,
        size => Some(size.parse::<u64>().ok()?),
    };
    let fits = first <= last && last < u64::MAX && size.is_none_or(|s| last < s);
    fits.then_some((first, last, size))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn span(status: u16, length: &str, range: &str, wanted: Range<u64>) -> std::result::Result<Span, String> {
        let mut headers = HeaderMap::new();
        if !length.is_empty() {
            headers.insert("content-length", HeaderValue::from_str(length).unwrap());
        }
        if !range.is_empty() {
            headers.insert("content-range", HeaderValue::from_str(range).unwrap());
        }
        Span::of(StatusCode::from_u16(status).unwrap(), &headers, &wanted).map_err(|f| f.message)
    }

    #[test]
    fn answers_that_hold_what_was_asked_for() {
        let part = |take, at_end| Ok(Span { skip: 0, take, at_end, whole: true });
        assert_eq!(span(206, "10", "bytes 0-9/100", 0..10), part(10, false));
        assert_eq!(span(206, "10", "bytes 90-99/100", 90..200), part(10, true));
        assert_eq!(span(206, "", "bytes 90-99/*", 90..100), part(10, false));
        assert_eq!(span(200, "100", "", 0..10), Ok(Span { skip: 0, take: 10, at_end: false, whole: false }));
        assert_eq!(span(200, "100", "", 95..200), Ok(Span { skip: 95, take: 5, at_end: true, whole: true }));
        assert_eq!(span(200, "5", "", 10..20), Ok(Span { skip: 5, take: 0, at_end: true, whole: true }));
    }

    #[test]
    fn answers_that_do_not() {
        for (length, range) in [
            ("10", "bytes 1-10/100"),
            ("9", "bytes 1-9/100"),
            ("5", "bytes 0-4/100"),
            ("11", "bytes 0-10/100"),
            ("9", "bytes 0-9/100"),
            ("10", "bytes 9-0/100"),
            ("10", "bytes 0-9/5"),
            ("10", "bytes 0-18446744073709551615/*"),
            ("10", "pages 0-9/100"),
            ("10", ""),
        ] {
            span(206, length, range, 0..10).unwrap_err();
        }
        span(200, "", "", 0..10).unwrap_err();
    }
}
