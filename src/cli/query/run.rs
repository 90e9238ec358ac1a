//! Runs `lsfast query`.

use std::io::{IsTerminal as _, Read as _};

use rusqlite::Batch;
use rusqlite::fallible_iterator::FallibleIterator as _;

use super::args::QueryArgs;
use super::open::{self, Session};
use super::print::{self, Format, PrintError};
use crate::cli::setup::Setup;

/// Runs `lsfast query`.
pub(crate) fn run(setup: &mut Setup, args: &QueryArgs) -> anyhow::Result<()> {
    let sql = match &args.sql {
        Some(sql) => sql.clone(),
        None => standard_input()?,
    };
    let replica = open::replica(setup, &args.state)?;
    let session = Session::open(&replica, args.state.at())?;
    statements(&session, &sql, args.format())
}

fn standard_input() -> anyhow::Result<String> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        anyhow::bail!("there is no SQL: give it as an argument or on standard input, or use lsfast shell");
    }
    let mut sql = String::new();
    input.read_to_string(&mut sql)?;
    Ok(sql)
}

/// Runs statements one after the other and prints their rows.
pub(super) fn statements(session: &Session, sql: &str, format: Format) -> anyhow::Result<()> {
    let mut batch = Batch::new(&session.connection, sql);
    while let Some(mut statement) = batch.next().map_err(|e| session.explain(e))? {
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let printed = match statement.query([]) {
            Ok(mut rows) if names.is_empty() => rows.next().map(|_| ()).map_err(PrintError::Sql),
            Ok(rows) => print::rows(&names, rows, format),
            Err(e) => Err(PrintError::Sql(e)),
        };
        match printed {
            Ok(()) => {}
            Err(PrintError::Sql(e)) => return Err(session.explain(e)),
            Err(PrintError::Output(e)) => return Err(e.into()),
        }
    }
    Ok(())
}
