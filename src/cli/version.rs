//! `lsfast version`

use std::process::ExitCode;

use clap::Args;

use super::report::print_line;

/// Print the version of lsfast and of what it is built on.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Runs `lsfast version`.
pub(super) fn run(args: &VersionArgs) -> anyhow::Result<ExitCode> {
    let (version, sqlite) = (env!("CARGO_PKG_VERSION"), rusqlite::version());
    let io = if cfg!(feature = "uring") { "io_uring and plain calls" } else { "plain calls" };
    let line = if args.json {
        let uring = cfg!(feature = "uring");
        serde_json::json!({ "version": version, "sqlite": sqlite, "io_uring": uring }).to_string()
    } else {
        format!("lsfast {version} (SQLite {sqlite}; {io})")
    };
    print_line(&line)?;
    Ok(ExitCode::SUCCESS)
}
