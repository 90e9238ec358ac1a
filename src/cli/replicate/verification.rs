//! Whether and how replicas are verified in the background.

use std::sync::Arc;

use super::args::ReplicateArgs;
use crate::config::file::Verifications;
use crate::replicate::Verification;
use crate::replicate::history::SystemTimeline;

/// Read rate if neither a flag nor the config file sets one, in bytes per second. It is small
/// compared with uploads and restores, and reads 100 GB in three and a half hours.
const BYTES_PER_SECOND: u64 = 8 << 20;

/// The options from the flags; without them, from the file.
pub(super) fn options(args: &ReplicateArgs, file: Option<&Verifications>) -> Option<Verification> {
    let said = file.and_then(|v| v.interval.as_ref()).map(|i| i.value);
    let interval = args.verify_interval.or(said).filter(|i| !i.is_zero())?;
    let rate = args.verify_rate.or_else(|| file?.rate.as_ref().map(|r| r.value));
    Some(Verification {
        interval,
        bytes_per_second: rate.unwrap_or(BYTES_PER_SECOND),
        clock: Arc::new(SystemTimeline),
    })
}
