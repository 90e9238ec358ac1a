//! Responses that do not come from the store, such as the HTML page of a proxy.

use super::classify::plain_text;
use super::failure::{Class, Failure};

/// Whether a document is an HTML page.
pub(super) fn is_web_page(body: &[u8]) -> bool {
    let start = body[..body.len().min(512)].to_ascii_lowercase();
    let has = |text: &[u8]| start.windows(text.len()).any(|w| w == text);
    has(b"<html") || has(b"<!doctype html")
}

/// The failure for a response that does not come from the store. It is transient.
pub(super) fn unbelievable(what: &str, body: &[u8]) -> Failure {
    let said = plain_text(body);
    let quoted = if said.is_empty() { String::new() } else { format!(" (\"{said}\")") };
    let message = format!(
        "the answer is {what}{quoted}, not that of S3: something between here and the store answers in its place"
    );
    Failure::new(Class::Transient, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_for_browsers() {
        for page in [
            "<html><body>We will be back soon</body></html>",
            "\u{feff}\n<!DOCTYPE HTML><title>x</title>",
            "<?xml version=\"1.0\"?><!DOCTYPE html PUBLIC \"x\"><html xmlns=\"y\">",
        ] {
            assert!(is_web_page(page.as_bytes()), "{page}");
        }
        for none in ["", "LTX1\0\0", "<ListBucketResult/>", "<Error><Code>x</Code></Error>"] {
            assert!(!is_web_page(none.as_bytes()), "{none}");
        }
        let said =
            unbelievable("a web page", b"<html><body>We will <b>be</b> back\x1b[1m</body></html>").message;
        assert!(
            said.starts_with("the answer is a web page (\"We will be back\\u{1b}[1m\"), not that of S3"),
            "{said}"
        );
    }
}
