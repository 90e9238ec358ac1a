//! Signals, and the program that `--exec` starts.
//!
//! Signals are caught as the first thing that `replicate` does, so that none ends the process
//! before it can end in order.
//!
//! # Without a program
//!
//! The first SIGINT or SIGTERM asks for a final sync; the second ends lsfast at once. With a config
//! file, SIGHUP has it read again. Without one, as after a closed terminal, SIGHUP also asks for a
//! final sync. It never ends lsfast at once, because systemd may send it after SIGTERM. SIGUSR1 and
//! SIGUSR2 do nothing.
//!
//! # With a program
//!
//! Signals are passed on to the program, by way of its guardian (see [`guardian`]), except SIGHUP
//! where there is a config file. Until the program runs they ask for the final sync, and the
//! program is not started. Its end asks for the final sync, because it may commit until then.
//!
//! From SIGINT or SIGTERM on it has the time of `--shutdown-timeout`; then it is killed. The final
//! sync has the same time again. Ctrl-C is not counted, because an interactive program may use it
//! for something else.
//!
//! # In both cases
//!
//! A SIGHUP that was ignored when lsfast started (`nohup`) stays ignored. As process 1 of a
//! container, lsfast also reaps the orphans it inherits.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::process::ExitStatus;
use std::sync::mpsc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::base::limits;
use crate::io::guardian::{self, News};
use crate::io::host::is_ignored;
use crate::io::{own, reap_orphans};
use crate::replicate::Stopper;

/// Number of SIGINT and SIGTERM after which lsfast ends at once while its program still runs.
const SIGNALS_MAX: u32 = 3;

/// The signals that ask for an end, and end lsfast at once when they are repeated.
const END: [(i32, &str); 2] = [(libc::SIGINT, "SIGINT"), (libc::SIGTERM, "SIGTERM")];
/// Without a program this signal also asks for an end; with one it is passed on.
const HANG_UP: (i32, &str) = (libc::SIGHUP, "SIGHUP");
/// Without a program these signals do nothing, instead of ending the process; with one they are
/// passed on.
const USER: [(i32, &str); 2] = [(libc::SIGUSR1, "SIGUSR1"), (libc::SIGUSR2, "SIGUSR2")];
/// Without a program this signal ends lsfast as it ends any process; with one it is passed on.
const QUIT: (i32, &str) = (libc::SIGQUIT, "SIGQUIT");

/// Waits between two looks for orphans while an ended child of lsfast hides them: the first wait,
/// which doubles, and the longest.
const HIDDEN_MIN: Duration = Duration::from_millis(10);
const HIDDEN_MAX: Duration = Duration::from_secs(1);

/// Asks for the config file to be read again.
#[derive(Debug, Clone)]
pub(super) struct Reload(mpsc::SyncSender<()>);

impl Reload {
    /// A request, and where it arrives. Requests that come before one is taken are one.
    pub(super) fn new() -> (Reload, mpsc::Receiver<()>) {
        let (ask, asked) = mpsc::sync_channel(1);
        (Reload(ask), asked)
    }

    fn ask(&self) {
        _ = self.0.try_send(());
    }
}

/// The program that runs alongside the replication.
#[derive(Debug)]
pub(super) struct Program {
    ended: mpsc::Receiver<io::Result<ExitStatus>>,
    end: Option<oneshot::Sender<()>>,
}

impl Program {
    /// Waits for the program to end. Asks it to end with SIGTERM if it still runs.
    ///
    /// # Errors
    /// The I/O error if the program cannot be waited for.
    pub(super) fn end(mut self) -> io::Result<ExitStatus> {
        if let Some(end) = self.end.take() {
            // After the program's end, the receiver is gone.
            _ = end.send(());
        }
        self.ended.recv().map_err(io::Error::other)?
    }
}

/// The signals of a process that replicates, from its start on.
#[derive(Debug)]
pub(super) struct Watch(UnboundedSender<Order>);

/// What the thread of a [`Watch`] is told.
#[derive(Debug)]
enum Order {
    /// What SIGHUP asks for: this, or a stop.
    HangUp(Option<Reload>),
    /// Hand over the signals, unless one of them has asked for a stop.
    HandOver(mpsc::SyncSender<Handed>),
}

/// The signals, and who is asked to stop.
struct Handed {
    runtime: Runtime,
    signals: Signals,
    stopper: Stopper,
}

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handed").finish_non_exhaustive()
    }
}

impl Watch {
    /// Catches signals from now on; the first SIGINT or SIGTERM asks `stopper`. What SIGHUP asks
    /// for is told later, and one that comes before waits for that.
    ///
    /// A separate thread watches the signals. The second one therefore works even if the first left
    /// the main loop stuck, for example in a hanging disk.
    ///
    /// # Errors
    /// The I/O error if a thread, a runtime or a handler cannot be created.
    pub(super) fn begin(stopper: Stopper) -> io::Result<Watch> {
        let runtime = runtime()?;
        let mut signals = Signals::catch(&runtime, &[&END[..], &[HANG_UP], &USER[..]].concat())?;
        let (tell, mut told) = unbounded_channel();
        thread(move || {
            let asked = runtime.block_on(until_handed_over(&mut signals, &stopper, &mut told));
            // The receiver waits for it.
            _ = asked.send(Handed { runtime, signals, stopper });
        })?;
        Ok(Watch(tell))
    }

    /// Sets what SIGHUP asks for: `reload`, if there is one, otherwise a stop.
    pub(super) fn hang_up(&self, reload: Option<Reload>) {
        // The thread ends only with the process or by `hand_over`.
        _ = self.0.send(Order::HangUp(reload));
    }

    /// The signals, for a program that is started now; `None` if one has asked for a stop.
    fn hand_over(self) -> Option<Handed> {
        let (ask, asked) = mpsc::sync_channel(1);
        self.0.send(Order::HandOver(ask)).ok()?;
        asked.recv().ok()
    }
}

/// Takes signals until they are to be handed over.
async fn until_handed_over(
    signals: &mut Signals,
    stopper: &Stopper,
    told: &mut UnboundedReceiver<Order>,
) -> mpsc::SyncSender<Handed> {
    let mut hang_up: Option<Option<Reload>> = None;
    let (mut is_told, mut is_hung_up, mut is_asked) = (false, false, false);
    loop {
        let ends = tokio::select! {
            // A signal that came first counts first.
            biased;
            (number, name) = signals.next() => match number {
                n if END.iter().any(|(end, _)| *end == n) && is_asked => ended_at_once(name),
                n if END.iter().any(|(end, _)| *end == n) => Some(name),
                libc::SIGHUP => {
                    is_hung_up = true;
                    None
                }
                _ => {
                    tracing::info!(signal = name, "nothing is done for this signal");
                    None
                }
            },
            order = told.recv(), if !is_told => match order {
                Some(Order::HangUp(reload)) => {
                    hang_up = Some(reload);
                    None
                }
                Some(Order::HandOver(to)) if !is_asked => return to,
                Some(Order::HandOver(_)) => None,
                None => {
                    is_told = true;
                    None
                }
            },
        };
        let ends = match &hang_up {
            Some(Some(reload)) if is_hung_up => {
                is_hung_up = false;
                reload.ask();
                ends
            }
            Some(None) if is_hung_up => ends.or(Some(HANG_UP.1)),
            _ => ends,
        };
        if let Some(name) = ends.filter(|_| !is_asked) {
            is_asked = true;
            tracing::info!(signal = name, "stopping: final sync, a second signal ends at once");
            stopper.ask();
        }
    }
}

/// Starts `command`, passes the signals of `watch` on to it, and asks for a stop when it has ended.
/// A program that has been asked to end is killed after the time `limit`. `None` if a signal has
/// asked for a stop before; then the program is not started.
///
/// # Errors
/// The I/O error if the program cannot be started.
pub(super) fn watch_with(
    command: &std::process::Command,
    limit: Duration,
    reload: Option<Reload>,
    watch: Watch,
) -> io::Result<Option<Program>> {
    let Some(Handed { runtime, mut signals, stopper }) = watch.hand_over() else { return Ok(None) };
    signals.add(&runtime, QUIT)?;
    let (guardian, socket, its) = guardian::around(command, limit.min(limits::ORPHANED_PROGRAM))?;
    let entered = runtime.enter();
    let (child, own) = own(|| Command::from(guardian).kill_on_drop(false).spawn(), Child::id)?;
    // From here on only the guardian holds it, so the end of the guardian closes it.
    drop(its);
    socket.set_nonblocking(true)?;
    let mut program = Guarded { child, socket: UnixStream::from_std(socket)? };
    drop(entered);
    let pid = runtime.block_on(program.started())?;
    tracing::info!(pid, "the program runs; signals go to it, and its end ends lsfast after a final sync");
    let (tell, ended) = mpsc::channel();
    let (end, asked) = oneshot::channel();
    thread(move || {
        runtime.block_on(async {
            let status = until_ended(&mut program, &mut signals, limit, reload, asked).await;
            // Either it has ended, or nothing is known of it any more. A program that does not even
            // end when it is killed is not waited for.
            _ = tokio::time::timeout(limits::KILLED_PROGRAM, program.child.wait()).await;
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
    Ok(Some(Program { ended, end: Some(end) }))
}

/// The program's guardian.
struct Guarded {
    child: Child,
    socket: UnixStream,
}

impl Guarded {
    /// Process id of the program, once it runs.
    async fn started(&mut self) -> io::Result<u32> {
        match self.news().await? {
            News::Runs(pid) => Ok(pid),
            News::Failed(number) => Err(io::Error::from_raw_os_error(number)),
            News::Ended(_) => Err(io::Error::other("the program has ended before it was started")),
        }
    }

    async fn news(&mut self) -> io::Result<News> {
        let mut bytes = [0; guardian::NEWS_BYTES];
        match self.socket.read_exact(&mut bytes).await {
            Ok(_) => News::parse(bytes),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(io::Error::other("the process that guards the program was killed"))
            }
            Err(e) => Err(e),
        }
    }

    async fn hand_on(&mut self, number: i32, name: &str) {
        if self.send(number, name).await {
            tracing::info!(signal = name, "handed on to the program");
        }
    }

    async fn send(&mut self, number: i32, name: &str) -> bool {
        let sent = self.socket.write_all(&[u8::try_from(number).unwrap_or(0)]).await;
        if let Err(e) = &sent {
            tracing::warn!(signal = name, error = %e, "the program cannot be sent a signal");
        }
        sent.is_ok()
    }
}

/// How far the end of the program has come.
enum End {
    /// Nothing has asked for it.
    Unasked,
    /// The program is killed at this time.
    Asked(Instant),
    /// The program was killed. It is given up at this time.
    Killed(Instant),
}

impl End {
    /// The program has been asked to end; the first time counts.
    fn ask(&mut self, limit: Duration) {
        if matches!(self, End::Unasked) {
            *self = End::Asked(Instant::now() + limit);
        }
    }

    async fn is_due(&self) {
        match self {
            End::Unasked => std::future::pending().await,
            End::Asked(at) | End::Killed(at) => tokio::time::sleep_until(*at).await,
        }
    }
}

async fn until_ended(
    program: &mut Guarded,
    signals: &mut Signals,
    limit: Duration,
    reload: Option<Reload>,
    mut asked: oneshot::Receiver<()>,
) -> io::Result<ExitStatus> {
    let mut wants_end = 0;
    let mut may_ask = true;
    let mut end = End::Unasked;
    loop {
        tokio::select! {
            // It is the last message and short, so none of it is lost if another branch is taken.
            news = program.news() => return match news? {
                News::Ended(status) => Ok(status),
                other => Err(io::Error::other(format!("the guardian of the program sent {other:?}"))),
            },
            (number, name) = signals.next() => {
                if number == libc::SIGHUP
                    && let Some(reload) = &reload
                {
                    reload.ask();
                    continue;
                }
                let ends = END.iter().any(|(n, _)| *n == number);
                wants_end += u32::from(ends);
                if wants_end == SIGNALS_MAX {
                    super::report::print_error(&format!("ended at once by signal {SIGNALS_MAX} ({name}): its program is asked to end, too"));
                    std::process::exit(1);
                }
                // A terminal sends SIGINT to both processes.
                if number == libc::SIGINT && io::stdin().is_terminal() {
                    continue;
                }
                program.hand_on(number, name).await;
                if ends {
                    end.ask(limit);
                }
            }
            () = end.is_due() => {
                if matches!(end, End::Killed(_)) {
                    return Err(io::Error::other("it has been killed (SIGKILL), and still does not end"));
                }
                tracing::warn!(
                    after = ?limit,
                    "the program does not end in time (--shutdown-timeout): killing it and what it has started"
                );
                program.send(libc::SIGKILL, "SIGKILL").await;
                end = End::Killed(Instant::now() + limits::KILLED_PROGRAM);
            }
            result = &mut asked, if may_ask => {
                may_ask = false;
                if result.is_ok() {
                    program.hand_on(libc::SIGTERM, "SIGTERM").await;
                    end.ask(limit);
                }
            }
        }
    }
}

async fn at_once(signals: &mut Signals) {
    ended_at_once(signals.next_end().await)
}

fn ended_at_once(name: &str) -> ! {
    super::report::print_error(&format!(
        "ended at once by a second signal ({name}): the next start stores what is missing"
    ));
    std::process::exit(1);
}

/// Reaps the orphans that process 1 inherits.
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

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(String::from("lsfast-signals")).spawn(work).map(drop)
}

struct Signals(Vec<(Signal, i32, &'static str)>);

impl Signals {
    /// Catches these signals, except SIGHUP if it is ignored. As process 1, starts to reap orphans.
    fn catch(runtime: &Runtime, which: &[(i32, &'static str)]) -> io::Result<Signals> {
        let _entered = runtime.enter();
        if std::process::id() == 1 {
            runtime.spawn(reap_each(signal(SignalKind::child())?));
        }
        let which = which.iter().filter(|(n, _)| *n != libc::SIGHUP || !is_ignored(*n));
        let caught = which.map(|(n, name)| Ok((signal(SignalKind::from_raw(*n))?, *n, *name)));
        caught.collect::<io::Result<_>>().map(Signals)
    }

    /// Catches another signal.
    fn add(&mut self, runtime: &Runtime, (number, name): (i32, &'static str)) -> io::Result<()> {
        let _entered = runtime.enter();
        self.0.push((signal(SignalKind::from_raw(number))?, number, name));
        Ok(())
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

    /// The next signal that asks for an end.
    async fn next_end(&mut self) -> &'static str {
        loop {
            let (number, name) = self.next().await;
            if END.iter().any(|(n, _)| *n == number) {
                return name;
            }
        }
    }
}
