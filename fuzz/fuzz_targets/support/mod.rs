//! What several targets share: the checksums that random bytes would never get right.
#![allow(dead_code)]

use lsfast::wal::checksum::{self, Sum};
use lsfast::wal::format::{FRAME_HEADER_BYTES, HEADER_BYTES, WalHeader, frame_bytes};

/// Makes the header of a WAL right, and each frame whose byte 16 is even.
pub fn repair_wal(wal: &mut [u8]) {
    let Some(header) = wal.first_chunk_mut::<HEADER_BYTES>() else { return };
    let (big, exponent) = (header[3] & 1 == 1, header[11] % 8);
    header[..8].copy_from_slice(&[0x37, 0x7f, 0x06, 0x82 | u8::from(big), 0x00, 0x2d, 0xe2, 0x18]);
    header[8..12].copy_from_slice(&(512u32 << exponent).to_be_bytes());
    let mut sum = checksum::plain(big, Sum::ZERO, &header[..24]);
    header[24..].copy_from_slice(&sum.to_be_bytes());
    let salts: [u8; 8] = header[16..24].try_into().expect("8 bytes");
    let Ok(header) = WalHeader::parse(wal) else { unreachable!("a repaired header") };
    for frame in wal[HEADER_BYTES..].chunks_exact_mut(frame_bytes(header.page_size)) {
        sum = checksum::plain(big, sum, &frame[..8]);
        sum = checksum::plain(big, sum, &frame[FRAME_HEADER_BYTES..]);
        if frame[16] % 2 == 0 {
            frame[8..16].copy_from_slice(&salts);
            frame[16..24].copy_from_slice(&sum.to_be_bytes());
        }
    }
}

/// Writes the CRC-64 of all bytes before it into the last eight.
pub fn repair_crc64(bytes: &mut [u8], little_endian: bool) {
    let Some((body, end)) = bytes.split_last_chunk_mut::<8>() else { return };
    let crc = lsfast::base::crc64::crc64(body);
    *end = if little_endian { crc.to_le_bytes() } else { crc.to_be_bytes() };
}

/// An LZ4 frame of uncompressed blocks without checksums; the header check is that of these flags.
pub fn lz4(content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73];
    for block in content.chunks(64 << 10) {
        frame.extend_from_slice(&(block.len() as u32 | 1 << 31).to_le_bytes());
        frame.extend_from_slice(block);
    }
    frame.extend_from_slice(&[0; 4]);
    frame
}
