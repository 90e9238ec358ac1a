//! Runs `lsfast shell`.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;

use anyhow::Context as _;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::args::ShellArgs;
use super::open::{self, Session};
use super::print::Format;
use super::run::statements;
use super::statement::is_complete;
use crate::base::limits;
use crate::cli::changes::parse_state;
use crate::cli::report;
use crate::cli::setup::Setup;
use crate::view::{At, Replica};

const HELP: &str = "\
.at                the state that is read
.at TIME           read the newest state stored before a time: \"2026-11-21 14:03\", \"2h ago\", RFC 3339
.at TXID           read the state of a transaction id: up to 16 hex digits
.at newest         read the newest state
.mode table|json|csv
.tables            tables and views
.schema [NAME]     CREATE statements
.quit
SQL ends with a semicolon.";

/// What to do after a line.
enum After {
    Continue,
    Quit,
}

struct Shell {
    replica: Replica,
    session: Session,
    format: Format,
    /// The lines of a statement that is not complete.
    statement: String,
}

/// Runs `lsfast shell`.
pub(crate) fn run(setup: &mut Setup, args: &ShellArgs) -> anyhow::Result<()> {
    let replica = open::replica(setup, &args.state)?;
    let session = Session::open(&replica, args.state.at())?;
    let mut shell = Shell { replica, session, format: Format::Table, statement: String::new() };
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        shell.interactive()
    } else {
        shell.lines()
    }
}

impl Shell {
    /// Reads standard input to its end or to the first error.
    fn lines(&mut self) -> anyhow::Result<()> {
        for (number, line) in (1_u64..).zip(std::io::stdin().lock().lines()) {
            // What follows may be meant for the state that `.at` could not open.
            let ran =
                self.line(&line?).with_context(|| format!("line {number}, after which nothing is run"))?;
            if let After::Quit = ran {
                return Ok(());
            }
        }
        let rest = std::mem::take(&mut self.statement);
        statements(&self.session, &rest, self.format)
    }

    fn interactive(&mut self) -> anyhow::Result<()> {
        let mut editor = DefaultEditor::new()?;
        let history = history_file();
        if let Some(history) = &history {
            // Without a history there is one line less to find.
            _ = editor.load_history(history);
        }
        report::print_line(&format!("{}\n.help shows what there is besides SQL", self.state()?))?;
        loop {
            let prompt = if self.statement.is_empty() { "lsfast> " } else { "   ...> " };
            match editor.readline(prompt) {
                Ok(line) => {
                    if !line.trim().is_empty() {
                        _ = editor.add_history_entry(&line);
                    }
                    match self.line(&line) {
                        Ok(After::Continue) => {}
                        Ok(After::Quit) => break,
                        Err(e) => report::print_error(&report::one_line(&e)),
                    }
                }
                Err(ReadlineError::Interrupted) => self.statement.clear(),
                Err(ReadlineError::Eof) => break,
                Err(e) => return Err(e.into()),
            }
        }
        if let Some(history) = &history {
            _ = history.parent().map(std::fs::create_dir_all);
            _ = editor.save_history(history);
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> anyhow::Result<After> {
        if self.statement.is_empty()
            && let Some(command) = line.trim().strip_prefix('.')
        {
            return self.command(command);
        }
        self.statement.push_str(line);
        self.statement.push('\n');
        if is_complete(&self.statement) {
            let statement = std::mem::take(&mut self.statement);
            statements(&self.session, &statement, self.format)?;
        } else if self.statement.len() > limits::SHELL_BYTES {
            self.statement.clear();
            anyhow::bail!("the statement is longer than {} bytes", limits::SHELL_BYTES);
        }
        Ok(After::Continue)
    }

    fn command(&mut self, command: &str) -> anyhow::Result<After> {
        let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        // A time may have spaces, so it may be in quotes.
        let argument = argument.trim().trim_matches(['"', '\'']);
        match name {
            "quit" | "exit" | "q" => return Ok(After::Quit),
            "help" => report::print_line(HELP)?,
            "at" if argument.is_empty() => report::print_line(&self.state()?)?,
            "at" => {
                self.session = Session::open(&self.replica, at(argument)?)?;
                report::print_line(&self.state()?)?;
            }
            "mode" => {
                self.format = match argument {
                    "table" => Format::Table,
                    "json" => Format::Json,
                    "csv" => Format::Csv,
                    other => anyhow::bail!("{other:?} is not a mode: write .mode table, .mode json or .mode csv"),
                }
            }
            "tables" => self.names(
                "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
                 AND ?1 = '' ORDER BY name",
                "",
                "",
            )?,
            "schema" => self.names(
                "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND (?1 = '' OR tbl_name = ?1 COLLATE NOCASE \
                 OR name = ?1 COLLATE NOCASE) ORDER BY rowid",
                argument,
                ";",
            )?,
            other => anyhow::bail!(".{other} is not a command: .help lists them"),
        }
        Ok(After::Continue)
    }

    /// Prints the texts that a query returns, one on each line.
    fn names(&self, sql: &str, argument: &str, end: &str) -> anyhow::Result<()> {
        let texts = || {
            let mut statement = self.session.connection.prepare(sql)?;
            let rows = statement.query_map([argument], |row| row.get::<_, String>(0))?;
            rows.collect::<rusqlite::Result<Vec<String>>>()
        };
        for text in texts().map_err(|e| self.session.explain(e))? {
            report::print_line(&format!("{text}{end}"))?;
        }
        Ok(())
    }

    fn state(&self) -> anyhow::Result<String> {
        let [txid, time] = ["lsfast_txid", "lsfast_time"].map(|name| self.session.pragma(name));
        Ok(format!("TXID {} of {}", txid?, time?))
    }
}

/// A state as `.at` names it.
fn at(text: &str) -> anyhow::Result<At> {
    if text == "newest" {
        return Ok(At::Newest);
    }
    parse_state(text).map_err(anyhow::Error::msg)
}

/// The file with earlier lines, in the folder for state of the user.
fn history_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join("lsfast/shell-history"))
}
