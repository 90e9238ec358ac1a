//! The guardian: a small process between lsfast and the program of `--exec`.
//!
//! # Overview
//!
//! The program must not go on when lsfast is killed, because its commits would be stored nowhere.
//! A killed process can do nothing about that, so lsfast starts the program by way of another
//! process: itself, with [`FLAG`]. That one holds an end of a socket. When lsfast has ended, for
//! whatever reason, the socket is closed, and the guardian sends SIGTERM to the program and waits
//! for it. After a time it kills the program. So the program leaves no zombie, even where process 1
//! does not wait for orphans.
//!
//! The kernel could send that signal alone (`PR_SET_PDEATHSIG`), but a program that changes its
//! user would not get it. It is set all the same, for the case that the guardian itself is killed.
//!
//! # Messages
//!
//! lsfast sends one byte for each signal that is meant for the program. SIGKILL is for what the
//! program has started, too. The guardian answers with [`News`]: five bytes, a tag and a number. As
//! the parent of the program it knows until when the process id is that of the program.
//!
//! # Signals
//!
//! The guardian blocks all signals that a terminal or a service manager sends to a group: lsfast
//! gets them, too, and decides. The program starts with the signal mask of lsfast.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::{child, sys, tree};

/// First argument of lsfast when it is started as a guardian. The number of the socket's descriptor
/// follows, then the milliseconds that the program has to end in, then the program and its
/// arguments.
pub const FLAG: &str = "--guard-the-program-of-exec";

/// Bytes of a message to lsfast.
pub const NEWS_BYTES: usize = 5;

/// What the guardian tells lsfast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The program runs, with this process id.
    Runs(u32),
    /// The program could not be started; the number is that of the system's error.
    Failed(i32),
    /// The program has ended.
    Ended(ExitStatus),
}

impl News {
    fn to_bytes(self) -> [u8; NEWS_BYTES] {
        let (tag, number) = match self {
            News::Runs(pid) => (b'R', pid.cast_signed()),
            News::Failed(number) => (b'F', number),
            News::Ended(status) => (b'E', status.into_raw()),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [tag, a, b, c, d]
    }

    /// Reads a message.
    ///
    /// # Errors
    /// The tag is unknown.
    pub fn parse([tag, number @ ..]: [u8; NEWS_BYTES]) -> io::Result<News> {
        let number = i32::from_le_bytes(number);
        match tag {
            b'R' => Ok(News::Runs(number.cast_unsigned())),
            b'F' => Ok(News::Failed(number)),
            b'E' => Ok(News::Ended(ExitStatus::from_raw(number))),
            _ => Err(io::Error::other("the guardian of the program sent an unknown message")),
        }
    }
}

/// The command that starts a guardian for `program`, and lsfast's end of the socket. The program
/// gets the limits that lsfast was started with. When lsfast has ended, the program has the time
/// `grace` to end, too. Keep the third value until the guardian runs.
///
/// # Errors
/// Any error of creating the socket.
pub fn around(program: &Command, grace: Duration) -> io::Result<(Command, UnixStream, UnixStream)> {
    let (ours, its) = UnixStream::pair()?;
    // The file that this process was started from, even if an upgrade has replaced it since.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("lsfast")
        .arg(FLAG)
        .arg(its.as_raw_fd().to_string())
        .arg(grace.as_millis().to_string())
        .arg(program.get_program())
        .args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    child::give_limits(&mut command, &its);
    Ok((command, ours, its))
}

/// Runs the guardian if this process was started as one.
#[must_use]
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != FLAG {
        return None;
    }
    let socket = arguments.next()?.to_str()?.parse().ok()?;
    let grace = Duration::from_millis(arguments.next()?.to_str()?.parse().ok()?);
    Some(run(socket, grace, arguments.next()?, arguments).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
}

fn run(
    socket: i32,
    grace: Duration,
    program: OsString,
    arguments: impl Iterator<Item = OsString>,
) -> io::Result<()> {
    let mut socket = UnixStream::from(sys::inherited(socket)?);
    let mask = sys::block_signals()?;
    let mut command = Command::new(program);
    command.args(arguments);
    sys::tie_child(&mut command, mask);
    let mut program = match command.spawn() {
        Ok(program) => program,
        Err(e) => {
            let number = e.raw_os_error().unwrap_or(libc::EINVAL);
            return socket.write_all(&News::Failed(number).to_bytes());
        }
    };
    let pid = program.id();
    // Fails only if lsfast has ended. The thread below sees that, too.
    let _ = socket.write_all(&News::Runs(pid).to_bytes());
    let ended = Arc::new(Ended::default());
    let (signals, seen) = (socket.try_clone()?, Arc::clone(&ended));
    std::thread::Builder::new().spawn(move || hand_on(signals, pid, grace, &seen))?;
    let id = Pid::from_raw(pid.cast_signed()).ok_or(io::ErrorKind::InvalidData)?;
    // The program stays a zombie until no signal can be sent to its process id any more.
    while waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).is_err() {}
    ended.note();
    let status = program.wait()?;
    let _ = socket.write_all(&News::Ended(status).to_bytes());
    Ok(())
}

/// Whether the program has ended. While the lock is held, its process id stays its own.
#[derive(Debug, Default)]
struct Ended(Mutex<bool>, Condvar);

impl Ended {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self) {
        *self.lock() = true;
        self.1.notify_all();
    }

    /// Sends a signal to the program, which may refuse it, as one of another user does.
    fn send(&self, pid: u32, signal: i32) {
        let ended = self.lock();
        match signal {
            _ if *ended => {}
            libc::SIGKILL => tree::kill(pid),
            _ => drop(sys::kill(pid, signal)),
        }
    }

    /// Waits for the end, for the time `grace` at most.
    fn wait(&self, grace: Duration) {
        let wait = self.1.wait_timeout_while(self.lock(), grace, |ended| !*ended);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Hands signals on to the program, and ends it when lsfast has ended.
fn hand_on(mut signals: UnixStream, pid: u32, grace: Duration, ended: &Ended) {
    let mut signal = [0];
    while signals.read_exact(&mut signal).is_ok() {
        ended.send(pid, i32::from(signal[0]));
    }
    ended.send(pid, libc::SIGTERM);
    ended.wait(grace);
    ended.send(pid, libc::SIGKILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_arrive_as_they_were_sent() {
        for news in [News::Runs(4_000_000), News::Failed(2), News::Ended(ExitStatus::from_raw(0x700))] {
            assert_eq!(News::parse(news.to_bytes()).unwrap(), news);
        }
        assert!(News::parse([0; NEWS_BYTES]).is_err());
    }
}
