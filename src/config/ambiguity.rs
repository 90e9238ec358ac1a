//! A URL that can mean several places.

use std::fmt;

use super::address::EndpointUrl;
use super::text::shown;

/// One interpretation of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The meaning, for messages: `bucket b of the server h`.
    pub meaning: String,
    /// The unambiguous URL with this meaning.
    pub url: String,
    /// The server to probe.
    pub endpoint: EndpointUrl,
    /// The bucket to probe for; `None` if the URL does not name one.
    pub bucket: Option<String>,
}

/// A URL with several readings. No request has been sent to any of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ambiguity {
    /// The URL as written, including its parameters. It is the key by which
    /// [`super::Overrides::settled`] replaces it.
    pub url: String,
    /// All readings.
    pub readings: Vec<Reading>,
}

impl Ambiguity {
    /// Whether a probe of the servers can tell the readings apart: each of them names a bucket.
    #[must_use]
    pub fn can_be_probed(&self) -> bool {
        self.readings.iter().all(|r| r.bucket.is_some())
    }
}

impl fmt::Display for Ambiguity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ask = match self.readings.len() {
            1 => "leaves open what its first name is; if it is this, write",
            _ => "can mean several places; write the one that you mean",
        };
        write!(f, "replica URL {:?} {ask}:", shown(&self.url))?;
        for reading in &self.readings {
            write!(f, "\n  {}: {}", reading.meaning, reading.url)?;
        }
        Ok(())
    }
}
