//! S3's XML: its responses, and the two documents that lsfast sends.
//!
//! Elements are matched by name in any namespace, and unknown elements are skipped.
//! [`limits::XML_BYTES`] bounds the size of a document, and `DEPTH_MAX` its depth.

use std::fmt::Write as _;

use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::http_date::http_date;
use crate::base::clock::Millis;
use crate::base::{limits, untrusted};

/// Deepest nesting of elements. S3 needs 5.
const DEPTH_MAX: usize = 16;

/// Why a response cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// The response has this many bytes, more than [`limits::XML_BYTES`].
    #[error("the answer is {0} bytes of XML, more than the {max} that lsfast reads", max = limits::XML_BYTES)]
    TooLong(usize),
    /// The response is not well-formed XML.
    #[error("the answer is not the XML that S3 sends: {0}")]
    Malformed(String),
    /// A required element is missing.
    #[error("the answer lacks {0}")]
    Missing(&'static str),
    /// An element has an invalid value.
    #[error("the answer holds \"{value}\" as {element}")]
    Value {
        /// Name of the element.
        element: &'static str,
        /// Text of the element, escaped for display.
        value: String,
    },
}

/// An `<Error>` document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorBody {
    /// The error code, such as `NoSuchBucket`.
    pub code: String,
    /// The server's message.
    pub message: String,
    /// The bucket's region, in `AuthorizationHeaderMalformed` and some redirects.
    pub region: String,
    /// The host to use, in redirects.
    pub endpoint: String,
}

/// One object of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListEntry {
    /// The key as it is written in the document.
    pub key: String,
    /// Length in bytes.
    pub size: u64,
    /// When it was written, if the store says so.
    pub modified: Option<Millis>,
    /// The ETag as it is written in the document; empty if there is none.
    pub etag: String,
}

/// A page of ListObjectsV2, or of version 1 of the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The objects of the page.
    pub entries: Vec<ListEntry>,
    /// Whether further pages follow, if the store says so.
    pub truncated: Option<bool>,
    /// The token of the next page. Some stores send none although a next page exists.
    pub token: Option<String>,
    /// Where the next page begins, in version 1 of the request.
    pub marker: Option<String>,
    /// Whether the store replaced keys by common prefixes, which lsfast never asks for.
    pub grouped: bool,
    /// How many keys the page has, common prefixes included, if the store says so.
    pub key_count: Option<u64>,
    /// How many keys the page may have, if the store says so.
    pub max_keys: Option<u64>,
    /// Whether keys are percent-encoded.
    pub url_encoded: bool,
}

/// An object that DeleteObjects did not delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteError {
    /// Key of the object.
    pub key: String,
    /// The error code.
    pub code: String,
    /// The server's message.
    pub message: String,
}

/// Calls `leaf` at the end of each element, with the path of element names and the text.
pub(in crate::store) fn visit(
    xml: &[u8],
    mut leaf: impl FnMut(&[String], &str) -> Result<(), XmlError>,
) -> Result<(), XmlError> {
    if xml.len() > limits::XML_BYTES {
        return Err(XmlError::TooLong(xml.len()));
    }
    let xml = std::str::from_utf8(xml).map_err(|_| XmlError::Malformed("it is not UTF-8".into()))?;
    let malformed = |e: quick_xml::Error| XmlError::Malformed(untrusted::quote(&e.to_string()));
    let mut reader = Reader::from_str(xml.trim_start_matches('\u{feff}'));
    let mut path: Vec<String> = Vec::new();
    let mut text = String::new();
    let mut seen = false;
    loop {
        match reader.read_event().map_err(malformed)? {
            Event::Start(e) => {
                if path.len() == DEPTH_MAX {
                    return Err(XmlError::Malformed("elements are nested too deeply".into()));
                }
                path.push(local(e.name().as_ref()));
                text.clear();
                seen = true;
            }
            Event::Empty(e) => {
                path.push(local(e.name().as_ref()));
                leaf(&path, "")?;
                path.pop();
                text.clear();
                seen = true;
            }
            Event::End(_) => {
                leaf(&path, text.trim())?;
                path.pop();
                text.clear();
            }
            Event::Text(e) => text.push_str(&e.xml10_content()),
            Event::CData(e) => text.push_str(&e.xml10_content()),
            Event::GeneralRef(e) => match e.resolve_char_ref().map_err(malformed)? {
                Some(c) => text.push(c),
                None => text.push_str(quick_xml::escape::resolve_predefined_entity(&e).unwrap_or("\u{fffd}")),
            },
            Event::Eof if path.is_empty() && seen => return Ok(()),
            Event::Eof => return Err(XmlError::Malformed("it ends in the middle".into())),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

fn local(name: &str) -> String {
    name.rsplit(':').next().unwrap_or(name).to_owned()
}

fn names<const N: usize>(path: &[String]) -> Option<[&str; N]> {
    let path: &[String; N] = path.try_into().ok()?;
    Some(path.each_ref().map(String::as_str))
}

/// Reads an `<Error>` document; `None` for anything else, such as the HTML page of a proxy.
#[must_use]
pub fn error(xml: &[u8]) -> Option<ErrorBody> {
    let mut body = ErrorBody::default();
    let mut found = false;
    let read = visit(xml, |path, text| {
        // Some stores wrap the document: <ErrorResponse><Error><Code>. Errors inside a
        // <DeleteResult> concern single objects.
        if let Some(at) = path.iter().position(|n| n == "Error")
            && at <= 1
            && path[0] != "DeleteResult"
        {
            found = true;
            match path[at + 1..].iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["Code"] => text.clone_into(&mut body.code),
                ["Message"] => text.clone_into(&mut body.message),
                ["Region"] => text.clone_into(&mut body.region),
                ["Endpoint"] => text.clone_into(&mut body.endpoint),
                _ => {}
            }
        }
        Ok(())
    });
    (read.is_ok() && found).then_some(body)
}

/// Parses the time of an object. The standard form is RFC 3339; some stores write an HTTP date, or
/// omit the time zone.
fn time(text: &str) -> Option<Millis> {
    let civil = || text.parse::<jiff::civil::DateTime>().ok();
    let others = ["%a %b %e %H:%M:%S %Y", "%A, %d-%b-%y %H:%M:%S GMT"];
    let other = || others.iter().find_map(|form| jiff::civil::DateTime::strptime(form, text).ok());
    let utc = |at: jiff::civil::DateTime| {
        let zoned = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Millis(zoned.timestamp().as_millisecond()))
    };
    Millis::parse_rfc3339(text)
        .or_else(|| http_date(text).map(Millis::from_system))
        .or_else(|| Some(Millis(text.parse::<jiff::Timestamp>().ok()?.as_millisecond())))
        .or_else(|| civil().or_else(other).and_then(utc))
}

/// Parses a boolean, in upper or lower case; an empty text is `None`.
fn yes_or_no(element: &'static str, text: &str) -> Result<Option<bool>, XmlError> {
    match text {
        "" => Ok(None),
        t if t.eq_ignore_ascii_case("true") || t == "1" => Ok(Some(true)),
        t if t.eq_ignore_ascii_case("false") || t == "0" => Ok(Some(false)),
        other => Err(XmlError::Value { element, value: untrusted::quote(other) }),
    }
}

/// Reads a page of ListObjectsV2, or of version 1 of the request.
///
/// # Errors
/// [`XmlError`] if any part of the listing cannot be read.
pub fn list(xml: &[u8]) -> Result<ListPage, XmlError> {
    let mut page = ListPage::default();
    let mut root = false;
    let mut entry = (ListEntry::default(), false);
    visit(xml, |path, text| {
        if let Some(["ListBucketResult"]) = names(path) {
            root = true;
        } else if let Some(["ListBucketResult", name]) = names(path) {
            match name {
                "IsTruncated" => page.truncated = yes_or_no("IsTruncated", text)?,
                "NextContinuationToken" => page.token = Some(text.to_owned()).filter(|t| !t.is_empty()),
                "NextMarker" => page.marker = Some(text.to_owned()).filter(|t| !t.is_empty()),
                // These two only help to find a cut page, so that any other text is no error.
                "KeyCount" => page.key_count = text.parse().ok(),
                "MaxKeys" => page.max_keys = text.parse().ok(),
                "EncodingType" => page.url_encoded = text.eq_ignore_ascii_case("url"),
                "Contents" => {
                    let (done, sized) = std::mem::take(&mut entry);
                    if done.key.is_empty() {
                        return Err(XmlError::Missing("the key of an object"));
                    }
                    if !sized {
                        return Err(XmlError::Missing("the size of an object"));
                    }
                    page.entries.push(done);
                }
                _ => {}
            }
        } else if let Some(["ListBucketResult", "CommonPrefixes", "Prefix"]) = names(path) {
            page.grouped |= !text.is_empty();
        } else if let Some(["ListBucketResult", "Contents", name]) = names(path) {
            match name {
                "Key" => text.clone_into(&mut entry.0.key),
                "Size" => {
                    let bad = |_| XmlError::Value { element: "Size", value: untrusted::quote(text) };
                    entry = (
                        ListEntry { size: text.parse().map_err(bad)?, ..std::mem::take(&mut entry.0) },
                        true,
                    );
                }
                "ETag" => text.clone_into(&mut entry.0.etag),
                "LastModified" => {
                    let bad = || XmlError::Value { element: "LastModified", value: untrusted::quote(text) };
                    // An empty element is a missing one.
                    let given = Some(text).filter(|t| !t.is_empty());
                    entry.0.modified = given.map(|t| time(t).ok_or_else(bad)).transpose()?;
                }
                _ => {}
            }
        }
        Ok(())
    })?;
    if !root {
        return Err(XmlError::Missing("ListBucketResult"));
    }
    Ok(page)
}

/// Reads the upload ID from the response to CreateMultipartUpload.
///
/// # Errors
/// [`XmlError`] if it is missing.
pub fn upload_id(xml: &[u8]) -> Result<String, XmlError> {
    one(xml, "InitiateMultipartUploadResult", "UploadId", "UploadId")
}

/// Reads the ETag from the response to CompleteMultipartUpload.
///
/// # Errors
/// [`XmlError`] if it is missing.
pub fn complete_etag(xml: &[u8]) -> Result<String, XmlError> {
    one(xml, "CompleteMultipartUploadResult", "ETag", "ETag")
}

/// Reads the ETag from the response to CopyObject or UploadPartCopy.
///
/// # Errors
/// [`XmlError`] if it is missing.
pub fn copy_etag(xml: &[u8], of_part: bool) -> Result<String, XmlError> {
    one(xml, if of_part { "CopyPartResult" } else { "CopyObjectResult" }, "ETag", "ETag")
}

fn one(xml: &[u8], root: &str, element: &str, missing: &'static str) -> Result<String, XmlError> {
    let mut found = String::new();
    visit(xml, |path, text| {
        if let Some([a, b]) = names(path)
            && a == root
            && b == element
        {
            text.clone_into(&mut found);
        }
        Ok(())
    })?;
    if found.is_empty() { Err(XmlError::Missing(missing)) } else { Ok(found) }
}

/// Reads which objects DeleteObjects did not delete.
///
/// # Errors
/// [`XmlError`] if the response is not a `DeleteResult`.
pub fn delete_errors(xml: &[u8]) -> Result<Vec<DeleteError>, XmlError> {
    let mut errors = Vec::new();
    let mut root = false;
    let mut error = DeleteError::default();
    visit(xml, |path, text| {
        match names::<3>(path) {
            Some(["DeleteResult", "Error", "Key"]) => text.clone_into(&mut error.key),
            Some(["DeleteResult", "Error", "Code"]) => text.clone_into(&mut error.code),
            Some(["DeleteResult", "Error", "Message"]) => text.clone_into(&mut error.message),
            _ => {}
        }
        if let Some(["DeleteResult", "Error"]) = names(path) {
            errors.push(std::mem::take(&mut error));
        }
        root |= names(path) == Some(["DeleteResult"]);
        Ok(())
    })?;
    if root { Ok(errors) } else { Err(XmlError::Missing("DeleteResult")) }
}

/// The request body of DeleteObjects in quiet mode: the response lists failures only.
#[must_use]
pub fn delete_request<'a>(keys: impl IntoIterator<Item = &'a str>) -> String {
    let mut xml = String::from("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for key in keys {
        xml.push_str("<Object><Key>");
        escape(&mut xml, key);
        xml.push_str("</Key></Object>");
    }
    xml.push_str("<Quiet>true</Quiet></Delete>");
    xml
}

/// One confirmed part of a multipart upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Number of the part, from 1.
    pub number: u32,
    /// ETag with its quotes.
    pub etag: String,
    /// CRC-32 in Base64, if it was sent with the part.
    pub crc32: Option<String>,
}

/// The request body of CompleteMultipartUpload.
#[must_use]
pub fn complete_request(parts: &[Part]) -> String {
    let mut xml = String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for part in parts {
        let _ = write!(xml, "<Part><PartNumber>{}</PartNumber><ETag>", part.number);
        escape(&mut xml, &part.etag);
        xml.push_str("</ETag>");
        if let Some(crc32) = &part.crc32 {
            let _ = write!(xml, "<ChecksumCRC32>{crc32}</ChecksumCRC32>");
        }
        xml.push_str("</Part>");
    }
    xml.push_str("</CompleteMultipartUpload>");
    xml
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
#[path = "xml_tests.rs"]
mod tests;
