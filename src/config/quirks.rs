//! In what S3 stores differ from each other: addressing, signatures, checksums, certificates.

use std::path::PathBuf;

/// How a request names the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addressing {
    /// `https://BUCKET.host/KEY`
    VirtualHost,
    /// `https://host/BUCKET/KEY`
    Path,
}

/// Whether the signature covers request bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignPayload {
    /// Only over plain HTTP: TLS already protects the body.
    #[default]
    Auto,
    /// On every request.
    Always,
    /// On no request.
    Never,
}

/// The checksum header of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// `x-amz-checksum-crc32`, until the store refuses it.
    #[default]
    Crc32,
    /// No checksum header.
    None,
}

/// Differences between S3 implementations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quirks {
    /// Whether bodies are signed.
    pub sign_payload: SignPayload,
    /// The checksum header of an upload.
    pub checksum: Checksum,
    /// Whether the store answers `If-None-Match: *` with 412 if the object exists. `None`: unknown,
    /// so try it.
    pub create_only: Option<bool>,
    /// Size of the parts of an upload in bytes; `None` for the default.
    pub part_bytes: Option<u64>,
}

/// How TLS certificates are verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TlsOptions {
    /// Whether to accept every certificate.
    pub skip_verify: bool,
    /// A file of additional trusted certificates in PEM form.
    pub ca_cert: Option<PathBuf>,
}
