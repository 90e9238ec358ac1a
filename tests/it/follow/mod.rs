//! Following as readers see it: each state whole, whatever happens to the follower and to the
//! replica.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use world::World;

use crate::support::lsfast;
use crate::support::process::{
    Process, {self},
};

mod beside;
mod damage;
mod faults;
mod lineage;
mod proof;
mod requests;
mod states;
mod told;
mod torn;
mod world;

/// A connection as an application's.
fn reader(path: &Path) -> Connection {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).expect("the followed database");
    connection.busy_timeout(Duration::from_secs(20)).expect("a timeout");
    connection
}

/// `lsfast restore -f -o OUT URL`, ready.
fn follow(world: &World) -> Process {
    let process = start(world, &[]);
    process.wait_for_line("msg=following ");
    process
}

fn start(world: &World, more: &[&str]) -> Process {
    let mut command =
        lsfast::command(["restore", "-f", "--follow-interval", "20ms", "--log-level", "debug", "-o"]);
    command.arg(world.out()).arg(world.url()).args(more);
    Process::start("lsfast restore -f", command)
}

/// Waits until the followed database is there.
fn wait_for(world: &World, txid: u64) {
    process::until(&format!("TXID {txid}"), || (position(&world.out()) == Some(txid)).then_some(()));
}

/// By the file beside it.
fn position(out: &Path) -> Option<u64> {
    let path = format!("{}-txid", out.display());
    let text = std::fs::read_to_string(path).ok()?;
    u64::from_str_radix(text.strip_suffix('\n')?, 16).ok()
}

/// One look at a state: the invariant across rows, and SQLite's own.
fn assert_whole(connection: &Connection) -> i64 {
    let tx = connection.unchecked_transaction().expect("a transaction");
    let sum: i64 =
        tx.query_row("SELECT coalesce(sum(plus + minus), 0) FROM ledger", [], |r| r.get(0)).expect("a sum");
    assert_eq!(sum, 0, "rows of two states");
    let verdict: String = tx.query_row("PRAGMA integrity_check", [], |r| r.get(0)).expect("a check");
    assert_eq!(verdict, "ok");
    tx.query_row("SELECT n FROM pulse", [], |r| r.get(0)).expect("a pulse")
}

/// Readers in loops, one with one connection for ever, one with a new one each time.
struct Readers {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    fn start(out: &Path) -> Readers {
        let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = [true, false].map(|stays| {
            let (stop, looks, out) = (Arc::clone(&stop), Arc::clone(&looks), out.to_owned());
            std::thread::spawn(move || {
                let mut connection = reader(&out);
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    if !stays {
                        connection = reader(&out);
                    }
                    let pulse = assert_whole(&connection);
                    assert!(pulse >= last, "a reader went back from {last} to {pulse}");
                    last = pulse;
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Readers { stop, looks, threads: threads.into() }
    }

    /// How many states they saw, if all were whole.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("whole states only");
        }
        self.looks.load(Ordering::Relaxed)
    }
}
