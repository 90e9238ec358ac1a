//! Each history is a process of its own, and so is each application in it: copies of one that has
//! done nothing yet. So no history depends on those before it, and an application starts at once.
//!
//! An application is a process because lsfast closes descriptors of the database, which drops the
//! POSIX locks that its process holds on it. The history asks for one by its parent, because the
//! state of SQLite in the history's own process would be copied, too.
#![allow(unsafe_code, reason = "the standard library has no fork")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use libc::{c_int, pid_t};

use super::{app, clock};

/// The parent of this history, and where its applications connect to.
static PARENT: Mutex<Option<(BufReader<UnixStream>, UnixListener)>> = Mutex::new(None);

/// What is only of use where a process runs for long costs a history much: large pages of memory,
/// which are zeroed, and a heap for each thread. Its threads and processes run one at a time, so
/// that they share one processor: a thread wakes another one there in less time.
pub fn prepare(job: u64) {
    // SAFETY: a set is made of numbers, for which zeros are valid.
    let mut all: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let size = size_of_val(&all);
    // SAFETY: the place of the set outlives the calls, which get its length.
    unsafe {
        libc::sched_getaffinity(0, size, &raw mut all);
        let has = (0..libc::CPU_SETSIZE as usize).filter(|at| libc::CPU_ISSET(*at, &all));
        let has: Vec<usize> = has.collect();
        if let Some(own) = has.get(usize::try_from(job).unwrap_or(0) % has.len().max(1)) {
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(*own, &mut one);
            libc::sched_setaffinity(0, size, &raw const one);
        }
    }
    // SAFETY: all take numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
    }
}

/// Runs `history` in a process of its own. Returns its exit code, or the signal that has ended it.
pub fn run(history: impl FnOnce() -> c_int) -> Result<(), String> {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let child = fork(|| {
        let listener = UnixListener::bind_addr(&address(std::process::id())).expect("a socket");
        let control = BufReader::new(theirs.try_clone().expect("a socket"));
        *clock::lock(&PARENT) = Some((control, listener));
        history()
    });
    drop(theirs);
    let mut apps: Vec<pid_t> = Vec::new();
    let mut answers = ours.try_clone().expect("a socket");
    for line in BufReader::new(ours).lines().map_while(Result::ok) {
        let answer = match line.split_once(' ') {
            Some(("kill", pid)) => {
                let pid = pid.parse().expect("a number");
                apps.retain(|app| *app != pid);
                end(pid);
                0
            }
            _ => {
                let app = fork(|| {
                    let stream = UnixStream::connect_addr(&address(child.unsigned_abs()));
                    app::main(stream.expect("a connection"));
                    0
                });
                apps.push(app);
                app
            }
        };
        let _ = writeln!(answers, "{answer}");
    }
    apps.into_iter().for_each(end);
    let status = wait(child);
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        return Ok(());
    }
    Err(match libc::WIFSIGNALED(status) {
        true => format!("it ended by signal {}", libc::WTERMSIG(status)),
        false => format!("it ended with {}", libc::WEXITSTATUS(status)),
    })
}

/// Ends this history at once, after what it has reported.
pub fn leave() -> ! {
    let _ = std::io::stdout().flush();
    // SAFETY: ends this process, with nothing of what it would do at its end.
    unsafe { libc::_exit(0) }
}

/// A new application: its process, and the connection to it.
pub fn start_app() -> (u32, UnixStream) {
    let mut parent = clock::lock(&PARENT);
    let (control, listener) = parent.as_mut().expect("a history");
    let pid = ask(control, "app");
    let (stream, _) = listener.accept().expect("a connection");
    (pid, stream)
}

/// Kills an application, and waits until it has ended.
pub fn kill_app(pid: u32) {
    let mut parent = clock::lock(&PARENT);
    ask(&mut parent.as_mut().expect("a history").0, &format!("kill {pid}"));
}

fn ask(control: &mut BufReader<UnixStream>, line: &str) -> u32 {
    writeln!(control.get_mut(), "{line}").expect("the parent lives");
    let mut answer = String::new();
    control.read_line(&mut answer).expect("an answer");
    answer.trim().parse().expect("a number")
}

fn address(history: u32) -> SocketAddr {
    SocketAddr::from_abstract_name(format!("lsfast-sim-{history}")).expect("a short name")
}

/// A copy of this process, which must have no other thread that holds a lock.
fn fork(work: impl FnOnce() -> c_int) -> pid_t {
    // SAFETY: the other threads of this process wait for the test, and hold no lock that the child
    // needs.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: takes no memory. It ends with its parent.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let code = catch_unwind(AssertUnwindSafe(work)).unwrap_or(101);
            let _ = std::io::stdout().flush();
            // SAFETY: ends this process, with nothing of what the parent would do at its end.
            unsafe { libc::_exit(code) }
        }
        child => {
            assert!(child > 0, "a process: {}", std::io::Error::last_os_error());
            child
        }
    }
}

fn end(pid: pid_t) {
    // SAFETY: takes no memory; the process is a child that was not waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    wait(pid);
}

fn wait(pid: pid_t) -> c_int {
    let mut status = 0;
    // SAFETY: the place of the status outlives the call.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    status
}
