//! Headers of objects, by name and value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Header with the CRC-32 of the content, big-endian, in Base64.
pub(super) const CHECKSUM: &str = "x-amz-checksum-crc32";

/// Metadata key for the timestamp of the LTX header. The name is Litestream's.
pub(super) const CREATED: &str = "x-amz-meta-litestream-timestamp";

/// A CRC-32 in the form of the header.
pub(super) fn base64_crc(crc: u32) -> String {
    BASE64.encode(crc.to_be_bytes())
}
