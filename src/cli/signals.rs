//! Signals, and the program that `--exec` starts.
//!
//! Without a program, the first SIGINT or SIGTERM asks for a final sync, the second ends at once. With one, signals go to it, and its end asks for
//! the final sync: it may commit until then.

use std::io::{self, IsTerminal as _};
use std::process::ExitStatus;
use std::sync::mpsc;

use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::io::send_signal;
use crate::replicate::Stopper;

/// So many signals end lsfast at once while its program still runs.
const SIGNALS_MAX: u32 = 3;

/// The signals that are watched for, with their names and whether they ask for an end.
const END: [(i32, &str); 2] = [(libc::SIGINT, "SIGINT"), (libc::SIGTERM, "SIGTERM")];
/// Those that are only handed on.
const HANDED_ON: [(i32, &str); 4] = [
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGUSR2, "SIGUSR2"),
];

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

/// The command line of `--exec`, in words as a shell would read it, without a shell.
///
/// # Errors
/// One line that says what is wrong with it.
pub(super) fn words(line: &str) -> anyhow::Result<std::process::Command> {
    let words = shell_words::split(line).map_err(|_| {
        anyhow::anyhow!("--exec {line:?}: a quote is not closed; write the command as for a shell")
    })?;
    let Some((program, arguments)) = words.split_first() else {
        anyhow::bail!("--exec names no command; write for example --exec 'myapp --port 8080'");
    };
    let mut command = std::process::Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// Catches SIGINT and SIGTERM from now on; the first asks `stopper`.
///
/// They are watched by a thread of their own, so that the second one works also when the first left the main
/// loop stuck, in a hanging disk for example.
///
/// # Errors
/// The error of the system if a thread, a runtime or a handler cannot be had.
pub(super) fn watch(stopper: Stopper) -> io::Result<()> {
    let runtime = runtime()?;
    let mut signals = Signals::catch(&runtime, &END)?;
    thread(move || {
        runtime.block_on(async {
            let (_, name) = signals.next().await;
            tracing::info!(signal = name, "stopping: final sync, a second signal ends at once");
            stopper.ask();
            at_once(&mut signals).await;
        });
    })
}

/// Starts `command`, hands signals on to it, and asks `stopper` when it has ended.
///
/// # Errors
/// The error of the system if it can't be started.
pub(super) fn watch_with(command: std::process::Command, stopper: Stopper) -> io::Result<Program> {
    let runtime = runtime()?;
    let mut signals = Signals::catch(&runtime, &[&END[..], &HANDED_ON[..]].concat())?;
    let entered = runtime.enter();
    let child = Command::from(command).kill_on_drop(false).spawn()?;
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
    loop {
        let (number, name) = signals.next().await;
        if END.iter().any(|(n, _)| *n == number) {
            super::report::print_error(&format!(
                "ended at once by a second signal ({name}): the next start stores what is missing"
            ));
            std::process::exit(1);
        }
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()
}

fn thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(String::from("lsfast-signals")).spawn(work).map(drop)
}

struct Signals(Vec<(Signal, i32, &'static str)>);

impl Signals {
    fn catch(runtime: &tokio::runtime::Runtime, which: &[(i32, &'static str)]) -> io::Result<Signals> {
        let _entered = runtime.enter();
        let caught = which.iter().map(|(n, name)| Ok((signal(SignalKind::from_raw(*n))?, *n, *name)));
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_by_a_shell() {
        let command = words("app --name 'two words' \"$x\"").unwrap();
        assert_eq!(command.get_program(), "app");
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["--name", "two words", "$x"]);
        assert!(words("  ").unwrap_err().to_string().contains("names no command"));
        assert!(words("app 'x").unwrap_err().to_string().contains("a quote is not closed"));
    }
}
