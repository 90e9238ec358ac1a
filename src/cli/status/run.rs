//! Runs `lsfast status`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::{overview, print};
use crate::cli::report::print_line;
use crate::cli::setup::{Setup, default_replica};
use crate::cli::shape::{self, Shape};
use crate::cli::{databases, flags, replicate};
use crate::config::Location;
use crate::config::file::DatabaseConfig;
use crate::observe::{self, DatabaseStatus, Place, SOCKET, Status};
use crate::replicate::state::home_of;

/// Show how far databases are replicated, from the lsfast that replicates them.
///
/// If no lsfast runs, the status says so and shows the state that the last one left next to the
/// database. A running one is found by the socket in the folder .NAME-lsfast next to the database;
/// no request to a store is made.
///
/// Exit codes: 0 everything is stored or about to be; 1 something is behind, begins or could not be
/// asked; 2 a database is not replicated, its uploads fail, or its replica is damaged.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The database, by its path or as sqlite:///PATH; without it, those of the config file
    #[arg(value_name = "DB", value_parser = flags::database())]
    pub db: Option<PathBuf>,
    /// Ask the lsfast that listens at this socket, for all of its databases
    #[arg(long, value_name = "PATH", conflicts_with = "db")]
    pub socket: Option<PathBuf>,
    /// Print a paragraph for each database, with positions, errors and history
    #[arg(short, long, conflicts_with = "json")]
    pub verbose: bool,
    /// Print one JSON object instead of text; the exit code is 0 then. --json=litestream has its
    /// fields
    #[arg(
        long, value_name = "SHAPE", num_args = 0..=1, require_equals = true,
        default_missing_value = "lsfast", value_enum
    )]
    pub json: Option<Shape>,
}

/// A database to show, and where to ask for its status.
struct Wanted {
    path: PathBuf,
    home: PathBuf,
    replicas: Vec<Location>,
}

/// Runs `lsfast status`.
pub(crate) fn run(setup: &mut Setup, args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let status = match (&args.socket, &args.db) {
        (Some(socket), _) => observe::ask(socket)
            .with_context(|| socket.display().to_string())?
            .with_context(|| format!("no lsfast listens at {}", socket.display()))?,
        (None, Some(db)) => gather(setup, &[one(setup, db)?])?,
        (None, None) => gather(setup, &configured(setup)?)?,
    };
    if let Some(shape) = args.json {
        print_line(&match shape {
            Shape::Lsfast => serde_json::to_string(&status)?,
            Shape::Litestream => litestream(&status)?,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    print_line(&if args.verbose { print::text(&status) } else { overview::text(&status) })?;
    Ok(overview::health(&status).exit_code())
}

/// As `litestream status -json` prints it.
fn litestream(status: &Status) -> anyhow::Result<String> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        database: &'a str,
        status: &'a str,
        local_txid: &'a str,
        wal_size: String,
    }
    let state = |d: &DatabaseStatus| {
        let wal = shape::size(d.wal_size.unwrap_or(0));
        match (d.size, d.replicas.iter().any(|r| r.durable.is_some())) {
            (None, _) => ("no database", "-".to_owned()),
            (_, false) => ("not initialized", wal),
            (_, true) => ("ok", wal),
        }
    };
    let mut lines = Vec::new();
    for database in &status.databases {
        let (status, wal_size) = state(database);
        let newest =
            database.replicas.iter().filter_map(|r| r.durable.as_ref()).map(|d| d.txid.as_str()).max();
        let local_txid = newest.filter(|_| status == "ok").unwrap_or("-");
        lines.push(Line { database: &database.path, status, local_txid, wal_size });
    }
    shape::litestream(&lines)
}

fn one(setup: &Setup, db: &Path) -> anyhow::Result<Wanted> {
    let path = setup.env().absolute(db);
    if let Some(config) = setup.config()
        && let Some(database) = config.database(&path, setup.env())?
    {
        return Ok(wanted(&database));
    }
    let home = home_of(&path);
    if !path.exists() && !home.exists() {
        anyhow::bail!("there is no database {} and nothing replicates it", path.display());
    }
    let beside = setup.env().absolute(&default_replica(&path));
    let replicas = if beside.is_dir() { vec![Location::directory(beside)] } else { Vec::new() };
    Ok(Wanted { path, home, replicas })
}

fn configured(setup: &Setup) -> anyhow::Result<Vec<Wanted>> {
    let config = setup.need_config("write the database on the command line")?;
    Ok(databases::all(config)?.iter().map(wanted).collect())
}

fn wanted(database: &DatabaseConfig) -> Wanted {
    let path = database.path.value.clone();
    let home = database.meta_path.as_ref().map_or_else(|| home_of(&path), |m| m.value.clone());
    Wanted { path, home, replicas: database.replicas.iter().map(|r| r.location.clone()).collect() }
}

/// Asks each process once, and reads the local state where none answers.
fn gather(setup: &Setup, wanted: &[Wanted]) -> anyhow::Result<Status> {
    let mut status =
        Status { version: env!("CARGO_PKG_VERSION").into(), pid: None, databases: Vec::new(), reading: None };
    let (mut answers, mut asked): (Vec<Status>, HashSet<Option<u32>>) = Default::default();
    let process = setup.config().and_then(|c| replicate::process_socket(c));
    // If the process does not answer here, its databases' sockets may.
    if let Some(Ok(Some(answer))) = process.map(|socket| observe::ask(&socket)) {
        asked.insert(answer.pid);
        answers.push(answer);
    }
    for database in wanted {
        if let Some(found) = answers.iter().find_map(|a| find(a, &database.home)) {
            status.databases.push(found);
            continue;
        }
        let socket = database.home.join(SOCKET);
        let answer = observe::ask(&socket).with_context(|| {
            format!(
                "{}: an lsfast runs, but cannot be asked at {}",
                database.path.display(),
                socket.display()
            )
        })?;
        match answer {
            Some(answer) => {
                // A process in another mount namespace sees the folder under another path, but the
                // socket is in its own folder.
                let found = find(&answer, &database.home).or_else(|| alike(&answer, &database.home));
                let found = found.with_context(|| {
                    format!(
                        "the lsfast that listens at {} knows nothing of {}",
                        socket.display(),
                        database.path.display()
                    )
                })?;
                status.databases.push(found);
                asked.insert(answer.pid);
                answers.push(answer);
            }
            None => status.databases.push(left(setup, database)?),
        }
    }
    if let (1, Some(pid)) = (asked.len(), asked.into_iter().next()) {
        status.pid = pid;
    }
    Ok(status)
}

/// The database with its state in `home`, whichever way its path is written.
fn find(status: &Status, home: &Path) -> Option<DatabaseStatus> {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let home = real(home);
    status.databases.iter().find(|d| real(Path::new(&d.home)) == home).cloned()
}

/// The only database whose folder has the same name as `home`.
fn alike(status: &Status, home: &Path) -> Option<DatabaseStatus> {
    let mut alike = status.databases.iter().filter(|d| Path::new(&d.home).file_name() == home.file_name());
    let first = alike.next()?;
    alike.next().is_none().then(|| first.clone())
}

fn left(setup: &Setup, database: &Wanted) -> anyhow::Result<DatabaseStatus> {
    let mut places = Vec::new();
    for location in &database.replicas {
        let store = setup.open(location)?;
        places.push(Place { identity: store.identity(), url: store.url().to_owned() });
    }
    let home = &database.home;
    let mut status = observe::without_process(&database.path, home, &places)
        .with_context(|| home.display().to_string())?;
    // A replica that no config file names is shown by the address in its state folder, which has
    // the form of a command line.
    for url in status.replicas.iter_mut().filter_map(|r| r.url.as_mut()) {
        if places.iter().all(|place| place.url != *url)
            && let Some(shown) = setup.url_for_messages(url)
        {
            *url = shown;
        }
    }
    if let Some(pid) = observe::holder(home) {
        status.state = "not answering".into();
        status.error = Some(observe::FailureStatus {
            time: crate::base::clock::Millis::now().to_rfc3339(),
            message: format!(
                "process {pid} follows the database, but listens at no socket in {}",
                home.display()
            ),
        });
    }
    Ok(status)
}
