//! Functions about processes rather than files: clocks, priorities, signals, memory.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::sys;

/// Time of the monotonic clock. It is the same in all processes, so times of different processes
/// can be compared.
#[must_use]
pub fn monotonic() -> Duration {
    sys::clock(libc::CLOCK_MONOTONIC)
}

/// The time since the machine was started, sleep included. This clock cannot be set.
#[must_use]
pub fn since_boot() -> Duration {
    sys::clock(libc::CLOCK_BOOTTIME)
}

/// Processor time that all threads of this process have used.
#[must_use]
pub fn processor_time() -> Duration {
    sys::clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

static REFUSED: AtomicBool = AtomicBool::new(false);

/// Whether the system has refused real-time priority to [`urgently`].
#[must_use]
pub fn urgency_refused() -> bool {
    REFUSED.load(Ordering::Relaxed)
}

/// Runs `work` before all ordinary threads of the machine (`SCHED_FIFO`), if this process may: with
/// `CAP_SYS_NICE`, or an `RLIMIT_RTPRIO` of 1. Otherwise runs it as usual. `work` must take only
/// microseconds of processor time.
pub fn urgently<T>(work: impl FnOnce() -> T) -> T {
    /// Ends the priority, also if `work` panics.
    struct Urgent;
    impl Drop for Urgent {
        fn drop(&mut self) {
            if let Err(e) = sys::make_ordinary() {
                // One such thread is enough.
                REFUSED.store(true, Ordering::Relaxed);
                tracing::warn!(error = %e, "a thread keeps its real-time priority; no other thread gets it");
            }
        }
    }
    if REFUSED.load(Ordering::Relaxed) {
        return work();
    }
    let urgent = match sys::make_urgent() {
        Ok(true) => Some(Urgent),
        Ok(false) => None,
        Err(e) => {
            tracing::debug!(error = %e, "no real-time priority: urgent work waits like everything else");
            REFUSED.store(true, Ordering::Relaxed);
            None
        }
    };
    let done = work();
    drop(urgent);
    done
}

/// Kills a program and everything that it has started (SIGKILL). The program must lead its own
/// process group, and must not have been waited for.
///
/// # Errors
/// Any error of `killpg(3)`.
pub fn end_group(leader: u32) -> io::Result<()> {
    sys::kill_group(leader, libc::SIGKILL)
}

/// Adds advice to an error caused by the limit on open files; returns any other error unchanged.
#[must_use]
pub fn explain_open(e: io::Error) -> io::Error {
    match e.raw_os_error() {
        Some(libc::EMFILE) => io::Error::new(e.kind(), TooManyFiles(e)),
        _ => e,
    }
}

/// The limit of open files, explained.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0}: raise the limit of open files (ulimit -n, LimitNOFILE= of a systemd unit); each database takes some five"
)]
struct TooManyFiles(io::Error);

/// Whether the limit of open files, of the process or the host, is the cause.
#[must_use]
pub fn is_file_limit(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
        || e.get_ref().is_some_and(|inner| {
            inner.is::<TooManyFiles>() || inner.downcast_ref::<io::Error>().is_some_and(is_file_limit)
        })
}

/// Whether an error at the limit of open files is to be logged: it concerns the whole process, so
/// it is logged once an hour, at whichever place it is met. Other errors are always logged.
#[must_use]
pub fn is_news(e: &io::Error) -> bool {
    !is_file_limit(e) || is_file_limit_news()
}

/// Whether the limit of open files has not been logged within the last hour; it counts as logged
/// then.
pub fn is_file_limit_news() -> bool {
    static SAID: Mutex<Option<Instant>> = Mutex::new(None);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    let news = said.is_none_or(|at| at.elapsed() >= FILE_LIMIT_AGAIN);
    if news {
        *said = Some(Instant::now());
    }
    news
}

/// Time after which the limit of open files is logged again.
const FILE_LIMIT_AGAIN: Duration = Duration::from_secs(3600);

/// What to do about an error that is caused by what has the name of a file of lsfast.
fn advice(e: &io::Error) -> Option<&'static str> {
    use io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory, PermissionDenied};
    match e.kind() {
        InvalidInput | IsADirectory | NotADirectory => Some("remove it, and lsfast makes it again"),
        PermissionDenied => Some("let the user that lsfast runs as read and write it, or remove it"),
        _ => None,
    }
}

/// Adds what to do to an error that is caused by what has the name of a file of lsfast; returns any
/// other error unchanged.
#[must_use]
pub fn with_advice(e: io::Error) -> io::Error {
    match advice(&e) {
        Some(advice) => io::Error::new(e.kind(), format!("{e}: {advice}")),
        None => e,
    }
}

/// As [`with_advice`], and names the file.
#[must_use]
pub fn explain_own(path: &Path, e: io::Error) -> io::Error {
    match advice(&e) {
        Some(advice) => io::Error::new(e.kind(), format!("{}: {e}: {advice}", path.display())),
        None => e,
    }
}

/// Returns free heap memory to the system. Takes about a millisecond, so don't call it on the event
/// loop.
pub fn trim_heap() {
    sys::trim_heap();
}

/// Makes the process keep the memory that it frees, for its next allocations. This is for a process
/// that ends when its work is done. There, returning memory and touching new memory for each buffer
/// would cost more than the work on the buffers.
pub fn keep_heap() {
    sys::keep_heap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_go_on() {
        let (time, work) = (monotonic(), processor_time());
        assert!(time > Duration::ZERO && work > Duration::ZERO);
        let mut n = 0_u64;
        while processor_time() <= work {
            n = std::hint::black_box(n + 1);
        }
        assert!(monotonic() > time);
    }

    /// Only `CAP_SYS_NICE` may clear `SCHED_RESET_ON_FORK`. A thread that is urgent only because of
    /// its limit could not leave the mode if that needed clearing the flag.
    #[test]
    fn urgency_ends_and_comes_again() {
        // These are the fields from the third on; field 41 of the whole line is the policy.
        let policy = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields = stat.rsplit_once(") ").unwrap().1;
            fields.split(' ').nth(38).unwrap().to_owned()
        };
        for _ in 0..3 {
            let (inside, of_child) = urgently(|| (policy(), std::thread::spawn(policy).join().unwrap()));
            assert_eq!(inside, if urgency_refused() { "0" } else { "1" });
            assert_eq!(of_child, "0");
            assert_eq!(policy(), "0");
        }
    }

    /// Runs with root's other rights, and with the limit that `LimitRTPRIO=1` of systemd sets.
    #[test]
    fn urgency_by_the_limit_alone_ends_and_comes_again() {
        let mut limited = std::process::Command::new("prlimit");
        limited
            .args(["--rtprio=1:1", "setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "io::process::tests::urgency_ends_and_comes_again"]);
        let works = std::process::Command::new("prlimit")
            .args(["--rtprio=1:1", "setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", "true"])
            .output()
            .is_ok_and(|o| o.status.success());
        if !works {
            eprintln!("limits cannot be set here: not tested");
            return;
        }
        let output = limited.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    fn a_child_gets_its_signal() {
        use std::os::unix::process::ExitStatusExt as _;
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        sys::kill(child.id(), libc::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
        assert!(crate::io::raise_descriptor_limit().unwrap() > 0);
    }

    #[test]
    fn the_limit_of_open_files_is_explained_and_nothing_else() {
        let said = |code| explain_open(io::Error::from_raw_os_error(code)).to_string();
        assert!(said(libc::EMFILE).contains("LimitNOFILE="), "{}", said(libc::EMFILE));
        assert_eq!(said(libc::ENOENT), io::Error::from_raw_os_error(libc::ENOENT).to_string());
    }
}
