//! `lsfast version`

use std::process::ExitCode;

use clap::Args;

use super::report::print_line;

/// Print the version of lsfast and of what it is built on.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Print the options that SQLite was compiled with, too
    #[arg(long, conflicts_with = "json")]
    pub verbose: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// The TLS library, with its provider of cryptography.
const TLS: &str = "rustls with aws-lc-rs";

/// Runs `lsfast version`.
pub(super) fn run(args: &VersionArgs) -> anyhow::Result<ExitCode> {
    let (version, sqlite) = (env!("CARGO_PKG_VERSION"), rusqlite::version());
    // Known for release builds of a clone, and for builds of a package (`build.rs`).
    let commit = option_env!("LSFAST_COMMIT");
    let date = option_env!("LSFAST_COMMIT_DATE").filter(|date| !date.is_empty());
    let target = env!("LSFAST_TARGET");
    let uring = cfg!(feature = "uring");
    let text = if args.json {
        serde_json::json!({
            "version": version,
            "commit": commit,
            "date": date,
            "target": target,
            "sqlite": sqlite,
            "sqlite_options": sqlite_options()?,
            "tls": TLS,
            "io_uring": uring,
        })
        .to_string()
    } else {
        let commit = match (commit, date) {
            (Some(commit), Some(date)) => format!("{commit}, {date}"),
            (Some(commit), None) => commit.to_owned(),
            (None, _) => "not known: a build for development".to_owned(),
        };
        let io = if uring { "io_uring and plain calls" } else { "plain calls" };
        let options = if args.verbose {
            format!("\nSQLite options: {}", sqlite_options()?.join(" "))
        } else {
            String::new()
        };
        format!(
            "lsfast {version} (SQLite {sqlite}; {io})\ncommit: {commit}\ntarget: {target}\nTLS: {TLS}{options}"
        )
    };
    print_line(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The options that SQLite was compiled with.
fn sqlite_options() -> rusqlite::Result<Vec<String>> {
    let db = rusqlite::Connection::open_in_memory()?;
    let mut statement = db.prepare("PRAGMA compile_options")?;
    let options = statement.query_map([], |row| row.get(0))?;
    options.collect()
}
