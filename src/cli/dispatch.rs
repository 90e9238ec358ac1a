//! Parses the command line, runs the command, and turns its result into an exit code.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _};

use super::args::{Cli, Command};
use super::setup::Setup;
use super::{
    bench, bursts, changes, control, databases, doctor, examples, explain, flags, generations, log, ltx,
    manual, points, promote, query, repair, replicate, report, reset, restore, signals, status, verify,
    version,
};
use crate::io::{forbid_core_files, guardian};
use crate::replicate::Stop;

/// The whole program: parses the command line, runs the command and reports its error.
#[must_use]
pub fn run() -> ExitCode {
    if let Some(code) = guardian::run_if_asked() {
        return code;
    }
    // A signal that comes while the command line or the config file is read asks for an orderly end
    // as well.
    let early = std::env::args_os().nth(1).is_some_and(|name| name == "replicate").then(watch);
    let command = examples::added_to(Cli::command());
    let matches = command.clone().get_matches_from(flags::normalise(&command, std::env::args_os()));
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    report::install_panic_hook();
    let outcome = std::panic::catch_unwind(|| dispatch(cli, early));
    bursts::settle();
    match outcome {
        Ok(Ok(code)) => code,
        Ok(Err(e)) if report::is_closed_pipe(&e) => ExitCode::SUCCESS,
        Ok(Err(e)) => {
            report::print_error(&report::lines(&e));
            report::exit_code(&e)
        }
        // The panic hook has already reported the panic.
        Err(_) => ExitCode::FAILURE,
    }
}

/// The signals of a process that replicates, and the request to stop that the first one makes.
type Watched = anyhow::Result<(signals::Watch, Stop)>;

fn watch() -> Watched {
    let (stopper, stop) = crate::replicate::stop();
    Ok((signals::Watch::begin(stopper).context("signals cannot be caught")?, stop))
}

fn dispatch(cli: Cli, early: Option<Watched>) -> anyhow::Result<ExitCode> {
    let (global, command) = (cli.global, cli.command);
    let no_core = if global.core_dumps { Ok(()) } else { forbid_core_files() };
    let mut setup = Setup::new(&global);
    let loaded = if command.reads_config() { setup.load_config(&global) } else { Ok(()) };
    log::install(&global, command.log_level(), setup.config().map(|c| &c.logging));
    loaded?;
    if let Err(e) = no_core {
        tracing::warn!(error = %e, "a crash may leave a core file, which would hold keys");
    }
    // `explain` of the whole file has them in its output.
    if !matches!(&command, Command::Explain(args) if args.target.is_none()) {
        for warning in setup.config().iter().flat_map(|c| &c.warnings) {
            tracing::warn!("{warning}");
        }
    }
    match command {
        Command::Replicate(args) => replicate::run(&global, &mut setup, &args, early.unwrap_or_else(watch)?),
        Command::Restore(args) => restore::run(&global, &mut setup, &args).map(|()| ExitCode::SUCCESS),
        Command::Promote(args) => promote::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Databases(args) => databases::run(&setup, &args),
        Command::Explain(args) => explain::run(&mut setup, &args),
        Command::Log(args) => changes::run_log(&mut setup, &args).map(|()| ExitCode::SUCCESS),
        Command::Diff(args) => changes::run_diff(&mut setup, &args).map(|()| ExitCode::SUCCESS),
        Command::Points(args) => points::run(&mut setup, &args).map(|()| ExitCode::SUCCESS),
        Command::Query(args) => query::run(&mut setup, &args).map(|()| ExitCode::SUCCESS),
        Command::Shell(args) => query::shell(&mut setup, &args).map(|()| ExitCode::SUCCESS),
        Command::Verify(args) => verify::run(&mut setup, &args),
        Command::Repair(args) => repair::run(&global, &mut setup, &args),
        Command::Ltx(args) => ltx::run(&mut setup, &args).map(|()| ExitCode::SUCCESS),
        Command::Status(args) => status::run(&mut setup, &args),
        Command::Register(args) => control::register(&setup, &args).map(|()| ExitCode::SUCCESS),
        Command::Unregister(args) => control::unregister(&setup, &args).map(|()| ExitCode::SUCCESS),
        Command::Start(args) => control::start(&setup, &args).map(|()| ExitCode::SUCCESS),
        Command::Stop(args) => control::stop(&setup, &args).map(|()| ExitCode::SUCCESS),
        Command::Sync(args) => control::sync(&setup, &args).map(|()| ExitCode::SUCCESS),
        Command::List(args) => control::list(&setup, &args).map(|()| ExitCode::SUCCESS),
        Command::Info(args) => control::info(&setup, &args).map(|()| ExitCode::SUCCESS),
        Command::Reset(args) => reset::run(&setup, &args),
        Command::Generations(args) => generations::run(&mut setup, &args, generations::What::Generations),
        Command::Snapshots(args) => generations::run(&mut setup, &args, generations::What::Snapshots),
        Command::Wal(args) => generations::run(&mut setup, &args, generations::What::Wal),
        Command::Bench(args) => {
            bench::run(Cli::command(), &global, &mut setup, &args).map(|()| ExitCode::SUCCESS)
        }
        Command::Doctor(args) => doctor::run(&mut setup, &args),
        Command::Version(args) => version::run(&args),
        Command::Man(args) => manual::man(examples::added_to(Cli::command()), &args),
        Command::Completions(args) => manual::completions(Cli::command(), &args),
    }
}
