//! Request bodies: chunks that are sent from where they are in memory, once per attempt.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use md5::Md5;
use sha2::{Digest, Sha256};

use super::encode::push_hex;

/// Most bytes that the connection receives at once. A larger chunk is split without a copy, so that
/// progress is visible.
const FRAME_BYTES: usize = 128 << 10;

/// A content longer than this, in bytes, is hashed on a worker thread.
const SUM_INLINE_BYTES: u64 = 256 << 10;

/// The SHA-256 of the empty content.
const SHA256_EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The content of a request. It is cheap to clone, and each checksum is computed once.
#[derive(Debug, Clone, Default)]
pub(super) struct Payload(Arc<Content>);

#[derive(Debug, Default)]
struct Content {
    chunks: Vec<Bytes>,
    len: u64,
    sha256: OnceLock<String>,
    crc32: OnceLock<u32>,
}

impl Payload {
    pub(super) fn new(chunks: Vec<Bytes>) -> Payload {
        let len = chunks.iter().map(|c| c.len() as u64).sum();
        Payload(Arc::new(Content { chunks, len, ..Content::default() }))
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len
    }

    /// The SHA-256 in lower-case hex, for the signature.
    pub(super) fn sha256(&self) -> &str {
        if self.0.len == 0 {
            return SHA256_EMPTY;
        }
        self.0.sha256.get_or_init(|| {
            let mut hash = Sha256::new();
            self.0.chunks.iter().for_each(|c| hash.update(c));
            let mut hex = String::with_capacity(64);
            push_hex(&mut hex, &hash.finalize());
            hex
        })
    }

    /// The MD5 in lower-case hex, as in an ETag.
    pub(super) async fn md5(&self) -> String {
        let mut hex = String::with_capacity(32);
        push_hex(&mut hex, &self.md5_bytes().await);
        hex
    }

    /// The MD5 in Base64, as in Content-MD5.
    pub(super) async fn md5_base64(&self) -> String {
        BASE64.encode(self.md5_bytes().await)
    }

    /// The MD5; that of a long content is computed on a worker thread.
    async fn md5_bytes(&self) -> [u8; 16] {
        let content = self.clone();
        let sum = move || {
            let mut hash = Md5::new();
            content.0.chunks.iter().for_each(|c| hash.update(c));
            hash.finalize().into()
        };
        if self.0.len <= SUM_INLINE_BYTES {
            return sum();
        }
        // If the worker fails, the runtime is shutting down: nothing more is sent or compared.
        tokio::task::spawn_blocking(sum).await.unwrap_or_default()
    }

    pub(super) fn crc32(&self) -> u32 {
        *self.0.crc32.get_or_init(|| {
            let mut crc = crc32fast::Hasher::new();
            self.0.chunks.iter().for_each(|c| crc.update(c));
            crc.finalize()
        })
    }

    /// Computes the checksums that the request needs. Those of a long content are computed on a
    /// worker thread, so that other tasks are not delayed.
    pub(super) async fn sum(&self, signed: bool) {
        if self.0.len <= SUM_INLINE_BYTES {
            return;
        }
        let content = self.clone();
        let sums = tokio::task::spawn_blocking(move || {
            content.crc32();
            if signed {
                content.sha256();
            }
        });
        // If the worker fails, the checksums are computed when they are needed.
        let _ = sums.await;
    }

    /// Whether the content equals `other`, byte for byte.
    pub(super) fn equals(&self, other: &[u8]) -> bool {
        let mut rest = other;
        for chunk in &self.0.chunks {
            match rest.split_at_checked(chunk.len()) {
                Some((head, tail)) if head == chunk => rest = tail,
                _ => return false,
            }
        }
        rest.is_empty()
    }

    /// A body to send, and the counter of its bytes that the connection has taken.
    pub(super) fn body(&self) -> (Chunks, Arc<AtomicU64>) {
        let taken = Arc::new(AtomicU64::new(0));
        let queue = self.0.chunks.iter().filter(|c| !c.is_empty()).cloned().collect();
        (Chunks { queue, left: self.0.len, taken: Arc::clone(&taken) }, taken)
    }
}

/// A body of known length, in chunks.
#[derive(Debug)]
pub(super) struct Chunks {
    queue: VecDeque<Bytes>,
    left: u64,
    taken: Arc<AtomicU64>,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(front) = self.queue.front_mut() else { return Poll::Ready(None) };
        let frame = if front.len() > FRAME_BYTES {
            front.split_to(FRAME_BYTES)
        } else {
            self.queue.pop_front().unwrap_or_default()
        };
        self.left -= frame.len() as u64;
        self.taken.fetch_add(frame.len() as u64, Ordering::Relaxed);
        crate::store::progress::note();
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.queue.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_and_comparison_do_not_depend_on_the_cut() {
        let whole = Payload::new(vec![Bytes::from_static(b"123456789")]);
        let cut = Payload::new(vec![
            Bytes::from_static(b"1234"),
            Bytes::new(),
            Bytes::from_static(b"5678"),
            Bytes::from_static(b"9"),
        ]);
        assert_eq!(whole.crc32(), 0xcbf4_3926);
        assert_eq!(cut.crc32(), whole.crc32());
        assert_eq!(cut.sha256(), whole.sha256());
        assert_eq!(cut.sha256(), "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225");
        assert!(cut.equals(b"123456789"));
        for other in [&b"12345678"[..], b"1234567890", b"", b"123456780"] {
            assert!(!cut.equals(other));
        }
        assert_eq!(Payload::default().sha256().len(), 64);
        assert!(Payload::default().equals(b""));
    }

    #[test]
    fn a_body_is_cut_into_frames_without_copying() {
        let big = Bytes::from(vec![7; FRAME_BYTES * 2 + 10]);
        let payload = Payload::new(vec![Bytes::from_static(b"head"), big.clone()]);
        let (mut body, taken) = payload.body();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut lengths = Vec::new();
        let mut second = None;
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) {
            let data = frame.into_data().unwrap();
            lengths.push(data.len());
            second = second.or((lengths.len() == 2).then_some(data));
        }
        assert_eq!(lengths, [4, FRAME_BYTES, FRAME_BYTES, 10]);
        assert_eq!(second.unwrap().as_ptr(), big.as_ptr());
        assert_eq!(taken.load(Ordering::Relaxed), payload.len());
        assert!(body.is_end_stream());
    }
}
