//! Decompresses one LZ4 frame as a stream, strictly: an incomplete file is an error, and so are
//! bytes after the frame.

use std::io::{self, Read};

use lz4_flex::frame::FrameDecoder;

/// The first bytes of every LZ4 frame.
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// The first bytes of a file encrypted by age.
const AGE: &[u8] = b"age-encryption.org/";

/// FLG bit: a checksum of the content follows the end mark.
const CONTENT_CHECKSUM: u8 = 0x04;

/// The content of a file, decompressed as it is read. It is proven only once the end has been
/// reached, because the checksum of the content follows it.
///
/// Errors of kind [`io::ErrorKind::InvalidData`] mean that the file is damaged. All others come
/// from the source.
pub struct Unpacked<R: Read> {
    decoder: FrameDecoder<Strict<R>>,
    ended: bool,
}

impl<R: Read> Unpacked<R> {
    /// Starts at the first byte of `source`.
    pub fn new(source: R) -> Unpacked<R> {
        let strict = Strict { source, head: Vec::with_capacity(AGE.len()), last: [0xff; 8] };
        Unpacked { decoder: FrameDecoder::new(strict), ended: false }
    }

    /// Fills `buf`, or the front of it if the content ends first. Returns the number of bytes.
    ///
    /// # Errors
    /// The same as for [`Read::read`].
    pub fn fill(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.read(&mut buf[done..])? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.ended = true;
        let strict = self.decoder.get_mut();
        let flg = strict.head.get(4).copied().unwrap_or_default();
        let end = if flg & CONTENT_CHECKSUM == 0 { &strict.last[4..] } else { &strict.last[..4] };
        if end != [0; 4] {
            return Err(damaged("its LZ4 frame has no end"));
        }
        if strict.source.read(&mut [0])? != 0 {
            return Err(damaged("bytes follow its LZ4 frame"));
        }
        Ok(())
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.ended || buf.is_empty() {
            return Ok(0);
        }
        match self.decoder.read(buf) {
            Ok(0) => self.finish().map(|()| 0),
            Ok(n) => Ok(n),
            Err(e) if e.get_ref().and_then(|e| e.downcast_ref::<lz4_flex::frame::Error>()).is_some() => {
                let head = &self.decoder.get_ref().head;
                Err(damaged(&match head[..] {
                    _ if AGE.starts_with(&head[..head.len().min(AGE.len())]) => {
                        "it is encrypted by age: decrypt the replica first".to_owned()
                    }
                    _ if !head.starts_with(&MAGIC) => "it is not an LZ4 frame".to_owned(),
                    _ => e.to_string(),
                }))
            }
            Err(e) => Err(e),
        }
    }
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

/// A source that must not end within a frame: a read at its end means that the file is incomplete.
/// The decoder takes some such ends for the end of the content.
struct Strict<R> {
    source: R,
    /// The first bytes of the source.
    head: Vec<u8>,
    /// The last bytes that were read.
    last: [u8; 8],
}

impl<R: Read> Read for Strict<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buf)?;
        if n == 0 && !buf.is_empty() {
            return Err(damaged("it is cut"));
        }
        let room = AGE.len() - self.head.len();
        self.head.extend_from_slice(&buf[..n.min(room)]);
        let tail = &buf[n.saturating_sub(self.last.len())..n];
        self.last.rotate_left(tail.len());
        let at = self.last.len() - tail.len();
        self.last[at..].copy_from_slice(tail);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    use super::*;

    fn packed(content: &[u8], checksum: bool, mode: BlockMode) -> Vec<u8> {
        let info = FrameInfo::new()
            .block_size(BlockSize::Max64KB)
            .block_mode(mode)
            .block_checksums(checksum)
            .content_checksum(checksum);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        Unpacked::new(bytes).read_to_end(&mut content).map(|_| content)
    }

    #[test]
    fn content_comes_back_and_nothing_but_the_whole_file_is_enough() {
        let content: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 9) as u8).collect();
        for checksum in [true, false] {
            for mode in [BlockMode::Independent, BlockMode::Linked] {
                let bytes = packed(&content, checksum, mode);
                assert_eq!(unpack(&bytes).unwrap(), content);
                for cut in
                    (0..40).chain((0..40).map(|n| bytes.len() - 1 - n)).chain((0..bytes.len()).step_by(997))
                {
                    let e = unpack(&bytes[..cut]).unwrap_err();
                    assert_eq!(e.kind(), io::ErrorKind::InvalidData, "{cut}: {e}");
                }
                let e = unpack(&[&bytes[..], b"x"].concat()).unwrap_err();
                assert_eq!(e.to_string(), "bytes follow its LZ4 frame");
                assert!(unpack(&[&bytes[..], &bytes[..]].concat()).is_err());
            }
        }
        assert_eq!(unpack(&packed(b"", true, BlockMode::Independent)).unwrap(), b"");
    }

    #[test]
    fn every_changed_bit_of_the_content_is_seen() {
        let bytes = packed(&[7; 500], true, BlockMode::Independent);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut wrong = bytes.clone();
                wrong[at] ^= 1 << bit;
                // Some bits of the descriptor only say how to read; with those the content is the
                // same.
                assert!(unpack(&wrong).map_or(true, |content| content == [7; 500]), "{at} {bit}");
            }
        }
    }

    #[test]
    fn other_files_are_called_by_their_name() {
        let e = unpack(b"age-encryption.org/v1\n-> X25519 abc").unwrap_err();
        assert!(e.to_string().contains("encrypted by age"), "{e}");
        let e = unpack(b"SQLite format 3\0 and so on").unwrap_err();
        assert_eq!(e.to_string(), "it is not an LZ4 frame");
    }
}
