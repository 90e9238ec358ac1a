//! A [`Decoder`] around any [`BufRead`].

use std::io::BufRead;

use super::{Decoder, Header, LtxError, PageSource, Step, Trailer};
use crate::base::Pgno;

/// Decodes one file from a buffered reader, page by page. The reader should have a buffer of 64 KiB
/// or more.
#[derive(Debug)]
pub struct LtxReader<R> {
    input: R,
    decoder: Option<Decoder>,
    header: Header,
    trailer: Option<Trailer>,
}

impl<R: BufRead> LtxReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// The header is not valid, or the input fails.
    pub fn new(mut input: R) -> Result<LtxReader<R>, LtxError> {
        let mut decoder = Decoder::new();
        let step = next_step(&mut input, &mut decoder)?;
        match (step, decoder.header()) {
            (Some(Step::Header), Some(&header)) => {
                Ok(LtxReader { input, decoder: Some(decoder), header, trailer: None })
            }
            _ => Err(decoder.finish().expect_err("a file without a header is cut")),
        }
    }

    /// The trailer, once [`PageSource::advance`] has returned `None`.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn trailer(&self) -> Option<Trailer> {
        self.trailer
    }
}

impl<R: BufRead> PageSource for LtxReader<R> {
    fn header(&self) -> &Header {
        &self.header
    }

    fn advance(&mut self) -> Result<Option<Pgno>, LtxError> {
        let Some(decoder) = &mut self.decoder else {
            return if self.trailer.is_some() { Ok(None) } else { Err(LtxError::AlreadyFailed) };
        };
        if let Some(Step::Page(pgno)) = next_step(&mut self.input, decoder)? {
            return Ok(Some(pgno));
        }
        if let Some(decoder) = self.decoder.take() {
            self.trailer = Some(decoder.finish()?);
        }
        Ok(None)
    }

    fn page(&self) -> &[u8] {
        self.decoder.as_ref().map_or(&[], Decoder::page)
    }
}

/// The next step that completes something; `None` at the end of the input.
fn next_step(input: &mut impl BufRead, decoder: &mut Decoder) -> Result<Option<Step>, LtxError> {
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        if available.is_empty() {
            return Ok(None);
        }
        let mut rest = available;
        let step = decoder.step(&mut rest)?;
        let used = available.len() - rest.len();
        input.consume(used);
        if step != Step::NeedInput {
            return Ok(Some(step));
        }
    }
}
