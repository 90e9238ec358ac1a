//! How the store of a history behaves: what it lacks, and what fails.

use http::Method;

/// How the store behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manners {
    /// Ignores `If-None-Match`.
    pub ignores_conditions: bool,
    /// Ignores `start-after`.
    pub lists_whole: bool,
    /// Has no DeleteObjects.
    pub deletes_one: bool,
    /// Keys that one page of a listing names.
    pub page: usize,
    /// Milliseconds by which its clock is ahead.
    pub clock: i64,
    /// Of a hundred requests, how many meet a fault.
    pub faults: u8,
    /// No connection can be made.
    pub is_down: bool,
    /// Writes are answered with this status.
    pub refuses: Option<u16>,
    /// Lists keys in no order, with tokens that are no keys.
    pub unordered: bool,
    /// Says that more keys follow, without a token to ask for them.
    pub no_tokens: bool,
    /// Its ETags are MD5s.
    pub md5: bool,
    /// What it does not support.
    pub lacks: Option<Lack>,
}

/// A part of S3 that a store does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Copies within the store.
    Copies,
    /// Checksums in headers.
    Checksums,
    /// Checksums in responses to HEAD.
    ChecksumMode,
    /// Any checksum but MD5, which it requires.
    AllButMd5,
    /// The right to send checksums in headers.
    ChecksumRights,
    /// HEAD.
    Heads,
}

impl Manners {
    /// Status, code and message for a request of which the store does not understand a header.
    pub fn refusal<'a>(
        &self,
        method: &Method,
        header: &dyn Fn(&str) -> Option<&'a str>,
    ) -> Option<(u16, &'static str, &'static str)> {
        let summed = header("x-amz-checksum-crc32").is_some();
        match self.lacks? {
            Lack::Copies if header("x-amz-copy-source").is_some() => {
                Some((403, "AccessDenied", "This is AccessDenied."))
            }
            Lack::Checksums | Lack::AllButMd5 if method == Method::PUT && summed => {
                Some((400, "InvalidArgument", "unknown header x-amz-checksum-crc32"))
            }
            Lack::ChecksumRights if method == Method::PUT && summed => {
                Some((403, "AccessDenied", "x-amz-checksum-crc32 is not allowed"))
            }
            Lack::Heads if method == Method::HEAD => Some((403, "", "")),
            Lack::ChecksumMode if method == Method::HEAD && header("x-amz-checksum-mode").is_some() => {
                Some((400, "", ""))
            }
            Lack::AllButMd5 if method == Method::PUT && header("content-md5").is_none() => Some((
                400,
                "InvalidRequest",
                "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests",
            )),
            _ => None,
        }
    }
}
