//! Signals, and the program that `--exec` starts.
//!
//! Without a program, the first SIGINT or SIGTERM asks for a final sync, the second ends at once.
//! With a config file SIGHUP is logged and changes nothing: many tools send it to have a config
//! file read again, which takes a restart here. Otherwise, as from a terminal that is closed, it
//! asks for a final sync as well, but never ends at once: systemd may send it after SIGTERM.
//! SIGUSR1 and SIGUSR2 do nothing. With a program, signals go to it, and its end asks for the final
//! sync: it may commit until then. A signal that was ignored when lsfast started (`nohup`) stays
//! ignored.
//!
//! Process 1 of a container also waits here for the orphans that it is given.

use std::io::{self, IsTerminal as _};
use std::process::ExitStatus;
use std::sync::mpsc;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::io::host::is_ignored;
use crate::io::{bind, own, reap_orphans, send_signal};
use crate::replicate::Stopper;

/// So many signals end lsfast at once while its program still runs.
const SIGNALS_MAX: u32 = 3;

/// The signals that ask for an end, and end at once when they come again.
const END: [(i32, &str); 2] = [(libc::SIGINT, "SIGINT"), (libc::SIGTERM, "SIGTERM")];
/// Without a program it asks for an end, too; with one it is handed on.
const HANG_UP: (i32, &str) = (libc::SIGHUP, "SIGHUP");
/// Without a program these do nothing, instead of ending the process; with one they are handed on.
const USER: [(i32, &str); 2] = [(libc::SIGUSR1, "SIGUSR1"), (libc::SIGUSR2, "SIGUSR2")];
/// Without a program it ends lsfast as it ends any process; with one it is handed on.
const QUIT: (i32, &str) = (libc::SIGQUIT, "SIGQUIT");

/// The waits between two looks for orphans, while a child of our own that has ended hides them.
const HIDDEN_MIN: Duration = Duration::from_millis(10);
const HIDDEN_MAX: Duration = Duration::from_secs(1);

/// The program that runs beside the replication.
#[derive(Debug)]
pub(super) struct Program {
    ended: mpsc::Receiver<io::Result<ExitStatus>>,
    end: Option<oneshot::Sender<()>>,
}

impl Program {
    /// Waits for its end; asks for it by SIGTERM if nobody has.
    ///
    /// # Errors
    /// The error of the system if it can't be waited for.
    pub(super) fn end(mut self) -> io::Result<ExitStatus> {
        if let Some(end) = self.end.take() {
            // Nobody listens any more once it has ended.
            _ = end.send(());
        }
        self.ended.recv().map_err(io::Error::other)?
    }
}

/// Catches SIGINT and SIGTERM from now on; the first asks `stopper`. So does SIGHUP, unless
/// `stays` says that lsfast goes on.
///
/// They are watched by a thread of their own, so that the second one works also when the first left
/// the main loop stuck, in a hanging disk for example.
///
/// # Errors
/// The error of the system if a thread, a runtime or a handler cannot be had.
pub(super) fn watch(stopper: Stopper, stays: bool) -> io::Result<()> {
    let runtime = runtime()?;
    let mut signals = Signals::catch(&runtime, &[&END[..], &[HANG_UP], &USER[..]].concat())?;
    thread(move || {
        runtime.block_on(async {
            let (number, name) = loop {
                let (number, name) = signals.next().await;
                if USER.contains(&(number, name)) {
                    tracing::info!(signal = name, "nothing is done for this signal");
                    continue;
                }
                if number == libc::SIGHUP && stays {
                    tracing::warn!(
                        signal = name,
                        "the config file is not read again: restart lsfast for its changes to take effect"
                    );
                    continue;
                }
                break (number, name);
            };
            tracing::info!(signal = name, "stopping: final sync, a second signal ends at once");
            stopper.ask();
            if number == libc::SIGHUP {
                // The first of the others asks for what is under way already.
                signals.next_end().await;
            }
            at_once(&mut signals).await;
        });
    })
}

/// Starts `command`, hands signals on to it, and asks `stopper` when it has ended. Call it on the
/// thread that ends with the process: the kernel ends the program when the thread that started it
/// ends.
///
/// # Errors
/// The error of the system if it can't be started.
pub(super) fn watch_with(mut command: std::process::Command, stopper: Stopper) -> io::Result<Program> {
    let runtime = runtime()?;
    let mut signals = Signals::catch(&runtime, &[&END[..], &[HANG_UP, QUIT], &USER[..]].concat())?;
    bind(&mut command);
    let entered = runtime.enter();
    let (child, own) = own(|| Command::from(command).kill_on_drop(false).spawn(), Child::id)?;
    drop(entered);
    tracing::info!(
        pid = child.id(),
        "the program runs; signals go to it, and its end ends lsfast after a final sync"
    );
    let (tell, ended) = mpsc::channel();
    let (end, asked) = oneshot::channel();
    thread(move || {
        runtime.block_on(async {
            let status = until_ended(child, &mut signals, asked).await;
            drop(own);
            match &status {
                Ok(status) => tracing::info!(%status, "the program has ended: final sync"),
                Err(e) => tracing::error!(error = %e, "the program cannot be waited for: final sync"),
            }
            // The receiver is gone only when lsfast itself ends.
            _ = tell.send(status);
            stopper.ask();
            at_once(&mut signals).await;
        });
    })?;
    Ok(Program { ended, end: Some(end) })
}

async fn until_ended(
    mut child: Child,
    signals: &mut Signals,
    mut asked: oneshot::Receiver<()>,
) -> io::Result<ExitStatus> {
    let mut wants_end = 0;
    let mut may_ask = true;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            (number, name) = signals.next() => {
                let ends = END.iter().any(|(n, _)| *n == number);
                wants_end += u32::from(ends);
                if wants_end == SIGNALS_MAX {
                    super::report::print_error(&format!("ended at once by signal {SIGNALS_MAX} ({name}) while its program runs on"));
                    std::process::exit(1);
                }
                // A terminal has sent it to both.
                if number == libc::SIGINT && io::stdin().is_terminal() {
                    continue;
                }
                hand_on(&child, number, name);
            }
            result = &mut asked, if may_ask => {
                may_ask = false;
                if result.is_ok() {
                    hand_on(&child, libc::SIGTERM, "SIGTERM");
                }
            }
        }
    }
}

fn hand_on(child: &Child, number: i32, name: &str) {
    // None once it has been waited for: its number may be another's by now.
    let Some(pid) = child.id() else { return };
    match send_signal(pid, number) {
        Ok(()) => tracing::info!(signal = name, "handed on to the program"),
        Err(e) => tracing::warn!(signal = name, error = %e, "the program cannot be sent a signal"),
    }
}

async fn at_once(signals: &mut Signals) {
    let name = signals.next_end().await;
    super::report::print_error(&format!(
        "ended at once by a second signal ({name}): the next start stores what is missing"
    ));
    std::process::exit(1);
}

/// Waits for the orphans that process 1 is given.
async fn reap_each(mut ended: Signal) {
    loop {
        let mut wait = HIDDEN_MIN;
        while !reap_orphans() {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(HIDDEN_MAX);
        }
        if ended.recv().await.is_none() {
            return;
        }
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(String::from("lsfast-signals")).spawn(work).map(drop)
}

struct Signals(Vec<(Signal, i32, &'static str)>);

impl Signals {
    /// Catches these, but for those that are ignored. In process 1 orphans are waited for from now
    /// on.
    fn catch(runtime: &tokio::runtime::Runtime, which: &[(i32, &'static str)]) -> io::Result<Signals> {
        let _entered = runtime.enter();
        if std::process::id() == 1 {
            runtime.spawn(reap_each(signal(SignalKind::child())?));
        }
        let which = which.iter().filter(|(n, _)| *n != libc::SIGHUP || !is_ignored(*n));
        let caught = which.map(|(n, name)| Ok((signal(SignalKind::from_raw(*n))?, *n, *name)));
        caught.collect::<io::Result<_>>().map(Signals)
    }

    async fn next(&mut self) -> (i32, &'static str) {
        std::future::poll_fn(|cx| {
            for (signal, number, name) in &mut self.0 {
                if signal.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready((*number, *name));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// The next of those that ask for an end.
    async fn next_end(&mut self) -> &'static str {
        loop {
            let (number, name) = self.next().await;
            if END.iter().any(|(n, _)| *n == number) {
                return name;
            }
        }
    }
}
