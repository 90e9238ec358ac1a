//! Any response of an S3 server: first line the status, then headers up to an empty line, then
//! the body. No panic,
//! what is shown is short and printable, and a range holds no more than was asked for.
#![no_main]

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use libfuzzer_sys::fuzz_target;
use lsfast::store::s3::fuzzing;

fuzz_target!(|input: &[u8]| {
    let (head, body) = match input.windows(2).position(|w| w == b"\n\n") {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (input, &b""[..]),
    };
    let mut lines = head.split(|b| *b == b'\n');
    let status = lines.next().and_then(|l| std::str::from_utf8(l).ok()?.trim().parse::<u16>().ok());
    let status = StatusCode::from_u16(status.unwrap_or(200)).unwrap_or(StatusCode::OK);
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let shown = fuzzing::classify_answer(status, &headers, body);
    assert!(shown.chars().count() < 400, "{shown}");
    assert!(!shown.contains(char::is_control), "{shown:?}");
    fuzzing::head_answer(&headers);
    for wanted in [0..1, 0..100, 7..4096, u64::MAX - 9..u64::MAX] {
        if let Some((skip, take)) = fuzzing::get_answer(status, &headers, &wanted) {
            assert!(take <= wanted.end - wanted.start, "{wanted:?} {headers:?}");
            assert!(skip.checked_add(take).is_some());
        }
    }
});
