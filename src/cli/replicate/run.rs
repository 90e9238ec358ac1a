//! Runs `lsfast replicate`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::args::ReplicateArgs;
use super::plan::Plan;
use super::reload::{self, Reloader};
use super::{fill, observe, program, service};
use crate::base::limits;
use crate::cli::global::Global;
use crate::cli::setup::Setup;
use crate::cli::{bursts, progress, runtime, signals};
use crate::io::raise_descriptor_limit;
use crate::observe::Observatory;
use crate::replicate::{self, DatabaseOptions, Observer, Once, Options, Requests, Stop, Vitals};

/// How long the final sync may take if neither a flag nor the config file sets a limit.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// A hundred years, for a timeout that never ends.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Runs `lsfast replicate`.
pub(crate) fn run(
    global: &Global,
    setup: &mut Setup,
    args: &ReplicateArgs,
    (watch, stop): (signals::Watch, Stop),
) -> anyhow::Result<ExitCode> {
    setup.serve();
    let plan = Plan::new(setup, args)?;
    let config = setup.config().filter(|_| args.db.is_none()).cloned();
    let shutdown_timeout = args
        .shutdown_timeout
        .or_else(|| config.as_ref()?.shutdown_sync_timeout.as_ref().map(|t| without_end(t.value)))
        .unwrap_or(SHUTDOWN_TIMEOUT);
    let command = args.exec.as_ref().or_else(|| config.as_ref()?.exec.as_ref().map(|e| &e.value));
    // Parsed before anything is restored or stored.
    let command = match command.filter(|_| !args.once) {
        Some(line) => Some(program::prepare(line, config.as_deref())?),
        None => None,
    };
    let (reload, reload_asked) = signals::Reload::new();
    let reload = config.as_ref().filter(|_| !args.once).map(|_| reload);
    watch.hang_up(reload.clone());
    let engine = runtime::engine(global)?;
    match raise_descriptor_limit() {
        Ok(limit) => {
            let databases = plan.databases.len() as u64;
            let need = databases * limits::DATABASE_FILES + limits::PROCESS_FILES;
            if need > limit {
                tracing::warn!(
                    databases,
                    need,
                    limit,
                    "the databases need more open files than this process may have: raise the limit (ulimit -Hn, LimitNOFILE= of a systemd unit)"
                );
            }
        }
        Err(e) => {
            tracing::warn!(error = %e, "the limit of open files cannot be raised; each database takes some five");
        }
    }
    plan.announce(&engine);
    let event_loop = runtime::event_loop()?;
    event_loop.block_on(async {
        tokio::select! {
            // With nothing to restore, a stop that was requested already takes its usual way.
            biased;
            filled = fill::fill(&plan.to_fill, &engine) => filled,
            () = stop.asked() => Err(anyhow::anyhow!("stopped before the databases that do not exist were restored")),
        }
    })?;
    let (control, requests) = replicate::control();
    let telling = observe::start(setup, config.as_deref(), args, control.clone())?;
    let vitals: Arc<Vitals> = telling.as_ref().map(Observatory::vitals).unwrap_or_default();
    let options = Options {
        databases: plan.databases,
        directories: plan.directories,
        once: args.once.then_some(Once { snapshot: args.force_snapshot, retention: args.enforce_retention }),
        safety_tick: plan.safety_tick,
        engine: engine.clone(),
        shutdown_timeout,
        once_timeout: args.shutdown_timeout,
        observer: telling.as_ref().map_or_else(|| -> Observer { Arc::new(|_| {}) }, Observatory::observer),
        vitals: Arc::clone(&vitals),
    };
    if let Some(config) = config.filter(|_| reload.is_some()) {
        let (setup, global, args) = (setup.clone(), global.clone(), args.clone());
        let reloader = Reloader { setup, global, args, engine, vitals, control, config };
        reload::start(reloader, reload_asked)
            .context("the thread that reads the config file cannot be started")?;
    }
    let Some(command) = command else {
        serve(event_loop, options, Some(requests), stop)?;
        return Ok(ExitCode::SUCCESS);
    };
    let name = command.get_program().to_owned();
    let program = signals::watch_with(&command, shutdown_timeout, reload, watch)
        .with_context(|| format!("--exec: {} cannot be started", name.display()))?;
    let Some(program) = program else {
        tracing::info!(program = %name.display(), "stopped before the program was started");
        serve(event_loop, options, Some(requests), stop)?;
        return Ok(ExitCode::SUCCESS);
    };
    let served = serve(event_loop, options, Some(requests), stop);
    // If replication failed, the program must not continue without it.
    let status = program.end().with_context(|| format!("--exec: {} cannot be waited for", name.display()))?;
    match served {
        // The program's own exit code takes precedence, so the error is only printed.
        Err(e) if status.code().is_some_and(|code| code != 0) => {
            crate::cli::report::print_error(&crate::cli::report::one_line(&e));
        }
        served => served?,
    }
    Ok(exit_code(status))
}

/// The options of a database and its replicas, as `lsfast replicate DB URL...` would set them.
pub(crate) fn database(
    setup: &mut Setup,
    db: &Path,
    urls: Vec<String>,
) -> anyhow::Result<Vec<DatabaseOptions>> {
    let args = ReplicateArgs {
        db: Some(db.to_owned()),
        urls,
        exec: None,
        once: true,
        force_snapshot: false,
        enforce_retention: false,
        restore_if_db_not_exists: false,
        shutdown_timeout: None,
        sync_interval: None,
        verify_interval: None,
        verify_rate: None,
    };
    Ok(Plan::new(setup, &args)?.databases)
}

/// Updates replicas to the current state of their databases.
pub(crate) fn once(global: &Global, databases: Vec<DatabaseOptions>) -> anyhow::Result<()> {
    let (stopper, stop) = replicate::stop();
    let options = Options {
        databases,
        directories: Vec::new(),
        once: Some(Once::default()),
        safety_tick: limits::SAFETY_TICK,
        engine: runtime::engine(global)?,
        // A full image has no time limit.
        shutdown_timeout: FOR_EVER,
        once_timeout: None,
        observer: Arc::new(|_| {}),
        vitals: Arc::default(),
    };
    let served = serve(runtime::event_loop()?, options, None, stop);
    drop(stopper);
    served
}

/// In the config file, 0 means no limit, as in Litestream.
fn without_end(timeout: Duration) -> Duration {
    if timeout.is_zero() { FOR_EVER } else { timeout }
}

fn serve(
    event_loop: tokio::runtime::Runtime,
    options: Options,
    requests: Option<Requests>,
    stop: Stop,
) -> anyhow::Result<()> {
    let local = tokio::task::LocalSet::new();
    let told = service::report(options.databases.len(), stop.clone());
    let result = local.block_on(&event_loop, async {
        tokio::select! {
            biased;
            result = replicate::run_with(options, requests, stop) => result,
            never = told => match never {},
            never = progress::show("reading databases", replicate::image_begun, replicate::image_progress) => {
                match never {}
            }
        }
    });
    // A helper thread may be waiting for a lock that the application holds. The end of the process
    // releases everything.
    event_loop.shutdown_background();
    result?;
    bursts::settle();
    tracing::info!("stopped: everything is stored");
    Ok(())
}

/// The status as a shell reports it: 128 plus the number of the signal that ended the program.
fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
