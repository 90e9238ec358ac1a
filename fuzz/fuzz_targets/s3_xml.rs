//! Any bytes as an answer of S3: no panic, no more entries than the bytes can hold, and what we
//! write ourselves is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lsfast::store::s3::xml;

/// `<Contents><Key>k</Key><Size>0</Size></Contents>`, less what sloppy XML may leave out.
const ENTRY_BYTES_MIN: usize = 30;

fuzz_target!(|input: &[u8]| {
    if let Ok(page) = xml::list(input) {
        assert!(page.entries.len() * ENTRY_BYTES_MIN <= input.len());
        assert!(page.entries.iter().all(|e| !e.key.is_empty()));
        assert!(page.token.is_none_or(|t| !t.is_empty()));
    }
    let _ = xml::error(input);
    let _ = xml::upload_id(input);
    let _ = xml::copy_etag(input, input.len() % 2 == 0);
    let _ = xml::delete_errors(input);

    let Ok(text) = std::str::from_utf8(input) else { return };
    let part = xml::Part { number: 1, etag: text.to_owned(), crc32: None };
    for written in [xml::delete_request([text, "a"]), xml::complete_request(&[part])] {
        let read = xml::delete_errors(written.as_bytes());
        if text.chars().all(has_form) {
            // Well-formed, but no DeleteResult.
            assert_eq!(read, Err(xml::XmlError::Missing("DeleteResult")), "{written}");
        } else {
            assert!(read.is_err(), "{written}");
        }
    }
});

/// Whether XML has a form for a character: not for U+0000 and its like, even escaped.
fn has_form(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
