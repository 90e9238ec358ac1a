//! Settles an ambiguous URL: which reading is an S3 server?

use super::runtime;
use crate::config::{Ambiguity, Overrides, TlsOptions};
use crate::store::ClientOptions;
use crate::store::s3::probe_endpoint;

/// The index of the right reading, if the servers' responses prove one.
pub(super) fn settle(ambiguity: &Ambiguity, flags: &Overrides, client: &ClientOptions) -> Option<usize> {
    if !ambiguity.can_be_probed() {
        return None;
    }
    let tls = TlsOptions { skip_verify: flags.skip_verify, ca_cert: flags.ca_cert.clone() };
    // Uses a separate thread, because the caller may run on an event loop.
    let ask = || {
        let event_loop = runtime::event_loop().ok()?;
        event_loop.block_on(probe_endpoint::settle(ambiguity, &tls, &client.answers))
    };
    let reading = std::thread::scope(|threads| threads.spawn(ask).join().ok().flatten())?;
    let said = &ambiguity.readings[reading];
    tracing::info!(url = %said.url, "the URL can mean several places, and only one of them has the bucket: {}", said.meaning);
    Some(reading)
}
