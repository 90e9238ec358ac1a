//! `lsfast restore --dry-run`: what would be read.

use super::args::RestoreArgs;
use super::print::{self, How};
use crate::cli::report;
use crate::cli::setup::Setup;
use crate::config::Location;
use crate::restore::{self, RestoreError};

/// Whether there is no replica.
pub(super) fn is_empty(e: &anyhow::Error) -> bool {
    matches!(e.downcast_ref::<RestoreError>(), Some(RestoreError::Empty { .. }))
}

/// Prints the plan of a restore of the whole database.
pub(super) fn dry_run(
    setup: &Setup,
    event_loop: &tokio::runtime::Runtime,
    location: &Location,
    args: &RestoreArgs,
    how: Option<&How>,
) -> anyhow::Result<()> {
    let state = args.selection();
    let (choice, created) = event_loop.block_on(async {
        let store = setup.open(location)?;
        let choice = restore::choose(&*store, state).await?;
        let created = choice.created(&*store).await?;
        Ok::<_, anyhow::Error>((choice, created))
    })?;
    let text = match args.json.is_some() {
        true => print::plan_json(&choice, created, &location.url, how),
        false => print::plan_text(&choice, created, state, how),
    };
    Ok(report::print_line(&text)?)
}
